#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cpu/gemm.h"
#include "backend/cpu/qmm.h"
#include "backend/cpu/qmm_kernel.h"
#include "core/cpu_caches.h"
#include "core/thread_pool.h"

namespace lamina::cpu {

// One problem of a batch of quantized products, offsets applied.
struct QmmProblem {
  GemmMatrix x;
  QmmWeights w;
  char* y;
  int64_t row_base;  // number of its first row for the epilogue
};

// Weight rows of a streaming job: about 64 KB of codes, or 512 KB where its streams are found anew in each (4
// bits on a Zen 3: 64 to 58 us for 1024 x 3072), less where that would leave threads without work.
inline int64_t qmm_rows_per_job(const QmmArgs& q, const QmmProblem& p) {
  const int64_t even = ceil_div(ceil_div(q.n, 4 * num_threads()), 16) * 16;
  const int64_t bytes = int64_t{follows_many_streams() ? 512 : 64} << 10;
  const int64_t most = std::max<int64_t>(16, bytes / p.w.row_bytes() / 16 * 16);
  return std::clamp<int64_t>(even, 16, most);
}

// dst[0, k) = row `row` of the activations as float32.
void qmm_load_row(const QmmArgs& q, const QmmProblem& p, int64_t row, float* dst);
// Epilogue and rounding of a finished tile.
void qmm_finish_tile(const QmmArgs& q, const QmmProblem& p, float* tile, int64_t row0, int64_t rows,
                     int64_t col0, int64_t cols, int64_t ld);

// The int8 mode (qmm_kernel.h) of one problem whose weights have an integer form.
void qmm_multiply_int8(const QmmArgs& q, const QmmProblem& p, bool parallel);

}  // namespace lamina::cpu
