#pragma once

#include <memory>

#include "bindings/array_object.h"

namespace lamina::bind {

struct PyTransform;

// What calling a transformed function does. It holds no Python references: those are in the object.
struct TransformCall {
  virtual ~TransformCall() = default;
  virtual py::object call(PyTransform* self, PyObject* args, PyObject* kwargs) = 0;
};

// A function made from another one (grad, vmap, compile, ...). It looks like the function it wraps
// (functools), binds as a method, and the garbage collector sees what it holds.
struct PyTransform {
  PyObject_HEAD PyObject* function;
  PyObject* extra;  // other objects of the transform, or null
  PyObject* cache;  // a dict, or null
  PyObject* dict;
  PyObject* weak_references;
  TransformCall* impl;

  py::object wrapped_function() const { return borrowed(function); }
};

// Throws TypeError where `function` cannot be called.
py::object make_transform(const char* name, PyObject* function, py::object extra,
                          std::unique_ptr<TransformCall> impl);
// The object as a transform; null where it is none.
PyTransform* as_transform(PyObject* o);
// A new empty dict as the object's cache.
void give_cache(PyObject* transform);
void add_transform_type(py::module_& m);

}  // namespace lamina::bind
