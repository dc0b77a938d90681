// Blocks of GGUF files as qmm_row_lanes-inl.h reads them: codes of a chunk of a row, and the scales of rows,
// a lane for a row. Per-target, not for the emulated baseline.
#if defined(LAMINA_CPU_QMM_ROW_LANES_GGUF_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_QMM_ROW_LANES_GGUF_INL_H_
#undef LAMINA_CPU_QMM_ROW_LANES_GGUF_INL_H_
#else
#define LAMINA_CPU_QMM_ROW_LANES_GGUF_INL_H_
#endif

#include <algorithm>

#include "backend/cpu/qmm_row_lanes-inl.h"

#if LAMINA_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace row_lanes {

HWY_INLINE __m128i sixteen_at(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
HWY_INLINE __m256i thirty_two_at(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// A chunk of two blocks of kOfBlock bytes and kWords words of codes, kAt bytes into them.
struct TwoBlocks {
  int64_t first, second;  // bytes from the row on
  __m256i inside;         // all bits where there is a second block
};
template <int64_t kOfBlock, int64_t kAt, int64_t kWords>
struct ChunksOfTwo {
  using Chunk = TwoBlocks;
  static HWY_INLINE Chunk chunk(int64_t at, int64_t words) {
    const int64_t first = at / kWords * kOfBlock + kAt;
    const bool both = words - at > kWords;
    return {first, both ? first + kOfBlock : first, _mm256_set1_epi32(both ? -1 : 0)};
  }
};

#if HWY_TARGET <= HWY_AVX3
HWY_INLINE __m512i masked(__m512i bits, int mask) {
  return _mm512_and_si512(bits, _mm512_set1_epi8(static_cast<char>(mask)));
}
// Blocks of 16 bytes.
HWY_INLINE __m512i in_halves(__m256i low, __m256i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
// Blocks of 32 elements: 16 bytes, kAt bytes into each, hold elements i and 16 + i.
template <int64_t kOfBlock, int64_t kAt>
struct NibbleBlocks : ChunksOfTwo<kOfBlock, kAt, 8> {
  static constexpr int kPlanes = 1, kBytes = 2 * kOfBlock, kLanes = 8;
  static constexpr bool kNarrow = true;
  static HWY_INLINE VI load(const uint8_t* row, const TwoBlocks& c) {
    const __m256i second = _mm256_broadcastsi128_si256(sixteen_at(row + c.second));
    const __m512i pairs =
        in_halves(_mm256_broadcastsi128_si256(sixteen_at(row + c.first)), _mm256_and_si256(second, c.inside));
    return VI{masked(_mm512_srlv_epi64(pairs, _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0)), 15)};
  }
};

// q8_0: 32 signed bytes behind a scale.
struct ByteBlocks {
  static constexpr int kPlanes = 1, kBytes = 68;
  static constexpr bool kNarrow = false;
  struct Chunk {
    int64_t first;
    bool both;
  };
  static HWY_INLINE Chunk chunk(int64_t at, int64_t words) { return {at / 8 * 34 + 2, words - at > 8}; }
  static HWY_INLINE VI load(const uint8_t* row, const Chunk& c) {
    const uint8_t* first = row + c.first;
    const __m512i bytes = in_halves(thirty_two_at(first), thirty_two_at(c.both ? first + 34 : first));
    return VI{_mm512_xor_si512(bytes, _mm512_set1_epi8(-128))};
  }
};

// q4_k: 32 bytes for 64 elements, the first half of them below.
struct FourBitSuperblocks {
  static constexpr int kPlanes = 1, kBytes = 36;
  static constexpr bool kNarrow = true;
  using Chunk = int64_t;
  static HWY_INLINE Chunk chunk(int64_t at, int64_t) { return at / 64 * 144 + 16 + at / 16 % 4 * 32; }
  static HWY_INLINE VI load(const uint8_t* row, Chunk c) {
    const __m512i pairs = _mm512_broadcast_i64x4(thirty_two_at(row + c));
    return VI{masked(_mm512_srlv_epi64(pairs, _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0)), 15)};
  }
};

// q6_k: of every 128 elements, 64 bytes of four bits and 32 bytes of two.
struct SixBitSuperblocks {
  static constexpr int kPlanes = 1, kBytes = 53;
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
  static HWY_INLINE VI load(const uint8_t* row, const Chunk& c) {
    const __m512i low = masked(_mm512_srl_epi64(_mm512_loadu_si512(row + c.low), c.low_shift), 15);
    const __m512i pairs = _mm512_broadcast_i64x4(thirty_two_at(row + c.high));
    const __m512i high = masked(_mm512_srlv_epi64(pairs, c.high_shift), 3);
    return VI{_mm512_or_si512(low, _mm512_slli_epi16(high, 4))};
  }
};
#else
HWY_INLINE __m256i masked(__m256i bits, int mask) {
  return _mm256_and_si256(bits, _mm256_set1_epi8(static_cast<char>(mask)));
}

// Blocks of 32 elements: 16 bytes, kAt bytes into each, hold elements i and 16 + i, which are two planes.
template <int64_t kOfBlock, int64_t kAt>
struct NibbleBlocks : ChunksOfTwo<kOfBlock, kAt, 4> {
  static constexpr int kPlanes = 2, kBytes = 2 * kOfBlock, kLanes = 4;
  static constexpr bool kNarrow = true;
  static HWY_INLINE VI load(const uint8_t* row, const TwoBlocks& c) {
    const __m128i second = _mm_and_si128(sixteen_at(row + c.second), _mm256_castsi256_si128(c.inside));
    return VI{_mm256_inserti128_si256(_mm256_castsi128_si256(sixteen_at(row + c.first)), second, 1)};
  }
};

// q8_0: 32 signed bytes behind a scale.
struct ByteBlocks {
  static constexpr int kPlanes = 1, kBytes = 34;
  static constexpr bool kNarrow = false;
  using Chunk = int64_t;
  static HWY_INLINE Chunk chunk(int64_t at, int64_t) { return at / 8 * 34 + 2; }
  static HWY_INLINE VI load(const uint8_t* row, Chunk c) {
    return VI{_mm256_xor_si256(thirty_two_at(row + c), _mm256_set1_epi8(-128))};
  }
};

// q4_k: 32 bytes for 64 elements, the first half of them below.
struct FourBitSuperblocks {
  static constexpr int kPlanes = 1, kBytes = 18;
  static constexpr bool kNarrow = true;
  struct Chunk {
    int64_t byte;
    __m128i shift;
  };
  static HWY_INLINE Chunk chunk(int64_t at, int64_t) {
    return {at / 64 * 144 + 16 + at / 16 % 4 * 32, _mm_cvtsi64_si128(at / 8 % 2 * 4)};
  }
  static HWY_INLINE VI load(const uint8_t* row, const Chunk& c) {
    return VI{masked(_mm256_srl_epi64(thirty_two_at(row + c.byte), c.shift), 15)};
  }
};

// q6_k: of every 128 elements, 64 bytes of four bits and 32 bytes of two.
struct SixBitSuperblocks {
  static constexpr int kPlanes = 1, kBytes = 27;
  static constexpr bool kNarrow = true;
  struct Chunk {
    int64_t low, high;
    __m128i low_shift, high_shift;
  };
  static HWY_INLINE Chunk chunk(int64_t at, int64_t) {
    const int64_t block = at / 64 * 210, half = at / 32 % 2, part = at / 8 % 4;
    return {block + half * 64 + part % 2 * 32, block + 128 + half * 32, _mm_cvtsi64_si128(part / 2 * 4),
            _mm_cvtsi64_si128(part * 2)};
  }
  static HWY_INLINE VI load(const uint8_t* row, const Chunk& c) {
    const __m256i low = masked(_mm256_srl_epi64(thirty_two_at(row + c.low), c.low_shift), 15);
    const __m256i high = masked(_mm256_srl_epi64(thirty_two_at(row + c.high), c.high_shift), 3);
    return VI{_mm256_or_si256(low, _mm256_slli_epi16(high, 4))};
  }
};
#endif

// --- scales ----------------------------------------------------------------------------------------------

// The float16 in the lower half of each word.
HWY_INLINE V low_halves(VI words) {
#if HWY_TARGET <= HWY_AVX3
  return V{_mm512_cvtph_ps(_mm512_cvtepi32_epi16(words.raw))};
#else
  const __m256i low = _mm256_and_si256(words.raw, _mm256_set1_epi32(0xffff));
  return V{_mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)))};
