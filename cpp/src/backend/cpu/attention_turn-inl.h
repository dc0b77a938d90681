// Vectors of float32 across rows of attention's keys. Per-target; include inside no namespace.
#if defined(LAMINA_CPU_ATTENTION_TURN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_ATTENTION_TURN_INL_H_
#undef LAMINA_CPU_ATTENTION_TURN_INL_H_
#else
#define LAMINA_CPU_ATTENTION_TURN_INL_H_
#endif

#include <hwy/highway.h>

#include "backend/cpu/gemm_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

#if HWY_TARGET != HWY_SCALAR
using Block = hn::FixedTag<float, 4>;

// Four floats of each of kLanes rows, rows i, i + 4, ... side by side.
HWY_INLINE V gather_blocks(const float* const* rows, int64_t at) {
  const Block b;
  const auto block = [&](int64_t i) HWY_ATTR { return hn::LoadU(b, rows[i] + at); };
#if HWY_TARGET <= HWY_AVX3
  const hn::FixedTag<float, 8> half;
  return hn::Combine(D(), hn::Combine(half, block(12), block(8)), hn::Combine(half, block(4), block(0)));
#elif HWY_TARGET == HWY_AVX2
  return hn::Combine(D(), block(4), block(0));
#else
  return block(0);
#endif
}

// Elements [at, at + 4) of kLanes rows as four vectors over the rows.
struct Turned {
  V part[4];
};
HWY_INLINE Turned transposed(const float* const* rows, int64_t at) {
  const D d;
  const hn::Repartition<uint64_t, D> d64;
  const V r0 = gather_blocks(rows, at), r1 = gather_blocks(rows + 1, at);
  const V r2 = gather_blocks(rows + 2, at), r3 = gather_blocks(rows + 3, at);
  const V a = hn::InterleaveLower(d, r0, r1), b = hn::InterleaveUpper(d, r0, r1);
  const V e = hn::InterleaveLower(d, r2, r3), f = hn::InterleaveUpper(d, r2, r3);
  const auto low = [&](V x, V y) HWY_ATTR {
    return hn::BitCast(d, hn::InterleaveLower(d64, hn::BitCast(d64, x), hn::BitCast(d64, y)));
  };
  const auto high = [&](V x, V y) HWY_ATTR {
    return hn::BitCast(d, hn::InterleaveUpper(d64, hn::BitCast(d64, x), hn::BitCast(d64, y)));
  };
  return {{low(a, e), high(a, e), low(b, f), high(b, f)}};
}
#endif

}  // namespace
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
