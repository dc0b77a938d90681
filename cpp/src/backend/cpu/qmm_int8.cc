#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

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

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using DI = hn::ScalableTag<int32_t>;
using VI = hn::Vec<DI>;

#if HWY_TARGET <= HWY_AVX3
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 4;
#endif

constexpr bool divides_byte(int bits) { return 8 % bits == 0; }
// Width of a code in a panel: others are widened to bytes.
constexpr int panel_bits(int bits) { return divides_byte(bits) ? bits : 8; }

// sum + the dot products of 4 unsigned bytes of w with 4 signed bytes of x, per 32-bit lane. kBits is the
// width of the codes in w; no step saturates.
template <int kBits>
HWY_INLINE VI add_dots(VI sum, VI w, VI x) {
#if HWY_TARGET == HWY_AVX3_DL
  // The target's attribute list lacks avx512vnni, which every CPU of this target has.
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(w.raw), "v"(x.raw));
  return sum;
#elif HWY_TARGET == HWY_AVX3
  const __m512i ones = _mm512_set1_epi16(1);
  if constexpr (kBits < 8) {
    return VI{_mm512_add_epi32(sum.raw, _mm512_madd_epi16(_mm512_maddubs_epi16(w.raw, x.raw), ones))};
  } else {
    const __m512i low = _mm512_maddubs_epi16(_mm512_and_si512(w.raw, _mm512_set1_epi8(127)), x.raw);
    const __m512i top = _mm512_and_si512(_mm512_srli_epi16(w.raw, 7), _mm512_set1_epi8(1));
    const __m512i high = _mm512_madd_epi16(_mm512_maddubs_epi16(top, x.raw), _mm512_set1_epi16(128));
    return VI{_mm512_add_epi32(sum.raw, _mm512_add_epi32(_mm512_madd_epi16(low, ones), high))};
  }
#elif HWY_TARGET == HWY_AVX2
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (kBits < 8) {
    return VI{_mm256_add_epi32(sum.raw, _mm256_madd_epi16(_mm256_maddubs_epi16(w.raw, x.raw), ones))};
  } else {
    const __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(w.raw, _mm256_set1_epi8(127)), x.raw);
    const __m256i top = _mm256_and_si256(_mm256_srli_epi16(w.raw, 7), _mm256_set1_epi8(1));
    const __m256i high = _mm256_madd_epi16(_mm256_maddubs_epi16(top, x.raw), _mm256_set1_epi16(128));
    return VI{_mm256_add_epi32(sum.raw, _mm256_add_epi32(_mm256_madd_epi16(low, ones), high))};
  }
#else
  const auto a = static_cast<uint32_t>(hn::GetLane(w)), b = static_cast<uint32_t>(hn::GetLane(x));
  int32_t dot = hn::GetLane(sum);
  for (int i = 0; i < 32; i += 8)
    dot += static_cast<int32_t>(a >> i & 255u) * static_cast<int8_t>(b >> i & 255u);
  return hn::Set(DI(), dot);
#endif
}

// Codes number kPlane of every byte of w, each in a byte.
template <int kBits, int kPlane>
HWY_INLINE VI plane_of(VI w) {
  if constexpr (kBits == 8) return w;
  const D32 d32;
  const auto shifted = hn::ShiftRight<kPlane * kBits>(hn::BitCast(d32, w));
  return hn::BitCast(DI(), hn::And(shifted, hn::Set(d32, ((1u << kBits) - 1) * 0x01010101u)));
}

// Bytes of 16 codes in the order of the units that they belong to, for up to 4 planes.
void regroup_sixteen(int64_t planes, const int8_t* codes, int8_t* bytes) {
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<uint8_t, 16> d8;
  HWY_ALIGN uint8_t order[16];
  for (int64_t i = 0; i < 16; ++i) {
    const int64_t word = i / (4 * planes), in_word = i % (4 * planes);
    order[i] = static_cast<uint8_t>(word * 4 * planes + in_word % 4 * planes + in_word / 4);
  }
  const auto all = hn::LoadU(d8, reinterpret_cast<const uint8_t*>(codes));
  hn::StoreU(hn::TableLookupBytes(all, hn::Load(d8, order)), d8, reinterpret_cast<uint8_t*>(bytes));
#else
  for (int64_t i = 0; i < 16; ++i) {
    const int64_t word = i / (4 * planes), in_word = i % (4 * planes);
    bytes[i] = codes[word * 4 * planes + in_word % 4 * planes + in_word / 4];
  }
#endif
}

