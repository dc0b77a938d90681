#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "backend/cpu/gemm_scratch.h"
#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/simd_target.h"

#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/qmm_int8.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "backend/cpu/qmm_decode-inl.h"
#include "backend/cpu/qmm_dots-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

#if HWY_TARGET == HWY_AVX3_DL
constexpr int kTileRows = 12;
#elif HWY_TARGET == HWY_AVX3
constexpr int kTileRows = 8;
#else
constexpr int kTileRows = 4;
#endif

// Where byte i of 16 codes comes from, in the order of the units that they belong to.
template <int kPlanes>
struct UnitOrder {
  alignas(16) uint8_t from[16];
  constexpr UnitOrder() : from() {
    for (int i = 0; i < 16; ++i) {
      const int word = i / (4 * kPlanes), in_word = i % (4 * kPlanes);
      from[i] = static_cast<uint8_t>(word * 4 * kPlanes + in_word % 4 * kPlanes + in_word / 4);
    }
  }
};

template <int kPlanes>
void regroup_planes(int64_t n, const int8_t* codes, int8_t* bytes) {
  static constexpr UnitOrder<kPlanes> kOrder;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<uint8_t, 16> d8;
  const auto order = hn::Load(d8, kOrder.from);
  for (int64_t i = 0; i < n; i += 16) {
    const auto all = hn::LoadU(d8, reinterpret_cast<const uint8_t*>(codes + i));
    hn::StoreU(hn::TableLookupBytes(all, order), d8, reinterpret_cast<uint8_t*>(bytes + i));
  }
#else
  for (int64_t i = 0; i < n; ++i) bytes[i] = codes[i / 16 * 16 + kOrder.from[i % 16]];
#endif
}

void regroup(int64_t planes, int64_t n, const int8_t* codes, int8_t* bytes) {
  if (planes == 2) return regroup_planes<2>(n, codes, bytes);
  if (planes == 4) return regroup_planes<4>(n, codes, bytes);
  for (int64_t i = 0; i < n; ++i) bytes[i / 32 * 32 + i % 8 * 4 + i % 32 / 8] = codes[i];
}

// The 8-bit codes of one group and their sum.
int32_t quantize_group(int64_t n, const float* x, float inverse, int8_t* codes) {
  const D d;
  const hn::Rebind<int8_t, D> d8;
  VI sum = hn::Zero(DI());
  for (int64_t i = 0; i < n; i += lane_count()) {
    const VI whole = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)));
    sum = hn::Add(sum, whole);
    hn::StoreU(hn::DemoteTo(d8, whole), d8, codes + i);
  }
  return hn::GetLane(hn::SumOfLanes(DI(), sum));
}

// The largest size among n numbers; infinity or NaN where one is not finite.
float largest_size(int64_t n, const float* x) {
  // Sizes as integers are in the order of sizes, and NaN is above all.
  VI most = hn::Zero(DI());
  for (int64_t i = 0; i < n; i += lane_count()) {
    most = hn::Max(most, hn::BitCast(DI(), hn::Abs(hn::LoadU(D(), x + i))));
  }
  return std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(DI(), most)));
}

void quantize_row(const QmmWeights& w, int64_t planes, const float* x, const QmmInt8Row& row) {
  const int64_t group = w.integers.group, groups = w.integer_groups();
  HWY_ALIGN int8_t regrouped[128];
  for (int64_t g = 0; g < groups; ++g) {
    const float most = largest_size(group, x + g * group);
    auto* bytes = reinterpret_cast<int8_t*>(row.units) + g * group;
    int8_t* codes = planes == 1 ? bytes : regrouped;
    int32_t sum = 0;
    if (most > 0 && most < INFINITY) {
      // At most 127 after rounding, even where the scale is so small that it is coarse.
      sum = quantize_group(group, x + g * group, std::min(127.0f / most, 3.4e38f), codes);
    } else {
      std::fill_n(codes, group, int8_t{0});
    }
    if (planes > 1) regroup(planes, group, codes, bytes);
    row.scales[g] = most < INFINITY ? most / 127.0f : NAN;
    row.sums[g] = row.scales[g] * static_cast<float>(sum);
    row.starts[g] = dots_lack(w) * sum;
  }
  std::fill_n(row.scales + groups, kQmmPad, 0.0f);
  std::fill_n(row.sums + groups, kQmmPad, 0.0f);
  std::fill_n(row.starts + groups, kQmmPad, 0);
}

int64_t panel_words(const QmmWeights& w, int64_t planes) { return w.cols / 4 / planes; }

