#include "backend/cpu/attention_direct.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "backend/cpu/simd_target.h"
#include "quant/kv_rows.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_direct.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/attention_turn-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

#if LAMINA_SIMD_TARGET

using DI = hn::RebindToSigned<D>;
using I = hn::Vec<DI>;

// Two vectors of keys, or of sums, for each row, and what is being unpacked.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMostRows = 8;
#else
constexpr int kMostRows = 4;
#endif
// Longest rows with scales: theirs are unpacked on the stack.
constexpr int64_t kMostCodes = 1024;
constexpr int64_t kMostGroups = kMostCodes / kKvGroup;

// What a format's rows are made of. load() gives vectors of neighbours in one row; where rows are floats,
// kDims are elements in four bytes, and dim<k>() gives the k-th of them from four bytes of each of several
// rows.
struct Floats {
  static constexpr int kDims = 1;
  static constexpr bool kScaled = false;
  template <int k>
  static HWY_INLINE V dim(V x) {
    return x;
  }
  template <int kVectors>
  static HWY_INLINE void load(const void* row, int64_t i, const float*, V* to) {
    unroll<kVectors>(
        [&](auto c) HWY_ATTR { to[c] = hn::LoadU(D(), static_cast<const float*>(row) + i + c * kLanes); });
  }
};
struct BFloats {
  static constexpr int kDims = 2;
  static constexpr bool kScaled = false;
  template <int k>
  static HWY_INLINE V dim(V x) {
    const D d;
    const I bits = hn::BitCast(DI(), x);
    return hn::BitCast(d, k == 0 ? hn::ShiftLeft<16>(bits) : hn::And(bits, hn::Set(DI(), -65536)));
  }
  template <int kVectors>
  static HWY_INLINE void load(const void* row, int64_t i, const float*, V* to) {
    unroll<kVectors>(
        [&](auto c) HWY_ATTR { to[c] = load_as(D(), static_cast<const bfloat16_t*>(row) + i + c * kLanes); });
  }
};
struct Halves {
  static constexpr int kDims = 2;
  static constexpr bool kScaled = false;
  template <int k>
  static HWY_INLINE V dim(V x) {
    const D d;
    const hn::Rebind<uint16_t, D> d16;
    const hn::Rebind<hwy::float16_t, D> dh;
    const I bits = hn::BitCast(DI(), x);
    const hn::RebindToUnsigned<DI> du;
    const I half = k == 0 ? hn::And(bits, hn::Set(DI(), 65535))
                          : hn::BitCast(DI(), hn::ShiftRight<16>(hn::BitCast(du, bits)));
    return hn::PromoteTo(d, hn::BitCast(dh, hn::DemoteTo(d16, half)));
  }
  template <int kVectors>
  static HWY_INLINE void load(const void* row, int64_t i, const float*, V* to) {
    unroll<kVectors>(
        [&](auto c) HWY_ATTR { to[c] = load_as(D(), static_cast<const float16_t*>(row) + i + c * kLanes); });
  }
};
struct Codes8 {
  static constexpr bool kScaled = true;
  template <int kVectors>
  static HWY_INLINE void load(const void* row, int64_t i, const float* scales, V* to) {
    const D d;
    const hn::Rebind<int8_t, D> d8;
    unroll<kVectors>([&](auto c) HWY_ATTR {
      const int64_t at = i + c * kLanes;
      const auto code = hn::PromoteTo(DI(), hn::LoadU(d8, static_cast<const int8_t*>(row) + at));
      to[c] = hn::Mul(hn::Set(d, scales[at / kKvGroup]), hn::ConvertTo(d, code));
    });
  }
};
struct Codes4 {
  static constexpr bool kScaled = true;
  // Vectors in pairs: elements 0, 2, ... and 1, 3, ... of twice kLanes.
  template <int kVectors>
  static HWY_INLINE void load(const void* row, int64_t i, const float* scales, V* to) {
    const D d;
    const hn::Rebind<uint8_t, D> d8;
    unroll<kVectors / 2>([&](auto c) HWY_ATTR {
      const int64_t at = i + 2 * c * kLanes;
      const I both = hn::PromoteTo(DI(), hn::LoadU(d8, static_cast<const uint8_t*>(row) + at / 2));
      const V scale = hn::Set(d, scales[at / kKvGroup]);
#if HWY_TARGET <= HWY_AVX3
      // A table of the elements that the codes stand for; of an index, four bits count.
      const V elements = hn::Mul(scale, hn::Sub(hn::Iota(d, 0.0f), hn::Set(d, 8.0f)));
      to[2 * c] = V{_mm512_permutexvar_ps(both.raw, elements.raw)};
      to[2 * c + 1] = V{_mm512_permutexvar_ps(hn::ShiftRight<4>(both).raw, elements.raw)};
#else
      // scale * code - 8 * scale is exact, and so the same as scale * (code - 8).
      const V less = hn::Mul(hn::Set(d, 8.0f), scale);
      to[2 * c] = hn::MulSub(scale, hn::ConvertTo(d, hn::And(both, hn::Set(DI(), 15))), less);
      to[2 * c + 1] = hn::MulSub(scale, hn::ConvertTo(d, hn::ShiftRight<4>(both)), less);
#endif
    });
  }
};

