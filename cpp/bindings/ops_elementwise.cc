#include "bindings/convert.h"
#include "bindings/ops.h"

namespace lamina::bind {
namespace {

// x and y of where(condition, x, y), a Python number beside an array taking its dtype.
std::pair<Array, Array> branches(const Any& x_any, const Any& y_any) {
  Array x, y;
  if (!operand_pair(x_any.object, y_any.object, x, y)) (as_array(x_any.object) ? y_any : x_any).wrong();
  return {x, y};
}

std::optional<Array> limit(const Any& any, const Array& a) {
  if (any.object == Py_None) return std::nullopt;
  const ScalarKind kind = scalar_kind(any.object);
  if (kind != ScalarKind::kNone) return weak_array(any.object, kind, a.dtype());
  const std::optional<Array> v = as_array(any.object);
  if (!v) any.wrong();
  return v;
}

void add_selection(const Scope& core) {
  def(core,
      "where(condition: scalar | array, x: scalar | array | None = None, y: scalar | array | None = None, /, "
      "*, "
      "stream: StreamOrDevice = None) -> array | tuple[array, ...]",
      "`x` where the condition is true, else `y`, with broadcasting.\n\n"
      "With the condition alone: the indices of its true elements, as `nonzero` gives them.\n"
      "@condition Array of bool, or of numbers that count as true where they are not zero.\n"
      "@x Values where it is true.\n@y Values where it is false.\n"
      "@raises ValueError For shapes that do not broadcast.\n@raises TypeError Where only one of x and y is "
      "given.\n"
      ">>> mx.where(mx.array([True, False]), 1, mx.array([5, 6]))\narray([1, 6], dtype=int32)\n",
      [](const Array& condition, Any x, Any y) -> PyObject* {
        const bool no_x = x.object == Py_None, no_y = y.object == Py_None;
        if (no_x && no_y) {
          evaluate_released(condition, "nonzero");
          return wrap_tuple(nonzero(condition));
        }
        if (no_x || no_y) throw TypeError("[where] wants both x and y or neither, got one");
        const auto [a, b] = branches(x, y);
        return wrap(where(condition, a, b));
      });
  def(core, "nonzero(a: array, /) -> tuple[array, ...]",
      "The indices of the elements that are not zero, one int64 array for each axis.\n\n"
      "Evaluates `a`: its values decide the shape of the result.\n"
      ">>> mx.nonzero(mx.array([0, 3, 0, 4]))\n(array([1, 3], dtype=int64),)\n",
      [](const Array& a) {
        evaluate_released(a, "nonzero");
        return ArrayTuple(nonzero(a));
      });
  def(core,
      "clip(a: array, /, a_min: scalar | array | None, a_max: scalar | array | None, *, stream: "
      "StreamOrDevice = None) "
      "-> array",
      "The array with values below `a_min` and above `a_max` replaced by them.\n@a_min Smallest value, or "
      "None.\n"
      "@a_max Largest value, or None.\n@raises ValueError Where both are None.\n"
      ">>> mx.clip(mx.array([1, 5, 9]), 2, 6)\narray([2, 5, 6], dtype=int32)\n",
      [](const Array& a, Any lo, Any hi) { return clip(a, limit(lo, a), limit(hi, a)); });
  def(core,
      "nan_to_num(a: scalar | array, nan: float = 0, posinf: float | None = None, neginf: float | None = "
      "None, *, "
      "stream: StreamOrDevice = None) -> array",
      "The array with NaN and infinities replaced.\n@nan What NaN becomes.\n"
      "@posinf What infinity becomes; the dtype's largest number by default.\n"
      "@neginf What negative infinity becomes; the dtype's most negative number by default.\n"
      ">>> mx.nan_to_num(mx.array([float('nan'), 1.0]))\narray([0, 1], dtype=float32)\n",
      [](const Array& a, double nan, std::optional<double> posinf, std::optional<double> neginf) {
        return nan_to_num(a, nan, posinf, neginf);
      });
}

void add_comparison(const Scope& core) {
  def(core,
      "isclose(a: array, b: array, /, rtol: float = 1e-05, atol: float = 1e-08, *, equal_nan: bool = False, "
      "stream: "
      "StreamOrDevice = None) -> array",
      "True where |a - b| <= atol + rtol * |b|, or both are the same infinity.\n"
      ">>> mx.isclose(mx.array([1.0, 2.0]), mx.array([1.0, 2.1]))\narray([True, False], dtype=bool)\n",
      [](Any a, Any b, double rtol, double atol, bool nan) {
        const auto [x, y] = branches(a, b);
        return isclose(x, y, rtol, atol, nan);
      });
  def(core,
      "allclose(a: array, b: array, /, rtol: float = 1e-05, atol: float = 1e-08, *, equal_nan: bool = False, "
      "stream: "
      "StreamOrDevice = None) -> array",
      "True where `isclose` is true for all elements.\n>>> mx.allclose(mx.ones(3), mx.ones(3))\narray(True, "
      "dtype=bool)\n",
      [](Any a, Any b, double rtol, double atol, bool nan) {
        const auto [x, y] = branches(a, b);
        return allclose(x, y, rtol, atol, nan);
      });
  def(core,
      "array_equal(a: scalar | array, b: scalar | array, equal_nan: bool = False, stream: StreamOrDevice = "
      "None) -> "
      "array",
      "True where shapes and all elements are equal.\n@b Second input.\n>>> mx.array_equal(mx.array([1, 2]), "
      "mx.array([1, 3]))\narray(False, dtype=bool)\n",
      [](Any a, Any b, bool nan) {
        const auto [x, y] = branches(a, b);
        return array_equal(x, y, nan);
      });
}

void add_dtype_ops(const Scope& core, const Scope& type) {
  def(core, "astype(a: array, dtype: Dtype, /, *, stream: StreamOrDevice = None) -> array",
      "The array converted to another dtype; floats are truncated towards zero for integers.\n"
      ">>> mx.astype(mx.array([1.7, -1.7]), mx.int32)\narray([1, -1], dtype=int32)\n",
      [](const Array& a, Dtype t) { return astype(a, t); });
  def(type, "astype(self, dtype: Dtype, stream: StreamOrDevice = None) -> array",
      "The array converted to another dtype; floats are truncated towards zero for integers.\n"
      ">>> mx.array([1.7, -1.7]).astype(mx.int32)\narray([1, -1], dtype=int32)\n",
      [](const Array& a, Dtype t) { return astype(a, t); });
  def_both(core, type, "view(a: scalar | array, dtype: Dtype, stream: StreamOrDevice = None) -> array",
           "The same bytes read as another dtype; the last axis is rescaled where the sizes differ.\n"
           "@raises ValueError Where the bytes of the last axis do not divide.\n"
           ">>> mx.view(mx.array([1.0]), mx.int32)\narray([1065353216], dtype=int32)\n",
           [](const Array& a, Dtype t) { return view(a, t); });
}

void add_arithmetic(const Scope& core, const Scope& type) {
  def_both(core, type, "round(a: array, /, decimals: int = 0, stream: StreamOrDevice = None) -> array",
           "Rounds to a number of decimals, halves to the even digit.\n@decimals Digits behind the point; "
           "negative ones in front of it.\n"
           ">>> mx.round(mx.array([1.25, 2.5]), 1)\narray([1.2, 2.5], dtype=float32)\n>>> "
           "mx.round(mx.array([1.5, 2.5]))\narray([2, 2], dtype=float32)\n",
           [](const Array& a, int64_t decimals) { return round(a, decimals); });
  def(core, "positive(a: array, /, *, stream: StreamOrDevice = None) -> array",
      "The array itself.\n>>> mx.positive(mx.array([-1]))\narray([-1], dtype=int32)\n",
      [](const Array& a) { return a; });
  def(core, "degrees(a: scalar | array, /, *, stream: StreamOrDevice = None) -> array",
      "Angles in degrees from angles in radians.\n>>> mx.degrees(mx.array([mx.pi]))\narray([180], "
      "dtype=float32)\n",
      [](const Array& a) { return degrees(a); });
  def(core, "radians(a: scalar | array, /, *, stream: StreamOrDevice = None) -> array",
      "Angles in radians from angles in degrees.\n>>> mx.radians(mx.array([180.0]))\narray([3.14159], "
      "dtype=float32)\n",
      [](const Array& a) { return radians(a); });
  def(core,
      "divmod(a: scalar | array, b: scalar | array, stream: StreamOrDevice = None) -> tuple[array, array]",
      "Floor of a / b, and the remainder.\n>>> mx.divmod(mx.array([7, -7]), 3)\n(array([2, -3], "
      "dtype=int32), array([1, 2], dtype=int32))\n",
      [](Any a, Any b) {
        const auto [x, y] = branches(a, b);
        return ArrayTuple(std::vector<Array>{floor_divide(x, y), remainder(x, y)});
      });
  def(core, "stop_gradient(a: array, /, *, stream: StreamOrDevice = None) -> array",
      "The array, through which no gradient flows.\n>>> mx.grad(lambda x: x * "
      "mx.stop_gradient(x))(mx.array(3.0))\narray(3, dtype=float32)\n",
      [](const Array& a) { return stop_gradient(a); });
}

}  // namespace

void add_elementwise(const Scope& core, const Scope& type) {
  add_selection(core);
  add_comparison(core);
  add_dtype_ops(core, type);
  add_arithmetic(core, type);
}

}  // namespace lamina::bind
