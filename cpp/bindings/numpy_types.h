#pragma once

#include "bindings/from_python.h"

namespace lamina::bind {

// NumPy's types, looked up without importing NumPy: objects of theirs exist only where somebody else has.
struct NumpyTypes {
  PyTypeObject *generic, *boolean, *integer, *floating, *complex, *array;
};
// Null until NumPy has been imported.
const NumpyTypes* numpy_types();

inline bool is_numpy_array(PyObject* o) {
  const NumpyTypes* t = numpy_types();
  return t && PyObject_TypeCheck(o, t->array);
}
// kNone for anything that is no NumPy scalar.
ScalarKind numpy_scalar_kind(PyObject* o);

}  // namespace lamina::bind
