#include <fmt/format.h>

#include "bindings/convert.h"
#include "bindings/numpy_types.h"
#include "graph/node.h"
#include "memory/buffer.h"

namespace lamina::bind {
namespace {

// The DLPack ABI, version 1.
enum DLDeviceType : int32_t { kDLCPU = 1, kDLCUDAHost = 3 };
struct DLDevice {
  int32_t device_type;
  int32_t device_id;
};
enum DLTypeCode : uint8_t {
  kDLInt = 0,
  kDLUInt = 1,
  kDLFloat = 2,
  kDLBfloat = 4,
  kDLComplex = 5,
  kDLBool = 6
};
struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor* self);
};
struct DLPackVersion {
  uint32_t major;
  uint32_t minor;
};
constexpr uint64_t kFlagReadOnly = 1, kFlagCopied = 2;
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned* self);
  uint64_t flags;
  DLTensor dl_tensor;
};

constexpr const char* kName = "dltensor";
constexpr const char* kUsedName = "used_dltensor";
constexpr const char* kVersionedName = "dltensor_versioned";
constexpr const char* kUsedVersionedName = "used_dltensor_versioned";

DLDataType dl_type(Dtype t) {
  const auto bits = static_cast<uint8_t>(itemsize(t) * 8);
  if (t == Dtype::kBool) return {kDLBool, 8, 1};
  if (t == Dtype::kBFloat16) return {kDLBfloat, 16, 1};
  if (is_complex(t)) return {kDLComplex, bits, 1};
  if (is_floating(t)) return {kDLFloat, bits, 1};
  return {is_signed_integer(t) ? kDLInt : kDLUInt, bits, 1};
}

Dtype from_dl_type(DLDataType d) {
  for (int i = 0; i < kNumDtypes; ++i) {
    const auto t = static_cast<Dtype>(i);
    const DLDataType have = dl_type(t);
    if (have.code == d.code && have.bits == d.bits && d.lanes == 1) return t;
  }
  throw TypeError(fmt::format("from_dlpack(): no dtype for DLPack type code {}, {} bits, {} lanes", d.code,
                              d.bits, d.lanes));
}

// What an exported tensor keeps: the array, and shape and strides for the consumer to read.
template <class Managed>
struct Export {
  Managed managed;
  Array array;
  Shape shape;
  Strides strides;
};

template <class Managed>
Managed* make_export(const Array& a) {
  const View v = a.node()->view();
  auto* e = new Export<Managed>{{}, a, v.shape, v.strides};
  DLTensor& t = e->managed.dl_tensor;
  t.data = v.data;
  t.device = {kDLCPU, 0};
  t.ndim = static_cast<int32_t>(e->shape.size());
  t.dtype = dl_type(v.dtype);
  t.shape = e->shape.data();
  t.strides = e->strides.data();
  t.byte_offset = 0;
  e->managed.manager_ctx = e;
  e->managed.deleter = [](Managed* m) { delete static_cast<Export<Managed>*>(m->manager_ctx); };
  return &e->managed;
}

template <class Managed>
void drop_unused(PyObject* capsule, const char* name) {
  if (!PyCapsule_IsValid(capsule, name)) return;
  auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (m->deleter) m->deleter(m);
}

template <class Managed>
PyObject* to_capsule(Managed* m, const char* name, PyCapsule_Destructor destructor) {
  PyObject* capsule = PyCapsule_New(m, name, destructor);
  if (!capsule) m->deleter(m);
  return checked(capsule);
}

bool writable(const Array& a) {
  return a.node()->op != OpId::Scalar && a.node()->buffer && a.node()->buffer->writable();
}

bool wants_versioned(PyObject* max_version) {
  if (max_version == Py_None) return false;
  const auto version = as_integers(max_version);
  if (!version || version->size() != 2)
    throw TypeError("__dlpack__(): max_version wants a tuple of two integers or None");
  return (*version)[0] >= 1;
}

void check_device(PyObject* device) {
  if (device == Py_None) return;
  const auto d = as_integers(device);
  if (!d || d->size() != 2) throw TypeError("__dlpack__(): dl_device wants a tuple of two integers or None");
  if ((*d)[0] != kDLCPU) {
    PyErr_Format(PyExc_BufferError,
                 "__dlpack__(): the array is on the CPU (1, 0); device (%lld, %lld) is not available",
                 static_cast<long long>((*d)[0]), static_cast<long long>((*d)[1]));
    throw py::error_already_set();
  }
}

