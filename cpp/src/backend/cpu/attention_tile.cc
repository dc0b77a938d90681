#include "backend/cpu/attention_tile.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "backend/cpu/simd_target.h"
#include "quant/kv_rows.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_tile.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/attention_turn-inl.h"
#include "backend/cpu/math_special-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// Accumulators fill the registers: 14 x 2 of AVX-512's 32, 6 x 2 of AVX2's 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int kBlockRows = 14;
#else
constexpr int kBlockRows = 6;
#endif
// Vectors side by side for so many rows.
constexpr int vectors_for(int rows) { return rows == 1 ? 8 : 2 * rows <= kBlockRows ? 4 : 2; }

// ---- loading ----

bool load_codes8(const int8_t* row, const float16_t* scales, int64_t dim, float* dst, int64_t ld) {
  const D d;
  const hn::Rebind<int32_t, D> d32;
  const hn::Rebind<int8_t, D> d8;
  bool finite = true;
  int64_t i = 0;
  for (int64_t g = 0; g < kv_groups(dim); ++g) {
    const auto factor = static_cast<float>(scales[g]);
    finite = finite && std::isfinite(factor);
    const V scale = hn::Set(d, factor);
    const int64_t end = std::min(dim, (g + 1) * kKvGroup);
    for (; i + kLanes <= end; i += kLanes) {
      hn::Store(hn::Mul(scale, hn::ConvertTo(d, hn::PromoteTo(d32, hn::LoadU(d8, row + i)))), d, dst + i);
    }
    for (; i < end; ++i) dst[i] = factor * static_cast<float>(row[i]);
  }
  std::fill(dst + dim, dst + ld, 0.0f);
  return finite;
}

bool load_codes4(const uint8_t* row, const float16_t* scales, int64_t dim, float* dst, int64_t ld) {
  [[maybe_unused]] const D d;
  bool finite = true;
  int64_t i = 0;
  for (int64_t g = 0; g < kv_groups(dim); ++g) {
    const auto factor = static_cast<float>(scales[g]);
    finite = finite && std::isfinite(factor);
    const int64_t end = std::min(dim, (g + 1) * kKvGroup);
#if HWY_TARGET != HWY_SCALAR
    if (end - i == kKvGroup) {
      const hn::FixedTag<uint8_t, 16> d8;
      const hn::Rebind<int32_t, D> d32;
      const hn::Rebind<uint8_t, D> part;
      const V scale = hn::Set(d, factor);
      const auto both = hn::LoadU(d8, row + i / 2);
      const auto low = hn::And(both, hn::Set(d8, 15)), high = hn::ShiftRight<4>(both);
      HWY_ALIGN uint8_t codes[kKvGroup];
      hn::Store(hn::InterleaveLower(d8, low, high), d8, codes);
      hn::Store(hn::InterleaveUpper(d8, low, high), d8, codes + 16);
      for (int64_t j = 0; j < kKvGroup; j += kLanes) {
        const auto code = hn::Sub(hn::PromoteTo(d32, hn::LoadU(part, codes + j)), hn::Set(d32, 8));
        hn::Store(hn::Mul(scale, hn::ConvertTo(d, code)), d, dst + i + j);
      }
      i = end;
    }
#endif
    for (; i < end; ++i) dst[i] = factor * static_cast<float>((row[i / 2] >> (i % 2 * 4) & 15) - 8);
  }
  std::fill(dst + dim, dst + ld, 0.0f);
  return finite;
}

bool load_row(const RowPanel& from, int64_t i, int64_t dim, float* dst, int64_t ld) {
  const void* row = from.rows[i];
  switch (from.format) {
    case RowFormat::kCodes8:
      return load_codes8(static_cast<const int8_t*>(row), from.scales[i], dim, dst, ld);
    case RowFormat::kCodes4:
      return load_codes4(static_cast<const uint8_t*>(row), from.scales[i], dim, dst, ld);
    default: return load_floats(from, i, dim, dst, ld);
  }
}

bool load_rows(const RowPanel& rows, int64_t dim, float* dst, int64_t ld) {
  bool finite = true;
  Ahead ahead(rows, rows.count);
  for (int64_t i = 0; i < rows.count; ++i) {
    ahead.step();
    if (rows.rows[i]) finite &= load_row(rows, i, dim, dst + i * ld, ld);
  }
  return finite;
}

// ---- packing ----

