#pragma once

#include "core/view.h"

namespace lamina::cpu {

// Random bytes of Threefry-2x32 in counter mode, as docs/random.md lays them out. keys: uint32 [..., 2], any
// strides. out: the axes of keys but the last, then any shape: an unsigned dtype of 1, 2 or 4 bytes, or any
// dtype of that size, row-contiguous. Every key fills its own part of `out`.
void random_bits(const View& keys, const View& out);

}  // namespace lamina::cpu
