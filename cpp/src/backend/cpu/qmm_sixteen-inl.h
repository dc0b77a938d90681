// One row of 8-bit activations against sixteen weight rows at a time: a lane for a row. Per-target, for those
// of 16 lanes.
#if defined(LAMINA_CPU_QMM_SIXTEEN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_QMM_SIXTEEN_INL_H_
#undef LAMINA_CPU_QMM_SIXTEEN_INL_H_
#else
#define LAMINA_CPU_QMM_SIXTEEN_INL_H_
#endif

#include <hwy/highway.h>
#include <immintrin.h>

#include <algorithm>

#include "backend/cpu/qmm_dots-inl.h"
#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/targets.h"

#if HWY_TARGET <= HWY_AVX3
HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace sixteen {

constexpr int64_t kRows = 16;

// Where memory begins that comes into the cache meanwhile, line by line in its order: the prefetchers of the
// second level follow only such accesses, and sixteen rows at once are none.
using Ahead = const uint8_t*;

HWY_INLINE void fetch(Ahead from, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at, 0, 3);
}

// In each block of four lanes: the sums of that block of a, b, c and d. kShort: sums of two lanes fit 16
// bits.
template <bool kShort>
HWY_INLINE __m512i sums_of_blocks(__m512i a, __m512i b, __m512i c, __m512i d) {
  if constexpr (kShort) {
    const __m512i ones = _mm512_set1_epi16(1);
    const __m512i ab = _mm512_madd_epi16(_mm512_packs_epi32(a, b), ones);
    const __m512i cd = _mm512_madd_epi16(_mm512_packs_epi32(c, d), ones);
    return _mm512_madd_epi16(_mm512_packs_epi32(ab, cd), ones);
  } else {
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  }
}

// From the sums of blocks, [four rows][block][row]: the dots of the groups, a lane for a row. kLanes: of a
// group, in its vectors.
template <int kLanes>
HWY_INLINE void dots_of_groups(const __m512i (&s)[4], __m512i* dots) {
  if constexpr (kLanes == 4) {
    const __m512i low0 = _mm512_shuffle_i32x4(s[0], s[1], 0x44),
                  low1 = _mm512_shuffle_i32x4(s[2], s[3], 0x44);
    const __m512i top0 = _mm512_shuffle_i32x4(s[0], s[1], 0xee),
                  top1 = _mm512_shuffle_i32x4(s[2], s[3], 0xee);
    dots[0] = _mm512_shuffle_i32x4(low0, low1, 0x88), dots[1] = _mm512_shuffle_i32x4(low0, low1, 0xdd);
    dots[2] = _mm512_shuffle_i32x4(top0, top1, 0x88), dots[3] = _mm512_shuffle_i32x4(top0, top1, 0xdd);
  } else {
    const auto pairs = [](__m512i a, __m512i b) HWY_ATTR {
      return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
    };
    const __m512i low = pairs(s[0], s[1]), top = pairs(s[2], s[3]);
    const __m512i even = _mm512_shuffle_i32x4(low, top, 0x88), odd = _mm512_shuffle_i32x4(low, top, 0xdd);
    if constexpr (kLanes == 8) {
      dots[0] = even, dots[1] = odd;
    } else {
      dots[0] = _mm512_add_epi32(even, odd);
    }
  }
}

// Where sixteen weight rows lie. Rows past the last one repeat it.
struct RowPointers {
  const uint8_t* at[kRows];
  RowPointers(const uint8_t* base, int64_t row0, int64_t rows, int64_t ld) {
    for (int64_t r = 0; r < kRows; ++r) at[r] = base + std::min(row0 + r, rows - 1) * ld;
  }
};

struct Edges {
  const float *scales, *biases;  // [groups][16]; no biases: null
};

// How codes are read: kPlanes vectors of a chunk of 16 words, and the lines to fetch for four rows of it.
// kNarrow: codes are below 128.
template <int kBits>
struct Packed {
  static constexpr int kPlanes = 8 / kBits, kFetch = 4;
  static constexpr bool kNarrow = kBits < 8;
  struct Chunk {
    int64_t byte;
    __mmask16 inside;
  };
  static HWY_INLINE Chunk chunk(int64_t at, int64_t words) {
    const int64_t left = std::clamp<int64_t>(words - at, 0, 16);
    return {at * 4, static_cast<__mmask16>((1u << left) - 1)};
  }
  static HWY_INLINE __m512i load(const uint8_t* row, const Chunk& c) {
    return _mm512_maskz_loadu_epi32(c.inside, row + c.byte);
  }
};
// Codes that have been made bytes.
using Bytes = Packed<8>;

