#include <cstring>

#include "backend/cpu/simd_target.h"
#include "backend/cpu/tile.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/tile_cast.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/cast-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
TileFn find_cast(Dtype from, Dtype to) {
  return visit_dtype(from, [to]<class From>(TypeTag<From>) -> TileFn {
    return visit_dtype(to, []<class To>(TypeTag<To>) -> TileFn {
      using Work = decltype(cast::work_lanes<From, To>());
      if constexpr (std::is_same_v<Work, void> || std::is_same_v<From, To>) {
        return nullptr;
      } else {
        return &cast::convert<From, To, Work>;
      }
    });
  });
}
#else
TileFn find_cast(Dtype, Dtype) { return nullptr; }
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina {
namespace {

template <size_t kBytes>
void copy_tile(const void* const* in, void* out, size_t n) {
  if (in[0] != out && n != 0) std::memcpy(out, in[0], n * kBytes);
}

}  // namespace

HWY_EXPORT(find_cast);

TileFn cast_tile(Dtype from, Dtype to) {
  init_simd_target();
  if (from == to) {
    switch (itemsize(from)) {
      case 1: return &copy_tile<1>;
      case 2: return &copy_tile<2>;
      case 4: return &copy_tile<4>;
      default: return &copy_tile<8>;
    }
  }
  TileFn fast = HWY_DYNAMIC_DISPATCH(find_cast)(from, to);
  return fast ? fast : reference_cast(from, to);
}

}  // namespace lamina
#endif
