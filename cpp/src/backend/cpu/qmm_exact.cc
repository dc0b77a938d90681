#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/simd_target.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/qmm_exact.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/qmm_decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// 1, 2 and 4 bits: a 32-bit lane holds whole codes, and is decoded by shifts. 3, 5, 6 and 8: read in order.
constexpr bool is_word_format(int bits) { return bits == 1 || bits == 2 || bits == 4; }

// How codes are read: integers, for which a scale and a bias follow, or small floats, for which only a scale
// does.
template <int bits>
struct Integers {
  static constexpr int kBits = bits;
  static constexpr bool kBiased = true;
  static constexpr float kShift = kCentre<bits>;
  using Reader = CodeReader<bits>;
  static V table() { return make_table<bits>(); }
  static HWY_INLINE V decode(V table, hn::Vec<D32> words) { return decode_low<bits>(table, words); }
};
struct E2m1 {
  static constexpr int kBits = 4;
  static constexpr bool kBiased = false;
  using Reader = E2m1Reader;
  static V table() { return e2m1_table(); }
  static HWY_INLINE V decode(V table, hn::Vec<D32> words) { return decode_e2m1(table, words); }
};
// Read as 1 / 256 of their values, without NaN: both are made good once for each row.
struct E4m3 {
  static constexpr int kBits = 8;
  static constexpr bool kBiased = false;
  using Reader = E4m3PartReader;
};

// The lanes of a vector of words that belong to each group: lane l reads scale number l * codes / group.
hn::Vec<D32> group_of_lane(int64_t codes_per_word, int64_t group) {
  HWY_ALIGN uint32_t index[hn::MaxLanes(D())];
  for (size_t lane = 0; lane < hn::MaxLanes(D()); ++lane) {
    index[lane] = static_cast<uint32_t>(static_cast<int64_t>(lane) * codes_per_word / group);
  }
  return hn::Load(D32(), index);
}

HWY_INLINE V spread_scales(const float* scales, hn::Vec<D32> index) {
#if HWY_TARGET == HWY_SCALAR
  (void)index;
  return hn::Set(D(), *scales);
#else
  return hn::TableLookupLanes(hn::LoadU(D(), scales), hn::IndicesFromVec(D(), index));
#endif
}

// What a streaming kernel reads of kRows weight rows: codes, and scales and biases as padded floats.
struct RowBlock {
  const uint8_t* codes[4];
  const float* scales;
  const float* biases;
  int64_t ld;  // of scales and biases
  int64_t k, group, row_bytes;
  // Codes from there on come into the cache meanwhile, in the order of memory; null: none do.
  const uint8_t* ahead;
};
// Rows from one of a block to one that is fetched while it is multiplied.
constexpr int64_t kRowsAhead = 16;

// totals[r][i] += bias part: sum over groups of bias * (sum of the group's activations).
template <int kRows, int kCols>
HWY_INLINE void add_biases(const RowBlock& w, float centre, const float* sums, int64_t sums_ld,
                           V (&totals)[kRows][kCols]) {
  const int64_t groups = w.k / w.group, lanes = lane_count();
  const V c = hn::Set(D(), centre);
  for (int64_t g = 0; g < groups; g += lanes) {
    unroll<kRows>([&](auto r) HWY_ATTR {
      const V bias =
          hn::MulAdd(c, hn::LoadU(D(), w.scales + r * w.ld + g), hn::LoadU(D(), w.biases + r * w.ld + g));
      unroll<kCols>([&](auto i) HWY_ATTR {
        totals[r][i] = hn::MulAdd(bias, hn::LoadU(D(), sums + i * sums_ld + g), totals[r][i]);
      });
    });
  }
}

template <int kRows, int kCols>
HWY_INLINE void store_totals(V (&totals)[kRows][kCols], float* tile, int64_t ld) {
  unroll<kRows>([&](auto r) HWY_ATTR {
    unroll<kCols>([&](auto i)
                      HWY_ATTR { tile[i * ld + r] = hn::GetLane(hn::SumOfLanes(D(), totals[r][i])); });
  });
}

