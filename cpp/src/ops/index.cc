#include <algorithm>

#include "ops/common.h"

namespace lamina {
namespace {

void check_index_dtype(const Array& indices, const char* op) {
  if (!is_integer(indices.dtype())) {
    fail<DtypeError>(op, "indices must be integers, got {}", indices.dtype());
  }
}

Axes checked_axes(std::span<const Array> indices, const Axes& axes, int64_t ndim, const char* op) {
  if (indices.size() != axes.size()) {
    fail<ValueError>(op, "wants one axis for each index array, got {} axes and {} arrays", axes.size(),
                     indices.size());
  }
  normalize_axes(axes, ndim, op);
  Axes out;
  for (int64_t a : axes) out.push_back(normalize_axis(a, ndim, op));
  for (const Array& i : indices) check_index_dtype(i, op);
  return out;
}

}  // namespace

Array gather(const Array& a, std::span<const Array> indices, const Axes& axes, const Shape& slice_sizes) {
  const Axes at = checked_axes(indices, axes, a.ndim(), "gather");
  bool fits = slice_sizes.size() == a.shape().size();
  for (size_t i = 0; fits && i < slice_sizes.size(); ++i) {
    fits = slice_sizes[i] >= 0 && slice_sizes[i] <= a.shape()[i];
  }
  if (!fits) fail<ShapeError>("gather", "slices of {} do not fit an array of {}", slice_sizes, a.shape());
  std::vector<Array> inputs = broadcast_arrays(indices);
  Shape shape = inputs.empty() ? Shape{} : inputs[0].shape();
  for (int64_t d : slice_sizes) shape.push_back(d);
  inputs.insert(inputs.begin(), a);
  return make_node(OpId::Gather, a.dtype(), shape, inputs, make_params(GatherParams{at, slice_sizes}));
}

Array scatter(const Array& a, std::span<const Array> indices, const Array& updates, const Axes& axes,
              ScatterMode mode) {
  const Axes at = checked_axes(indices, axes, a.ndim(), "scatter");
  std::vector<Array> index = broadcast_arrays(indices);
  const Shape& outer = index.empty() ? Shape{} : index[0].shape();
  const Shape& u = updates.shape();
  bool fits =
      u.size() == outer.size() + a.shape().size() && std::equal(outer.begin(), outer.end(), u.begin());
  for (size_t i = 0; fits && i < a.shape().size(); ++i) fits = u[outer.size() + i] <= a.shape()[i];
  if (!fits) {
    fail<ShapeError>("scatter", "updates of {} do not fit indices of {} into an array of {}", u, outer,
                     a.shape());
  }
  std::vector<Array> inputs{a, astype(updates, a.dtype())};
  inputs.insert(inputs.end(), index.begin(), index.end());
  return make_node(OpId::Scatter, a.dtype(), a.shape(), inputs, make_params(ScatterParams{at, mode}));
}

Array take(const Array& a, const Array& indices, std::optional<int64_t> axis) {
  check_index_dtype(indices, "take");
  if (!axis) return take(reshape(a, {-1}), indices, 0);
  const int64_t at = normalize_axis(*axis, a.ndim(), "take");
  Shape sizes = a.shape();
  if (sizes[static_cast<size_t>(at)] == 0 && indices.size() > 0) {
    fail<IndexError>("take", "no index fits axis {} of length 0", at);
  }
  sizes[static_cast<size_t>(at)] = std::min<int64_t>(1, sizes[static_cast<size_t>(at)]);
  const Array rows = gather(a, std::span(&indices, 1), {at}, sizes);
  const int64_t outer = indices.ndim();
  Shape shape = rows.shape();
  const bool none = shape[static_cast<size_t>(outer + at)] == 0;
  const Array dense = none ? reshape(rows, drop_dims(shape, {outer + at})) : squeeze(rows, Axes{outer + at});
  // The index axes come first; they belong where the indexed axis was.
  Axes perm;
  for (int64_t i = 0; i < at; ++i) perm.push_back(outer + i);
  for (int64_t i = 0; i < outer; ++i) perm.push_back(i);
  for (int64_t i = outer + at; i < dense.ndim(); ++i) perm.push_back(i);
  return transpose(dense, perm);
}

namespace {

// Index array against array: equal lengths off the axis, or broadcast to them.
struct AlongAxis {
  Array a, indices;
  int64_t axis;
  Shape shape;
};

AlongAxis along_axis(const Array& a, const Array& indices, std::optional<int64_t> axis, const char* op) {
  check_index_dtype(indices, op);
  const Array x = axis ? a : reshape(a, {-1});
  const Array i = axis ? indices : reshape(indices, {-1});
  const int64_t at = axis ? normalize_axis(*axis, a.ndim(), op) : 0;
  if (x.ndim() != i.ndim()) {
    fail<ShapeError>(op, "array and indices must have as many axes, got shapes {} and {}", a.shape(),
                     indices.shape());
  }
  Shape xs = x.shape(), is = i.shape();
  xs[static_cast<size_t>(at)] = is[static_cast<size_t>(at)] = 1;
  Shape common = broadcast_shapes(xs, is, op);
  Shape wide_x = common, wide_i = common;
  wide_x[static_cast<size_t>(at)] = x.shape()[static_cast<size_t>(at)];
  wide_i[static_cast<size_t>(at)] = i.shape()[static_cast<size_t>(at)];
  return {broadcast_to(x, wide_x), broadcast_to(i, wide_i), at, wide_i};
}

}  // namespace

Array take_along_axis(const Array& a, const Array& indices, std::optional<int64_t> axis) {
  const AlongAxis p = along_axis(a, indices, axis, "take_along_axis");
  return make_node(OpId::GatherAxis, a.dtype(), p.shape, {p.a, p.indices}, make_params(AxisParams{p.axis}));
}

Array put_along_axis(const Array& a, const Array& indices, const Array& values, std::optional<int64_t> axis,
                     ScatterMode mode) {
  const AlongAxis p = along_axis(a, indices, axis, "put_along_axis");
  Array v = astype(values, a.dtype());
  if (!axis && values.shape() == indices.shape()) v = reshape(v, {-1});
  const Array out =
      make_node(OpId::ScatterAxis, a.dtype(), p.a.shape(), {p.a, p.indices, broadcast_to(v, p.shape)},
                make_params(ScatterAxisParams{p.axis, mode}));
  return axis ? out : reshape(out, a.shape());
}

}  // namespace lamina
