// Blocks of GGUF files as qmm_sixteen-inl.h reads them: codes of 64 elements of a row, and the scales of
// sixteen rows, a lane for a row. Per-target, for those of 16 lanes.
#if defined(LAMINA_CPU_QMM_SIXTEEN_GGUF_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_QMM_SIXTEEN_GGUF_INL_H_
#undef LAMINA_CPU_QMM_SIXTEEN_GGUF_INL_H_
#else
#define LAMINA_CPU_QMM_SIXTEEN_GGUF_INL_H_
#endif

#include <algorithm>

#include "backend/cpu/qmm_sixteen-inl.h"

#if HWY_TARGET <= HWY_AVX3
HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace sixteen {

HWY_INLINE __m512i masked(__m512i bits, int mask) {
  return _mm512_and_si512(bits, _mm512_set1_epi8(static_cast<char>(mask)));
}
// Blocks of 16 bytes.
HWY_INLINE __m512i in_halves(__m256i low, __m256i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
HWY_INLINE __m128i sixteen_at(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
HWY_INLINE __m256i thirty_two_at(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// Blocks of 32 elements: 16 bytes, kAt bytes into each, hold elements i and 16 + i.
template <int64_t kBytes, int64_t kAt>
struct NibbleBlocks {
  static constexpr int kPlanes = 1, kFetch = 3;
  static constexpr bool kNarrow = true;
  struct Chunk {
    int64_t first, second;  // bytes from the row on
    __m256i inside;         // all bits where there is a second block
  };
  static HWY_INLINE Chunk chunk(int64_t at, int64_t words) {
    const int64_t first = at / 8 * kBytes + kAt;
    const bool both = words - at > 8;
    return {first, both ? first + kBytes : first, _mm256_set1_epi32(both ? -1 : 0)};
  }
  static HWY_INLINE __m512i load(const uint8_t* row, const Chunk& c) {
    const __m256i second = _mm256_broadcastsi128_si256(sixteen_at(row + c.second));
    const __m512i pairs =
        in_halves(_mm256_broadcastsi128_si256(sixteen_at(row + c.first)), _mm256_and_si256(second, c.inside));
    return masked(_mm512_srlv_epi64(pairs, _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0)), 15);
  }
};

// q8_0: 32 signed bytes behind a scale.
struct ByteBlocks {
  static constexpr int kPlanes = 1, kFetch = 5;
  static constexpr bool kNarrow = false;
  struct Chunk {
    int64_t first;
    bool both;
  };
  static HWY_INLINE Chunk chunk(int64_t at, int64_t words) { return {at / 8 * 34 + 2, words - at > 8}; }
  static HWY_INLINE __m512i load(const uint8_t* row, const Chunk& c) {
    const uint8_t* first = row + c.first;
    const __m512i bytes = in_halves(thirty_two_at(first), thirty_two_at(c.both ? first + 34 : first));
    return _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
  }
};

// q4_k: 32 bytes for 64 elements, the first half of them below.
struct FourBitSuperblocks {
  static constexpr int kPlanes = 1, kFetch = 3;
  static constexpr bool kNarrow = true;
  using Chunk = int64_t;
  static HWY_INLINE Chunk chunk(int64_t at, int64_t) { return at / 64 * 144 + 16 + at / 16 % 4 * 32; }
  static HWY_INLINE __m512i load(const uint8_t* row, Chunk c) {
    const __m512i pairs = _mm512_broadcast_i64x4(thirty_two_at(row + c));
    return masked(_mm512_srlv_epi64(pairs, _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0)), 15);
  }
};

// q6_k: of every 128 elements, 64 bytes of four bits and 32 bytes of two.
struct SixBitSuperblocks {
  static constexpr int kPlanes = 1, kFetch = 4;
  static constexpr bool kNarrow = true;
  struct Chunk {
    int64_t low, high;
    __m128i low_shift;
    __m512i high_shift;
  };
  static HWY_INLINE Chunk chunk(int64_t at, int64_t) {
    const int64_t block = at / 64 * 210, half = at / 32 % 2, part = at / 16 % 2;
    const __m512i shifts =
        part ? _mm512_set_epi64(6, 6, 6, 6, 4, 4, 4, 4) : _mm512_set_epi64(2, 2, 2, 2, 0, 0, 0, 0);
    return {block + half * 64, block + 128 + half * 32, _mm_cvtsi64_si128(4 * part), shifts};
  }
  static HWY_INLINE __m512i load(const uint8_t* row, const Chunk& c) {
    const __m512i low = masked(_mm512_srl_epi64(_mm512_loadu_si512(row + c.low), c.low_shift), 15);
    const __m512i pairs = _mm512_broadcast_i64x4(thirty_two_at(row + c.high));
    const __m512i high = masked(_mm512_srlv_epi64(pairs, c.high_shift), 3);
    return _mm512_or_si512(low, _mm512_slli_epi16(high, 4));
  }
};

// --- scales ----------------------------------------------------------------------------------------------

// A 32-bit word of each of sixteen rows.
class WordsOfRows {
 public:
  WordsOfRows(const QmmWeights& w, int64_t row0)
      : base_(w.codes + std::min(row0, w.rows - 1) * w.code_row_bytes) {
    alignas(64) int32_t at[kRows];
    for (int64_t r = 0; r < kRows; ++r) {
      at[r] = static_cast<int32_t>(std::min(r, w.rows - 1 - row0) * w.code_row_bytes);
    }
    at_ = _mm512_load_si512(at);
  }
  HWY_INLINE __m512i at(int64_t byte) const { return _mm512_i32gather_epi32(at_, base_ + byte, 1); }

 private:
  const uint8_t* base_;
  __m512i at_;
};

// The float16 in the lower half of each word.
HWY_INLINE __m512 low_halves(__m512i words) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); }
HWY_INLINE __m512 high_halves(__m512i words) { return low_halves(_mm512_srli_epi32(words, 16)); }

