#include "backend/cpu/qmm.h"

#include <algorithm>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_scratch.h"
#include "backend/cpu/qmm_kernel.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

// Below this many multiply-adds a problem runs on the calling thread.
constexpr int64_t kParallelWork = int64_t{1} << 19;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

const char* element(const void* p, int64_t i, Dtype t) {
  return static_cast<const char*>(p) + i * static_cast<int64_t>(itemsize(t));
}

// One problem of the batch, offsets applied.
struct Problem {
  GemmMatrix x;
  QmmWeights w;
  char* y;
  int64_t row_base;
};

Problem problem_at(const QmmArgs& q, int64_t i) {
  const int64_t rows = q.transpose ? q.n : q.k, cols = q.transpose ? q.k : q.n;
  const int64_t matrix = q.w_matrix ? q.w_matrix[i] : 0, edges = matrix * rows * (cols / q.group);
  Problem p;
  p.x = {element(q.x, q.x_offsets ? q.x_offsets[i] : 0, q.x_dtype), q.x_dtype, q.x_row_stride,
         q.x_col_stride};
  p.w = {reinterpret_cast<const uint8_t*>(q.packed) + matrix * rows * (cols * q.bits / 8),
         element(q.scales, edges, q.scale_dtype),
         element(q.biases, edges, q.scale_dtype),
         q.scale_dtype,
         rows,
         cols,
         q.group,
         q.bits};
  p.y = const_cast<char*>(element(q.y, q.y_offsets ? q.y_offsets[i] : 0, q.y_dtype));
  p.row_base = i * q.m;
  return p;
}

template <class Job>
void run_jobs(int64_t jobs, bool parallel, const Job& job) {
  if (parallel) return parallel_for(jobs, job);
  for (int64_t i = 0; i < jobs; ++i) job(i);
}

// Weight rows of a streaming job: about 64 KB of codes, less where that would leave threads without work.
int64_t rows_per_job(const QmmArgs& q, const Problem& p) {
  const int64_t even = ceil_div(ceil_div(q.n, 4 * num_threads()), 16) * 16;
  const int64_t most = std::max<int64_t>(16, (int64_t{64} << 10) / p.w.row_bytes() / 16 * 16);
  return std::clamp<int64_t>(even, 16, most);
}

// Epilogue and rounding of a finished tile.
void finish_tile(const QmmArgs& q, const Problem& p, float* tile, int64_t row0, int64_t rows, int64_t col0,
                 int64_t cols) {
  if (q.epilogue) (*q.epilogue)(tile, p.row_base + row0, rows, col0, cols, cols);
  for (int64_t i = 0; i < rows; ++i) {
    void* out = p.y + ((row0 + i) * q.y_row_stride + col0) * static_cast<int64_t>(itemsize(q.y_dtype));
    gemm_kernels<float>().store(tile + i * cols, cols, out, q.y_dtype);
  }
}

void multiply_streamed(const QmmArgs& q, const Problem& p, bool parallel) {
  const QmmExact& kernels = qmm_exact();
  const int64_t elems = kernels.arranged_elems(q.bits, q.k), sums_ld = p.w.groups() + kQmmPad;
  Scratch row(q.k * 4), values(q.m * elems * 4), sums(q.m * sums_ld * 4);
  for (int64_t i = 0; i < q.m; ++i) {
    load_row_f32({element(p.x.data, i * q.x_row_stride, q.x_dtype), q.x_dtype, 0, q.x_col_stride}, q.k,
                 row.as<float>());
    kernels.arrange(q.bits, q.group, q.k, row.as<float>(), values.as<float>() + i * elems,
                    sums.as<float>() + i * sums_ld);
  }
  const QmmInput x{values.as<float>(), sums.as<float>(), q.m, elems, sums_ld};
  const int64_t step = rows_per_job(q, p);
  run_jobs(ceil_div(q.n, step), parallel, [&](int64_t job) {
    const int64_t row0 = job * step, rows = std::min(step, q.n - row0);
    Scratch tile(q.m * rows * 4), work(kernels.stream_elems(p.w) * 4);
    kernels.stream(p.w, row0, rows, x, tile.as<float>(), rows, work.as<float>());
    finish_tile(q, p, tile.as<float>(), 0, q.m, row0, rows);
  });
}

void multiply_packed(const QmmArgs& q, int64_t problem, const Problem& p, bool parallel) {
  const auto pack = q.transpose ? qmm_pack().transposed : qmm_pack().plain;
  GemmArgs g;
  g.m = q.m, g.n = q.n, g.k = q.k, g.epilogue = q.epilogue, g.batch = q.batch;
  g.a = {q.x, q.x_dtype, q.x_row_stride, q.x_col_stride}, g.a_offsets = q.x_offsets;
  g.c = q.y, g.c_dtype = q.y_dtype, g.ldc = q.y_row_stride, g.c_offsets = q.y_offsets;
  const auto pack_b = [&](int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst) {
    pack(p.w, k0, depth, col0, cols, dst);
  };
  gemm_with_packer(g, problem, pack_b, parallel);
}

void multiply_one(const QmmArgs& q, int64_t problem, bool parallel) {
  const Problem p = problem_at(q, problem);
  if (q.transpose && q.m <= kQmmStreamRows && q.k > 0) return multiply_streamed(q, p, parallel);
  multiply_packed(q, problem, p, parallel);
}

}  // namespace

void quantized_matmul(const QmmArgs& q) {
  if (q.m == 0 || q.n == 0 || q.batch == 0) return;
  const int64_t work = q.m * q.n * std::max<int64_t>(q.k, 1);
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
