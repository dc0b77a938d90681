#pragma once

#include <cstdint>

namespace lamina::cpu {

// Tile registers of AMX: eight blocks of up to 16 rows of 64 bytes, and products of two of them that are
// added to a third. They belong to the SIMD target "amx" (simd_target.h), whose other kernels are those of
// avx3_dl: ask amx_active(), make an AmxTiles on the thread that works, and only then call what is below it.

// Whether CPU and system have tiles for int8 and bfloat16 products and give them to this process. The first
// call asks the system for them.
bool amx_supported();
// Whether the SIMD target in use is "amx".
bool amx_active();

// How many rows of how many bytes each tile has; as the processor reads it.
struct alignas(64) AmxShape {
  uint8_t palette = 1, first_row = 0, unused[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Eight tiles of 16 rows of 64 bytes.
inline AmxShape amx_whole_tiles() {
  AmxShape shape;
  for (int i = 0; i < 8; ++i) shape.rows[i] = 16, shape.row_bytes[i] = 64;
  return shape;
}

// Gives the calling thread tiles of that shape, zeroed, until the object dies. Not to be nested.
class AmxTiles {
 public:
  explicit AmxTiles(const AmxShape& shape) { asm volatile("ldtilecfg %0" ::"m"(shape)); }
  ~AmxTiles() { asm volatile("tilerelease"); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
};

// The assembler knows these instructions whatever the compiler's target is, so that they need no attributes.
template <int kTile>
inline void amx_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
// Row i from `rows` + i * stride_bytes.
template <int kTile>
inline void amx_load(const void* rows, int64_t stride_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride_bytes), "i"(kTile) : "memory");
}
template <int kTile>
inline void amx_store(void* rows, int64_t stride_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride_bytes), "i"(kTile) : "memory");
}
// kSum[m][n] += the products of bytes 4 k .. 4 k + 3 of row m of kLeft and bytes 4 n .. 4 n + 3 of row k of
// kRight, over k; int32, exact unless it overflows. The left bytes are unsigned or signed, the right signed.
template <int kSum, int kLeft, int kRight>
inline void amx_dot_u8s8() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kLeft), "i"(kRight));
}
template <int kSum, int kLeft, int kRight>
inline void amx_dot_s8s8() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kLeft), "i"(kRight));
}
// The same with pairs of bfloat16 in the place of four bytes, in float32: products of even and of odd
// elements are summed apart, for k in order and with one rounding for each product and its sum; the two sums
// are added, and then the tile's number. Every rounding is to nearest even; subnormal operands and results
// count as zero, whatever the thread's modes are, and nothing is signalled.
template <int kSum, int kLeft, int kRight>
inline void amx_dot_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kLeft), "i"(kRight));
}

}  // namespace lamina::cpu
