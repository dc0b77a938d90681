#include <algorithm>

#include "ops/common.h"

namespace lamina {
namespace {

// The index along one axis that each padded position takes its value from; constant over the axis's new
// length.
Array padded_index(int64_t length, std::pair<int64_t, int64_t> width, PadMode mode) {
  const Array i = arange(-width.first, length + width.second, 1, Dtype::kInt64);
  const Array last(length - 1), zero(int64_t{0});
  if (mode == PadMode::kEdge) return clip(i, zero, last);
  // Both reflections repeat with a period; reflect leaves the border out, symmetric doubles it.
  const bool doubled = mode == PadMode::kSymmetric;
  const int64_t period = std::max<int64_t>(doubled ? 2 * length : 2 * length - 2, 1);
  const Array folded = remainder(i, Array(period));
  const Array mirrored = subtract(Array(doubled ? period - 1 : period), folded);
  return clip(minimum(folded, mirrored), zero, last);
}

// The positions `start[k] + 0, 1, ..., size - 1` of each axis, as index arrays that broadcast to the box.
std::vector<Array> box_indices(const Array& a, const Array& start, const Axes& axes, const Shape& sizes,
                               const char* op) {
  if (start.ndim() > 1 || start.size() != static_cast<int64_t>(axes.size()) || !is_integer(start.dtype())) {
    fail<ValueError>(op, "wants one integer start for each of {} axes, got {} of shape {}", axes.size(),
                     start.dtype(), start.shape());
  }
  const Array starts = reshape(start, {-1});
  std::vector<Array> indices;
  for (size_t k = 0; k < axes.size(); ++k) {
    const int64_t length = a.shape()[static_cast<size_t>(axes[k])], size = sizes[k];
    if (size < 0 || size > length) {
      fail<ShapeError>(op, "a size of {} does not fit axis {} of length {}", size, axes[k], length);
    }
    const auto at = static_cast<int64_t>(k);
    Array first = astype(slice(starts, {at}, {at + 1}), Dtype::kInt64);
    first = where(less(first, Array(int64_t{0})), add(first, Array(length)), first);
    first =
        clip(first, Array(int64_t{0}), Array(length - size));  // a box that leaves the array is moved inside
    Shape shape(axes.size(), 1);
    shape[k] = size;
    indices.push_back(reshape(add(first, arange(0, size, 1, Dtype::kInt64)), shape));
  }
  return indices;
}

Axes each_axis(const Axes& axes, int64_t ndim, const char* op) {
  normalize_axes(axes, ndim, op);
  Axes out;
  for (int64_t axis : axes) out.push_back(normalize_axis(axis, ndim, op));
  return out;
}

template <class T>
void append_places(const View& v, std::vector<Shape>& places) {
  const int64_t n = v.size();
  Shape at(v.shape.size(), 0);
  for (int64_t i = 0; i < n; ++i) {
    int64_t offset = 0;
    for (size_t d = 0; d < at.size(); ++d) offset += at[d] * v.strides[d];
    if (v.as<T>()[offset] != T()) places.push_back(at);
    for (size_t d = at.size(); d-- > 0;) {
      if (++at[d] < v.shape[d]) break;
      at[d] = 0;
    }
  }
}

}  // namespace

Array pad(const Array& a, std::span<const std::pair<int64_t, int64_t>> widths, PadMode mode) {
  if (widths.size() != a.shape().size()) {
    fail<ValueError>("pad", "wants one pair of widths for each of {} axes, got {}", a.ndim(), widths.size());
  }
  Array out = a;
  for (size_t i = 0; i < widths.size(); ++i) {
    const auto [before, after] = widths[i];
    if (before < 0 || after < 0)
      fail<ValueError>("pad", "widths must not be negative, got ({}, {})", before, after);
    if (before == 0 && after == 0) continue;
    if (a.shape()[i] == 0)
      fail<ShapeError>("pad", "axis {} of shape {} is empty: nothing to repeat", i, a.shape());
    out = take(out, padded_index(a.shape()[i], widths[i], mode), static_cast<int64_t>(i));
  }
  return out;
}

Array slice(const Array& a, const Array& start, const Axes& axes, const Shape& sizes) {
  Shape box = sizes;
  const Axes at = each_axis(axes, a.ndim(), "slice");
  if (box.size() == a.shape().size() &&
      at.size() < box.size()) {  // sizes of all axes: the others from their front
    Shape picked;
    for (int64_t axis : at) picked.push_back(sizes[static_cast<size_t>(axis)]);
    box = picked;
    Shape stop = sizes;
    for (int64_t axis : at) stop[static_cast<size_t>(axis)] = a.shape()[static_cast<size_t>(axis)];
    return slice(slice(a, Shape(stop.size(), 0), stop), start, at, box);
  }
  if (box.size() != at.size()) {
    fail<ValueError>("slice", "wants a size for each of {} axes, got {}", at.size(), sizes);
  }
  const std::vector<Array> indices = box_indices(a, start, at, box, "slice");
  Array out = a;
  for (size_t k = 0; k < at.size(); ++k) out = take(out, reshape(indices[k], {-1}), at[k]);
  return out;
}

Array slice_update(const Array& a, const Array& update, const Array& start, const Axes& axes) {
  const Axes at = each_axis(axes, a.ndim(), "slice_update");
  if (update.ndim() != a.ndim()) {
    fail<ShapeError>("slice_update", "an update of shape {} has not as many axes as the array of {}",
                     update.shape(), a.shape());
  }
  Shape box, rest(a.shape().size(), 1);
  Axes order = at;
  for (int64_t axis : at) box.push_back(update.shape()[static_cast<size_t>(axis)]);
  for (int64_t axis = 0; axis < a.ndim(); ++axis) {
    if (std::find(at.begin(), at.end(), axis) != at.end()) continue;
    order.push_back(axis);
    rest[static_cast<size_t>(axis)] = update.shape()[static_cast<size_t>(axis)];
  }
  const std::vector<Array> indices = box_indices(a, start, at, box, "slice_update");
  Shape shape = box;
  for (int64_t d : rest) shape.push_back(d);
  return scatter(a, indices, reshape(transpose(update, order), shape), at, ScatterMode::kSet);
}

Array searchsorted(const Array& sorted, const Array& values, bool right) {
  if (sorted.ndim() != 1) {
    fail<ShapeError>("searchsorted", "the sorted sequence must have 1 axis, got shape {}", sorted.shape());
  }
  const Dtype t = promote(sorted.dtype(), values.dtype());
  const Array keys = astype(sorted, t), wanted = astype(values, t);
  const int64_t n = sorted.shape(0);
  // Bisection, all values at once: `low` ends at the number of keys in front of each.
  Array low = zeros(values.shape(), Dtype::kInt64), high = full(values.shape(), Array(n));
  for (int64_t width = n; width > 0; width /= 2) {
    const Array middle = right_shift(add(low, high), Array(int64_t{1}));
    const Array key = take(keys, minimum(middle, Array(n - 1)), 0);
    const Array before = logical_and(less(low, high), right ? less_equal(key, wanted) : less(key, wanted));
    const Array open = less(low, high);
    high = where(logical_and(open, logical_not(before)), middle, high);
    low = where(before, add(middle, Array(int64_t{1})), low);
  }
  return astype(low, Dtype::kUInt32);
}

std::vector<Array> nonzero(const Array& a) {
  const Array flags = a.dtype() == Dtype::kBool ? a : not_equal(a, Array(int64_t{0}, a.dtype()));
  flags.eval();
  std::vector<Shape> places;
  append_places<uint8_t>(flags.node()->view(), places);
  std::vector<Array> out;
  std::vector<int64_t> column(places.size());
  for (size_t d = 0; d < a.shape().size(); ++d) {
    for (size_t i = 0; i < places.size(); ++i) column[i] = places[i][d];
    out.push_back(Array(std::span<const int64_t>(column), {static_cast<int64_t>(column.size())}));
  }
  return out;
}

}  // namespace lamina
