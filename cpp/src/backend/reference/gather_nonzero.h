#pragma once

#include <span>

#include "core/view.h"

namespace lamina::reference {

// Elements of `mask` (any dtype, any strides) that are not zero; NaN is not zero.
int64_t count_nonzero(const View& mask);

// Row-major indices of the non-zero elements: outs[d] takes their index along axis d. There is one int64 view
// a mask axis, 1-d, count_nonzero(mask) long.
void nonzero(const View& mask, std::span<const View> outs);

}  // namespace lamina::reference
