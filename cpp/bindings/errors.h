#pragma once

#include <pybind11/pybind11.h>

#include <string>

namespace lamina::bind {

namespace py = pybind11;

// A Python TypeError or IndexError on its way out; C++ code below the bindings never throws these.
class TypeError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
class OverflowError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Sets the Python error that belongs to the exception being handled. Call inside a catch block only.
void set_python_error() noexcept;

// Runs f and returns its new reference; where f throws, sets the Python error and returns null.
template <class F>
PyObject* guarded(F&& f) noexcept {
  try {
    return f();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}
// The same for slots that return an int, -1 being the error.
template <class F>
int guarded_int(F&& f) noexcept {
  try {
    return f();
  } catch (...) {
    set_python_error();
    return -1;
  }
}

// "int", "numpy.ndarray", ...: the type of an object as error messages name it.
std::string type_name(PyObject* o);

// Passes a new reference through; throws where it is null, that is where a Python error is set.
inline PyObject* checked(PyObject* o) {
  if (!o) throw py::error_already_set();
  return o;
}
inline py::object owned(PyObject* o) { return py::reinterpret_steal<py::object>(checked(o)); }
inline py::object borrowed(PyObject* o) { return py::reinterpret_borrow<py::object>(o); }

}  // namespace lamina::bind
