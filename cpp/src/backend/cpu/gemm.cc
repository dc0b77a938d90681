#include "backend/cpu/gemm.h"
#include "backend/cpu/jobs.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_problem.h"
#include "backend/cpu/gemm_scratch.h"
#include "core/cpu_caches.h"

namespace lamina::cpu {
namespace {

// Packed A is kept for at most this many bytes of rows at a time.
constexpr int64_t kPackedBytes = int64_t{8} << 20;
// A job's block of packed B is made for at most this many columns.
constexpr int64_t kStripCols = 256;
// Of fewer steps than kGemmDepth more columns fit. Long rows suit what is done to finished panels.
constexpr int64_t kOnePassCols = 512;
// Sums that are finished together: enough rows that a panel of B serves several, few enough to be hot still.
constexpr int64_t kFinishedElems = 16384;

GemmProblem problem_at(const GemmArgs& g, int64_t i) {
  GemmProblem p{g.a, g.b, g.c0, g.c, i * g.m};
  if (g.a_offsets) p.a.data = gemm_offset_by(g.a.data, g.a_offsets[i], g.a.dtype);
  if (g.b_offsets) p.b.data = gemm_offset_by(g.b.data, g.b_offsets[i], g.b.dtype);
  if (g.c0_offsets) p.c0.data = gemm_offset_by(g.c0.data, g.c0_offsets[i], g.c0.dtype);
  if (g.c_offsets) p.c = static_cast<char*>(g.c) + g.c_offsets[i] * static_cast<int64_t>(itemsize(g.c_dtype));
  if (g.beta == 0) p.c0.data = nullptr;
  return p;
}

// Whether the accumulators can live in C itself.
template <class T>
bool writes_directly(const GemmArgs& g, const GemmProblem& p) {
  return itemsize(g.c_dtype) == sizeof(T) && g.alpha == 1 && !p.c0.data && !g.epilogue && !g.c_rows;
}

// k = 0, and nothing else to do than beta * C0.
template <class T>
void fill_rows(const GemmArgs& g, const GemmProblem& p) {
  Scratch row(g.n * static_cast<int64_t>(sizeof(T)));
  for (int64_t i = 0; i < g.m; ++i) {
    std::fill_n(row.as<T>(), g.n, T(0));
    gemm_finish_tile(g, p, row.as<T>(), i, 1, 0, g.n, g.n);
  }
}

// The packed algorithm: rows of A are packed once, a slab at a time, and shared; jobs are strips of columns
// times blocks of rows, and each packs its strip of B. How the work is cut changes no result.
template <class T, class PackA, class PackB>
class PackedProduct {
 public:
  PackedProduct(const GemmArgs& g, const GemmProblem& p, const PackA& pack_a, const PackB& pack_b,
                bool parallel)
      : g_(g),
        p_(p),
        pack_a_(pack_a),
        pack_b_(pack_b),
        parallel_(parallel),
        direct_(writes_directly<T>(g, p)),
        span_(span_of(g)),
        slab_(slab_of(g, kernels_.mr, span_)),
        packed_(std::min(slab_, g.m) * span_ * kItem),
        // Where steps come in several spans, sums that cannot live in C wait here.
        sums_(!direct_ && span_ < g.k ? std::min(slab_, g.m) * g.n * kItem : 0) {}

  void run() {
    for (base_ = 0; base_ < g_.m; base_ += slab_) {
      rows_ = std::min(slab_, g_.m - base_);
      for (begin_ = 0; begin_ < g_.k; begin_ += span_) {
        end_ = std::min(g_.k, begin_ + span_);
        run_span();
      }
    }
  }

 private:
  static constexpr int64_t kItem = static_cast<int64_t>(sizeof(T));
  // Rows that share a packed strip of B, before the shared axis is cut into spans.
  static constexpr int64_t kSlabRows = 448;
  // Rows packed by one job.
  static constexpr int64_t kPackRows = 112;

