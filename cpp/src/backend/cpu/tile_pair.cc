#include "backend/cpu/simd_target.h"
#include "backend/cpu/tile.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/tile_pair.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/binary-inl.h"
#include "backend/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace pair {

using namespace hn;

struct Add {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V y) const {
    return kernel::add(d, x, y);
  }
};
struct Subtract {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V y) const {
    return kernel::subtract(d, x, y);
  }
};
struct Multiply {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V y) const {
    return kernel::multiply(d, x, y);
  }
};
struct Divide {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V y) const {
    return kernel::divide(d, x, y);
  }
};
// Of one operand, which comes twice.
struct SquareRoot {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x, V) const {
    return Sqrt(x);
  }
};

// Each op rounds: the bits are those of one after the other.
template <class Inner, class Outer, bool kLeft, class T>
void run(const void* const* in, void* out, size_t n) {
  const ScalableTag<T> d;
  const T* x = static_cast<const T*>(in[0]);
  const T* y = static_cast<const T*>(in[1]);
  const T* z = static_cast<const T*>(in[2]);
  const auto both = [d](auto a, auto b, auto c) HWY_ATTR {
    const auto first = Inner()(d, a, b);
    return kLeft ? Outer()(d, first, c) : Outer()(d, c, first);
  };
  size_t i = 0;
  for (; i + Lanes(d) <= n; i += Lanes(d)) {
    tile::store_result(both(LoadU(d, x + i), LoadU(d, y + i), LoadU(d, z + i)), d, out, i);
  }
  if (i == n) return;
  const auto rest = [=](const T* p) HWY_ATTR { return tile::load_first(d, p + i, n - i); };
  tile::store_first_result(both(rest(x), rest(y), rest(z)), d, out, i, n - i);
}

template <class Inner, class Outer, bool kLeft>
TileFn of_dtype(Dtype compute) {
  if (compute == Dtype::kFloat32) return &run<Inner, Outer, kLeft, float>;
  if (compute == Dtype::kFloat64) return &run<Inner, Outer, kLeft, double>;
  return nullptr;
}
template <class Inner, class Outer>
TileFn of_side(bool left, Dtype compute) {
  return left ? of_dtype<Inner, Outer, true>(compute) : of_dtype<Inner, Outer, false>(compute);
}
template <class Inner>
TileFn of_outer(OpId outer, bool left, Dtype compute) {
  switch (outer) {
    case OpId::Add: return of_side<Inner, Add>(left, compute);
    case OpId::Subtract: return of_side<Inner, Subtract>(left, compute);
    case OpId::Multiply: return of_side<Inner, Multiply>(left, compute);
    case OpId::Divide: return of_side<Inner, Divide>(left, compute);
    default: return nullptr;
  }
}

}  // namespace pair

TileFn find_pair(OpId inner, OpId outer, bool left, Dtype compute) {
  switch (inner) {
    case OpId::Add: return pair::of_outer<pair::Add>(outer, left, compute);
    case OpId::Subtract: return pair::of_outer<pair::Subtract>(outer, left, compute);
    case OpId::Multiply:
    case OpId::Square: return pair::of_outer<pair::Multiply>(outer, left, compute);
    case OpId::Sqrt: return pair::of_outer<pair::SquareRoot>(outer, left, compute);
    default: return nullptr;
  }
}
#else
TileFn find_pair(OpId, OpId, bool, Dtype) { return nullptr; }
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina {
HWY_EXPORT(find_pair);
TileFn pair_tile(OpId inner, OpId outer, bool left, Dtype compute) {
  init_simd_target();
  return HWY_DYNAMIC_DISPATCH(find_pair)(inner, outer, left, compute);
}
}  // namespace lamina
#endif
