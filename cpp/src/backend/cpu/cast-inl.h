// Conversions between dtypes, lane by lane, through float32, float64 or the wider of two integers.
#if defined(LAMINA_BACKEND_CPU_CAST_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_BACKEND_CPU_CAST_INL_H_
#undef LAMINA_BACKEND_CPU_CAST_INL_H_
#else
#define LAMINA_BACKEND_CPU_CAST_INL_H_
#endif

#include "backend/cpu/tile-inl.h"
#include "backend/reference/elementwise_types.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace cast {

using namespace hn;

// What the memory of a dtype is to Highway.
template <class T>
struct LaneOf {
  using type = T;
};
template <>
struct LaneOf<bool> {
  using type = uint8_t;
};
template <>
struct LaneOf<float16_t> {
  using type = hwy::float16_t;
};
template <>
struct LaneOf<bfloat16_t> {
  using type = uint16_t;
};
template <class T>
using Lane = typename LaneOf<T>::type;

// All Lanes(d) elements at p, or the first n of them.
template <class D, class T = TFromD<D>>
HWY_INLINE Vec<D> load(D d, const T* p, size_t n) {
  if (HWY_LIKELY(n >= Lanes(d))) return LoadU(d, p);
  if constexpr (std::is_same_v<T, hwy::float16_t>) {
    const RebindToUnsigned<D> du;
    return BitCast(d, tile::load_first(du, reinterpret_cast<const uint16_t*>(p), n));
  } else {
    return tile::load_first(d, p, n);
  }
}
template <class D, class T = TFromD<D>>
HWY_INLINE void store(Vec<D> v, D d, T* p, size_t n) {
  if (HWY_LIKELY(n >= Lanes(d))) return StoreU(v, d, p);
  if constexpr (std::is_same_v<T, hwy::float16_t>) {
    const RebindToUnsigned<D> du;
    tile::store_first(BitCast(du, v), du, reinterpret_cast<uint16_t*>(p), n);
  } else {
    tile::store_first(v, d, p, n);
  }
}

// ---- float32

template <class D, class VU>
HWY_INLINE Vec<D> float_of_bfloat(D d, VU bits) {
  const RebindToUnsigned<D> du;
  return BitCast(d, ShiftLeft<16>(PromoteTo(du, bits)));
}
// Nearest, ties to even; NaN keeps its high bits and becomes quiet.
template <class D, class V = Vec<D>>
HWY_INLINE auto bfloat_of_float(D d, V x) {
  const RebindToUnsigned<D> du;
  const Rebind<uint16_t, D> dh;
  auto bits = BitCast(du, x), high = ShiftRight<16>(bits);
  auto rounded = ShiftRight<16>(Add(Add(bits, Set(du, 0x7fff)), And(high, Set(du, 1))));
  auto quiet = Or(high, Set(du, 0x40));
  return tile::truncate_to(dh, IfThenElse(RebindMask(du, IsNaN(x)), quiet, rounded));
}

