#include "backend/cpu/qmm.h"

#include <algorithm>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_scratch.h"
#include "backend/cpu/qmm_kernel.h"
#include "core/thread_pool.h"
#include "quant/formats.h"

namespace lamina::cpu {
namespace {

// Below this many multiply-adds a problem runs on the calling thread.
constexpr int64_t kParallelWork = int64_t{1} << 19;
// Rows of activations up to which the int8 mode streams the weights instead of packing them.
constexpr int64_t kInt8StreamRows = 1;

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

// The stored matrix number `matrix`.
QmmWeights weights_at(const QmmArgs& q, int64_t matrix) {
  QmmWeights w{};
  w.rows = q.transpose ? q.n : q.k, w.cols = q.transpose ? q.k : q.n;
  w.format = q.format, w.group = q.group, w.bits = q.bits, w.scale_dtype = q.scale_dtype;
  if (q.format == QuantFormat::kAffine) {
    w.code_row_bytes = w.cols * q.bits / 8;
    w.scale_row_bytes = w.groups() * static_cast<int64_t>(itemsize(q.scale_dtype));
  } else {
    const BlockFormat& f = block_format(q.format);
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

Problem problem_at(const QmmArgs& q, int64_t i) {
  Problem p;
  p.x = {element(q.x, q.x_offsets ? q.x_offsets[i] : 0, q.x_dtype), q.x_dtype, q.x_row_stride,
         q.x_col_stride};
  p.w = weights_at(q, q.w_matrix ? q.w_matrix[i] : 0);
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
                 int64_t cols, int64_t ld) {
  if (q.epilogue) (*q.epilogue)(tile, p.row_base + row0, rows, col0, cols, ld);
  if (!q.y) return;
  for (int64_t i = 0; i < rows; ++i) {
    void* out = p.y + ((row0 + i) * q.y_row_stride + col0) * static_cast<int64_t>(itemsize(q.y_dtype));
    gemm_kernels<float>().store(tile + i * ld, cols, out, q.y_dtype);
  }
}

void multiply_streamed(const QmmArgs& q, const Problem& p, bool parallel) {
  const QmmExact& kernels = qmm_exact(q.format);
  const int64_t elems = kernels.arranged_elems(p.w), sums_ld = p.w.groups() + kQmmPad;
  Scratch row(q.k * 4), values(q.m * elems * 4), sums(q.m * sums_ld * 4);
  for (int64_t i = 0; i < q.m; ++i) {
    load_row_f32({element(p.x.data, i * q.x_row_stride, q.x_dtype), q.x_dtype, 0, q.x_col_stride}, q.k,
                 row.as<float>());
    kernels.arrange(p.w, row.as<float>(), values.as<float>() + i * elems, sums.as<float>() + i * sums_ld);
  }
  const QmmInput x{values.as<float>(), sums.as<float>(), q.m, elems, sums_ld};
  const int64_t step = rows_per_job(q, p);
  run_jobs(ceil_div(q.n, step), parallel, [&](int64_t job) {
    const int64_t row0 = job * step, rows = std::min(step, q.n - row0);
    Scratch tile(q.m * rows * 4), work(kernels.stream_elems(p.w) * 4);
    kernels.stream(p.w, row0, rows, x, tile.as<float>(), rows, work.as<float>());
    finish_tile(q, p, tile.as<float>(), 0, q.m, row0, rows, rows);
  });
}

void multiply_packed(const QmmArgs& q, int64_t problem, const Problem& p, bool parallel) {
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

// Activations of all rows in 8 bits: units and edges of row i at i * (k / 4) and i * edges_ld.
struct Int8Rows {
  int64_t edges_ld;
  Scratch units, scales, sums;

  Int8Rows(const QmmArgs& q, const Problem& p, bool parallel)
      : edges_ld(p.w.groups() + kQmmPad),
        units(q.m * q.k),
        scales(q.m * edges_ld * 4),
        sums(q.m * edges_ld * 4) {
    run_jobs(q.m, parallel && q.m > 1, [&](int64_t i) {
      Scratch row(q.k * 4);
      load_row_f32({element(p.x.data, i * q.x_row_stride, q.x_dtype), q.x_dtype, 0, q.x_col_stride}, q.k,
                   row.as<float>());
      qmm_int8().quantize_row(q.bits, q.group, q.k, row.as<float>(),
                              {units.as<int32_t>() + i * (q.k / 4), scales.as<float>() + i * edges_ld,
                               sums.as<float>() + i * edges_ld});
    });
  }
};

void multiply_int8_streamed(const QmmArgs& q, const Problem& p, bool parallel) {
  const QmmInt8& kernels = qmm_int8();
  const Int8Rows x(q, p, parallel);
  const int64_t units_ld = kernels.stream_units(q.bits, q.k), step = rows_per_job(q, p);
  Scratch arranged(q.m * units_ld * 4);
  for (int64_t i = 0; i < q.m; ++i) {
    kernels.arrange(q.bits, q.k, x.units.as<int32_t>() + i * (q.k / 4),
                    arranged.as<int32_t>() + i * units_ld);
  }
  run_jobs(ceil_div(q.n, step), parallel, [&](int64_t job) {
    const int64_t row0 = job * step, rows = std::min(step, q.n - row0);
    Scratch tile(q.m * rows * 4), work(kernels.stream_bytes(p.w));
    kernels.stream(p.w, row0, rows, q.m, arranged.as<int32_t>(), x.scales.as<float>(), x.sums.as<float>(),
                   x.edges_ld, tile.as<float>(), rows, work.as<void>());
    finish_tile(q, p, tile.as<float>(), 0, q.m, row0, rows, rows);
  });
}

// Rows [row0, row0 + rows) of the activations, interleaved as a register tile reads them.
void interleave_rows(const QmmArgs& q, const Int8Rows& x, int64_t groups, int64_t row0, int64_t rows,
                     int32_t* units, float* edges) {
  for (int64_t i = 0; i < rows; ++i) {
    const int32_t* from = x.units.as<int32_t>() + (row0 + i) * (q.k / 4);
    for (int64_t u = 0; u < q.k / 4; ++u) units[u * rows + i] = from[u];
    for (int64_t g = 0; g < groups; ++g) {
      edges[2 * g * rows + i] = x.scales.as<float>()[(row0 + i) * x.edges_ld + g];
      edges[(2 * g + 1) * rows + i] = x.sums.as<float>()[(row0 + i) * x.edges_ld + g];
    }
  }
}

void multiply_int8_packed(const QmmArgs& q, const Problem& p, bool parallel) {
  const QmmInt8& kernels = qmm_int8();
  const int64_t groups = p.w.groups(), nr = kernels.nr, mr = kernels.mr;
  Scratch units(q.m * q.k), edges(q.m * groups * 2 * 4);
  {
    const Int8Rows x(q, p, parallel);
    run_jobs(ceil_div(q.m, mr), parallel, [&](int64_t i) {
      interleave_rows(q, x, groups, i * mr, std::min(mr, q.m - i * mr),
                      units.as<int32_t>() + i * mr * (q.k / 4), edges.as<float>() + i * mr * groups * 2);
    });
  }
  const int64_t panels = ceil_div(q.n, nr), each = std::clamp<int64_t>(panels / (4 * num_threads()), 1, 8);
  run_jobs(ceil_div(panels, each), parallel, [&](int64_t job) {
    Scratch words(kernels.panel_words(p.w) * nr * 4), w_edges(groups * nr * 2 * 4), tile(mr * nr * 4);
    const int64_t end = std::min(q.n, (job + 1) * each * nr);
    for (int64_t col0 = job * each * nr; col0 < end; col0 += nr) {
      kernels.pack(p.w, col0, words.as<int32_t>(), w_edges.as<float>());
      const int64_t next = std::min(nr, end - col0 - nr);
      for (int64_t row0 = 0; row0 < q.m; row0 += mr) {
        const int64_t rows = std::min(mr, q.m - row0);
        // The next panel's codes come in behind the arithmetic of this one.
        const int64_t next_bytes = row0 == 0 && next > 0 ? next * p.w.row_bytes() : 0;
        kernels.multiply(p.w, rows, units.as<int32_t>() + row0 * (q.k / 4),
                         edges.as<float>() + row0 * groups * 2, words.as<int32_t>(), w_edges.as<float>(),
                         tile.as<float>(), nr, p.w.codes + (col0 + nr) * p.w.row_bytes(), next_bytes);
        finish_tile(q, p, tile.as<float>(), row0, rows, col0, std::min(nr, q.n - col0), nr);
      }
    }
  });
}

// Streams the weights once for every kQmmStreamRows rows: a row is summed as it would be alone.
void multiply_streamed_by_rows(const QmmArgs& q, const Problem& p, bool parallel) {
  for (int64_t row0 = 0; row0 < q.m; row0 += kQmmStreamRows) {
    QmmArgs part = q;
    part.m = std::min(kQmmStreamRows, q.m - row0);
    Problem rows = p;
    rows.x.data = element(p.x.data, row0 * q.x_row_stride, q.x_dtype);
    if (p.y) rows.y = const_cast<char*>(element(p.y, row0 * q.y_row_stride, q.y_dtype));
    rows.row_base = p.row_base + row0;
    multiply_streamed(part, rows, parallel);
  }
}

void multiply_one(const QmmArgs& q, int64_t problem, bool parallel) {
  const Problem p = problem_at(q, problem);
  if (q.mode == QmmMode::kInt8 && q.format == QuantFormat::kAffine && q.transpose && q.k > 0) {
    // Both give the same bits. Widths that do not divide a byte are widened into panels whatever m is.
    const bool streams = q.m <= kInt8StreamRows && 8 % q.bits == 0;
    return streams ? multiply_int8_streamed(q, p, parallel) : multiply_int8_packed(q, p, parallel);
  }
  if (q.transpose && q.k > 0 && (q.m <= kQmmStreamRows || q.batch_invariant)) {
    return multiply_streamed_by_rows(q, p, parallel);
  }
  multiply_packed(q, problem, p, parallel);
}

}  // namespace

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
