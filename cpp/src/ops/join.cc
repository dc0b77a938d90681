#include <algorithm>

#include "ops/common.h"

namespace lamina {

Array concatenate(std::span<const Array> arrays, int64_t axis) {
  if (arrays.empty()) fail<ValueError>("concatenate", "wants at least one array, got none");
  const Shape& first = arrays[0].shape();
  const auto at = static_cast<size_t>(normalize_axis(axis, arrays[0].ndim(), "concatenate"));
  Dtype t = arrays[0].dtype();
  Shape shape = first;
  shape[at] = 0;
  for (const Array& a : arrays) {
    bool fits = a.shape().size() == first.size();
    for (size_t i = 0; fits && i < first.size(); ++i) fits = i == at || a.shape()[i] == first[i];
    if (!fits) {
      fail<ShapeError>("concatenate", "shapes {} and {} differ outside axis {}", first, a.shape(), axis);
    }
    shape[at] += a.shape()[at];
    t = promote(t, a.dtype());
  }
  if (arrays.size() == 1) return arrays[0];
  std::vector<Array> inputs;
  for (const Array& a : arrays) inputs.push_back(astype(a, t));
  return make_node(OpId::Concatenate, t, shape, inputs, make_params(AxisParams{static_cast<int64_t>(at)}));
}

Array stack(std::span<const Array> arrays, int64_t axis) {
  if (arrays.empty()) fail<ValueError>("stack", "wants at least one array, got none");
  const int64_t at = normalize_axis(axis, arrays[0].ndim() + 1, "stack");
  std::vector<Array> expanded;
  for (const Array& a : arrays) {
    if (a.shape() != arrays[0].shape()) {
      fail<ShapeError>("stack", "all shapes must be equal, got {} and {}", arrays[0].shape(), a.shape());
    }
    expanded.push_back(expand_dims(a, {at}));
  }
  return concatenate(expanded, at);
}

std::vector<Array> split(const Array& a, const Shape& indices, int64_t axis) {
  const auto at = static_cast<size_t>(normalize_axis(axis, a.ndim(), "split"));
  Shape start(a.shape().size(), 0), stop = a.shape();
  std::vector<Array> out;
  int64_t begin = 0;
  for (size_t i = 0; i <= indices.size(); ++i) {
    const int64_t length = a.shape()[at];
    const int64_t end = i < indices.size() ? indices[i] : length;
    start[at] = begin;
    stop[at] = end;
    out.push_back(slice(a, start, stop));
    begin = end;
  }
  return out;
}

std::vector<Array> split(const Array& a, int64_t sections, int64_t axis) {
  const auto at = static_cast<size_t>(normalize_axis(axis, a.ndim(), "split"));
  const int64_t length = a.shape()[at];
  if (sections <= 0 || length % sections != 0) {
    fail<ValueError>("split", "axis {} of length {} does not divide into {} equal parts", axis, length,
                     sections);
  }
  Shape indices;
  for (int64_t i = 1; i < sections; ++i) indices.push_back(i * (length / sections));
  return split(a, indices, axis);
}

Array repeat(const Array& a, int64_t repeats, int64_t axis) {
  if (repeats < 0) fail<ValueError>("repeat", "repeats must not be negative, got {}", repeats);
  const int64_t at = normalize_axis(axis, a.ndim(), "repeat");
  const Array wide = expand_dims(a, {at + 1});
  Shape shape = wide.shape(), out = a.shape();
  shape[static_cast<size_t>(at) + 1] = repeats;
  out[static_cast<size_t>(at)] *= repeats;
  return reshape(broadcast_to(wide, shape), out);
}

Array tile(const Array& a, const Shape& repetitions) {
  Shape lengths = a.shape(), reps = repetitions;
  while (lengths.size() < reps.size()) lengths.insert(lengths.begin(), 1);
  while (reps.size() < lengths.size()) reps.insert(reps.begin(), 1);
  Shape narrow, wide, out;
  for (size_t i = 0; i < reps.size(); ++i) {
    if (reps[i] < 0) fail<ValueError>("tile", "repetitions must not be negative, got {}", repetitions);
    narrow.push_back(1);
    narrow.push_back(lengths[i]);
    wide.push_back(reps[i]);
    wide.push_back(lengths[i]);
    out.push_back(reps[i] * lengths[i]);
  }
  return reshape(broadcast_to(reshape(a, narrow), wide), out);
}

Array pad(const Array& a, std::span<const std::pair<int64_t, int64_t>> widths, const Array& value) {
  if (widths.size() != a.shape().size()) {
    fail<ValueError>("pad", "wants one pair of widths for each of {} axes, got {}", a.ndim(), widths.size());
  }
  Shape shape = a.shape(), start, stop;
  for (size_t i = 0; i < widths.size(); ++i) {
    const auto [before, after] = widths[i];
    if (before < 0 || after < 0)
      fail<ValueError>("pad", "widths must not be negative, got ({}, {})", before, after);
    start.push_back(before);
    stop.push_back(before + shape[i]);
    shape[i] += before + after;
  }
  if (shape == a.shape()) return a;
  return slice_update(full(shape, astype(value, a.dtype())), a, start, stop, Strides(shape.size(), 1));
}

Array roll(const Array& a, const Shape& shift, const Axes& axes) {
  if (shift.size() != axes.size()) {
    fail<ValueError>("roll", "wants one shift for each axis, got {} and {}", shift, axes);
  }
  Array out = a;
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto at = static_cast<size_t>(normalize_axis(axes[i], a.ndim(), "roll"));
    const int64_t length = a.shape()[at];
    if (length == 0) continue;
    const int64_t by = ((shift[i] % length) + length) % length;
    if (by == 0) continue;
    std::vector<Array> parts = split(out, Shape{length - by}, static_cast<int64_t>(at));
    std::swap(parts[0], parts[1]);
    out = concatenate(parts, static_cast<int64_t>(at));
  }
  return out;
}