#endif
}

// A 32-bit word of each row.
class WordsOfRows {
 public:
#if HWY_TARGET <= HWY_AVX3
  WordsOfRows(const QmmWeights& w, LaneRows lanes)
      : base_(w.codes + std::min(lanes.first, w.rows - 1) * w.code_row_bytes) {
    static_assert(!kMayStream);  // the rows lie near enough for offsets of 32 bits
    alignas(64) int32_t at[kRows];
    for (int64_t r = 0; r < kRows; ++r) {
      at[r] = static_cast<int32_t>(std::min(r, w.rows - 1 - lanes.first) * w.code_row_bytes);
    }
    at_ = _mm512_load_si512(at);
  }
  HWY_INLINE VI at(int64_t byte) const { return VI{_mm512_i32gather_epi32(at_, base_ + byte, 1)}; }
  // A float16 of each row.
  HWY_INLINE V half_at(int64_t byte) const { return low_halves(at(byte)); }

 private:
  const uint8_t* base_;
  __m512i at_;
#else
  // A gather of eight lanes takes longer than eight loads.
  WordsOfRows(const QmmWeights& w, LaneRows lanes) : rows_(w.codes, lanes, w.rows, w.code_row_bytes) {}
  // A float16 of each row.
  HWY_INLINE V half_at(int64_t byte) const {
    const auto bits = [&](int r) HWY_ATTR {
      int16_t half;
      std::memcpy(&half, rows_.at[r] + byte, 2);
      return half;
    };
    return V{_mm256_cvtph_ps(
        _mm_setr_epi16(bits(0), bits(1), bits(2), bits(3), bits(4), bits(5), bits(6), bits(7)))};
  }
  HWY_INLINE VI at(int64_t byte) const {
    const auto word = [&](int r) HWY_ATTR {
      int32_t bits;
      std::memcpy(&bits, rows_.at[r] + byte, 4);
      return bits;
    };
    return VI{_mm256_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7))};
  }

 private:
  RowPointers rows_;
