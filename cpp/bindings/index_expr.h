#pragma once

#include <vector>

#include "bindings/from_python.h"

namespace lamina::bind {

// One item of an index expression after `...` and boolean masks have been written out.
struct IndexTerm {
  enum class Kind : uint8_t { kInteger, kSlice, kNewAxis, kArray };
  Kind kind = Kind::kSlice;
  int64_t start = 0, stop = 0, step = 1;  // of a slice, as slice() takes them; start also of an integer
  Array array;                            // of kArray: integers
  bool whole = false;                     // a slice that takes all of its axis as it is
  bool new_axis = false;  // an array that indexes a new axis of length 1: what a 0-d mask becomes
};

// What stands between the brackets of a[...], against an array of a given shape: one term for each axis, with
// new axes between them. Integers are not negative and within bounds.
struct IndexExpr {
  std::vector<IndexTerm> terms;
  bool has_arrays = false;

  bool is_advanced(const IndexTerm& t) const {
    return t.kind == IndexTerm::Kind::kArray || (has_arrays && t.kind == IndexTerm::Kind::kInteger);
  }
};

// Throws IndexError for an expression that does not fit the shape. Masks are evaluated here: the number of
// their true elements decides the shape of the result.
IndexExpr parse_index(PyObject* index, const Shape& shape);

// A boolean array index alone (no tuple), which assignment turns into `where`; an empty handle for anything
// else.
Array lone_mask(PyObject* index);

// The array with the axes that 0-d masks index.
Array with_mask_axes(const Array& a, const IndexExpr& e);

// The parts of the expression that slice() takes, for that array: integers as slices of length 1, index
// arrays and
// `:` as whole axes.
struct SliceArguments {
  Shape start, stop;
  Strides step;
};
SliceArguments slice_part(const IndexExpr& e, const Shape& shape);

// Where things lie in the result of an advanced read: the axes that the index arrays broadcast to come at
// `position` among the others (NumPy's rule: where the advanced items are neighbours, else first).
struct Placement {
  std::vector<Array> indices;  // broadcast against each other; integers among the advanced items included
  Axes axes;                   // the axis that each of them indexes
  Shape outer;                 // their common shape
  size_t position = 0;
};
Placement place(const IndexExpr& e);

Array read_index(const Array& a, const IndexExpr& e);
// `a` with the indexed part set to, or combined with, `value`.
Array write_index(const Array& a, const IndexExpr& e, const Array& value, ScatterMode mode);
// a[mask] = value where value has one element for each place or broadcasts; an empty handle where it has one
// for each true element of the mask instead.
Array write_mask(const Array& a, const Array& mask, const Array& value);

}  // namespace lamina::bind
