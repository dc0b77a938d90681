#pragma once

#include <string>

#include "bindings/function.h"

namespace lamina::bind {

// The Python object of a dtype (a borrowed reference; there is one for each).
PyObject* dtype_object(Dtype t);
// The prefix that dtypes print with: "lamina.core", or the name of the module that lamina stands in for.
const std::string& display_name();

void add_dtypes(const Scope& core);

}  // namespace lamina::bind
