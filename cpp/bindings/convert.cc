#include "bindings/convert.h"

#include <fmt/format.h>

#include <cstring>

#include "bindings/box.h"
#include "bindings/numpy_types.h"
#include "graph/eval.h"
#include "graph/node.h"
#include "memory/buffer.h"

namespace lamina::bind {
namespace {

// The integer nearest to zero from v, at the ends of the range outside of it and 0 for NaN.
int64_t truncated(double v) {
  if (v != v) return 0;
  if (v >= 0x1p63) return INT64_MAX;
  if (v < -0x1p63) return INT64_MIN;
  return static_cast<int64_t>(v);
}

struct Number {
  int64_t integer = 0;
  double real = 0, imaginary = 0;
};

Number read_integer(PyObject* o) {
  const py::object index = owned(PyNumber_Index(o));
  int overflow = 0;
  Number n;
  n.integer = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow == 0) {
    if (n.integer == -1 && PyErr_Occurred()) throw py::error_already_set();
    n.real = static_cast<double>(n.integer);
    return n;
  }
  const unsigned long long large = PyLong_AsUnsignedLongLong(index.ptr());
  if (PyErr_Occurred()) {
    PyErr_Clear();
    throw OverflowError("array(): the integer " + std::string(py::str(index)) + " does not fit 64 bits");
  }
  n.integer = static_cast<int64_t>(large);
  n.real = static_cast<double>(large);
  return n;
}

Number read_number(PyObject* o, ScalarKind kind) {
  Number n;
  if (kind == ScalarKind::kBool) {
    n.integer = PyObject_IsTrue(o) == 1;
    n.real = static_cast<double>(n.integer);
  } else if (kind == ScalarKind::kInt) {
    n = read_integer(o);
  } else if (kind == ScalarKind::kFloat) {
    n.real = as_float(o).value();
    n.integer = truncated(n.real);
  } else {
    const Py_complex c = PyComplex_AsCComplex(o);
    if (c.real == -1 && PyErr_Occurred()) throw py::error_already_set();
    n.real = c.real;
    n.imaginary = c.imag;
    n.integer = truncated(n.real);
  }
  return n;
}

template <class T>
void put(void* to, T v) {
  std::memcpy(to, &v, sizeof v);
}

Dtype integer_dtype(const Number& n, PyObject* o) {
  if (n.integer >= INT32_MIN && n.integer <= INT32_MAX && std::abs(n.real) < 0x1p40) return Dtype::kInt32;
  return n.real >= 0x1p63 && PyObject_IsTrue(o) == 1 ? Dtype::kUInt64 : Dtype::kInt64;
}

}  // namespace

void store_number(void* to, Dtype t, PyObject* number, ScalarKind kind) {
  const Number n = read_number(number, kind);
  switch (t) {
    case Dtype::kBool: return put<bool>(to, n.real != 0 || n.imaginary != 0);
    case Dtype::kUInt8:
    case Dtype::kInt8: return put(to, static_cast<uint8_t>(n.integer));
    case Dtype::kUInt16:
    case Dtype::kInt16: return put(to, static_cast<uint16_t>(n.integer));
    case Dtype::kUInt32:
    case Dtype::kInt32: return put(to, static_cast<uint32_t>(n.integer));
    case Dtype::kUInt64:
    case Dtype::kInt64: return put(to, n.integer);
    case Dtype::kFloat16: return put(to, float16_t(static_cast<float>(n.real)));
    case Dtype::kBFloat16: return put(to, bfloat16_t(static_cast<float>(n.real)));
    case Dtype::kFloat32: return put(to, static_cast<float>(n.real));
    case Dtype::kFloat64: return put(to, n.real);
    case Dtype::kComplex64:
      return put(to, std::complex<float>(static_cast<float>(n.real), static_cast<float>(n.imaginary)));
  }
}

Array strong_scalar(PyObject* o, ScalarKind kind, std::optional<Dtype> dtype) {
  const Number n = read_number(o, kind);
  switch (kind) {
    case ScalarKind::kBool: return Array(n.integer, dtype.value_or(Dtype::kBool));
    case ScalarKind::kInt: {
      const Dtype t = dtype.value_or(integer_dtype(n, o));
      return is_inexact(t) ? Array(n.real, t) : Array(n.integer, t);
    }
    case ScalarKind::kFloat: return Array(n.real, dtype.value_or(Dtype::kFloat32));
    default: break;
  }
  const Dtype t = dtype.value_or(Dtype::kComplex64);
  return is_complex(t) ? Array(std::complex<double>(n.real, n.imaginary), t) : Array(n.real, t);
}

std::optional<Array> as_array(PyObject* o) {
  if (is_array(o)) return value_of(o);
  const ScalarKind kind = scalar_kind(o);
  const bool python_scalar =
      kind != ScalarKind::kNone && (PyFloat_Check(o) || numpy_scalar_kind(o) == ScalarKind::kNone);
  if (python_scalar) return strong_scalar(o, kind, std::nullopt);
  return array_from_data(o, std::nullopt);
}

Array array_from(PyObject* o, std::optional<Dtype> dtype) {
  if (is_array(o)) return dtype ? astype(value_of(o), *dtype) : value_of(o);
  if (PyList_Check(o) || PyTuple_Check(o)) return array_from_lists(o, dtype);
  const ScalarKind kind = scalar_kind(o);
  if (kind != ScalarKind::kNone && (PyFloat_Check(o) || numpy_scalar_kind(o) == ScalarKind::kNone)) {
    return strong_scalar(o, kind, dtype);
  }
  if (std::optional<Array> a = array_from_data(o, dtype)) return *std::move(a);
  throw TypeError(
      fmt::format("array(): argument 'val' wants a number, nested lists, a NumPy array or another object "
                  "with array data, got {}",
                  type_name(o)));
}

