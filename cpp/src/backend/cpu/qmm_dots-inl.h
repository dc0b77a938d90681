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

// Where dots of bytes come from pairs in 16 bits (vpmaddubsw). Narrow codes, of 6 bits or less, are one
// factor as they are, and pairs of two steps fit. Wide ones are made signed, so that their size is that
// factor and their sign goes to the other one: their dots lack kWideCentre times the sum of the other factor.
#define LAMINA_QMM_PAIRS (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3)
constexpr int kWideCentre = 128;

inline bool wide_codes(const QmmWeights& w) { return w.integers.most > 63; }
// What dots of these weights' codes lack the sum of activations times.
inline int dots_lack(const QmmWeights& w) {
  return (LAMINA_QMM_PAIRS && wide_codes(w) ? kWideCentre : 0) - w.integers.offset;
}

#if LAMINA_SIMD_TARGET
// v, computed before what follows.
HWY_INLINE VI pinned(VI v) {
  asm("" : "+v"(v.raw));
  return v;
}
#endif

#if LAMINA_QMM_PAIRS
// In 16-bit lanes, the dots of two unsigned bytes of w and two signed ones of x.
template <bool kNarrow>
HWY_INLINE VI pairs_of(VI w, VI x) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (kNarrow) return VI{_mm512_maddubs_epi16(w.raw, x.raw)};
  const __m512i centred = _mm512_xor_si512(w.raw, _mm512_set1_epi8(-128));
  const __m512i turned =
      _mm512_mask_sub_epi8(x.raw, _mm512_movepi8_mask(centred), _mm512_setzero_si512(), x.raw);
  return VI{_mm512_maddubs_epi16(_mm512_abs_epi8(centred), turned)};
#else
  if constexpr (kNarrow) return VI{_mm256_maddubs_epi16(w.raw, x.raw)};
  const __m256i centred = _mm256_xor_si256(w.raw, _mm256_set1_epi8(-128));
  return VI{_mm256_maddubs_epi16(_mm256_abs_epi8(centred), _mm256_sign_epi8(x.raw, centred))};
#endif
}

HWY_INLINE VI add_pairs(VI a, VI b) {
  const hn::Repartition<int16_t, DI> d16;
  // GCC would add up in the form of a tree, whose leaves no registers hold.
  return pinned(hn::BitCast(DI(), hn::Add(hn::BitCast(d16, a), hn::BitCast(d16, b))));
}

// sum + both 16-bit numbers of each lane.
HWY_INLINE VI add_both(VI sum, VI pairs) {
#if HWY_TARGET == HWY_AVX3
  return hn::Add(sum, VI{_mm512_madd_epi16(pairs.raw, _mm512_set1_epi16(1))});
#else
  return hn::Add(sum, VI{_mm256_madd_epi16(pairs.raw, _mm256_set1_epi16(1))});
#endif
}
#endif  // LAMINA_QMM_PAIRS

// sum + the dot products of 4 unsigned bytes of w with 4 signed bytes of x, per 32-bit lane (less what wide
// codes lack); no step saturates.
template <bool kNarrow>
HWY_INLINE VI add_dots(VI sum, VI w, VI x) {
#if HWY_TARGET == HWY_AVX3_DL
  // The target's attribute list lacks avx512vnni, which every CPU of this target has.
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(w.raw), "v"(x.raw));
  return sum;
#elif LAMINA_QMM_PAIRS
  return add_both(sum, pairs_of<kNarrow>(w, x));
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
