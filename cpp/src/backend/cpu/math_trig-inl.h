// Circular functions and their inverses. Coefficients come from tools/fit/elementary.py.
#if defined(LAMINA_BACKEND_CPU_MATH_TRIG_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_BACKEND_CPU_MATH_TRIG_INL_H_
#undef LAMINA_BACKEND_CPU_MATH_TRIG_INL_H_
#else
#define LAMINA_BACKEND_CPU_MATH_TRIG_INL_H_
#endif

#include "backend/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace kernel {

template <class T>
struct TrigConsts;
template <>
struct TrigConsts<float> {
  static constexpr float kPi1 = 0x1.921fb6p+1f, kPi2 = -0x1.777a5cp-24f, kPi3 = -0x1.ee59dap-49f;
  static constexpr float kInvPi = 0x1.45f306p-2f;
  // Beyond this the three parts of pi no longer give |error| < 1 ULP near multiples of pi.
  static constexpr float kLargest = 0x1p17f;
};
template <>
struct TrigConsts<double> {
  static constexpr double kPi1 = 0x1.921fb54442d18p+1, kPi2 = 0x1.1a62633145c07p-53,
                          kPi3 = -0x1.f1976b7ed8fbcp-109;
  static constexpr double kInvPi = 0x1.45f306dc9c883p-2;
  static constexpr double kLargest = 0x1p30;
};

// a - n scale pi, for whole n below 2^17 (2^30), as if in twice the precision.
template <Real D, class V = Vec<D>>
HWY_INLINE V minus_pi_multiple(D d, V a, V n, TFromD<D> scale) {
  using C = TrigConsts<TFromD<D>>;
  V r = NegMulAdd(n, Set(d, C::kPi1 * scale), a);
  r = NegMulAdd(n, Set(d, C::kPi2 * scale), r);
  return NegMulAdd(n, Set(d, C::kPi3 * scale), r);
}
// sin(r) for |r| <= pi / 2.
template <Real D, class V = Vec<D>>
HWY_INLINE V sin_reduced(D d, V r) {
  V r2 = Mul(r, r), p;
  if constexpr (F32<D>) {
    p = poly(d, r2, -0x1.55554cp-3f, 0x1.110ecap-7f, -0x1.9f6e3ep-13f, 0x1.5da3ccp-19f);
  } else {
    p = poly(d, r2, -0x1.5555555555555p-3, 0x1.11111111110c1p-7, -0x1.a01a01a0148c1p-13,
             0x1.71de3a5287e38p-19, -0x1.ae6454cb63a94p-26, 0x1.6123cb2c01306p-33, -0x1.ae431e589c173p-41,
             0x1.8829b677c610dp-49);
  }
  return MulAdd(Mul(r, r2), p, r);
}
// The lowest bit of the whole number t - kRounder, moved to the sign.
template <Real D, class V = Vec<D>>
HWY_INLINE V parity_as_sign(D d, V t) {
  const RebindToUnsigned<D> du;
  return BitCast(d, ShiftLeft<8 * sizeof(TFromD<D>) - 1>(BitCast(du, t)));
}
// Lanes that are finite but too large for the reduction.
template <Real D, class V = Vec<D>>
HWY_INLINE Mask<D> too_large(D d, V a, TFromD<D> largest = TrigConsts<TFromD<D>>::kLargest) {
  using T = TFromD<D>;
  return And(Gt(a, Set(d, largest)), Lt(a, Set(d, std::numeric_limits<T>::infinity())));
}

template <class T>
T scalar_sin(T x) {
  return std::sin(x);
}
template <class T>
T scalar_cos(T x) {
  return std::cos(x);
}
template <class T>
T scalar_tan(T x) {
  return std::tan(x);
}

// sin(x), <= 2 ULP for every x; lanes above 2^17 (float64: 2^30) take the scalar function.
template <Real D, class V = Vec<D>>
HWY_INLINE V sin(D d, V x) {
  using C = TrigConsts<TFromD<D>>;
  V a = Abs(x), rounder = Set(d, ConstsOf<D>::kRounder);
  V t = MulAdd(a, Set(d, C::kInvPi), rounder);
  V s = sin_reduced(d, minus_pi_multiple(d, a, Sub(t, rounder), 1));
  V y = Xor(Xor(s, parity_as_sign(d, t)), sign_bit(d, x));
  auto large = too_large(d, a);
  if (HWY_UNLIKELY(!AllFalse(d, large))) return lanes_by_scalar(d, large, y, x, &scalar_sin<TFromD<D>>);
  return y;
}
// cos(x), <= 2 ULP for every x; lanes above 2^17 (float64: 2^30) take the scalar function.
template <Real D, class V = Vec<D>>
HWY_INLINE V cos(D d, V x) {
  using T = TFromD<D>;
  V a = Abs(x), rounder = Set(d, ConstsOf<D>::kRounder);
  // a = (2 n + 1) pi / 2 + r, so cos(a) = -(-1)^n sin(r).
  V t = Add(MulAdd(a, Set(d, TrigConsts<T>::kInvPi), Set(d, T{-0.5})), rounder);
  V odd = MulAdd(Sub(t, rounder), Set(d, T{2}), Set(d, T{1}));
  V s = sin_reduced(d, minus_pi_multiple(d, a, odd, T{0.5}));
  V y = Xor(Xor(s, parity_as_sign(d, t)), SignBit(d));
  auto large = too_large(d, a);
  if (HWY_UNLIKELY(!AllFalse(d, large))) return lanes_by_scalar(d, large, y, x, &scalar_cos<T>);
  return y;
}
// tan(x), <= 3 ULP for every x; lanes above 2^16 take the scalar function.
template <F32 D, class V = Vec<D>>
HWY_INLINE V tan(D d, V x) {
  using C = TrigConsts<float>;
  V a = Abs(x), rounder = Set(d, Consts<float>::kRounder);
  V t = MulAdd(a, Set(d, 2 * C::kInvPi), rounder);
  V r = minus_pi_multiple(d, a, Sub(t, rounder), 0.5f), r2 = Mul(r, r);
  V p = poly(d, r2, 0x1.5554dep-2f, 0x1.112dc6p-3f, 0x1.b589fap-5f, 0x1.904f1p-6f, 0x1.985736p-9f,
             0x1.33a14ep-7f);
  V y = MulAdd(Mul(r, r2), p, r);
  auto odd = negative_sign(d, parity_as_sign(d, t));
  y = IfThenElse(odd, Div(Set(d, -1.0f), y), y);
  y = Xor(y, sign_bit(d, x));
  auto large = too_large(d, a, C::kLargest / 2);
  if (HWY_UNLIKELY(!AllFalse(d, large))) return lanes_by_scalar(d, large, y, x, &scalar_tan<float>);
  return y;
}

