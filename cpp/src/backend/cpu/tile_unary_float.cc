#include "backend/cpu/tile_tables.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/tile_unary_float.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/math-inl.h"
#include "backend/cpu/math_special-inl.h"
#include "backend/cpu/math_trig-inl.h"
#include "backend/cpu/tile-inl.h"
#include "backend/cpu/unary-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace {

#define UNARY(id, name, ...)                                                     \
  struct id##Lanes {                                                             \
    template <class D, class V>                                                  \
    HWY_INLINE auto operator()(D d, V x) const -> decltype(kernel::name(d, x)) { \
      return kernel::name(d, x);                                                 \
    }                                                                            \
  };
#include "lamina/table/unary.def"
#undef UNARY

template <class F, class T, DtypeSet kDtypes>
TileFn entry() {
  constexpr bool kAllowed = contains(kDtypes, sizeof(T) == 4 ? Dtype::kFloat32 : Dtype::kFloat64);
  static_assert(!kAllowed || sizeof(T) == 8 || tile::Unary<F, T>, "a row lacks its float32 functor");
  if constexpr (kAllowed && tile::Unary<F, T>) {
    return &tile::unary<F, T>;
  } else {
    return nullptr;
  }
}

template <class T>
TileFn table(OpId id) {
  switch (id) {
#define UNARY(id, name, dtypes, ...) \
  case OpId::id:                     \
    return entry<id##Lanes, T, dtypes>();
#include "lamina/table/unary.def"
#undef UNARY
    default: return nullptr;
  }
}

}  // namespace

TileFn find_unary_float(OpId id, Dtype compute) {
  return compute == Dtype::kFloat32   ? table<float>(id)
         : compute == Dtype::kFloat64 ? table<double>(id)
                                      : nullptr;
}
#else
TileFn find_unary_float(OpId, Dtype) { return nullptr; }
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina {
HWY_EXPORT(find_unary_float);
TileFn unary_float_tile(OpId id, Dtype compute) {
  return HWY_DYNAMIC_DISPATCH(find_unary_float)(id, compute);
}
}  // namespace lamina
#endif
