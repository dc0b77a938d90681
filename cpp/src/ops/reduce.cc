#include "ops/common.h"

namespace lamina {
namespace {

Dtype widened(Dtype t) {
  if (t == Dtype::kBool || (is_signed_integer(t) && itemsize(t) < 4)) return Dtype::kInt32;
  if (is_unsigned_integer(t) && itemsize(t) < 4) return Dtype::kUInt32;
  return t;
}

Array reduced(OpId id, const Array& x, const OptAxes& axes, bool keepdims) {
  const OpInfo& info = op_info(id);
  const Axes at = normalize_axes(axes, x.ndim(), info.name);
  if (info.result == ResultRule::kSame) {
    for (int64_t i : at) {
      if (x.shape()[static_cast<size_t>(i)] == 0) {
        fail<ShapeError>(info.name, "no extremum along axis {} of shape {}: it is empty", i, x.shape());
      }
    }
  }
  const Dtype t = info.result == ResultRule::kWiden ? widened(x.dtype()) : x.dtype();
  const Array out = reduce_keepdims(id, astype(x, t), at);
  return keepdims ? out : squeeze(out, at);
}

double count(const Array& a, const Axes& axes) {
  double n = 1;
  for (int64_t i : axes) n *= static_cast<double>(a.shape()[static_cast<size_t>(i)]);
  return n;
}

}  // namespace

// Axes of length 1 are left out: a sum of the one number -0 is -0, whatever made the graph.
Array reduce_keepdims(OpId id, const Array& x, const Axes& axes) {
  Axes long_axes;
  for (int64_t i : axes) {
    if (x.shape()[static_cast<size_t>(i)] != 1) long_axes.push_back(i);
  }
  const bool to_bool = op_info(id).result == ResultRule::kBool;
  if (long_axes.empty()) return to_bool ? astype(x, Dtype::kBool) : x;
  const Dtype out = to_bool ? Dtype::kBool : x.dtype();
  const Shape shape = keep_dims(x.shape(), long_axes);
  return make_node(id, out, shape, {x}, make_params(AxesParams{std::move(long_axes)}));
}

#define REDUCE(id, name, ...)                                      \
  Array name(const Array& x, const OptAxes& axes, bool keepdims) { \
    return reduced(OpId::id, x, axes, keepdims);                   \
  }
#include "lamina/table/reduce.def"
#undef REDUCE

Array mean(const Array& a, const OptAxes& axes, bool keepdims) {
  const Axes at = normalize_axes(axes, a.ndim(), "mean");
  const Dtype t = to_inexact(a.dtype());
  const Array total = reduce_keepdims(OpId::Sum, astype(a, t), at);
  const Array out = divide(total, Array(count(a, at), t));
  return keepdims ? out : squeeze(out, at);
}

Array var(const Array& a, const OptAxes& axes, bool keepdims, int64_t ddof) {
  const Axes at = normalize_axes(axes, a.ndim(), "var");
  const Dtype t = to_inexact(a.dtype());
  const Array x = astype(a, t);
  const Array centered = subtract(x, mean(x, at, true));
  const Array squares = is_complex(t) ? square(abs(centered)) : square(centered);
  const double n = count(a, at) - static_cast<double>(ddof);
  const Array total = reduce_keepdims(OpId::Sum, squares, at);
  const Array out = divide(total, Array(n > 0 ? n : 0, total.dtype()));
  return keepdims ? out : squeeze(out, at);
}

Array std_dev(const Array& a, const OptAxes& axes, bool keepdims, int64_t ddof) {
  return sqrt(var(a, axes, keepdims, ddof));
}

Array logsumexp(const Array& a, const OptAxes& axes, bool keepdims) {
  const Axes at = normalize_axes(axes, a.ndim(), "logsumexp");
  const Array x = astype(a, to_inexact(a.dtype()));
  if (at.empty()) return x;
  for (int64_t i : at) {
    if (x.shape()[static_cast<size_t>(i)] == 0) {
      fail<ShapeError>("logsumexp", "axis {} of shape {} is empty", i, x.shape());
    }
  }
  const Array top = stop_gradient(max(x, at, true));
  // An infinite maximum is not subtracted: inf - inf would give NaN.
  const Array shift = where(isfinite(top), top, Array(0.0, x.dtype()));
  const Array out = add(log(reduce_keepdims(OpId::Sum, exp(subtract(x, shift)), at)), shift);
  return keepdims ? out : squeeze(out, at);
}

Array softmax(const Array& a, const OptAxes& axes, bool precise) {
  const Axes at = normalize_axes(axes, a.ndim(), "softmax");
  const Dtype out = to_inexact(a.dtype());
  if (is_complex(out)) fail<DtypeError>("softmax", "not defined for dtype {}", a.dtype());
  const bool widen = precise && itemsize(out) < 4;
  const Array x = astype(a, widen ? Dtype::kFloat32 : out);
  if (x.size() == 0) return x;
  const Array e = exp(subtract(x, stop_gradient(max(x, at, true))));
  // One division a row.
  return astype(multiply(e, reciprocal(reduce_keepdims(OpId::Sum, e, at))), out);
}

namespace {

Array arg_reduced(const Array& a, std::optional<int64_t> axis, bool keepdims, bool largest) {
  const char* op = largest ? "argmax" : "argmin";
  const Array x = axis ? a : reshape(a, {-1});
  const int64_t at = axis ? normalize_axis(*axis, a.ndim(), op) : 0;
  if (x.shape()[static_cast<size_t>(at)] == 0) {
    fail<ShapeError>(op, "axis {} of shape {} is empty", at, a.shape());
  }
  const Array out = make_node(OpId::ArgReduce, Dtype::kUInt32, keep_dims(x.shape(), {at}), {x},
                              make_params(ArgReduceParams{at, largest}));
  if (!axis) return keepdims ? reshape(out, Shape(a.shape().size(), 1)) : squeeze(out, Axes{at});
  return keepdims ? out : squeeze(out, Axes{at});
}

// The array and axis that a "None means flattened" argument asks for.
std::pair<Array, int64_t> flattened(const Array& a, std::optional<int64_t> axis, const char* op) {
  if (!axis) return {reshape(a, {-1}), 0};
  return {a, normalize_axis(*axis, a.ndim(), op)};
}

void check_kth(int64_t kth, int64_t length, const char* op) {
  if (kth < -length || kth >= length) {
    fail<ValueError>(op, "kth {} is out of bounds for an axis of length {}", kth, length);
  }
}

}  // namespace

Array argmax(const Array& a, std::optional<int64_t> axis, bool keepdims) {
  return arg_reduced(a, axis, keepdims, true);
}
Array argmin(const Array& a, std::optional<int64_t> axis, bool keepdims) {
  return arg_reduced(a, axis, keepdims, false);
}

Array sort(const Array& a, std::optional<int64_t> axis) {
  const auto [x, at] = flattened(a, axis, "sort");
  return make_node(OpId::Sort, x.dtype(), x.shape(), {x}, make_params(AxisParams{at}));
}

Array argsort(const Array& a, std::optional<int64_t> axis) {
  const auto [x, at] = flattened(a, axis, "argsort");
  return make_node(OpId::ArgSort, Dtype::kUInt32, x.shape(), {x}, make_params(AxisParams{at}));
}

// A full sort is a valid partition at every kth, and its order is defined.
Array partition(const Array& a, int64_t kth, std::optional<int64_t> axis) {
  const auto [x, at] = flattened(a, axis, "partition");
  check_kth(kth, x.shape()[static_cast<size_t>(at)], "partition");
  return sort(x, at);
}

Array argpartition(const Array& a, int64_t kth, std::optional<int64_t> axis) {
  const auto [x, at] = flattened(a, axis, "argpartition");
  check_kth(kth, x.shape()[static_cast<size_t>(at)], "argpartition");
  return argsort(x, at);
}

Array topk(const Array& a, int64_t k, std::optional<int64_t> axis) {
  const auto [x, at] = flattened(a, axis, "topk");
  const int64_t length = x.shape()[static_cast<size_t>(at)];
  if (k < 0 || k > length) fail<ValueError>("topk", "k {} is not within an axis of length {}", k, length);
  Shape start(x.shape().size(), 0);
  start[static_cast<size_t>(at)] = length - k;
  return slice(sort(x, at), start, x.shape());
}

Array scan(const Array& a, ScanKind kind, std::optional<int64_t> axis, bool reverse, bool inclusive) {
  static constexpr const char* kNames[] = {"cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"};
  const auto [flat, at] = flattened(a, axis, kNames[static_cast<size_t>(kind)]);
  Dtype t = flat.dtype();
  if (kind == ScanKind::kSum || kind == ScanKind::kProd) t = widened(t);
  if (kind == ScanKind::kLogAddExp) t = to_inexact(t);
  return make_node(OpId::Scan, t, flat.shape(), {astype(flat, t)},
                   make_params(ScanParams{kind, at, reverse, inclusive}));
}

}  // namespace lamina
