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

}  // namespace
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
