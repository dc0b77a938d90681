// Exponentials and logarithms of float32 and float64 lanes. Coefficients come from tools/fit/elementary.py;
// every target compiled here has fused multiply-add, which the argument reductions rely on.
#if defined(LAMINA_BACKEND_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_BACKEND_CPU_MATH_INL_H_
#undef LAMINA_BACKEND_CPU_MATH_INL_H_
#else
#define LAMINA_BACKEND_CPU_MATH_INL_H_
#endif

#include "backend/cpu/math_base-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace kernel {

template <class T>
struct Consts;
template <>
struct Consts<float> {
  // Adding it rounds to a whole number, which then stands in the low mantissa bits.
  static constexpr float kRounder = 0x1.8p23f;
  static constexpr float kLn2Hi = 0x1.62e43p-1f, kLn2Lo = -0x1.05c61p-29f;
  static constexpr float kLog10Of2Hi = 0x1.344136p-2f, kLog10Of2Lo = -0x1.ec10cp-27f;
  static constexpr float kLog2EHi = 0x1.715476p+0f, kLog2ELo = 0x1.4ae0cp-26f;
  static constexpr float kLog10EHi = 0x1.bcb7b2p-2f, kLog10ELo = -0x1.5b235ep-27f;
  static constexpr float kExpLow = -104.5f, kExpHigh = 92.0f, kExpm1High = 88.8f;
  static constexpr int32_t kSqrtHalfBits = 0x3f3504f3;
  static constexpr int kMantissaBits = 23, kBias = 127;
};
template <>
struct Consts<double> {
  static constexpr double kRounder = 0x1.8p52;
  static constexpr double kLn2Hi = 0x1.62e42fefa39efp-1, kLn2Lo = 0x1.abc9e3b39803fp-56;
  static constexpr double kLog10Of2Hi = 0x1.34413509f79ffp-2, kLog10Of2Lo = -0x1.9dc1da994fd21p-59;
  static constexpr double kLog2EHi = 0x1.71547652b82fep+0, kLog2ELo = 0x1.777d0ffda0d24p-56;
  static constexpr double kLog10EHi = 0x1.bcb7b1526e50ep-2, kLog10ELo = 0x1.95355baaafad3p-57;
  static constexpr double kExpLow = -746.0, kExpHigh = 712.0, kExpm1High = 709.9;
  static constexpr int64_t kSqrtHalfBits = 0x3fe6a09e667f3bcd;
  static constexpr int kMantissaBits = 52, kBias = 1023;
};
template <class D>
using ConstsOf = Consts<TFromD<D>>;

// ---- exponentials

// p * 2^n for |n| within twice the exponent range and p near 1, rounded once; t = n + kRounder.
template <Real D, class V = Vec<D>>
HWY_INLINE V scale_by_pow2(D d, V p, V t, [[maybe_unused]] V n) {
#if HWY_TARGET <= HWY_AVX3
  if constexpr (sizeof(V) == 64) {
    if constexpr (F32<D>) {
      return V{_mm512_scalef_ps(p.raw, n.raw)};
    } else {
      return V{_mm512_scalef_pd(p.raw, n.raw)};
    }
  }
#endif
  const RebindToSigned<D> di;
  using TI = TFromD<decltype(di)>;
  constexpr int kBits = ConstsOf<D>::kMantissaBits;
  // By two factors, of half of n and of the rest: only the second product rounds.
  auto ti = BitCast(di, t), bias = Set(di, TI{ConstsOf<D>::kBias} << kBits);
  auto half = AndNot(Set(di, (TI{1} << kBits) - 1), ShiftLeft<kBits - 1>(ti));
  auto rest = Sub(ShiftLeft<kBits>(ti), half);
  return Mul(Mul(p, BitCast(d, Add(half, bias))), BitCast(d, Add(rest, bias)));
}

// x = n ln 2 + r with |r| <= ln 2 / 2 and whole n = t - kRounder.
template <class V>
struct ExpArgument {
  V t, n, r;
};
template <Real D, class V = Vec<D>>
HWY_INLINE ExpArgument<V> reduce_exp(D d, V x) {
  using C = ConstsOf<D>;
  V t = MulAdd(x, Set(d, C::kLog2EHi), Set(d, C::kRounder));
  V n = Sub(t, Set(d, C::kRounder));
  V r = NegMulAdd(n, Set(d, C::kLn2Hi), x);
  return {t, n, NegMulAdd(n, Set(d, C::kLn2Lo), r)};
}
// (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2.
template <Real D, class V = Vec<D>>
HWY_INLINE V exp_tail(D d, V r) {
  if constexpr (F32<D>) {
    return poly(d, r, 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.123a0ap-7f, 0x1.6a23dep-10f);
  } else {
    return poly(d, r, 0x1.000000000000ap-1, 0x1.55555555554fap-3, 0x1.5555555550855p-5, 0x1.1111111127c59p-7,
                0x1.6c16c18433768p-10, 0x1.a01a012a42966p-13, 0x1.a01999f16d76cp-16, 0x1.71df25582a29ap-19,
                0x1.28ad8cf1bb40bp-22, 0x1.ad7fa7bfd3485p-26);
  }
}
// exp(x) / 2^kHalvings for x in [kExpLow, kExpHigh], or NaN.
template <int kHalvings = 0, Real D, class V = Vec<D>>
HWY_INLINE V exp_in_range(D d, V x) {
  auto a = reduce_exp(d, x);
  V one = Set(d, TFromD<D>{1}), shift = Set(d, TFromD<D>{kHalvings});
  V p = MulAdd(a.r, MulAdd(a.r, exp_tail(d, a.r), one), one);
  if constexpr (kHalvings == 0) return scale_by_pow2(d, p, a.t, a.n);
  return scale_by_pow2(d, p, Sub(a.t, shift), Sub(a.n, shift));
}

