#pragma once

#include "bindings/array_object.h"

namespace lamina::bind {

// Trees of axes over trees of arrays; INT64_MIN says not mapped.

// One axis for each array of `tree`: the prefix tree `axes` holds ints or None. Errors name `function` and
// `what`.
void spread_axes(PyObject* tree, PyObject* axes, std::vector<int64_t>& out, const char* function,
                 const char* what);
// Axes of arrays with these numbers of axes, counted from the front; -1: not mapped.
std::vector<int> resolve_axes(const std::vector<int64_t>& axes, const std::vector<int64_t>& ndims,
                              const char* function, const char* what);

}  // namespace lamina::bind