// kRows weight rows against kCols rows of activations, word formats.
template <class Codes, int kRows, int kCols>
void stream_words(const RowBlock& w, const float* HWY_RESTRICT x, int64_t ldx, const float* sums,
                  int64_t sums_ld, float* HWY_RESTRICT tile, int64_t ld) {
  constexpr int kBits = Codes::kBits, kCodes = 32 / kBits;
  const int64_t lanes = lane_count(), words = w.k / kCodes;
  const V table = Codes::table();
  const auto index = group_of_lane(kCodes, w.group);
  V totals[kRows][kCols];
  unroll<kRows>([&](auto r)
                    HWY_ATTR { unroll<kCols>([&](auto i) HWY_ATTR { totals[r][i] = hn::Zero(D()); }); });
  const auto chunk = [&](int64_t at, auto load) HWY_ATTR {
    hn::Vec<D32> v[kRows];
    V acc[kRows][kCols];
    // Rows side by side are no stream that the prefetchers of the second-level cache follow.
    if (w.ahead) {
      unroll<kRows>([&](auto r)
                        HWY_ATTR { __builtin_prefetch(w.ahead + (at * kRows + r * lanes) * 4, 0, 2); });
    }
    unroll<kRows>([&](auto r) HWY_ATTR {
      v[r] = load(reinterpret_cast<const uint32_t*>(w.codes[r]) + at);
      unroll<kCols>([&](auto i) HWY_ATTR { acc[r][i] = hn::Zero(D()); });
    });
    const float* xs = x + at * kCodes;
    unroll<kCodes>([&](auto j) HWY_ATTR {
      unroll<kRows>([&](auto r) HWY_ATTR {
        const V value = Codes::decode(table, hn::ShiftRight<static_cast<int>(j) * kBits>(v[r]));
        unroll<kCols>([&](auto i) HWY_ATTR {
          acc[r][i] = hn::MulAdd(value, hn::Load(D(), xs + i * ldx + j * lanes), acc[r][i]);
        });
      });
    });
    const int64_t g = at * kCodes / w.group;
    unroll<kRows>([&](auto r) HWY_ATTR {
      const V scale = spread_scales(w.scales + r * w.ld + g, index);
      unroll<kCols>([&](auto i) HWY_ATTR { totals[r][i] = hn::MulAdd(acc[r][i], scale, totals[r][i]); });
    });
  };
  int64_t at = 0;
  for (; at + lanes <= words; at += lanes)
    chunk(at, [](const uint32_t* p) HWY_ATTR { return hn::LoadU(D32(), p); });
  if (at < words) {
    const auto mask = hn::FirstN(D32(), static_cast<size_t>(words - at));
    chunk(at, [&](const uint32_t* p) HWY_ATTR { return hn::MaskedLoad(mask, D32(), p); });
  }
  if constexpr (Codes::kBiased) add_biases(w, Codes::kShift, sums, sums_ld, totals);
  store_totals(totals, tile, ld);
}