constexpr int64_t elem_bits(RowFormat f) {
  constexpr int64_t kBits[] = {32, 16, 16, 8, 4};
  return kBits[static_cast<size_t>(f)];
}

bool takes(RowFormat format, int64_t dim) {
  // Whole blocks of 16 bytes, whole vectors (two for the nibbles of one) and a limit for those with scales.
  const int64_t unit = std::max<int64_t>(128 / elem_bits(format), kAttentionLanes);
  return (dim & (unit - 1)) == 0 && (elem_bits(format) > 8 || dim <= kMostCodes);
}

// ---- scores ----

template <int kRows, class Format>
void scores_of(const RowPanel& panel, int64_t dim, const float* HWY_RESTRICT queries,
               float* HWY_RESTRICT out) {
  const D d;
  constexpr int64_t kBlock = 4 * Format::kDims;  // elements in 16 bytes
  const void* known = *std::find_if(panel.rows, panel.rows + panel.count, [](const void* r) { return r; });
  const int64_t blocks = dim / kBlock;
  const Columns columns(panel, 2 * kLanes);
  unroll<kRows>([&](auto r) HWY_ATTR { columns.clear(out + r * kScoreStep); });
  Ahead ahead(panel, columns.passes() * blocks);
  for (int64_t col = columns.begin; col < columns.end; col += 2 * kLanes) {
    const float* rows[2 * kLanes];
    for (int64_t i = 0; i < 2 * kLanes; ++i) {
      const bool there = col + i < panel.count && panel.rows[col + i];
      rows[i] = static_cast<const float*>(there ? panel.rows[col + i] : known);
    }
    V acc[2][kRows];
    unroll<2>([&](auto c) HWY_ATTR { unroll<kRows>([&](auto r) HWY_ATTR { acc[c][r] = hn::Zero(d); }); });
    const float* q = queries;
    for (int64_t block = 0; block < blocks; ++block, q += kBlock * kRows) {
      ahead.step();
      unroll<2>([&](auto c) HWY_ATTR {
        const Turned t = transposed(rows + c * kLanes, 4 * block);
        unroll<4>([&](auto w) HWY_ATTR {
          unroll<Format::kDims>([&](auto k) HWY_ATTR {
            const V key = Format::template dim<static_cast<int>(k())>(t.part[w]);
            unroll<kRows>([&](auto r) HWY_ATTR {
              acc[c][r] = hn::MulAdd(hn::Set(d, q[(w * Format::kDims + k) * kRows + r]), key, acc[c][r]);
            });
          });
        });
      });
    }
    unroll<2>([&](auto c) HWY_ATTR {
      unroll<kRows>([&](auto r)
                        HWY_ATTR { hn::Store(acc[c][r], d, out + r * kScoreStep + col + c * kLanes); });
    });
  }
}

// ---- values ----

// Sums that fill the registers: so many vectors for a row.
constexpr int vectors_for(int rows) { return 3 * rows <= kMostRows ? 8 : 4; }

// Sums [at, at + kVectors * kLanes) of each row.
template <int kRows, int kVectors, class Format>
void values_part(const RowPanel& panel, int64_t first, int64_t count, int64_t at, int64_t ld,
                 const float* HWY_RESTRICT scales, const float* HWY_RESTRICT weights,
                 float* HWY_RESTRICT sums, bool more, Ahead& ahead) {
  const D d;
  constexpr bool kPairs = std::is_same_v<Format, Codes4>;
  V acc[kRows][kVectors];
  unroll<kRows>([&](auto r) HWY_ATTR {
    float* p = sums + r * ld + at;
    unroll<kVectors>(
        [&](auto c) HWY_ATTR { acc[r][c] = more && !kPairs ? hn::Load(d, p + c * kLanes) : hn::Zero(d); });
    if constexpr (kPairs) {
      if (!more) return;
      unroll<kVectors / 2>([&](auto c) HWY_ATTR {
        hn::LoadInterleaved2(d, p + 2 * c * kLanes, acc[r][2 * c], acc[r][2 * c + 1]);
      });
    }
  });
  for (int64_t j = 0; j < count; ++j) {
    ahead.step();
    V value[kVectors];
    Format::template load<kVectors>(panel.rows[first + j], at, scales + j * kv_groups(ld), value);
    unroll<kRows>([&](auto r) HWY_ATTR {
      const V w = hn::Set(d, weights[r * kScoreStep + j]);
      unroll<kVectors>([&](auto c) HWY_ATTR { acc[r][c] = hn::MulAdd(w, value[c], acc[r][c]); });
    });
  }
  unroll<kRows>([&](auto r) HWY_ATTR {
    float* p = sums + r * ld + at;
    if constexpr (kPairs) {
      unroll<kVectors / 2>([&](auto c) HWY_ATTR {
        hn::StoreInterleaved2(acc[r][2 * c], acc[r][2 * c + 1], d, p + 2 * c * kLanes);
      });
    } else {
      unroll<kVectors>([&](auto c) HWY_ATTR { hn::Store(acc[r][c], d, p + c * kLanes); });
    }
  });
}

