// Which Highway targets our kernels are compiled for; include before any Highway header, and no guard: a file
// that uses foreach_target.h is compiled once per target. AVX2, AVX-512 (AVX3), AVX-512 of Ice Lake and Zen 4
// (AVX3_DL: VNNI, VBMI), and the compiler's baseline, in which kernels should choose plain loops over
// emulated vectors. A file that gains nothing from AVX3_DL defines LAMINA_WITHOUT_AVX3_DL first and runs its
// AVX3 code there.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#endif
#ifdef LAMINA_WITHOUT_AVX3_DL
#undef HWY_WANT_AVX3_DL
#elif !defined(HWY_WANT_AVX3_DL)
#define HWY_WANT_AVX3_DL
#endif
// False where only the baseline is compiled: vectors are emulated there.
#ifndef LAMINA_SIMD_TARGET
#define LAMINA_SIMD_TARGET (HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128)
#endif