// exp(x), <= 1 ULP; 0 and infinity beyond the range, NaN for NaN.
template <Real D, class V = Vec<D>>
HWY_INLINE V exp(D d, V x) {
  return exp_in_range(d, clamp(d, x, ConstsOf<D>::kExpLow, ConstsOf<D>::kExpHigh));
}
// exp(-|x|), <= 1 ULP.
template <Real D, class V = Vec<D>>
HWY_INLINE V exp_of_minus_abs(D d, V x) {
  return exp_in_range(d, Max(Set(d, ConstsOf<D>::kExpLow), Or(x, SignBit(d))));
}

// exp(x) - 1, <= 2 ULP.
template <Real D, class V = Vec<D>>
HWY_INLINE V expm1(D d, V x) {
  using T = TFromD<D>;
  auto a = reduce_exp(d, clamp(d, x, ConstsOf<D>::kExpLow / 2, ConstsOf<D>::kExpm1High));
  V em1 = MulAdd(Mul(a.r, a.r), exp_tail(d, a.r), a.r);
  // At half its size, so that 2^n stays finite up to the end of the range.
  V one = Set(d, T{1});
  V scale = scale_by_pow2(d, one, Sub(a.t, one), Sub(a.n, one));
  V y = MulAdd(scale, em1, Sub(scale, Set(d, T{0.5})));
  auto tiny = Lt(Abs(x), Set(d, std::numeric_limits<T>::epsilon() / 4));
  return IfThenElse(tiny, x, Add(y, y));
}

// exp(x) - 1 for x in [-20, 0], float64 [-40, 0], <= 2 ULP; never below -1.
template <Real D, class V = Vec<D>>
HWY_INLINE V expm1_of_negative(D d, V x) {
  using T = TFromD<D>;
  const RebindToSigned<D> di;
  auto a = reduce_exp(d, x);
  V em1 = MulAdd(Mul(a.r, a.r), exp_tail(d, a.r), a.r), one = Set(d, T{1});
  V scale = BitCast(d, Add(ShiftLeft<ConstsOf<D>::kMantissaBits>(BitCast(di, a.t)), BitCast(di, one)));
  return MulAdd(scale, em1, Sub(scale, one));
}

// 1 / (1 + exp(-x)), <= 2 ULP.
template <Real D, class V = Vec<D>>
HWY_INLINE V sigmoid(D d, V x) {
  V one = Set(d, TFromD<D>{1});
  V e = exp_of_minus_abs(d, x);
  return Div(IfThenElse(Lt(x, Zero(d)), e, one), Add(one, e));
}

// ---- logarithms

// x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), for positive normal x.
template <class V>
struct LogArgument {
  V k, f;
};
template <Real D, class V = Vec<D>>
HWY_INLINE LogArgument<V> reduce_log(D d, V x) {
  using C = ConstsOf<D>;
  const RebindToSigned<D> di;
  auto bits = BitCast(di, x);
  auto k = ShiftRight<C::kMantissaBits>(Sub(bits, Set(di, C::kSqrtHalfBits)));
  V m = BitCast(d, Sub(bits, ShiftLeft<C::kMantissaBits>(k)));
  V f = Sub(m, Set(d, TFromD<D>{1}));
  if constexpr (F32<D>) {
    return {ConvertTo(d, k), f};
  } else {
    V rounder = Set(d, C::kRounder);
    return {Sub(BitCast(d, Add(BitCast(di, rounder), k)), rounder), f};
  }
}
// log(1 + f) - f for 1 + f in [sqrt(1/2), sqrt(2)), plus `low`.
template <Real D, class V = Vec<D>>
HWY_INLINE V log1p_minus_f(D d, V f, V low) {
  V f2 = Mul(f, f);
  if constexpr (F32<D>) {
    V p = poly(d, f, 0x1.555554p-2f, -0x1.000226p-2f, 0x1.99a008p-3f, -0x1.547248p-3f, 0x1.22da2ep-3f,
               -0x1.0d8534p-3f, 0x1.055afp-3f, -0x1.38b49ep-4f);
    return NegMulAdd(Set(d, 0.5f), f2, MulAdd(Mul(f2, f), p, low));
  } else {
    // With s = f / (2 + f), log(1 + f) = f - f^2/2 + s (f^2/2 + (2 atanh(s) - 2 s) / s).
    V half = Mul(Set(d, 0.5), f2);
    V s = Div(f, Add(Set(d, 2.0), f)), z = Mul(s, s);
    V p = poly(d, z, 0x1.5555555555592p-1, 0x1.999999997fe28p-2, 0x1.24924941ec7e0p-2, 0x1.c71c520bfd88fp-3,
               0x1.74663e9613532p-3, 0x1.39a1bdd163fadp-3, 0x1.2f0575493b748p-3);
    return Sub(MulAdd(s, MulAdd(z, p, half), low), half);
  }
}

