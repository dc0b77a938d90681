#include <algorithm>
#include <optional>

#include "backend/cpu/amx.h"
#include "backend/cpu/gemm_problem.h"
#include "backend/cpu/gemm_scratch.h"
#include "backend/cpu/jobs.h"
#include "backend/cpu/kernel_choice.h"
#include "core/cpu_caches.h"

namespace lamina::cpu {
namespace {

// Steps whose sums are added up in tiles before they meet those of others.
constexpr int64_t kSpan = 2048;
// Rows or columns of two tiles, which are packed side by side.
constexpr int64_t kStrip = 2 * kGemmTile;
// Bytes of packed rows that a job goes through again and again, once for each strip of columns: both stay in
// the second-level cache. Fewer steps at a time would fit the first one, but then sums come and go: that is
// slower.
int64_t block_bytes() { return std::clamp(cpu_caches().l2 / 2, int64_t{256} << 10, int64_t{1} << 20); }
// Strips whose sums are finished together: rows of C lie far apart, and short pieces of them are slow to
// write.
constexpr int64_t kFinishedStrips = 4, kFinishedCols = kFinishedStrips * kStrip;
// Bytes of packed columns that jobs share.
constexpr int64_t kSharedBytes = int64_t{16} << 20;

// What the kernels need while the object lives.
class Held {
 public:
  explicit Held(const GemmTiles& kernels) {
    if (kernels.in_amx) tiles_.emplace(amx_whole_tiles());
  }

 private:
  std::optional<AmxTiles> tiles_;
};

// One problem, a slab of columns and a span of steps at a time. A job is a block of rows and some strips of
// columns.
class TileProduct {
 public:
  TileProduct(const GemmTiles& kernels, const GemmArgs& g, const GemmProblem& p, bool parallel)
      : kernels_(kernels),
        g_(g),
        p_(p),
        parallel_(parallel),
        padded_span_(gemm_padded_steps(std::min(g.k, kSpan))),
        rows_(ceil_div(g.m, kGemmTile) * kGemmTile),
        block_rows_(std::min(ceil_div(rows_, kStrip),
                             std::max<int64_t>(1, block_bytes() / (padded_span_ * 2) / kStrip)) *
                    kStrip),
        blocks_(ceil_div(rows_, block_rows_)),
        slab_cols_(slab_cols()),
        parts_(parts()),
        left_(parts_ > 1 ? rows_ * padded_span_ * 2 : 0),
        right_(blocks_ > 1 ? slab_cols_ * padded_span_ * 2 : 0),
        totals_(g.k > kSpan ? g.m * slab_cols_ * 4 : 0) {}

  void run() {
    for (col_base_ = 0; col_base_ < g_.n; col_base_ += slab_cols_) {
      cols_ = std::min(slab_cols_, g_.n - col_base_);
      for (step_base_ = 0; step_base_ < g_.k; step_base_ += kSpan) {
        steps_ = std::min(kSpan, g_.k - step_base_), padded_ = gemm_padded_steps(steps_);
        run_span();
      }
    }
  }

 private:
  int64_t slab_cols() const {
    const int64_t fit = std::max(kSharedBytes / (padded_span_ * 2) / kStrip, int64_t{1});
    return std::min(ceil_div(g_.n, kStrip), fit) * kStrip;
  }
  // Into how many jobs the strips of a slab are divided: more than one where there are few blocks of rows.
  int64_t parts() const {
    if (!parallel_ || blocks_ >= 4 * num_threads()) return 1;
    return std::min(slab_cols_ / kStrip, ceil_div(4 * num_threads(), blocks_));
  }

  // Where a strip begins among packed ones.
  int64_t place(int64_t row_or_col) const { return row_or_col * padded_; }

  void pack_rows(int64_t row0, int64_t rows, bfloat16_t* dst) const {
    for (int64_t r = 0; r < rows; r += kStrip) {
      kernels_.pack_rows(p_.a, row0 + r, std::min(kStrip, rows - r), step_base_, steps_, dst + place(r));
    }
  }
  void pack_cols(int64_t col0, bfloat16_t* dst) const {
    kernels_.pack_cols(p_.b, col_base_ + col0, std::min(kStrip, cols_ - col0), step_base_, steps_, dst);
  }

  void run_span() {
    const int64_t strips = ceil_div(cols_, kStrip);
    // What several jobs read is packed first.
    const int64_t row_jobs = parts_ > 1 ? ceil_div(g_.m, kStrip) : 0;
    run_jobs(row_jobs + (blocks_ > 1 ? strips : 0), parallel_, [&](int64_t i) {
      if (i < row_jobs) {
        const int64_t row0 = i * kStrip;
        return pack_rows(row0, std::min(kStrip, g_.m - row0), left_.as<bfloat16_t>() + place(row0));
      }
      const int64_t col0 = (i - row_jobs) * kStrip;
      pack_cols(col0, right_.as<bfloat16_t>() + place(col0));
    });
    const int64_t each = ceil_div(strips, parts_);
    run_jobs(blocks_ * ceil_div(strips, each), parallel_, [&](int64_t i) {
      const int64_t first = i / blocks_ * each * kStrip;
      multiply(i % blocks_ * block_rows_, first, std::min(cols_, first + each * kStrip));
    });
  }

