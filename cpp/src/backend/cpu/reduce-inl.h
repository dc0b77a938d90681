// Folds of contiguous rows. The order is a function of the length and the vector width alone: four
// accumulators of whole vectors inside a block, a balanced tree over blocks and over lanes.
#if defined(LAMINA_BACKEND_CPU_REDUCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_BACKEND_CPU_REDUCE_INL_H_
#undef LAMINA_BACKEND_CPU_REDUCE_INL_H_
#else
#define LAMINA_BACKEND_CPU_REDUCE_INL_H_
#endif

#include "backend/cpu/binary-inl.h"
#include "backend/cpu/tile-inl.h"
#include "backend/reference/elementwise_scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace reduce {

using namespace hn;

// A fold has start<T>(), the value that changes nothing, and operator() on vectors and on scalars.
struct SumFold {
  template <class T>
  static T start() {
    return T(0);
  }
  template <class D, class V>
  HWY_INLINE V operator()(D d, V a, V x) const {
    return kernel::add(d, a, x);
  }
  template <class T>
  T operator()(T a, T x) const {
    return scalar::add(a, x);
  }
};
struct ProdFold {
  template <class T>
  static T start() {
    return T(1);
  }
  template <class D, class V>
  HWY_INLINE V operator()(D d, V a, V x) const {
    return kernel::multiply(d, a, x);
  }
  template <class T>
  T operator()(T a, T x) const {
    return scalar::multiply(a, x);
  }
};
struct MaxFold {
  template <class T>
  static T start() {
    return scalar::lowest<T>();
  }
  template <class D, class V>
  HWY_INLINE V operator()(D d, V a, V x) const {
    return kernel::maximum(d, a, x);
  }
  template <class T>
  T operator()(T a, T x) const {
    return scalar::maximum(a, x);
  }
};
struct MinFold {
  template <class T>
  static T start() {
    return scalar::highest<T>();
  }
  template <class D, class V>
  HWY_INLINE V operator()(D d, V a, V x) const {
    return kernel::minimum(d, a, x);
  }
  template <class T>
  T operator()(T a, T x) const {
    return scalar::minimum(a, x);
  }
};

// The lanes' fold: upper half onto lower half down to 16 bytes, then pairs.
template <class Fold, class D, class T = TFromD<D>>
HWY_INLINE T fold_lanes(D d, Vec<D> v) {
  if constexpr (MaxLanes(d) * sizeof(T) > 16) {
    const Half<D> dh;
    return fold_lanes<Fold>(dh, Fold()(dh, LowerHalf(dh, v), UpperHalf(dh, v)));
  } else {
    HWY_ALIGN T lanes[MaxLanes(d)];
    Store(v, d, lanes);
    for (size_t half = MaxLanes(d) / 2; half != 0; half /= 2) {
      for (size_t i = 0; i < half; ++i) lanes[i] = Fold()(lanes[i], lanes[i + half]);
    }
    return lanes[0];
  }
}

// What is folded: elements, or products of two rows' elements.
template <class T>
struct Elements {
  const T* x;
  template <class D>
  HWY_INLINE Vec<D> load(D d, size_t i) const {
    return LoadU(d, x + i);
  }
  template <class D>
  HWY_INLINE Vec<D> load_first(D d, size_t i, size_t n) const {
    return tile::load_first(d, x + i, n);
  }
  Elements from(size_t i) const { return {x + i}; }
};
template <class T>
struct Products {
  const T* x;
  const T* y;
  template <class D>
  HWY_INLINE Vec<D> load(D d, size_t i) const {
    return kernel::multiply(d, LoadU(d, x + i), LoadU(d, y + i));
  }
  template <class D>
  HWY_INLINE Vec<D> load_first(D d, size_t i, size_t n) const {
    return kernel::multiply(d, tile::load_first(d, x + i, n), tile::load_first(d, y + i, n));
  }
  Products from(size_t i) const { return {x + i, y + i}; }
};

template <class Fold, class D, class Source, class T = TFromD<D>>
HWY_INLINE T fold_block(D d, Source x, size_t n) {
  const size_t step = Lanes(d);
  Vec<D> a0 = Set(d, Fold::template start<T>()), a1 = a0, a2 = a0, a3 = a0;
  size_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    a0 = Fold()(d, a0, x.load(d, i));
    a1 = Fold()(d, a1, x.load(d, i + step));
    a2 = Fold()(d, a2, x.load(d, i + 2 * step));
    a3 = Fold()(d, a3, x.load(d, i + 3 * step));
  }
  for (; i + step <= n; i += step) a0 = Fold()(d, a0, x.load(d, i));
  if (i < n) {
    auto rest = x.load_first(d, i, n - i);
    a1 = Fold()(d, a1, IfThenElse(FirstN(d, n - i), rest, Set(d, Fold::template start<T>())));
  }
  return fold_lanes<Fold>(d, Fold()(d, Fold()(d, a0, a1), Fold()(d, a2, a3)));
}

