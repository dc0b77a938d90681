#include "bindings/axes.h"

#include "bindings/from_python.h"

namespace lamina::bind {

void spread_axes(PyObject* tree, PyObject* axes, std::vector<int64_t>& out, const char* function,
                 const char* what) {
  auto fail_at = [&](PyObject* got) {
    throw ValueError(std::string("[") + function + "] " + what +
                     " must be an int, None, or a tree that fits the values, got " + type_name(got));
  };
  if (is_array(tree)) {
    if (axes == Py_None) {
      out.push_back(INT64_MIN);
    } else if (const auto axis = as_integer(axes)) {
      out.push_back(*axis);
    } else {
      fail_at(axes);
    }
    return;
  }
  const bool prefix = axes == Py_None || as_integer(axes).has_value();
  if (PyDict_Check(tree)) {
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(tree, &at, &key, &value)) {
      PyObject* part = prefix ? axes : PyDict_Check(axes) ? PyDict_GetItem(axes, key) : nullptr;
      if (!part) fail_at(axes);
      spread_axes(value, part, out, function, what);
    }
  } else if (PyList_Check(tree) || PyTuple_Check(tree)) {
    const auto items = as_items(tree);
    const auto parts = prefix ? std::nullopt : as_items(axes);
    if (!prefix && (!parts || parts->size() != items->size())) fail_at(axes);
    for (size_t i = 0; i < items->size(); ++i) {
      spread_axes((*items)[i].ptr(), prefix ? axes : (*parts)[i].ptr(), out, function, what);
    }
  }
}

std::vector<int> resolve_axes(const std::vector<int64_t>& axes, const std::vector<int64_t>& ndims,
                              const char* function, const char* what) {
  std::vector<int> out;
  for (size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] == INT64_MIN) {
      out.push_back(-1);
      continue;
    }
    if (axes[i] < -ndims[i] || axes[i] >= ndims[i]) {
      throw ValueError(std::string("[") + function + "] " + what + " " + std::to_string(axes[i]) +
                       " is out of bounds for an array with " + std::to_string(ndims[i]) + " axes");
    }
    out.push_back(static_cast<int>(axes[i] < 0 ? axes[i] + ndims[i] : axes[i]));
  }
  return out;
}

}  // namespace lamina::bind
