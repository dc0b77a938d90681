#include "backend/cpu/attention_codes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "backend/cpu/simd_target.h"
#include "quant/kv_rows.h"

#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_codes.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/attention_turn-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

constexpr int64_t kGroup = kKvGroup, kPairs = kGroup / 2;

// Rows whose sums, two vectors each, stay in registers together.
#if HWY_TARGET <= HWY_AVX3
[[maybe_unused]] constexpr int kTileRows = 7;
constexpr int kDirectRows = 8;
#else
[[maybe_unused]] constexpr int kTileRows = 3;
constexpr int kDirectRows = 4;
#endif

using DI = hn::RebindToSigned<D>;
using I = hn::Vec<DI>;

// ---- queries ----

// Where in its group, in elements, the second of a pair's two is, counted from the first: two of four bytes,
// or two of eight nibbles, that one shift brings to the low ends of 16 bits.
struct PairPlace {
  int64_t first, second;
};
constexpr PairPlace place_of(int64_t pair, bool bytes) {
  const int64_t word = bytes ? pair / 2 : pair / 4, k = bytes ? pair % 2 : pair % 4;
  return bytes ? PairPlace{4 * word + k, 4 * word + k + 2} : PairPlace{8 * word + k, 8 * word + k + 4};
}

// x[0, n) times factor, as whole numbers of at most 15 bits and the step between them.
float round_query(const float* x, int64_t n, float factor, int32_t* whole) {
  const D d;
  V top = hn::Zero(d), bad = hn::Zero(d);
  for (int64_t i = 0; i < n; i += kLanes) {
    const V v = hn::Mul(hn::Set(d, factor), hn::Load(d, x + i));
    top = hn::Max(top, hn::Abs(v));
    bad = hn::MulAdd(v, hn::Zero(d), bad);  // NaN from an infinity or NaN on
  }
  const float most = hn::GetLane(hn::MaxOfLanes(d, top));
  const bool finite = hn::AllTrue(d, hn::Eq(bad, hn::Zero(d)));
  const float inverse = finite && most > 0 ? 32767 / most : 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    const V v = hn::Mul(hn::Set(d, factor), hn::Load(d, x + i));
    const V scaled = inverse == 0 ? hn::Zero(d) : hn::Round(hn::Mul(v, hn::Set(d, inverse)));
    hn::Store(hn::ConvertTo(DI(), hn::Min(hn::Max(scaled, hn::Set(d, -32767.0f)), hn::Set(d, 32767.0f))),
              DI(), whole + i);
  }
  return finite ? most / 32767 : std::numeric_limits<float>::quiet_NaN();
}

void pack_queries(const RowPanel& rows, RowFormat format, int64_t dim, float factor, float* dst,
                  float* work) {
  const bool bytes = format == RowFormat::kCodes8;
  const int64_t n = rows.count, padded = AttentionCodes::padded(dim), groups = AttentionCodes::groups(dim);
  auto* pairs = reinterpret_cast<int32_t*>(dst);
  int32_t* offsets = pairs + n * padded / 2;
  auto* steps = reinterpret_cast<float*>(offsets + n * groups);
  auto* whole = reinterpret_cast<int32_t*>(work + padded);
  for (int64_t r = 0; r < n; ++r) {
    load_floats(rows, r, dim, work, padded);
    steps[r] = round_query(work, padded, factor, whole);
    for (int64_t g = 0; g < groups; ++g) {
      const int32_t* x = whole + g * kGroup;
      for (int64_t p = 0; p < kPairs; ++p) {
        const PairPlace at = place_of(p, bytes);
        pairs[(g * kPairs + p) * n + r] = static_cast<int32_t>(static_cast<uint32_t>(x[at.first] & 0xffff) |
                                                               static_cast<uint32_t>(x[at.second]) << 16);
      }
      // Nibbles are codes plus 8.
      int32_t sum = 0;
      for (int64_t i = 0; i < kGroup; ++i) sum += x[i];
      offsets[g * n + r] = bytes ? 0 : -8 * sum;
    }
  }
}

#if LAMINA_SIMD_TARGET

// ---- keys ----

using DS = hn::Repartition<int16_t, D>;