  static int64_t span_of(const GemmArgs& g) {
    const int64_t fit = kPackedBytes / kItem / std::min(g.m, kSlabRows) / kGemmDepth * kGemmDepth;
    return std::min(g.k, std::max(fit, kGemmDepth));
  }
  static int64_t slab_of(const GemmArgs& g, int64_t mr, int64_t span) {
    const int64_t fit = std::max(mr, kPackedBytes / kItem / span);
    return ceil_div(ceil_div(g.m, ceil_div(g.m, fit)), mr) * mr;
  }

  void choose_cut() {
    // Strips begin at multiples of 32 columns, which packers of 32-code runs rely on.
    const int64_t unit = std::max<int64_t>(kernels_.nr, 32);
    const int64_t most =
        one_pass() ? std::min(kOnePassCols, kStripCols * kGemmDepth / g_.k / unit * unit) : kStripCols;
    strip_cols_ = std::min(ceil_div(g_.n, unit) * unit, most);
    block_rows_ = rows_;
    if (!parallel_) return;
    const int64_t wanted = 4 * num_threads();
    while (strip_cols_ > 2 * unit && ceil_div(g_.n, strip_cols_) < wanted) {
      strip_cols_ = ceil_div(strip_cols_ / 2, unit) * unit;
    }
    // Every block packs its strip of B again, so blocks stay tall.
    const int64_t blocks =
        std::min(ceil_div(wanted, ceil_div(g_.n, strip_cols_)), ceil_div(rows_, 4 * kernels_.mr));
    block_rows_ = ceil_div(ceil_div(rows_, blocks), kernels_.mr) * kernels_.mr;
  }
  // All steps at once: each panel's sums are finished as soon as they are there, in one place for all panels.
  bool one_pass() const { return !direct_ && g_.k <= kGemmDepth; }

  void run_span() {
    T* packed_a = packed_.template as<T>();
    const int64_t cuts = ceil_div(rows_, pack_rows_);
    run_jobs(cuts * ceil_div(end_ - begin_, kGemmDepth), parallel_, [&](int64_t i) {
      const int64_t row0 = i % cuts * pack_rows_, k0 = begin_ + i / cuts * kGemmDepth;
      const int64_t depth = std::min(kGemmDepth, end_ - k0);
      pack_a_(base_ + row0, std::min(pack_rows_, rows_ - row0), k0, depth,
              packed_a + (k0 - begin_) * rows_ + row0 * depth);
    });
    choose_cut();
    const int64_t strips = ceil_div(g_.n, strip_cols_), blocks = ceil_div(rows_, block_rows_);
    run_jobs(strips * blocks, parallel_,
             [&](int64_t i) { multiply(i % blocks * block_rows_, i / blocks * strip_cols_); });
  }

  // One job: a block of rows, counted from the slab's first, times a strip of columns.
  void multiply(int64_t row0, int64_t col0) {
    const int64_t rows = std::min(block_rows_, rows_ - row0), cols = std::min(strip_cols_, g_.n - col0);
    const bool kept = !direct_ && span_ < g_.k;
    Scratch packed_b(kernels_.packed_b_elems(cols, std::min(g_.k, kGemmDepth)) * kItem);
    const int64_t step = std::max<int64_t>(1, kFinishedElems / cols / kernels_.mr) * kernels_.mr;
    Scratch own(direct_ || kept ? 0 : (one_pass() ? std::min(step, rows) : rows) * cols * kItem);
    T* tile = direct_ ? reinterpret_cast<T*>(gemm_output_at(g_, p_, base_ + row0, col0))
              : kept  ? sums_.template as<T>() + row0 * g_.n + col0
                      : own.template as<T>();
    const int64_t ld = direct_ ? g_.ldc : kept ? g_.n : cols;
    for (int64_t k0 = begin_; k0 < end_; k0 += kGemmDepth) {
      const int64_t depth = std::min(kGemmDepth, end_ - k0);
      T* b = packed_b.template as<T>();
      pack_b_(k0, depth, col0, cols, b);
      const T* a = packed_.template as<T>() + (k0 - begin_) * rows_ + row0 * depth;
      if (direct_ || k0 + depth < g_.k) {
        kernels_.multiply(rows, cols, depth, a, b, tile, ld, k0 > 0);
        continue;
      }
      for (int64_t i = 0; i < rows; i += step) {
        const int64_t height = std::min(step, rows - i);
        T* panel = tile + (one_pass() ? 0 : i * ld);
        kernels_.multiply(height, cols, depth, a + i * depth, b, panel, ld, k0 > 0);
        gemm_finish_tile(g_, p_, panel, base_ + row0 + i, height, col0, cols, ld);
      }
    }
  }