// Where the rows of a panel are as float32, loaded into `work` where they are not; those that are not there
// are zeros.
void find_rows(const RowPanel& panel, int64_t dim, float* work, const float** rows) {
  const int64_t ld = attention_row(dim);
  const bool plain = panel.format == RowFormat::kFloat32;
  if (!plain) load_rows(panel, dim, work, ld);
  if (plain) Ahead(panel, 1).step();
  for (int64_t i = 0; i < kAttentionPanel; ++i) {
    const void* row = i < panel.count ? panel.rows[i] : nullptr;
    rows[i] = !row ? work + kAttentionPanel * ld : plain ? static_cast<const float*>(row) : work + i * ld;
  }
}

void pack_keys(const RowPanel& panel, int64_t dim, float* dst, float* work) {
  const float* rows[kAttentionPanel];
  find_rows(panel, dim, work, rows);
  for (int64_t i = 0; i < kAttentionPanel; i += kLanes) {
    int64_t at = 0;
#if HWY_TARGET != HWY_SCALAR
    for (; at + 4 <= dim; at += 4) {
      const Turned t = transposed(rows + i, at);
      unroll<4>([&](auto k) HWY_ATTR { hn::Store(t.part[k], D(), dst + (at + k) * kAttentionPanel + i); });
    }
#endif
    for (int64_t j = i; j < i + kLanes; ++j) {
      for (int64_t k = at; k < dim; ++k) dst[k * kAttentionPanel + j] = rows[j][k];
    }
  }
}

void pack_queries(const RowPanel& panel, int64_t dim, float factor, float* dst, float* work) {
  const float* rows[kAttentionPanel];
  find_rows(panel, dim, work, rows);
  int64_t at = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (kBlockRows <= kLanes) {
    // A vector's lanes past the rows are written over by what follows.
    for (; at + 4 <= dim; at += 4) {
      const Turned t = transposed(rows, at);
      unroll<4>([&](auto k) HWY_ATTR {
        hn::StoreU(hn::Mul(hn::Set(D(), factor), t.part[k]), D(), dst + (at + k) * panel.count);
      });
    }
  }
#endif
  for (; at < dim; ++at) {
    for (int64_t r = 0; r < panel.count; ++r) dst[at * panel.count + r] = rows[r][at] * factor;
  }
}

// ---- products ----

template <int kRows, int kVectors>
void scores_tile(int64_t dim, const float* HWY_RESTRICT q, const float* HWY_RESTRICT k,
                 float* HWY_RESTRICT out) {
  const D d;
  V acc[kRows][kVectors];
  unroll<kRows>([&](auto r)
                    HWY_ATTR { unroll<kVectors>([&](auto c) HWY_ATTR { acc[r][c] = hn::Zero(d); }); });
  for (int64_t i = 0; i < dim; ++i) {
    V key[kVectors];
    unroll<kVectors>([&](auto c) HWY_ATTR { key[c] = hn::Load(d, k + c * kLanes); });
    unroll<kRows>([&](auto r) HWY_ATTR {
      const V x = hn::Set(d, q[r]);
      unroll<kVectors>([&](auto c) HWY_ATTR { acc[r][c] = hn::MulAdd(x, key[c], acc[r][c]); });
    });
    q += kRows;
    k += kAttentionPanel;
  }
  unroll<kRows>([&](auto r) HWY_ATTR {
    unroll<kVectors>([&](auto c) HWY_ATTR { hn::Store(acc[r][c], d, out + r * kScoreStep + c * kLanes); });
  });
}

template <int kRows>
void scores_of(int64_t dim, const float* q, const float* k, float* out) {
  constexpr int kPanelVectors = static_cast<int>(kAttentionPanel / kLanes);
  constexpr int kVectors = std::min(vectors_for(kRows), kPanelVectors);
  for (int64_t c = 0; c < kAttentionPanel; c += kVectors * kLanes) {
    scores_tile<kRows, kVectors>(dim, q, k + c, out + c);
  }
}