#endif
};

HWY_INLINE VI shifted_down(VI words, int bits) {
  const D32 d32;
  return hn::BitCast(DI(), hn::ShiftRightSame(hn::BitCast(d32, words), bits));
}
HWY_INLINE V high_halves(VI words) { return low_halves(shifted_down(words, 16)); }
HWY_INLINE VI masked_words(VI words, int mask) {
  return hn::And(words, hn::Set(DI(), static_cast<int32_t>(0x01010101 * mask)));
}

// dst[i * kRows + r] = factor * byte i of each word, for i < 4.
template <bool kSigned>
HWY_INLINE void put_bytes(V factor, VI words, float* dst) {
  unroll<4>([&](auto i) HWY_ATTR {
    const VI up = hn::ShiftLeft<24 - 8 * static_cast<int>(i)>(words);
    const VI byte = kSigned ? hn::ShiftRight<24>(up) : shifted_down(up, 24);
    hn::Store(hn::Mul(factor, hn::ConvertTo(D(), byte)), D(), dst + i * kRows);
  });
}

HWY_INLINE VI six_bits(VI low, VI high, int shift) {
  return hn::Or(masked_words(low, 15), hn::ShiftLeft<4>(masked_words(shifted_down(high, shift), 3)));
}

HWY_INLINE void edges_q4_k(const WordsOfRows& rows, int64_t block, float* scales, float* biases) {
  const VI units = rows.at(block), first = rows.at(block + 4), second = rows.at(block + 8),
           third = rows.at(block + 12);
  const V scale = low_halves(units), minimum = hn::Neg(high_halves(units));
  put_bytes<false>(scale, masked_words(first, 63), scales);
  put_bytes<false>(scale, six_bits(third, first, 6), scales + 4 * kRows);
  put_bytes<false>(minimum, masked_words(second, 63), biases);
  put_bytes<false>(minimum, six_bits(shifted_down(third, 4), second, 6), biases + 4 * kRows);
}

// Scales and biases of the lanes' rows at [group][lane]. False for formats that it does not have.
inline bool block_edges(const QmmWeights& w, LaneRows lanes, float* scales, float* biases) {
  const WordsOfRows rows(w, lanes);
  const D d;
  switch (w.format) {
    case QuantFormat::kQ4_0:
    case QuantFormat::kQ8_0: {
      const int64_t bytes = w.format == QuantFormat::kQ4_0 ? 18 : 34;
      for (int64_t b = 0; b < w.cols / 32; ++b) { hn::Store(rows.half_at(b * bytes), d, scales + b * kRows); }
      return true;
    }
    case QuantFormat::kQ4_1:
      for (int64_t b = 0; b < w.cols / 32; ++b) {
        const VI words = rows.at(b * 20);
        hn::Store(low_halves(words), d, scales + b * kRows);
        hn::Store(high_halves(words), d, biases + b * kRows);
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
        const V scale = high_halves(rows.at(b * 210 + 206));
        for (int64_t i = 0; i < 4; ++i) {
          put_bytes<true>(scale, rows.at(b * 210 + 192 + 4 * i), scales + (16 * b + 4 * i) * kRows);
        }
      }
      return true;
    default: return false;
  }
}

}  // namespace row_lanes
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // LAMINA_SIMD_TARGET
#endif
