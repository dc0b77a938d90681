#pragma once

#include <span>

#include "core/view.h"

namespace lamina::cpu {

// out[i] = in[i] for every index: same dtype, same shape, any strides in both. `out` must not have two
// indices for one element, and must not overlap `in`. Threaded; transposes go through register tiles, splats
// through fills.
void copy(const View& in, const View& out);

// Writes the inputs one after the other into `out` along `axis`; dtypes and the other lengths agree.
void concatenate(std::span<const View> ins, const View& out, int64_t axis);

}  // namespace lamina::cpu
