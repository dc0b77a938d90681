#pragma once

#include "core/view.h"
#include "ops/params.h"

namespace lamina::reference {

// out[n, i..., o] = sum over taps k... and channels c of x[n, i * stride + k * kernel_dilation - padding_lo,
// c]
// * weight[o, k..., c], by plain loops: one inexact dtype, any strides, 1 to 3 spatial axes. Between the
// inputs lie input_dilation - 1 zeros; what lies outside is zero. With flip the weights are read backwards.
// Floats accumulate in double, complex64 in complex double.
void convolution(const View& x, const View& weight, const View& out, const ConvolutionParams& p);

}  // namespace lamina::reference
