#pragma once

#include <complex>
#include <optional>
#include <string>
#include <vector>

#include "bindings/array_object.h"
#include "bindings/signature.h"
#include "lamina/ops.h"

namespace lamina::bind {

// Throws TypeError: "sum(): argument 'axis' wants int | None, got str".
[[noreturn]] void wrong_type(const Call& call, int at, PyObject* got);

// Conversions of plain objects; nullopt where the type does not fit. A value that does not fit throws.
std::optional<int64_t> as_integer(PyObject* o);
std::optional<double> as_float(PyObject* o);
std::optional<bool> as_bool(PyObject* o);
// The items of a list, a tuple or another sequence that is not text; nullopt for anything else.
std::optional<std::vector<py::object>> as_items(PyObject* o);
// The integers of a sequence; a single integer gives one.
std::optional<Shape> as_integers(PyObject* o);

// Python numbers, NumPy's scalars among them, whose dtype yields to that of an array beside them.
enum class ScalarKind : uint8_t { kNone, kBool, kInt, kFloat, kComplex };
ScalarKind scalar_kind(PyObject* o);
// A scalar as a 0-d array beside one of dtype `other`; ValueError where an integer does not fit it.
Array weak_array(PyObject* o, ScalarKind kind, Dtype other);

// An array from a lamina array, a scalar, or an object with array data (NumPy, buffer, DLPack, __array__).
// nullopt for other objects, lists among them.
std::optional<Array> as_array(PyObject* o);
// The two operands of a binary operation; false where either is nothing an array combines with.
bool operand_pair(PyObject* l, PyObject* r, Array& x, Array& y);

Dtype dtype_of(PyObject* o);  // of a Dtype object
bool is_dtype(PyObject* o);
// Defined with the device types: the stream that a Stream, Device or DeviceType means.
std::optional<Stream> as_stream(PyObject* o);

// Positional arguments beyond the named ones, and keyword arguments.
struct Rest {
  PyObject* const* items;
  Py_ssize_t count;
};
// An argument that a function converts itself.
struct Any {
  PyObject* object;
  const Call* call;
  int at;
  [[noreturn]] void wrong() const { wrong_type(*call, at, object); }
};
using ArrayTuple = std::tuple<std::vector<Array>>;

// Argument number `at` as a T.
template <class T>
struct From;

template <>
struct From<Any> {
  static Any get(const Call& call, int at) { return {call.slots[at], &call, at}; }
};
template <>
struct From<PyObject*> {
  static PyObject* get(const Call& call, int at) { return call.slots[at]; }
};
template <>
struct From<Rest> {
  static Rest get(const Call& call, int) { return {call.rest, call.rest_count}; }
};
template <>
struct From<py::dict> {
  static py::dict get(const Call& call, int) { return py::reinterpret_borrow<py::dict>(call.keywords); }
};
template <>
struct From<Array> {
  static Array get(const Call& call, int at) {
    PyObject* o = call.slots[at];
    if (is_array(o)) return value_of(o);
    std::optional<Array> a = as_array(o);
    if (!a) wrong_type(call, at, o);
    return *std::move(a);
  }
};
template <>
struct From<int64_t> {
  static int64_t get(const Call& call, int at) {
    const auto v = as_integer(call.slots[at]);
    if (!v) wrong_type(call, at, call.slots[at]);
    return *v;
  }
};
template <>
struct From<int> {
  static int get(const Call& call, int at);
};
template <>
struct From<double> {
  static double get(const Call& call, int at) {
    const auto v = as_float(call.slots[at]);
    if (!v) wrong_type(call, at, call.slots[at]);
    return *v;
  }
};
template <>
struct From<bool> {
  static bool get(const Call& call, int at) {
    const auto v = as_bool(call.slots[at]);
    if (!v) wrong_type(call, at, call.slots[at]);
    return *v;
  }
};
template <>
struct From<std::string> {
  static std::string get(const Call& call, int at);
};
template <>
struct From<Dtype> {
  static Dtype get(const Call& call, int at) {
    if (!is_dtype(call.slots[at])) wrong_type(call, at, call.slots[at]);
    return dtype_of(call.slots[at]);
  }
};
// An integer or a sequence of integers.
template <>
struct From<Shape> {
  static Shape get(const Call& call, int at) {
    auto v = as_integers(call.slots[at]);
    if (!v) wrong_type(call, at, call.slots[at]);
    return *std::move(v);
  }
};
template <>
struct From<std::vector<Array>> {
  static std::vector<Array> get(const Call& call, int at);
};
template <class T>
struct From<std::optional<T>> {
  static std::optional<T> get(const Call& call, int at) {
    if (call.slots[at] == Py_None) return std::nullopt;
    return From<T>::get(call, at);
  }
};

// Results.
inline PyObject* to_python(PyObject* o) { return checked(o); }
inline PyObject* to_python(py::object o) { return o.release().ptr(); }
inline PyObject* to_python(Array a) { return wrap(std::move(a)); }
inline PyObject* to_python(std::vector<Array> v) { return wrap_list(std::move(v)); }
inline PyObject* to_python(ArrayTuple v) { return wrap_tuple(std::move(std::get<0>(v))); }
inline PyObject* to_python(bool v) { return PyBool_FromLong(v); }
inline PyObject* to_python(int64_t v) { return checked(PyLong_FromLongLong(v)); }
inline PyObject* to_python(size_t v) { return checked(PyLong_FromSize_t(v)); }
inline PyObject* to_python(double v) { return checked(PyFloat_FromDouble(v)); }
PyObject* to_python(const std::string& v);
PyObject* to_python(const Shape& v);  // a tuple
PyObject* to_python(Dtype v);
PyObject* to_python(Device v);
PyObject* to_python(Stream v);

}  // namespace lamina::bind
