#include "backend/cpu/convolution_product.h"
#include "backend/cpu/jobs.h"

#include <algorithm>

#include "backend/cpu/gemm_scratch.h"

namespace lamina::cpu {
namespace {

// Packed B takes at most this many bytes; of more columns, or steps, so many at a time as fit.
constexpr int64_t kPackedColumnBytes = int64_t{16} << 20;
// A job's block: its sums, its columns of B for kGemmDepth steps and its rows stay in the second-level cache.
constexpr int64_t kMostRows = 112, kMostCols = 256;
// Columns packed by one job.
constexpr int64_t kPackedCols = 64;
// Up to so many rows are one block, whose jobs pack their columns themselves: they stay in the cache then.
constexpr int64_t kFewRows = 256;

bool packs_in_jobs(const GemmArgs& g, bool parallel) {
  return g.m <= kFewRows && (!parallel || g.n >= 2 * num_threads() * kPackedCols);
}

// Columns [first, first + cols) of a product and steps [begin, end), packed already unless each job packs its
// own. Between spans of steps sums wait in C or in `sums`. How the work is cut changes no result.
template <class T>
class ColumnSpan {
 public:
  ColumnSpan(const GemmArgs& g, int64_t first, int64_t cols, int64_t begin, int64_t end, bool parallel,
             T* packed, T* sums)
      : g_(g),
        first_(first),
        cols_(cols),
        begin_(begin),
        end_(end),
        padded_(ceil_div(cols, kernels_.nr) * kernels_.nr),
        parallel_(parallel),
        direct_(writes_directly(g)),
        packed_(packed),
        sums_(sums) {
    if (!packed_) {
      strip_cols_ = kPackedCols;
      block_rows_ = g.m;
      return;
    }
    // Blocks of equal size, of whole panels, four jobs a thread.
    strip_cols_ = ceil_div(ceil_div(padded_, ceil_div(padded_, kMostCols)), kernels_.nr) * kernels_.nr;
    const int64_t strips = ceil_div(cols_, strip_cols_), wanted = parallel ? 4 * num_threads() : 1;
    const int64_t most = std::max<int64_t>(1, g.m / (2 * kernels_.mr));
    int64_t blocks = std::max(ceil_div(g.m, kMostRows), std::min(ceil_div(wanted, strips), most));
    if (parallel) blocks = ceil_div(blocks * strips, num_threads()) * num_threads() / strips;
    block_rows_ = ceil_div(ceil_div(g.m, std::max<int64_t>(1, blocks)), kernels_.mr) * kernels_.mr;
  }

  // Whether sums can live in C.
  static bool writes_directly(const GemmArgs& g) {
    return itemsize(g.c_dtype) == sizeof(T) && !g.c_rows && !g.epilogue;
  }

  void pack(const GemmColumnPacker<T>& pack_b) {
    const int64_t cuts = ceil_div(cols_, kPackedCols);
    run_jobs(cuts * ceil_div(end_ - begin_, kGemmDepth), parallel_, [&](int64_t i) {
      const int64_t k0 = begin_ + i / cuts * kGemmDepth, depth = std::min(kGemmDepth, end_ - k0);
      const int64_t col0 = i % cuts * kPackedCols;
      pack_b(k0, depth, first_ + col0, std::min(kPackedCols, cols_ - col0),
             packed_ + (k0 - begin_) * padded_ + col0 * depth);
    });
  }

  void run(const GemmColumnPacker<T>& pack_b, const BlockMultiply<T>& multiply) {
    const int64_t blocks = ceil_div(g_.m, block_rows_);
    run_jobs(blocks * ceil_div(cols_, strip_cols_), parallel_, [&](int64_t i) {
      run_block(pack_b, multiply, i % blocks * block_rows_, i / blocks * strip_cols_);
    });
  }

