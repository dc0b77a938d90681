#include "backend/reference/arg_reduce.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "backend/reference/layout.h"
#include "backend/reference/layout_dtype.h"
#include "backend/reference/layout_scratch.h"
#include "core/fail.h"
#include "core/thread_pool.h"

namespace lamina::reference {
namespace {

constexpr int64_t kGrain = 32768;  // elements worth a thread

// Whether a takes the place of the best so far, b, which came before it.
template <ArgReduceKind kKind, class T>
bool beats(T a, T b) {
  const bool beyond = kKind == ArgReduceKind::kMax ? less(b, a) : less(a, b);
  return (beyond || is_nan(a)) && !is_nan(b);
}

// Lines to search: `length` elements `step` bytes apart.
struct Line {
  const char* in;
  int64_t step, length;
  ArgReduceTiles tiles;

  template <class T>
  T at(int64_t i) const {
    return *reinterpret_cast<const T*>(in + i * step);
  }
};

template <ArgReduceKind kKind, class T>
int64_t search(const Line& line, int64_t begin, int64_t end) {
  int64_t best = begin;
  T value = line.at<T>(begin);
  for (int64_t i = begin + 1; i < end; ++i) {
    const T x = line.at<T>(i);
    if (beats<kKind>(x, value)) best = i, value = x;
  }
  return best;
}

// The best value of 16 dense columns of `rows` rows, as vector code; exact values, so the order does not
// matter.
template <ArgReduceKind kKind, class T>
T best_of_block(const T* p, int64_t rows) {
  constexpr int64_t kLanes = 16;
  using C = ComputeType<T>;
  C best[kLanes];
  bool nan = false;
  for (int64_t j = 0; j < kLanes; ++j) best[j] = widen(p[j]);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const C x = widen(p[r * kLanes + j]);
      nan |= is_nan(x);
      best[j] = (kKind == ArgReduceKind::kMax ? best[j] < x : x < best[j]) ? x : best[j];
    }
  }
  if (nan) return static_cast<T>(std::numeric_limits<C>::quiet_NaN());
  for (int64_t j = 1; j < kLanes; ++j) {
    if (beats<kKind>(best[j], best[0])) best[0] = best[j];
  }
  return static_cast<T>(best[0]);
}

// search() over dense memory: looks for the block that holds the first extremum, then into that block.
template <ArgReduceKind kKind, class T>
int64_t search_dense(const Line& line, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 512;
  const T* in = reinterpret_cast<const T*>(line.in);
  int64_t at = begin;
  T value = in[begin];
  int64_t i = begin;
  for (; i + kBlock <= end && !is_nan(value); i += kBlock) {
    const T best = best_of_block<kKind>(in + i, kBlock / 16);
    if (beats<kKind>(best, value) || i == begin) at = i, value = best;
  }
  int64_t found = at + kBlock <= i ? search<kKind, T>(line, at, at + kBlock) : begin;
  if (i < end && !is_nan(value)) {
    const int64_t tail = search<kKind, T>(line, i, end);
    if (i == begin || beats<kKind>(in[tail], in[found])) found = tail;
  }
  return found;
}

// search() with the given function, which reads its elements twice: piece by piece, in L1.
template <ArgReduceKind kKind, class T>
int64_t search_pieces(const Line& line, int64_t begin, int64_t end) {
  constexpr int64_t kPiece = 16384 / sizeof(T);
  const T* in = reinterpret_cast<const T*>(line.in);
  int64_t found = begin;
  for (int64_t i = begin; i < end && !is_nan(in[found]); i += kPiece) {
    const int64_t at = i + line.tiles.line(in + i, static_cast<size_t>(std::min(kPiece, end - i)));
    if (beats<kKind>(in[at], in[found])) found = at;
  }
  return found;
}

template <ArgReduceKind kKind, class T>
int64_t search_line(const Line& line, int64_t begin, int64_t end) {
  if constexpr (!kIsComplex<T>) {
    if (line.tiles.line && line.step == static_cast<int64_t>(sizeof(T)))
      return search_pieces<kKind, T>(line, begin, end);
    if (line.step == static_cast<int64_t>(sizeof(T))) return search_dense<kKind, T>(line, begin, end);
  }
  return search<kKind, T>(line, begin, end);
}

// One long line, cut into pieces that threads search and one compares in order.
template <ArgReduceKind kKind, class T>
int64_t search_long_line(const Line& line) {
  const int64_t pieces = (line.length + kGrain - 1) / kGrain;
  const Scratch<int64_t> found(pieces);
  parallel_ranges(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      found[p] = search_line<kKind, T>(line, p * kGrain, std::min(line.length, (p + 1) * kGrain));
    }
  });
  int64_t best = found[0];
  for (int64_t p = 1; p < pieces; ++p) {
    if (beats<kKind>(line.at<T>(found[p]), line.at<T>(best))) best = found[p];
  }
  return best;
}