// 32 codes of every lane's row, from kBits words a lane, to 8 words of 4 bytes.
template <int kBits>
void widen_run(const int32_t* words, int64_t width, int32_t* out) {
  const D32 d32;
  const auto code = [&](auto i) HWY_ATTR {
    constexpr int kWord = static_cast<int>(i) * kBits / 32, kShift = static_cast<int>(i) * kBits % 32;
    const auto load = [&](int at) HWY_ATTR { return hn::BitCast(d32, hn::Load(DI(), words + at * width)); };
    auto bits = hn::ShiftRight<kShift>(load(kWord));
    if constexpr (kShift + kBits > 32) bits = hn::Or(bits, hn::ShiftLeft<32 - kShift>(load(kWord + 1)));
    return hn::And(bits, hn::Set(d32, (1u << kBits) - 1));
  };
  unroll<8>([&](auto u) HWY_ATTR {
    constexpr size_t kFirst = 4 * u;
    const auto low = hn::Or(code(std::integral_constant<size_t, kFirst>()),
                            hn::ShiftLeft<8>(code(std::integral_constant<size_t, kFirst + 1>())));
    const auto high = hn::Or(code(std::integral_constant<size_t, kFirst + 2>()),
                             hn::ShiftLeft<8>(code(std::integral_constant<size_t, kFirst + 3>())));
    hn::Store(hn::BitCast(DI(), hn::Or(low, hn::ShiftLeft<16>(high))), DI(), out + u * width);
  });
}

template <int kBits>
void widen_panel(const QmmWeights& w, int64_t row0, int32_t* words) {
  const int64_t lanes = lane_count(), width = 2 * lanes;
  HWY_ALIGN int32_t run[kBits * 2 * hn::MaxLanes(DI())];
  for (int64_t i = 0; i < w.cols / 32; ++i) {
    transpose_words(w, row0, width, i * kBits, kBits, reinterpret_cast<float*>(run));
    for (int64_t c = 0; c < width; c += lanes) widen_run<kBits>(run + c, width, words + i * 8 * width + c);
  }
}

// Codes of a block format, by rows and then by words.
void widen_block_panel(const QmmWeights& w, int64_t row0, int32_t* words) {
  const int64_t width = 2 * lane_count();
  Scratch rows(width * w.cols);
  QmmWeights bytes = w;
  bytes.codes = rows.as<uint8_t>(), bytes.code_row_bytes = w.cols, bytes.rows = width;
  qmm_codes().widen(w, row0, width, 0, w.cols, rows.as<uint8_t>(), w.cols);
  transpose_words(bytes, 0, width, 0, w.cols / 4, reinterpret_cast<float*>(words));
}

void pack(const QmmWeights& w, int64_t planes, int64_t row0, int32_t* words, float* edges) {
  const int64_t width = 2 * lane_count();
  qmm_codes().edges(w, row0, width, edges, edges + w.integer_groups() * width);
  if (w.format != QuantFormat::kAffine) return widen_block_panel(w, row0, words);
  if (planes * w.bits == 8) {
    return transpose_words(w, row0, width, 0, panel_words(w, planes), reinterpret_cast<float*>(words));
  }
  switch (w.bits) {
    case 1: return widen_panel<1>(w, row0, words);
    case 2: return widen_panel<2>(w, row0, words);
    case 3: return widen_panel<3>(w, row0, words);
    case 4: return widen_panel<4>(w, row0, words);
    case 5: return widen_panel<5>(w, row0, words);
    default: return widen_panel<6>(w, row0, words);
  }
}

// tile = the sums of weight bias * activation sum.
template <int kRows>
void begin_tile(const QmmPanelArgs& a) {
  const int64_t lanes = lane_count(), width = 2 * lanes;
  V totals[kRows][2];
  unroll<kRows>([&](auto r) HWY_ATTR { totals[r][0] = totals[r][1] = hn::Zero(D()); });
  const float *bias = a.w_edges + a.groups * width, *sums = a.x_edges + kRows;
  for (int64_t g = 0; a.biased && g < a.groups; ++g, bias += width, sums += 3 * kRows) {
    const V low = hn::Load(D(), bias), high = hn::Load(D(), bias + lanes);
    unroll<kRows>([&](auto r) HWY_ATTR {
      const V sum = hn::Set(D(), sums[r]);
      totals[r][0] = fused(sum, low, totals[r][0]);
      totals[r][1] = fused(sum, high, totals[r][1]);
    });
  }
  unroll<kRows>([&](auto r) HWY_ATTR {
    hn::StoreU(totals[r][0], D(), a.tile + r * a.ld);
    hn::StoreU(totals[r][1], D(), a.tile + r * a.ld + lanes);
  });
}