// Elements of dtype T as lanes of a float32 descriptor; exact for every T of at most 16 bits, else rounded
// once.
template <class T, F32 D>
HWY_INLINE Vec<D> load_as(D d, const void* memory, size_t i, size_t n) {
  const Rebind<Lane<T>, D> dm;
  auto v = load(dm, static_cast<const Lane<T>*>(memory) + i, n);
  if constexpr (std::is_same_v<T, float>) {
    return v;
  } else if constexpr (std::is_same_v<T, bfloat16_t>) {
    return float_of_bfloat(d, v);
  } else if constexpr (std::is_same_v<T, float16_t>) {
    return PromoteTo(d, v);
  } else if constexpr (std::is_same_v<T, int32_t>) {
    return ConvertTo(d, v);
  } else if constexpr (std::is_same_v<T, uint32_t>) {
    // Both halves are exact, so that only their sum rounds.
    const RebindToSigned<D> di;
    auto high = ConvertTo(d, BitCast(di, ShiftRight<16>(v)));
    auto low = ConvertTo(d, BitCast(di, And(v, Set(dm, 0xffff))));
    return MulAdd(high, Set(d, 0x1p16f), low);
  } else {
    static_assert(sizeof(T) <= 2);
    const RebindToSigned<D> di;
    return ConvertTo(d, PromoteTo(di, v));
  }
}
// float32 lanes to elements of dtype T.
template <class T, F32 D>
HWY_INLINE void store_as(D d, Vec<D> v, void* memory, size_t i, size_t n) {
  const Rebind<Lane<T>, D> dm;
  Lane<T>* p = static_cast<Lane<T>*>(memory) + i;
  if constexpr (std::is_same_v<T, float>) {
    store(v, dm, p, n);
  } else if constexpr (std::is_same_v<T, bfloat16_t>) {
    store(bfloat_of_float(d, v), dm, p, n);
  } else if constexpr (std::is_same_v<T, float16_t>) {
    store(DemoteTo(dm, v), dm, p, n);
  } else if constexpr (std::is_same_v<T, bool>) {
    store(tile::bool_bytes(d, kernel::differ(v, Zero(d))), dm, p, n);
  } else {
    static_assert(sizeof(T) <= 4 && !std::is_same_v<T, uint32_t>);
    const RebindToSigned<D> di;
    const RebindToUnsigned<D> du;
    // NaN and what is too large count as the smallest int32.
    auto whole = ConvertTo(di, IfThenElse(Lt(v, Set(d, 0x1p31f)), v, Set(d, -0x1p31f)));
    if constexpr (sizeof(T) == 4) {
      store(whole, dm, p, n);
    } else {
      const Rebind<std::make_unsigned_t<T>, D> dn;
      store(BitCast(dm, tile::truncate_to(dn, BitCast(du, whole))), dm, p, n);
    }
  }
}

// ---- float64

template <class T, F64 D>
HWY_INLINE Vec<D> load_as(D d, const void* memory, size_t i, size_t n) {
  const Rebind<Lane<T>, D> dm;
  auto v = load(dm, static_cast<const Lane<T>*>(memory) + i, n);
  if constexpr (std::is_same_v<T, double>) {
    return v;
  } else if constexpr (sizeof(T) == 8) {
    return ConvertTo(d, v);
  } else if constexpr (sizeof(T) == 4) {
    return PromoteTo(d, v);
  } else {
    const Rebind<int32_t, D> dw;
    return PromoteTo(d, PromoteTo(dw, v));
  }
}
template <class T, F64 D>
HWY_INLINE void store_as(D d, Vec<D> v, void* memory, size_t i, size_t n) {
  const Rebind<Lane<T>, D> dm;
  Lane<T>* p = static_cast<Lane<T>*>(memory) + i;
  if constexpr (std::is_same_v<T, double>) {
    store(v, dm, p, n);
  } else if constexpr (std::is_same_v<T, float>) {
    store(DemoteTo(dm, v), dm, p, n);
  } else if constexpr (std::is_same_v<T, bool>) {
    store(tile::bool_bytes(d, kernel::differ(v, Zero(d))), dm, p, n);
  } else if constexpr (std::is_same_v<T, int64_t>) {
    store(ConvertTo(dm, IfThenElse(Lt(v, Set(d, 0x1p63)), v, Set(d, -0x1p63))), dm, p, n);
  } else {
    const Rebind<int32_t, D> di;
    auto whole = DemoteTo(di, IfThenElse(Lt(v, Set(d, 0x1p31)), v, Set(d, -0x1p31)));
    if constexpr (sizeof(T) == 4) {
      store(whole, dm, p, n);
    } else {
      const Rebind<uint32_t, D> du;
      const Rebind<std::make_unsigned_t<T>, D> dn;
      store(BitCast(dm, tile::truncate_to(dn, BitCast(du, whole))), dm, p, n);
    }
  }
}

// ---- integers: the wider one's lanes

