#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "core/view.h"
#include "lamina/quant.h"

namespace lamina {

// The floating-point block formats. An element is a small float, E2M1 (4 bits, eight codes in a little-endian
// 32-bit word, the first in the lowest bits) or E4M3 (one byte), times the scale of its group:
//   mxfp4: E2M1, groups of 32, scale E8M0      (OCP Microscaling Formats, version 1.0)
//   mxfp8: E4M3, groups of 32, scale E8M0
//   nvfp4: E2M1, groups of 16, scale E4M3
//   fp8:   E4M3, groups of 128, scale float32 (as four bytes); it is read and never written
// E2M1: sign, 2 bits of exponent (bias 1), 1 of mantissa: 0, 0.5, 1, 1.5, 2, 3, 4, 6. E4M3: bias 7, largest
// 448, 0x7f and 0xff are NaN, no infinities. E8M0: 2^(code - 127); 255 is infinity, as in MLX.
inline constexpr float kE2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                    -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

constexpr float e8m0_value(uint8_t code) {
  return std::bit_cast<float>(code == 0 ? 0x00400000u : static_cast<uint32_t>(code) << 23);
}

constexpr float e4m3_value(uint8_t code) {
  const uint32_t exponent = code >> 3 & 15, mantissa = code & 7,
                 sign = static_cast<uint32_t>(code >> 7) << 31;
  if ((code & 0x7f) == 0x7f) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent == 0) {  // eighths of 2^-6
    const float size = static_cast<float>(mantissa) * 0x1p-9f;
    return sign ? -size : size;
  }
  return std::bit_cast<float>(sign | (exponent + 120) << 23 | mantissa << 20);
}

// e4m3_value and e8m0_value of every code.
extern const std::array<float, 256> kE4m3;
extern const std::array<float, 256> kE8m0;

// The nearest code: E2M1 with ties to the smaller size, no negative zero and 0 for NaN; E4M3 with ties to
// even. Sizes beyond the largest become it.
uint8_t e2m1_code(float v);
uint8_t e4m3_code(float v);

// nvfp4 may have one more scale for the whole matrix: elements are E2M1 * (E4M3 scale * (global_scale /
// kNvfp4Span)), so that a global scale of the largest size in the matrix uses all of both formats.
inline constexpr float kNvfp4Span = 448 * 6;

// Encodes w [.., cols] (float16, bfloat16 or float32; any strides) into row-contiguous codes and scales. With
// `most` the largest finite size in a group, and quotients rounded to w's dtype:
//   mxfp4, mxfp8: scale 2^e, e the least integer >= -127 with 2^e >= most / 6 or most / 448; 2^0 where most
//                 is 0
//   nvfp4:        scale e4m3_code(most / 6 * r), with r = kNvfp4Span / global_scale, or 1 without one
// and codes of w / scale (* r), which are 0 where the scale is. global_scale: nvfp4 only; one float32, or one
// for each matrix (last two axes), along one axis; or null. NaN becomes 0, or NaN in E4M3. Raises DtypeError
// and ShapeError.
void fp_quantize(QuantFormat format, const View& w, const View* global_scale, const View& codes,
                 const View& scales);

// block_dequantize of nvfp4 with a global scale.
void nvfp4_dequantize(const View& codes, const View& scales, const View& global_scale, const View& w);

// IntegerForm::read: elements as halves, twice their values and kE2m1Offset more.
inline constexpr int kE2m1Offset = 12;
void mxfp4_integers(const uint8_t* codes, const uint8_t* block_scales, int64_t blocks, uint8_t* ints,
                    float* scales, float* biases);
void nvfp4_integers(const uint8_t* codes, const uint8_t* block_scales, int64_t blocks, uint8_t* ints,
                    float* scales, float* biases);

void decode_mxfp4(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst);
void decode_mxfp8(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst);
void decode_nvfp4(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst);
void decode_fp8(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst);

}  // namespace lamina