void regroup(int64_t planes, int64_t n, const int8_t* codes, int8_t* bytes) {
  if (planes == 8) {
    for (int64_t i = 0; i < n; ++i) bytes[i / 32 * 32 + i % 8 * 4 + i % 32 / 8] = codes[i];
    return;
  }
  for (int64_t i = 0; i < n; i += 16) regroup_sixteen(planes, codes + i, bytes + i);
}

// The 8-bit codes of one group and their sum.
int32_t quantize_group(int64_t n, const float* x, float inverse, int8_t* codes) {
  const D d;
  const hn::Rebind<int8_t, D> d8;
  const int64_t lanes = lane_count();
  VI sum = hn::Zero(DI());
  // A subnormal scale has a coarse inverse: the clamp keeps the code in its byte.
  const V most = hn::Set(d, 127.0f), least = hn::Set(d, -127.0f), factor = hn::Set(d, inverse);
  for (int64_t i = 0; i < n; i += lanes) {
    const V code = hn::Min(hn::Max(hn::Mul(hn::LoadU(d, x + i), factor), least), most);
    const VI whole = hn::NearestInt(code);
    sum = hn::Add(sum, whole);
    hn::StoreU(hn::DemoteTo(d8, whole), d8, codes + i);
  }
  return hn::GetLane(hn::SumOfLanes(DI(), sum));
}

void quantize_row(int bits, int group, int64_t k, const float* x, const QmmInt8Row& row) {
  const D d;
  const int64_t lanes = lane_count(), groups = k / group;
  HWY_ALIGN int8_t codes[128];
  for (int64_t g = 0; g < groups; ++g) {
    const float* xs = x + g * group;
    V most = hn::Zero(d);
    auto finite = hn::FirstN(d, static_cast<size_t>(lanes));
    for (int64_t i = 0; i < group; i += lanes) {
      const V size = hn::Abs(hn::LoadU(d, xs + i));
      most = hn::Max(most, size);
      // NaN fails every comparison.
      finite = hn::And(finite, hn::Lt(size, hn::Set(d, INFINITY)));
    }
    const bool sound = hn::AllTrue(d, finite);
    const float scale = sound ? hn::GetLane(hn::MaxOfLanes(d, most)) / 127.0f : NAN;
    int32_t sum = 0;
    if (scale > 0.0f) {
      sum = quantize_group(group, xs, std::min(1.0f / scale, 3.4e38f), codes);
    } else {
      std::fill_n(codes, group, int8_t{0});
    }
    regroup(8 / panel_bits(bits), group, codes, reinterpret_cast<int8_t*>(row.units) + g * group);
    row.scales[g] = scale;
    row.sums[g] = scale * static_cast<float>(sum);
  }
  std::fill_n(row.scales + groups, kQmmPad, 0.0f);
  std::fill_n(row.sums + groups, kQmmPad, 0.0f);
}

int64_t words_of(int bits, int64_t k) { return k * bits / 32; }
int64_t chunks_of(int bits, int64_t k) { return (words_of(bits, k) + lane_count() - 1) / lane_count(); }

int64_t stream_units(int bits, int64_t k) { return chunks_of(bits, k) * lane_count() * (8 / bits); }

// Chunk by chunk (a vector of words), plane by plane.
void arrange(int bits, int64_t k, const int32_t* units, int32_t* arranged) {
  const int64_t lanes = lane_count(), planes = 8 / bits, words = words_of(bits, k);
  for (int64_t chunk = 0; chunk < chunks_of(bits, k); ++chunk) {
    for (int64_t j = 0; j < planes; ++j) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const int64_t word = chunk * lanes + lane;
        *arranged++ = word < words ? units[word * planes + j] : 0;
      }
    }
  }
}

// Sums of every kCount adjacent ones of kCount vectors' lanes, in order.
template <int kCount>
HWY_INLINE VI sum_adjacent(const int32_t* p) {
  if constexpr (kCount == 1) {
    return hn::Load(DI(), p);
  } else {
    const VI low = sum_adjacent<kCount / 2>(p),
             high = sum_adjacent<kCount / 2>(p + kCount / 2 * lane_count());
#if HWY_TARGET == HWY_SCALAR
    return hn::Add(low, high);
#else
    return hn::Add(hn::ConcatEven(DI(), high, low), hn::ConcatOdd(DI(), high, low));
#endif
  }
}

