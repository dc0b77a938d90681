#include "bindings/errors.h"

#include <cerrno>
#include <new>

#include "core/axis_error.h"
#include "lamina/error.h"

namespace lamina::bind {
namespace {

// The errno that a failed system call left in the message of an IoError decides about the subclass of
// OSError.
PyObject* os_error_class(const char* message) {
  const std::string text = message;
  if (text.find("No such file or directory") != std::string::npos) return PyExc_FileNotFoundError;
  if (text.find("Permission denied") != std::string::npos) return PyExc_PermissionError;
  if (text.find("Is a directory") != std::string::npos) return PyExc_IsADirectoryError;
  return PyExc_OSError;
}

// NumPy's class for an axis that is not there is a ValueError and an IndexError: either is expected by
// somebody.
void set_axis_error(const char* message) {
  const py::object numpy = py::reinterpret_steal<py::object>(PyImport_ImportModule("numpy.exceptions"));
  const py::object error =
      numpy ? py::reinterpret_steal<py::object>(PyObject_GetAttrString(numpy.ptr(), "AxisError")) : numpy;
  if (error) PyErr_SetString(error.ptr(), message);
}

}  // namespace

void set_python_error() noexcept {
  try {
    throw;
  } catch (py::error_already_set& e) { e.restore(); } catch (const py::builtin_exception& e) {
    e.set_error();
  } catch (const TypeError& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (const OverflowError& e) {
    PyErr_SetString(PyExc_OverflowError, e.what());
  } catch (const AxisError& e) { set_axis_error(e.what()); } catch (const ValueError& e) {
    PyErr_SetString(PyExc_ValueError, e.what());
  } catch (const IndexError& e) {
    PyErr_SetString(PyExc_IndexError, e.what());
  } catch (const OutOfMemory& e) { PyErr_SetString(PyExc_MemoryError, e.what()); } catch (const IoError& e) {
    PyErr_SetString(os_error_class(e.what()), e.what());
  } catch (const Unsupported& e) {
    PyErr_SetString(PyExc_NotImplementedError, e.what());
  } catch (const std::bad_alloc&) { PyErr_NoMemory(); } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  } catch (...) { PyErr_SetString(PyExc_RuntimeError, "an exception of an unknown type"); }
}

std::string type_name(PyObject* o) {
  if (o == Py_None) return "None";
  return Py_TYPE(o)->tp_name;
}

}  // namespace lamina::bind
