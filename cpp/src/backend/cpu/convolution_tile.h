#pragma once

#include <cstdint>

#include "lamina/dtype.h"

namespace lamina::cpu {

// Steps of a product's shared axis whose elements of A lie one behind the other in every row.
template <class T>
struct ConvRun {
  static constexpr int64_t kMostRows = 16;
  const T* rows[kMostRows];
  int64_t depth;
};

// Kernels of products whose operands are read where they lie; T is float or double. Packed operands and
// panels are those of GemmKernels.
template <class T>
struct ConvKernels {
  // c[rows x cols] = A b, or += with accumulate: one register tile, rows <= GemmKernels::mr, cols <= nr. The
  // runs' depths add up to b's. Same order of summation as GemmKernels::multiply.
  void (*multiply_runs)(int64_t rows, int64_t cols, const ConvRun<T>* runs, int64_t num_runs, const T* b,
                        T* c, int64_t ldc, bool accumulate);
  // dst[k * step + i] = element first + i of dtype at at[k], for i < width and k < depth.
  void (*pack_steps)(const void* const* at, Dtype dtype, int64_t depth, int64_t first, int64_t width, T* dst,
                     int64_t step);
};

template <class T>
const ConvKernels<T>& conv_kernels();
template <>
const ConvKernels<float>& conv_kernels<float>();
template <>
const ConvKernels<double>& conv_kernels<double>();

}  // namespace lamina::cpu
