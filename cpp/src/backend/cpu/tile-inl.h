// Loops that carry vector functors over tiles, with whole vectors first and one partial vector last.
#if defined(LAMINA_BACKEND_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_BACKEND_CPU_TILE_INL_H_
#undef LAMINA_BACKEND_CPU_TILE_INL_H_
#else
#define LAMINA_BACKEND_CPU_TILE_INL_H_
#endif

#include <cstring>

#include "backend/cpu/math_base-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace tile {

using namespace hn;

// True where masked memory access cannot touch bytes of the lanes it masks off.
template <class D>
inline constexpr bool kMaskedAccess = sizeof(TFromD<D>) >= 4 ? MaxLanes(D()) * sizeof(TFromD<D>) >= 16
                                                             : HWY_TARGET <= HWY_AVX3;

// The first n < Lanes(d) elements at p; zero in the other lanes.
template <class D, class T = TFromD<D>>
HWY_INLINE Vec<D> load_first(D d, const T* p, size_t n) {
  if constexpr (kMaskedAccess<D>) {
    return MaskedLoad(FirstN(d, n), d, p);
  } else {
    HWY_ALIGN T lanes[MaxLanes(d)] = {};
    std::memcpy(lanes, p, n * sizeof(T));
    return Load(d, lanes);
  }
}
template <class D, class T = TFromD<D>>
HWY_INLINE void store_first(Vec<D> v, D d, T* p, size_t n) {
  if constexpr (kMaskedAccess<D>) {
    BlendedStore(v, FirstN(d, n), d, p);
  } else {
    HWY_ALIGN T lanes[MaxLanes(d)];
    Store(v, d, lanes);
    std::memcpy(p, lanes, n * sizeof(T));
  }
}

// The low bits of each lane. Highway 1.0.3's own 32-to-8-bit step on AVX3_DL permutes 32-bit lanes instead of
// bytes; a saturating step over masked lanes goes round it.
template <class DN, class V>
HWY_INLINE Vec<DN> truncate_to(DN d, V v) {
  if constexpr (sizeof(TFromV<V>) == 4 && sizeof(TFromD<DN>) == 1) {
    const Rebind<int32_t, DN> wide;
    return BitCast(d, DemoteTo(RebindToUnsigned<DN>(), And(BitCast(wide, v), Set(wide, 0xFF))));
  } else {
    return TruncateTo(d, v);
  }
}

// One byte, 0 or 1, for each lane of a mask over lanes of D.
template <class D, class M>
HWY_INLINE auto bool_bytes(D d, M m) {
  const RebindToUnsigned<D> du;
  const Rebind<uint8_t, D> db;
  using TU = TFromD<decltype(du)>;
  auto ones = IfThenElseZero(RebindMask(du, m), Set(du, TU{1}));
  if constexpr (sizeof(TU) == 1) {
    return ones;
  } else {
    return truncate_to(db, ones);
  }
}
// The mask over lanes of D that bool bytes stand for.
template <class D, class VB>
HWY_INLINE Mask<D> mask_of_bytes(D d, VB bytes) {
  const RebindToUnsigned<D> du;
  if constexpr (sizeof(TFromD<D>) == 1) {
    return RebindMask(d, kernel::differ(bytes, Zero(du)));
  } else if constexpr (sizeof(TFromD<D>) == 8) {
    const Rebind<uint32_t, D> dh;
    return RebindMask(d, kernel::differ(PromoteTo(du, PromoteTo(dh, bytes)), Zero(du)));
  } else {
    return RebindMask(d, kernel::differ(PromoteTo(du, bytes), Zero(du)));
  }
}

// Stores what a functor returned: a vector of the operands' lanes, or a mask as bytes.
template <class D, class V>
HWY_INLINE void store_result(V v, D d, void* out, size_t i) {
  if constexpr (std::is_same_v<V, Vec<D>>) {
    StoreU(v, d, static_cast<TFromD<D>*>(out) + i);
  } else {
    const Rebind<uint8_t, D> db;
    StoreU(bool_bytes(d, v), db, static_cast<uint8_t*>(out) + i);
  }
}
template <class D, class V>
HWY_INLINE void store_first_result(V v, D d, void* out, size_t i, size_t n) {
  if constexpr (std::is_same_v<V, Vec<D>>) {
    store_first(v, d, static_cast<TFromD<D>*>(out) + i, n);
  } else {
    const Rebind<uint8_t, D> db;
    store_first(bool_bytes(d, v), db, static_cast<uint8_t*>(out) + i, n);
  }
}

template <class F, class T>
void unary(const void* const* in, void* out, size_t n) {
  const ScalableTag<T> d;
  const T* x = static_cast<const T*>(in[0]);
  size_t i = 0;
  for (; i + Lanes(d) <= n; i += Lanes(d)) store_result(F()(d, LoadU(d, x + i)), d, out, i);
  if (i < n) store_first_result(F()(d, load_first(d, x + i, n - i)), d, out, i, n - i);
}
template <class F, class T>
void binary(const void* const* in, void* out, size_t n) {
  const ScalableTag<T> d;
  const T* x = static_cast<const T*>(in[0]);
  const T* y = static_cast<const T*>(in[1]);
  size_t i = 0;
  for (; i + Lanes(d) <= n; i += Lanes(d)) {
    store_result(F()(d, LoadU(d, x + i), LoadU(d, y + i)), d, out, i);
  }
  if (i < n) {
    store_first_result(F()(d, load_first(d, x + i, n - i), load_first(d, y + i, n - i)), d, out, i, n - i);
  }
}

// Whether functor F has code for lanes of type T.
template <class F, class T>
concept Unary = requires(F f, ScalableTag<T> d, Vec<ScalableTag<T>> v) {
  f(d, v);
};
template <class F, class T>
concept Binary = requires(F f, ScalableTag<T> d, Vec<ScalableTag<T>> v) {
  f(d, v, v);
};

}  // namespace tile
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
