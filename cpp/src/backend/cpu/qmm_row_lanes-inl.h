// One row of 8-bit activations against as many weight rows as a vector has lanes: a lane for a row.
// Per-target, not for the emulated baseline.
#if defined(LAMINA_CPU_QMM_ROW_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_QMM_ROW_LANES_INL_H_
#undef LAMINA_CPU_QMM_ROW_LANES_INL_H_
#else
#define LAMINA_CPU_QMM_ROW_LANES_INL_H_
#endif

#include <hwy/highway.h>
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "backend/cpu/qmm_dots-inl.h"
#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/targets.h"

#if LAMINA_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace row_lanes {

// Weight rows that are worked on together; also the 32-bit words of a chunk of codes.
constexpr int64_t kRows = hn::MaxLanes(D());
constexpr int kBlocks = kRows / 4;  // of 128 bits in a vector
// Lanes with rows of their own are for processors that follow_many_streams; measured with AVX2 alone.
constexpr bool kMayStream = HWY_TARGET == HWY_AVX2;

// The weight rows of the lanes: one after the other, or as far apart as each lane has rows of its own to go
// through.
struct LaneRows {
  int64_t first, step = 1;
  int64_t of(int64_t lane) const { return first + lane * step; }
};

// Where memory begins that comes into the cache meanwhile, line by line in its order: the prefetchers of the
// second level follow only such accesses, and so many rows at once are none. Null where lanes have rows of
// their own, each of which is such a stream.
using Ahead = const uint8_t*;

HWY_INLINE void fetch(Ahead from, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at, 0, 3);
}

// In each block of four lanes: the sums of that block of four vectors. kShort: sums of two lanes fit 16 bits.
// In four steps, each of which waits for the one before it: other work between them hides that.
template <bool kShort>
class SumsOfBlocks {
 public:
  HWY_INLINE explicit SumsOfBlocks(const VI (&v)[4]) : a_(v[0]), b_(v[1]), c_(v[2]), d_(v[3]) {}

  template <int kStep>
  HWY_INLINE void step() {
    if constexpr (kShort) {
      if constexpr (kStep == 0) a_ = packed(a_, b_);
      if constexpr (kStep == 1) c_ = packed(c_, d_), a_ = added(a_);
      if constexpr (kStep == 2) a_ = packed(a_, added(c_));
      if constexpr (kStep == 3) a_ = added(a_);
    } else {
      const hn::Repartition<int64_t, DI> d64;
      const auto pair = [](auto d, VI a, VI b) HWY_ATTR {
        const auto x = hn::BitCast(d, a), y = hn::BitCast(d, b);
        const DI di;
        return hn::Add(hn::BitCast(di, hn::InterleaveLower(d, x, y)),
                       hn::BitCast(di, hn::InterleaveUpper(d, x, y)));
      };
      if constexpr (kStep == 0) a_ = pair(DI(), a_, b_);
      if constexpr (kStep == 1) c_ = pair(DI(), c_, d_);
      if constexpr (kStep == 2) a_ = pair(d64, a_, c_);
    }
  }
  // Keeps the compiler from moving all steps to one place.
  HWY_INLINE void pin() { a_ = pinned(a_), c_ = pinned(c_); }
  HWY_INLINE VI all() {
    unroll<4>([&](auto i) HWY_ATTR { step<i>(); });
    return a_;
  }
  HWY_INLINE VI get() const { return a_; }

 private:
#if HWY_TARGET <= HWY_AVX3
  static HWY_INLINE VI packed(VI a, VI b) { return VI{_mm512_packs_epi32(a.raw, b.raw)}; }
  static HWY_INLINE VI added(VI a) { return VI{_mm512_madd_epi16(a.raw, _mm512_set1_epi16(1))}; }
#else
  static HWY_INLINE VI packed(VI a, VI b) { return VI{_mm256_packs_epi32(a.raw, b.raw)}; }
  static HWY_INLINE VI added(VI a) { return VI{_mm256_madd_epi16(a.raw, _mm256_set1_epi16(1))}; }
#endif

  VI a_, b_, c_, d_;
};

