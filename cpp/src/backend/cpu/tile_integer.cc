#include "backend/cpu/tile_tables.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/tile_integer.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/binary-inl.h"
#include "backend/cpu/math_special-inl.h"
#include "backend/cpu/math_trig-inl.h"
#include "backend/cpu/tile-inl.h"
#include "backend/cpu/unary-inl.h"
#include "backend/reference/elementwise_types.h"

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
#define BINARY(id, name, ...)                                                            \
  struct id##Lanes {                                                                     \
    template <class D, class V>                                                          \
    HWY_INLINE auto operator()(D d, V x, V y) const -> decltype(kernel::name(d, x, y)) { \
      return kernel::name(d, x, y);                                                      \
    }                                                                                    \
  };
#include "lamina/table/binary.def"
#undef BINARY

// A row without any floating dtype has its SIMD code here.
template <class F, class T, DtypeSet kDtypes, bool kUnary>
TileFn entry() {
  if constexpr (!contains(kDtypes, kDtypeOf<T>)) {
    return nullptr;
  } else if constexpr (kUnary && tile::Unary<F, T>) {
    return &tile::unary<F, T>;
  } else if constexpr (!kUnary && tile::Binary<F, T>) {
    return &tile::binary<F, T>;
  } else {
    static_assert((kDtypes & kFloating) != 0 || sizeof(T) < 4, "a row of integers lacks its functor");
    return nullptr;
  }
}

template <class T>
TileFn table(OpId id) {
  switch (id) {
#define UNARY(id, name, dtypes, ...) \
  case OpId::id:                     \
    return entry<id##Lanes, T, dtypes, true>();
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, name, dtypes, ...) \
  case OpId::id:                      \
    return entry<id##Lanes, T, dtypes, false>();
#include "lamina/table/binary.def"
#undef BINARY
    default: return nullptr;
  }
}

}  // namespace

TileFn find_integer(OpId id, Dtype compute) {
  switch (compute) {
    case Dtype::kUInt8: return table<uint8_t>(id);
    case Dtype::kUInt16: return table<uint16_t>(id);
    case Dtype::kUInt32: return table<uint32_t>(id);
    case Dtype::kUInt64: return table<uint64_t>(id);
    case Dtype::kInt8: return table<int8_t>(id);
    case Dtype::kInt16: return table<int16_t>(id);
    case Dtype::kInt32: return table<int32_t>(id);
    case Dtype::kInt64: return table<int64_t>(id);
    default: return nullptr;
  }
}
#else
TileFn find_integer(OpId, Dtype) { return nullptr; }
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina {
HWY_EXPORT(find_integer);
TileFn integer_tile(OpId id, Dtype compute) { return HWY_DYNAMIC_DISPATCH(find_integer)(id, compute); }
}  // namespace lamina
#endif
