#pragma once

#include <span>

#include "core/view.h"
#include "lamina/ops.h"

namespace lamina::reference {

// Index rules and errors as in gather.h; all indices are checked before anything is written. `out` already
// holds the values to update and has no two indices for one element. Duplicates: updates apply in row-major
// order of the indices (so kSet keeps the last), whatever the thread count.

// out[j + starts(i)] (mode)= updates[i..., j...]: shapes as in gather(), with `out` in the place of src and
// updates.shape = I followed by the slice's lengths.
void scatter(const View& out, std::span<const View> indices, const View& updates, const Axes& axes,
             ScatterMode mode, const char* op = "scatter");

// out[.., indices[.., i, ..], ..] (mode)= updates[.., i, ..]; indices and updates have one shape.
void scatter_along_axis(const View& out, const View& indices, const View& updates, int64_t axis,
                        ScatterMode mode, const char* op = "put_along_axis");

}  // namespace lamina::reference