template <class T, Int D>
HWY_INLINE Vec<D> load_as(D d, const void* memory, size_t i, size_t n) {
  const Rebind<Lane<T>, D> dm;
  auto v = load(dm, static_cast<const Lane<T>*>(memory) + i, n);
  if constexpr (sizeof(T) == sizeof(TFromD<D>)) {
    return BitCast(d, v);
  } else {
    using Wide = std::conditional_t<std::is_signed_v<T>, std::make_signed_t<TFromD<D>>,
                                    std::make_unsigned_t<TFromD<D>>>;
    const Rebind<Wide, D> dw;
    if constexpr (sizeof(TFromD<D>) == 8 && sizeof(T) < 4) {
      const Rebind<std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>, D> d32;
      return BitCast(d, PromoteTo(dw, PromoteTo(d32, v)));
    } else {
      return BitCast(d, PromoteTo(dw, v));
    }
  }
}
template <class T, Int D>
HWY_INLINE void store_as(D d, Vec<D> v, void* memory, size_t i, size_t n) {
  const Rebind<Lane<T>, D> dm;
  Lane<T>* p = static_cast<Lane<T>*>(memory) + i;
  if constexpr (std::is_same_v<T, bool>) {
    store(tile::bool_bytes(d, kernel::differ(v, Zero(d))), dm, p, n);
  } else if constexpr (sizeof(T) == sizeof(TFromD<D>)) {
    store(BitCast(dm, v), dm, p, n);
  } else {
    const RebindToUnsigned<D> du;
    const Rebind<std::make_unsigned_t<T>, D> dn;
    store(BitCast(dm, tile::truncate_to(dn, BitCast(du, v))), dm, p, n);
  }
}

template <class From, class To, class Work>
void convert(const void* const* in, void* out, size_t n) {
  const ScalableTag<Work> d;
  size_t i = 0;
  for (; i + Lanes(d) <= n; i += Lanes(d))
    store_as<To>(d, load_as<From>(d, in[0], i, Lanes(d)), out, i, Lanes(d));
  if (i < n) store_as<To>(d, load_as<From>(d, in[0], i, n - i), out, i, n - i);
}

// ---- which lanes carry a pair; void where the plain loop does

template <class T>
inline constexpr bool kSmallInt = std::is_integral_v<T> && sizeof(T) <= 2;
template <class From, class To>
constexpr auto work_lanes() {
  if constexpr (std::is_same_v<From, std::complex<float>> || std::is_same_v<To, std::complex<float>>) {
    return;
  } else if constexpr (std::is_integral_v<From> && std::is_integral_v<To>) {
    using Wide = std::conditional_t<(sizeof(From) > sizeof(To)), Lane<From>, Lane<To>>;
    return Wide();
  } else if constexpr (std::is_same_v<From, double> || std::is_same_v<To, double>) {
    constexpr bool kIn = std::is_same_v<From, double> || std::is_same_v<From, float> || kSmallInt<From> ||
                         std::is_same_v<From, int32_t> || std::is_same_v<From, int64_t>;
    constexpr bool kOut = std::is_same_v<To, double> || std::is_same_v<To, float> || kSmallInt<To> ||
                          std::is_same_v<To, int32_t> || std::is_same_v<To, int64_t>;
    if constexpr (kIn && kOut) return double();
  } else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, int64_t>) {
    return double();
  } else {
    // Integers of 32 bits are exact only as far as float32's own rounding is the one asked for.
    constexpr bool kIn =
        kSmallInt<From> || kIsHalf<From> || std::is_same_v<From, float> ||
        ((std::is_same_v<From, int32_t> || std::is_same_v<From, uint32_t>)&&std::is_same_v<To, float>);
    constexpr bool kOut =
        kSmallInt<To> || kIsHalf<To> || std::is_same_v<To, float> || std::is_same_v<To, int32_t>;
    if constexpr (kIn && kOut) return float();
  }
}

}  // namespace cast
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
