#pragma once

#include "core/view.h"
#include "ops/params.h"

namespace lamina::cpu {

// Transforms along an axis, times `scale`. Complex ends are complex64, real ones float32; of a real signal's
// spectrum there are n / 2 + 1 numbers, and the imaginary parts of the first and (for even n) the last are
// not read. Any strides; the views may not overlap. A signal's bits depend on its own values only.
void fft(FftKind kind, const View& in, const View& out, int64_t axis, double scale);

}  // namespace lamina::cpu