Array diagonal(const Array& a, int64_t offset, int64_t axis1, int64_t axis2) {
  const int64_t i = normalize_axis(axis1, a.ndim(), "diagonal"),
                j = normalize_axis(axis2, a.ndim(), "diagonal");
  if (i == j) fail<ValueError>("diagonal", "axis1 and axis2 must differ, both are {}", axis1);
  Array m = a;
  Axes perm;
  for (int64_t k = 0; k < a.ndim(); ++k) {
    if (k != i && k != j) perm.push_back(k);
  }
  perm.push_back(i);
  perm.push_back(j);
  m = transpose(m, perm);
  const int64_t rows = m.shape(-2), cols = m.shape(-1);
  const int64_t r0 = std::max<int64_t>(-offset, 0), c0 = std::max<int64_t>(offset, 0);
  const int64_t n = std::max<int64_t>(0, std::min(rows - r0, cols - c0));
  const Array index = arange(0, n, 1, Dtype::kInt64);
  // Flattening the two axes turns the diagonal into evenly spaced elements.
  const Array flat = flatten(m, -2, -1);
  return take(flat, add(multiply(index, Array(cols + 1)), Array(r0 * cols + c0)), -1);
}

Array diag(const Array& a, int64_t k) {
  if (a.ndim() == 2) return diagonal(a, k, 0, 1);
  if (a.ndim() != 1) fail<ShapeError>("diag", "wants 1 or 2 axes, got shape {}", a.shape());
  const int64_t n = a.shape(0) + std::abs(k);
  const int64_t row0 = std::max<int64_t>(-k, 0);
  const Array on = eye(n, n, k, Dtype::kBool);
  const std::pair<int64_t, int64_t> widths[] = {{row0, n - a.shape(0) - row0}};
  const Array column = expand_dims(pad(a, widths, Array(int64_t{0}, a.dtype())), {1});
  return where(on, column, Array(int64_t{0}, a.dtype()));
}

}  // namespace lamina
