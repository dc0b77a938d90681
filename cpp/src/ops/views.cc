#include <algorithm>
#include <numeric>

#include "core/axis_error.h"
#include "ops/common.h"

namespace lamina {

int64_t normalize_axis(int64_t axis, int64_t ndim, std::string_view op) {
  if (axis < -ndim || axis >= ndim) {
    fail<AxisError>(op, "axis {} is out of bounds for an array with {} axes", axis, ndim);
  }
  return axis < 0 ? axis + ndim : axis;
}

Axes normalize_axes(const OptAxes& axes, int64_t ndim, std::string_view op) {
  Axes out;
  if (!axes) {
    out.resize(static_cast<size_t>(ndim));
    std::iota(out.begin(), out.end(), int64_t{0});
    return out;
  }
  for (int64_t a : *axes) out.push_back(normalize_axis(a, ndim, op));
  std::sort(out.begin(), out.end());
  if (std::adjacent_find(out.begin(), out.end()) != out.end()) {
    fail<ValueError>(op, "axes {} name an axis twice", *axes);
  }
  return out;
}

Shape keep_dims(const Shape& shape, const Axes& axes) {
  Shape out = shape;
  for (int64_t a : axes) out[static_cast<size_t>(a)] = 1;
  return out;
}

Shape drop_dims(const Shape& shape, const Axes& axes) {
  Shape out;
  for (size_t i = 0, j = 0; i < shape.size(); ++i) {
    if (j < axes.size() && axes[j] == static_cast<int64_t>(i)) {
      ++j;
    } else {
      out.push_back(shape[i]);
    }
  }
  return out;
}

bool broadcasts_to(const Shape& from, const Shape& to) {
  bool fits = from.size() <= to.size();
  for (size_t i = 0, shift = to.size() - from.size(); fits && i < from.size(); ++i) {
    fits = from[i] == to[shift + i] || from[i] == 1;
  }
  return fits;
}

Array broadcast_to(const Array& a, const Shape& shape) {
  if (a.shape() == shape) return a;
  if (!broadcasts_to(a.shape(), shape)) {
    fail<ShapeError>("broadcast_to", "shape {} does not broadcast to {}", a.shape(), shape);
  }
  num_elements(shape);
  return make_node(OpId::Broadcast, a.dtype(), shape, {a});
}

std::vector<Array> broadcast_arrays(std::span<const Array> arrays) {
  Shape shape;
  for (const Array& a : arrays) shape = broadcast_shapes(shape, a.shape(), "broadcast_arrays");
  std::vector<Array> out;
  for (const Array& a : arrays) out.push_back(broadcast_to(a, shape));
  return out;
}

Array reshape(const Array& a, const Shape& shape) {
  Shape wanted = shape;
  int64_t known = 1;
  int unknown = -1;
  bool overflow = false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] == -1 && unknown < 0) {
      unknown = static_cast<int>(i);
    } else if (wanted[i] < 0) {
      fail<ShapeError>("reshape", "at most one length may be -1, others not negative: got {}", shape);
    } else {
      overflow |= __builtin_mul_overflow(known, wanted[i], &known);
    }
  }
  if (unknown >= 0 && known > 0 && !overflow && a.size() % known == 0) {
    wanted[static_cast<size_t>(unknown)] = a.size() / known;
    known = a.size();
  } else if (unknown >= 0) {
    known = -1;
  }
  if (overflow || known != a.size()) {
    fail<ShapeError>("reshape", "cannot reshape {} elements of shape {} into {}", a.size(), a.shape(), shape);
  }
  if (wanted == a.shape()) return a;
  return make_node(OpId::Reshape, a.dtype(), wanted, {a});
}

Array flatten(const Array& a, int64_t start_axis, int64_t end_axis) {
  if (a.ndim() == 0) return reshape(a, {1});
  const int64_t s = normalize_axis(start_axis, a.ndim(), "flatten");
  const int64_t e = normalize_axis(end_axis, a.ndim(), "flatten");
  if (e < s) fail<ValueError>("flatten", "start_axis {} lies behind end_axis {}", start_axis, end_axis);
  Shape shape(a.shape().begin(), a.shape().begin() + s);
  int64_t merged = 1;
  for (int64_t i = s; i <= e; ++i) merged *= a.shape()[static_cast<size_t>(i)];
  shape.push_back(merged);
  for (int64_t i = e + 1; i < a.ndim(); ++i) shape.push_back(a.shape()[static_cast<size_t>(i)]);
  return reshape(a, shape);
}

Array unflatten(const Array& a, int64_t axis, const Shape& shape) {
  if (shape.empty()) fail<ShapeError>("unflatten", "wants at least one length, got ()");
  const int64_t at = normalize_axis(axis, a.ndim(), "unflatten");
  const int64_t length = a.shape()[static_cast<size_t>(at)];
  Shape part = shape;
  int64_t known = 1;
  for (int64_t d : part) known *= d == -1 ? 1 : d;
  for (int64_t& d : part) {
    if (d == -1 && known > 0 && length % known == 0) {
      d = length / known;
      known = length;
    }
  }
  if (known != length || std::any_of(part.begin(), part.end(), [](int64_t d) { return d < 0; })) {
    fail<ShapeError>("unflatten", "axis {} of length {} does not split into {}", axis, length, shape);
  }
  Shape out(a.shape().begin(), a.shape().begin() + at);
  for (int64_t d : part) out.push_back(d);
  for (int64_t i = at + 1; i < a.ndim(); ++i) out.push_back(a.shape()[static_cast<size_t>(i)]);
  return reshape(a, out);
}

