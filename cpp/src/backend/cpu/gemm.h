#pragma once

#include <cstdint>

#include "backend/tile_types.h"
#include "core/thread_pool.h"
#include "lamina/dtype.h"

namespace lamina::cpu {

// Rows of a batch are numbered through: batch * m + row.
using GemmEpilogue = TileEpilogue;

// A matrix in memory: element (i, j) at data + i * row_stride + j * col_stride, in elements; any stride, zero
// and negative included.
struct GemmMatrix {
  const void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  int64_t row_stride = 0;
  int64_t col_stride = 0;
};

// C = alpha * A * B + beta * C0, once for each of `batch` independent problems of one shape.
// A is m x k, B is k x n; C is row-major with leading dimension ldc >= n. C may be C0 (same pointer and
// strides), and may alias nothing else. C0 may broadcast through zero strides; it is not read where c0.data
// is null or beta is 0. dtypes: A, B, C0, C each float32, float16 or bfloat16 in any mixture (float32
// accumulation, rounded once); or all four float64; or all four complex64. k = 0 gives beta * C0. The
// epilogue needs float32 accumulation (not float64, complex64).
//
// Error bound for float32: |C - exact| <= (k / 256 + 256) * eps * |alpha| * |A| |B|, componentwise, at worst.
// Results do not depend on the number of threads. With batch_invariant set, a row of C is the same bits
// whatever m is.
struct GemmArgs {
  int64_t m = 0, n = 0, k = 0;
  GemmMatrix a, b, c0;
  void* c = nullptr;
  Dtype c_dtype = Dtype::kFloat32;
  int64_t ldc = 0;
  double alpha = 1, beta = 0;
  int64_t batch = 1;
  // Element offsets of each problem's operands, `batch` entries each; null means 0 for all.
  const int64_t* a_offsets = nullptr;
  const int64_t* b_offsets = nullptr;
  const int64_t* c0_offsets = nullptr;
  const int64_t* c_offsets = nullptr;
  // Where each of the m rows of C begins, in elements, in place of row * ldc; null: there.
  const int64_t* c_rows = nullptr;
  // With an epilogue c may be null: the result is not written then.
  const GemmEpilogue* epilogue = nullptr;
  int64_t epilogue_work = 0;  // for an element, in multiply-adds
  bool batch_invariant = false;
};

void gemm(const GemmArgs& args);

}  // namespace lamina::cpu
