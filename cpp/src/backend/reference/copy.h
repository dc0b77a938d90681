#pragma once

#include "core/view.h"

namespace lamina::reference {

// out[i] = in[i] for every index: same dtype, same shape, any strides in both. `out` must not have two
// indices for one element, and must not overlap `in`.
void copy(const View& in, const View& out);

}  // namespace lamina::reference