// From the sums of blocks, [four rows][block][row]: the dots of the groups, a lane for a row. kLanes: of a
// group, in its vectors.
#if HWY_TARGET <= HWY_AVX3
template <int kLanes>
HWY_INLINE void dots_of_groups(const VI (&sums)[kBlocks], VI* dots) {
  const __m512i s[4] = {sums[0].raw, sums[1].raw, sums[2].raw, sums[3].raw};
  if constexpr (kLanes == 4) {
    const __m512i low0 = _mm512_shuffle_i32x4(s[0], s[1], 0x44),
                  low1 = _mm512_shuffle_i32x4(s[2], s[3], 0x44);
    const __m512i top0 = _mm512_shuffle_i32x4(s[0], s[1], 0xee),
                  top1 = _mm512_shuffle_i32x4(s[2], s[3], 0xee);
    dots[0] = VI{_mm512_shuffle_i32x4(low0, low1, 0x88)},
    dots[1] = VI{_mm512_shuffle_i32x4(low0, low1, 0xdd)};
    dots[2] = VI{_mm512_shuffle_i32x4(top0, top1, 0x88)},
    dots[3] = VI{_mm512_shuffle_i32x4(top0, top1, 0xdd)};
  } else {
    const auto pairs = [](__m512i a, __m512i b) HWY_ATTR {
      return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
    };
    const __m512i low = pairs(s[0], s[1]), top = pairs(s[2], s[3]);
    const __m512i even = _mm512_shuffle_i32x4(low, top, 0x88), odd = _mm512_shuffle_i32x4(low, top, 0xdd);
    if constexpr (kLanes == 8) {
      dots[0] = VI{even}, dots[1] = VI{odd};
    } else {
      dots[0] = VI{_mm512_add_epi32(even, odd)};
    }
  }
}
#else
template <int kLanes>
HWY_INLINE void dots_of_groups(const VI (&sums)[kBlocks], VI* dots) {
  const VI low{_mm256_permute2x128_si256(sums[0].raw, sums[1].raw, 0x20)},
      top{_mm256_permute2x128_si256(sums[0].raw, sums[1].raw, 0x31)};
  if constexpr (kLanes == 4) {
    dots[0] = low, dots[1] = top;
  } else {
    dots[0] = hn::Add(low, top);
  }
}
#endif

// Where the weight rows lie. Rows past the last one repeat it.
struct RowPointers {
  const uint8_t* at[kRows];
  RowPointers(const uint8_t* base, LaneRows lanes, int64_t rows, int64_t ld) {
    for (int64_t r = 0; r < kRows; ++r) at[r] = base + std::min(lanes.of(r), rows - 1) * ld;
  }
};

struct Edges {
  const float *scales, *biases;  // [groups][kRows]; no biases: null
};

// How codes are read: kPlanes vectors of a chunk of kRows words, which lie in kBytes bytes of a row.
// kNarrow: codes are not wide_codes.
template <int kBits, bool kIsNarrow = (kBits < 8)>
struct Packed {
  static constexpr int kPlanes = 8 / kBits, kBytes = 4 * kRows;
  static constexpr bool kNarrow = kIsNarrow;
#if HWY_TARGET <= HWY_AVX3
  struct Chunk {
    int64_t byte;
    __mmask16 inside;
  };
  static HWY_INLINE Chunk chunk(int64_t at, int64_t words) {
    const auto left = static_cast<int>(std::clamp<int64_t>(words - at, 0, kRows));
    return {at * 4, static_cast<__mmask16>((1u << left) - 1)};
  }
  static HWY_INLINE VI load(const uint8_t* row, const Chunk& c) {
    return VI{_mm512_maskz_loadu_epi32(c.inside, row + c.byte)};
  }
#else
  using Chunk = int64_t;
  static HWY_INLINE Chunk chunk(int64_t at, int64_t) { return at * 4; }
  static HWY_INLINE VI load(const uint8_t* row, Chunk byte) {
    return VI{_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + byte))};
  }
#endif
};

// Codes of which a chunk is read whole, so that what lies behind the last whole chunk of a row is copied
// first: loads would wait for masks, which are made from lengths.
template <class Codes>
constexpr bool kCopiesTails = false;
template <int kBits, bool kIsNarrow>
constexpr bool kCopiesTails<Packed<kBits, kIsNarrow>> = HWY_TARGET == HWY_AVX2;