template <int kRows, int kVectors>
void values_tile(int64_t keys, const float* HWY_RESTRICT w, const float* HWY_RESTRICT v, int64_t ld,
                 float* HWY_RESTRICT sums, bool more) {
  const D d;
  V acc[kRows][kVectors];
  unroll<kRows>([&](auto r) HWY_ATTR {
    unroll<kVectors>(
        [&](auto c) HWY_ATTR { acc[r][c] = more ? hn::Load(d, sums + r * ld + c * kLanes) : hn::Zero(d); });
  });
  for (int64_t j = 0; j < keys; ++j) {
    V value[kVectors];
    unroll<kVectors>([&](auto c) HWY_ATTR { value[c] = hn::Load(d, v + c * kLanes); });
    unroll<kRows>([&](auto r) HWY_ATTR {
      const V x = hn::Set(d, w[r * kScoreStep + j]);
      unroll<kVectors>([&](auto c) HWY_ATTR { acc[r][c] = hn::MulAdd(x, value[c], acc[r][c]); });
    });
    v += ld;
  }
  unroll<kRows>([&](auto r) HWY_ATTR {
    unroll<kVectors>([&](auto c) HWY_ATTR { hn::Store(acc[r][c], d, sums + r * ld + c * kLanes); });
  });
}

template <int kRows>
void values_of(int64_t keys, const float* w, const float* v, int64_t ld, float* sums, bool more) {
  constexpr int kVectors = vectors_for(kRows);
  int64_t c = 0;
  for (; c + kVectors * kLanes <= ld; c += kVectors * kLanes) {
    values_tile<kRows, kVectors>(keys, w, v + c, ld, sums + c, more);
  }
  if constexpr (kVectors > 2) {
    for (; c + 2 * kLanes <= ld; c += 2 * kLanes) {
      values_tile<kRows, 2>(keys, w, v + c, ld, sums + c, more);
    }
  }
  for (; c < ld; c += kLanes) values_tile<kRows, 1>(keys, w, v + c, ld, sums + c, more);
}

using ScoresFn = void (*)(int64_t, const float*, const float*, float*);
using ValuesFn = void (*)(int64_t, const float*, const float*, int64_t, float*, bool);

template <int... kRows>
constexpr auto scores_table(std::integer_sequence<int, kRows...>) {
  return std::array<ScoresFn, sizeof...(kRows)>{&scores_of<kRows + 1>...};
}
template <int... kRows>
constexpr auto values_table(std::integer_sequence<int, kRows...>) {
  return std::array<ValuesFn, sizeof...(kRows)>{&values_of<kRows + 1>...};
}

void scores(int64_t rows, int64_t dim, const float* queries, const float* keys, float* out) {
  static constexpr auto kTable = scores_table(std::make_integer_sequence<int, kBlockRows>());
  kTable[static_cast<size_t>(rows - 1)](dim, queries, keys, out);
}

void values(int64_t rows, int64_t keys, const float* w, const float* v, int64_t ld, float* sums, bool more) {
  static constexpr auto kTable = values_table(std::make_integer_sequence<int, kBlockRows>());
  kTable[static_cast<size_t>(rows - 1)](keys, w, v, ld, sums, more);
}

// ---- softmax ----

// 2^x for x <= 0, relative error below 2^-23; 0 below -125, NaN in, NaN out.
HWY_INLINE V exp2_nonpositive(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: the sum's low bits are the rounded x
  const V shifted = hn::Add(x, magic);
  const V r = hn::Sub(x, hn::Sub(shifted, magic));
  V p = hn::Set(d, 0x1.41fbbcp-13f);
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.5f3e54p-10f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.3b2d4cp-7f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.c6aee8p-5f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.ebfbdcp-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.62e43p-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto power = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const V scaled = hn::BitCast(d, hn::Add(hn::BitCast(di, p), power));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -125.0f)), scaled);
}

// The peak to subtract: -inf alone must give exp2(-inf) = 0, not NaN.
HWY_INLINE V finite_peak(V peak) { return hn::IfThenZeroElse(hn::Eq(peak, hn::Set(D(), -INFINITY)), peak); }

