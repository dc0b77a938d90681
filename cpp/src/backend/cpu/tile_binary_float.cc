#include "backend/cpu/tile_tables.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/tile_binary_float.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/binary-inl.h"
#include "backend/cpu/math_special-inl.h"
#include "backend/cpu/math_trig-inl.h"
#include "backend/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace {

#define BINARY(id, name, ...)                                                            \
  struct id##Lanes {                                                                     \
    template <class D, class V>                                                          \
    HWY_INLINE auto operator()(D d, V x, V y) const -> decltype(kernel::name(d, x, y)) { \
      return kernel::name(d, x, y);                                                      \
    }                                                                                    \
  };
#include "lamina/table/binary.def"
#undef BINARY

template <class F, class T, DtypeSet kDtypes>
TileFn entry() {
  constexpr bool kAllowed = contains(kDtypes, sizeof(T) == 4 ? Dtype::kFloat32 : Dtype::kFloat64);
  static_assert(!kAllowed || sizeof(T) == 8 || tile::Binary<F, T>, "a row lacks its float32 functor");
  if constexpr (kAllowed && tile::Binary<F, T>) {
    return &tile::binary<F, T>;
  } else {
    return nullptr;
  }
}

template <class T>
TileFn table(OpId id) {
  switch (id) {
#define BINARY(id, name, dtypes, ...) \
  case OpId::id:                      \
    return entry<id##Lanes, T, dtypes>();
#include "lamina/table/binary.def"
#undef BINARY
    default: return nullptr;
  }
}

}  // namespace

TileFn find_binary_float(OpId id, Dtype compute) {
  return compute == Dtype::kFloat32   ? table<float>(id)
         : compute == Dtype::kFloat64 ? table<double>(id)
                                      : nullptr;
}
#else
TileFn find_binary_float(OpId, Dtype) { return nullptr; }
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina {
HWY_EXPORT(find_binary_float);
TileFn binary_float_tile(OpId id, Dtype compute) {
  return HWY_DYNAMIC_DISPATCH(find_binary_float)(id, compute);
}
}  // namespace lamina
#endif