// search_columns with the given function.
template <class T, class Index>
void search_wide_columns(const Line& first, int64_t columns, char* out, int64_t out_step) {
  constexpr int64_t kColumns = 1024, kRoom = 64 / sizeof(T);
  using At = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  T best[kColumns + kRoom];
  At at[kColumns + kRoom];
  for (int64_t c = 0; c < columns; c += kColumns) {
    const int64_t n = std::min(kColumns, columns - c);
    const char* row = first.in + c * static_cast<int64_t>(sizeof(T));
    std::memcpy(best, row, static_cast<size_t>(n) * sizeof(T));
    std::fill(best + n, best + n + kRoom, T{});
    std::fill(at, at + n + kRoom, At{0});
    for (int64_t r = 1; r < first.length; ++r) {
      first.tiles.columns(row + r * first.step, static_cast<size_t>(n), static_cast<uint64_t>(r), best, at);
    }
    for (int64_t i = 0; i < n; ++i)
      *reinterpret_cast<Index*>(out + (c + i) * out_step) = static_cast<Index>(at[i]);
  }
}

// Columns side by side: rows are read in memory order. `out` gets indices `out_step` bytes apart.
template <ArgReduceKind kKind, class T, class Index>
void search_columns(const Line& first, int64_t columns, char* out, int64_t out_step) {
  if constexpr (sizeof(T) >= 4 && !kIsComplex<T>) {
    const bool fits = sizeof(T) == 8 || first.length <= std::numeric_limits<uint32_t>::max();
    const bool wide = columns * static_cast<int64_t>(sizeof(T)) >= 64;
    if (first.tiles.columns && fits && wide)
      return search_wide_columns<T, Index>(first, columns, out, out_step);
  }
  constexpr int64_t kColumns = 256;
  for (int64_t c = 0; c < columns; c += kColumns) {
    const int64_t n = std::min(kColumns, columns - c);
    T best[kColumns];
    int64_t at[kColumns] = {};
    const T* row = reinterpret_cast<const T*>(first.in) + c;
    std::copy(row, row + n, best);
    for (int64_t r = 1; r < first.length; ++r) {
      row = reinterpret_cast<const T*>(first.in + r * first.step) + c;
      for (int64_t i = 0; i < n; ++i) {
        const bool better = beats<kKind>(row[i], best[i]);
        best[i] = better ? row[i] : best[i];
        at[i] = better ? r : at[i];
      }
    }
    for (int64_t i = 0; i < n; ++i)
      *reinterpret_cast<Index*>(out + (c + i) * out_step) = static_cast<Index>(at[i]);
  }
}

template <ArgReduceKind kKind, class T, class Index>
void arg_reduce_typed(const View& in, const CollapsedLoop<2>& kept, int64_t step, int64_t length,
                      const ArgReduceTiles& tiles, char* out) {
  constexpr auto kSize = static_cast<int64_t>(sizeof(T));
  const int64_t in_step = kept.inner_stride(0), out_step = kept.inner_stride(1);
  const auto* base = static_cast<const char*>(in.data);
  if (kept.size() == 1 && length >= 2 * kGrain) {
    *reinterpret_cast<Index*>(out) =
        static_cast<Index>(search_long_line<kKind, T>({base, step, length, tiles}));
    return;
  }
  parallel_ranges(kept.size(), std::max<int64_t>(1, kGrain / length), [&](int64_t begin, int64_t end) {
    for_each_row(kept, begin, end, [&](const auto& at, int64_t n) {
      const Line line{base + at[0], step, length, tiles};
      char* to = out + at[1];
      if (in_step == kSize && step != kSize) return search_columns<kKind, T, Index>(line, n, to, out_step);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t found = search_line<kKind, T>({line.in + i * in_step, step, length, tiles}, 0, length);
        *reinterpret_cast<Index*>(to + i * out_step) = static_cast<Index>(found);
      }
    });
  });
}

}  // namespace

void arg_reduce(ArgReduceKind kind, const View& in, const View& out, int64_t axis,
                const ArgReduceTiles& tiles) {
  const auto a = static_cast<size_t>(axis);
  const int64_t length = in.shape[a], step = in.strides[a] * static_cast<int64_t>(itemsize(in.dtype));
  const View from = drop_axis(in, axis);
  const View to = out.shape.size() == in.shape.size() ? drop_axis(out, axis) : out;
  const auto kept = collapse_views<2>({&from, &to}, /*keep_order=*/false);
  if (kept.size() == 0) return;
  if (length == 0) {
    fail<ValueError>("arg_reduce", "axis {} of shape {} is empty: there is no extremum", axis,
                     to_string(in.shape));
  }
  char* base = static_cast<char*>(out.data);
  const bool small = itemsize(out.dtype) == 4;
  visit_dtype(in.dtype, [&]<class T>(std::type_identity<T>) {
    auto run = [&]<class Index>(std::type_identity<Index>) {
      kind == ArgReduceKind::kMax
          ? arg_reduce_typed<ArgReduceKind::kMax, T, Index>(in, kept, step, length, tiles, base)
          : arg_reduce_typed<ArgReduceKind::kMin, T, Index>(in, kept, step, length, tiles, base);
    };
    small ? run(std::type_identity<uint32_t>{}) : run(std::type_identity<uint64_t>{});
  });
}

}  // namespace lamina::reference
