// Hyperbolic functions and their inverses, erf and its inverse, powers. Coefficients:
// tools/fit/elementary.py.
#if defined(LAMINA_BACKEND_CPU_MATH_SPECIAL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_BACKEND_CPU_MATH_SPECIAL_INL_H_
#undef LAMINA_BACKEND_CPU_MATH_SPECIAL_INL_H_
#else
#define LAMINA_BACKEND_CPU_MATH_SPECIAL_INL_H_
#endif

#include "backend/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace kernel {

// exp(|x|) / 2 without overflow where sinh and cosh have none.
template <Real D, class V = Vec<D>>
HWY_INLINE V half_exp_of_abs(D d, V x) {
  return exp_in_range<1>(d, Min(Set(d, ConstsOf<D>::kExpHigh), Abs(x)));
}
// sinh(x), <= 2 ULP.
template <F32 D, class V = Vec<D>>
HWY_INLINE V sinh(D d, V x) {
  V x2 = Mul(x, x);
  V near = MulAdd(Mul(x, x2), poly(d, x2, 0x1.555598p-3f, 0x1.10f77cp-7f, 0x1.ab3c56p-13f), x);
  V h = half_exp_of_abs(d, x);
  V far = Sub(h, Div(Set(d, 0.25f), h));
  return IfThenElse(Lt(Abs(x), Set(d, 1.0f)), near, Xor(far, sign_bit(d, x)));
}
template <F64 D, class V = Vec<D>>
HWY_INLINE V sinh(D d, V x) {
  V h = half_exp_of_abs(d, x);
  V far = Sub(h, Div(Set(d, 0.25), h));
  V t = expm1(d, Min(Abs(x), Set(d, 1.0)));
  V near = Mul(Set(d, 0.5), Add(t, Div(t, Add(t, Set(d, 1.0)))));
  return Xor(IfThenElse(Lt(Abs(x), Set(d, 1.0)), near, far), sign_bit(d, x));
}
// cosh(x), <= 2 ULP.
template <Real D, class V = Vec<D>>
HWY_INLINE V cosh(D d, V x) {
  V h = half_exp_of_abs(d, x);
  return Add(h, Div(Set(d, TFromD<D>{0.25}), h));
}

// tanh(x), <= 2 ULP, within [-1, 1]: with t = exp(-2 |x|) - 1, |tanh x| = -t / (2 + t).
template <Real D, class V = Vec<D>>
HWY_INLINE V tanh(D d, V x) {
  using T = TFromD<D>;
  V a = Min(Set(d, F32<D> ? T{9.1f} : T{20}), Abs(x));
  V t = expm1_of_negative(d, Mul(Set(d, T{-2}), a));
  return CopySign(Div(t, Add(t, Set(d, T{2}))), x);
}

// log(1 + z) with z = 2^20 or more given as log(x) + log(2) of x.
template <F32 D, class V = Vec<D>>
HWY_INLINE V log1p_or_log_twice(D d, V z, V x) {
  auto large = Gt(x, Set(d, 0x1p20f));
  return Add(log1p(d, IfThenElse(large, x, z)), IfThenElseZero(large, Set(d, Consts<float>::kLn2Hi)));
}
// arcsinh(x), <= 4 ULP.
template <F32 D, class V = Vec<D>>
HWY_INLINE V arcsinh(D d, V x) {
  V a = Abs(x), a2 = Mul(a, a), one = Set(d, 1.0f);
  V z = Add(a, Div(a2, Add(one, Sqrt(Add(one, a2)))));
  return Xor(log1p_or_log_twice(d, z, a), sign_bit(d, x));
}
// arccosh(x), <= 4 ULP; NaN below 1.
template <F32 D, class V = Vec<D>>
HWY_INLINE V arccosh(D d, V x) {
  V one = Set(d, 1.0f), t = Sub(x, one);
  V z = Add(t, Sqrt(Mul(t, Add(x, one))));
  return IfThenElse(Lt(x, one), Set(d, std::numeric_limits<float>::quiet_NaN()), log1p_or_log_twice(d, z, x));
}
// arctanh(x), <= 4 ULP; infinite at -1 and 1, NaN beyond.
template <F32 D, class V = Vec<D>>
HWY_INLINE V arctanh(D d, V x) {
  V a = Abs(x);
  V y = Mul(Set(d, 0.5f), log1p(d, Div(Add(a, a), Sub(Set(d, 1.0f), a))));
  return Xor(y, sign_bit(d, x));
}

