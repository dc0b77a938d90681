#pragma once

#include <span>

#include "core/view.h"

namespace lamina::cpu {

// Indices are of any integer dtype; negative ones count from the end; one outside its axis throws
// IndexError("[op] index 7 is out of bounds for axis 0 of length 5") and leaves `out` undefined. src and out
// have one dtype and do not overlap.

// out = src with `axis` replaced by the axes of `indices`.
void take(const View& src, const View& indices, const View& out, int64_t axis, const char* op = "take");

// out[.., i, ..] = src[.., indices[.., i, ..], ..]; indices and out have one shape, which outside `axis` is
// that of src (stride-0 axes broadcast).
void take_along_axis(const View& src, const View& indices, const View& out, int64_t axis,
                     const char* op = "take_along_axis");

// out[i..., j...] = src[j + starts(i)]: starts(i) is indices[n][i...] along axes[n] and 0 along the others.
// The index views have one (broadcast) shape I; slice_sizes has a length for every axis of src; out.shape is
// I followed by slice_sizes. A slice that would reach past the end throws like an index out of bounds.
void gather(const View& src, std::span<const View> indices, const Axes& axes, const Shape& slice_sizes,
            const View& out, const char* op = "gather");

}  // namespace lamina::cpu
