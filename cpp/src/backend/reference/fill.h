#pragma once

#include <cstdint>

#include "core/view.h"

namespace lamina::reference {

// out[i] = start + i * step over the row-major index i. Floating and complex dtypes compute in double and
// round once; integers wrap.
void arange(const View& out, double start, double step);
void arange(const View& out, int64_t start, int64_t step);
// out[..., r, c] = (c == r + k), in any dtype and any strides; `out` has at least two axes.
void eye(const View& out, int64_t k);
// out[..., r, c] = (c <= r + k).
void tri(const View& out, int64_t k);

}  // namespace lamina::reference
