#pragma once

#include "core/view.h"

namespace lamina::cpu {

// affine_quantize and affine_dequantize of quant/affine.h with vectors: same contract, same bits. Arguments
// are valid.
void quantize_affine(const View& w, int group, int bits, const View& packed, const View& scales,
                     const View& biases);
void dequantize_affine(const View& packed, const View& scales, const View& biases, int group, int bits,
                       const View& w);

}  // namespace lamina::cpu