enum class LogBase { kE, k2, k10 };

// k log(2) + log(1 + f) in the base.
template <LogBase kBase, Real D, class V = Vec<D>>
HWY_INLINE V log_of_parts(D d, LogArgument<V> a) {
  using C = ConstsOf<D>;
  if constexpr (kBase == LogBase::kE) {
    V low = log1p_minus_f(d, a.f, Mul(a.k, Set(d, C::kLn2Lo)));
    return MulAdd(a.k, Set(d, C::kLn2Hi), Add(a.f, low));
  } else {
    // f and the rest are multiplied apart, which keeps the product's error at the size of the rest.
    constexpr bool kTwo = kBase == LogBase::k2;
    V hi = Set(d, kTwo ? C::kLog2EHi : C::kLog10EHi), lo = Set(d, kTwo ? C::kLog2ELo : C::kLog10ELo);
    V rest = log1p_minus_f(d, a.f, Zero(d));
    V low = MulAdd(a.f, lo, Mul(rest, hi));
    if constexpr (kTwo) return Add(a.k, MulAdd(a.f, hi, low));
    low = MulAdd(a.k, Set(d, C::kLog10Of2Lo), low);
    return MulAdd(a.k, Set(d, C::kLog10Of2Hi), MulAdd(a.f, hi, low));
  }
}
// y = log(x) for normal positive x; this puts in the rest: -infinity, infinity and NaN.
template <Real D, class V = Vec<D>>
HWY_INLINE V log_limits(D d, V x, V y) {
  using L = std::numeric_limits<TFromD<D>>;
  V outside = IfThenElse(Eq(x, Zero(d)), Set(d, -L::infinity()), Set(d, L::quiet_NaN()));
  y = IfThenElse(Gt(x, Zero(d)), y, outside);
  return IfThenElse(Lt(x, Set(d, L::infinity())), y, Add(x, y));
}
template <LogBase kBase, Real D, class V = Vec<D>>
HWY_INLINE V log_any_base(D d, V x) {
  using T = TFromD<D>;
  constexpr T kUp = F32<D> ? T(0x1p25) : T(0x1p54);
  auto subnormal = Lt(x, Set(d, std::numeric_limits<T>::min()));
  auto a = reduce_log(d, IfThenElse(subnormal, Mul(x, Set(d, kUp)), x));
  a.k = Sub(a.k, IfThenElseZero(subnormal, Set(d, F32<D> ? T{25} : T{54})));
  return log_limits(d, x, log_of_parts<kBase>(d, a));
}

// Logarithms, <= 2 ULP, subnormals included; -infinity at 0, NaN below.
template <Real D, class V = Vec<D>>
HWY_INLINE V log(D d, V x) {
  return log_any_base<LogBase::kE>(d, x);
}
template <Real D, class V = Vec<D>>
HWY_INLINE V log2(D d, V x) {
  return log_any_base<LogBase::k2>(d, x);
}
template <Real D, class V = Vec<D>>
HWY_INLINE V log10(D d, V x) {
  return log_any_base<LogBase::k10>(d, x);
}

// log(1 + x), <= 3 ULP, with the sign of x at zero.
template <Real D, class V = Vec<D>>
HWY_INLINE V log1p(D d, V x) {
  using T = TFromD<D>;
  using C = ConstsOf<D>;
  const RebindToSigned<D> di;
  V one = Set(d, T{1}), u = Add(x, one);
  auto a = reduce_log(d, u);
  // f = (1 + x) 2^-k - 1 from x itself, which 1 + x may have rounded; pointless, and out of range, for large
  // x.
  auto k = ShiftRight<C::kMantissaBits>(Sub(BitCast(di, u), Set(di, C::kSqrtHalfBits)));
  V scale = BitCast(d, Sub(BitCast(di, one), ShiftLeft<C::kMantissaBits>(k)));
  auto large = Gt(x, Set(d, T(0x1p60)));
  a.f = IfThenElse(large, a.f, MulAdd(x, scale, Sub(scale, one)));
  V y = log_limits(d, u, log_of_parts<LogBase::kE>(d, a));
  return CopySign(y, x);
}

}  // namespace kernel
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
