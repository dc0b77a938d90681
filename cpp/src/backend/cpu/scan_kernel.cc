#include "backend/cpu/scan_kernel.h"

#include <cstring>
#include <type_traits>

#include "backend/reference/scan_ops.h"

#define LAMINA_WITHOUT_AVX3_DL
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/scan_kernel.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "backend/cpu/targets.h"
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if !LAMINA_SIMD_TARGET

ScanPieceFn find_scan_piece(ScanKind, Dtype, bool, bool) { return nullptr; }

#else

template <ScanKind kKind, class V>
HWY_INLINE V join(V a, V b) {
  if constexpr (kKind == ScanKind::kSum) {
    return hn::Add(a, b);
  } else if constexpr (kKind == ScanKind::kProd) {
    return hn::Mul(a, b);
  } else {
    const auto beyond = kKind == ScanKind::kMax ? hn::Lt(a, b) : hn::Lt(b, a);
    if constexpr (hwy::IsFloat<hn::TFromV<V> >()) {
      // No comparison holds for a NaN in a, which so stays.
      return hn::IfThenElse(hn::Or(beyond, hn::IsNaN(b)), b, a);
    } else {
      return hn::IfThenElse(beyond, b, a);
    }
  }
}

// Moves every lane up by kBy and fills with `fill`.
template <int kBy, class D, class V = hn::Vec<D> >
struct LaneShift {
  using Index = hwy::SignedFromSize<sizeof(hn::TFromD<D>)>;
  HWY_INLINE LaneShift(D d, V fill_vector) : fill(fill_vector) {
    const hn::Rebind<Index, D> di;
    const auto from = hn::Sub(hn::Iota(di, 0), hn::Set(di, Index{kBy}));
    indices = hn::IndicesFromVec(d, hn::Max(from, hn::Zero(di)));
    keeps = hn::RebindMask(d, hn::Gt(from, hn::Set(di, Index{-1})));
  }
  HWY_INLINE V operator()(V v) const { return hn::IfThenElse(keeps, hn::TableLookupLanes(v, indices), fill); }

  V fill;
  decltype(hn::IndicesFromVec(D(), hn::Zero(hn::Rebind<Index, D>()))) indices;
  hn::Mask<D> keeps;
};

template <ScanKind kKind, class T, bool kReverse, bool kInclusive>
struct Scanner {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  static constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
  using Op = ScanOp<kKind, T>;
  using Index = typename LaneShift<1, D>::Index;

  // Spelled out: a constructor that the compiler adds would not be compiled for the target.
  HWY_INLINE explicit Scanner(V identity)
      : by1(D(), identity),
        by2(D(), identity),
        by4(D(), identity),
        by8(D(), identity),
        last(hn::IndicesFromVec(D(), hn::Set(hn::Rebind<Index, D>(), static_cast<Index>(kLanes - 1)))) {}

  // The inclusive scan of one vector.
  HWY_INLINE V scan(V v) const {
    v = join<kKind>(by1(v), v);
    if constexpr (kLanes > 2) v = join<kKind>(by2(v), v);
    if constexpr (kLanes > 4) v = join<kKind>(by4(v), v);
    if constexpr (kLanes > 8) v = join<kKind>(by8(v), v);
    return v;
  }
  HWY_INLINE V load(const T* p) const {
    const V v = hn::LoadU(d, p);
    return kReverse ? hn::Reverse(d, v) : v;
  }

  // Scans kLanes elements at `in`; `running` is the join of the piece's elements so far, in every lane.
  template <bool kStore, bool kCarry, bool kStream>
  HWY_INLINE void step(const T* in, T* out, V carry, V& running) const {
    const V sums = join<kKind>(running, scan(load(in)));
    if constexpr (kStore) {
      V result = kInclusive ? sums : hn::IfThenElse(by1.keeps, by1(sums), running);
      if constexpr (kCarry) result = join<kKind>(carry, result);
      if constexpr (kReverse) result = hn::Reverse(d, result);
      kStream ? hn::Stream(result, d, out) : hn::StoreU(result, d, out);
    }
    running = hn::TableLookupLanes(sums, last);
  }

