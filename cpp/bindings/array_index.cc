#include <fmt/format.h>

#include "bindings/array_slots.h"
#include "bindings/index_expr.h"

namespace lamina::bind {
namespace {

// a[i] for one integer, without the detour over an expression.
PyObject* row(const Array& a, PyObject* index) {
  const py::ssize_t i = PyLong_AsSsize_t(index);
  const int64_t length = a.shape()[0];
  if ((i == -1 && PyErr_Occurred()) || i < -length || i >= length) {
    PyErr_Clear();
    throw IndexError(fmt::format("[index] index {} is out of bounds for axis 0 of length {}",
                                 std::string(py::str(borrowed(index))), length));
  }
  Shape start(a.shape().size(), 0), stop = a.shape();
  start[0] = i < 0 ? i + length : i;
  stop[0] = start[0] + 1;
  return wrap(squeeze(slice(a, start, stop), Axes{0}));
}

PyObject* get_item(PyObject* self, PyObject* index) {
  return guarded([&] {
    const Array& a = value_of(self);
    if (PyLong_CheckExact(index) && a.ndim() > 0) return row(a, index);
    return wrap(read_index(a, parse_index(index, a.shape())));
  });
}

// The value to assign: scalars and lists take the array's dtype.
Array assigned_value(PyObject* o, Dtype dtype) {
  const ScalarKind kind = scalar_kind(o);
  if (kind != ScalarKind::kNone) return astype(weak_array(o, kind, dtype), dtype);
  if (PyList_Check(o) || PyTuple_Check(o)) {
    const py::object made = owned(PyObject_CallOneArg(reinterpret_cast<PyObject*>(array_type), o));
    return astype(value_of(made.ptr()), dtype);
  }
  const std::optional<Array> a = as_array(o);
  if (!a)
    throw TypeError("array.__setitem__(): the value must be a number, an array or lists of numbers, got " +
                    type_name(o));
  return astype(*a, dtype);
}

int set_item(PyObject* self, PyObject* index, PyObject* value) {
  return guarded_int([&] {
    if (!value) throw TypeError("elements of an array cannot be deleted");
    const Array a = value_of(self);
    const Array v = assigned_value(value, a.dtype());
    const Array mask = lone_mask(index);
    Array out = mask.valid() ? write_mask(a, mask, v) : Array();
    if (!out.valid()) out = write_index(a, parse_index(index, a.shape()), v, ScatterMode::kSet);
    value_of(self) = std::move(out);
    return 0;
  });
}

Py_ssize_t length(PyObject* self) {
  const Array& a = value_of(self);
  if (a.ndim() > 0) return static_cast<Py_ssize_t>(a.shape()[0]);
  PyErr_SetString(PyExc_TypeError, "len() of a 0-d array");
  return -1;
}

// What a.at[index] is: the array and the index, waiting for an operation.
struct At {
  Array array;
  PyObject* index = nullptr;
  At(Array a, PyObject* i) : array(std::move(a)), index(i ? Py_NewRef(i) : nullptr) {}
  At(At&& o) noexcept : array(std::move(o.array)), index(std::exchange(o.index, nullptr)) {}
  At(const At&) = delete;
  At& operator=(const At&) = delete;
  ~At() { Py_XDECREF(index); }
};

Array update_at(PyObject* self, PyObject* value, ScatterMode mode, Array (*prepare)(const Array&) = nullptr) {
  const At& at = Box<At>::of(self);
  if (!at.index) throw ValueError("[at] wants an index first: a.at[index].add(value)");
  Array v = assigned_value(value, at.array.dtype());
  if (prepare) v = prepare(v);
  return write_index(at.array, parse_index(at.index, at.array.shape()), v, mode);
}

// Division multiplies by the reciprocal where an index may occur twice, and divides where none does.
Array divide_at(PyObject* self, PyObject* value) {
  const At& at = Box<At>::of(self);
  if (!at.index) throw ValueError("[at] wants an index first: a.at[index].divide(value)");
  const Dtype t = at.array.dtype();
  const Dtype inexact = is_inexact(t) ? t : Dtype::kFloat32;
  const Array v = assigned_value(value, inexact);
  const IndexExpr e = parse_index(at.index, at.array.shape());
  if (!e.has_arrays) {
    return write_index(at.array, e, astype(divide(read_index(at.array, e), v), t), ScatterMode::kSet);
  }
  return astype(write_index(astype(at.array, inexact), e, reciprocal(v), ScatterMode::kMultiply), t);
}

void add_at_methods(const Scope& type) {
  constexpr const char* kValue =
      "@value Number or array that broadcasts to the indexed part; its dtype becomes the array's.\n";
  auto text = [](const char* what, const char* value, const char* example) {
    return std::string(what) + "\n" + value + example;
  };
  def(type, "__getitem__(self, indices: object, /) -> ArrayAt", "The part of the array to update.",
      [](PyObject* self, PyObject* index) { return Box<At>::make(At(Box<At>::of(self).array, index)); });
  def(type, "add(self, value: scalar | array) -> array",
      text("A copy with `value` added to the indexed part; elements indexed twice get it twice.", kValue,
           ">>> mx.zeros(3).at[mx.array([0, 0, 2])].add(1)\narray([2, 0, 1], dtype=float32)\n"),
      [](PyObject* self, PyObject* v) { return update_at(self, v, ScatterMode::kAdd); });
  def(type, "subtract(self, value: scalar | array) -> array",
      text("A copy with `value` subtracted from the indexed part.", kValue,
           ">>> mx.zeros(3).at[1:].subtract(1)\narray([0, -1, -1], dtype=float32)\n"),
      [](PyObject* self, PyObject* v) { return update_at(self, v, ScatterMode::kAdd, negative); });
  def(type, "multiply(self, value: scalar | array) -> array",
      text("A copy with the indexed part multiplied by `value`.", kValue,
           ">>> mx.ones(3).at[0].multiply(4)\narray([4, 1, 1], dtype=float32)\n"),
      [](PyObject* self, PyObject* v) { return update_at(self, v, ScatterMode::kMultiply); });
  def(type, "divide(self, value: scalar | array) -> array",
      text("A copy with the indexed part divided by `value`.", kValue,
           ">>> mx.ones(3).at[0].divide(4)\narray([0.25, 1, 1], dtype=float32)\n"),
      [](PyObject* self, PyObject* v) { return divide_at(self, v); });
  def(type, "maximum(self, value: scalar | array) -> array",
      text("A copy with the indexed part replaced by `value` where that is larger.", kValue,
           ">>> mx.arange(3).at[:2].maximum(1)\narray([1, 1, 2], dtype=int32)\n"),
      [](PyObject* self, PyObject* v) { return update_at(self, v, ScatterMode::kMax); });
  def(type, "minimum(self, value: scalar | array) -> array",
      text("A copy with the indexed part replaced by `value` where that is smaller.", kValue,
           ">>> mx.arange(3).at[1:].minimum(1)\narray([0, 1, 1], dtype=int32)\n"),
      [](PyObject* self, PyObject* v) { return update_at(self, v, ScatterMode::kMin); });
}

}  // namespace

void append_index_slots(std::vector<PyType_Slot>& slots) {
  slots.push_back(slot(Py_mp_subscript, get_item));
  slots.push_back(slot(Py_mp_ass_subscript, set_item));
  slots.push_back(slot(Py_mp_length, length));
}

void add_indexing(const Scope& core, const Scope& type) {
  const Scope at = define_box<At>(core, "lamina.core.ArrayAt",
                                  "Updates of a part of an array: a.at[index].add(value).", {});
  add_at_methods(at);
  def_property(type, "at: ArrayAt", "For updates of a part of the array: a.at[index].add(value).",
               [](PyObject* self) { return Box<At>::make(At(value_of(self), nullptr)); });
  const py::object none = borrowed(Py_None);
  if (PyObject_SetAttrString(core.object, "newaxis", none.ptr()) < 0) throw py::error_already_set();
}

}  // namespace lamina::bind
