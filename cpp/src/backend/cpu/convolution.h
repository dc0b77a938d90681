#pragma once

#include "backend/backend.h"
#include "core/view.h"
#include "ops/params.h"

namespace lamina::cpu {

// out[n, i..., o] = sum over taps k... and channels c of x[n, i * stride + k * kernel_dilation - padding_lo,
// c]
// * weight[o, k..., c], see reference::convolution. All of one inexact dtype; x and weight of any strides,
// out row-contiguous, aliasing nothing. Sums are float32 (float64, complex64: their own), rounded once. A
// matrix product whose left factor, the inputs below each output, is read or packed straight from x; one
// weight per channel, and few outputs, have kernels of their own. Strides change no bits.
//
// Error bound for float32: |out - exact| <= (k / 256 + 256) * eps * sum |x| |weight|, componentwise, at
// worst, for sums of k products. Results do not depend on the number of threads, nor an image's on its batch.
// With an epilogue (float32 only) out has no memory.
void convolution(const View& x, const View& weight, const View& out, const ConvolutionParams& p,
                 const Epilogue* epilogue = nullptr);

}  // namespace lamina::cpu