namespace {

// One side of a binary operation whose other side is an array of dtype `other`.
std::optional<Array> side_operand(PyObject* o, Dtype other) {
  const ScalarKind kind = scalar_kind(o);
  if (kind != ScalarKind::kNone) return weak_array(o, kind, other);
  if (PyBytes_Check(o) || PyByteArray_Check(o)) return std::nullopt;
  // NumPy's default float64 yields to the floating dtype beside it, as a Python float would.
  return array_from_data(o, std::nullopt, is_floating(other) ? other : Dtype::kFloat32);
}

}  // namespace

bool operand_pair(PyObject* l, PyObject* r, Array& x, Array& y) {
  const bool left = is_array(l), right = is_array(r);
  if (left) x = value_of(l);
  if (right) y = value_of(r);
  if (left && right) return true;
  if (!left && !right) {
    const std::optional<Array> first = as_array(l);
    if (!first) return false;
    x = *first;
    const ScalarKind lk = scalar_kind(l), rk = scalar_kind(r);
    if (lk != ScalarKind::kNone && rk == ScalarKind::kNone) {  // a scalar beside array data yields to it
      const std::optional<Array> second = as_array(r);
      if (!second) return false;
      y = *second;
      x = weak_array(l, lk, y.dtype());
      return true;
    }
    const bool weak = rk != ScalarKind::kNone && lk == ScalarKind::kNone;
    const std::optional<Array> second = weak ? weak_array(r, rk, x.dtype()) : as_array(r);
    if (!second) return false;
    y = *second;
    return true;
  }
  std::optional<Array> other = side_operand(left ? r : l, left ? x.dtype() : y.dtype());
  if (!other) return false;
  (left ? y : x) = *std::move(other);
  return true;
}

Array copy_of(const Array& a) {
  evaluate_released(a, "copy");
  const View v = a.node()->view();
  Strides bytes = v.strides;
  for (int64_t& s : bytes) s *= static_cast<int64_t>(itemsize(v.dtype));
  return copy_strided(v.data, v.dtype, v.shape, bytes);
}

namespace {

// Type annotations name it; wrapping checks at once that an object has an array method.
void add_array_like(const Scope& core) {
  const Scope type =
      define_box<Array>(core, "lamina.core.ArrayLike",
                        "ArrayLike(arg, /)\n--\n\nThe array that an object with an __lamina_array__ or "
                        "__mlx_array__ method stands for.",
                        {});
  def_constructor(type, "ArrayLike(arg: object, /)", "The array that an object stands for.", [](Any any) {
    for (const char* method : {"__lamina_array__", "__mlx_array__"}) {
      if (PyObject_HasAttrString(reinterpret_cast<PyObject*>(Py_TYPE(any.object)), method)) {
        return Box<Array>::make(array_from_data(any.object, std::nullopt).value());
      }
    }
    throw TypeError("ArrayLike(): wants an object with an __lamina_array__ or __mlx_array__ method, got " +
                    type_name(any.object));
  });
  def(type, "__lamina_array__(self) -> array", "The array.",
      [](PyObject* self) { return Box<Array>::of(self); });
}

}  // namespace

void add_conversions(const Scope& core) {
  add_array_like(core);
  def(core,
      "asarray(a: scalar | array | Sequence | DLPackCompatible, dtype: Dtype | None = None, *, copy: bool | "
      "None = None) -> array",
      "An array from a number, lists, or an object with array data.\n\n"
      "With copy=False the array looks into the memory of `a`, keeps `a` alive, and sees later changes of "
      "it.\n"
      "@a A number, nested lists, an array, a NumPy array, or an object of the buffer or DLPack protocols.\n"
      "@raises ValueError With copy=False where a copy is needed.\n"
      ">>> import numpy as np\n>>> n = np.ones(3, np.float32)\n>>> a = mx.asarray(n, copy=False)\n>>> n[0] = "
      "5\n"
      ">>> a\narray([5, 1, 1], dtype=float32)\n",
      [](Any a, std::optional<Dtype> dtype, std::optional<bool> copy) {
        if (copy != false) {
          const Array made = array_from(a.object, dtype);
          return copy == true && is_array(a.object) ? copy_of(made) : made;
        }
        if (is_array(a.object) && (!dtype || dtype == value_of(a.object).dtype())) return value_of(a.object);
        const std::optional<Array> adopted = adopt_data(a.object, dtype);
        if (!adopted) {
          throw ValueError(fmt::format("[asarray] cannot make an array{} of {} without a copy",
                                       dtype ? fmt::format(" of {}", dtype_name(*dtype)) : "",
                                       type_name(a.object)));
        }
        return *adopted;
      });
  def(core, "from_dlpack(x: DLPackCompatible, /, *, copy: bool | None = None) -> array",
      "An array from an object of the DLPack protocol; shares its memory unless copy is True.\n"
      "@x An object with a __dlpack__ method.\n@raises ValueError With copy=False where a copy is needed.\n"
      ">>> import numpy as np\n>>> mx.from_dlpack(np.arange(3))\narray([0, 1, 2], dtype=int64)\n",
      [](Any x, std::optional<bool> copy) {
        if (!has_dlpack(x.object)) x.wrong();
        return from_dlpack(x.object, copy, std::nullopt);
      });
}

}  // namespace lamina::bind