 private:
  void run_block(const GemmColumnPacker<T>& pack_b, const BlockMultiply<T>& multiply, int64_t row0,
                 int64_t col0) {
    const int64_t rows = std::min(block_rows_, g_.m - row0), cols = std::min(strip_cols_, cols_ - col0);
    const Scratch columns(packed_ ? 0 : kernels_.packed_b_elems(cols, kGemmDepth) * kItem);
    Scratch own(direct_ || sums_ ? 0 : rows * cols * kItem);
    T* tile = direct_ ? static_cast<T*>(g_.c) + row0 * g_.ldc + first_ + col0
              : sums_ ? sums_ + row0 * cols_ + col0
                      : own.template as<T>();
    const int64_t ld = direct_ ? g_.ldc : sums_ ? cols_ : cols;
    for (int64_t k0 = begin_; k0 < end_; k0 += kGemmDepth) {
      const int64_t depth = std::min(kGemmDepth, end_ - k0);
      T* b = packed_ ? packed_ + (k0 - begin_) * padded_ + col0 * depth : columns.template as<T>();
      if (!packed_) pack_b(k0, depth, first_ + col0, cols, b);
      multiply(row0, rows, k0, depth, cols, b, tile, ld);
    }
    if (direct_ || end_ < g_.k) return;
    if constexpr (sizeof(T) == 4) {
      if (g_.epilogue) return (*g_.epilogue)(tile, row0, rows, first_ + col0, cols, ld);
    }
    const auto item = static_cast<int64_t>(itemsize(g_.c_dtype));
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = g_.c_rows ? g_.c_rows[row0 + i] : (row0 + i) * g_.ldc;
      kernels_.store(tile + i * ld, cols, static_cast<char*>(g_.c) + (at + first_ + col0) * item, g_.c_dtype);
    }
  }

  static constexpr auto kItem = static_cast<int64_t>(sizeof(T));
  const GemmKernels<T>& kernels_ = gemm_kernels<T>();
  const GemmArgs& g_;
  const int64_t first_, cols_, begin_, end_, padded_;
  const bool parallel_, direct_;
  T *packed_, *sums_;
  int64_t strip_cols_ = 0, block_rows_ = 0;
};

}  // namespace

template <class T>
void multiply_streamed(const GemmArgs& g, const GemmColumnPacker<T>& pack_b, const BlockMultiply<T>& multiply,
                       bool parallel) {
  constexpr auto kItem = static_cast<int64_t>(sizeof(T));
  if (packs_in_jobs(g, parallel)) {
    return ColumnSpan<T>(g, 0, g.n, 0, g.k, parallel, nullptr, nullptr).run(pack_b, multiply);
  }
  const int64_t fit = kPackedColumnBytes / kItem / g.k / kPackedCols * kPackedCols;
  const int64_t cols = std::min(std::max(fit, kPackedCols), g.n);
  const int64_t most = kPackedColumnBytes / kItem / kPackedCols / kGemmDepth * kGemmDepth;
  const int64_t steps = fit > 0 ? g.k : std::min(g.k, most);
  const Scratch packed(gemm_kernels<T>().packed_b_elems(cols, steps) * kItem);
  const bool waits = steps < g.k && !ColumnSpan<T>::writes_directly(g);
  const Scratch sums(waits ? g.m * cols * kItem : 0);
  for (int64_t first = 0; first < g.n; first += cols) {
    for (int64_t begin = 0; begin < g.k; begin += steps) {
      ColumnSpan<T> span(g, first, std::min(cols, g.n - first), begin, std::min(begin + steps, g.k), parallel,
                         packed.template as<T>(), waits ? sums.template as<T>() : nullptr);
      span.pack(pack_b);
      span.run(pack_b, multiply);
    }
  }
}
template void multiply_streamed(const GemmArgs&, const GemmColumnPacker<float>&, const BlockMultiply<float>&,
                                bool);
template void multiply_streamed(const GemmArgs&, const GemmColumnPacker<double>&,
                                const BlockMultiply<double>&, bool);

}  // namespace lamina::cpu
