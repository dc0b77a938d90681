#include "bindings/from_python.h"

#include <fmt/format.h>

#include <climits>

#include "bindings/numpy_types.h"

namespace lamina::bind {

void wrong_type(const Call& call, int at, PyObject* got) {
  const Signature& s = *call.signature;
  const Parameter& p = s.parameters()[static_cast<size_t>(at)];
  std::string what = type_name(got);
  if (PyList_Check(got) || PyTuple_Check(got)) {
    what +=
        p.type.find("array") != std::string::npos ? "; array(...) makes an array of it" : " with other items";
  }
  throw TypeError(fmt::format("{}(): argument '{}' wants {}, got {}", s.name(), p.name, p.type, what));
}

std::optional<int64_t> as_integer(PyObject* o) {
  if (!PyLong_Check(o)) {
    if (!PyIndex_Check(o) || (is_array(o) && !(is_integer(value_of(o).dtype()) && value_of(o).ndim() == 0))) {
      return std::nullopt;
    }
    const py::object index = owned(PyNumber_Index(o));
    return as_integer(index.ptr());
  }
  const long long v = PyLong_AsLongLong(o);
  if (v == -1 && PyErr_Occurred()) throw py::error_already_set();
  return v;
}

std::optional<double> as_float(PyObject* o) {
  if (PyFloat_Check(o)) return PyFloat_AS_DOUBLE(o);
  const PyNumberMethods* number = Py_TYPE(o)->tp_as_number;
  if (PyComplex_Check(o) || !number || (!number->nb_float && !number->nb_index)) return std::nullopt;
  const double v = PyFloat_AsDouble(o);
  if (v == -1 && PyErr_Occurred()) throw py::error_already_set();
  return v;
}

std::optional<bool> as_bool(PyObject* o) {
  if (o == Py_True) return true;
  if (o == Py_False) return false;
  if (!PyLong_Check(o) && scalar_kind(o) != ScalarKind::kBool) return std::nullopt;
  const int truth = PyObject_IsTrue(o);
  if (truth < 0) throw py::error_already_set();
  return truth != 0;
}

std::optional<std::vector<py::object>> as_items(PyObject* o) {
  if (PyUnicode_Check(o) || PyBytes_Check(o) || PyDict_Check(o) || is_array(o) || !PySequence_Check(o)) {
    return std::nullopt;
  }
  PyObject* fast = PySequence_Fast(o, "wanted a sequence");
  if (!fast) {
    PyErr_Clear();
    return std::nullopt;
  }
  const py::object keep = py::reinterpret_steal<py::object>(fast);
  std::vector<py::object> items;
  items.reserve(static_cast<size_t>(PySequence_Fast_GET_SIZE(fast)));
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(fast); ++i) {
    items.push_back(borrowed(PySequence_Fast_GET_ITEM(fast, i)));
  }
  return items;
}

std::optional<Shape> as_integers(PyObject* o) {
  if (const auto one = as_integer(o)) return Shape{*one};
  const auto items = as_items(o);
  if (!items) return std::nullopt;
  Shape out;
  for (const py::object& item : *items) {
    const auto v = as_integer(item.ptr());
    if (!v) return std::nullopt;
    out.push_back(*v);
  }
  return out;
}

ScalarKind scalar_kind(PyObject* o) {
  if (PyFloat_Check(o)) return ScalarKind::kFloat;
  if (PyBool_Check(o)) return ScalarKind::kBool;
  if (PyLong_Check(o)) return ScalarKind::kInt;
  if (PyComplex_Check(o)) return ScalarKind::kComplex;
  return numpy_scalar_kind(o);
}

namespace {

bool fits(int64_t v, Dtype t) {
  const unsigned bits = static_cast<unsigned>(itemsize(t)) * 8;
  if (is_unsigned_integer(t)) return v >= 0 && (bits == 64 || v < (int64_t{1} << bits));
  return bits == 64 || (v >= -(int64_t{1} << (bits - 1)) && v < (int64_t{1} << (bits - 1)));
}

Array weak_integer(PyObject* o, Dtype other) {
  const py::object index = owned(PyNumber_Index(o));
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (v == -1 && !overflow && PyErr_Occurred()) throw py::error_already_set();
  if (overflow && is_inexact(other)) {
    const double d = PyLong_AsDouble(index.ptr());
    if (d == -1 && PyErr_Occurred()) throw py::error_already_set();
    return weak_scalar(d, other);
  }
  if (overflow > 0 && other == Dtype::kUInt64) {
    const unsigned long long u = PyLong_AsUnsignedLongLong(index.ptr());
    if (u == static_cast<unsigned long long>(-1) && PyErr_Occurred()) throw py::error_already_set();
    return Array(static_cast<int64_t>(u), Dtype::kUInt64);
  }
  if (overflow || (is_integer(other) && !fits(v, other))) {
    const std::string text = py::str(index);
    throw ValueError(fmt::format("[array] the integer {} is out of range for {}", text,
                                 other == Dtype::kBool ? "int64" : dtype_name(other)));
  }
  return weak_scalar(int64_t{v}, other);
}

}  // namespace

Array weak_array(PyObject* o, ScalarKind kind, Dtype other) {
  switch (kind) {
    case ScalarKind::kBool: return weak_scalar(PyObject_IsTrue(o) == 1, other);
    case ScalarKind::kInt: return weak_integer(o, other);
    case ScalarKind::kFloat: return weak_scalar(as_float(o).value(), other);
    default: break;
  }
  const Py_complex c = PyComplex_AsCComplex(o);
  if (c.real == -1 && PyErr_Occurred()) throw py::error_already_set();
  return weak_scalar(std::complex<double>(c.real, c.imag), other);
}

int From<int>::get(const Call& call, int at) {
  const int64_t v = From<int64_t>::get(call, at);
  if (v < INT_MIN || v > INT_MAX) {
    throw OverflowError(fmt::format("{}(): argument '{}' is out of range: {}", call.signature->name(),
                                    call.signature->parameters()[static_cast<size_t>(at)].name, v));
  }
  return static_cast<int>(v);
}

std::string From<std::string>::get(const Call& call, int at) {
  PyObject* o = call.slots[at];
  if (!PyUnicode_Check(o)) wrong_type(call, at, o);
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(o, &size);
  if (!text) throw py::error_already_set();
  return std::string(text, static_cast<size_t>(size));
}

std::vector<Array> From<std::vector<Array>>::get(const Call& call, int at) {
  PyObject* o = call.slots[at];
  const auto items = as_items(o);
  if (!items) wrong_type(call, at, o);
  std::vector<Array> out;
  out.reserve(items->size());
  for (const py::object& item : *items) {
    std::optional<Array> a = as_array(item.ptr());
    if (!a) wrong_type(call, at, item.ptr());
    out.push_back(*std::move(a));
  }
  return out;
}

PyObject* to_python(const std::string& v) {
  return checked(PyUnicode_FromStringAndSize(v.data(), static_cast<Py_ssize_t>(v.size())));
}

PyObject* to_python(const Shape& v) {
  py::object out = owned(PyTuple_New(static_cast<Py_ssize_t>(v.size())));
  for (size_t i = 0; i < v.size(); ++i) {
    PyTuple_SET_ITEM(out.ptr(), static_cast<Py_ssize_t>(i), checked(PyLong_FromLongLong(v[i])));
  }
  return out.release().ptr();
}

}  // namespace lamina::bind
