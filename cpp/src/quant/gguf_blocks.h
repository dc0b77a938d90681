#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "lamina/quant.h"

namespace lamina {

// The block formats of GGUF files that lamina decodes. A row of a matrix is a run of blocks, each with its
// own scale in float16 (d; its minimum in m or dmin). Byte order is little-endian, nothing is padded. q
// stands for an element's code, "nibbles" for 4-bit codes of which the low halves of a run of bytes come
// before the high halves. Fields in the order of their bytes, and what an element is:
//
//   q4_0    d, 16 bytes of nibbles                                 d * (q - 8)
//   q4_1    d, m, 16 bytes of nibbles                              d * q + m
//   q5_0    d, 32 fifth bits, 16 bytes of nibbles                  d * (q - 16)
//   q5_1    d, m, 32 fifth bits, 16 bytes of nibbles               d * q + m
//   q8_0    d, 32 int8 codes                                       d * q
//   q2_k    16 bytes (4 bits scale, 4 bits minimum), 64 bytes of 2-bit codes, d, dmin
//                                                                  d * scale * q - dmin * minimum
//   q3_k    32 bytes of third bits, 64 bytes of 2-bit codes, 16 6-bit scales in 12 bytes, d
//                                                                  d * (scale - 32) * (q - 4)
//   q4_k    d, dmin, 8 pairs of 6-bit scale and minimum in 12 bytes, 128 bytes of nibbles
//                                                                  d * scale * q - dmin * minimum
//   q5_k    d, dmin, the same 12 bytes, 32 bytes of fifth bits, 128 bytes of nibbles
//                                                                  d * scale * q - dmin * minimum
//   q6_k    128 bytes of nibbles, 64 bytes of fifth and sixth bits, 16 int8 scales, d
//                                                                  d * scale * (q - 32)
//   iq4_nl  d, 16 bytes of nibbles                                 d * kIq4Values[q]
//   iq4_xs  d, 8 times 2 high and 4 low bits of scale, 128 bytes of nibbles
//                                                                  d * (scale - 32) * kIq4Values[q]
//
// All products are exact in float32, so an element's only rounding is that of the sum, and its bits are those
// of any implementation that computes in float32 in whatever order.
struct GgufBlockType {
  QuantFormat format;
  uint32_t number;  // in files
};
inline constexpr std::array<GgufBlockType, 12> kGgufBlockTypes{{{QuantFormat::kQ4_0, 2},
                                                                {QuantFormat::kQ4_1, 3},
                                                                {QuantFormat::kQ5_0, 6},
                                                                {QuantFormat::kQ5_1, 7},
                                                                {QuantFormat::kQ8_0, 8},
                                                                {QuantFormat::kQ2K, 10},
                                                                {QuantFormat::kQ3K, 11},
                                                                {QuantFormat::kQ4K, 12},
                                                                {QuantFormat::kQ5K, 13},
                                                                {QuantFormat::kQ6K, 14},
                                                                {QuantFormat::kIq4Nl, 20},
                                                                {QuantFormat::kIq4Xs, 23}}};
// The format of that number, and a format's number; nothing where there is none.
std::optional<QuantFormat> gguf_format(uint32_t number);
std::optional<uint32_t> gguf_number(QuantFormat format);

// The sixteen values of the non-linear 4-bit formats.
inline constexpr std::array<int8_t, 16> kIq4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

// The 6-bit scales of the packed formats, for every decoder.
//
// Low nibbles of scales 0 to 7 and high ones for 8 to 15 in bytes 0 to 7; bits 4 and 5 of scale i at bit pair
// i / 4 of byte 8 + i % 4.
constexpr int q3_k_scale(const uint8_t* s, int i) {
  const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
  return low | (s[8 + i % 4] >> i / 4 * 2 & 3) << 4;
}

struct ScaleAndMinimum {
  int scale, minimum;
};
// Scales 0 to 3 and minimums 0 to 3 in the low 6 bits of bytes 0 to 7, whose top bits complete the nibbles of
// bytes 8 to 11: scales 4 to 7 low, minimums 4 to 7 high.
constexpr ScaleAndMinimum q4_k_scale(const uint8_t* s, int i) {
  if (i < 4) return {s[i] & 63, s[i + 4] & 63};
  return {(s[i + 4] & 15) | s[i - 4] >> 6 << 4, s[i + 4] >> 4 | s[i] >> 6 << 4};
}

// Of a whole iq4_xs block.
constexpr int iq4_xs_scale(const uint8_t* b, int i) {
  return (b[4 + i / 2] >> i % 2 * 4 & 15) | ((b[2] | b[3] << 8) >> i * 2 & 3) << 4;
}

// BlockFormat::decode and IntegerForm::read of each; `codes` needs no alignment, `block_scales` is not read.
using GgufDecode = void(const uint8_t* codes, const uint8_t* block_scales, int64_t blocks, float* dst);
template <QuantFormat kFormat>
void gguf_decode(const uint8_t* codes, const uint8_t* block_scales, int64_t blocks, float* dst);
template <QuantFormat kFormat>
void gguf_integers(const uint8_t* codes, const uint8_t* block_scales, int64_t blocks, uint8_t* ints,
                   float* scales, float* biases);

}  // namespace lamina
