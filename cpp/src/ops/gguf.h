#pragma once

#include <vector>

#include "lamina/array.h"
#include "lamina/quant.h"

namespace lamina {

// Blocks of q4_0, q4_1 or q8_0 in the affine format of groups of 32: packed words, scales and biases, as
// `quantize` gives them. Only bytes move, and the biases of q4_0 and q8_0 are -8 and -128 times the scales:
// every element is the same number, unless its bias does not fit float16 (scales beyond 8,188 and 511).
// blocks: uint8 [.., rows, bytes of a row], as GGUF files have them.
bool gguf_is_affine(QuantFormat format);
std::vector<Array> gguf_to_affine(const Array& blocks, QuantFormat format);

}  // namespace lamina