// dst[i * 16 + r] = factor * byte i of each word, for i < 4.
template <bool kSigned>
HWY_INLINE void put_bytes(__m512 factor, __m512i words, float* dst) {
  unroll<4>([&](auto i) HWY_ATTR {
    const __m512i up = _mm512_slli_epi32(words, 24 - 8 * static_cast<int>(i));
    const __m512i byte = kSigned ? _mm512_srai_epi32(up, 24) : _mm512_srli_epi32(up, 24);
    _mm512_store_ps(dst + i * kRows, _mm512_mul_ps(factor, _mm512_cvtepi32_ps(byte)));
  });
}

HWY_INLINE __m512i six_bits(__m512i low, __m512i high, int shift) {
  const __m512i two = masked(_mm512_srl_epi32(high, _mm_cvtsi32_si128(shift)), 3);
  return _mm512_or_si512(masked(low, 15), _mm512_slli_epi32(two, 4));
}

HWY_INLINE void edges_q4_k(const WordsOfRows& rows, int64_t block, float* scales, float* biases) {
  const __m512i units = rows.at(block), first = rows.at(block + 4), second = rows.at(block + 8),
                third = rows.at(block + 12);
  const __m512 scale = low_halves(units);
  const __m512 minimum = _mm512_xor_ps(high_halves(units), _mm512_set1_ps(-0.0f));
  put_bytes<false>(scale, masked(first, 63), scales);
  put_bytes<false>(scale, six_bits(third, first, 6), scales + 4 * kRows);
  put_bytes<false>(minimum, masked(second, 63), biases);
  put_bytes<false>(minimum, six_bits(_mm512_srli_epi32(third, 4), second, 6), biases + 4 * kRows);
}

// Scales and biases of sixteen rows at [group][row]. False for formats that it does not have.
inline bool block_edges(const QmmWeights& w, int64_t row0, float* scales, float* biases) {
  const WordsOfRows rows(w, row0);
  switch (w.format) {
    case QuantFormat::kQ4_0:
    case QuantFormat::kQ8_0: {
      const int64_t bytes = w.format == QuantFormat::kQ4_0 ? 18 : 34;
      for (int64_t b = 0; b < w.cols / 32; ++b) {
        _mm512_store_ps(scales + b * kRows, low_halves(rows.at(b * bytes)));
      }
      return true;
    }
    case QuantFormat::kQ4_1:
      for (int64_t b = 0; b < w.cols / 32; ++b) {
        const __m512i words = rows.at(b * 20);
        _mm512_store_ps(scales + b * kRows, low_halves(words));
        _mm512_store_ps(biases + b * kRows, high_halves(words));
      }
      return true;
    case QuantFormat::kQ4K:
      for (int64_t b = 0; b < w.cols / 256; ++b) {
        edges_q4_k(rows, b * 144, scales + 8 * b * kRows, biases + 8 * b * kRows);
      }
      return true;
    case QuantFormat::kQ6K:
      for (int64_t b = 0; b < w.cols / 256; ++b) {
        // The scale is the last thing of a block: read from two bytes before.
        const __m512 scale = high_halves(rows.at(b * 210 + 206));
        for (int64_t i = 0; i < 4; ++i) {
          put_bytes<true>(scale, rows.at(b * 210 + 192 + 4 * i), scales + (16 * b + 4 * i) * kRows);
        }
      }
      return true;
    default: return false;
  }
}

}  // namespace sixteen
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET <= HWY_AVX3
#endif