// sum + the products of each pair of 16-bit numbers. Where one instruction does that it has one port only,
// and two that do it have two: every third goes their way.
template <int kTurn>
HWY_INLINE I dot(I sum, I a, I b) {
#if HWY_TARGET == HWY_AVX3_DL
  if constexpr (kTurn % 3 != 2) {
    asm("vpdpwssd %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
    return sum;
  }
#endif
  const DS ds;
  I unused = hn::Zero(DI());
  return hn::ReorderWidenMulAccumulate(DI(), hn::BitCast(ds, a), hn::BitCast(ds, b), sum, unused);
}

// The k-th of the pairs in four bytes of codes.
template <bool kBytes, int k>
HWY_INLINE I pair_of(I x) {
  const DS ds;
  const hn::RebindToUnsigned<DS> du;
  if constexpr (kBytes) {
    const auto words = hn::BitCast(ds, x);
    return hn::BitCast(DI(), hn::ShiftRight<8>(k == 1 ? words : hn::ShiftLeft<8>(words)));
  } else {
    const auto words = hn::ShiftRight<4 * k>(hn::BitCast(du, x));
    return hn::BitCast(DI(), k == 3 ? words : hn::And(words, hn::Set(du, uint16_t{15})));
  }
}

// Scales of kLanes rows to dst[group * step + row].
void turn_scales(const float16_t* const* scales, int64_t groups, float* dst, int64_t step) {
  HWY_ALIGN float rows[kLanes * 4];
  const float* at[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) at[i] = rows + 4 * i;
  for (int64_t g = 0; g < groups; g += 4) {
    const int64_t n = std::min<int64_t>(4, groups - g);
    for (int64_t i = 0; i < kLanes; ++i) widen_four(scales[i] + g, n, rows + 4 * i);
    const Turned t = transposed(at, 0);
    for (int64_t k = 0; k < n; ++k) hn::Store(t.part[k], D(), dst + (g + k) * step);
  }
}

// The rows of a panel and their scales; where one is not there, those of one that is.
struct Found {
  const float* rows[kAttentionPanel];
  const float16_t* scales[kAttentionPanel];

  explicit Found(const RowPanel& panel) {
    const auto* known = std::find_if(panel.rows, panel.rows + panel.count, [](const void* r) { return r; });
    for (int64_t i = 0; i < kAttentionPanel; ++i) {
      const int64_t at = i < panel.count && panel.rows[i] ? i : known - panel.rows;
      rows[i] = static_cast<const float*>(panel.rows[at]);
      scales[i] = panel.scales[at];
    }
  }
};

template <bool kBytes>
void pack_from(Found found, int64_t row_bytes, int64_t groups, float* dst, float* work) {
  constexpr int64_t kRowBytes = kBytes ? kGroup : kGroup / 2;  // of a group
  if (row_bytes < groups * kRowBytes) {
    // Whole groups, by way of copies.
    auto* copies = reinterpret_cast<char*>(work);
    for (int64_t i = 0; i < kAttentionPanel; ++i) {
      char* copy = copies + i * groups * kRowBytes;
      std::copy_n(reinterpret_cast<const char*>(found.rows[i]), row_bytes, copy);
      std::fill(copy + row_bytes, copy + groups * kRowBytes, char{0});
      found.rows[i] = reinterpret_cast<const float*>(copy);
    }
  }
  auto* pairs = reinterpret_cast<int32_t*>(dst);
  float* scales = dst + groups * kPairs * kAttentionPanel;
  for (int64_t i = 0; i < kAttentionPanel; i += kLanes) {
    turn_scales(found.scales + i, groups, scales + i, kAttentionPanel);
    for (int64_t block = 0; block < groups * kRowBytes / 16; ++block) {
      const Turned t = transposed(found.rows + i, 4 * block);
      constexpr int kEach = kBytes ? 2 : 4;
      unroll<4>([&](auto c) HWY_ATTR {
        unroll<kEach>([&](auto k) HWY_ATTR {
          hn::Store(pair_of<kBytes, static_cast<int>(k())>(hn::BitCast(DI(), t.part[c])), DI(),
                    pairs + ((4 * block + c) * kEach + k) * kAttentionPanel + i);
        });
      });
    }
  }
}

void pack_keys(const RowPanel& panel, int64_t dim, float* dst, float* work) {
  Ahead(panel, 1).step();
  if (panel.format == RowFormat::kCodes8)
    return pack_from<true>(Found(panel), dim, kv_groups(dim), dst, work);
  pack_from<false>(Found(panel), dim / 2, kv_groups(dim), dst, work);
}

// ---- scores ----

// What a group's sums add to the scores so far.
HWY_INLINE V with_group(I sum, V scale, V before) {
  return hn::MulAdd(hn::ConvertTo(D(), sum), scale, before);
}

// Packed queries, from one of `count` rows on.
struct Queries {
  const int32_t *pairs, *offsets;
  const float* steps;
  int64_t count;

  Queries(const float* packed, int64_t rows, int64_t groups)
      : pairs(reinterpret_cast<const int32_t*>(packed)),
        offsets(pairs + rows * groups * kPairs),
        steps(packed + rows * groups * (kPairs + 1)),
        count(rows) {}
  void skip(int64_t rows) { pairs += rows, offsets += rows, steps += rows; }
};

template <int kRows>
void scores_of(const Queries& q, int64_t groups, const float* keys, float* HWY_RESTRICT out) {
  const D d;
  for (int64_t col = 0; col < kAttentionPanel; col += 2 * kLanes) {
    for (int64_t g = 0; g < groups; ++g) {
      I acc[kRows][2];
      unroll<kRows>([&](auto r)
                        HWY_ATTR { acc[r][0] = acc[r][1] = hn::Set(DI(), q.offsets[g * q.count + r]); });
      const int32_t* HWY_RESTRICT x = q.pairs + g * kPairs * q.count;
      const auto* HWY_RESTRICT k =
          reinterpret_cast<const int32_t*>(keys) + g * kPairs * kAttentionPanel + col;
      for (int64_t p = 0; p < kPairs; ++p) {
        const I k0 = hn::Load(DI(), k), k1 = hn::Load(DI(), k + kLanes);
        unroll<kRows>([&](auto r) HWY_ATTR {
          const I both = hn::Set(DI(), x[r]);
          acc[r][0] = dot<2 * r>(acc[r][0], k0, both);
          acc[r][1] = dot<2 * r + 1>(acc[r][1], k1, both);
        });
        x += q.count;
        k += kAttentionPanel;
      }
      const float* scale = keys + (groups * kPairs + g) * kAttentionPanel + col;
      unroll<kRows>([&](auto r) HWY_ATTR {
        unroll<2>([&](auto c) HWY_ATTR {
          float* p = out + r * kScoreStep + col + c * kLanes;
          const V before = g == 0 ? hn::Zero(d) : hn::Load(d, p);
          const V now = with_group(acc[r][c], hn::Load(d, scale + c * kLanes), before);
          hn::Store(g + 1 == groups ? hn::Mul(now, hn::Set(d, q.steps[r])) : now, d, p);
        });
      });
    }
  }
}

// Longest rows of direct_scores: their scales are unpacked on the stack.
constexpr int64_t kMostDim = 1024, kMostGroups = kMostDim / kGroup;

template <int kRows, bool kBytes>
void direct_scores_of(const RowPanel& panel, int64_t dim, const float* queries, float* HWY_RESTRICT out) {
  const D d;
  constexpr int kEach = kBytes ? 2 : 4;              // pairs in four bytes
  constexpr int64_t kBlocks = kPairs / (4 * kEach);  // of 16 bytes in a group
  const int64_t groups = dim / kGroup;
  const Queries q(queries, kRows, groups);
  const Found found(panel);
  const Columns columns(panel, 2 * kLanes);
  unroll<kRows>([&](auto r) HWY_ATTR { columns.clear(out + r * kScoreStep); });
  Ahead ahead(panel, columns.passes() * groups * kBlocks);
  for (int64_t col = columns.begin; col < columns.end; col += 2 * kLanes) {
    HWY_ALIGN float scales[kMostGroups * 2 * kLanes];
    for (int64_t i = 0; i < 2 * kLanes; i += kLanes) {
      turn_scales(found.scales + col + i, groups, scales + i, 2 * kLanes);
    }
    V total[2][kRows];
    unroll<2>([&](auto c) HWY_ATTR { unroll<kRows>([&](auto r) HWY_ATTR { total[c][r] = hn::Zero(d); }); });
    for (int64_t g = 0; g < groups; ++g) {
      I acc[2][kRows];
      unroll<2>([&](auto c) HWY_ATTR {
        unroll<kRows>([&](auto r) HWY_ATTR { acc[c][r] = hn::Set(DI(), q.offsets[g * kRows + r]); });
      });
      for (int64_t block = g * kBlocks; block < (g + 1) * kBlocks; ++block) {
        const int32_t* HWY_RESTRICT x = q.pairs + block * 4 * kEach * kRows;
        ahead.step();
        unroll<2>([&](auto c) HWY_ATTR {
          const Turned t = transposed(found.rows + col + c * kLanes, 4 * block);
          unroll<4>([&](auto w) HWY_ATTR {
            unroll<kEach>([&](auto k) HWY_ATTR {
              const I key = pair_of<kBytes, static_cast<int>(k())>(hn::BitCast(DI(), t.part[w]));
              unroll<kRows>([&](auto r) HWY_ATTR {
                acc[c][r] = dot<w + k + r>(acc[c][r], key, hn::Set(DI(), x[(w * kEach + k) * kRows + r]));
              });
            });
          });
        });
      }
      unroll<2>([&](auto c) HWY_ATTR {
        const V scale = hn::Load(d, scales + (2 * g + c) * kLanes);
        unroll<kRows>([&](auto r) HWY_ATTR { total[c][r] = with_group(acc[c][r], scale, total[c][r]); });
      });
    }
    unroll<2>([&](auto c) HWY_ATTR {
      unroll<kRows>([&](auto r) HWY_ATTR {
        hn::Store(hn::Mul(total[c][r], hn::Set(d, q.steps[r])), d, out + r * kScoreStep + col + c * kLanes);
      });
    });
  }
}

using ScoresFn = void (*)(const Queries&, int64_t, const float*, float*);
using DirectFn = void (*)(const RowPanel&, int64_t, const float*, float*);

template <int... kRows>
constexpr auto scores_table(std::integer_sequence<int, kRows...>) {
  return std::array<ScoresFn, sizeof...(kRows)>{&scores_of<kRows + 1>...};
}
template <bool kBytes, int... kRows>
constexpr auto direct_table(std::integer_sequence<int, kRows...>) {
  return std::array<DirectFn, sizeof...(kRows)>{&direct_scores_of<kRows + 1, kBytes>...};
}

void scores(int64_t rows, int64_t dim, const float* queries, const float* keys, float* out) {
  static constexpr auto kTable = scores_table(std::make_integer_sequence<int, kTileRows>());
  const int64_t groups = kv_groups(dim);
  Queries q(queries, rows, groups);
  for (int64_t r = 0; r < rows; r += kTileRows) {
    const int64_t n = std::min<int64_t>(kTileRows, rows - r);
    kTable[static_cast<size_t>(n - 1)](q, groups, keys, out + r * kScoreStep);
    q.skip(n);
  }
}
void direct_scores(int64_t rows, const RowPanel& keys, int64_t dim, const float* queries, float* out) {
  using Rows = std::make_integer_sequence<int, kDirectRows>;
  static constexpr std::array kTable = {direct_table<false>(Rows()), direct_table<true>(Rows())};
  kTable[keys.format == RowFormat::kCodes8][static_cast<size_t>(rows - 1)](keys, dim, queries, out);
}
bool takes(int64_t dim) { return dim % kGroup == 0 && dim <= kMostDim; }

#else

// Plain loops over the same layout.
void pack_keys(const RowPanel& panel, int64_t dim, float* dst, float*) {
  const bool bytes = panel.format == RowFormat::kCodes8;
  const int64_t groups = kv_groups(dim);
  auto* pairs = reinterpret_cast<int32_t*>(dst);
  float* scales = dst + groups * kPairs * kAttentionPanel;
  std::fill_n(dst, groups * (kPairs + 1) * kAttentionPanel, 0.0f);
  for (int64_t i = 0; i < panel.count; ++i) {
    if (!panel.rows[i]) continue;
    const auto code = [&](int64_t d) -> uint32_t {
      if (d >= dim) return 0;
      if (bytes) return static_cast<uint16_t>(static_cast<const int8_t*>(panel.rows[i])[d]);
      return static_cast<const uint8_t*>(panel.rows[i])[d / 2] >> (d % 2 * 4) & 15;
    };
    for (int64_t g = 0; g < groups; ++g) {
      scales[g * kAttentionPanel + i] = static_cast<float>(panel.scales[i][g]);
      for (int64_t p = 0; p < kPairs; ++p) {
        const PairPlace at = place_of(p, bytes);
        pairs[(g * kPairs + p) * kAttentionPanel + i] =
            static_cast<int32_t>(code(g * kGroup + at.first) | code(g * kGroup + at.second) << 16);
      }
    }
  }
}

void scores(int64_t rows, int64_t dim, const float* queries, const float* keys, float* out) {
  const int64_t groups = kv_groups(dim);
  const auto* q = reinterpret_cast<const int32_t*>(queries);
  const auto* k = reinterpret_cast<const int32_t*>(keys);
  const int32_t* offsets = q + rows * groups * kPairs;
  const auto* steps = reinterpret_cast<const float*>(offsets + rows * groups);
  const float* scales = keys + groups * kPairs * kAttentionPanel;
  const auto low = [](int32_t x) { return static_cast<int32_t>(static_cast<int16_t>(x & 0xffff)); };
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < kAttentionPanel; ++i) {
      float total = 0;
      for (int64_t g = 0; g < groups; ++g) {
        int32_t sum = offsets[g * rows + r];
        for (int64_t p = g * kPairs; p < (g + 1) * kPairs; ++p) {
          const int32_t a = q[p * rows + r], b = k[p * kAttentionPanel + i];
          sum += low(a) * low(b) + (a >> 16) * (b >> 16);
        }
        total += static_cast<float>(sum) * scales[g * kAttentionPanel + i];
      }
      out[r * kScoreStep + i] = total * steps[r];
    }
  }
}
void direct_scores(int64_t, const RowPanel&, int64_t, const float*, float*) {}
bool takes(int64_t) { return false; }

#endif

}  // namespace

const AttentionCodes* attention_code_kernels() {
  static constexpr AttentionCodes kTable = {kDirectRows, pack_queries,  pack_keys,
                                            scores,      direct_scores, takes};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(attention_code_kernels);

const AttentionCodes& attention_codes() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(attention_code_kernels)();
}

}  // namespace lamina::cpu
#endif
