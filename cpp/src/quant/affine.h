#pragma once

#include <cstdint>

#include "core/view.h"

namespace lamina {

// The affine block format. Along the last axis every `group` elements share a scale and a bias:
//   w = scale * q + bias,   q an unsigned integer of `bits` bits.
// Codes are one little-endian bit stream a row: element i of a row occupies bits [i * bits, (i + 1) * bits)
// of its words, least significant bit first. Any cols that is a multiple of 32 ends on a word, so rows never
// share one.
//
// Encoding works in float: with lo and hi the group's extremes (NaN skipped) and n = 2^bits - 1,
//   scale = max((hi - lo) / n, 1e-7), negated where |lo| <= |hi|;  edge = lo where |lo| > |hi|, else hi;
//   q0 = rint(edge / scale);  if q0 != 0: scale = edge / q0, bias = edge;  else bias = 0.
// So the extreme of larger magnitude is exact, and zero is (nearly) a code. Codes are clip(rint((w - bias) /
// scale), 0, n) with the unrounded scale and bias, ties to even; NaN encodes as 0. Scale and bias are then
// rounded to w's dtype.
inline constexpr int kAffineGroups[] = {32, 64, 128};
inline constexpr int kAffineBits[] = {1, 2, 3, 4, 5, 6, 8};

bool affine_supported(int group, int bits);
// 32-bit words of a row of `cols` codes; cols must be a multiple of 32.
constexpr int64_t affine_row_words(int64_t cols, int bits) { return cols / 32 * bits; }

// Scale and bias of a group, unrounded, from its extremes.
struct AffineEdges {
  float scale, bias;
};
AffineEdges affine_edges(float lo, float hi, int bits);

// w [.., rows, cols] (float16, bfloat16 or float32; any strides) -> packed uint32 [.., rows,
// affine_row_words(cols)], scales and biases [.., rows, cols / group] in w's dtype. The three outputs are
// row-contiguous and alias nothing. Raises ValueError (group, bits), DtypeError and ShapeError.
void affine_quantize(const View& w, int group, int bits, const View& packed, const View& scales,
                     const View& biases);

// The inverse: w (row-contiguous, in the dtype of the scales) = round(round(scale * q) + bias), each rounding
// in that dtype. packed, scales and biases may have any strides.
void affine_dequantize(const View& packed, const View& scales, const View& biases, int group, int bits,
                       const View& w);

}  // namespace lamina
