#include "bindings/numpy_types.h"

namespace lamina::bind {
namespace {

PyTypeObject* type_in(PyObject* module, const char* name) {
  PyObject* type = PyObject_GetAttrString(module, name);
  if (!type) PyErr_Clear();  // NumPy is half imported
  return reinterpret_cast<PyTypeObject*>(type);
}

}  // namespace

const NumpyTypes* numpy_types() {
  static NumpyTypes types;
  static bool found = false;
  if (found) return &types;
  static PyObject* const name = PyUnicode_InternFromString("numpy");
  PyObject* module = PyDict_GetItemWithError(PyImport_GetModuleDict(), name);
  if (!module) return nullptr;
  types = {type_in(module, "generic"),  type_in(module, "bool_"),           type_in(module, "integer"),
           type_in(module, "floating"), type_in(module, "complexfloating"), type_in(module, "ndarray")};
  found = types.generic && types.boolean && types.integer && types.floating && types.complex && types.array;
  return found ? &types : nullptr;
}

ScalarKind numpy_scalar_kind(PyObject* o) {
  const NumpyTypes* t = numpy_types();
  if (!t || !PyObject_TypeCheck(o, t->generic)) return ScalarKind::kNone;
  if (PyObject_TypeCheck(o, t->floating)) return ScalarKind::kFloat;
  if (PyObject_TypeCheck(o, t->integer)) return ScalarKind::kInt;
  if (PyObject_TypeCheck(o, t->boolean)) return ScalarKind::kBool;
  if (PyObject_TypeCheck(o, t->complex)) return ScalarKind::kComplex;
  return ScalarKind::kNone;
}

}  // namespace lamina::bind
