#pragma once

#include <string_view>

namespace lamina::cpu {

// How products of two bfloat16 matrices are done where they are not small.
enum class BFloat16Products {
  kFloat32,  // widened
  kDots,     // vdpbf16ps, two products an instruction and lane
  kTiles,    // of AMX
};

// Tiles where the SIMD target is "amx". Dots where it is "avx3_dl" and LAMINA_BF16_DOT=on|off says so, or
// where that is not set and they were measured to do at least kDotGain times the operations of float32
// multiply-adds (measured.h), which the first call takes. A process keeps the choice while its target stays.
// Throws ValueError, at each call, for another value of the variable, and for "on" where this CPU or build
// has no such dots.
BFloat16Products bfloat16_products();
inline constexpr double kDotGain = 1.3;

// As the variable does, from now on; "" leaves it to what was measured.
void set_bf16_dot(std::string_view value);

// What products of float32 use: "avx512", "avx2" or "plain loops"; of bfloat16: "amx tiles", "avx512_bf16" or
// "float32"; with 8-bit activations: "amx tiles", "vnni" or as float32.
const char* float32_products_name();
const char* bfloat16_products_name();
const char* int8_products_name();

}  // namespace lamina::cpu