// s + s z P(z), the arcsine of s with z = s^2 <= 1/4.
template <F32 D, class V = Vec<D>>
HWY_INLINE V arcsin_reduced(D d, V s, V z) {
  V p = poly(d, z, 0x1.5555c8p-3f, 0x1.3301e6p-4f, 0x1.747e2p-5f, 0x1.8c29bep-6f, 0x1.596bfp-5f);
  return MulAdd(Mul(s, z), p, s);
}
// arcsin(x), <= 2 ULP; NaN outside [-1, 1].
template <F32 D, class V = Vec<D>>
HWY_INLINE V arcsin(D d, V x) {
  V a = Abs(x), half = Set(d, 0.5f);
  auto steep = Gt(a, half);
  // Beyond 1/2: pi/2 - 2 arcsin(sqrt((1 - a) / 2)).
  V z = IfThenElse(steep, NegMulAdd(a, half, half), Mul(a, a));
  V p = arcsin_reduced(d, IfThenElse(steep, Sqrt(z), a), z);
  V far = MulSub(Set(d, 2.0f), p, Set(d, TrigConsts<float>::kPi2 / 2));
  V y = IfThenElse(steep, Sub(Set(d, TrigConsts<float>::kPi1 / 2), far), p);
  return Xor(y, sign_bit(d, x));
}
// arccos(x), <= 2 ULP; NaN outside [-1, 1].
template <F32 D, class V = Vec<D>>
HWY_INLINE V arccos(D d, V x) {
  using C = TrigConsts<float>;
  V a = Abs(x), half = Set(d, 0.5f);
  auto steep = Gt(a, half), negative = Lt(x, Zero(d));
  V z = IfThenElse(steep, NegMulAdd(a, half, half), Mul(a, a));
  V p = arcsin_reduced(d, IfThenElse(steep, Sqrt(z), a), z);
  // pi/2 - arcsin(x) inside; 2 p, or pi - 2 p for negative x, outside. The low parts of pi matter near x =
  // 1/2.
  V inner = Sub(Set(d, C::kPi1 / 2), Xor(Sub(p, Xor(Set(d, C::kPi2 / 2), sign_bit(d, x))), sign_bit(d, x)));
  V outer = Add(p, p);
  outer = IfThenElse(negative, Sub(Set(d, C::kPi1), Sub(outer, Set(d, C::kPi2))), outer);
  return IfThenElse(steep, outer, inner);
}

// arctan(t) for |t| <= 1.
template <F32 D, class V = Vec<D>>
HWY_INLINE V arctan_reduced(D d, V t) {
  V z = Mul(t, t);
  V p = poly(d, z, -0x1.55553ep-2f, 0x1.9991fep-3f, -0x1.2421bap-3f, 0x1.c09a2cp-4f, -0x1.58351cp-4f,
             0x1.dacbdap-5f, -0x1.fed57p-6f, 0x1.65aae4p-7f, -0x1.d6384ep-10f);
  return MulAdd(Mul(t, z), p, t);
}
// arctan(x), <= 3 ULP.
template <F32 D, class V = Vec<D>>
HWY_INLINE V arctan(D d, V x) {
  V a = Abs(x), one = Set(d, 1.0f);
  auto steep = Gt(a, one);
  V p = arctan_reduced(d, IfThenElse(steep, Div(Set(d, -1.0f), a), a));
  V y = IfThenElse(steep, Add(Set(d, TrigConsts<float>::kPi1 / 2), p), p);
  return Xor(y, sign_bit(d, x));
}
// Angle of the point (x, y), <= 4 ULP, with C's conventions for zeros and infinities.
template <F32 D, class V = Vec<D>>
HWY_INLINE V arctan2(D d, V y, V x) {
  using C = TrigConsts<float>;
  V ax = Abs(x), ay = Abs(y);
  auto steep = Gt(ay, ax);
  V low = Min(ax, ay), high = Max(ax, ay);
  V t = Div(low, high);
  t = IfThenElse(Eq(low, high), IfThenElseZero(Gt(high, Zero(d)), Set(d, 1.0f)), t);
  V p = arctan_reduced(d, t);
  p = IfThenElse(steep, Sub(Set(d, C::kPi1 / 2), Sub(p, Set(d, C::kPi2 / 2))), p);
  p = IfThenElse(negative_sign(d, x), Sub(Set(d, C::kPi1), Sub(p, Set(d, C::kPi2))), p);
  p = Xor(p, sign_bit(d, y));
  return IfThenElse(Or(IsNaN(x), IsNaN(y)), Add(x, y), p);
}

}  // namespace kernel
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