  const GemmArgs& g_;
  const GemmProblem& p_;
  const GemmKernels<T>& kernels_ = gemm_kernels<T>();
  const PackA& pack_a_;
  const PackB& pack_b_;
  const bool parallel_, direct_;
  const int64_t span_, slab_;
  // A whole number of panels.
  const int64_t pack_rows_ = kPackRows / kernels_.mr * kernels_.mr;
  Scratch packed_, sums_;
  // The slab, the span of steps and the cut in work.
  int64_t base_ = 0, rows_ = 0, begin_ = 0, end_ = 0, strip_cols_ = 0, block_rows_ = 0;
};

// Packers of operands that lie in memory.
template <class T>
auto packer_of_a(const GemmProblem& p) {
  return [&p](int64_t row0, int64_t rows, int64_t k0, int64_t depth, T* dst) {
    gemm_kernels<T>().pack_a(p.a, row0, rows, k0, depth, dst);
  };
}
template <class T>
auto packer_of_b(const GemmProblem& p) {
  return [&p](int64_t k0, int64_t depth, int64_t col0, int64_t cols, T* dst) {
    gemm_kernels<T>().pack_b(p.b, k0, depth, col0, cols, dst);
  };
}

template <class T, class PackA, class PackB>
void multiply_packed(const GemmArgs& g, const GemmProblem& p, const PackA& pack_a, const PackB& pack_b,
                     bool parallel) {
  if (g.k == 0) return fill_rows<T>(g, p);
  PackedProduct<T, PackA, PackB>(g, p, pack_a, pack_b, parallel).run();
}

// The few rows of the left operand as float32, row-major.
const float* dense_rows(const GemmMatrix& x, int64_t m, int64_t k, float* copy) {
  if (x.dtype == Dtype::kFloat32 && x.col_stride == 1 && (m == 1 || x.row_stride == k)) {
    return static_cast<const float*>(x.data);
  }
  for (int64_t i = 0; i < m; ++i) {
    const GemmMatrix row{gemm_offset_by(x.data, i * x.row_stride, x.dtype), x.dtype, 0, x.col_stride};
    load_row_f32(row, k, copy + i * k);
  }
  return copy;
}

GemmMatrix transposed(const GemmMatrix& a) { return {a.data, a.dtype, a.col_stride, a.row_stride}; }

// Whether a skinny product reads whole rows of b rather than its columns. Only that kernel sums in the packed
// order.
bool reads_rows(const GemmMatrix& b, bool packed_order) {
  return b.col_stride == 1 && (packed_order || b.row_stride != 1);
}

// Columns of a skinny job: 64 KB of B or more, in whole cache lines. Rows of B are read in long runs, as far
// as the sums of the job's columns stay in the first-level cache; on AMD in twice as long ones (4096 x
// 4096: 2.5 to 2.2 ms on a Zen 3).
int64_t skinny_width(bool row_major, int64_t m, int64_t n, int64_t k) {
  const int64_t jobs_each = row_major ? (follows_many_streams() ? 1 : 2) : 4;
  const int64_t least = std::max<int64_t>(64, ceil_div(16384 / k, 64) * 64);
  const int64_t even = ceil_div(ceil_div(n, jobs_each * num_threads()), 64) * 64;
  return std::clamp(even, least, std::max<int64_t>(least, (row_major ? 4096 / m : 1024) / 64 * 64));
}

// x is m x k with m <= kSkinnyRows, b is k x n with one unit stride. With `swapped`, the result is the
// transpose of the problem's output: its rows are C's columns.
void multiply_skinny(const GemmArgs& g, const GemmProblem& p, const GemmMatrix& x, const GemmMatrix& b,
                     int64_t m, int64_t n, bool swapped, bool parallel) {
  const GemmSkinny& skinny = gemm_skinny();
  Scratch copy(m * g.k * static_cast<int64_t>(sizeof(float)));
  const float* rows = dense_rows(x, m, g.k, copy.as<float>());
  const bool row_major = reads_rows(b, g.batch_invariant);
  const int64_t width = skinny_width(row_major, m, n, g.k);
  const bool direct = !swapped && writes_directly<float>(g, p);
  const auto job = [&](int64_t i) {
    const int64_t col0 = i * width, cols = std::min(width, n - col0);
    const auto bytes = m * cols * static_cast<int64_t>(sizeof(float));
    Scratch tile(direct ? 0 : bytes), sums(row_major ? bytes : 0), turned(swapped ? bytes : 0);
    float* out = direct ? reinterpret_cast<float*>(gemm_output_at(g, p, 0, col0)) : tile.as<float>();
    const int64_t ld = direct ? g.ldc : cols;
    if (row_major) {
      skinny.row_major(m, g.k, rows, b, col0, cols, out, ld, sums.as<float>());
    } else {
      skinny.col_major(m, g.k, rows, b, col0, cols, out, ld);
    }
    if (direct) return;
    if (!swapped) return gemm_finish_tile(g, p, out, 0, m, col0, cols, ld);
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t c = 0; c < cols; ++c) turned.as<float>()[c * m + r] = out[r * cols + c];
    }
    gemm_finish_tile(g, p, turned.as<float>(), col0, cols, 0, m, m);
  };
  const int64_t jobs = ceil_div(n, width);
  if (parallel) {
    parallel_for(jobs, job);
  } else {
    for (int64_t i = 0; i < jobs; ++i) job(i);
  }
}