// acc[x][r] = lane sums of row r of four over kChunks vectors of codes, for kX rows of activations. Calls
// between(r) behind each.
template <class Codes, int kChunks, int kX, class Between>
HWY_INLINE void four_rows(const uint8_t* const* rows, const typename Codes::Chunk* chunks,
                          const int32_t* const* units, Ahead ahead, VI (*acc)[4], const Between& between) {
  constexpr int kPlanes = Codes::kPlanes;
  constexpr int kLines = (4 * Codes::kBytes * kChunks + 63) / 64;
  if (!kMayStream || ahead != nullptr) {
    unroll<kLines>([&](auto i) HWY_ATTR { __builtin_prefetch(ahead + i * 64, 0, 3); });
  }
  unroll<4>([&](auto r) HWY_ATTR {
    VI sum[kX];
    unroll<kX>([&](auto x) HWY_ATTR { sum[x] = hn::Zero(DI()); });
    unroll<kChunks>([&](auto c) HWY_ATTR {
      const VI w = Codes::load(rows[r], chunks[c]);
#if LAMINA_QMM_PAIRS
      VI pairs[kX];
#endif
      unroll<kPlanes>([&](auto j) HWY_ATTR {
        const VI codes = plane_of<8 / kPlanes, static_cast<int>(j)>(w);
        unroll<kX>([&](auto x) HWY_ATTR {
          const VI unit = hn::LoadU(DI(), units[x] + kRows * (c * kPlanes + j));
#if LAMINA_QMM_PAIRS
          // Two planes of 4 bits, or four of 2 bits, fit.
          const VI some = pairs_of<Codes::kNarrow>(codes, unit);
          pairs[x] = j == 0 ? some : add_pairs(pairs[x], some);
          if constexpr (j == kPlanes - 1) sum[x] = add_both(sum[x], pairs[x]);
#else
          sum[x] = add_dots<Codes::kNarrow>(sum[x], codes, unit);
#endif
        });
      });
    });
    unroll<kX>([&](auto x) HWY_ATTR { acc[x][r] = sum[x]; });
    between(r);
  });
}