// parts[g] = what group g of one weight row adds to the result.
template <int kLanesPerGroup>
void gather_parts(int64_t groups, const int32_t* raw, const float* w_scales, const float* w_biases,
                  const float* scales, const float* sums, float* parts) {
  for (int64_t g = 0; g < groups; g += lane_count()) {
    const V dots = hn::ConvertTo(D(), sum_adjacent<kLanesPerGroup>(raw + g * kLanesPerGroup));
    const V factor = hn::Mul(hn::LoadU(D(), w_scales + g), hn::LoadU(D(), scales + g));
    const V rest = hn::Mul(hn::LoadU(D(), w_biases + g), hn::LoadU(D(), sums + g));
    hn::StoreU(hn::MulAdd(dots, factor, rest), D(), parts + g);
  }
}

void gather_parts(int64_t lanes_per_group, int64_t groups, const int32_t* raw, const float* w_scales,
                  const float* w_biases, const float* scales, const float* sums, float* parts) {
  switch (lanes_per_group) {
    case 1: return gather_parts<1>(groups, raw, w_scales, w_biases, scales, sums, parts);
    case 2: return gather_parts<2>(groups, raw, w_scales, w_biases, scales, sums, parts);
    case 4: return gather_parts<4>(groups, raw, w_scales, w_biases, scales, sums, parts);
    case 8: return gather_parts<8>(groups, raw, w_scales, w_biases, scales, sums, parts);
    case 16: return gather_parts<16>(groups, raw, w_scales, w_biases, scales, sums, parts);
    default: return gather_parts<32>(groups, raw, w_scales, w_biases, scales, sums, parts);
  }
}

constexpr int kStreamRows = 4;
// Weight rows whose groups are added up together, down the lanes.
constexpr int kSumRows = 16;

// Working memory of `stream`: a row's decoded scales and biases, the raw lanes of four rows, the parts of
// kSumRows rows and the same transposed.
struct StreamWork {
  int64_t padded, raw_elems;
  float *scales, *biases, *parts, *turned;
  int32_t* raw;

  StreamWork(const QmmWeights& w, void* work)
      : padded((w.groups() + 2 * kQmmPad + 15) / 16 * 16),
        // Whole vectors of groups are read, so that the raw lanes have room for as many.
        raw_elems((w.groups() + 15) / 16 * 16 * (w.group * w.bits / 32) + 16),
        scales(static_cast<float*>(work)),
        biases(scales + padded),
        parts(biases + padded),
        turned(parts + kSumRows * padded),
        raw(reinterpret_cast<int32_t*>(turned + kSumRows * padded)) {}
  int64_t bytes() const { return (2 * (1 + kSumRows) * padded + kStreamRows * raw_elems) * 4; }
};

int64_t stream_bytes(const QmmWeights& w) { return StreamWork(w, nullptr).bytes(); }

// Raw lane sums of kRows weight rows with one row of activations.
template <int kBits, int kRows>
void stream_raw(const uint8_t* codes, int64_t row_bytes, int64_t words, const int32_t* HWY_RESTRICT units,
                int32_t* HWY_RESTRICT raw, int64_t raw_ld) {
  constexpr int kPlanes = 8 / kBits;
  const int64_t lanes = lane_count();
  const auto chunk = [&](int64_t at, auto load) HWY_ATTR {
    VI w[kRows], acc[kRows];
    unroll<kRows>([&](auto r) HWY_ATTR {
      w[r] = load(codes + r * row_bytes + at * 4);
      acc[r] = hn::Zero(DI());
    });
    unroll<kPlanes>([&](auto j) HWY_ATTR {
      const VI x = hn::LoadU(DI(), units + at * kPlanes + j * lanes);
      unroll<kRows>([&](auto r) HWY_ATTR {
        acc[r] = add_dots<kBits>(acc[r], plane_of<kBits, static_cast<int>(j)>(w[r]), x);
      });
    });
    unroll<kRows>([&](auto r) HWY_ATTR { hn::Store(acc[r], DI(), raw + r * raw_ld + at); });
  };
  int64_t at = 0;
  for (; at + lanes <= words; at += lanes) {
    chunk(at, [](const uint8_t* p) HWY_ATTR { return hn::LoadU(DI(), reinterpret_cast<const int32_t*>(p)); });
  }
  if (at < words) {
    const auto mask = hn::FirstN(DI(), static_cast<size_t>(words - at));
    chunk(at, [&](const uint8_t* p)
                  HWY_ATTR { return hn::MaskedLoad(mask, DI(), reinterpret_cast<const int32_t*>(p)); });
  }
}

