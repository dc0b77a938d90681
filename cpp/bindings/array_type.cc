#include "bindings/array_slots.h"

#include <fmt/format.h>
#include <structmember.h>

#include "bindings/convert.h"
#include "bindings/device.h"
#include "bindings/dtype.h"
#include "graph/eval.h"
#include "graph/node.h"
#include "memory/buffer.h"

namespace lamina::bind {
namespace {

constexpr const char* kConstructor =
    "array(val: scalar | list | tuple | numpy.ndarray | numpy.generic | DLPackCompatible | array, dtype: "
    "Dtype | None = "
    "None)";
constexpr const char* kDoc =
    "An n-dimensional array: lazy, of one dtype, immutable but for assignment to the Python object.\n\n"
    "Python numbers become bool, int32 (int64 where needed), float32 or complex64; NumPy's float64 becomes "
    "float32.\n"
    "@val A number, nested lists of numbers and arrays, or an object with array data (NumPy, buffer, "
    "DLPack).\n"
    "@dtype Dtype of the elements; by default that of the data.\n"
    "@raises ValueError For lists of uneven lengths.\n@raises TypeError For values that are no numbers.\n"
    ">>> mx.array([[1, 2], [3, 4]])\narray([[1, 2],\n       [3, 4]], dtype=int32)\n"
    ">>> mx.array([1, 2], dtype=mx.float16) * 0.5\narray([0.5, 1], dtype=float16)\n";

Function& constructor() {
  static auto* f = new Function(kConstructor, kDoc, false);
  return *f;
}

PyObject* make_array(PyTypeObject* type, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  return guarded([&] {
    Call call;
    constructor().signature.match(call, 0, args, count, keywords);
    return wrap(array_from(call.slots[0], From<std::optional<Dtype>>::get(call, 1)), type);
  });
}

PyObject* array_vectorcall(PyObject* type, PyObject* const* args, size_t count, PyObject* keywords) {
  return make_array(reinterpret_cast<PyTypeObject*>(type), args, PyVectorcall_NARGS(count), keywords);
}

// The way of subclasses, which have no vectorcall of their own.
PyObject* array_new(PyTypeObject* type, PyObject* args, PyObject* keywords) {
  return guarded([&] {
    std::vector<PyObject*> all;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); ++i) all.push_back(PyTuple_GET_ITEM(args, i));
    const auto count = static_cast<Py_ssize_t>(all.size());
    py::object names;
    if (keywords && PyDict_GET_SIZE(keywords) > 0) {
      names = owned(PyList_AsTuple(owned(PyDict_Keys(keywords)).ptr()));
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.ptr()); ++i) {
        all.push_back(PyDict_GetItem(keywords, PyTuple_GET_ITEM(names.ptr(), i)));
      }
    }
    return make_array(type, all.data(), count, names.ptr());
  });
}

void array_dealloc(PyObject* self) {
  auto* a = reinterpret_cast<PyArray*>(self);
  if (a->weak_references) PyObject_ClearWeakRefs(self);
  PyTypeObject* type = Py_TYPE(self);
  a->value.~Array();
  type->tp_free(self);
  Py_DECREF(type);
  drop_given_up();
}

// Iteration over the first axis.
struct Iterator {
  Array array;
  int64_t next = 0;
};
PyObject* iterator_next(PyObject* self) {
  return guarded([&]() -> PyObject* {
    Iterator& it = Box<Iterator>::of(self);
    const Array& a = it.array;
    if (it.next >= a.shape()[0]) return nullptr;
    Shape start(a.shape().size(), 0), stop = a.shape();
    start[0] = it.next++;
    stop[0] = it.next;
    return wrap(squeeze(slice(a, start, stop), Axes{0}));
  });
}
PyObject* iterate(PyObject* self) {
  return guarded([&] {
    if (value_of(self).ndim() == 0) throw TypeError("a 0-d array cannot be iterated over");
    return Box<Iterator>::make({value_of(self), 0});
  });
}

int contains_value(PyObject* self, PyObject* value) {
  return guarded_int([&] {
    Array x, y;
    if (!operand_pair(self, value, x, y)) return 0;
    const Array found = any(equal(x, y));
    evaluate_released(found, "bool");
    return found.item<bool>() ? 1 : 0;
  });
}

// "mx" under whatever name the module was imported as.
py::object core_module() { return py::module_::import("lamina.core"); }