// The same for codes read in their order.
template <class Codes, int kRows, int kCols>
void stream_ordered(const RowBlock& w, const float* HWY_RESTRICT x, int64_t ldx, const float* sums,
                    int64_t sums_ld, float* HWY_RESTRICT tile, int64_t ld) {
  const int64_t lanes = lane_count();
  const typename Codes::Reader reader;
  V totals[kRows][kCols];
  unroll<kRows>([&](auto r)
                    HWY_ATTR { unroll<kCols>([&](auto i) HWY_ATTR { totals[r][i] = hn::Zero(D()); }); });
  for (int64_t g = 0; g < w.k / w.group; ++g) {
    V acc[kRows][kCols];
    unroll<kRows>([&](auto r)
                      HWY_ATTR { unroll<kCols>([&](auto i) HWY_ATTR { acc[r][i] = hn::Zero(D()); }); });
    for (int64_t k = g * w.group; k < (g + 1) * w.group; k += lanes) {
      unroll<kRows>([&](auto r) HWY_ATTR {
        const V value = reader.load(w.codes[r], k);
        unroll<kCols>([&](auto i) HWY_ATTR {
          acc[r][i] = hn::MulAdd(value, hn::Load(D(), x + i * ldx + k), acc[r][i]);
        });
      });
    }
    unroll<kRows>([&](auto r) HWY_ATTR {
      const V scale = hn::Set(D(), w.scales[r * w.ld + g]);
      unroll<kCols>([&](auto i) HWY_ATTR { totals[r][i] = hn::MulAdd(acc[r][i], scale, totals[r][i]); });
    });
  }
  if constexpr (Codes::kBiased) add_biases(w, 0.0f, sums, sums_ld, totals);
  if constexpr (std::is_same_v<Codes, E4m3>) {
    unroll<kRows>([&](auto r) HWY_ATTR {
      unroll<kCols>([&](auto i) HWY_ATTR { totals[r][i] = hn::Mul(totals[r][i], hn::Set(D(), 256.0f)); });
    });
  }
  store_totals(totals, tile, ld);
}

// All activations against `count` weight rows: four rows at a time with two activations, two rows with four,
// so that the accumulators fit the registers; left-over rows one by one.
template <class Codes>
void stream_columns(const RowBlock& w, int64_t count, const QmmInput& x, float* tile, int64_t ld) {
  const auto block = [&](auto rows, auto cols, int64_t r, int64_t i) HWY_ATTR {
    RowBlock part = w;
    for (int64_t q = 0; q < rows(); ++q) part.codes[q] = w.codes[r + q];
    part.scales += r * w.ld, part.biases += r * w.ld;
    // Once for each row.
    part.ahead = i == 0 && rows() > 1 ? w.codes[r] + kRowsAhead * w.row_bytes : nullptr;
    const float* values = x.values + i * x.ld;
    const float* sums = x.sums + i * x.sums_ld;
    if constexpr (is_word_format(Codes::kBits)) {
      stream_words<Codes, rows(), cols()>(part, values, x.ld, sums, x.sums_ld, tile + i * ld + r, ld);
    } else {
      stream_ordered<Codes, rows(), cols()>(part, values, x.ld, sums, x.sums_ld, tile + i * ld + r, ld);
    }
  };
  constexpr std::integral_constant<int, 1> one;
  constexpr std::integral_constant<int, 2> two;
  constexpr std::integral_constant<int, 4> four;
  int64_t i = 0;
  if (count == 4) {
    for (; i + 4 <= x.m; i += 4) block(two, four, 0, i), block(two, four, 2, i);
    for (; i + 2 <= x.m; i += 2) block(four, two, 0, i);
    if (i < x.m) block(four, one, 0, i);
    return;
  }
  for (; i < x.m; ++i) {
    for (int64_t r = 0; r < count; ++r) block(one, one, r, i);
  }
}

template <class Codes>
void stream_codes(const QmmWeights& w, int64_t row0, int64_t rows, const QmmInput& x, float* tile, int64_t ld,
                  float* work) {
  const int64_t groups = w.groups(), padded = groups + kQmmPad;
  RowBlock block{};
  block.ld = padded, block.k = w.cols, block.group = w.group, block.row_bytes = w.row_bytes();
  block.scales = work, block.biases = work + 4 * padded;
  auto* last_row = reinterpret_cast<uint8_t*>(work + 8 * padded);
  for (int64_t first = 0; first < rows; first += 4) {
    const int64_t count = std::min<int64_t>(4, rows - first);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t row = row0 + first + r;
      if constexpr (Codes::kBiased) {
        widen_padded(w.scales, w.scale_dtype, row * groups, groups, work + r * padded);
        widen_padded(w.biases, w.scale_dtype, row * groups, groups, work + (4 + r) * padded);
      } else {
        widen_byte_scales(w.format, static_cast<const uint8_t*>(w.scales) + row * w.scale_row_bytes, groups,
                          work + r * padded);
      }
      block.codes[r] = w.codes + row * w.row_bytes();
      // Readers may look past a row's end; past the last one is not ours.
      if (!is_word_format(Codes::kBits) && row == w.rows - 1) {
        std::memcpy(last_row, block.codes[r], static_cast<size_t>(w.row_bytes()));
        block.codes[r] = last_row;
      }
    }
    stream_columns<Codes>(block, count, x, tile + first, ld);
    if constexpr (std::is_same_v<Codes, E4m3>) {
      for (int64_t r = 0; r < count; ++r) {
        if (!has_nan_code(block.codes[r], w.cols)) continue;
        for (int64_t i = 0; i < x.m; ++i) tile[i * ld + first + r] = std::numeric_limits<float>::quiet_NaN();
      }
    }
  }
}