// Blocks of 32 vectors for each accumulator; longer rows as two halves of whole blocks.
template <class Fold, class T, template <class> class Source>
T fold_row(Source<T> x, size_t n) {
  const ScalableTag<T> d;
  const size_t block = 128 * Lanes(d);
  if (n <= block) return fold_block<Fold>(d, x, n);
  size_t half = (n / 2 + block - 1) / block * block;
  T low = fold_row<Fold>(x, half);
  return Fold()(low, fold_row<Fold>(x.from(half), n - half));
}
template <class Fold, class T>
void row(const void* in, size_t n, void* acc) {
  if (n == 0) return;
  T* a = static_cast<T*>(acc);
  *a = Fold()(*a, fold_row<Fold>(Elements<T>{static_cast<const T*>(in)}, n));
}
template <class Fold, class T>
void product_row(const void* x, const void* y, size_t n, void* acc) {
  if (n == 0) return;
  T* a = static_cast<T*>(acc);
  *a = Fold()(*a, fold_row<Fold>(Products<T>{static_cast<const T*>(x), static_cast<const T*>(y)}, n));
}

// Whether any element is zero, or (kZero false) any is not.
template <class T, bool kZero>
bool any_element(const T* x, size_t n) {
  const ScalableTag<T> d;
  auto hit = [d](auto v) HWY_ATTR { return kZero ? Eq(v, Zero(d)) : kernel::differ(v, Zero(d)); };
  size_t i = 0;
  for (; i + Lanes(d) <= n; i += Lanes(d)) {
    if (!AllFalse(d, hit(LoadU(d, x + i)))) return true;
  }
  if (i == n) return false;
  return !AllFalse(d, And(FirstN(d, n - i), hit(tile::load_first(d, x + i, n - i))));
}
template <class T>
void all_row(const void* in, size_t n, void* acc) {
  bool* a = static_cast<bool*>(acc);
  *a = *a && !any_element<T, true>(static_cast<const T*>(in), n);
}
template <class T>
void any_row(const void* in, size_t n, void* acc) {
  bool* a = static_cast<bool*>(acc);
  *a = *a || any_element<T, false>(static_cast<const T*>(in), n);
}

// First index of the largest (smallest) element: the extremum first, then the first that equals it.
template <class Fold, class T>
int64_t arg_row(const void* in, size_t n) {
  const ScalableTag<T> d;
  const T* x = static_cast<const T*>(in);
  const T best = fold_row<Fold>(Elements<T>{x}, n);
  const auto wanted = Set(d, best);
  const bool nan = scalar::isnan(best);
  auto hit = [=](auto v) HWY_ATTR {
    if constexpr (scalar::kIsFloat<T>) {
      if (nan) return IsNaN(v);
    }
    return Eq(v, wanted);
  };
  size_t i = 0;
  for (; i + Lanes(d) <= n; i += Lanes(d)) {
    intptr_t at = FindFirstTrue(d, hit(LoadU(d, x + i)));
    if (at >= 0) return static_cast<int64_t>(i) + at;
  }
  return static_cast<int64_t>(i) + FindFirstTrue(d, hit(tile::load_first(d, x + i, n - i)));
}

// The contract of ArgColumnsFn.
template <bool kLargest, class T>
void arg_columns(const void* row, size_t n, uint64_t index, void* best, void* at) {
  const ScalableTag<T> d;
  const RebindToUnsigned<decltype(d)> du;
  using U = TFromD<decltype(du)>;
  const T* x = static_cast<const T*>(row);
  T* so_far = static_cast<T*>(best);
  U* places = static_cast<U*>(at);
  const auto place = Set(du, static_cast<U>(index));
  for (size_t i = 0; i < n; i += Lanes(d)) {
    const auto v = i + Lanes(d) <= n ? LoadU(d, x + i) : tile::load_first(d, x + i, n - i);
    const auto b = LoadU(d, so_far + i);
    auto better = kLargest ? Lt(b, v) : Lt(v, b);
    if constexpr (scalar::kIsFloat<T>) better = AndNot(IsNaN(b), Or(better, IsNaN(v)));
    StoreU(IfThenElse(better, v, b), d, so_far + i);
    StoreU(IfThenElse(RebindMask(du, better), place, LoadU(du, places + i)), du, places + i);
  }
}

}  // namespace reduce
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
