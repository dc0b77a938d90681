#include <algorithm>

#include "ops/common.h"

namespace lamina {
namespace {

Dtype result_dtype(const OpInfo& info, Dtype compute) {
  switch (info.result) {
    case ResultRule::kBool: return Dtype::kBool;
    case ResultRule::kRealPart: return is_complex(compute) ? Dtype::kFloat32 : compute;
    default: return compute;
  }
}

Array unary(OpId id, const Array& x) {
  if (id == OpId::Negative && x.dtype() == Dtype::kBool) {
    fail<DtypeError>("negative", "not defined for dtype bool; logical_not(a) or ~a inverts it");
  }
  const Dtype t = compute_dtype(id, x.dtype());
  return elementwise(id, result_dtype(op_info(id), t), x.shape(), {astype(x, t)});
}

Array binary(OpId id, const Array& a, const Array& b) {
  const OpInfo& info = op_info(id);
  const Dtype t = compute_dtype(id, promote(a.dtype(), b.dtype()));
  const Shape shape =
      a.shape() == b.shape() ? a.shape() : broadcast_shapes(a.shape(), b.shape(), info.name.data());
  return elementwise(id, result_dtype(info, t), shape, {astype(a, t), astype(b, t)});
}

}  // namespace

Dtype compute_dtype(OpId id, Dtype t) {
  const OpInfo& info = op_info(id);
  if (contains(info.dtypes, t)) return t;
  if (!is_inexact(t) && contains(info.dtypes, Dtype::kFloat32)) return Dtype::kFloat32;
  if (t == Dtype::kBool && contains(info.dtypes, Dtype::kInt32)) return Dtype::kInt32;
  fail<DtypeError>(info.name, "not defined for dtype {}", t);
}

Array elementwise(OpId id, Dtype dtype, const Shape& shape, std::initializer_list<Array> inputs) {
  return make_node(id, dtype, shape, inputs);
}

#define UNARY(id, name, ...) \
  Array name(const Array& x) { return unary(OpId::id, x); }
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, name, ...) \
  Array name(const Array& a, const Array& b) { return binary(OpId::id, a, b); }
#include "lamina/table/binary.def"
#undef BINARY

Array astype(const Array& a, Dtype dtype) {
  if (a.dtype() == dtype) return a;
  return elementwise(OpId::Cast, dtype, a.shape(), {a});
}

Array where(const Array& condition, const Array& x, const Array& y) {
  const Dtype t = promote(x.dtype(), y.dtype());
  const Shape shape =
      broadcast_shapes(condition.shape(), broadcast_shapes(x.shape(), y.shape(), "where"), "where");
  return elementwise(OpId::Select, t, shape, {astype(condition, Dtype::kBool), astype(x, t), astype(y, t)});
}

Array clip(const Array& a, const std::optional<Array>& lo, const std::optional<Array>& hi) {
  if (!lo && !hi) fail<ValueError>("clip", "wants a_min or a_max, neither came");
  Array out = lo ? maximum(a, *lo) : a;
  return hi ? minimum(out, *hi) : out;
}

Array weak_scalar(bool v, Dtype other) { return Array(static_cast<int64_t>(v), other); }

Array weak_scalar(int64_t v, Dtype other) {
  if (other != Dtype::kBool) return Array(v, other);
  const bool small = v >= INT32_MIN && v <= INT32_MAX;
  return Array(v, small ? Dtype::kInt32 : Dtype::kInt64);
}

Array weak_scalar(double v, Dtype other) { return Array(v, to_inexact(other)); }

Array weak_scalar(std::complex<double> v, Dtype) { return Array(v, Dtype::kComplex64); }

Array isclose(const Array& a, const Array& b, double rtol, double atol, bool equal_nan) {
  const Dtype t = to_inexact(promote(a.dtype(), b.dtype()));
  const Array x = astype(a, t), y = astype(b, t);
  const Dtype r = is_complex(t) ? Dtype::kFloat32 : t;
  const Array bound = add(Array(atol, r), multiply(Array(rtol, r), abs(y)));
  Array close = logical_and(less_equal(abs(subtract(x, y)), bound), logical_and(isfinite(x), isfinite(y)));
  close = logical_or(close, equal(x, y));
  if (equal_nan) close = logical_or(close, logical_and(isnan(x), isnan(y)));
  return close;
}

Array allclose(const Array& a, const Array& b, double rtol, double atol, bool equal_nan) {
  return all(isclose(a, b, rtol, atol, equal_nan));
}

Array array_equal(const Array& a, const Array& b, bool equal_nan) {
  if (a.shape() != b.shape()) return Array(false);
  Array same = equal(a, b);
  if (equal_nan) same = logical_or(same, logical_and(isnan(a), isnan(b)));
  return all(same);
}

}  // namespace lamina