void softmax(KeyRange seen, KeyRange all, float cap, float* s, float* peak, float* total) {
  const D d;
  constexpr int64_t kParts = kAttentionLanes / kLanes;
  if (seen.empty()) {
    if (!all.empty()) std::fill(s + all.begin, s + all.end, 0.0f);
    *peak = -INFINITY, *total = 0.0f;
    return;
  }
  const int64_t first = seen.begin / kAttentionLanes * kAttentionLanes;
  const int64_t last = (seen.end + kAttentionLanes - 1) / kAttentionLanes * kAttentionLanes;
  if (cap > 0) {
#if LAMINA_SIMD_TARGET
    for (int64_t j = first; j < last; j += kLanes) {
      hn::Store(hn::Mul(hn::Set(d, cap), lamina::HWY_NAMESPACE::kernel::tanh(d, hn::Load(d, s + j))), d,
                s + j);
    }
#else
    for (int64_t j = first; j < last; ++j) s[j] = cap * std::tanh(s[j]);
#endif
  }
  std::fill(s + first, s + seen.begin, -INFINITY);
  std::fill(s + seen.end, s + last, -INFINITY);
  V top = hn::Load(d, s + first);
  for (int64_t j = first + kLanes; j < last; j += kLanes) top = hn::Max(top, hn::Load(d, s + j));
  const float most = hn::GetLane(hn::MaxOfLanes(d, top));
  const V shift = finite_peak(hn::Set(d, most));
  V sum[kParts];
  for (V& part : sum) part = hn::Zero(d);
  for (int64_t j = first; j < last; j += kAttentionLanes) {
    for (int64_t part = 0; part < kParts; ++part) {
      float* p = s + j + part * kLanes;
      const V weight = exp2_nonpositive(hn::Sub(hn::Load(d, p), shift));
      hn::Store(weight, d, p);
      sum[part] = hn::Add(sum[part], weight);
    }
  }
  for (int64_t half = kParts / 2; half > 0; half /= 2) {
    for (int64_t part = 0; part < half; ++part) sum[part] = hn::Add(sum[part], sum[part + half]);
  }
  *peak = most;
  *total = hn::GetLane(hn::SumOfLanes(d, sum[0]));
  if (all.begin < first) std::fill(s + all.begin, s + first, 0.0f);
  if (all.end > last) std::fill(s + last, s + all.end, 0.0f);
}

// ---- combining ----

// x * factor, or 0 where the factor is 0 though x may be NaN.
HWY_INLINE V faded(V x, V factor) {
  return hn::IfThenZeroElse(hn::Eq(factor, hn::Zero(D())), hn::Mul(x, factor));
}

struct Factors {
  float old_part, new_part;
};
HWY_INLINE Factors factors_of(float old_peak, float new_peak, float top) {
  const D d;
  const V shift = finite_peak(hn::Set(d, top));
  const auto fade = [&](float peak) HWY_ATTR {
    return peak == -INFINITY ? 0.0f : hn::GetLane(exp2_nonpositive(hn::Sub(hn::Set(d, peak), shift)));
  };
  return {fade(old_peak), fade(new_peak)};
}

void combine(int64_t n, int64_t ld, const float* sums, const float* peak, const float* total,
             float* state_sums, float* state_peak, float* state_total) {
  const D d;
  for (int64_t r = 0; r < n; ++r) {
    const float top = std::max(state_peak[r], peak[r]);
    const Factors f = factors_of(state_peak[r], peak[r], top);
    state_peak[r] = top;
    if (f.new_part == 0 && f.old_part == 1) continue;
    const V old_part = hn::Set(d, f.old_part), new_part = hn::Set(d, f.new_part);
    const auto both = [&](V x, V y) HWY_ATTR { return hn::Add(faded(x, old_part), faded(y, new_part)); };
    state_total[r] = hn::GetLane(both(hn::Set(d, state_total[r]), hn::Set(d, total[r])));
    for (int64_t c = 0; c < ld; c += kLanes) {
      float* p = state_sums + r * ld + c;
      hn::Store(both(hn::Load(d, p), hn::Load(d, sums + r * ld + c)), d, p);
    }
  }
}

void divide(int64_t n, int64_t ld, const float* total, float* sums) {
  const D d;
  for (int64_t r = 0; r < n; ++r) {
    const V inverse = hn::Set(d, 1.0f / total[r]);
    for (int64_t c = 0; c < ld; c += kLanes) {
      float* p = sums + r * ld + c;
      hn::Store(hn::Mul(hn::Load(d, p), inverse), d, p);
    }
  }
}

}  // namespace

const AttentionTiles* attention_tile_kernels() {
  static constexpr AttentionTiles kTable = {kBlockRows, load_rows, pack_keys, pack_queries, scores,
                                            softmax,    values,    combine,   divide};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(attention_tile_kernels);

const AttentionTiles& attention_tiles() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(attention_tile_kernels)();
}

}  // namespace lamina::cpu
#endif
