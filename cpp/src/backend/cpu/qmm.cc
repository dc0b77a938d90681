#include "backend/cpu/qmm.h"
#include "backend/cpu/jobs.h"

#include <algorithm>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_scratch.h"
#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/qmm_problem.h"
#include "core/thread_pool.h"
#include "quant/formats.h"

namespace lamina::cpu {
namespace {

// Below this many multiply-adds a problem runs on the calling thread.
constexpr int64_t kParallelWork = int64_t{1} << 19;

const char* element(const void* p, int64_t i, Dtype t) {
  return static_cast<const char*>(p) + i * static_cast<int64_t>(itemsize(t));
}

// The stored matrix number `matrix`.
QmmWeights weights_at(const QmmArgs& q, int64_t matrix) {
  QmmWeights w{};
  w.rows = q.transpose ? q.n : q.k, w.cols = q.transpose ? q.k : q.n;
  w.format = q.format, w.group = q.group, w.bits = q.bits, w.scale_dtype = q.scale_dtype;
  if (q.format == QuantFormat::kAffine) {
    w.integers = {q.group, 0, (1 << q.bits) - 1, true};
    w.code_row_bytes = w.cols * q.bits / 8;
    w.scale_row_bytes = w.groups() * static_cast<int64_t>(itemsize(q.scale_dtype));
  } else {
    const BlockFormat& f = block_format(q.format);
    w.integers = f.integers;
    w.code_row_bytes = f.row_bytes(w.cols), w.scale_row_bytes = f.row_scale_bytes(w.cols);
  }
  const auto after = [&](const void* p, int64_t row_bytes) -> const uint8_t* {
    return p ? static_cast<const uint8_t*>(p) + matrix * w.rows * row_bytes : nullptr;
  };
  w.codes = after(q.packed, w.code_row_bytes);
  w.scales = after(q.scales, w.scale_row_bytes);
  w.biases = after(q.biases, w.scale_row_bytes);
  return w;
}

QmmProblem problem_at(const QmmArgs& q, int64_t i) {
  QmmProblem p;
  p.x = {element(q.x, q.x_offsets ? q.x_offsets[i] : 0, q.x_dtype), q.x_dtype, q.x_row_stride,
         q.x_col_stride};
  p.w = weights_at(q, q.w_matrix ? q.w_matrix[i] : 0);
  p.y = const_cast<char*>(element(q.y, q.y_offsets ? q.y_offsets[i] : 0, q.y_dtype));
  p.row_base = i * q.m;
  return p;
}

void multiply_streamed(const QmmArgs& q, const QmmProblem& p, bool parallel) {
  const QmmExact& kernels = qmm_exact(q.format);
  const int64_t elems = kernels.arranged_elems(p.w), sums_ld = p.w.groups() + kQmmPad;
  Scratch row(q.k * 4), values(q.m * elems * 4), sums(q.m * sums_ld * 4);
  for (int64_t i = 0; i < q.m; ++i) {
    qmm_load_row(q, p, i, row.as<float>());
    kernels.arrange(p.w, row.as<float>(), values.as<float>() + i * elems, sums.as<float>() + i * sums_ld);
  }
  const QmmInput x{values.as<float>(), sums.as<float>(), q.m, elems, sums_ld};
  const int64_t step = qmm_rows_per_job(q, p);
  run_jobs(ceil_div(q.n, step), parallel, [&](int64_t job) {
    const int64_t row0 = job * step, rows = std::min(step, q.n - row0);
    Scratch tile(q.m * rows * 4), work(kernels.stream_elems(p.w) * 4);
    kernels.stream(p.w, row0, rows, x, tile.as<float>(), rows, work.as<float>());
    qmm_finish_tile(q, p, tile.as<float>(), 0, q.m, row0, rows, rows);
  });
}

void multiply_packed(const QmmArgs& q, int64_t problem, const QmmProblem& p, bool parallel) {
  const auto pack = q.transpose ? qmm_pack(q.format).transposed : qmm_pack(q.format).plain;
  GemmArgs g;
  g.m = q.m, g.n = q.n, g.k = q.k, g.epilogue = q.epilogue, g.batch = q.batch;
  g.a = {q.x, q.x_dtype, q.x_row_stride, q.x_col_stride}, g.a_offsets = q.x_offsets;
  g.c = q.y, g.c_dtype = q.y_dtype, g.ldc = q.y_row_stride, g.c_offsets = q.y_offsets;
  g.epilogue_work = q.epilogue_work;
  g.batch_invariant = q.batch_invariant;
  const auto pack_b = [&](int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst) {
    pack(p.w, k0, depth, col0, cols, dst);
  };
  gemm_with_packer(g, problem, pack_b, parallel);
}

// Streams the weights once for every kQmmStreamRows rows: a row is summed as it would be alone.
void multiply_streamed_by_rows(const QmmArgs& q, const QmmProblem& p, bool parallel) {
  for (int64_t row0 = 0; row0 < q.m; row0 += kQmmStreamRows) {
    QmmArgs part = q;
    part.m = std::min(kQmmStreamRows, q.m - row0);
    QmmProblem rows = p;
    rows.x.data = element(p.x.data, row0 * q.x_row_stride, q.x_dtype);
    if (p.y) rows.y = const_cast<char*>(element(p.y, row0 * q.y_row_stride, q.y_dtype));
    rows.row_base = p.row_base + row0;
    multiply_streamed(part, rows, parallel);
  }
}

void multiply_one(const QmmArgs& q, int64_t problem, bool parallel) {
  const QmmProblem p = problem_at(q, problem);
  if (q.mode == QmmMode::kInt8 && p.w.integers.group > 0 && q.transpose && q.k > 0) {
    return qmm_multiply_int8(q, p, parallel);
  }
  if (q.transpose && q.k > 0 && (q.m <= kQmmStreamRows || q.batch_invariant)) {
    return multiply_streamed_by_rows(q, p, parallel);
  }
  multiply_packed(q, problem, p, parallel);
}

}  // namespace

void qmm_load_row(const QmmArgs& q, const QmmProblem& p, int64_t row, float* dst) {
  load_row_f32({element(p.x.data, row * q.x_row_stride, q.x_dtype), q.x_dtype, 0, q.x_col_stride}, q.k, dst);
}

void qmm_finish_tile(const QmmArgs& q, const QmmProblem& p, float* tile, int64_t row0, int64_t rows,
                     int64_t col0, int64_t cols, int64_t ld) {
  if (q.epilogue) (*q.epilogue)(tile, p.row_base + row0, rows, col0, cols, ld);
  if (!q.y) return;
  for (int64_t i = 0; i < rows; ++i) {
    void* out = p.y + ((row0 + i) * q.y_row_stride + col0) * static_cast<int64_t>(itemsize(q.y_dtype));
    gemm_kernels<float>().store(tile + i * ld, cols, out, q.y_dtype);
  }
}

void quantized_matmul(const QmmArgs& q) {
  if (q.m == 0 || q.n == 0 || q.batch == 0) return;
  const int64_t work = q.m * q.n * (std::max<int64_t>(q.k, 1) + q.epilogue_work);
  if (q.batch == 1) return multiply_one(q, 0, work >= kParallelWork);
  if (q.batch < 4 * num_threads() && work >= 4 * kParallelWork) {
    for (int64_t i = 0; i < q.batch; ++i) multiply_one(q, i, true);
    return;
  }
  parallel_ranges(q.batch, std::max<int64_t>(1, kParallelWork / work), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) multiply_one(q, i, false);
  });
}

}  // namespace lamina::cpu
