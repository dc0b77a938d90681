// Dot products of bytes, four to a 32-bit lane. Per-target.
#if defined(LAMINA_CPU_QMM_DOTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_QMM_DOTS_INL_H_
#undef LAMINA_CPU_QMM_DOTS_INL_H_
#else
#define LAMINA_CPU_QMM_DOTS_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>

#include "backend/cpu/qmm_decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// Packed affine codes that kernels read as they are: a byte holds whole ones.
inline bool reads_packed(const QmmWeights& w) { return w.format == QuantFormat::kAffine && 8 % w.bits == 0; }
inline int64_t stream_planes(const QmmWeights& w) { return reads_packed(w) ? 8 / w.bits : 1; }
// 32-bit words of a row as streaming kernels read it.
inline int64_t stream_words(const QmmWeights& w) { return w.cols / 4 / stream_planes(w); }

// a * b + c with one rounding.
HWY_INLINE V fused(V a, V b, V c) {
#if LAMINA_SIMD_TARGET
  return hn::MulAdd(a, b, c);
#else
  return hn::Set(D(), std::fma(hn::GetLane(a), hn::GetLane(b), hn::GetLane(c)));
#endif
}

// sum + the dot products of 4 unsigned bytes of w, up to 127 where they are narrow, with 4 signed bytes of x,
// per 32-bit lane; no step saturates.
template <bool kNarrow>
HWY_INLINE VI add_dots(VI sum, VI w, VI x) {
#if HWY_TARGET == HWY_AVX3_DL
  // The target's attribute list lacks avx512vnni, which every CPU of this target has.
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(w.raw), "v"(x.raw));
  return sum;
#elif HWY_TARGET == HWY_AVX3
  const __m512i ones = _mm512_set1_epi16(1);
  if constexpr (kNarrow) {
    return VI{_mm512_add_epi32(sum.raw, _mm512_madd_epi16(_mm512_maddubs_epi16(w.raw, x.raw), ones))};
  } else {
    const __m512i low = _mm512_maddubs_epi16(_mm512_and_si512(w.raw, _mm512_set1_epi8(127)), x.raw);
    const __m512i top = _mm512_and_si512(_mm512_srli_epi16(w.raw, 7), _mm512_set1_epi8(1));
    const __m512i high = _mm512_madd_epi16(_mm512_maddubs_epi16(top, x.raw), _mm512_set1_epi16(128));
    return VI{_mm512_add_epi32(sum.raw, _mm512_add_epi32(_mm512_madd_epi16(low, ones), high))};
  }
#elif HWY_TARGET == HWY_AVX2
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (kNarrow) {
    return VI{_mm256_add_epi32(sum.raw, _mm256_madd_epi16(_mm256_maddubs_epi16(w.raw, x.raw), ones))};
  } else {
    const __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(w.raw, _mm256_set1_epi8(127)), x.raw);
    const __m256i top = _mm256_and_si256(_mm256_srli_epi16(w.raw, 7), _mm256_set1_epi8(1));
    const __m256i high = _mm256_madd_epi16(_mm256_maddubs_epi16(top, x.raw), _mm256_set1_epi16(128));
    return VI{_mm256_add_epi32(sum.raw, _mm256_add_epi32(_mm256_madd_epi16(low, ones), high))};
  }
#else
  const auto a = static_cast<uint32_t>(hn::GetLane(w)), b = static_cast<uint32_t>(hn::GetLane(x));
  int32_t dot = hn::GetLane(sum);
  for (int i = 0; i < 32; i += 8)
    dot += static_cast<int32_t>(a >> i & 255u) * static_cast<int8_t>(b >> i & 255u);
  return hn::Set(DI(), dot);
#endif
}

// Codes number kPlane of every byte of w, each in a byte.
template <int kBits, int kPlane>
HWY_INLINE VI plane_of(VI w) {
  if constexpr (kBits == 8) return w;
  const D32 d32;
  const auto shifted = hn::ShiftRight<kPlane * kBits>(hn::BitCast(d32, w));
  return hn::BitCast(DI(), hn::And(shifted, hn::Set(d32, ((1u << kBits) - 1) * 0x01010101u)));
}

}  // namespace
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
