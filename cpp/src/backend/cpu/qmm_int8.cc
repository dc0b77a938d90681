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
#include "backend/cpu/qmm_sixteen_forms-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

#if HWY_TARGET <= HWY_AVX3
constexpr int kTileRows = 12;
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

void quantize_row(const IntegerForm& form, int64_t planes, int64_t k, const float* x, const QmmInt8Row& row) {
  const int64_t group = form.group, groups = k / group;
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
    row.starts[g] = -form.offset * sum;
  }
  std::fill_n(row.scales + groups, kQmmPad, 0.0f);
  std::fill_n(row.sums + groups, kQmmPad, 0.0f);
  std::fill_n(row.starts + groups, kQmmPad, 0);
}

// An even number, so that two can be read at a time.
int64_t stream_chunks(const QmmWeights& w) {
  return (stream_words(w) + 2 * lane_count() - 1) / (2 * lane_count()) * 2;
}
int64_t stream_units(const QmmWeights& w) { return stream_chunks(w) * lane_count() * stream_planes(w); }

// Chunk by chunk (a vector of words), plane by plane.
void arrange(const QmmWeights& w, const int32_t* units, int32_t* arranged) {
  const int64_t lanes = lane_count(), planes = stream_planes(w), words = stream_words(w);
  if (planes == 1) {
    std::copy_n(units, words, arranged);
    std::fill(arranged + words, arranged + stream_units(w), 0);
    return;
  }
  for (int64_t chunk = 0; chunk < stream_chunks(w); ++chunk) {
    const int32_t* from = units + chunk * lanes * planes;
    const int64_t inside = std::clamp<int64_t>(words - chunk * lanes, 0, lanes);
    for (int64_t j = 0; j < planes; ++j, arranged += lanes) {
      for (int64_t lane = 0; lane < inside; ++lane) arranged[lane] = from[lane * planes + j];
      std::fill(arranged + inside, arranged + lanes, 0);
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

// scaled[g] = the dot of group g, from the raw lanes of one weight row, times the activations' scale.
template <int kLanesPerGroup>
void scale_dots(int64_t groups, const int32_t* raw, const QmmInt8Row& x, float* scaled) {
  for (int64_t g = 0; g < groups; g += lane_count()) {
    const VI dots =
        hn::Add(sum_adjacent<kLanesPerGroup>(raw + g * kLanesPerGroup), hn::LoadU(DI(), x.starts + g));
    hn::Store(hn::Mul(hn::ConvertTo(D(), dots), hn::LoadU(D(), x.scales + g)), D(), scaled + g);
  }
}

void scale_dots(int64_t lanes_per_group, int64_t groups, const int32_t* raw, const QmmInt8Row& x,
                float* scaled) {
  switch (lanes_per_group) {
    case 1: return scale_dots<1>(groups, raw, x, scaled);
    case 2: return scale_dots<2>(groups, raw, x, scaled);
    case 4: return scale_dots<4>(groups, raw, x, scaled);
    case 8: return scale_dots<8>(groups, raw, x, scaled);
    case 16: return scale_dots<16>(groups, raw, x, scaled);
    default: return scale_dots<32>(groups, raw, x, scaled);
  }
}

constexpr int64_t kStreamRows = 4;
// Weight rows whose groups are added up together, down the lanes.
constexpr int64_t kSumRows = 16;

// Working memory of `stream`.
struct StreamWork {
  int64_t padded, raw_elems, wide_bytes;
  float *scaled, *turned;      // [kSumRows][padded], and the other way round
  float *w_scales, *w_biases;  // [padded][kSumRows]
  int32_t* raw;                // [kStreamRows][raw_elems]
  uint8_t* wide;               // [kStreamRows][wide_bytes], codes where they are not read packed

  StreamWork(const QmmWeights& w, void* work)
      : padded((w.integer_groups() + kQmmPad + 15) / 16 * 16),
        // Whole vectors of groups are read, so that the raw lanes have room for as many.
        raw_elems((w.integer_groups() + 15) / 16 * 16 * (w.integers.group / 4 / stream_planes(w)) + 16),
        wide_bytes(reads_packed(w) ? 0 : (w.cols + 63) / 64 * 64),
        scaled(static_cast<float*>(work)),
        turned(scaled + kSumRows * padded),
        w_scales(turned + kSumRows * padded),
        w_biases(w_scales + kSumRows * padded),
        raw(reinterpret_cast<int32_t*>(w_biases + kSumRows * padded)),
        wide(reinterpret_cast<uint8_t*>(raw + kStreamRows * raw_elems)) {}
  int64_t bytes() const { return 4 * kSumRows * padded * 4 + kStreamRows * (raw_elems * 4 + wide_bytes); }
};

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
        acc[r] = add_dots<(kBits < 8)>(acc[r], plane_of<kBits, static_cast<int>(j)>(w[r]), x);
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

// out[r] = the scaled dots of kSumRows weight rows with their scales and biases, in the order of the groups.
void add_groups(const QmmWeights& w, const StreamWork& s, const float* sums, float* out) {
  const int64_t groups = w.integer_groups();
  const auto row = [&](int64_t r) { return s.scaled + r * s.padded; };
  transpose_words_of(row, kSumRows, groups, s.turned, kSumRows);
  for (int64_t r = 0; r < kSumRows; r += lane_count()) {
    V total = hn::Zero(D());
    const auto add = [&](const float* edges, auto factor) HWY_ATTR {
      for (int64_t g = 0; g < groups; ++g) {
        total = fused(factor(g), hn::Load(D(), edges + g * kSumRows + r), total);
      }
    };
    if (w.integers.biased) add(s.w_biases, [&](int64_t g) HWY_ATTR { return hn::Set(D(), sums[g]); });
    add(s.w_scales, [&](int64_t g) HWY_ATTR { return hn::Load(D(), s.turned + g * kSumRows + r); });
    hn::StoreU(total, D(), out + r);
  }
}

// Raw lane sums of `count` <= kStreamRows weight rows from `row` on.
template <int kBits, bool kPacked>
void stream_rows(const QmmWeights& w, const StreamWork& s, int64_t row, int64_t count, const int32_t* units) {
  const uint8_t* codes = kPacked ? w.codes + row * w.row_bytes() : s.wide;
  const int64_t ld = kPacked ? w.row_bytes() : s.wide_bytes, words = stream_words(w);
  if constexpr (!kPacked) { qmm_codes().widen(w, row, count, 0, w.cols, s.wide, s.wide_bytes); }
  if (count == kStreamRows) {
    return stream_raw<kBits, kStreamRows>(codes, ld, words, units, s.raw, s.raw_elems);
  }
  for (int64_t r = 0; r < count; ++r) {
    stream_raw<kBits, 1>(codes + r * ld, ld, words, units, s.raw + r * s.raw_elems, s.raw_elems);
  }
}

template <int kBits, bool kPacked = true>
void stream_bits(const QmmWeights& w, int64_t row0, int64_t rows, const QmmInt8Row& x, float* tile,
                 void* work) {
  const StreamWork s(w, work);
  const int64_t groups = w.integer_groups(), lanes_per_group = w.integers.group / 4 / stream_planes(w);
  // What lies past the words stays zero; what lies past the rows is added up and dropped.
  std::memset(s.raw, 0, static_cast<size_t>(kStreamRows * s.raw_elems) * sizeof(int32_t));
  std::fill_n(s.scaled, kSumRows * s.padded, 0.0f);
  for (int64_t first = 0; first < rows; first += kSumRows) {
    const int64_t count = std::min(kSumRows, rows - first);
    qmm_codes().edges(w, row0 + first, kSumRows, s.w_scales, s.w_biases);
    for (int64_t r = 0; r < count; r += kStreamRows) {
      const int64_t some = std::min(kStreamRows, count - r);
      stream_rows<kBits, kPacked>(w, s, row0 + first + r, some, x.units);
      for (int64_t q = 0; q < some; ++q) {
        scale_dots(lanes_per_group, groups, s.raw + q * s.raw_elems, x, s.scaled + (r + q) * s.padded);
      }
    }
    float totals[kSumRows];
    add_groups(w, s, x.sums, totals);
    std::copy_n(totals, count, tile + first);
  }
}

#if HWY_TARGET <= HWY_AVX3
template <class Codes, bool kWidened, int kLanes, bool kShort>
void stream_sixteens(const QmmWeights& w, const QmmRowSpan& span, const QmmInt8Row* x, int64_t m, float* tile,
                     void* work) {
  const int64_t groups = w.integer_groups(), words = stream_words(w), end = span.row0 + span.count;
  HWY_ALIGN float totals[kQmmStreamed][sixteen::kRows];
  const auto block = [&](int64_t row, const sixteen::RowPointers& rows, const sixteen::Edges& edges,
                         sixteen::Ahead ahead) HWY_ATTR {
    const auto some = [&]<int kX>(std::integral_constant<int, kX>, int64_t i) {
      sixteen::multiply<Codes, kLanes, kShort, kX>(rows, words, groups, x + i, edges, ahead, totals + i);
      return kX;
    };
    for (int64_t i = 0; i < m;) {
      i += m - i >= 4   ? some(std::integral_constant<int, 4>(), i)
           : m - i >= 2 ? some(std::integral_constant<int, 2>(), i)
                        : some(std::integral_constant<int, 1>(), i);
    }
    for (int64_t i = 0; i < m; ++i) {
      std::copy_n(totals[i], std::min(sixteen::kRows, end - row), tile + i * span.count + (row - span.row0));
    }
  };
  sixteen::each_block<kWidened>(
      w, span, work, [] {}, block);
}

struct SixteenStreams {
  using Fn = void (*)(const QmmWeights&, const QmmRowSpan&, const QmmInt8Row*, int64_t, float*, void*);
  template <class Codes, bool kWidened, int kLanes, bool kShort>
  static constexpr Fn kFn = stream_sixteens<Codes, kWidened, kLanes, kShort>;
};

SixteenStreams::Fn sixteens_for(const QmmWeights& w) { return sixteen::kernel_for<SixteenStreams>(w); }
#endif

int64_t stream_most(const QmmWeights& w) {
#if HWY_TARGET <= HWY_AVX3
  if (sixteens_for(w)) return kQmmStreamed;
#endif
  (void)w;
  return 1;
}

void stream(const QmmWeights& w, const QmmRowSpan& span, const QmmInt8Row* x, int64_t m, float* tile,
            void* work) {
#if HWY_TARGET <= HWY_AVX3
  if (const auto sixteens = sixteens_for(w)) return sixteens(w, span, x, m, tile, work);
#endif
  (void)m;
  const int64_t row0 = span.row0, rows = span.count;
  if (!reads_packed(w)) return stream_bits<8, false>(w, row0, rows, *x, tile, work);
  switch (w.bits) {
    case 1: return stream_bits<1>(w, row0, rows, *x, tile, work);
    case 2: return stream_bits<2>(w, row0, rows, *x, tile, work);
    case 4: return stream_bits<4>(w, row0, rows, *x, tile, work);
    default: return stream_bits<8>(w, row0, rows, *x, tile, work);
  }
}

int64_t stream_bytes(const QmmWeights& w) {
  int64_t bytes = StreamWork(w, nullptr).bytes();
#if HWY_TARGET <= HWY_AVX3
  bytes = std::max(bytes, sixteen::Work(w, nullptr).bytes());
#endif
  return bytes;
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

template <int kBits, bool kNarrow, int kRows>
void multiply_tile(const QmmPanelArgs& a) {
  constexpr int kPlanes = 8 / kBits;
  const int64_t lanes = lane_count(), width = 2 * lanes, group_words = a.group * kBits / 32;
  const int64_t fetch_bytes = (a.next_bytes / a.groups + 63) / 64 * 64;
  const int32_t *HWY_RESTRICT words = a.words, *HWY_RESTRICT units = a.units;
  begin_tile<kRows>(a);
  for (int64_t g = 0; g < a.groups; ++g) {
    for (int64_t at = g * fetch_bytes; at < std::min(a.next_bytes, (g + 1) * fetch_bytes); at += 64) {
      hwy::Prefetch(a.next + at);
    }
    const float* x_scales = a.x_edges + g * 3 * kRows;
    const auto* starts = reinterpret_cast<const int32_t*>(x_scales + 2 * kRows);
    VI acc[kRows][2];
    unroll<kRows>([&](auto r) HWY_ATTR { acc[r][0] = acc[r][1] = hn::Set(DI(), starts[r]); });
    for (int64_t i = 0; i < group_words; ++i) {
      const VI w0 = hn::Load(DI(), words), w1 = hn::Load(DI(), words + lanes);
      unroll<kPlanes>([&](auto j) HWY_ATTR {
        const VI p0 = plane_of<kBits, static_cast<int>(j)>(w0), p1 = plane_of<kBits, static_cast<int>(j)>(w1);
        unroll<kRows>([&](auto r) HWY_ATTR {
          const VI x = hn::Set(DI(), units[j * kRows + r]);
          acc[r][0] = add_dots<kNarrow>(acc[r][0], p0, x);
          acc[r][1] = add_dots<kNarrow>(acc[r][1], p1, x);
        });
      });
      words += width;
      units += kPlanes * kRows;
    }
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

template <int kBits, bool kNarrow, int... kRows>
constexpr auto tile_table(std::integer_sequence<int, kRows...>) {
  return std::array<TileFn, sizeof...(kRows)>{&multiply_tile<kBits, kNarrow, kRows + 1>...};
}

template <int kBits, bool kNarrow = (kBits < 8)>
constexpr auto kTiles = tile_table<kBits, kNarrow>(std::make_integer_sequence<int, kTileRows>());

void multiply(const QmmWeights& w, int64_t planes, const QmmPanelArgs& a) {
  // Where instructions for narrow bytes are others.
  constexpr bool kTwoKinds = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3;
  const auto at = static_cast<size_t>(a.rows - 1);
  switch (planes) {
    case 8: return kTiles<1>[at](a);
    case 4: return kTiles<2>[at](a);
    case 2: return kTiles<4>[at](a);
    default: break;
  }
  if (w.bits < 8 && w.integers.offset < 128) return kTiles<8, kTwoKinds>[at](a);
  kTiles<8>[at](a);
}

}  // namespace

const QmmInt8* int8_kernels() {
  static constexpr QmmInt8 kTable = {kTileRows,     2 * static_cast<int64_t>(hn::MaxLanes(DI())),
                                     quantize_row,  stream_most,
                                     stream_planes, stream_units,
                                     stream_bytes,  arrange,
                                     stream,        panel_words,
                                     pack,          multiply};
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
