#pragma once

#include <cstdint>

#include "backend/cpu/gemm_kernel.h"

namespace lamina::cpu {

// Below this many multiply-adds a problem runs on the calling thread: waking others costs more.
inline constexpr int64_t kGemmParallelWork = int64_t{1} << 19;

inline const void* gemm_offset_by(const void* p, int64_t elems, Dtype t) {
  return p ? static_cast<const char*>(p) + elems * static_cast<int64_t>(itemsize(t)) : nullptr;
}

// One problem of the batch, offsets applied.
struct GemmProblem {
  GemmMatrix a, b, c0;
  void* c;
  int64_t row_base;  // number of its first row for the epilogue
};

inline char* gemm_output_at(const GemmArgs& g, const GemmProblem& p, int64_t row, int64_t col) {
  const int64_t first = g.c_rows ? g.c_rows[row] : row * g.ldc;
  return static_cast<char*>(p.c) + (first + col) * static_cast<int64_t>(itemsize(g.c_dtype));
}

// alpha, C0, epilogue and rounding for a finished tile of sums.
template <class T>
void gemm_finish_tile(const GemmArgs& g, const GemmProblem& p, T* tile, int64_t row0, int64_t rows,
                      int64_t col0, int64_t cols, int64_t ld) {
  const GemmKernels<T>& kernels = gemm_kernels<T>();
  if (g.alpha != 1 || p.c0.data) {
    for (int64_t i = 0; i < rows; ++i) {
      const void* c0 =
          gemm_offset_by(p.c0.data, (row0 + i) * p.c0.row_stride + col0 * p.c0.col_stride, p.c0.dtype);
      kernels.scale(tile + i * ld, cols, g.alpha, g.beta, c0, p.c0.dtype, p.c0.col_stride);
    }
  }
  if constexpr (sizeof(T) == 4) {
    if (g.epilogue) (*g.epilogue)(tile, p.row_base + row0, rows, col0, cols, ld);
    if (!g.c) return;
  }
  if (!g.c_rows) {
    return kernels.store_tile(tile, ld, rows, cols, gemm_output_at(g, p, row0, col0), g.ldc, g.c_dtype);
  }
  for (int64_t i = 0; i < rows; ++i)
    kernels.store(tile + i * ld, cols, gemm_output_at(g, p, row0 + i, col0), g.c_dtype);
}

// Products of two bfloat16 matrices in tiles (kernel_choice.h): the kernels for them, or null where numbers
// are widened to float32. That does not depend on the problem's number of rows, nor does a row's sum: steps
// are added in order, as amx_dot_bf16 or gemm_dots() does, and the sums of every 2048 steps to one another. k
// > 0.
const GemmTiles* gemm_tiles_for(const GemmArgs& g);
void gemm_multiply_tiles(const GemmTiles& kernels, const GemmArgs& g, const GemmProblem& p, bool parallel);

}  // namespace lamina::cpu
