// Loads and stores of float32, float16 and bfloat16 memory as float32 lanes. Per-target; include inside no
// namespace.
#if defined(LAMINA_CPU_GEMM_CONVERT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_GEMM_CONVERT_INL_H_
#undef LAMINA_CPU_GEMM_CONVERT_INL_H_
#else
#define LAMINA_CPU_GEMM_CONVERT_INL_H_
#endif

#include <hwy/highway.h>

#include <cstring>
#include <utility>

#include "lamina/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

template <size_t... kIndex, class F>
HWY_INLINE void unroll_over(std::index_sequence<kIndex...>, F& f) {
  (f(std::integral_constant<size_t, kIndex>{}), ...);
}
// f(0), f(1), ..., f(kCount - 1) with compile-time indices, so that arrays of vectors stay in registers.
template <size_t kCount, class F>
HWY_INLINE void unroll(F&& f) {
  unroll_over(std::make_index_sequence<kCount>{}, f);
}

template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const double* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const bfloat16_t* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<uint32_t, D> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}
template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const float16_t* p) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(d, static_cast<float>(*p));
#else
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<hwy::float16_t, D> dh;
  return hn::PromoteTo(d, hn::BitCast(dh, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p))));
#endif
}

template <class D>
HWY_INLINE void store_as(hn::Vec<D> v, D d, float* p) {
  hn::StoreU(v, d, p);
}
template <class D>
HWY_INLINE void store_as(hn::Vec<D> v, D d, double* p) {
  hn::StoreU(v, d, p);
}
// Rounds to nearest even; NaN stays NaN.
template <class D>
HWY_INLINE void store_as(hn::Vec<D> v, [[maybe_unused]] D d, bfloat16_t* p) {
#if HWY_TARGET == HWY_SCALAR
  *p = bfloat16_t(hn::GetLane(v));
  (void)d;
#else
  const hn::Rebind<uint32_t, D> d32;
  const hn::Rebind<int32_t, D> di32;
  const hn::Rebind<uint16_t, D> d16;
  const auto bits = hn::BitCast(d32, v);
  const auto high = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(high, hn::Set(d32, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7fff))));
  const auto quiet = hn::Or(high, hn::Set(d32, 0x40));
  const auto kept = hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet, rounded);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, kept)), d16, reinterpret_cast<uint16_t*>(p));
#endif
}
template <class D>
HWY_INLINE void store_as(hn::Vec<D> v, [[maybe_unused]] D d, float16_t* p) {
#if HWY_TARGET == HWY_SCALAR
  *p = float16_t(hn::GetLane(v));
  (void)d;
#else
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<hwy::float16_t, D> dh;
  hn::StoreU(hn::BitCast(d16, hn::DemoteTo(dh, v)), d16, reinterpret_cast<uint16_t*>(p));
#endif
}

// The first n < Lanes(d) elements, zeros after them; reads nothing else.
template <class D, class T>
HWY_INLINE hn::Vec<D> load_part(D d, const T* p, size_t n) {
#if HWY_TARGET <= HWY_AVX2
  if constexpr (sizeof(T) >= 4) return hn::MaskedLoad(hn::FirstN(d, n), d, p);
#endif
  HWY_ALIGN T part[hn::MaxLanes(d)];
  std::memset(static_cast<void*>(part), 0, sizeof part);
  std::memcpy(static_cast<void*>(part), p, n * sizeof(T));
  return load_as(d, part);
}

// Writes the first n < Lanes(d) elements and touches nothing else.
template <class D, class T>
HWY_INLINE void store_part(hn::Vec<D> v, D d, T* p, size_t n) {
  HWY_ALIGN T part[hn::MaxLanes(d)];
  store_as(v, d, part);
  std::memcpy(static_cast<void*>(p), part, n * sizeof(T));
}

