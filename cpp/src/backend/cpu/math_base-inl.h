// What the vector functions share: lane type concepts, polynomials, clamping, lane-by-lane fallbacks.
#if defined(LAMINA_BACKEND_CPU_MATH_BASE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_BACKEND_CPU_MATH_BASE_INL_H_
#undef LAMINA_BACKEND_CPU_MATH_BASE_INL_H_
#else
#define LAMINA_BACKEND_CPU_MATH_BASE_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace hn = hwy::HWY_NAMESPACE;

// What the lanes of a descriptor D hold.
template <class D>
concept F32 = std::is_same_v < hn::TFromD<D>,
float > ;
template <class D>
concept F64 = std::is_same_v < hn::TFromD<D>,
double > ;
template <class D>
concept Real = std::is_floating_point_v<hn::TFromD<D>>;
template <class D>
concept Int = std::is_integral_v<hn::TFromD<D>>;
template <class D>
concept SignedInt = Int<D> && std::is_signed_v<hn::TFromD<D>>;

namespace kernel {

using namespace hn;

// c0 + c1 x + c2 x^2 + ... by Horner's rule.
template <class D, class V = Vec<D>>
HWY_INLINE V poly(D d, V, TFromD<D> c) {
  return Set(d, c);
}
template <class D, class V = Vec<D>, class... C>
HWY_INLINE V poly(D d, V x, TFromD<D> c0, C... rest) {
  return MulAdd(x, poly(d, x, rest...), Set(d, c0));
}

// x held between lo and hi; NaN stays NaN, for x86 takes the second operand of Min and Max where one is NaN.
template <class D, class V = Vec<D>>
HWY_INLINE V clamp(D d, V x, TFromD<D> lo, TFromD<D> hi) {
  return Max(Set(d, lo), Min(Set(d, hi), x));
}

template <class D, class V = Vec<D>>
HWY_INLINE V sign_bit(D d, V x) {
  return And(x, SignBit(d));
}

// x != y, true for NaN: Highway's Ne is false there on AVX-512.
template <class V>
HWY_INLINE auto differ(V x, V y) {
  return Not(Eq(x, y));
}

// Lanes with the sign bit set, -0 and NaN included.
template <class D, class V = Vec<D>>
HWY_INLINE Mask<D> negative_sign(D d, V x) {
  const RebindToSigned<D> di;
  return MaskFromVec(BitCast(d, BroadcastSignBit(BitCast(di, x))));
}

// f(x) for the lanes in `where`, y elsewhere: for arguments so rare that vector code would not pay.
template <class D, class V, class M>
HWY_NOINLINE V lanes_by_scalar(D d, M where, V y, V x, TFromD<D> (*f)(TFromD<D>)) {
  using T = TFromD<D>;
  HWY_ALIGN T xs[MaxLanes(d)];
  HWY_ALIGN T ys[MaxLanes(d)];
  Store(x, d, xs);
  Store(IfThenZeroElse(where, Set(d, T{1})), d, ys);
  for (size_t i = 0; i < Lanes(d); ++i) ys[i] = ys[i] == T{0} ? f(xs[i]) : T{0};
  return IfThenElse(where, Load(d, ys), y);
}
template <class D, class V, class M>
HWY_NOINLINE V lanes_by_scalar(D d, M where, V z, V x, V y, TFromD<D> (*f)(TFromD<D>, TFromD<D>)) {
  using T = TFromD<D>;
  HWY_ALIGN T xs[MaxLanes(d)];
  HWY_ALIGN T ys[MaxLanes(d)];
  HWY_ALIGN T zs[MaxLanes(d)];
  Store(x, d, xs);
  Store(y, d, ys);
  Store(IfThenZeroElse(where, Set(d, T{1})), d, zs);
  for (size_t i = 0; i < Lanes(d); ++i) zs[i] = zs[i] == T{0} ? f(xs[i], ys[i]) : T{0};
  return IfThenElse(where, Load(d, zs), z);
}

}  // namespace kernel
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
