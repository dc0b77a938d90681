#pragma once

#include "core/view.h"
#include "lamina/quant.h"

namespace lamina::cpu {

// block_dequantize of quant/formats.h with vectors where the format has a decoder for them: same contract,
// same values.
void dequantize_blocks(QuantFormat format, const View& codes, const View* scales, const View& w);

}  // namespace lamina::cpu
