// Few rows of 8-bit activations against weights as they lie in memory.
#include <algorithm>
#include <cstring>

#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/simd_target.h"

#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/qmm_int8_stream.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/qmm_decode-inl.h"
#include "backend/cpu/qmm_dots-inl.h"
#include "backend/cpu/qmm_row_lanes_forms-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// An even number, so that two can be read at a time.
int64_t chunks_of(const QmmWeights& w) {
  return (stream_words(w) + 2 * lane_count() - 1) / (2 * lane_count()) * 2;
}
int64_t units_of(const QmmWeights& w) { return chunks_of(w) * lane_count() * stream_planes(w); }

// Chunk by chunk (a vector of words), plane by plane.
void arrange(const QmmWeights& w, const int32_t* units, int32_t* arranged) {
  const int64_t lanes = lane_count(), planes = stream_planes(w), words = stream_words(w);
  if (planes == 1) {
    std::copy_n(units, words, arranged);
    std::fill(arranged + words, arranged + units_of(w), 0);
#if LAMINA_SIMD_TARGET
    const bool nibbles = w.format == QuantFormat::kQ4_0 || w.format == QuantFormat::kQ4_1;
    if (!nibbles || row_lanes::Q4_0::kPlanes == 1) return;
    // Of two blocks, the first halves are one plane and the second halves the other.
    for (int64_t at = 0; at < units_of(w); at += 16) {
      std::swap_ranges(arranged + at + 4, arranged + at + 8, arranged + at + 8);
    }
#endif
    return;
  }
  const DI d;
  for (int64_t chunk = 0; chunk < chunks_of(w); ++chunk, arranged += lanes * planes) {
    const int32_t* from = units + chunk * lanes * planes;
    const int64_t inside = std::clamp<int64_t>(words - chunk * lanes, 0, lanes);
    VI v[4];
    if (inside == lanes && planes == 2) {
      hn::LoadInterleaved2(d, from, v[0], v[1]);
    } else if (inside == lanes && planes == 4) {
      hn::LoadInterleaved4(d, from, v[0], v[1], v[2], v[3]);
    } else {
      for (int64_t j = 0; j < planes; ++j) {
        int32_t* to = arranged + j * lanes;
        for (int64_t lane = 0; lane < inside; ++lane) to[lane] = from[lane * planes + j];
        std::fill(to + inside, to + lanes, 0);
      }
      continue;
    }
    for (int64_t j = 0; j < planes; ++j) hn::StoreU(v[j], d, arranged + j * lanes);
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

#if LAMINA_SIMD_TARGET
// More are faster in panels where vectors have eight lanes: eight rows at 4 bits 104 to 84 GMAC/s.
constexpr int64_t kMostRows = HWY_TARGET <= HWY_AVX3 ? kQmmStreamed : 4;

template <class Codes, bool kWidened, int kLanes, bool kShort>
void stream_row_lanes(const QmmWeights& w, const QmmRowSpan& span, const QmmInt8Row* x, int64_t m,
                      float* tile, void* work) {
  const int64_t groups = w.integer_groups(), words = w.cols / 4 / Codes::kPlanes;
  HWY_ALIGN float totals[kQmmStreamed][row_lanes::kRows];
  const auto block = [&](row_lanes::LaneRows lanes, const row_lanes::RowPointers& rows,
                         const row_lanes::Edges& edges, row_lanes::Ahead ahead) HWY_ATTR {
    const auto some = [&]<int kX>(std::integral_constant<int, kX>, int64_t i) {
      row_lanes::multiply<Codes, kLanes, kShort, kX>(rows, words, groups, x + i, edges, ahead, totals + i);
      return kX;
    };
    for (int64_t i = 0; i < m;) {
      i += m - i >= 4   ? some(std::integral_constant<int, 4>(), i)
           : m - i >= 2 ? some(std::integral_constant<int, 2>(), i)
                        : some(std::integral_constant<int, 1>(), i);
    }
    for (int64_t r = 0; r < row_lanes::kRows; ++r) {
      const int64_t row = lanes.of(r) - span.row0;
      for (int64_t i = 0; row < span.count && i < m; ++i) tile[i * span.count + row] = totals[i][r];
    }
  };
  row_lanes::each_block<kWidened>(
      w, span, m, work, [] {}, block);
}

struct RowLaneStreams {
  using Fn = void (*)(const QmmWeights&, const QmmRowSpan&, const QmmInt8Row*, int64_t, float*, void*);
  template <class Codes, bool kWidened, int kLanes, bool kShort>
  static constexpr Fn kFn = stream_row_lanes<Codes, kWidened, kLanes, kShort>;
};

RowLaneStreams::Fn row_lanes_for(const QmmWeights& w) { return row_lanes::kernel_for<RowLaneStreams>(w); }
#endif

int64_t most_rows(const QmmWeights& w) {
#if LAMINA_SIMD_TARGET
  if (row_lanes_for(w)) return kMostRows;
#endif
  (void)w;
  return 1;
}

void stream(const QmmWeights& w, const QmmRowSpan& span, const QmmInt8Row* x, int64_t m, float* tile,
            void* work) {
#if LAMINA_SIMD_TARGET
  // There is one for all that is not read packed.
  if (const auto by_lanes = row_lanes_for(w)) return by_lanes(w, span, x, m, tile, work);
#else
  if (!reads_packed(w)) return stream_bits<8, false>(w, span.row0, span.count, *x, tile, work);
#endif
  (void)m;
  const int64_t row0 = span.row0, rows = span.count;
  switch (w.bits) {
    case 1: return stream_bits<1>(w, row0, rows, *x, tile, work);
    case 2: return stream_bits<2>(w, row0, rows, *x, tile, work);
    case 4: return stream_bits<4>(w, row0, rows, *x, tile, work);
    default: return stream_bits<8>(w, row0, rows, *x, tile, work);
  }
}

int64_t work_bytes(const QmmWeights& w) {
  int64_t bytes = StreamWork(w, nullptr).bytes();
#if LAMINA_SIMD_TARGET
  bytes = std::max(bytes, row_lanes::Work(w, nullptr).bytes());
#endif
  return bytes;
}

}  // namespace

const QmmInt8Stream* int8_stream_kernels() {
  static constexpr QmmInt8Stream kTable = {most_rows, stream_planes, units_of, work_bytes, arrange, stream};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(int8_stream_kernels);

const QmmInt8Stream& qmm_int8_stream() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(int8_stream_kernels)();
}

}  // namespace lamina::cpu
#endif