// The namespace of the array API standard, where it follows that version of it.
py::object array_api(PyObject* version) {
  const py::module_ api = py::module_::import("lamina.array_api");
  if (version != Py_None) {
    const py::object known = api.attr("__array_api_versions__");
    if (!known.contains(borrowed(version))) {
      throw ValueError(fmt::format("[__array_namespace__] wanted one of the API versions {}, got {}",
                                   py::cast<std::string>(py::str(known)),
                                   py::cast<std::string>(py::repr(borrowed(version)))));
    }
  }
  return api;
}

void add_conversions_to_python(const Scope& type) {
  def(type, "item(self) -> Any",
      "The one element as a Python number; evaluates.\n"
      "@raises ValueError Where the array has not exactly one element.\n>>> mx.array([5]).item()\n5\n",
      [](PyObject* self) { return array_item(value_of(self)); });
  def(type, "tolist(self) -> Any",
      "Nested lists of Python numbers, a number for a 0-d array; evaluates.\n>>> mx.array([[1, "
      "2]]).tolist()\n[[1, 2]]\n",
      [](PyObject* self) { return array_tolist(value_of(self)); });
  def(type, "__complex__(self) -> complex", "The one element as a complex number.", [](PyObject* self) {
    const py::object item = owned(array_item(value_of(self)));
    return PyObject_CallOneArg(reinterpret_cast<PyObject*>(&PyComplex_Type), item.ptr());
  });
  def(type, "__bytes__(self) -> bytes", "The elements' bytes in row-major order.", [](PyObject* self) {
    const Array a = copy_of(value_of(self));
    return PyBytes_FromStringAndSize(static_cast<const char*>(a.node()->buffer->data()),
                                     static_cast<Py_ssize_t>(a.nbytes()));
  });
  def(type, "__format__(self, format_spec: str, /) -> str",
      "Formats a 0-d array as the Python number it holds.", [](PyObject* self, const std::string& format) {
        if (value_of(self).ndim() != 0) {
          if (format.empty()) return array_repr(self);
          throw TypeError(fmt::format("an array of shape {} takes no format, got '{}'",
                                      to_string(value_of(self).shape()), format));
        }
        const py::object item = owned(array_item(value_of(self)));
        return PyObject_Format(item.ptr(), owned(to_python(format)).ptr());
      });
  def(type, "to_device(self, device: Device | DeviceType, /, *, stream: StreamOrDevice = None) -> array",
      "The array on that device: the array itself, since there is one memory.\n@device The device.\n"
      "@raises ValueError Where this machine or build has no such device.\n"
      ">>> mx.array([1, 2]).to_device(mx.cpu)\narray([1, 2], dtype=int32)\n",
      [](PyObject* self, Any device) {
        const std::optional<Device> d = as_device(device.object);
        if (!d) device.wrong();
        if (d->index < 0 || d->index >= device_count(d->type)) {
          throw ValueError(fmt::format("[to_device] {} is not available", to_string(*d)));
        }
        return value_of(self);
      });
  def(type, "__array_namespace__(self, *, api_version: str | None = None)",
      "The namespace of the array API standard for these arrays: lamina.array_api.",
      [](PyObject*, PyObject* api_version) { return array_api(api_version); });
}

// Pickling: the dtype's name, the shape and the bytes.
Array from_state(PyObject* state) {
  if (!PyTuple_Check(state) || PyTuple_GET_SIZE(state) != 3)
    throw ValueError("[array] not the state of a pickled array");
  const auto t = py::reinterpret_borrow<py::tuple>(state);
  const Dtype dtype = dtype_from_name(py::cast<std::string>(t[0]));
  const auto shape = as_integers(py::object(t[1]).ptr());
  if (!shape) throw ValueError("[array] not the state of a pickled array");
  const py::object bytes = t[2];
  Py_buffer view;
  if (PyObject_GetBuffer(bytes.ptr(), &view, PyBUF_SIMPLE) != 0) throw py::error_already_set();
  const std::unique_ptr<Py_buffer, void (*)(Py_buffer*)> keep(&view, PyBuffer_Release);
  const auto item = itemsize(dtype);
  if (num_elements(*shape) * static_cast<int64_t>(item) != view.len) {
    throw ValueError(fmt::format("[array] a pickled {} array of shape {} cannot have {} bytes",
                                 dtype_name(dtype), to_string(*shape), view.len));
  }
  return Array::copy_host(view.buf, static_cast<size_t>(view.len) / item, dtype, *shape);
}