// Copies 4 x 4 blocks transposed: dst[k * step + r] = s<r>[k] for k < depth.
template <class S, class T>
HWY_INLINE void transpose_rows(const S* s0, const S* s1, const S* s2, const S* s3, int64_t depth, T* dst,
                               int64_t step) {
  int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (sizeof(T) == 4) {
    const hn::FixedTag<T, 4> d;
    const hn::Repartition<uint64_t, decltype(d)> d64;
    const auto low = [=](auto x, auto y) HWY_ATTR {
      return hn::BitCast(d, hn::InterleaveLower(d64, hn::BitCast(d64, x), hn::BitCast(d64, y)));
    };
    const auto high = [=](auto x, auto y) HWY_ATTR {
      return hn::BitCast(d, hn::InterleaveUpper(d64, hn::BitCast(d64, x), hn::BitCast(d64, y)));
    };
    for (; k + 4 <= depth; k += 4) {
      const auto r0 = load_as(d, s0 + k), r1 = load_as(d, s1 + k);
      const auto r2 = load_as(d, s2 + k), r3 = load_as(d, s3 + k);
      const auto a = hn::InterleaveLower(d, r0, r1), b = hn::InterleaveUpper(d, r0, r1);
      const auto e = hn::InterleaveLower(d, r2, r3), f = hn::InterleaveUpper(d, r2, r3);
      hn::StoreU(low(a, e), d, dst + k * step);
      hn::StoreU(high(a, e), d, dst + (k + 1) * step);
      hn::StoreU(low(b, f), d, dst + (k + 2) * step);
      hn::StoreU(high(b, f), d, dst + (k + 3) * step);
    }
  }
#endif
  for (; k < depth; ++k) {
    dst[k * step] = static_cast<T>(s0[k]);
    dst[k * step + 1] = static_cast<T>(s1[k]);
    dst[k * step + 2] = static_cast<T>(s2[k]);
    dst[k * step + 3] = static_cast<T>(s3[k]);
  }
}

// The same for four rows at one distance.
template <class S, class T>
HWY_INLINE void transpose_four(const S* src, int64_t stride, int64_t depth, T* dst, int64_t step) {
  transpose_rows(src, src + stride, src + 2 * stride, src + 3 * stride, depth, dst, step);
}

// dst[k * step + r] = the 32 bits at row(r)[k] for r < width, a multiple of 16 on AVX-512 and else of 4, and
// k < depth. `row` gives float pointers.
template <class Row>
void transpose_words_of(const Row& row, int64_t width, int64_t depth, float* dst, int64_t step) {
  int64_t k = 0;
#if HWY_TARGET <= HWY_AVX3
  // Lane by lane of 128 bits, rows r, r + 4, r + 8 and r + 12 share a vector: half of the work is done by
  // loads.
  for (; k + 4 <= depth; k += 4) {
    for (int64_t first = 0; first < width; first += 16) {
      __m512 v[4];
      unroll<4>([&](auto r) HWY_ATTR {
        v[r] = _mm512_castps128_ps512(_mm_loadu_ps(row(first + r) + k));
        v[r] = _mm512_insertf32x4(v[r], _mm_loadu_ps(row(first + r + 4) + k), 1);
        v[r] = _mm512_insertf32x4(v[r], _mm_loadu_ps(row(first + r + 8) + k), 2);
        v[r] = _mm512_insertf32x4(v[r], _mm_loadu_ps(row(first + r + 12) + k), 3);
      });
      const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(v[0], v[1]));
      const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(v[0], v[1]));
      const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(v[2], v[3]));
      const __m512d e = _mm512_castps_pd(_mm512_unpackhi_ps(v[2], v[3]));
      float* out = dst + k * step + first;
      _mm512_storeu_pd(out, _mm512_unpacklo_pd(a, c));
      _mm512_storeu_pd(out + step, _mm512_unpackhi_pd(a, c));
      _mm512_storeu_pd(out + 2 * step, _mm512_unpacklo_pd(b, e));
      _mm512_storeu_pd(out + 3 * step, _mm512_unpackhi_pd(b, e));
    }
  }
  for (; k < depth; ++k) {
    for (int64_t r = 0; r < width; ++r) std::memcpy(dst + k * step + r, row(r) + k, sizeof(float));
  }
#else
  for (int64_t r = 0; r < width; r += 4) {
    transpose_rows(row(r), row(r + 1), row(r + 2), row(r + 3), depth, dst + r, step);
  }
  (void)k;
#endif
}

}  // namespace
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
