#pragma once

#include <cstdint>

#include "lamina/dtype.h"

namespace lamina {

// Rows of keys or values in a cache, in 8 or 4 bits. Every kKvGroup elements of a row (the last group may be
// shorter) share a float16 scale; element = scale * code, exact in float32.
//   8 bits: one int8 code an element, -127 .. 127; scale = the largest magnitude / 127.
//   4 bits: codes -8 .. 7, kept as code + 8; two elements a byte, the earlier one in the low bits, so that
//   rows have an even length; scale = the element of largest magnitude (the negative one of two) / -8.
// The scale is rounded to float16; codes are clip(rint(x * (1 / scale))), ties to even, in float32, and 0
// where the scale is 0. A group with an infinity or NaN has the scale NaN, and so have elements beyond
// float16's range times 127 or 8 the scale infinity: what is read back is NaN.
inline constexpr int64_t kKvGroup = 32;

constexpr int64_t kv_groups(int64_t elems) { return (elems + kKvGroup - 1) / kKvGroup; }
// Bytes of a row's codes.
constexpr int64_t kv_code_bytes(int64_t elems, int bits) { return elems * bits / 8; }

void encode_kv_row(const float* row, int64_t elems, int bits, void* codes, float16_t* scales);
void decode_kv_row(const void* codes, const float16_t* scales, int64_t elems, int bits, float* row);

}  // namespace lamina