Array transpose(const Array& a, const OptAxes& axes) {
  Axes perm;
  if (axes) {
    for (int64_t x : *axes) perm.push_back(normalize_axis(x, a.ndim(), "transpose"));
    Axes sorted = normalize_axes(axes, a.ndim(), "transpose");
    if (static_cast<int>(sorted.size()) != a.ndim()) {
      fail<ValueError>("transpose", "wants each of {} axes once, got {}", a.ndim(), *axes);
    }
  } else {
    for (int64_t i = a.ndim(); i-- > 0;) perm.push_back(i);
  }
  Shape shape;
  bool same = true;
  for (size_t i = 0; i < perm.size(); ++i) {
    shape.push_back(a.shape()[static_cast<size_t>(perm[i])]);
    same &= perm[i] == static_cast<int64_t>(i);
  }
  if (same) return a;
  return make_node(OpId::Transpose, a.dtype(), shape, {a}, make_params(AxesParams{perm}));
}

Array swapaxes(const Array& a, int64_t axis1, int64_t axis2) {
  const int64_t i = normalize_axis(axis1, a.ndim(), "swapaxes"),
                j = normalize_axis(axis2, a.ndim(), "swapaxes");
  Axes perm = normalize_axes(std::nullopt, a.ndim(), "swapaxes");
  std::swap(perm[static_cast<size_t>(i)], perm[static_cast<size_t>(j)]);
  return transpose(a, perm);
}

Array moveaxis(const Array& a, int64_t source, int64_t destination) {
  const int64_t s = normalize_axis(source, a.ndim(), "moveaxis");
  const int64_t d = normalize_axis(destination, a.ndim(), "moveaxis");
  Axes perm = normalize_axes(std::nullopt, a.ndim(), "moveaxis");
  perm.erase(perm.begin() + s);
  perm.insert(perm.begin() + d, s);
  return transpose(a, perm);
}

Array expand_dims(const Array& a, const Axes& axes) {
  if (axes.empty()) return a;
  const auto ndim = static_cast<int64_t>(a.shape().size() + axes.size());
  const Axes at = normalize_axes(axes, ndim, "expand_dims");
  Shape shape;
  for (int64_t i = 0, j = 0, k = 0; i < ndim; ++i) {
    const bool fresh = static_cast<size_t>(j) < at.size() && at[static_cast<size_t>(j)] == i;
    shape.push_back(fresh ? 1 : a.shape()[static_cast<size_t>(k)]);
    (fresh ? j : k) += 1;
  }
  return make_node(OpId::ExpandDims, a.dtype(), shape, {a}, make_params(AxesParams{at}));
}

Array squeeze(const Array& a, const OptAxes& axes) {
  Axes at;
  if (axes) {
    at = normalize_axes(axes, a.ndim(), "squeeze");
  } else {
    for (int64_t i = 0; i < a.ndim(); ++i) {
      if (a.shape()[static_cast<size_t>(i)] == 1) at.push_back(i);
    }
  }
  for (int64_t i : at) {
    if (a.shape()[static_cast<size_t>(i)] != 1) {
      fail<ShapeError>("squeeze", "axis {} of shape {} has not length 1", i, a.shape());
    }
  }
  if (at.empty()) return a;
  return make_node(OpId::Squeeze, a.dtype(), drop_dims(a.shape(), at), {a}, make_params(AxesParams{at}));
}

namespace {

// NumPy's clamping of one slice; returns its length.
int64_t clamp_slice(int64_t& start, int64_t stop, int64_t step, int64_t length) {
  auto clamp = [&](int64_t v) {
    if (v < 0) v += length;
    return step > 0 ? std::clamp<int64_t>(v, 0, length) : std::clamp<int64_t>(v, -1, length - 1);
  };
  start = clamp(start);
  // A stop at or below -length - 1 means "past the front" for negative steps.
  const int64_t end = step < 0 && stop < -length ? -1 : clamp(stop);
  const int64_t span = step > 0 ? end - start : start - end;
  const int64_t width = step > 0 ? step : -step;
  return span <= 0 ? 0 : (span - 1) / width + 1;
}

struct Box {
  Shape shape;
  SliceParams params;
  bool whole = true;
};

Box slice_box(const Shape& shape, const Shape& start, const Shape& stop, const Strides& strides,
              const char* op) {
  if (start.size() != shape.size() || stop.size() != shape.size() || strides.size() != shape.size()) {
    fail<ValueError>(op, "wants start, stop and strides for {} axes, got {}, {} and {}", shape.size(),
                     start.size(), stop.size(), strides.size());
  }
  Box box;
  box.params = {start, strides};
  for (size_t i = 0; i < shape.size(); ++i) {
    if (strides[i] == 0 || strides[i] == INT64_MIN)
      fail<ValueError>(op, "a step of {} is not possible", strides[i]);
    box.shape.push_back(clamp_slice(box.params.start[i], stop[i], strides[i], shape[i]));
    if (box.shape[i] == 0) box.params.start[i] = 0;
    box.whole &= box.shape[i] == shape[i] && strides[i] == 1;
  }
  return box;
}

Array combine(ScatterMode mode, const Array& old, const Array& values) {
  switch (mode) {
    case ScatterMode::kAdd: return add(old, values);
    case ScatterMode::kMultiply: return multiply(old, values);
    case ScatterMode::kMax: return maximum(old, values);
    case ScatterMode::kMin: return minimum(old, values);
    default: return values;
  }
}

}  // namespace