py::tuple state_of(PyObject* self) {
  const Array a = copy_of(value_of(self));
  const auto* data = static_cast<const char*>(a.node()->buffer->data());
  return py::make_tuple(std::string(dtype_name(a.dtype())), owned(to_python(a.shape())),
                        py::bytes(data, a.nbytes()));
}

void add_copying(const Scope& core, const Scope& type) {
  def(core, "_rebuild_array(state: tuple) -> array", "The array of a pickled state.",
      [](PyObject* state) { return from_state(state); });
  def(type, "__getstate__(self) -> tuple", "What pickle stores.",
      [](PyObject* self) { return state_of(self); });
  def(type, "__setstate__(self, state: tuple, /)", "Gives the array a pickled value.",
      [](PyObject* self, PyObject* state) { value_of(self) = from_state(state); });
  def(type, "__reduce__(self) -> tuple", "What pickle stores, and how to read it back.", [](PyObject* self) {
    return py::make_tuple(core_module().attr("_rebuild_array"), py::make_tuple(state_of(self)));
  });
  def(type, "__copy__(self) -> array", "Another Python object with the same value.",
      [](PyObject* self) { return value_of(self); });
  def(type, "__deepcopy__(self, memo: dict, /) -> array", "Another Python object with the same value.",
      [](PyObject* self, PyObject*) { return copy_of(value_of(self)); });
}

void add_properties(const Scope& type) {
  def_property(type, "shape: tuple[int, ...]", "Lengths of the axes.",
               [](PyObject* s) { return value_of(s).shape(); });
  def_property(type, "dtype: Dtype", "Type of the elements.",
               [](PyObject* s) { return value_of(s).dtype(); });
  def_property(type, "ndim: int", "Number of axes.", [](PyObject* s) { return int64_t{value_of(s).ndim()}; });
  def_property(type, "size: int", "Number of elements.", [](PyObject* s) { return value_of(s).size(); });
  def_property(type, "itemsize: int", "Bytes of one element.",
               [](PyObject* s) { return value_of(s).itemsize(); });
  def_property(type, "nbytes: int", "Bytes of all elements.",
               [](PyObject* s) { return value_of(s).nbytes(); });
  def_property(type, "device: Device", "The device whose memory holds the array.",
               [](PyObject*) { return Device{}; });
  def_property(type, "T: array", "The array with its axes reversed.",
               [](PyObject* s) { return transpose(value_of(s)); });
  def_property(type, "mT: array", "The array with its last two axes swapped.", [](PyObject* s) {
    const Array& a = value_of(s);
    if (a.ndim() < 2) throw ShapeError("[mT] wants at least 2 axes, got shape " + to_string(a.shape()));
    return swapaxes(a, -1, -2);
  });
  def_property(type, "real: array", "Real part.", [](PyObject* s) { return real(value_of(s)); });
  def_property(type, "imag: array", "Imaginary part.", [](PyObject* s) { return imag(value_of(s)); });
}

PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(PyArray, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

}  // namespace

Scope add_array_type(const Scope& core) {
  std::vector<PyType_Slot> slots = {
      slot(Py_tp_new, array_new), slot(Py_tp_dealloc, array_dealloc),   slot(Py_tp_repr, array_repr),
      slot(Py_tp_iter, iterate),  slot(Py_sq_contains, contains_value), {Py_tp_members, members},
  };
  append_number_slots(slots);
  append_index_slots(slots);
  append_buffer_slots(slots);
  array_type = make_heap_type("lamina.core.array", sizeof(PyArray), constructor().documentation,
                              std::move(slots), Py_TPFLAGS_BASETYPE);
  array_type->tp_vectorcall = &array_vectorcall;
  const Scope type = add_type(core, array_type);
  remember_function("array", "__init__", &constructor());
  define_box<Iterator>(core, "lamina.core.ArrayIterator", "Iterates over the first axis of an array.",
                       {slot(Py_tp_iter, PyObject_SelfIter), slot(Py_tp_iternext, iterator_next)});
  add_properties(type);
  add_conversions_to_python(type);
  add_copying(core, type);
  // NumPy's scalars leave mixed arithmetic to the array, which stays lazy; NumPy's arrays do not.
  const py::object priority = owned(PyFloat_FromDouble(-1));
  if (PyObject_SetAttrString(type.object, "__array_priority__", priority.ptr()) < 0)
    throw py::error_already_set();
  return type;
}

}  // namespace lamina::bind
