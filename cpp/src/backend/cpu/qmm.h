#pragma once

#include <cstdint>

#include "backend/cpu/gemm.h"
#include "lamina/dtype.h"
#include "lamina/quant.h"

namespace lamina::cpu {

enum class QmmMode : uint8_t {
  kExact,  // weights decoded to float32 in registers, float32 accumulation
  kInt8,   // activations rounded to int8 per group of the weights, exact integer dots, groups added in order
};

// y[m, n] = x[m, k] * W with W in the affine format of quant/affine.h or a block format of quant/formats.h.
// transpose: W is stored as [n, k], packed along k (a linear layer's weights); otherwise as [k, n], packed
// along n. x and y: float32, float16 or bfloat16, any strides for x; y is row-major with leading dimension
// y_row_stride >= n. Affine: scales and biases share one of these dtypes, affine_supported(group, bits).
// Other formats: scales are bytes or absent, group is the format's block. The packed axis is a multiple of
// the group. kInt8 is for affine weights and transpose; else, and for shapes it does not pay for, the exact
// mode runs. A row of y is the same bits whatever m is in kInt8 mode, and in both with batch_invariant set;
// results never depend on the number of threads.
struct QmmArgs {
  int64_t m = 0, n = 0, k = 0;
  bool transpose = true;
  QuantFormat format = QuantFormat::kAffine;
  int group = 64, bits = 4;
  QmmMode mode = QmmMode::kExact;

  const void* x = nullptr;
  Dtype x_dtype = Dtype::kFloat32;
  int64_t x_row_stride = 0, x_col_stride = 1;

  const void* packed = nullptr;  // row-contiguous, as are scales and biases
  const void* scales = nullptr;
  const void* biases = nullptr;
  Dtype scale_dtype = Dtype::kFloat32;

  void* y = nullptr;
  Dtype y_dtype = Dtype::kFloat32;
  int64_t y_row_stride = 0;

  // `batch` problems of one shape: element offsets into x and y, and which of the stored weight matrices each
  // uses (matrices lie one after the other). Null means 0 for all.
  int64_t batch = 1;
  const int64_t* x_offsets = nullptr;
  const int64_t* w_matrix = nullptr;
  const int64_t* y_offsets = nullptr;

  // With an epilogue y may be null: the result is not written then.
  const GemmEpilogue* epilogue = nullptr;
  int64_t epilogue_work = 0;  // for an element, in multiply-adds
  bool batch_invariant = false;
};

void quantized_matmul(const QmmArgs& args);

}  // namespace lamina::cpu