Array slice(const Array& a, const Shape& start, const Shape& stop, const Strides& strides) {
  Box box = slice_box(a.shape(), start, stop, strides, "slice");
  if (box.whole) return a;
  return make_node(OpId::Slice, a.dtype(), box.shape, {a}, make_params(std::move(box.params)));
}

Array slice(const Array& a, const Shape& start, const Shape& stop) {
  return slice(a, start, stop, Strides(a.shape().size(), 1));
}

Array slice_update(const Array& a, const Array& update, const Shape& start, const Shape& stop,
                   const Strides& strides, ScatterMode mode) {
  Box box = slice_box(a.shape(), start, stop, strides, "slice_update");
  Array values = broadcast_to(astype(update, a.dtype()), box.shape);
  if (mode != ScatterMode::kSet) values = combine(mode, slice(a, start, stop, strides), values);
  if (box.whole) return values;
  return make_node(OpId::SliceUpdate, a.dtype(), a.shape(), {a, values},
                   make_params(SliceUpdateParams{box.params.start, box.params.strides}));
}

Array flip(const Array& a, const OptAxes& axes) {
  Shape start(a.shape().size(), 0), stop = a.shape();
  Strides step(a.shape().size(), 1);
  for (int64_t i : normalize_axes(axes, a.ndim(), "flip")) {
    const auto at = static_cast<size_t>(i);
    start[at] = a.shape()[at] - 1;
    stop[at] = -a.shape()[at] - 1;
    step[at] = -1;
  }
  return slice(a, start, stop, step);
}

Array as_strided(const Array& a, const Shape& shape, const Strides& strides, int64_t offset) {
  if (shape.size() != strides.size()) {
    fail<ShapeError>("as_strided", "wants as many strides as lengths, got {} and {}", strides, shape);
  }
  int64_t low = offset, high = offset;
  bool bad = offset < 0;
  for (size_t i = 0; i < shape.size(); ++i) {
    int64_t reach = 0;
    bad |= shape[i] < 0 || __builtin_mul_overflow(shape[i] - 1, strides[i], &reach);
    bad |= __builtin_add_overflow(reach < 0 ? low : high, reach, reach < 0 ? &low : &high);
  }
  if (bad || (num_elements(shape) > 0 && (low < 0 || high >= a.size()))) {
    fail<ValueError>("as_strided", "shape {} with strides {} and offset {} leaves an array of {} elements",
                     shape, strides, offset, a.size());
  }
  return make_node(OpId::AsStrided, a.dtype(), shape, {contiguous(reshape(a, {-1}))},
                   make_params(AsStridedParams{strides, offset}));
}

Array contiguous(const Array& a) { return make_node(OpId::Contiguous, a.dtype(), a.shape(), {a}); }

Array view(const Array& a, Dtype dtype) {
  const auto from = static_cast<int64_t>(itemsize(a.dtype())), to = static_cast<int64_t>(itemsize(dtype));
  if (a.dtype() == dtype) return a;
  if (from == to) return make_node(OpId::ViewAs, dtype, a.shape(), {a});
  if (a.ndim() == 0) {
    fail<ShapeError>("view", "a 0-d {} array has no axis to rescale for {}", a.dtype(), dtype);
  }
  Shape shape = a.shape();
  if (shape.back() * from % to != 0) {
    fail<ShapeError>("view", "a last axis of {} {} elements does not divide into {}", shape.back(), a.dtype(),
                     dtype);
  }
  shape.back() = shape.back() * from / to;
  return make_node(OpId::ViewAs, dtype, shape, {contiguous(a)});
}

Array stop_gradient(const Array& a) { return make_node(OpId::StopGradient, a.dtype(), a.shape(), {a}); }

std::vector<Array> depends(std::span<const Array> inputs, std::span<const Array> dependencies) {
  std::vector<Array> out;
  for (const Array& a : inputs) {
    std::vector<Array> all{a};
    all.insert(all.end(), dependencies.begin(), dependencies.end());
    out.push_back(make_node(OpId::Depends, a.dtype(), a.shape(), all));
  }
  return out;
}

}  // namespace lamina
