#pragma once

#include <new>
#include <vector>

#include "bindings/function.h"

namespace lamina::bind {

// A Python object that holds a C++ value and no Python references.
template <class T>
struct Box {
  PyObject_HEAD T value;

  static inline PyTypeObject* type = nullptr;

  static bool check(PyObject* o) { return Py_TYPE(o) == type; }
  static T& of(PyObject* o) { return reinterpret_cast<Box*>(o)->value; }
  static PyObject* make(T v) {
    PyObject* self = checked(type->tp_alloc(type, 0));
    new (&of(self)) T(std::move(v));
    return self;
  }
  static void destroy(PyObject* self) {
    PyTypeObject* t = Py_TYPE(self);
    of(self).~T();
    t->tp_free(self);
    Py_DECREF(t);
  }
};

// Constructors, properties and other names of a type, for the stub file.
void remember_function(const std::string& scope, const std::string& name, const Function* function);
void remember_property(const std::string& scope, const std::string& name, const std::string& type,
                       const std::string& doc);
PyObject* list_properties();

// A new heap type. `name` ("lamina.core.Dtype") must be a literal; slots need no terminator.
PyTypeObject* make_heap_type(const char* name, size_t bytes, const std::string& doc,
                             std::vector<PyType_Slot> slots, unsigned flags);
// Adds the type to the module and returns it as a scope.
Scope add_type(const Scope& module, PyTypeObject* type);

namespace detail {

template <class F>
PyObject* construct(PyObject* type, PyObject* const* args, size_t count, PyObject* keywords) {
  return Bound<F, false>::call(type, args, PyVectorcall_NARGS(count), keywords);
}

template <class F>
PyObject* get_property(PyObject* self, void*) {
  return guarded([&] { return to_python(F{}(self)); });
}

}  // namespace detail

// Defines the type of Box<T> in the module. Without a constructor (def_constructor) Python cannot make one.
template <class T>
Scope define_box(const Scope& module, const char* name, const std::string& doc,
                 std::vector<PyType_Slot> slots) {
  slots.push_back({Py_tp_dealloc, reinterpret_cast<void*>(&Box<T>::destroy)});
  Box<T>::type =
      make_heap_type(name, sizeof(Box<T>), doc, std::move(slots), Py_TPFLAGS_DISALLOW_INSTANTIATION);
  return add_type(module, Box<T>::type);
}

// Makes the type callable: F's result is the new object.
template <class F>
void def_constructor(const Scope& type, std::string_view signature, std::string_view doc, F) {
  using B = detail::Bound<F, false>;
  B::function = new Function(signature, doc, false);
  reinterpret_cast<PyTypeObject*>(type.object)->tp_vectorcall = &detail::construct<F>;
  remember_function(type.name, "__init__", B::function);
}

// A read-only property "shape: tuple[int, ...]"; F takes the object.
template <class F>
void def_property(const Scope& type, std::string_view declaration, const char* doc, F) {
  const size_t colon = declaration.find(':');
  auto* name = new std::string(declaration.substr(0, colon));
  remember_property(type.name, *name, std::string(declaration.substr(colon + 2)), doc);
  auto* definition = new PyGetSetDef{name->c_str(), &detail::get_property<F>, nullptr, doc, nullptr};
  const py::object descriptor =
      owned(PyDescr_NewGetSet(reinterpret_cast<PyTypeObject*>(type.object), definition));
  if (PyObject_SetAttrString(type.object, name->c_str(), descriptor.ptr()) < 0) throw py::error_already_set();
}

template <class F>
PyType_Slot slot(int id, F* f) {
  return {id, reinterpret_cast<void*>(f)};
}

}  // namespace lamina::bind
