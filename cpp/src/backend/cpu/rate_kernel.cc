#include "backend/cpu/rate_kernel.h"

#include "backend/cpu/amx.h"

namespace lamina::cpu {
namespace {

// Twelve sums are enough for two units of six cycles. They and both operands are zero, so that no number is
// subnormal, and a short form clears them. The assembler knows the instructions whatever the target is.
#define LAMINA_SUM(op, v, n) op " %%" v "12, %%" v "13, %%" v #n "\n\t"
#define LAMINA_CLEAR(n) "vpxor %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n\t"
#define LAMINA_RATE_LOOP(name, op, v)                                                                    \
  void name(int64_t rounds) {                                                                            \
    asm volatile(LAMINA_CLEAR(0) LAMINA_CLEAR(1) LAMINA_CLEAR(2) LAMINA_CLEAR(3) LAMINA_CLEAR(4)         \
                     LAMINA_CLEAR(5) LAMINA_CLEAR(6) LAMINA_CLEAR(7) LAMINA_CLEAR(8) LAMINA_CLEAR(9)     \
                         LAMINA_CLEAR(10) LAMINA_CLEAR(11) LAMINA_CLEAR(12)                              \
                             LAMINA_CLEAR(13) "1:\n\t" LAMINA_SUM(op, v, 0) LAMINA_SUM(op, v, 1)         \
                                 LAMINA_SUM(op, v, 2) LAMINA_SUM(op, v, 3) LAMINA_SUM(op, v, 4)          \
                                     LAMINA_SUM(op, v, 5) LAMINA_SUM(op, v, 6) LAMINA_SUM(op, v, 7)      \
                                         LAMINA_SUM(op, v, 8) LAMINA_SUM(op, v, 9) LAMINA_SUM(op, v, 10) \
                                             LAMINA_SUM(op, v, 11) "dec %0\n\tjnz 1b\n\tvzeroupper"      \
                 : "+r"(rounds)                                                                          \
                 :                                                                                       \
                 : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                   "xmm10", "xmm11", "xmm12", "xmm13");                                                  \
  }

LAMINA_RATE_LOOP(f32_avx2, "vfmadd231ps", "ymm")
LAMINA_RATE_LOOP(f32_avx512, "vfmadd231ps", "zmm")
LAMINA_RATE_LOOP(bfloat16_dot, "vdpbf16ps", "zmm")
LAMINA_RATE_LOOP(int8_dot, "vpdpbusd", "zmm")

#undef LAMINA_RATE_LOOP
#undef LAMINA_CLEAR
#undef LAMINA_SUM

// Four sums of two tiles by two, as products hold them. Tiles are zero at first.
template <bool kInt8>
void amx(int64_t rounds) {
  const AmxTiles held(amx_whole_tiles());
  for (; rounds > 0; --rounds) {
    if constexpr (kInt8) {
      amx_dot_u8s8<0, 4, 6>();
      amx_dot_u8s8<1, 4, 7>();
      amx_dot_u8s8<2, 5, 6>();
      amx_dot_u8s8<3, 5, 7>();
    } else {
      amx_dot_bf16<0, 4, 6>();
      amx_dot_bf16<1, 4, 7>();
      amx_dot_bf16<2, 5, 6>();
      amx_dot_bf16<3, 5, 7>();
    }
  }
}

}  // namespace

const RateLoop kRateF32Avx2{f32_avx2, 12 * 8 * 2.0}, kRateF32Avx512{f32_avx512, 12 * 16 * 2.0},
    kRateBFloat16Dot{bfloat16_dot, 12 * 32 * 2.0}, kRateInt8Dot{int8_dot, 12 * 64 * 2.0},
    kRateAmxBFloat16{amx<false>, 4 * 16 * 16 * 32 * 2.0}, kRateAmxInt8{amx<true>, 4 * 16 * 16 * 64 * 2.0};

}  // namespace lamina::cpu