// The sums of blocks of four rows over kChunks vectors of codes, for kX rows of activations.
template <class Codes, int kChunks, bool kShort, int kX>
HWY_INLINE void four_rows(const uint8_t* const* rows, const typename Codes::Chunk* chunks,
                          const int32_t* const* units, Ahead ahead, __m512i (*sums)[4], int q) {
  constexpr int kPlanes = Codes::kPlanes;
  VI acc[4][kX];
  unroll<Codes::kFetch * kChunks>([&](auto i) HWY_ATTR { __builtin_prefetch(ahead + i * 64, 0, 3); });
  unroll<4>([&](auto r) HWY_ATTR {
    unroll<kX>([&](auto x) HWY_ATTR { acc[r][x] = hn::Zero(DI()); });
    unroll<kChunks>([&](auto c) HWY_ATTR {
      const VI w{Codes::load(rows[r], chunks[c])};
      unroll<kPlanes>([&](auto j) HWY_ATTR {
        const VI codes = plane_of<8 / kPlanes, static_cast<int>(j)>(w);
        unroll<kX>([&](auto x) HWY_ATTR {
          const VI unit{_mm512_loadu_si512(units[x] + 16 * (c * kPlanes + j))};
          acc[r][x] = add_dots<(Codes::kNarrow || kShort)>(acc[r][x], codes, unit);
        });
      });
    });
  });
  unroll<kX>([&](auto x) HWY_ATTR {
    sums[x][q] = sums_of_blocks<kShort>(acc[0][x].raw, acc[1][x].raw, acc[2][x].raw, acc[3][x].raw);
  });
}

// out[x][r] = the product of row r and activations x, for kX of them. kLanes: 32-bit lanes of a group in the
// vectors of codes, 4 to 32. Units of the activations end with a whole chunk, of two where kLanes is 32.
template <class Codes, int kLanes, bool kShort, int kX>
void multiply(const RowPointers& rows, int64_t words, int64_t groups, const QmmInt8Row* x, const Edges& edges,
              Ahead ahead, float (*out)[kRows]) {
  constexpr int kPlanes = Codes::kPlanes, kChunks = kLanes == 32 ? 2 : 1,
                kGroups = kLanes < 16 ? 16 / kLanes : 1, kFetched = Codes::kFetch * kChunks * 64;
  __m512 total[kX];
  unroll<kX>([&](auto i) HWY_ATTR { total[i] = _mm512_setzero_ps(); });
  for (int64_t g = 0; edges.biases && g < groups; ++g) {
    const __m512 bias = _mm512_load_ps(edges.biases + g * kRows);
    unroll<kX>([&](auto i)
                   HWY_ATTR { total[i] = _mm512_fmadd_ps(_mm512_set1_ps(x[i].sums[g]), bias, total[i]); });
  }
  const auto add = [&](auto i, int64_t g, __m512i dot) HWY_ATTR {
    const __m512i whole = _mm512_add_epi32(dot, _mm512_set1_epi32(x[i].starts[g]));
    const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), _mm512_set1_ps(x[i].scales[g]));
    total[i] = _mm512_fmadd_ps(scaled, _mm512_load_ps(edges.scales + g * kRows), total[i]);
  };
  for (int64_t at = 0, g = 0; at < words; at += 16 * kChunks, g += kGroups) {
    __m512i sums[kX][4];
    typename Codes::Chunk chunks[kChunks];
    const int32_t* units[kX];
    for (int c = 0; c < kChunks; ++c) chunks[c] = Codes::chunk(at + 16 * c, words);
    unroll<kX>([&](auto i) HWY_ATTR { units[i] = x[i].units + at * kPlanes; });
    for (int q = 0; q < 4; ++q) {
      four_rows<Codes, kChunks, kShort, kX>(rows.at + 4 * q, chunks, units, ahead + q * kFetched, sums, q);
    }
    ahead += 4 * kFetched;
    unroll<kX>([&](auto i) HWY_ATTR {
      __m512i dots[kGroups];
      dots_of_groups<std::min(kLanes, 16)>(sums[i], dots);
      if (g + kGroups <= groups) {
        unroll<kGroups>([&](auto k) HWY_ATTR { add(i, g + k, dots[k]); });
      } else {
        for (int k = 0; g + k < groups; ++k) add(i, g + k, dots[k]);
      }
    });
  }
  unroll<kX>([&](auto i) HWY_ATTR { _mm512_storeu_ps(out[i], total[i]); });
}

// --- scales and biases of 16 bits ------------------------------------------------------------------------

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

// dst[g * 16 + r] = number g of row r as float32, for g < n rounded up to 16. kHalf: float16, else bfloat16.
// Calls tick() now and then.
template <bool kHalf, class Tick>
HWY_INLINE void widen_edges(const void* src, int64_t row0, int64_t rows, int64_t n, float* dst,
                            const Tick& tick) {
  const RowPointers from(static_cast<const uint8_t*>(src), row0, rows, n * 2);
  for (int64_t g = 0; g < n; g += 16) {
    tick();
    const auto inside = static_cast<__mmask16>((1u << std::min<int64_t>(16, n - g)) - 1);
    __m512i pairs[8];
    turn_pairs([&](auto r) HWY_ATTR { return _mm256_maskz_loadu_epi16(inside, from.at[r] + g * 2); }, pairs);
    unroll<8>([&](auto j) HWY_ATTR {
      float* to = dst + (g + 2 * j) * kRows;
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
}

}  // namespace sixteen
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET <= HWY_AVX3
#endif
