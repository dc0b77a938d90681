#include <fmt/format.h>

#include "bindings/convert.h"
#include "bindings/ops.h"

namespace lamina::bind {
namespace {

// A fill value beside an optional dtype: Python numbers are exact in it, and integers must fit.
Array fill_value(const Any& any, std::optional<Dtype> dtype) {
  const ScalarKind kind = scalar_kind(any.object);
  if (kind == ScalarKind::kInt && dtype && is_integer(*dtype)) return weak_array(any.object, kind, *dtype);
  if (kind != ScalarKind::kNone) return strong_scalar(any.object, kind, dtype);
  const std::optional<Array> a = as_array(any.object);
  if (!a) any.wrong();
  return *a;
}

void add_fills(const Scope& core) {
  def(core,
      "zeros(shape: int | Sequence[int], dtype: Dtype | None = float32, *, stream: StreamOrDevice = None) -> "
      "array",
      "An array of zeros.\n@raises ValueError For negative lengths.\n"
      ">>> mx.zeros((2, 2))\narray([[0, 0],\n       [0, 0]], dtype=float32)\n",
      [](const Shape& shape, std::optional<Dtype> t) { return zeros(shape, t.value_or(Dtype::kFloat32)); });
  def(core,
      "ones(shape: int | Sequence[int], dtype: Dtype | None = float32, *, stream: StreamOrDevice = None) -> "
      "array",
      "An array of ones.\n@raises ValueError For negative lengths.\n>>> mx.ones(2, mx.int8)\narray([1, 1], "
      "dtype=int8)\n",
      [](const Shape& shape, std::optional<Dtype> t) { return ones(shape, t.value_or(Dtype::kFloat32)); });
  def(core,
      "empty(shape: int | Sequence[int], dtype: Dtype | None = float32, *, stream: StreamOrDevice = None) -> "
      "array",
      "An array whose values mean nothing yet; they are zeros.\n@raises ValueError For negative lengths.\n"
      ">>> mx.empty((2, 3)).shape\n(2, 3)\n",
      [](const Shape& shape, std::optional<Dtype> t) { return zeros(shape, t.value_or(Dtype::kFloat32)); });
  def(core,
      "full(shape: int | Sequence[int], vals: scalar | array, dtype: Dtype | None = None, *, stream: "
      "StreamOrDevice = "
      "None) -> array",
      "An array filled with a value.\n@vals Number, or array that broadcasts to the shape.\n"
      "@dtype Dtype of the result; that of the value by default.\n@raises ValueError Where the value does "
      "not broadcast, or an integer does not fit the dtype.\n"
      ">>> mx.full((2, 2), 7)\narray([[7, 7],\n       [7, 7]], dtype=int32)\n",
      [](const Shape& shape, Any value, std::optional<Dtype> t) {
        return full(shape, fill_value(value, t), t);
      });
}

void add_likes(const Scope& core) {
  def(core, "zeros_like(a: array, /, dtype: Dtype | None = None, *, stream: StreamOrDevice = None) -> array",
      "Zeros in the shape of `a`.\n@dtype Dtype of the result; that of `a` by default.\n"
      ">>> mx.zeros_like(mx.array([1, 2]))\narray([0, 0], dtype=int32)\n",
      [](const Array& a, std::optional<Dtype> t) { return zeros_like(a, t); });
  def(core, "ones_like(a: array, /, dtype: Dtype | None = None, *, stream: StreamOrDevice = None) -> array",
      "Ones in the shape of `a`.\n@dtype Dtype of the result; that of `a` by default.\n"
      ">>> mx.ones_like(mx.array([1, 2]))\narray([1, 1], dtype=int32)\n",
      [](const Array& a, std::optional<Dtype> t) { return ones_like(a, t); });
  def(core, "empty_like(a: array, /, dtype: Dtype | None = None, *, stream: StreamOrDevice = None) -> array",
      "An array in the shape of `a` whose values mean nothing yet; they are zeros.\n"
      "@dtype Dtype of the result; that of `a` by default.\n>>> mx.empty_like(mx.ones((2, 3))).shape\n(2, "
      "3)\n",
      [](const Array& a, std::optional<Dtype> t) { return zeros_like(a, t); });
  def(core,
      "full_like(a: array, vals: scalar | array, dtype: Dtype | None = None, *, stream: StreamOrDevice = "
      "None) -> array",
      "A value in the shape of `a`.\n@vals Number, or array that broadcasts to the shape.\n"
      "@dtype Dtype of the result; that of `a` by default.\n@raises ValueError Where the value does not "
      "broadcast.\n"
      ">>> mx.full_like(mx.array([1, 2]), 5)\narray([5, 5], dtype=int32)\n",
      [](const Array& a, Any value, std::optional<Dtype> t) {
        const Dtype wanted = t.value_or(a.dtype());
        return full_like(a, fill_value(value, wanted), wanted);
      });
}

// One of start, stop and step: an integer or a float.
struct Bound {
  bool given = false, floating = false;
  int64_t integer = 0;
  double real = 0;
};
Bound bound(const Any& any, int64_t otherwise) {
  Bound b;
  b.integer = otherwise;
  b.real = static_cast<double>(otherwise);
  if (any.object == Py_None) return b;
  b.given = true;
  const ScalarKind kind = scalar_kind(any.object);
  if (kind == ScalarKind::kFloat) {
    b.floating = true;
    b.real = as_float(any.object).value();
    return b;
  }
  const std::optional<int64_t> i = as_integer(any.object);
  if (!i) any.wrong();
  b.integer = *i;
  b.real = static_cast<double>(*i);
  return b;
}

Array make_range(Bound start, Bound stop, Bound step, std::optional<Dtype> dtype) {
  if (start.floating || stop.floating || step.floating) {
    return arange(start.real, stop.real, step.real, dtype.value_or(Dtype::kFloat32));
  }
  auto wide = [](int64_t v) { return v < INT32_MIN || v > INT32_MAX; };
  const bool large = wide(start.integer) || wide(stop.integer) || wide(step.integer);
  return arange(start.integer, stop.integer, step.integer,
                dtype.value_or(large ? Dtype::kInt64 : Dtype::kInt32));
}

// arange(stop), arange(start, stop), arange(start, stop, step), and stop= and step= by name.
Array range_of(const Any& start_any, const Any& stop_any, const Any& step_any, std::optional<Dtype> dtype) {
  Bound start = bound(start_any, 0), stop = bound(stop_any, 0);
  if (!stop.given) {
    if (!start.given) throw TypeError("arange() misses argument 'stop', wanted int | float");
    stop = start;
    start = Bound();
  }
  return make_range(start, stop, bound(step_any, 1), dtype);
}

void add_ranges(const Scope& core) {
  def(core,
      "arange(start: None | int | float = None, stop: None | int | float = None, step: None | int | float = "
      "None, "
      "dtype: "
      "Dtype | None = None, *, stream: StreamOrDevice = None) -> array",
      "Evenly spaced values from `start` up to, but without, `stop`; `arange(stop)` begins at 0.\n"
      "@start First value; the end of the range where it is the only one given.\n@stop End of the range.\n"
      "@step Distance between values, 1 by default.\n"
      "@dtype Dtype of the result: int32 for integers (int64 for large ones), float32 for floats by "
      "default.\n"
      "@raises ValueError For a step of 0 or values that are not finite.\n"
      ">>> mx.arange(3)\narray([0, 1, 2], dtype=int32)\n>>> mx.arange(0, 1, 0.25)\narray([0, 0.25, 0.5, "
      "0.75], dtype=float32)\n",
      [](Any start, Any stop, Any step, std::optional<Dtype> t) { return range_of(start, stop, step, t); });
  def(core,
      "linspace(start: scalar, stop: scalar, num: int | None = 50, endpoint: bool = True, dtype: Dtype | "
      "None = "
      "float32, stream: StreamOrDevice = None) -> array",
      "`num` evenly spaced values from `start` to `stop`.\n@start First value.\n@stop Last value.\n@num How "
      "many.\n"
      "@endpoint Whether `stop` is the last value or the one behind it.\n@raises ValueError For a negative "
      "`num`.\n"
      ">>> mx.linspace(0, 1, 5)\narray([0, 0.25, 0.5, 0.75, 1], dtype=float32)\n",
      [](double start, double stop, std::optional<int64_t> num, bool endpoint, std::optional<Dtype> t) {
        return linspace(start, stop, num.value_or(50), endpoint, t.value_or(Dtype::kFloat32));
      });
}

void add_matrices(const Scope& core) {
  def(core,
      "eye(n: int, m: int | None = None, k: int = 0, dtype: Dtype | None = float32, *, stream: "
      "StreamOrDevice = None) "
      "-> array",
      "A matrix with ones on a diagonal and zeros elsewhere.\n@n Rows.\n@m Columns; as many as rows by "
      "default.\n"
      "@k The diagonal: 0 the main one, positive above it.\n>>> mx.eye(2)\narray([[1, 0],\n       [0, 1]], "
      "dtype=float32)\n",
      [](int64_t n, std::optional<int64_t> m, int64_t k, std::optional<Dtype> t) {
        return eye(n, m.value_or(n), k, t.value_or(Dtype::kFloat32));
      });
  def(core, "identity(n: int, dtype: Dtype | None = float32, *, stream: StreamOrDevice = None) -> array",
      "The identity matrix.\n@n Rows and columns.\n>>> mx.identity(2)\narray([[1, 0],\n       [0, 1]], "
      "dtype=float32)\n",
      [](int64_t n, std::optional<Dtype> t) { return eye(n, n, 0, t.value_or(Dtype::kFloat32)); });
  def(core,
      "tri(n: int, m: int | None = None, k: int = 0, dtype: Dtype | None = None, *, stream: StreamOrDevice = "
      "None) -> "
      "array",
      "A matrix with ones at and below a diagonal.\n@n Rows.\n@m Columns; as many as rows by default.\n"
      "@k The diagonal: 0 the main one, positive above it.\n@dtype Dtype of the result, float32 by default.\n"
      ">>> mx.tri(2)\narray([[1, 0],\n       [1, 1]], dtype=float32)\n",
      [](int64_t n, std::optional<int64_t> m, int64_t k, std::optional<Dtype> t) {
        return tri(n, m.value_or(n), k, t.value_or(Dtype::kFloat32));
      });
  def(core, "tril(x: array, k: int = 0, *, stream: StreamOrDevice = None) -> array",
      "The array with zeros above a diagonal of its last two axes.\n@k The diagonal: 0 the main one, "
      "positive above it.\n"
      "@raises ValueError For fewer than two axes.\n>>> mx.tril(mx.ones((2, 2)))\narray([[1, 0],\n       [1, "
      "1]], dtype=float32)\n",
      [](const Array& x, int64_t k) { return tril(x, k); });
  def(core, "triu(x: array, k: int = 0, *, stream: StreamOrDevice = None) -> array",
      "The array with zeros below a diagonal of its last two axes.\n@k The diagonal: 0 the main one, "
      "positive above it.\n"
      "@raises ValueError For fewer than two axes.\n>>> mx.triu(mx.ones((2, 2)))\narray([[1, 1],\n       [0, "
      "1]], dtype=float32)\n",
      [](const Array& x, int64_t k) { return triu(x, k); });
}

void add_windows(const Scope& core) {
  def(core, "bartlett(M: int, *, stream: StreamOrDevice = None) -> array",
      "The Bartlett window.\n@M Length.\n>>> mx.bartlett(5)\narray([0, 0.5, 1, 0.5, 0], dtype=float32)\n",
      [](int64_t m) { return window(Window::kBartlett, m); });
  def(core, "blackman(M: int, *, stream: StreamOrDevice = None) -> array",
      "The Blackman window.\n@M Length.\n>>> mx.blackman(5).shape\n(5,)\n",
      [](int64_t m) { return window(Window::kBlackman, m); });
  def(core, "hamming(M: int, *, stream: StreamOrDevice = None) -> array",
      "The Hamming window.\n@M Length.\n>>> mx.hamming(3)\narray([0.08, 1, 0.08], dtype=float32)\n",
      [](int64_t m) { return window(Window::kHamming, m); });
  def(core, "hanning(M: int, *, stream: StreamOrDevice = None) -> array",
      "The Hann window.\n@M Length.\n>>> mx.hanning(3)\narray([0, 1, 0], dtype=float32)\n",
      [](int64_t m) { return window(Window::kHanning, m); });
}

}  // namespace

void add_creation(const Scope& core) {
  add_fills(core);
  add_likes(core);
  add_ranges(core);
  add_matrices(core);
  add_windows(core);
}

}  // namespace lamina::bind
