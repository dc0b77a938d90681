#include "bindings/callable.h"

#include <structmember.h>

namespace lamina::bind {
namespace {

PyTypeObject* transform_type = nullptr;

PyTransform* of(PyObject* o) { return reinterpret_cast<PyTransform*>(o); }

int traverse(PyObject* o, visitproc visit, void* arg) {
  PyTransform* self = of(o);
  Py_VISIT(Py_TYPE(o));
  Py_VISIT(self->function);
  Py_VISIT(self->extra);
  Py_VISIT(self->cache);
  Py_VISIT(self->dict);
  return 0;
}

int clear(PyObject* o) {
  PyTransform* self = of(o);
  Py_CLEAR(self->function);
  Py_CLEAR(self->extra);
  Py_CLEAR(self->cache);
  Py_CLEAR(self->dict);
  return 0;
}

void destroy(PyObject* o) {
  PyObject_GC_UnTrack(o);
  if (of(o)->weak_references) PyObject_ClearWeakRefs(o);
  clear(o);
  delete of(o)->impl;
  PyTypeObject* type = Py_TYPE(o);
  type->tp_free(o);
  Py_DECREF(type);
}

PyObject* call(PyObject* o, PyObject* args, PyObject* kwargs) {
  return guarded([&] { return of(o)->impl->call(of(o), args, kwargs).release().ptr(); });
}

PyObject* bind_method(PyObject* o, PyObject* instance, PyObject*) {
  if (!instance || instance == Py_None) return Py_NewRef(o);
  return PyMethod_New(o, instance);
}

PyObject* represent(PyObject* o) { return PyUnicode_FromFormat("<lamina transform of %R>", of(o)->function); }

PyMemberDef callable_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(PyTransform, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(PyTransform, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};
PyGetSetDef properties[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

}  // namespace

void add_transform_type(py::module_& m) {
  PyType_Slot slots[] = {
      {Py_tp_traverse, reinterpret_cast<void*>(&traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(&clear)},
      {Py_tp_dealloc, reinterpret_cast<void*>(&destroy)},
      {Py_tp_call, reinterpret_cast<void*>(&call)},
      {Py_tp_descr_get, reinterpret_cast<void*>(&bind_method)},
      {Py_tp_repr, reinterpret_cast<void*>(&represent)},
      {Py_tp_members, callable_members},
      {Py_tp_getset, properties},
      {0, nullptr},
  };
  PyType_Spec spec{"lamina.core.Transform", sizeof(PyTransform), 0,
                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  transform_type = reinterpret_cast<PyTypeObject*>(checked(PyType_FromSpec(&spec)));
  m.attr("_Transform") = borrowed(reinterpret_cast<PyObject*>(transform_type));
}

py::object make_transform(const char* name, PyObject* function, py::object extra,
                          std::unique_ptr<TransformCall> impl) {
  if (!PyCallable_Check(function)) {
    throw TypeError(std::string(name) + "(): argument 'fun' wants a callable, got " + type_name(function));
  }
  const py::object out = owned(transform_type->tp_alloc(transform_type, 0));
  PyTransform* self = of(out.ptr());
  self->function = Py_NewRef(function);
  self->extra = extra ? extra.release().ptr() : nullptr;
  self->impl = impl.release();
  py::module_::import("functools")
      .attr("update_wrapper")(out, borrowed(function),
                              py::make_tuple("__name__", "__qualname__", "__doc__", "__module__"),
                              py::tuple());
  return out;
}

PyTransform* as_transform(PyObject* o) { return Py_TYPE(o) == transform_type ? of(o) : nullptr; }

void give_cache(PyObject* transform) { of(transform)->cache = checked(PyDict_New()); }

}  // namespace lamina::bind
