#pragma once

#include <cstdint>

#include "lamina/dtype.h"

namespace lamina::cpu {

// Writing rows of a cache, for one instruction set.
struct CacheKernels {
  // encode_kv_row() of quant/kv_rows.h, to the bit.
  void (*encode)(const float* row, int64_t elems, int bits, void* codes, float16_t* scales);
};

const CacheKernels& cache_kernels();

}  // namespace lamina::cpu