// out[x][r] = the product of row r and activations x, for kX of them. kLanes: 32-bit lanes of a group in the
// vectors of codes, 4 to 32. Units of the activations end with whole chunks, as many as a group has.
// Flattened: left to itself, GCC calls some of the unrolled steps.
template <class Codes, int kLanes, bool kShort, int kX>
HWY_FLATTEN void multiply(const RowPointers& rows, int64_t words, int64_t groups, const QmmInt8Row* x,
                          const Edges& edges, Ahead ahead, float (*out)[kRows]) {
  constexpr int kPlanes = Codes::kPlanes, kVector = kRows, kChunks = std::max(1, kLanes / kVector),
                kGroups = std::max(1, kVector / kLanes), kFetched = 4 * Codes::kBytes * kChunks;
  const D d;
  V total[kX];
  unroll<kX>([&](auto i) HWY_ATTR { total[i] = hn::Zero(d); });
  for (int64_t g = 0; edges.biases && g < groups; ++g) {
    const V bias = hn::Load(d, edges.biases + g * kRows);
    unroll<kX>([&](auto i) HWY_ATTR { total[i] = fused(hn::Set(d, x[i].sums[g]), bias, total[i]); });
  }
  const float *scales = edges.scales, *x_scales[kX];
  const int32_t *starts[kX], *x_units[kX];
  unroll<kX>([&](auto i)
                 HWY_ATTR { x_scales[i] = x[i].scales, starts[i] = x[i].starts, x_units[i] = x[i].units; });
  const auto add = [&](auto i, int64_t g, VI dot) HWY_ATTR {
    const VI whole = hn::Add(dot, hn::Set(DI(), starts[i][g]));
    const V scaled = hn::Mul(hn::ConvertTo(d, whole), hn::Set(d, x_scales[i][g]));
    total[i] = fused(scaled, hn::Load(d, scales + g * kRows), total[i]);
  };
  const auto add_groups = [&](int64_t g, VI(*sums)[kBlocks]) HWY_ATTR {
    unroll<kX>([&](auto i) HWY_ATTR {
      VI dots[kGroups];
      dots_of_groups<std::min(kLanes, kVector)>(sums[i], dots);
      if (g + kGroups <= groups) {
        unroll<kGroups>([&](auto k) HWY_ATTR { add(i, g + k, dots[k]); });
      } else {
        for (int k = 0; g + k < groups; ++k) add(i, g + k, dots[k]);
      }
    });
  };
  // A core with AVX2 alone has room for two of these chains of sums: 39 to 34 cycles a chunk of eight rows on
  // a Zen 3. Cores with AVX-512 lose by it.
  constexpr bool kOverlaps = kX == 1 && HWY_TARGET == HWY_AVX2;
  // The words of rows behind their last whole chunks, and zeros.
  constexpr int64_t kStep = kRows * kChunks;
  HWY_ALIGN uint8_t tails[kCopiesTails<Codes> ? kRows : 1][4 * kStep];
  RowPointers from = rows;
  const int64_t fetched = kMayStream && ahead == nullptr ? 0 : kFetched;
  VI acc[kX][4], sums[kX][kBlocks];
  unroll<4>([&](auto r) HWY_ATTR { acc[0][r] = hn::Zero(DI()); });
  int64_t g = 0;
  for (int64_t at = 0; at < words; at += kStep, g += kGroups) {
    typename Codes::Chunk chunks[kChunks];
    const int32_t* units[kX];
    int64_t read = at;
    if (kCopiesTails<Codes> && at + kStep > words) {
      std::memset(tails, 0, sizeof(tails));
      for (int r = 0; r < kRows; ++r) {
        std::memcpy(tails[r], from.at[r] + at * 4, static_cast<size_t>(words - at) * 4);
        from.at[r] = tails[r];
      }
      read = 0;
    }
    for (int c = 0; c < kChunks; ++c) chunks[c] = Codes::chunk(read + kRows * c, words);
    unroll<kX>([&](auto i) HWY_ATTR { units[i] = x_units[i] + at * kPlanes; });
    unroll<kBlocks>([&](auto q) HWY_ATTR {
      const auto four = [&](const auto& between) HWY_ATTR {
        four_rows<Codes, kChunks, kX>(from.at + 4 * q, chunks, units, ahead, acc, between);
        ahead += fetched;
      };
      if constexpr (kOverlaps) {
        // The sums of the four rows before: the last ones of the chunk before, where these are the first.
        SumsOfBlocks<kShort> before(acc[0]);
        four([&](auto r) HWY_ATTR {
          before.template step<r>();
          before.pin();
        });
        sums[0][(q + kBlocks - 1) % kBlocks] = before.get();
        if (q == 0 && at > 0) add_groups(g - kGroups, sums);
      } else {
        four([](auto) HWY_ATTR {});
        unroll<kX>([&](auto i) HWY_ATTR { sums[i][q] = SumsOfBlocks<kShort>(acc[i]).all(); });
        if (q == kBlocks - 1) add_groups(g, sums);
      }
    });
  }
  if (kOverlaps && words > 0) {
    sums[0][kBlocks - 1] = SumsOfBlocks<kShort>(acc[0]).all();
    add_groups(g - kGroups, sums);
  }
  unroll<kX>([&](auto i) HWY_ATTR { hn::StoreU(total[i], d, out[i]); });
}

// --- scales and biases of 16 bits ------------------------------------------------------------------------

#if HWY_TARGET <= HWY_AVX3
// The pairs of 16-bit numbers of sixteen rows, turned: pairs[j] has pair j of each row, for j < 8.
template <class Load>
HWY_INLINE void turn_pairs(const Load& load, __m512i (&pairs)[8]) {
  __m512i cols[2][4];
  unroll<2>([&](auto half) HWY_ATTR {
    __m512i z[4];
    unroll<4>([&](auto r) HWY_ATTR {
      z[r] = _mm512_inserti64x4(_mm512_castsi256_si512(load(8 * half + r)), load(8 * half + r + 4), 1);
    });
    const __m512i low01 = _mm512_unpacklo_epi32(z[0], z[1]), top01 = _mm512_unpackhi_epi32(z[0], z[1]);
    const __m512i low23 = _mm512_unpacklo_epi32(z[2], z[3]), top23 = _mm512_unpackhi_epi32(z[2], z[3]);
    cols[half][0] = _mm512_unpacklo_epi64(low01, low23), cols[half][1] = _mm512_unpackhi_epi64(low01, low23);
    cols[half][2] = _mm512_unpacklo_epi64(top01, top23), cols[half][3] = _mm512_unpackhi_epi64(top01, top23);
  });
  unroll<4>([&](auto j) HWY_ATTR {
    pairs[j] = _mm512_shuffle_i32x4(cols[0][j], cols[1][j], 0x88);
    pairs[j + 4] = _mm512_shuffle_i32x4(cols[0][j], cols[1][j], 0xdd);
  });
}

