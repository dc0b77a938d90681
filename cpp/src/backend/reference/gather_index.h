#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "core/view.h"

namespace lamina {

// Calls f(std::type_identity<I>{}) with the C++ integer type of an index dtype; throws DtypeError naming `op`
// for others.
template <class F>
decltype(auto) visit_index_dtype(Dtype t, const char* op, F&& f);

// Throws DtypeError: indices of that dtype are no indices.
[[noreturn]] void fail_index_dtype(const char* op, Dtype t);
// Throws IndexError for element `linear` (row-major) of `indices`.
[[noreturn]] void fail_index(const char* op, const View& indices, int64_t linear, int64_t axis,
                             int64_t length);

// `index` counted from the front of an axis of `length`, or -1 where that is not below `limit` (<= length).
template <class I>
int64_t wrap_index(I index, int64_t length, int64_t limit) {
  if constexpr (std::is_signed_v<I>) {
    const int64_t i = index < 0 ? index + length : index;
    return i >= 0 && i < limit ? i : -1;
  } else {
    return limit > 0 && index < static_cast<uint64_t>(limit) ? static_cast<int64_t>(index) : -1;
  }
}

// The smallest linear position that several threads found to hold a bad index.
class FirstBad {
 public:
  void note(int64_t linear) {
    int64_t seen = linear_.load(std::memory_order_relaxed);
    while (linear < seen && !linear_.compare_exchange_weak(seen, linear, std::memory_order_relaxed)) {}
  }
  bool any() const { return linear() != kNone; }
  int64_t linear() const { return linear_.load(std::memory_order_relaxed); }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> linear_{kNone};
};

// What gather and scatter share: index views of one shape that step along axes of one array.
struct IndexedAxes {
  const View& array;              // indexed
  std::span<const View> indices;  // one for each entry of axes
  const Axes& axes;
  const Shape& slice_sizes;
  const char* op;

  // Number of slices: the product of the index shape (1 where there is no index view).
  int64_t count() const { return indices.empty() ? 1 : indices[0].size(); }
  // Positions that a slice may start at along the n-th indexed axis.
  int64_t starts(size_t n) const {
    const auto axis = static_cast<size_t>(axes[n]);
    return array.shape[axis] - slice_sizes[axis] + 1;
  }
  // offsets[i - begin] = bytes from the array's start to slice i's, for i in [begin, end); `offsets` may be
  // null. Works in parallel. Throws IndexError for the first index that is outside its axis.
  void resolve(int64_t begin, int64_t end, int64_t* offsets) const;
};

// Byte offsets of elements [begin, end), in row-major order, of a view's first `rank` axes. Works in
// parallel.
void leading_offsets(const View& v, size_t rank, int64_t begin, int64_t end, int64_t* offsets);
// The output of take, shape before + I + after, seen as gather's: I + before + (1,) + after.
View gather_view_of_take(const View& out, int64_t axis, size_t index_rank);
// `src` with the stride of `axis` 0 and `shape`: where element [.., i, ..] looks from, before its index is
// added.
View along_axis_base(const View& src, const Shape& shape, int64_t axis);

template <class F>
decltype(auto) visit_index_dtype(Dtype t, const char* op, F&& f) {
  switch (t) {
    case Dtype::kUInt8: return f(std::type_identity<uint8_t>{});
    case Dtype::kUInt16: return f(std::type_identity<uint16_t>{});
    case Dtype::kUInt32: return f(std::type_identity<uint32_t>{});
    case Dtype::kUInt64: return f(std::type_identity<uint64_t>{});
    case Dtype::kInt8: return f(std::type_identity<int8_t>{});
    case Dtype::kInt16: return f(std::type_identity<int16_t>{});
    case Dtype::kInt32: return f(std::type_identity<int32_t>{});
    case Dtype::kInt64: return f(std::type_identity<int64_t>{});
    default: fail_index_dtype(op, t);
  }
}

}  // namespace lamina
