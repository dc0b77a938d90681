#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "core/view.h"
#include "lamina/shape.h"

namespace lamina {

// Drops axes of length 1 and merges neighbours that one step per operand can walk, in place. Axis order
// stays. Every strides[i] has shape.size() entries before, and as many as the new shape after; units do not
// matter. The result has at least one axis: {1} for a single element, {0} where nothing is to be visited.
void collapse(Shape& shape, std::span<Strides* const> strides);

// Orders the axes by the size of their steps, largest first, operands[0] deciding before operands[1] and so
// on. For elementwise work only: it changes the order of the visit, not the set of elements.
void sort_axes_by_stride(Shape& shape, std::span<Strides* const> strides);

// The loop nest that visits a common shape of N operands; strides in bytes. Innermost axis last, never empty.
template <size_t N>
struct CollapsedLoop {
  Shape shape;
  std::array<Strides, N> strides;

  int64_t size() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  int64_t inner_length() const { return shape.back(); }
  int64_t inner_stride(size_t operand) const { return strides[operand].back(); }
  std::span<const Strides> all_strides() const { return strides; }
};

// Collapses views of one shape. `keep_order` = false may reorder axes so that the first view is walked in
// memory order (elementwise work, where only the set of elements counts).
template <size_t N>
CollapsedLoop<N> collapse_views(const std::array<const View*, N>& views, bool keep_order = true) {
  CollapsedLoop<N> loop;
  loop.shape = views[0]->shape;
  std::array<Strides*, N> strides;
  for (size_t i = 0; i < N; ++i) {
    loop.strides[i] = views[i]->strides;
    for (int64_t& s : loop.strides[i]) s *= static_cast<int64_t>(itemsize(views[i]->dtype));
    strides[i] = &loop.strides[i];
  }
  if (!keep_order) sort_axes_by_stride(loop.shape, strides);
  collapse(loop.shape, strides);
  return loop;
}

// Calls body(offsets, n) for the pieces of inner rows that make up the linear range [begin, end) of the loop:
// offsets[i] is operand i's distance from its base (in the strides' unit), n the elements along the last
// axis.
template <size_t N, class Body>
void for_each_row(const Shape& shape, std::span<const Strides, N> strides, int64_t begin, int64_t end,
                  Body&& body) {
  if (begin >= end) return;
  const size_t last = shape.size() - 1;
  SmallVec<int64_t> at(shape.size());
  int64_t rest = begin;
  std::array<int64_t, N> offsets{};
  for (size_t d = shape.size(); d-- > 0;) {
    at[d] = rest % shape[d];
    rest /= shape[d];
    for (size_t i = 0; i < N; ++i) offsets[i] += at[d] * strides[i][d];
  }
  for (int64_t left = end - begin;;) {
    const int64_t n = left < shape[last] - at[last] ? left : shape[last] - at[last];
    body(std::as_const(offsets), n);
    left -= n;
    if (left == 0) return;
    for (size_t i = 0; i < N; ++i) offsets[i] -= at[last] * strides[i][last];
    at[last] = 0;
    for (size_t d = last; d-- > 0;) {
      for (size_t i = 0; i < N; ++i) offsets[i] += strides[i][d];
      if (++at[d] < shape[d]) break;
      for (size_t i = 0; i < N; ++i) offsets[i] -= shape[d] * strides[i][d];
      at[d] = 0;
    }
  }
}
template <size_t N, class Body>
void for_each_row(const CollapsedLoop<N>& loop, int64_t begin, int64_t end, Body&& body) {
  for_each_row<N>(loop.shape, std::span<const Strides, N>(loop.strides), begin, end,
                  std::forward<Body>(body));
}

// The same walk for a number of operands known at run time, one row at a time.
class Odometer {
 public:
  // `shape` and `strides` as collapse() leaves them; they must outlive the odometer. Starts at linear index
  // `start`.
  Odometer(const Shape& shape, std::span<const Strides> strides, int64_t start = 0);

  // Operand i's distance from its base at the current element.
  int64_t offset(size_t operand) const { return offsets_[operand]; }
  std::span<const int64_t> offsets() const { return {offsets_.data(), offsets_.size()}; }
  // Elements from here to the end of the inner row.
  int64_t row_left() const { return shape_.back() - at_.back(); }
  // Moves on by n <= row_left() elements. Past the last element it starts again at the first.
  void advance(int64_t n);

 private:
  const Shape& shape_;
  std::span<const Strides> strides_;
  SmallVec<int64_t> at_;
  SmallVec<int64_t, 16> offsets_;
};

// A view without axis `axis`, standing at index 0 of it.
View drop_axis(const View& v, int64_t axis);
// The part of `v` from `start` on along `axis`, `length` long.
View slice_axis(const View& v, int64_t axis, int64_t start, int64_t length);

}  // namespace lamina