  // The rows from row0 on times columns [col0, end).
  void multiply(int64_t row0, int64_t col0, int64_t end) {
    const int64_t rows = std::min(block_rows_, g_.m - row0);
    Scratch own_rows(parts_ > 1 ? 0 : ceil_div(rows, kGemmTile) * place(kGemmTile) * 2);
    Scratch own_cols(blocks_ > 1 ? 0 : place(kStrip) * 2);
    Scratch sums(ceil_div(rows, kStrip) * kStrip * kFinishedCols * 4);
    const bfloat16_t* left = left_.as<bfloat16_t>() + place(row0);
    if (parts_ == 1) {
      pack_rows(row0, rows, own_rows.as<bfloat16_t>());
      left = own_rows.as<bfloat16_t>();
    }
    for (; col0 < end; col0 += kFinishedCols) {
      const int64_t cols = std::min(kFinishedCols, end - col0);
      for (int64_t c = 0; c < cols; c += kStrip) {
        const bfloat16_t* right = right_.as<bfloat16_t>() + place(col0 + c);
        if (blocks_ == 1) {
          pack_cols(col0 + c, own_cols.as<bfloat16_t>());
          right = own_cols.as<bfloat16_t>();
        }
        multiply_strip(left, rows, right, std::min(kStrip, cols - c), sums.as<float>() + c);
      }
      finish(row0, rows, col0, cols, sums.as<float>());
    }
  }

  void multiply_strip(const bfloat16_t* left, int64_t rows, const bfloat16_t* right, int64_t cols,
                      float* sums) const {
    const Held held(kernels_);
    for (int64_t r = 0; r < rows; r += kStrip) {
      kernels_.multiply(left + place(r), std::min(kStrip, rows - r), right, cols, padded_ / kGemmTileSteps,
                        sums + r * kFinishedCols, kFinishedCols);
    }
  }

  void finish(int64_t row0, int64_t rows, int64_t col0, int64_t cols, float* sums) const {
    const bool first = step_base_ == 0, last = step_base_ + kSpan >= g_.k;
    for (int64_t i = 0; i < rows && !(first && last); ++i) {
      float *total = totals_.as<float>() + (row0 + i) * slab_cols_ + col0, *sum = sums + i * kFinishedCols;
      for (int64_t j = 0; !first && j < cols; ++j) sum[j] = total[j] + sum[j];
      if (!last) std::copy_n(sum, cols, total);
    }
    if (last) gemm_finish_tile(g_, p_, sums, row0, rows, col_base_ + col0, cols, kFinishedCols);
  }

  const GemmTiles& kernels_;
  const GemmArgs& g_;
  const GemmProblem& p_;
  const bool parallel_;
  const int64_t padded_span_, rows_, block_rows_, blocks_, slab_cols_, parts_;
  Scratch left_, right_, totals_;
  int64_t col_base_ = 0, cols_ = 0, step_base_ = 0, steps_ = 0, padded_ = 0;
};

// Few rows and columns that lie in one piece each: B is read once, as it is. A row has the bits that
// TileProduct gives it.
void multiply_few_rows(const GemmTiles& kernels, const GemmArgs& g, const GemmProblem& p, bool parallel) {
  const int64_t row_tiles = ceil_div(g.m, kGemmTile);
  const GemmMatrix turned{p.a.data, p.a.dtype, p.a.col_stride, p.a.row_stride};
  Scratch rows(row_tiles * kGemmTile * gemm_padded_steps(g.k) * 2);
  const auto rows_at = [&](int64_t k) { return rows.as<bfloat16_t>() + k * row_tiles * kGemmTile; };
  run_jobs(ceil_div(g.k, kSpan), parallel, [&](int64_t i) {
    kernels.pack_cols(turned, 0, g.m, i * kSpan, std::min(kSpan, g.k - i * kSpan), rows_at(i * kSpan));
  });
  const int64_t even = ceil_div(ceil_div(g.n, 4 * num_threads()), kGemmTile) * kGemmTile;
  const int64_t step = std::min(even, kFinishedCols), ld = step, elems = row_tiles * kGemmTile * ld;
  run_jobs(ceil_div(g.n, step), parallel, [&](int64_t i) {
    const int64_t col0 = i * step, cols = std::min(step, g.n - col0);
    Scratch sums(2 * elems * 4);
    float *total = sums.as<float>(), *part = total + elems;
    for (int64_t k = 0; k < g.k; k += kSpan) {
      {
        const Held held(kernels);
        kernels.multiply_columns(p.b, col0, cols, k, std::min(kSpan, g.k - k), rows_at(k), g.m,
                                 k == 0 ? total : part, ld);
      }
      for (int64_t j = 0; k > 0 && j < g.m * ld; ++j) total[j] += part[j];
    }
    gemm_finish_tile(g, p, total, 0, g.m, col0, cols, ld);
  });
}

}  // namespace

const GemmTiles* gemm_tiles_for(const GemmArgs& g) {
  // A few columns would leave most of a tile empty.
  constexpr int64_t kLeastCols = 32, kLeastElems = 4096;
  if (g.a.dtype != Dtype::kBFloat16 || g.b.dtype != Dtype::kBFloat16) return nullptr;
  if (g.n < kLeastCols || g.n * g.k < kLeastElems) return nullptr;
  switch (bfloat16_products()) {
    case BFloat16Products::kTiles: return &gemm_tiles();
    case BFloat16Products::kDots: return &gemm_dots();
    case BFloat16Products::kFloat32: break;
  }
  return nullptr;
}

void gemm_multiply_tiles(const GemmTiles& kernels, const GemmArgs& g, const GemmProblem& p, bool parallel) {
  if (g.m <= kStrip && p.b.row_stride == 1) return multiply_few_rows(kernels, g, p, parallel);
  TileProduct(kernels, g, p, parallel).run();
}

}  // namespace lamina::cpu
