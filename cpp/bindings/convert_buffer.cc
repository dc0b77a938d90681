#include <fmt/format.h>

#include <cstring>

#include "bindings/convert.h"
#include "bindings/numpy_types.h"
#include "graph/eval.h"
#include "graph/node.h"
#include "memory/buffer.h"

namespace lamina::bind {
namespace {

// Where data lies and what it is. complex128 and long double have no dtype here; complex128 is narrowed.
struct Source {
  const char* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  bool complex128 = false;
  Shape shape;
  Strides byte_strides;
  bool readonly = true;
};

// Element type of a PEP 3118 format of one item.
std::optional<Dtype> format_dtype(const char* format, bool& complex128) {
  std::string_view f = format ? format : "B";
  bool swapped = false;
  if (!f.empty() && std::strchr("@=<>!", f.front())) {
    swapped = f.front() == '>' || f.front() == '!';
    f.remove_prefix(1);
  }
  complex128 = f == "Zd";
  if (f == "Zf" || f == "Zd") return swapped ? std::nullopt : std::optional(Dtype::kComplex64);
  if (f.size() != 1) return std::nullopt;
  const bool wide = sizeof(long) == 8 && format[0] != '=' && format[0] != '<' && !swapped;
  switch (f[0]) {
    case '?': return Dtype::kBool;
    case 'B': return Dtype::kUInt8;
    case 'b': return Dtype::kInt8;
    default: break;
  }
  if (swapped) return std::nullopt;
  switch (f[0]) {
    case 'H': return Dtype::kUInt16;
    case 'h': return Dtype::kInt16;
    case 'I': return Dtype::kUInt32;
    case 'i': return Dtype::kInt32;
    case 'L': return wide ? Dtype::kUInt64 : Dtype::kUInt32;
    case 'l': return wide ? Dtype::kInt64 : Dtype::kInt32;
    case 'Q': return Dtype::kUInt64;
    case 'q': return Dtype::kInt64;
    case 'e': return Dtype::kFloat16;
    case 'f': return Dtype::kFloat32;
    case 'd': return Dtype::kFloat64;
    default: return std::nullopt;
  }
}

// A buffer view that is released when the last copy of the pointer goes.
using SharedView = std::shared_ptr<Py_buffer>;
SharedView get_view(PyObject* o) {
  auto* view = new Py_buffer;
  if (PyObject_GetBuffer(o, view, PyBUF_RECORDS_RO) != 0) {
    delete view;
    throw py::error_already_set();
  }
  return SharedView(view, [](Py_buffer* v) {
    PyBuffer_Release(v);
    delete v;
  });
}

Source describe(const Py_buffer& v, PyObject* o) {
  Source s;
  const std::optional<Dtype> t = format_dtype(v.format, s.complex128);
  if (!t) {
    throw TypeError(
        fmt::format("array(): {} data of format '{}' has no dtype here; wanted bool, integers, floats of 16 "
                    "to 64 bits or complex numbers in the machine's byte order",
                    type_name(o), v.format ? v.format : "B"));
  }
  s.dtype = *t;
  s.data = static_cast<const char*>(v.buf);
  s.readonly = v.readonly != 0;
  int64_t dense = v.itemsize;
  s.shape = Shape(static_cast<size_t>(v.ndim), 0);
  s.byte_strides = s.shape;
  for (int i = v.ndim; i-- > 0;) {
    const auto at = static_cast<size_t>(i);
    s.shape[at] = v.shape ? v.shape[i] : v.len / v.itemsize;
    s.byte_strides[at] = v.strides ? v.strides[i] : dense;
    dense *= s.shape[at];
  }
  return s;
}

// NumPy refuses to export arrays of ml_dtypes' bfloat16; their bits are exported as uint16 instead.
bool is_ml_bfloat16(PyObject* o) {
  const NumpyTypes* t = numpy_types();
  if (!t || !(PyObject_TypeCheck(o, t->array) || PyObject_TypeCheck(o, t->generic))) return false;
  return py::cast<std::string>(py::str(borrowed(o).attr("dtype"))) == "bfloat16";
}

Array copy_source(const Source& s, std::optional<Dtype> dtype, Dtype wide) {
  if (s.complex128) {  // pairs of doubles, narrowed one by one
    Shape pairs = s.shape;
    Strides steps = s.byte_strides;
    pairs.push_back(2);
    steps.push_back(8);
    const Array parts = astype(copy_strided(s.data, Dtype::kFloat64, pairs, steps), Dtype::kFloat32);
    const Array c = reshape(view(parts, Dtype::kComplex64), s.shape);
    return dtype ? astype(c, *dtype) : c;
  }
  const Array raw = copy_strided(s.data, s.dtype, s.shape, s.byte_strides);
  return astype(raw, dtype.value_or(s.dtype == Dtype::kFloat64 ? wide : s.dtype));
}

// The object's data as a buffer, and whether its 16-bit words are bfloat16.
struct Exported {
  SharedView view;
  Source source;
};
Exported export_data(PyObject* o) {
  const bool bfloat = is_ml_bfloat16(o);
  const py::object words = bfloat ? borrowed(o).attr("view")("uint16") : borrowed(o);
  Exported e{get_view(words.ptr()), {}};
  e.source = describe(*e.view, o);
  if (bfloat) e.source.dtype = Dtype::kBFloat16;
  return e;
}

py::object call_if_present(PyObject* o, const char* method) {
  PyObject* found = PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(o)), method);
  if (!found) {
    PyErr_Clear();
    return {};
  }
  const py::object keep = owned(found);
  return owned(PyObject_CallMethod(o, method, nullptr));
}