// dst[g * kRows + r] = number first + g of row r as float32, for g < 16. kHalf: float16, else bfloat16.
template <bool kHalf>
HWY_INLINE void widen_some(const RowPointers& from, int64_t first, int64_t n, float* dst) {
  const auto inside = static_cast<__mmask16>((1u << std::min<int64_t>(16, n - first)) - 1);
  __m512i pairs[8];
  turn_pairs([&](auto r) HWY_ATTR { return _mm256_maskz_loadu_epi16(inside, from.at[r] + first * 2); },
             pairs);
  unroll<8>([&](auto j) HWY_ATTR {
    float* to = dst + 2 * j * kRows;
    if constexpr (kHalf) {
      const __m512i high = _mm512_srli_epi32(pairs[j], 16);
      _mm512_store_ps(to, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs[j])));
      _mm512_store_ps(to + kRows, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(high)));
    } else {
      const __m512i high = _mm512_and_si512(pairs[j], _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
      _mm512_store_si512(to, _mm512_slli_epi32(pairs[j], 16));
      _mm512_store_si512(to + kRows, high);
    }
  });
}
#else
// The pairs of 16-bit numbers of eight rows, turned: pairs[j] has pair j of each row, for j < 4.
template <class Load>
HWY_INLINE void turn_pairs(const Load& load, __m256i (&pairs)[4]) {
  __m256i z[4];
  unroll<4>([&](auto r) HWY_ATTR {
    z[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(load(r)), load(r + 4), 1);
  });
  const __m256i low01 = _mm256_unpacklo_epi32(z[0], z[1]), top01 = _mm256_unpackhi_epi32(z[0], z[1]);
  const __m256i low23 = _mm256_unpacklo_epi32(z[2], z[3]), top23 = _mm256_unpackhi_epi32(z[2], z[3]);
  pairs[0] = _mm256_unpacklo_epi64(low01, low23), pairs[1] = _mm256_unpackhi_epi64(low01, low23);
  pairs[2] = _mm256_unpacklo_epi64(top01, top23), pairs[3] = _mm256_unpackhi_epi64(top01, top23);
}

// dst[g * kRows + r] = number first + g of row r as float32, for g < 16. kHalf: float16, else bfloat16.
template <bool kHalf>
HWY_INLINE void widen_some(const RowPointers& from, int64_t first, int64_t n, float* dst) {
  const __m256i top = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  for (int64_t g = first; g < std::min(first + 16, n); g += 8, dst += 8 * kRows) {
    __m256i pairs[4];
    const auto load = [&](auto r) HWY_ATTR {
      const uint8_t* row = from.at[r] + g * 2;
      __m128i some = _mm_setzero_si128();
      if (g + 8 <= n) {
        some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
      } else {
        std::memcpy(&some, row, static_cast<size_t>(n - g) * 2);
      }
      return some;
    };
    turn_pairs(load, pairs);
    unroll<4>([&](auto j) HWY_ATTR {
      float* to = dst + 2 * j * kRows;
      if constexpr (kHalf) {
        // Eight first ones below eight second ones.
        const __m256i low = _mm256_andnot_si256(top, pairs[j]), high = _mm256_srli_epi32(pairs[j], 16);
        const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
        _mm256_store_ps(to, _mm256_cvtph_ps(_mm256_castsi256_si128(both)));
        _mm256_store_ps(to + kRows, _mm256_cvtph_ps(_mm256_extracti128_si256(both, 1)));
      } else {
        _mm256_store_ps(to, _mm256_castsi256_ps(_mm256_slli_epi32(pairs[j], 16)));
        _mm256_store_ps(to + kRows, _mm256_castsi256_ps(_mm256_and_si256(pairs[j], top)));
      }
    });
  }
}
#endif

// dst[g * kRows + r] = number g of row r as float32, for g < n rounded up to 16. Calls tick() now and then.
template <bool kHalf, class Tick>
HWY_INLINE void widen_edges(const void* src, int64_t row0, int64_t rows, int64_t n, float* dst,
                            const Tick& tick) {
  const RowPointers from(static_cast<const uint8_t*>(src), LaneRows{row0}, rows, n * 2);
  for (int64_t g = 0; g < n; g += 16) {
    tick();
    widen_some<kHalf>(from, g, n, dst + g * kRows);
  }
}

}  // namespace row_lanes
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // LAMINA_SIMD_TARGET
#endif