// parts of weight row `row` for one row of activations.
HWY_INLINE void stream_parts(const QmmWeights& w, const StreamWork& s, int64_t row, const int32_t* raw,
                             const float* scales, const float* sums, float* parts) {
  const int64_t groups = w.groups();
  widen_padded(w.scales, w.scale_dtype, row * groups, groups, s.scales);
  widen_padded(w.biases, w.scale_dtype, row * groups, groups, s.biases);
  gather_parts(w.group * w.bits / 32, groups, raw, s.scales, s.biases, scales, sums, parts);
}

// out[r] = the parts of kSumRows rows, each added up in the order of its groups.
void add_parts(const QmmWeights& w, const StreamWork& s, float* out) {
  const int64_t lanes = lane_count(), groups = w.groups();
  for (int64_t r = 0; r < kSumRows; r += 4)
    transpose_four(s.parts + r * s.padded, s.padded, groups, s.turned + r, kSumRows);
  for (int64_t r = 0; r < kSumRows; r += lanes) {
    V total = hn::Zero(D());
    for (int64_t g = 0; g < groups; ++g) total = hn::Add(total, hn::Load(D(), s.turned + g * kSumRows + r));
    hn::StoreU(total, D(), out + r);
  }
}

template <int kBits>
void stream_bits(const QmmWeights& w, int64_t row0, int64_t rows, int64_t m, const int32_t* units,
                 const float* scales, const float* sums, int64_t edges_ld, float* tile, int64_t ld,
                 void* work) {
  const StreamWork s(w, work);
  const int64_t words = words_of(kBits, w.cols), units_ld = stream_units(kBits, w.cols);
  // What lies past the words stays zero; what lies past the rows is added up and dropped.
  std::memset(s.raw, 0, static_cast<size_t>(kStreamRows * s.raw_elems) * sizeof(int32_t));
  std::fill_n(s.parts, kSumRows * s.padded, 0.0f);
  for (int64_t first = 0; first < rows; first += kSumRows) {
    const int64_t count = std::min<int64_t>(kSumRows, rows - first);
    for (int64_t i = 0; i < m; ++i) {
      const int32_t* x = units + i * units_ld;
      for (int64_t r = 0; r < count; r += kStreamRows) {
        const uint8_t* codes = w.codes + (row0 + first + r) * w.row_bytes();
        const int64_t some = std::min<int64_t>(kStreamRows, count - r);
        if (some == kStreamRows) {
          stream_raw<kBits, kStreamRows>(codes, w.row_bytes(), words, x, s.raw, s.raw_elems);
        } else {
          for (int64_t q = 0; q < some; ++q) {
            stream_raw<kBits, 1>(codes + q * w.row_bytes(), w.row_bytes(), words, x, s.raw + q * s.raw_elems,
                                 s.raw_elems);
          }
        }
        for (int64_t q = 0; q < some; ++q) {
          stream_parts(w, s, row0 + first + r + q, s.raw + q * s.raw_elems, scales + i * edges_ld,
                       sums + i * edges_ld, s.parts + (r + q) * s.padded);
        }
      }
      float totals[kSumRows];
      add_parts(w, s, totals);
      std::copy_n(totals, count, tile + i * ld + first);
    }
  }
}

void stream(const QmmWeights& w, int64_t row0, int64_t rows, int64_t m, const int32_t* units,
            const float* scales, const float* sums, int64_t edges_ld, float* tile, int64_t ld, void* work) {
  switch (w.bits) {
    case 1: return stream_bits<1>(w, row0, rows, m, units, scales, sums, edges_ld, tile, ld, work);
    case 2: return stream_bits<2>(w, row0, rows, m, units, scales, sums, edges_ld, tile, ld, work);
    case 4: return stream_bits<4>(w, row0, rows, m, units, scales, sums, edges_ld, tile, ld, work);
    default: return stream_bits<8>(w, row0, rows, m, units, scales, sums, edges_ld, tile, ld, work);
  }
}

int64_t panel_words(const QmmWeights& w) { return w.cols * panel_bits(w.bits) / 32; }

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

void pack(const QmmWeights& w, int64_t row0, int32_t* words, float* edges) {
  const int64_t width = 2 * lane_count();
  switch (w.bits) {
    case 3: widen_panel<3>(w, row0, words); break;
    case 5: widen_panel<5>(w, row0, words); break;
    case 6: widen_panel<6>(w, row0, words); break;
    default: transpose_words(w, row0, width, 0, panel_words(w), reinterpret_cast<float*>(words));
  }
  widen_edges(w.scales, w, row0, width, 0, w.groups(), edges);
  widen_edges(w.biases, w, row0, width, 0, w.groups(), edges + w.groups() * width);
}

