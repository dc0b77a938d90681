#pragma once

#include "core/view.h"
#include "ops/params.h"

namespace lamina::reference {

// The sums that define the transforms, in double precision: what the fast kernel is tested against. Contract
// as there (backend/cpu/fft.h).
void fft(FftKind kind, const View& in, const View& out, int64_t axis, double scale);

}  // namespace lamina::reference