void stream(const QmmWeights& w, int64_t row0, int64_t rows, const QmmInput& x, float* tile, int64_t ld,
            float* work) {
  switch (w.format) {
    case QuantFormat::kMxfp4:
    case QuantFormat::kNvfp4: return stream_codes<E2m1>(w, row0, rows, x, tile, ld, work);
    case QuantFormat::kMxfp8:
    case QuantFormat::kFp8: return stream_codes<E4m3>(w, row0, rows, x, tile, ld, work);
    default: break;
  }
  switch (w.bits) {
    case 1: return stream_codes<Integers<1>>(w, row0, rows, x, tile, ld, work);
    case 2: return stream_codes<Integers<2>>(w, row0, rows, x, tile, ld, work);
    case 3: return stream_codes<Integers<3>>(w, row0, rows, x, tile, ld, work);
    case 4: return stream_codes<Integers<4>>(w, row0, rows, x, tile, ld, work);
    case 5: return stream_codes<Integers<5>>(w, row0, rows, x, tile, ld, work);
    case 6: return stream_codes<Integers<6>>(w, row0, rows, x, tile, ld, work);
    default: return stream_codes<Integers<8>>(w, row0, rows, x, tile, ld, work);
  }
}

int64_t stream_elems(const QmmWeights& w) { return 8 * (w.groups() + kQmmPad) + w.row_bytes() / 4 + 8; }

int64_t arranged_elems(const QmmWeights& w) {
  const int64_t chunk = is_word_format(w.bits) ? lane_count() * (32 / w.bits) : lane_count();
  return (w.cols + chunk - 1) / chunk * chunk;
}

// Word formats: chunk by chunk, the activations of every word's code 0, then of code 1, ...
void arrange(const QmmWeights& w, const float* x, float* values, float* sums) {
  const int64_t k = w.cols, lanes = lane_count(), codes = 32 / w.bits, elems = arranged_elems(w);
  const int group = w.group;
  if (is_word_format(w.bits)) {
    std::fill_n(values, elems, 0.0f);
    for (int64_t i = 0; i < k; ++i) {
      const int64_t word = i / codes, code = i % codes;
      values[(word / lanes * codes + code) * lanes + word % lanes] = x[i];
    }
  } else {
    std::copy_n(x, k, values);
    std::fill(values + k, values + elems, 0.0f);
  }
  for (int64_t g = 0; g < k / group; ++g) {
    V sum = hn::Zero(D());
    for (int64_t i = 0; i < group; i += lanes) sum = hn::Add(sum, hn::LoadU(D(), x + g * group + i));
    sums[g] = hn::GetLane(hn::SumOfLanes(D(), sum));
  }
  std::fill_n(sums + k / group, kQmmPad, 0.0f);
}

}  // namespace

const QmmExact* exact_kernels() {
  static constexpr QmmExact kTable = {arranged_elems, arrange, stream_elems, stream};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(exact_kernels);

const QmmExact& qmm_exact(QuantFormat format) {
  if (format > QuantFormat::kNvfp4 && format != QuantFormat::kFp8) return qmm_blocks().exact;
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(exact_kernels)();
}

}  // namespace lamina::cpu
#endif
