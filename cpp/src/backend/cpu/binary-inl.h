// Functors of the binary rows; power, logaddexp and arctan2 are in math*-inl.h. A function carries its row's
// name, takes (descriptor, vector, vector), and exists for exactly the lane types that have SIMD code.
#if defined(LAMINA_BACKEND_CPU_BINARY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_BACKEND_CPU_BINARY_INL_H_
#undef LAMINA_BACKEND_CPU_BINARY_INL_H_
#else
#define LAMINA_BACKEND_CPU_BINARY_INL_H_
#endif

#include "backend/cpu/math_base-inl.h"
#include "backend/reference/elementwise_scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace kernel {

// ---- arithmetic

template <class D, class V = Vec<D>>
HWY_INLINE V add(D, V x, V y) {
  return Add(x, y);
}
template <class D, class V = Vec<D>>
HWY_INLINE V subtract(D, V x, V y) {
  return Sub(x, y);
}
template <class D, class V = Vec<D>>
requires(Real<D> || sizeof(TFromD<D>) == 2 || sizeof(TFromD<D>) == 4) HWY_INLINE V multiply(D, V x, V y) {
  return Mul(x, y);
}
template <Int D, class V = Vec<D>>
requires(sizeof(TFromD<D>) == 1) HWY_INLINE V multiply(D d, V x, V y) {
  const Repartition<uint16_t, D> dw;
  auto xw = BitCast(dw, x), yw = BitCast(dw, y);
  auto even = And(Mul(xw, yw), Set(dw, 0xff));
  auto odd = Mul(ShiftRight<8>(xw), AndNot(Set(dw, 0xff), yw));
  return BitCast(d, Or(even, odd));
}
template <Int D, class V = Vec<D>>
requires(sizeof(TFromD<D>) == 8) HWY_INLINE V multiply(D d, V x, V y) {
  const RebindToUnsigned<D> du;
  const Repartition<uint32_t, D> dn;
  auto xn = BitCast(dn, x), yn = BitCast(dn, y);
  auto cross = Mul(xn, Reverse2(dn, yn));
  auto high = ShiftLeft<32>(BitCast(du, Add(cross, Reverse2(dn, cross))));
  return BitCast(d, Add(MulEven(xn, yn), high));
}
template <Real D, class V = Vec<D>>
HWY_INLINE V divide(D, V x, V y) {
  return Div(x, y);
}

template <class V>
struct FloorParts {
  V quotient, rest;
};
// Exact floor(x / y) and x - floor(x / y) y where |x / y| is below half the whole numbers' range and y is
// finite.
template <Real D, class V = Vec<D>>
HWY_INLINE FloorParts<V> floor_parts(D d, V x, V y) {
  V q = Floor(Div(x, y));
  V r = NegMulAdd(q, y, x), one = Set(d, TFromD<D>{1});
  // The rounded quotient may have reached the next whole number, or -0 may stand for a small negative one.
  auto below = And(differ(r, Zero(d)), Lt(Xor(r, sign_bit(d, y)), Zero(d)));
  q = IfThenElse(below, Sub(q, one), q);
  return {q, IfThenElse(below, Add(r, y), r)};
}
template <Real D, class V = Vec<D>>
HWY_INLINE Mask<D> hard_to_divide(D d, V x, V y) {
  using T = TFromD<D>;
  V range = Set(d, F32<D> ? T(0x1p22) : T(0x1p51));
  auto easy = And(Lt(Abs(Div(x, y)), range), Lt(Abs(y), Set(d, std::numeric_limits<T>::infinity())));
  return Not(easy);
}
template <Real D, class V = Vec<D>>
HWY_INLINE V floor_divide(D d, V x, V y) {
  V q = floor_parts(d, x, y).quotient;
  q = IfThenElse(Eq(q, Zero(d)), CopySign(q, Xor(x, y)), q);
  auto hard = hard_to_divide(d, x, y);
  if (HWY_UNLIKELY(!AllFalse(d, hard)))
    return lanes_by_scalar(d, hard, q, x, y, &scalar::floor_divide<TFromD<D>>);
  return q;
}
template <Real D, class V = Vec<D>>
HWY_INLINE V remainder(D d, V x, V y) {
  V r = floor_parts(d, x, y).rest;
  r = IfThenElse(Eq(r, Zero(d)), CopySign(r, y), r);
  auto hard = hard_to_divide(d, x, y);
  if (HWY_UNLIKELY(!AllFalse(d, hard)))
    return lanes_by_scalar(d, hard, r, x, y, &scalar::remainder<TFromD<D>>);
  return r;
}