void copy_rows(char*& to, const char* from, size_t item, const Shape& shape, const Strides& steps,
               size_t axis) {
  if (axis == shape.size()) {
    std::memcpy(to, from, item);
    to += item;
    return;
  }
  if (axis + 1 == shape.size() && steps[axis] == static_cast<int64_t>(item)) {
    const size_t bytes = static_cast<size_t>(shape[axis]) * item;
    std::memcpy(to, from, bytes);
    to += bytes;
    return;
  }
  for (int64_t i = 0; i < shape[axis]; ++i)
    copy_rows(to, from + i * steps[axis], item, shape, steps, axis + 1);
}

// Drops axes that continue their outer neighbour, so that dense data is one run.
void merge_axes(Shape& shape, Strides& steps, size_t item) {
  Shape lengths;
  Strides merged;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) continue;
    if (!lengths.empty() && merged.back() == shape[i] * steps[i]) {
      lengths.back() *= shape[i];
      merged.back() = steps[i];
    } else {
      lengths.push_back(shape[i]);
      merged.push_back(steps[i]);
    }
  }
  if (lengths.empty()) {
    lengths.push_back(1);
    merged.push_back(static_cast<int64_t>(item));
  }
  shape = lengths;
  steps = merged;
}

}  // namespace

Array copy_strided(const void* data, Dtype dtype, const Shape& shape, const Strides& byte_strides) {
  Array out = uninitialized(shape, dtype);
  if (num_elements(shape) == 0) return out;
  Shape lengths = shape;
  Strides steps = byte_strides;
  merge_axes(lengths, steps, itemsize(dtype));
  auto* to = static_cast<char*>(out.node()->buffer->data());
  copy_rows(to, static_cast<const char*>(data), itemsize(dtype), lengths, steps, 0);
  return out;
}

std::optional<Array> array_from_data(PyObject* o, std::optional<Dtype> dtype, Dtype wide) {
  for (const char* method : {"__lamina_array__", "__mlx_array__"}) {
    const py::object made = call_if_present(o, method);
    if (!made) continue;
    if (!is_array(made.ptr()))
      throw TypeError(fmt::format("{}() must return an array, got {}", method, type_name(made.ptr())));
    return dtype ? astype(value_of(made.ptr()), *dtype) : value_of(made.ptr());
  }
  const bool numpy = is_numpy_array(o) || numpy_scalar_kind(o) != ScalarKind::kNone;
  if (!numpy && has_dlpack(o)) {
    const Array a = from_dlpack(o, true, std::nullopt);
    return astype(a, dtype.value_or(a.dtype() == Dtype::kFloat64 ? wide : a.dtype()));
  }
  if (numpy || PyObject_CheckBuffer(o) || is_ml_bfloat16(o)) {
    const Exported e = export_data(o);
    return copy_source(e.source, dtype, wide);
  }
  const py::object made = call_if_present(o, "__array__");
  if (!made) return std::nullopt;
  if (!is_numpy_array(made.ptr()))
    throw TypeError("__array__() must return a NumPy array, got " + type_name(made.ptr()));
  return array_from_data(made.ptr(), dtype, wide);
}

std::optional<Array> adopt_data(PyObject* o, std::optional<Dtype> dtype) {
  const bool numpy = is_numpy_array(o);
  if (!numpy && has_dlpack(o)) {
    const Array a = from_dlpack(o, false, std::nullopt);
    return !dtype || *dtype == a.dtype() ? std::optional(a) : std::nullopt;
  }
  if (!numpy && !PyObject_CheckBuffer(o)) return std::nullopt;
  Exported e = export_data(o);
  const Source& s = e.source;
  const auto item = static_cast<int64_t>(itemsize(s.dtype));
  if (s.complex128 || (dtype && *dtype != s.dtype)) return std::nullopt;
  Strides steps;
  bool aligned =
      reinterpret_cast<uintptr_t>(s.data) % static_cast<uintptr_t>(std::min<int64_t>(item, 8)) == 0;
  for (int64_t b : s.byte_strides) {
    aligned &= b % item == 0;
    steps.push_back(b / item);
  }
  if (!aligned) return std::nullopt;
  // The view travels in a capsule, so that its release waits for a moment with the GIL.
  auto* kept = new SharedView(e.view);
  PyObject* capsule = PyCapsule_New(
      kept, nullptr, [](PyObject* c) { delete static_cast<SharedView*>(PyCapsule_GetPointer(c, nullptr)); });
  if (!capsule) {
    delete kept;
    throw py::error_already_set();
  }
  e.view.reset();
  return Array::adopt(const_cast<char*>(s.data), s.dtype, s.shape, steps, !s.readonly,
                      [capsule] { give_up(capsule); });
}

}  // namespace lamina::bind