template <int kBits, int kRows>
void multiply_tile(const QmmWeights& w, const int32_t* HWY_RESTRICT units, const float* HWY_RESTRICT x_edges,
                   const int32_t* HWY_RESTRICT words, const float* HWY_RESTRICT w_edges,
                   float* HWY_RESTRICT tile, int64_t ld, const uint8_t* next, int64_t next_bytes) {
  constexpr int kPlanes = 8 / kBits;
  const int64_t lanes = lane_count(), width = 2 * lanes, groups = w.groups(),
                group_words = w.group * kBits / 32;
  const int64_t fetch_bytes = (next_bytes / groups + 63) / 64 * 64;
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t at = g * fetch_bytes; at < std::min(next_bytes, (g + 1) * fetch_bytes); at += 64) {
      hwy::Prefetch(next + at);
    }
    VI acc[kRows][2];
    unroll<kRows>([&](auto r) HWY_ATTR { acc[r][0] = acc[r][1] = hn::Zero(DI()); });
    for (int64_t i = 0; i < group_words; ++i) {
      const VI w0 = hn::Load(DI(), words), w1 = hn::Load(DI(), words + lanes);
      unroll<kPlanes>([&](auto j) HWY_ATTR {
        const VI p0 = plane_of<kBits, static_cast<int>(j)>(w0), p1 = plane_of<kBits, static_cast<int>(j)>(w1);
        unroll<kRows>([&](auto r) HWY_ATTR {
          const VI x = hn::Set(DI(), units[j * kRows + r]);
          acc[r][0] = add_dots<kBits>(acc[r][0], p0, x);
          acc[r][1] = add_dots<kBits>(acc[r][1], p1, x);
        });
      });
      words += width;
      units += kPlanes * kRows;
    }
    unroll<2>([&](auto c) HWY_ATTR {
      const V scale = hn::Load(D(), w_edges + g * width + c * lanes);
      const V bias = hn::Load(D(), w_edges + (groups + g) * width + c * lanes);
      unroll<kRows>([&](auto r) HWY_ATTR {
        float* out = tile + r * ld + c * lanes;
        V total = g == 0 ? hn::Zero(D()) : hn::LoadU(D(), out);
        const V factor = hn::Mul(scale, hn::Set(D(), x_edges[2 * g * kRows + r]));
        const V rest = hn::Mul(bias, hn::Set(D(), x_edges[(2 * g + 1) * kRows + r]));
        total = hn::Add(total, hn::MulAdd(hn::ConvertTo(D(), acc[r][c]), factor, rest));
        hn::StoreU(total, D(), out);
      });
    });
  }
}

using TileFn = void (*)(const QmmWeights&, const int32_t*, const float*, const int32_t*, const float*, float*,
                        int64_t, const uint8_t*, int64_t);

template <int kBits, int... kRows>
constexpr auto tile_table(std::integer_sequence<int, kRows...>) {
  return std::array<TileFn, sizeof...(kRows)>{&multiply_tile<kBits, kRows + 1>...};
}

template <int kBits>
constexpr auto kTiles = tile_table<kBits>(std::make_integer_sequence<int, kTileRows>());

void multiply(const QmmWeights& w, int64_t rows, const int32_t* units, const float* x_edges,
              const int32_t* words, const float* w_edges, float* tile, int64_t ld, const uint8_t* next,
              int64_t next_bytes) {
  const auto at = static_cast<size_t>(rows - 1);
  switch (panel_bits(w.bits)) {
    case 1: return kTiles<1>[at](w, units, x_edges, words, w_edges, tile, ld, next, next_bytes);
    case 2: return kTiles<2>[at](w, units, x_edges, words, w_edges, tile, ld, next, next_bytes);
    case 4: return kTiles<4>[at](w, units, x_edges, words, w_edges, tile, ld, next, next_bytes);
    default: return kTiles<8>[at](w, units, x_edges, words, w_edges, tile, ld, next, next_bytes);
  }
}

}  // namespace

const QmmInt8* int8_kernels() {
  static constexpr QmmInt8 kTable = {kTileRows,    2 * static_cast<int64_t>(hn::MaxLanes(DI())),
                                     quantize_row, stream_units,
                                     stream_bytes, arrange,
                                     stream,       panel_words,
                                     pack,         multiply};
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
