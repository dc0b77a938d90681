// Functors of the simple unary rows; the elementary functions are in math*-inl.h. A function carries its
// row's name, takes (descriptor, vector), and exists for exactly the lane types that have SIMD code.
#if defined(LAMINA_BACKEND_CPU_UNARY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_BACKEND_CPU_UNARY_INL_H_
#undef LAMINA_BACKEND_CPU_UNARY_INL_H_
#else
#define LAMINA_BACKEND_CPU_UNARY_INL_H_
#endif

#include "backend/cpu/math_base-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace kernel {

template <Real D, class V = Vec<D>>
HWY_INLINE V negative(D d, V x) {
  return Xor(x, SignBit(d));
}
template <Int D, class V = Vec<D>>
HWY_INLINE V negative(D d, V x) {
  return Sub(Zero(d), x);
}

template <Real D, class V = Vec<D>>
HWY_INLINE V abs(D, V x) {
  return Abs(x);
}
template <SignedInt D, class V = Vec<D>>
HWY_INLINE V abs(D, V x) {
  return Abs(x);
}

template <Real D, class V = Vec<D>>
HWY_INLINE V sign(D d, V x) {
  V zero = Zero(d);
  V s = IfThenElseZero(differ(x, zero), CopySign(Set(d, TFromD<D>{1}), x));
  return IfThenElse(IsNaN(x), x, s);
}
template <SignedInt D, class V = Vec<D>>
HWY_INLINE V sign(D d, V x) {
  V zero = Zero(d), one = Set(d, TFromD<D>{1});
  return IfThenElse(Lt(x, zero), Sub(zero, one), IfThenElseZero(Gt(x, zero), one));
}

template <class D, class V = Vec<D>>
requires(Real<D> || sizeof(TFromD<D>) == 2 || sizeof(TFromD<D>) == 4) HWY_INLINE V square(D, V x) {
  return Mul(x, x);
}

template <Real D, class V = Vec<D>>
HWY_INLINE V sqrt(D, V x) {
  return Sqrt(x);
}
template <Real D, class V = Vec<D>>
HWY_INLINE V rsqrt(D d, V x) {
  return Div(Set(d, TFromD<D>{1}), Sqrt(x));
}
template <Real D, class V = Vec<D>>
HWY_INLINE V reciprocal(D d, V x) {
  return Div(Set(d, TFromD<D>{1}), x);
}

template <Real D, class V = Vec<D>>
HWY_INLINE V floor(D, V x) {
  return Floor(x);
}
template <Real D, class V = Vec<D>>
HWY_INLINE V ceil(D, V x) {
  return Ceil(x);
}
template <Real D, class V = Vec<D>>
HWY_INLINE V trunc(D, V x) {
  return Trunc(x);
}
template <Real D, class V = Vec<D>>
HWY_INLINE V round(D, V x) {
  return Round(x);
}

template <class D, class V = Vec<D>>
HWY_INLINE Mask<D> logical_not(D d, V x) {
  return Eq(x, Zero(d));
}
template <Int D, class V = Vec<D>>
HWY_INLINE V bitwise_invert(D, V x) {
  return Not(x);
}

template <Real D, class V = Vec<D>>
HWY_INLINE Mask<D> isnan(D, V x) {
  return IsNaN(x);
}
template <Real D, class V = Vec<D>>
HWY_INLINE Mask<D> isinf(D, V x) {
  return IsInf(x);
}
template <Real D, class V = Vec<D>>
HWY_INLINE Mask<D> isfinite(D, V x) {
  return IsFinite(x);
}
template <Real D, class V = Vec<D>>
HWY_INLINE Mask<D> isposinf(D d, V x) {
  return Eq(x, Set(d, std::numeric_limits<TFromD<D>>::infinity()));
}
template <Real D, class V = Vec<D>>
HWY_INLINE Mask<D> isneginf(D d, V x) {
  return Eq(x, Set(d, -std::numeric_limits<TFromD<D>>::infinity()));
}

template <class D, class V = Vec<D>>
HWY_INLINE V conjugate(D, V x) {
  return x;
}
template <class D, class V = Vec<D>>
HWY_INLINE V real(D, V x) {
  return x;
}
template <class D, class V = Vec<D>>
HWY_INLINE V imag(D d, V) {
  return Zero(d);
}

}  // namespace kernel
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