// Whether m rows times b should stream b unpacked.
bool is_skinny(int64_t m, const GemmMatrix& b, bool packed_order) {
  if (reads_rows(b, packed_order)) return m <= kSkinnyRowsRowMajor;
  return b.row_stride == 1 && m <= kSkinnyRows && !packed_order;
}

// `tiles` is gemm_tiles_for(g).
template <class T>
void multiply_one(const GemmArgs& g, const GemmProblem& p, const GemmTiles* tiles, bool parallel) {
  if (g.k == 0) return fill_rows<T>(g, p);
  if constexpr (sizeof(T) == 4) {
    if (tiles) return gemm_multiply_tiles(*tiles, g, p, parallel);
    if (is_skinny(g.m, p.b, g.batch_invariant))
      return multiply_skinny(g, p, p.a, p.b, g.m, g.n, false, parallel);
    const GemmMatrix turned = transposed(p.a);
    if (!g.batch_invariant && is_skinny(g.n, turned, false)) {
      return multiply_skinny(g, p, transposed(p.b), turned, g.n, g.m, true, parallel);
    }
  }
  multiply_packed<T>(g, p, packer_of_a<T>(p), packer_of_b<T>(p), parallel);
}

template <class T>
void multiply_batch(const GemmArgs& g) {
  const int64_t work = g.m * g.n * (std::max<int64_t>(g.k, 1) + g.epilogue_work);
  // Before threads share the work: the first time something may be measured.
  const GemmTiles* tiles = sizeof(T) == 4 ? gemm_tiles_for(g) : nullptr;
  if (g.batch == 1) return multiply_one<T>(g, problem_at(g, 0), tiles, work >= kGemmParallelWork);
  if (g.batch < 4 * num_threads() && work >= 4 * kGemmParallelWork) {
    for (int64_t i = 0; i < g.batch; ++i) multiply_one<T>(g, problem_at(g, i), tiles, true);
    return;
  }
  parallel_ranges(g.batch, std::max<int64_t>(1, kGemmParallelWork / work), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) multiply_one<T>(g, problem_at(g, i), tiles, false);
  });
}

// Real or imaginary plane of a complex64 matrix.
GemmMatrix plane(const GemmMatrix& m, int which) {
  return {m.data ? static_cast<const float*>(m.data) + which : nullptr, Dtype::kFloat32, 2 * m.row_stride,
          2 * m.col_stride};
}