// ---- order

template <Int D, class V = Vec<D>>
HWY_INLINE V maximum(D, V x, V y) {
  return Max(x, y);
}
template <Int D, class V = Vec<D>>
HWY_INLINE V minimum(D, V x, V y) {
  return Min(x, y);
}
// x86 gives the second operand where one is NaN; only x needs a look.
template <Real D, class V = Vec<D>>
HWY_INLINE V maximum(D, V x, V y) {
  return IfThenElse(IsNaN(x), x, Max(x, y));
}
template <Real D, class V = Vec<D>>
HWY_INLINE V minimum(D, V x, V y) {
  return IfThenElse(IsNaN(x), x, Min(x, y));
}

template <class D, class V = Vec<D>>
HWY_INLINE Mask<D> equal(D, V x, V y) {
  return Eq(x, y);
}
template <class D, class V = Vec<D>>
HWY_INLINE Mask<D> not_equal(D, V x, V y) {
  return differ(x, y);
}
template <class D, class V = Vec<D>>
HWY_INLINE Mask<D> less(D, V x, V y) {
  return Lt(x, y);
}
template <class D, class V = Vec<D>>
HWY_INLINE Mask<D> greater(D, V x, V y) {
  return Lt(y, x);
}
template <Real D, class V = Vec<D>>
HWY_INLINE Mask<D> less_equal(D, V x, V y) {
  return Le(x, y);
}
template <Real D, class V = Vec<D>>
HWY_INLINE Mask<D> greater_equal(D, V x, V y) {
  return Le(y, x);
}
template <Int D, class V = Vec<D>>
HWY_INLINE Mask<D> less_equal(D, V x, V y) {
  return Not(Lt(y, x));
}
template <Int D, class V = Vec<D>>
HWY_INLINE Mask<D> greater_equal(D, V x, V y) {
  return Not(Lt(x, y));
}

// ---- logic and bits

template <class D, class V = Vec<D>>
HWY_INLINE Mask<D> logical_and(D d, V x, V y) {
  return And(differ(x, Zero(d)), differ(y, Zero(d)));
}
template <class D, class V = Vec<D>>
HWY_INLINE Mask<D> logical_or(D d, V x, V y) {
  return Or(differ(x, Zero(d)), differ(y, Zero(d)));
}
template <class D, class V = Vec<D>>
HWY_INLINE Mask<D> logical_xor(D d, V x, V y) {
  return Xor(differ(x, Zero(d)), differ(y, Zero(d)));
}
template <Int D, class V = Vec<D>>
HWY_INLINE V bitwise_and(D, V x, V y) {
  return And(x, y);
}
template <Int D, class V = Vec<D>>
HWY_INLINE V bitwise_or(D, V x, V y) {
  return Or(x, y);
}
template <Int D, class V = Vec<D>>
HWY_INLINE V bitwise_xor(D, V x, V y) {
  return Xor(x, y);
}

// Lanes whose shift count, taken as unsigned, is below the width.
template <Int D, class V = Vec<D>>
HWY_INLINE Mask<D> shift_in_width(D d, V y) {
  const RebindToUnsigned<D> du;
  auto width = Set(du, static_cast<TFromD<decltype(du)>>(8 * sizeof(TFromD<D>)));
  return RebindMask(d, Lt(BitCast(du, y), width));
}
template <Int D, class V = Vec<D>>
requires(sizeof(TFromD<D>) >= 4) HWY_INLINE V left_shift(D d, V x, V y) {
  return IfThenElseZero(shift_in_width(d, y), Shl(x, y));
}
template <Int D, class V = Vec<D>>
requires(sizeof(TFromD<D>) >= 4) HWY_INLINE V right_shift(D d, V x, V y) {
  if constexpr (SignedInt<D>) {
    V last = Set(d, static_cast<TFromD<D>>(8 * sizeof(TFromD<D>) - 1));
    return Shr(x, IfThenElse(shift_in_width(d, y), y, last));
  } else {
    return IfThenElseZero(shift_in_width(d, y), Shr(x, y));
  }
}

}  // namespace kernel
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
