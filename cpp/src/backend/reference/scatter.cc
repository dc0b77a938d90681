#include "backend/reference/scatter.h"

#include <algorithm>
#include <cstring>

#include "backend/reference/gather_index.h"
#include "backend/reference/layout.h"
#include "backend/reference/layout_dtype.h"
#include "backend/reference/layout_scratch.h"
#include "core/fail.h"
#include "core/thread_pool.h"

namespace lamina::reference {
namespace {

constexpr int64_t kChunk = int64_t{1} << 20;       // indices resolved at a time
constexpr int64_t kGrainBytes = int64_t{1} << 16;  // updates worth a thread

template <ScatterMode kMode, class T>
T combine(T old, T update) {
  if constexpr (kMode == ScatterMode::kSet) {
    return update;
  } else if constexpr (kMode == ScatterMode::kAdd) {
    return static_cast<T>(add(widen(old), widen(update)));
  } else if constexpr (kMode == ScatterMode::kMultiply) {
    return static_cast<T>(multiply(widen(old), widen(update)));
  } else {
    const bool before = kMode == ScatterMode::kMax ? less(old, update) : less(update, old);
    return before || is_nan(update) ? update : old;
  }
}

// bool adds as `or`, so that the sum stays 0 or 1.
template <ScatterMode kMode, class T>
void combine_row(char* out, int64_t out_step, const char* update, int64_t update_step, int64_t n,
                 bool is_bool) {
  for (int64_t i = 0; i < n; ++i) {
    T value;
    std::memcpy(&value, update + i * update_step, sizeof(T));
    T* to = reinterpret_cast<T*>(out + i * out_step);
    *to = combine<kMode>(*to, value);
    if constexpr (std::is_same_v<T, uint8_t> && kMode == ScatterMode::kAdd) {
      if (is_bool) *to = *to != 0;
    }
  }
}

using RowFunction = void (*)(char*, int64_t, const char*, int64_t, int64_t, bool);

template <class T>
RowFunction row_function(ScatterMode mode) {
  switch (mode) {
    case ScatterMode::kAdd: return combine_row<ScatterMode::kAdd, T>;
    case ScatterMode::kMultiply: return combine_row<ScatterMode::kMultiply, T>;
    case ScatterMode::kMax: return combine_row<ScatterMode::kMax, T>;
    case ScatterMode::kMin: return combine_row<ScatterMode::kMin, T>;
    default: return combine_row<ScatterMode::kSet, T>;
  }
}
RowFunction row_function(Dtype t, ScatterMode mode) {
  return visit_dtype(t, [&]<class T>(std::type_identity<T>) { return row_function<T>(mode); });
}

// One chunk of slices to combine, in order. Operand 0 of the loop is `out`, operand 1 the updates.
struct Slices {
  char* out;
  const char* updates;
  CollapsedLoop<2> slice;
  const int64_t* to;    // byte offset of each slice in out
  const int64_t* from;  // and in the updates
  int64_t count;
  RowFunction row;
  bool is_bool;

  // Elements [begin, end) of slice i.
  void run(int64_t i, int64_t begin, int64_t end) const {
    for_each_row(slice, begin, end, [&](const auto& at, int64_t n) {
      row(out + to[i] + at[0], slice.inner_stride(0), updates + from[i] + at[1], slice.inner_stride(1), n,
          is_bool);
    });
  }
};

// Splits work so that each element of `out` belongs to one thread, which sees its updates in order. Slices
// must be equal or disjoint.
void run_parallel(const Slices& s, int64_t element_bytes) {
  const int64_t size = s.slice.size(), owners = num_threads(), block_bytes = 64;
  if (size * element_bytes >= 4 * block_bytes * owners) {
    const int64_t grain = std::max(block_bytes / element_bytes, size / (4 * owners));
    parallel_ranges(size, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < s.count; ++i) s.run(i, begin, end);
    });
    return;
  }
  parallel_for(owners, [&](int64_t owner) {
    for (int64_t i = 0; i < s.count; ++i) {
      // A multiplicative hash spreads neighbouring destinations; blocks of a cache line stay together.
      const uint64_t block = static_cast<uint64_t>(s.to[i]) / static_cast<uint64_t>(block_bytes);
      const uint64_t spread = (block * 0x9E3779B97F4A7C15u) >> 32;
      if (static_cast<int64_t>(spread * static_cast<uint64_t>(owners) >> 32) == owner) s.run(i, 0, size);
    }
  });
}

