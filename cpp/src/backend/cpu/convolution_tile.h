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

// Taps [begin, end) of one line for each of some neighbouring outputs, each channel on its own: output j and
// tap t read x[j * output_step + t * tap_step] and weights[t * weight_step], in elements.
template <class T>
struct ConvTaps {
  const void* x;
  const void* weights;
  Dtype dtype;  // of both
  int64_t output_step, tap_step, weight_step;
  int64_t begin, end, outputs, channels;
  T* sums;  // [outputs, channels]
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
  // sums[j, c] += the sum over the taps, in order, of x times weight.
  void (*add_taps)(const ConvTaps<T>& taps);
};

template <class T>
const ConvKernels<T>& conv_kernels();
template <>
const ConvKernels<float>& conv_kernels<float>();
template <>
const ConvKernels<double>& conv_kernels<double>();

}  // namespace lamina::cpu
