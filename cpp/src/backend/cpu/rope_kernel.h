#pragma once

#include <cstdint>

#include "lamina/dtype.h"

namespace lamina::cpu {

// Rows of contiguous features, at equal distances in bytes, that turn by the same angles.
struct RopeRows {
  const void* src;
  void* dst;  // may be src
  int64_t src_step, dst_step, count;
  Dtype dtype;  // float32, float16 or bfloat16
};

// Rotation for one instruction set; float32 inside.
struct RopeKernels {
  // cosine[i] and sine[i] of position * frequency[i], i < n; absolute error below 2e-7 for any angle under
  // 1e9.
  void (*angles)(double position, const double* frequency, int64_t n, float* cosine, float* sine);
  // Turns pairs (x[i], x[i + half]), or (x[2 i], x[2 i + 1]) where traditional, of each row by the angles
  // times `direction` (+-1), and copies features from 2 half on. `work` is room for a row of `depth` float32.
  void (*rotate)(const RopeRows& rows, int64_t depth, int64_t half, bool traditional, float direction,
                 const float* cosine, const float* sine, float* work);
};

const RopeKernels& rope_kernels();

}  // namespace lamina::cpu
