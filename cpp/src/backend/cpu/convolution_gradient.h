#pragma once

#include "core/view.h"
#include "ops/params.h"

namespace lamina::cpu {

// convolution() for operands whose first axis is the one that lies together in memory, x[c, i..., n] and
// weight[o, k..., n], as in the gradient of a weight: a product whose factors are both packed from rows of
// memory, without a transpose. Returns false, and does nothing, where the operands are not like that.
// The same bits as of the same values in any other layout.
bool convolve_turned(const View& x, const View& weight, const View& out, const ConvolutionParams& p);

// convolution() of a group for every channel with many taps and few outputs, as in the gradient of such a
// weight: lines of taps are summed for all channels at once. x is row-contiguous. Returns false, and does
// nothing, where the shapes are not like that.
bool convolve_many_taps(const View& x, const View& weight, const View& out, const ConvolutionParams& p);

}  // namespace lamina::cpu