// acc[r][c] + the dots of activations r with both halves of the weight rows of a panel, over a group. kSteps:
// dots of pairs that are added in 16 bits where there are such; 0 for wide codes.
template <int kBits, int kSteps, int kRows>
HWY_INLINE void add_group(const int32_t* words, const int32_t* units, int64_t group_words,
                          VI (&acc)[kRows][2]) {
  constexpr int kPlanes = 8 / kBits;
  const int64_t lanes = lane_count();
#if LAMINA_QMM_PAIRS
  constexpr int kWords = std::max(1, kSteps / kPlanes);
#else
  constexpr int kWords = 1;
#endif
  for (int64_t i = 0; i < group_words; i += kWords) {
#if LAMINA_QMM_PAIRS
    VI pairs[kRows][2];
#endif
    unroll<kWords>([&]([[maybe_unused]] auto word) HWY_ATTR {
      const VI w0 = hn::Load(DI(), words), w1 = hn::Load(DI(), words + lanes);
      unroll<kPlanes>([&](auto j) HWY_ATTR {
        const VI p0 = plane_of<kBits, static_cast<int>(j)>(w0), p1 = plane_of<kBits, static_cast<int>(j)>(w1);
        unroll<kRows>([&](auto r) HWY_ATTR {
          const VI x = hn::Set(DI(), units[j * kRows + r]);
#if LAMINA_QMM_PAIRS
          const VI pair0 = pairs_of<(kSteps > 0)>(p0, x), pair1 = pairs_of<(kSteps > 0)>(p1, x);
          constexpr bool kFirst = word == 0 && j == 0;
          pairs[r][0] = kFirst ? pair0 : add_pairs(pairs[r][0], pair0);
          pairs[r][1] = kFirst ? pair1 : add_pairs(pairs[r][1], pair1);
#else
          acc[r][0] = add_dots<(kSteps > 0)>(acc[r][0], p0, x);
          acc[r][1] = add_dots<(kSteps > 0)>(acc[r][1], p1, x);
#endif
        });
      });
      words += 2 * lanes;
      units += kPlanes * kRows;
    });
#if LAMINA_QMM_PAIRS
    unroll<kRows>([&](auto r) HWY_ATTR {
      acc[r][0] = add_both(acc[r][0], pairs[r][0]);
      acc[r][1] = add_both(acc[r][1], pairs[r][1]);
    });
#endif
  }
}

template <int kBits, int kSteps, int kRows>
void multiply_tile(const QmmPanelArgs& a) {
  const int64_t lanes = lane_count(), width = 2 * lanes, group_words = a.group * kBits / 32;
  const int64_t fetch_bytes = (a.next_bytes / a.groups + 63) / 64 * 64;
  begin_tile<kRows>(a);
  for (int64_t g = 0; g < a.groups; ++g) {
    for (int64_t at = g * fetch_bytes; at < std::min(a.next_bytes, (g + 1) * fetch_bytes); at += 64) {
      hwy::Prefetch(a.next + at);
    }
    const float* x_scales = a.x_edges + g * 3 * kRows;
    const auto* starts = reinterpret_cast<const int32_t*>(x_scales + 2 * kRows);
    VI acc[kRows][2];
    unroll<kRows>([&](auto r) HWY_ATTR { acc[r][0] = acc[r][1] = hn::Set(DI(), starts[r]); });
    add_group<kBits, kSteps, kRows>(a.words + g * group_words * width, a.units + g * a.group / 4 * kRows,
                                    group_words, acc);
    const V low = hn::Load(D(), a.w_edges + g * width), high = hn::Load(D(), a.w_edges + g * width + lanes);
    unroll<kRows>([&](auto r) HWY_ATTR {
      float* out = a.tile + r * a.ld;
      const V scale = hn::Set(D(), x_scales[r]);
      const V dot0 = hn::Mul(hn::ConvertTo(D(), acc[r][0]), scale);
      const V dot1 = hn::Mul(hn::ConvertTo(D(), acc[r][1]), scale);
      hn::StoreU(fused(dot0, low, hn::LoadU(D(), out)), D(), out);
      hn::StoreU(fused(dot1, high, hn::LoadU(D(), out + lanes)), D(), out + lanes);
    });
  }
}

using TileFn = void (*)(const QmmPanelArgs&);

template <int kBits, int kSteps, int... kRows>
constexpr auto tile_table(std::integer_sequence<int, kRows...>) {
  return std::array<TileFn, sizeof...(kRows)>{&multiply_tile<kBits, kSteps, kRows + 1>...};
}

template <int kBits, int kSteps>
constexpr auto kTiles = tile_table<kBits, kSteps>(std::make_integer_sequence<int, kTileRows>());

void multiply([[maybe_unused]] const QmmWeights& w, int64_t planes, const QmmPanelArgs& a) {
  const auto at = static_cast<size_t>(a.rows - 1);
  switch (planes) {
    case 8: return kTiles<1, 8>[at](a);
    case 4: return kTiles<2, 8>[at](a);
    case 2: return kTiles<4, 8>[at](a);
    default: break;
  }
#if LAMINA_QMM_PAIRS
  // 2 * 127 * most in every step, and no more steps than a group has words.
  const int most = w.integers.most;
  if (most <= 15 && a.group >= 32) return kTiles<8, 8>[at](a);
  if (most <= 31) return kTiles<8, 4>[at](a);
  if (!wide_codes(w)) return kTiles<8, 2>[at](a);
#endif
  kTiles<8, 0>[at](a);
}

}  // namespace

const QmmInt8* int8_kernels() {
  static constexpr QmmInt8 kTable = {
      kTileRows, 2 * static_cast<int64_t>(hn::MaxLanes(DI())), quantize_row, panel_words, pack, multiply};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(int8_kernels);

const QmmInt8& qmm_int8() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(int8_kernels)();
}

}  // namespace lamina::cpu
#endif