// A consumed capsule: the tensor, and how to give it back.
struct Imported {
  DLTensor tensor;
  bool readonly;
  std::function<void()> release;
};

template <class Managed>
std::function<void()> releaser(Managed* m) {
  // Producers may run Python code in their deleter: it waits for the GIL inside a capsule.
  PyObject* capsule = checked(PyCapsule_New(m, "lamina_dltensor", [](PyObject* c) {
    auto* tensor = static_cast<Managed*>(PyCapsule_GetPointer(c, "lamina_dltensor"));
    if (tensor->deleter) tensor->deleter(tensor);
  }));
  return [capsule] { give_up(capsule); };
}

Imported consume(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, kVersionedName)) {
    auto* m = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, kVersionedName));
    if (m->version.major != 1)
      throw TypeError(fmt::format("from_dlpack(): DLPack version {} is not known", m->version.major));
    Imported in{m->dl_tensor, (m->flags & kFlagReadOnly) != 0, releaser(m)};
    PyCapsule_SetName(capsule, kUsedVersionedName);
    return in;
  }
  if (!PyCapsule_IsValid(capsule, kName))
    throw TypeError("from_dlpack(): __dlpack__() gave no fresh DLPack capsule");
  auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, kName));
  Imported in{m->dl_tensor, false, releaser(m)};
  PyCapsule_SetName(capsule, kUsedName);
  return in;
}

py::object request_capsule(PyObject* producer) {
  py::object method = borrowed(producer).attr("__dlpack__");
  try {
    return method(py::arg("max_version") = py::make_tuple(1, 0));
  } catch (py::error_already_set& e) {
    if (!e.matches(PyExc_TypeError)) throw;  // an old producer without max_version
  }
  return method();
}

Array adopt_tensor(const Imported& in) {
  const DLTensor& t = in.tensor;
  if (t.device.device_type != kDLCPU && t.device.device_type != kDLCUDAHost) {
    throw ValueError(
        fmt::format("[from_dlpack] wants data on the CPU, got device type {}", t.device.device_type));
  }
  const Dtype dtype = from_dl_type(t.dtype);
  const Shape shape(t.shape, t.shape + t.ndim);
  const Strides strides = t.strides ? Strides(t.strides, t.strides + t.ndim) : row_major_strides(shape);
  return Array::adopt(static_cast<char*>(t.data) + t.byte_offset, dtype, shape, strides, !in.readonly,
                      in.release);
}

}  // namespace

bool has_dlpack(PyObject* o) {
  return PyObject_HasAttrString(reinterpret_cast<PyObject*>(Py_TYPE(o)), "__dlpack__") == 1;
}

Array from_dlpack(PyObject* producer, std::optional<bool> copy, std::optional<Dtype> dtype) {
  if (is_array(producer)) return copy == true ? copy_of(value_of(producer)) : value_of(producer);
  const py::object capsule = request_capsule(producer);
  const Imported in = consume(capsule.ptr());
  Array a;
  try {
    a = adopt_tensor(in);
  } catch (...) {
    in.release();
    drop_given_up();
    throw;
  }
  if (copy == true) {
    a = copy_of(a);
    drop_given_up();
  }
  return dtype ? astype(a, *dtype) : a;
}

PyObject* to_dlpack(const Array& a, PyObject* max_version, PyObject* device, std::optional<bool> copy) {
  check_device(device);
  evaluate_released(a, "host view");
  // A capsule of the old kind cannot say that memory must not be written to.
  const bool versioned = wants_versioned(max_version);
  const bool copied = copy == true || (!versioned && !writable(a));
  if (copied && copy == false) {
    PyErr_SetString(PyExc_BufferError, "__dlpack__(): read-only memory wants max_version (1, 0) or a copy");
    throw py::error_already_set();
  }
  const Array source = copied ? copy_of(a) : a;
  if (!versioned) {
    return to_capsule(make_export<DLManagedTensor>(source), kName,
                      [](PyObject* c) { drop_unused<DLManagedTensor>(c, kName); });
  }
  auto* m = make_export<DLManagedTensorVersioned>(source);
  m->version = {1, 0};
  m->flags = (writable(source) ? 0 : kFlagReadOnly) | (copied ? kFlagCopied : 0);
  return to_capsule(m, kVersionedName,
                    [](PyObject* c) { drop_unused<DLManagedTensorVersioned>(c, kVersionedName); });
}

}  // namespace lamina::bind
