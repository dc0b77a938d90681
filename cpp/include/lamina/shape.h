#pragma once

#include <cstdint>
#include <string>

#include "lamina/small_vec.h"

namespace lamina {

// Lengths of an array's axes, outermost first. A 0-d array has an empty Shape.
using Shape = SmallVec<int64_t>;
// Distances in elements between neighbours along each axis; may be zero or negative.
using Strides = SmallVec<int64_t>;
// Axis numbers; negative ones count from the end until normalized.
using Axes = SmallVec<int64_t>;

// Product of the lengths; 1 for a 0-d shape. Throws ShapeError where it does not fit 63 bits.
int64_t num_elements(const Shape& shape);
// Row-major strides in elements.
Strides row_major_strides(const Shape& shape);
// "(2, 3)", "(2,)", "()" as Python prints tuples.
std::string to_string(const Shape& shape);
// NumPy broadcasting of two shapes; throws ShapeError naming `op` and both shapes.
Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op = "broadcast_shapes");

}  // namespace lamina
