#pragma once

#include <span>
#include <utility>
#include <vector>

#include "bindings/errors.h"
#include "lamina/array.h"

namespace lamina::bind {

// The Python object `array`: a handle to a C++ Array. In-place operators replace the handle.
struct PyArray {
  PyObject_HEAD Array value;
  PyObject* weak_references;
};

// The type object; set once by add_array_type.
extern PyTypeObject* array_type;

inline bool is_array(PyObject* o) {
  return Py_TYPE(o) == array_type || PyType_IsSubtype(Py_TYPE(o), array_type);
}
inline Array& value_of(PyObject* o) { return reinterpret_cast<PyArray*>(o)->value; }

// A new Python array of that type (array_type or a subclass).
PyObject* wrap(Array value, PyTypeObject* type = array_type);
inline py::object wrapped(Array value) { return owned(wrap(std::move(value))); }
// New lists and tuples of arrays.
PyObject* wrap_list(std::vector<Array> values);
PyObject* wrap_tuple(std::vector<Array> values);

// Computes the arrays with the GIL released, unless all are ready. `why`, a literal, names the wait in
// profiles.
void evaluate_released(std::span<const Array> arrays, const char* why = "eval");
inline void evaluate_released(const Array& array, const char* why = "eval") {
  evaluate_released(std::span(&array, 1), why);
}
void async_evaluate_released(std::span<const Array> arrays);

// Releases the GIL for a scope.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil();
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

// Gives up a reference from any thread, with or without the GIL. The object dies at the next safe moment,
// never inside the call: a finalizer may run any Python code, and the caller may hold locks of the core.
void give_up(PyObject* owner) noexcept;
// Lets go of what was given up; needs the GIL.
void drop_given_up() noexcept;

}  // namespace lamina::bind