  template <bool kStore, bool kCarry, bool kStream>
  void run(const ScanPiece& piece) const {
    const T* in = static_cast<const T*>(piece.in);
    T* out = static_cast<T*>(piece.out);
    const V carry = hn::Set(d, kCarry ? *static_cast<const T*>(piece.carry) : Op::identity());
    V running = hn::Set(d, Op::identity());
    int64_t done = 0;
    for (; done + kLanes <= piece.n; done += kLanes) {
      const int64_t at = kReverse ? piece.n - done - kLanes : done;
      step<kStore, kCarry, kStream>(in + at, kStore ? out + at : nullptr, carry, running);
    }
    if (const int64_t rest = piece.n - done; rest > 0) {
      // The tail goes through a buffer, padded after its end with values that change nothing.
      HWY_ALIGN T buffer[kLanes];
      const int64_t at = kReverse ? 0 : done, pad = kReverse ? kLanes - rest : 0;
      for (T& x : buffer) x = Op::identity();
      std::memcpy(buffer + pad, in + at, static_cast<size_t>(rest) * sizeof(T));
      step<kStore, kCarry, false>(buffer, buffer, carry, running);
      if constexpr (kStore) std::memcpy(out + at, buffer + pad, static_cast<size_t>(rest) * sizeof(T));
    }
    if (piece.total != nullptr) *static_cast<T*>(piece.total) = hn::GetLane(running);
  }

  D d;
  LaneShift<1, D> by1;
  LaneShift<2, D> by2;
  LaneShift<4, D> by4;
  LaneShift<8, D> by8;
  decltype(by1.indices) last;
};

template <ScanKind kKind, class T, bool kReverse, bool kInclusive>
void scan_piece(const ScanPiece& piece) {
  using S = Scanner<kKind, T, kReverse, kInclusive>;
  const S scanner(hn::Set(typename S::D(), S::Op::identity()));
  constexpr int64_t kVectorBytes = S::kLanes * sizeof(T);
  // Reversed pieces are walked from their end, so it is the end that must be aligned.
  const auto edge =
      reinterpret_cast<uintptr_t>(piece.out) + (kReverse ? static_cast<size_t>(piece.n) * sizeof(T) : 0);
  if (piece.out == nullptr) return scanner.template run<false, false, false>(piece);
  const bool stream = piece.stream && edge % kVectorBytes == 0;
  if (piece.carry == nullptr) {
    stream ? scanner.template run<true, false, true>(piece) : scanner.template run<true, false, false>(piece);
  } else {
    stream ? scanner.template run<true, true, true>(piece) : scanner.template run<true, true, false>(piece);
  }
}

template <ScanKind kKind, class T>
ScanPieceFn pick_direction(bool reverse, bool inclusive) {
  if (reverse) return inclusive ? scan_piece<kKind, T, true, true> : scan_piece<kKind, T, true, false>;
  return inclusive ? scan_piece<kKind, T, false, true> : scan_piece<kKind, T, false, false>;
}

template <class T>
ScanPieceFn pick_kind(ScanKind kind, bool reverse, bool inclusive) {
  switch (kind) {
    case ScanKind::kSum: return pick_direction<ScanKind::kSum, T>(reverse, inclusive);
    case ScanKind::kMax: return pick_direction<ScanKind::kMax, T>(reverse, inclusive);
    case ScanKind::kMin: return pick_direction<ScanKind::kMin, T>(reverse, inclusive);
    case ScanKind::kProd:
      if constexpr (std::is_floating_point_v<T>)
        return pick_direction<ScanKind::kProd, T>(reverse, inclusive);
      return nullptr;
    default: return nullptr;
  }
}

ScanPieceFn find_scan_piece(ScanKind kind, Dtype dtype, bool reverse, bool inclusive) {
  switch (dtype) {
    case Dtype::kFloat32: return pick_kind<float>(kind, reverse, inclusive);
    case Dtype::kFloat64: return pick_kind<double>(kind, reverse, inclusive);
    case Dtype::kInt32: return pick_kind<int32_t>(kind, reverse, inclusive);
    case Dtype::kUInt32: return pick_kind<uint32_t>(kind, reverse, inclusive);
    case Dtype::kInt64: return pick_kind<int64_t>(kind, reverse, inclusive);
    case Dtype::kUInt64: return pick_kind<uint64_t>(kind, reverse, inclusive);
    default: return nullptr;
  }
}

#endif

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {
HWY_EXPORT(find_scan_piece);
ScanPieceFn scan_piece_fn(ScanKind kind, Dtype dtype, bool reverse, bool inclusive) {
  return HWY_DYNAMIC_DISPATCH(find_scan_piece)(kind, dtype, reverse, inclusive);
}
}  // namespace lamina::cpu
#endif