void run_slices(const Slices& s, bool disjoint, int64_t element_bytes) {
  const bool worth = s.count * s.slice.size() * element_bytes >= 2 * kGrainBytes;
  if (disjoint && worth && num_threads() > 1) return run_parallel(s, element_bytes);
  for (int64_t i = 0; i < s.count; ++i) s.run(i, 0, s.slice.size());
}

CollapsedLoop<2> slice_loop(const View& out, const View& updates, size_t index_rank) {
  View to = out, from = updates;
  to.shape = from.shape = Shape(updates.shape.begin() + index_rank, updates.shape.end());
  from.strides = Strides(updates.strides.begin() + index_rank, updates.strides.end());
  return collapse_views<2>({&to, &from}, /*keep_order=*/false);
}

}  // namespace

void scatter(const View& out, std::span<const View> indices, const View& updates, const Axes& axes,
             ScatterMode mode, const char* op) {
  const size_t index_rank = updates.shape.size() - out.shape.size();
  const Shape slice_sizes(updates.shape.begin() + index_rank, updates.shape.end());
  const IndexedAxes indexed{out, indices, axes, slice_sizes, op};
  const int64_t count = indexed.count(), chunk = std::min(count, kChunk);
  if (count > chunk || updates.size() == 0) indexed.resolve(0, count, nullptr);
  if (updates.size() == 0) return;
  bool disjoint = true;
  for (int64_t axis : axes) disjoint &= slice_sizes[static_cast<size_t>(axis)] == 1;
  const Scratch<int64_t> to(chunk), from(chunk);
  Slices s{static_cast<char*>(out.data),
           static_cast<const char*>(updates.data),
           slice_loop(out, updates, index_rank),
           to.data(),
           from.data(),
           0,
           row_function(out.dtype, mode),
           out.dtype == Dtype::kBool};
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t end = std::min(count, begin + chunk);
    indexed.resolve(begin, end, to.data());
    leading_offsets(updates, index_rank, begin, end, from.data());
    s.count = end - begin;
    run_slices(s, disjoint, static_cast<int64_t>(itemsize(out.dtype)));
  }
}

void scatter_along_axis(const View& out, const View& indices, const View& updates, int64_t axis,
                        ScatterMode mode, const char* op) {
  const auto a = static_cast<size_t>(axis);
  const int64_t length = out.shape[a], count = indices.shape[a],
                bytes = static_cast<int64_t>(itemsize(out.dtype));
  Shape one(out.shape.size(), 1);
  const IndexedAxes indexed{out, {&indices, 1}, Axes{axis}, one, op};
  indexed.resolve(0, indices.size(), nullptr);
  if (updates.size() == 0) return;
  // Lines along the axis never share an element of out: threads take lines, each works through its own in
  // order.
  View lines_out = out;
  lines_out.shape = indices.shape;
  const View to = drop_axis(lines_out, axis), from = drop_axis(updates, axis),
             at_index = drop_axis(indices, axis);
  const auto loop = collapse_views<3>({&to, &from, &at_index});
  const RowFunction row = row_function(out.dtype, mode);
  const int64_t to_step = out.strides[a] * bytes, from_step = updates.strides[a] * bytes;
  const int64_t index_step = indices.strides[a] * static_cast<int64_t>(itemsize(indices.dtype));
  const bool is_bool = out.dtype == Dtype::kBool;
  visit_index_dtype(indices.dtype, op, [&]<class I>(std::type_identity<I>) {
    parallel_ranges(loop.size(), std::max<int64_t>(1, 16384 / count), [&](int64_t begin, int64_t end) {
      for_each_row(loop, begin, end, [&](const auto& at, int64_t n) {
        char* to_line = static_cast<char*>(out.data) + at[0];
        const char* from_line = static_cast<const char*>(updates.data) + at[1];
        const char* index_line = static_cast<const char*>(indices.data) + at[2];
        for (int64_t j = 0; j < n; ++j) {
          for (int64_t i = 0; i < count; ++i) {
            const I index = *reinterpret_cast<const I*>(index_line + i * index_step);
            const int64_t k = wrap_index(index, length, length);
            row(to_line + k * to_step, 0, from_line + i * from_step, 0, 1, is_bool);
          }
          to_line += loop.inner_stride(0);
          from_line += loop.inner_stride(1);
          index_line += loop.inner_stride(2);
        }
      });
    });
  });
}

}  // namespace lamina::reference
