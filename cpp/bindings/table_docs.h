#pragma once

#include <string>

#include "graph/op_id.h"

namespace lamina::bind {

// Documentation of table rows, as `def` takes it; the examples' results come from the rows' scalar
// definitions.
std::string unary_doc(OpId id);
std::string binary_doc(OpId id);
std::string reduce_doc(OpId id);

}  // namespace lamina::bind