// float32 scales of rows [first, first + count), [row][group], room for three more.
void widen_scales(const RowPanel& panel, int64_t first, int64_t count, int64_t groups, float* dst) {
  for (int64_t j = 0; j < count; ++j) {
    const float16_t* scales = panel.scales[first + j];
    for (int64_t g = 0; g < groups; g += 4)
      widen_four(scales + g, std::min<int64_t>(4, groups - g), dst + j * groups + g);
  }
}

template <int kRows, class Format>
void values_of(const RowPanel& panel, int64_t first, int64_t count, int64_t ld, const float* weights,
               float* sums, bool more) {
  float scales[Format::kScaled ? kAttentionPanel * kMostGroups + 3 : 1];
  if (Format::kScaled) widen_scales(panel, first, count, kv_groups(ld), scales);
  constexpr int kVectors = vectors_for(kRows), kLeast = std::is_same_v<Format, Codes4> ? 2 : 1;
  Ahead ahead(panel, std::max<int64_t>(1, ld / (kVectors * kLanes)) * count);
  int64_t at = 0;
  const auto part = [&]<int kWidth>(std::integral_constant<int, kWidth>) {
    for (; at + kWidth * kLanes <= ld; at += kWidth * kLanes) {
      values_part<kRows, kWidth, Format>(panel, first, count, at, ld, scales, weights, sums, more, ahead);
    }
  };
  part(std::integral_constant<int, kVectors>());
  if constexpr (kVectors == 8) part(std::integral_constant<int, 4>());
  part(std::integral_constant<int, kLeast>());
}

// ---- tables ----

using ScoresFn = void (*)(const RowPanel&, int64_t, const float*, float*);
using ValuesFn = void (*)(const RowPanel&, int64_t, int64_t, int64_t, const float*, float*, bool);

template <class Format, int... kRows>
constexpr auto scores_row(std::integer_sequence<int, kRows...>) {
  return std::array<ScoresFn, sizeof...(kRows)>{&scores_of<kRows + 1, Format>...};
}
template <class Format, int... kRows>
constexpr auto values_row(std::integer_sequence<int, kRows...>) {
  return std::array<ValuesFn, sizeof...(kRows)>{&values_of<kRows + 1, Format>...};
}

// In the order of RowFormat.
void scores(int64_t rows, const RowPanel& keys, int64_t dim, const float* queries, float* out) {
  using Rows = std::make_integer_sequence<int, kMostRows>;
  static constexpr std::array kTable = {scores_row<Floats>(Rows()), scores_row<Halves>(Rows()),
                                        scores_row<BFloats>(Rows())};
  kTable[static_cast<size_t>(keys.format)][static_cast<size_t>(rows - 1)](keys, dim, queries, out);
}
void values(int64_t rows, const RowPanel& panel, int64_t first, int64_t count, int64_t dim,
            const float* weights, float* sums, bool more) {
  using Rows = std::make_integer_sequence<int, kMostRows>;
  static constexpr std::array kTable = {values_row<Floats>(Rows()), values_row<Halves>(Rows()),
                                        values_row<BFloats>(Rows()), values_row<Codes8>(Rows()),
                                        values_row<Codes4>(Rows())};
  kTable[static_cast<size_t>(panel.format)][static_cast<size_t>(rows - 1)](panel, first, count, dim, weights,
                                                                           sums, more);
}

#else

constexpr int64_t kMostRows = 0;
bool takes(RowFormat, int64_t) { return false; }
void scores(int64_t, const RowPanel&, int64_t, const float*, float*) {}
void values(int64_t, const RowPanel&, int64_t, int64_t, int64_t, const float*, float*, bool) {}

#endif

}  // namespace

const AttentionDirect* direct_kernels() {
  static constexpr AttentionDirect kTable = {kMostRows, takes, scores, values};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(direct_kernels);

const AttentionDirect& attention_direct() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(direct_kernels)();
}

}  // namespace lamina::cpu
#endif
