// Rows of attention's queries, keys and values: loading, fetching ahead, vectors across rows. Per-target;
// include inside no namespace.
#if defined(LAMINA_CPU_ATTENTION_TURN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_ATTENTION_TURN_INL_H_
#undef LAMINA_CPU_ATTENTION_TURN_INL_H_
#else
#define LAMINA_CPU_ATTENTION_TURN_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "backend/cpu/attention_tile.h"
#include "backend/cpu/gemm_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

template <class T>
bool load_floats_of(const T* row, int64_t dim, float* dst, int64_t ld) {
  const D d;
  V bad = hn::Zero(d);
  int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    const V x = load_as(d, row + i);
    bad = hn::MulAdd(x, hn::Zero(d), bad);  // NaN from an infinity or NaN on
    hn::Store(x, d, dst + i);
  }
  bool finite = hn::AllTrue(d, hn::Eq(bad, hn::Zero(d)));
  for (; i < dim; ++i) {
    dst[i] = static_cast<float>(row[i]);
    finite = finite && std::isfinite(dst[i]);
  }
  std::fill(dst + dim, dst + ld, 0.0f);
  return finite;
}

// Row i, of floats, as float32, then zeros up to ld. Whether all are finite.
[[maybe_unused]] bool load_floats(const RowPanel& from, int64_t i, int64_t dim, float* dst, int64_t ld) {
  const void* row = from.rows[i];
  switch (from.format) {
    case RowFormat::kFloat16: return load_floats_of(static_cast<const float16_t*>(row), dim, dst, ld);
    case RowFormat::kBFloat16: return load_floats_of(static_cast<const bfloat16_t*>(row), dim, dst, ld);
    default: return load_floats_of(static_cast<const float*>(row), dim, dst, ld);
  }
}

// The columns of a panel that have rows, in whole passes of `step` columns; scores of the others are of no
// use.
struct Columns {
  int64_t begin = 0, end = 0, step;

  Columns(const RowPanel& panel, int64_t pass) : step(pass) {
    while (begin < panel.count && !panel.rows[begin]) ++begin;
    begin = begin / step * step;
    end = (panel.count + step - 1) / step * step;
  }
  int64_t passes() const { return (end - begin) / step; }

  // Makes the other scores of a row zero.
  void clear(float* row) const {
    std::fill(row, row + begin, 0.0f);
    std::fill(row + end, row + kAttentionPanel, 0.0f);
  }
};

// Asks the memory for what comes next, a part at each of some steps.
class Ahead {
 public:
  Ahead(const RowPanel& now, int64_t steps) : next_(now.ahead) {
    if (next_ && steps > 0) share_ = (next_->count * ((next_->row_bytes + 63) / 64) + steps - 1) / steps;
  }
  HWY_INLINE void step() {
    for (int64_t i = 0; i < share_ && row_ < next_->count; ++i) {
      const char* row = static_cast<const char*>(next_->rows[row_]);
      if (row) __builtin_prefetch(row + at_);
      at_ += 64;
      if (at_ >= next_->row_bytes) at_ = 0, ++row_;
    }
  }

 private:
  const RowPanel* next_;
  int64_t share_ = 0, row_ = 0, at_ = 0;
};

#if HWY_TARGET != HWY_SCALAR
// n <= 4 scales as float32, room for four.
HWY_INLINE void widen_four(const float16_t* scales, int64_t n, float* dst) {
  const hn::FixedTag<float, 4> four;
  if (n == 4) return hn::StoreU(load_as(four, scales), four, dst);
  float16_t part[4] = {};
  for (int64_t k = 0; k < n; ++k) part[k] = scales[k];
  hn::StoreU(load_as(four, part), four, dst);
}

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