// erf(x), <= 2 ULP, within [-1, 1]: 1 - exp(log(erfc |x|)), the logarithm a polynomial.
template <F32 D, class V = Vec<D>>
HWY_INLINE V erf(D d, V x) {
  V a = Min(Set(d, 3.93f), Abs(x));
  // 2 / sqrt(pi) in two parts: its rounding alone would cost one ULP near zero.
  V rest = poly(d, a, -0x1.f7ac92p-25f, 0x1.45f2bcp-1f, 0x1.a51968p-4f, -0x1.3c3efep-6f, 0x1.77141p-13f,
                0x1.4d188cp-10f, -0x1.965a84p-12f, 0x1.5cc92ep-15f);
  V log = NegMulAdd(a, Set(d, 0x1.20dd76p+0f), Neg(Mul(a, rest)));
  return CopySign(expm1_of_negative(d, log), x);
}
// y with erf(y) = x, <= 3 ULP; infinite at -1 and 1, NaN beyond. y / x as a function of w = -log(1 - x^2);
// the last step adds to x * sqrt(pi) / 2, so that the polynomial's roundings count little near zero.
template <F32 D, class V = Vec<D>>
HWY_INLINE V erfinv(D d, V x) {
  V one = Set(d, 1.0f), a = Abs(x);
  V w = Neg(log_of_parts<LogBase::kE>(d, reduce_log(d, NegMulAdd(x, x, one))));
  V factor = poly(d, w, -0x1.c96212p-26f, 0x1.db2a08p-3f, 0x1.7a6ecp-7f, -0x1.320012p-9f, -0x1.0ad012p-13f,
                  0x1.74c3dp-15f, 0x1.0dedeap-18f, -0x1.0a39eap-19f, 0x1.dc2b9ap-23f, -0x1.2f11f4p-27f);
  V base = Set(d, 0x1.c5bf8ap-1f);
  auto far = Ge(w, Set(d, 5.0f));
  // 3 of 1,000 numbers between -1 and 1 lie there.
  if (!AllFalse(d, far)) {
    V s = Sub(Sqrt(w), Set(d, 3.0f));
    V tail =
        Mul(s, poly(d, s, 0x1.006dc2p+0f, 0x1.357c14p-7f, -0x1.f45718p-8f, 0x1.74ff22p-8f, -0x1.d90530p-9f,
                    0x1.828a66p-10f, -0x1.40f330p-15f, -0x1.3cf88cp-12f, 0x1.ba89d8p-14f));
    factor = IfThenElse(far, tail, factor);
    base = IfThenElse(far, Set(d, 0x1.6a9efcp+1f), base);
  }
  V y = MulAdd(x, base, Mul(x, factor));
  V limit = IfThenElse(Eq(a, one), Set(d, std::numeric_limits<float>::infinity()), NaN(d));
  return CopySign(IfThenElse(Ge(a, one), limit, y), x);
}

// log(exp(x) + exp(y)), <= 3 ULP of the larger of 1 and the result.
template <Real D, class V = Vec<D>>
HWY_INLINE V logaddexp(D d, V x, V y) {
  V high = Max(x, y), low = Min(x, y);
  V sum = Add(high, log1p(d, exp(d, Sub(low, high))));
  sum = IfThenElse(Eq(x, y), Add(x, Set(d, ConstsOf<D>::kLn2Hi)), sum);
  return IfThenElse(Or(IsNaN(x), IsNaN(y)), Add(x, y), sum);
}

// |x|^y in float64 lanes, relative error 2^-33; no special cases beyond those that arithmetic gives.
template <F64 D, class V = Vec<D>>
HWY_INLINE V power_of_abs(D d, V x, V y) {
  auto a = reduce_log(d, Abs(x));
  V s = Div(a.f, Add(Set(d, 2.0), a.f));
  V p = poly(d, Mul(s, s), 0x1.71547652b825p+1, 0x1.ec709dc53d15p-1, 0x1.2776c292863c3p-1,
             0x1.a61a2f5bbdf2bp-2, 0x1.47953e4842253p-2, 0x1.21b24a483570fp-2);
  V log = MulAdd(s, p, a.k);
  constexpr double kInf = std::numeric_limits<double>::infinity();
  log = IfThenElse(Eq(x, Zero(d)), Set(d, -kInf), log);
  log = IfThenElse(Eq(Abs(x), Set(d, kInf)), Set(d, kInf), log);
  V e = clamp(d, Mul(y, log), -200.0, 200.0), rounder = Set(d, Consts<double>::kRounder);
  V t = Add(e, rounder), n = Sub(t, rounder);
  V m = poly(d, Sub(e, n), 0x1.ffffffffabb9ep-1, 0x1.62e42ff116297p-1, 0x1.ebfbe0a4bd14ap-3,
             0x1.c6b08aaf28627p-5, 0x1.3b29dc42db9a4p-7, 0x1.5d8a7096eb3c4p-10, 0x1.446a1e1fe0552p-13,
             0x1.fe176c29b6228p-17);
  return scale_by_pow2(d, m, t, n);
}
// x^y, <= 1 ULP, with C's special cases.
template <F32 D, class V = Vec<D>>
HWY_INLINE V power(D d, V x, V y) {
  const Repartition<double, D> dd;
  const Half<D> dh;
  auto lower =
      DemoteTo(dh, power_of_abs(dd, PromoteTo(dd, LowerHalf(dh, x)), PromoteTo(dd, LowerHalf(dh, y))));
  auto upper =
      DemoteTo(dh, power_of_abs(dd, PromoteTo(dd, UpperHalf(dh, x)), PromoteTo(dd, UpperHalf(dh, y))));
  V r = Combine(d, upper, lower);
  V one = Set(d, 1.0f), inf = Set(d, std::numeric_limits<float>::infinity());
  V half = Mul(y, Set(d, 0.5f));
  auto whole = Eq(Round(y), y), even = Eq(Round(half), half);
  r = IfThenElse(AndNot(even, whole), Or(r, sign_bit(d, x)), r);
  auto root_of_negative = AndNot(whole, And(Lt(x, Zero(d)), Gt(x, Neg(inf))));
  r = IfThenElse(root_of_negative, Add(Set(d, std::numeric_limits<float>::quiet_NaN()), y), r);
  r = IfThenElse(IsNaN(x), x, r);
  auto is_one = Or(Eq(y, Zero(d)), Or(Eq(x, one), And(Eq(x, Neg(one)), Eq(Abs(y), inf))));
  return IfThenElse(is_one, one, r);
}

}  // namespace kernel
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
