#include <fmt/format.h>

#include "bindings/array_slots.h"
#include "bindings/convert.h"
#include "bindings/numpy_types.h"
#include "graph/node.h"
#include "memory/buffer.h"

namespace lamina::bind {
namespace {

const char* buffer_format(Dtype t) {
  switch (t) {
    case Dtype::kBool: return "?";
    case Dtype::kUInt8: return "B";
    case Dtype::kUInt16: return "H";
    case Dtype::kUInt32: return "I";
    case Dtype::kUInt64: return "Q";
    case Dtype::kInt8: return "b";
    case Dtype::kInt16: return "h";
    case Dtype::kInt32: return "i";
    case Dtype::kInt64: return "q";
    case Dtype::kFloat16: return "e";
    case Dtype::kFloat32: return "f";
    case Dtype::kFloat64: return "d";
    case Dtype::kComplex64: return "Zf";
    case Dtype::kBFloat16: break;  // PEP 3118 has no letter for it
  }
  return nullptr;
}

// What an exported buffer keeps: the value it looks into, whatever the Python object holds later.
struct ExportedBuffer {
  Array value;
  std::vector<Py_ssize_t> shape, strides;
};

[[noreturn]] void refuse(const char* message) {
  PyErr_SetString(PyExc_BufferError, message);
  throw py::error_already_set();
}

// True where writing through a buffer changes this array's elements one by one and nothing that is read-only.
bool is_writable(const Array& a, const View& v) {
  if (a.node()->op == OpId::Scalar || !a.node()->buffer || !a.node()->buffer->writable()) return false;
  for (size_t i = 0; i < v.shape.size(); ++i) {
    if (v.shape[i] > 1 && v.strides[i] == 0) return false;
  }
  return true;
}

bool is_contiguous(const ExportedBuffer& e, Py_ssize_t item, bool fortran) {
  Py_ssize_t step = item;
  const size_t n = e.shape.size();
  for (size_t k = 0; k < n; ++k) {
    const size_t i = fortran ? k : n - 1 - k;
    if (e.shape[i] == 0) return true;
    if (e.shape[i] != 1 && e.strides[i] != step) return false;
    step *= e.shape[i];
  }
  return true;
}

void check_layout(const ExportedBuffer& e, Py_ssize_t item, int flags) {
  const bool c = is_contiguous(e, item, false);
  const bool wants_c =
      (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS || (flags & PyBUF_STRIDES) != PyBUF_STRIDES;
  const bool wants_f = (flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS;
  const bool wants_any = (flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS;
  if (wants_any && (c || is_contiguous(e, item, true))) return;
  if ((wants_c && !c) || wants_any) refuse("the array is not row-contiguous; contiguous(a) is");
  if (wants_f && !is_contiguous(e, item, true)) refuse("the array is not column-contiguous");
}

void fill_view(Py_buffer* view, PyObject* self, int flags) {
  const Array& a = value_of(self);
  const char* format = buffer_format(a.dtype());
  if (!format)
    refuse("bfloat16 has no buffer format; numpy.asarray(a) makes an ml_dtypes.bfloat16 array of it");
  evaluate_released(a, "host view");
  const View v = a.node()->view();
  const auto item = static_cast<Py_ssize_t>(itemsize(v.dtype));
  auto e = std::make_unique<ExportedBuffer>();
  e->value = a;
  e->shape.assign(v.shape.begin(), v.shape.end());
  for (int64_t s : v.strides) e->strides.push_back(static_cast<Py_ssize_t>(s) * item);
  check_layout(*e, item, flags);
  const bool writable = is_writable(a, v);
  if ((flags & PyBUF_WRITABLE) && !writable) refuse("the array's memory is read-only");
  static char nothing[8] = {};
  view->buf = v.data ? v.data : nothing;
  view->len = static_cast<Py_ssize_t>(v.size()) * item;
  view->readonly = writable ? 0 : 1;
  view->itemsize = item;
  view->format = (flags & PyBUF_FORMAT) ? const_cast<char*>(format) : nullptr;
  // Whoever asks for no shape gets the bytes in one row.
  view->ndim = (flags & PyBUF_ND) ? static_cast<int>(e->shape.size()) : 1;
  view->shape = (flags & PyBUF_ND) ? e->shape.data() : nullptr;
  view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? e->strides.data() : nullptr;
  view->suboffsets = nullptr;
  view->internal = e.release();
  view->obj = Py_NewRef(self);
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  view->obj = nullptr;
  return guarded_int([&] {
    fill_view(view, self, flags);
    return 0;
  });
}

void release_buffer(PyObject*, Py_buffer* view) {
  delete static_cast<ExportedBuffer*>(view->internal);
  drop_given_up();
}

py::object numpy_array(const Array& a, PyObject* dtype, PyObject* copy) {
  const py::module_ numpy = py::module_::import("numpy");
  const bool bfloat = a.dtype() == Dtype::kBFloat16;
  py::object out = numpy.attr("asarray")(py::memoryview(wrapped(bfloat ? view(a, Dtype::kUInt16) : a)));
  if (bfloat) out = out.attr("view")(py::module_::import("ml_dtypes").attr("bfloat16"));
  const py::object have = out.attr("dtype");
  const bool converts = dtype != Py_None && !have.equal(numpy.attr("dtype")(borrowed(dtype)));
  if (converts && copy == Py_False) {
    throw ValueError("[__array__] another dtype than the array's needs a copy, which copy=False rules out");
  }
  if (converts) return out.attr("astype")(borrowed(dtype));
  return copy == Py_True ? py::object(out.attr("copy")()) : out;
}

// Arrays inside tuples, lists and dicts as NumPy arrays; anything else as it is.
py::object numpy_tree(PyObject* o) {
  if (is_array(o)) return numpy_array(value_of(o), Py_None, Py_None);
  if (PyTuple_CheckExact(o) || PyList_CheckExact(o)) {
    const auto items = py::reinterpret_borrow<py::sequence>(o);
    py::list out;
    for (const py::handle item : items) out.append(numpy_tree(item.ptr()));
    if (PyTuple_CheckExact(o)) return py::tuple(out);
    return out;
  }
  if (!PyDict_CheckExact(o)) return borrowed(o);
  py::dict out;
  for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(o)) out[key] = numpy_tree(value.ptr());
  return out;
}

// NumPy's functions compute with NumPy arrays over the same memory; where an operand is of a third library,
// that library is asked.
py::object call_numpy(PyObject* function, PyObject* types, PyObject* args, PyObject* keywords) {
  const NumpyTypes* numpy = numpy_types();
  for (const py::handle type : py::reinterpret_borrow<py::iterable>(types)) {
    auto* t = reinterpret_cast<PyTypeObject*>(type.ptr());
    if (!PyType_IsSubtype(t, array_type) && !(numpy && PyType_IsSubtype(t, numpy->array))) {
      return borrowed(Py_NotImplemented);
    }
  }
  const py::object positional = numpy_tree(args), named = numpy_tree(keywords);
  return owned(PyObject_Call(function, positional.ptr(), named.ptr()));
}

template <class T>
PyObject* element(const char* p) {
  const T v = *reinterpret_cast<const T*>(p);
  if constexpr (std::is_same_v<T, bool>) {
    return PyBool_FromLong(v);
  } else if constexpr (std::is_same_v<T, std::complex<float>>) {
    return PyComplex_FromDoubles(static_cast<double>(v.real()), static_cast<double>(v.imag()));
  } else if constexpr (std::is_unsigned_v<T>) {
    return PyLong_FromUnsignedLongLong(v);
  } else if constexpr (std::is_integral_v<T>) {
    return PyLong_FromLongLong(v);
  } else {
    return PyFloat_FromDouble(
        static_cast<double>(static_cast<std::conditional_t<sizeof(T) == 2, float, T>>(v)));
  }
}

using Element = PyObject* (*)(const char*);
Element element_maker(Dtype t) {
  switch (t) {
    case Dtype::kBool: return element<bool>;
    case Dtype::kUInt8: return element<uint8_t>;
    case Dtype::kUInt16: return element<uint16_t>;
    case Dtype::kUInt32: return element<uint32_t>;
    case Dtype::kUInt64: return element<uint64_t>;
    case Dtype::kInt8: return element<int8_t>;
    case Dtype::kInt16: return element<int16_t>;
    case Dtype::kInt32: return element<int32_t>;
    case Dtype::kInt64: return element<int64_t>;
    case Dtype::kFloat16: return element<float16_t>;
    case Dtype::kFloat32: return element<float>;
    case Dtype::kFloat64: return element<double>;
    case Dtype::kBFloat16: return element<bfloat16_t>;
    case Dtype::kComplex64: break;
  }
  return element<std::complex<float>>;
}

PyObject* nested(const View& v, const char* data, size_t axis, Element make) {
  if (axis == v.shape.size()) return checked(make(data));
  py::object list = owned(PyList_New(static_cast<Py_ssize_t>(v.shape[axis])));
  const auto step = v.strides[axis] * static_cast<int64_t>(itemsize(v.dtype));
  for (int64_t i = 0; i < v.shape[axis]; ++i) {
    PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), nested(v, data + i * step, axis + 1, make));
  }
  return list.release().ptr();
}

}  // namespace

PyObject* array_tolist(const Array& a) {
  evaluate_released(a, "tolist");
  const Ref<Node> keep(a.node());  // an item's conversion may run code that rebinds the array
  const View v = keep->view();
  return nested(v, static_cast<const char*>(v.data), 0, element_maker(v.dtype));
}

void append_buffer_slots(std::vector<PyType_Slot>& slots) {
  slots.push_back(slot(Py_bf_getbuffer, get_buffer));
  slots.push_back(slot(Py_bf_releasebuffer, release_buffer));
}

void add_array_export(const Scope& type) {
  def(type, "__array__(self, dtype: object | None = None, copy: object | None = None) -> numpy.ndarray",
      "A NumPy array over the same memory where dtype and layout allow; evaluates. bfloat16 becomes "
      "ml_dtypes.bfloat16.",
      [](PyObject* self, PyObject* dtype, PyObject* copy) {
        return numpy_array(value_of(self), dtype, copy);
      });
  def(type,
      "__array_function__(self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...], "
      "kwargs: dict[str, Any]) -> Any",
      "What NumPy's functions do with the array: compute with a NumPy array over the same memory.",
      [](PyObject*, PyObject* function, PyObject* types, PyObject* args, PyObject* keywords) {
        return call_numpy(function, types, args, keywords);
      });
  def(type,
      "__dlpack__(self, *, stream: object | None = None, max_version: tuple[int, int] | None = None, "
      "dl_device: tuple[int, int] | None = None, copy: bool | None = None) -> object",
      "A DLPack capsule over the array's memory; evaluates.",
      [](PyObject* self, PyObject*, PyObject* max_version, PyObject* device, std::optional<bool> copy) {
        return to_dlpack(value_of(self), max_version, device, copy);
      });
  def(type, "__dlpack_device__(self) -> tuple[int, int]", "The DLPack device: (1, 0), the CPU.",
      [](PyObject*) {
        return Shape{1, 0};
      });
}

}  // namespace lamina::bind