// Four float32 products over the planes of the operands.
void multiply_complex(const GemmArgs& g, const GemmProblem& p) {
  const int64_t plane_elems = g.m * g.n;
  Scratch planes(2 * plane_elems * static_cast<int64_t>(sizeof(float)));
  GemmArgs part;
  part.m = g.m, part.n = g.n, part.k = g.k, part.ldc = g.n, part.batch_invariant = g.batch_invariant;
  const auto add = [&](int a_plane, int b_plane, double sign, bool first, float* out) {
    part.a = plane(p.a, a_plane), part.b = plane(p.b, b_plane), part.c = out;
    part.alpha = sign, part.beta = first ? 0 : 1;
    part.c0 = {out, Dtype::kFloat32, g.n, 1};
    gemm(part);
  };
  float* real = planes.as<float>();
  float* imag = real + plane_elems;
  add(0, 0, 1, true, real), add(1, 1, -1, false, real);
  add(0, 1, 1, true, imag), add(1, 0, 1, false, imag);
  const auto alpha = static_cast<float>(g.alpha), beta = static_cast<float>(g.beta);
  for (int64_t i = 0; i < g.m; ++i) {
    auto* out = reinterpret_cast<float*>(gemm_output_at(g, p, i, 0));
    const auto* c0 = static_cast<const float*>(p.c0.data);
    for (int64_t j = 0; j < g.n; ++j) {
      float re = alpha * real[i * g.n + j], im = alpha * imag[i * g.n + j];
      if (c0) {
        const float* z = c0 + 2 * (i * p.c0.row_stride + j * p.c0.col_stride);
        re += beta * z[0], im += beta * z[1];
      }
      out[2 * j] = re, out[2 * j + 1] = im;
    }
  }
}

}  // namespace

void load_row_f32(const GemmMatrix& row, int64_t n, float* dst) {
  const GemmKernels<float>& kernels = gemm_kernels<float>();
  if (row.col_stride == 1) return kernels.load(row.data, row.dtype, n, dst);
  kernels.pack_a(row, 0, 1, 0, n, dst);  // a panel of one row is that row
}

void store_row_f32(const float* src, int64_t n, const GemmMatrix& row) {
  auto* dst = static_cast<char*>(const_cast<void*>(row.data));
  const GemmKernels<float>& kernels = gemm_kernels<float>();
  if (row.col_stride == 1) return kernels.store(src, n, dst, row.dtype);
  const int64_t step = row.col_stride * static_cast<int64_t>(itemsize(row.dtype));
  for (int64_t i = 0; i < n; ++i) kernels.store(src + i, 1, dst + i * step, row.dtype);
}

void gemm_with_packer(const GemmArgs& g, int64_t problem, const GemmPacker& pack_b, bool parallel) {
  const GemmProblem p = problem_at(g, problem);
  multiply_packed<float>(g, p, packer_of_a<float>(p), pack_b, parallel);
}

template <class T>
void gemm_with_packed_rows(const GemmArgs& g, const GemmRowPacker<T>& pack_a, bool parallel) {
  const GemmProblem p = problem_at(g, 0);
  multiply_packed<T>(g, p, pack_a, packer_of_b<T>(p), parallel);
}
template void gemm_with_packed_rows(const GemmArgs&, const GemmRowPacker<float>&, bool);
template void gemm_with_packed_rows(const GemmArgs&, const GemmRowPacker<double>&, bool);

template <class T>
void gemm_with_packed_columns(const GemmArgs& g, const GemmColumnPacker<T>& pack_b, bool parallel) {
  const GemmProblem p = problem_at(g, 0);
  multiply_packed<T>(g, p, packer_of_a<T>(p), pack_b, parallel);
}
template void gemm_with_packed_columns(const GemmArgs&, const GemmColumnPacker<float>&, bool);
template void gemm_with_packed_columns(const GemmArgs&, const GemmColumnPacker<double>&, bool);

void gemm(const GemmArgs& g) {
  if (g.m == 0 || g.n == 0 || g.batch == 0) return;
  switch (g.c_dtype) {
    case Dtype::kFloat64: return multiply_batch<double>(g);
    case Dtype::kComplex64:
      for (int64_t i = 0; i < g.batch; ++i) multiply_complex(g, problem_at(g, i));
      return;
    default: return multiply_batch<float>(g);
  }
}

}  // namespace lamina::cpu
