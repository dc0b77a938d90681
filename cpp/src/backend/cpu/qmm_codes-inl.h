// The codes of quantized weights as bytes in their order (quant/formats.h: IntegerForm), and the scales and
// biases of their groups, to the bits of the formats' own readers. Per-target; not for the emulated baseline.
#if defined(LAMINA_CPU_QMM_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_QMM_CODES_INL_H_
#undef LAMINA_CPU_QMM_CODES_INL_H_
#else
#define LAMINA_CPU_QMM_CODES_INL_H_
#endif

#include <hwy/highway.h>
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/cpu/qmm_decode-inl.h"
#include "backend/cpu/qmm_gguf-inl.h"
#include "backend/cpu/targets.h"
#include "quant/fp_blocks.h"
#include "quant/gguf_blocks.h"

#if LAMINA_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace codes {

using D16 = hn::FixedTag<uint8_t, 16>;
using D32B = hn::FixedTag<uint8_t, 32>;

template <int kShift, class DB>
HWY_INLINE hn::Vec<DB> field(DB d, hn::Vec<DB> bytes, int mask) {
  const hn::Repartition<uint16_t, DB> wide;
  const auto moved = hn::BitCast(d, hn::ShiftRight<kShift>(hn::BitCast(wide, bytes)));
  return hn::And(moved, hn::Set(d, static_cast<uint8_t>(mask)));
}
template <int kShift, class DB>
HWY_INLINE hn::Vec<DB> moved_up(DB d, hn::Vec<DB> bits) {
  const hn::Repartition<uint16_t, DB> wide;
  return hn::BitCast(d, hn::ShiftLeft<kShift>(hn::BitCast(wide, bits)));
}

// Affine codes are read by the run: n of them, a multiple of 32 (4 bits: of 16).
//
// A byte of two codes becomes two bytes, lane by lane.
template <class DW>
HWY_INLINE void spread_nibbles(DW d, const uint8_t* src, uint8_t* dst) {
  const hn::Rebind<uint8_t, DW> d8;
  const auto pair = hn::PromoteTo(d, hn::LoadU(d8, src));
  const auto both = hn::And(hn::Or(pair, hn::ShiftLeft<4>(pair)), hn::Set(d, uint16_t{0x0f0f}));
  hn::StoreU(both, d, reinterpret_cast<uint16_t*>(dst));
}
inline void spread_affine_4(const uint8_t* src, int64_t n, uint8_t* dst) {
  const hn::ScalableTag<uint16_t> d;
  constexpr size_t kLanes = hn::MaxLanes(d);
  const uint8_t* end = src + static_cast<size_t>(n) / 2;
  for (; src + 4 * kLanes <= end; src += 4 * kLanes, dst += 8 * kLanes) {
    unroll<4>([&](auto i) HWY_ATTR { spread_nibbles(d, src + i * kLanes, dst + i * 2 * kLanes); });
  }
  for (; src + 16 <= end; src += 16, dst += 32) spread_nibbles(hn::FixedTag<uint16_t, 16>(), src, dst);
  if (src < end) spread_nibbles(hn::FixedTag<uint16_t, 8>(), src, dst);
}

#if HWY_TARGET == HWY_AVX3_DL
// 64 codes at a time: every 8 codes' bytes go to a 64-bit lane, and eight windows of it are the codes.
template <int kBits>
struct Spread {
  alignas(64) uint8_t bytes[64], windows[64];
  constexpr Spread() : bytes(), windows() {
    for (int i = 0; i < 64; ++i) {
      bytes[i] = static_cast<uint8_t>(i / 8 * kBits + std::min(i % 8, kBits - 1));
      windows[i] = static_cast<uint8_t>(i % 8 * kBits);
    }
  }
};
template <int kBits>
void spread_affine(const uint8_t* src, int64_t n, uint8_t* dst) {
  static constexpr Spread<kBits> kSpread;
  const __m512i bytes = _mm512_load_si512(kSpread.bytes), windows = _mm512_load_si512(kSpread.windows);
  const __m512i mask = _mm512_set1_epi8((1 << kBits) - 1);
  const auto spread = [&](__m512i in) HWY_ATTR {
    return _mm512_and_si512(_mm512_multishift_epi64_epi8(windows, _mm512_permutexvar_epi8(bytes, in)), mask);
  };
  constexpr __mmask64 kSource = (uint64_t{1} << 8 * kBits) - 1;
  for (; n >= 64; n -= 64, src += 8 * kBits, dst += 64) {
    _mm512_storeu_si512(dst, spread(_mm512_maskz_loadu_epi8(kSource, src)));
  }
  if (n > 0) {
    const __m512i rest = spread(_mm512_maskz_loadu_epi8(kSource & ((uint64_t{1} << 4 * kBits) - 1), src));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm512_castsi512_si256(rest));
  }
}
#else
// Sixteen codes at a time, in 16-bit lanes: each takes the two bytes that hold its code, and a product moves
// the code to the top.
template <int kBits>
struct Spread {
  alignas(32) uint8_t bytes[32];
  alignas(32) uint16_t factors[16];
  constexpr Spread() : bytes(), factors() {
    for (int i = 0; i < 16; ++i) {
      bytes[2 * i] = static_cast<uint8_t>(i * kBits / 8);
      bytes[2 * i + 1] = static_cast<uint8_t>(bytes[2 * i] + 1);
      factors[i] = static_cast<uint16_t>(1 << (16 - kBits - i * kBits % 8));
    }
  }
};
template <int kBits>
HWY_INLINE __m256i spread_sixteen(const uint8_t* src) {
  static constexpr Spread<kBits> kSpread;
  const __m256i bytes = _mm256_load_si256(reinterpret_cast<const __m256i*>(kSpread.bytes));
  const __m256i factors = _mm256_load_si256(reinterpret_cast<const __m256i*>(kSpread.factors));
  const __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src)));
  return _mm256_srli_epi16(_mm256_mullo_epi16(_mm256_shuffle_epi8(all, bytes), factors), 16 - kBits);
}
template <int kBits>
HWY_INLINE void spread_thirty_two(const uint8_t* src, uint8_t* dst) {
  const __m256i both =
      _mm256_packus_epi16(spread_sixteen<kBits>(src), spread_sixteen<kBits>(src + 2 * kBits));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm256_permute4x64_epi64(both, 0xd8));
}
template <int kBits>
void spread_affine(const uint8_t* src, int64_t n, uint8_t* dst) {
  // A load takes 16 bytes: more than the last codes have.
  for (; n > 64; n -= 32, src += 4 * kBits, dst += 32) spread_thirty_two<kBits>(src, dst);
  HWY_ALIGN uint8_t last[8 * kBits + 16] = {};
  std::memcpy(last, src, static_cast<size_t>(n) * kBits / 8);
  for (int64_t i = 0; i < n; i += 32) spread_thirty_two<kBits>(last + i / 8 * kBits, dst + i);
}
#endif

inline void widen_affine(int bits, const uint8_t* row, int64_t first, int64_t n, uint8_t* dst) {
  const uint8_t* src = row + first * bits / 8;
  switch (bits) {
    case 1: return spread_affine<1>(src, n, dst);
    case 2: return spread_affine<2>(src, n, dst);
    case 3: return spread_affine<3>(src, n, dst);
    case 4: return spread_affine_4(src, n, dst);
    case 5: return spread_affine<5>(src, n, dst);
    case 6: return spread_affine<6>(src, n, dst);
    default: std::memcpy(dst, src, static_cast<size_t>(n));
  }
}

// The codes of one block of each of GGUF's formats, at dst[0, elements). Those that are handed on as
// functions are not forced inline, which GCC refuses under sanitizers.
HWY_INLINE void nibbles_of_16(const uint8_t* q, uint8_t* dst) {
  const D16 d;
  const auto bytes = hn::LoadU(d, q);
  hn::StoreU(field<0>(d, bytes, 15), d, dst);
  hn::StoreU(field<4>(d, bytes, 15), d, dst + 16);
}

HWY_INLINE void fifth_bits_of_16(const uint8_t* bits, uint8_t* dst) {
  const D16 d;
  const auto fifth = hn::IfThenElseZero(hn::LoadMaskBits(d, bits), hn::Set(d, uint8_t{16}));
  hn::StoreU(hn::Or(hn::LoadU(d, dst), fifth), d, dst);
}
HWY_INLINE void five_bits_of_32(const uint8_t* fifth, const uint8_t* q, uint8_t* dst) {
  // The mask's loader may look at eight bytes.
  HWY_ALIGN uint8_t bits[16] = {fifth[0], fifth[1], fifth[2], fifth[3]};
  nibbles_of_16(q, dst);
  fifth_bits_of_16(bits, dst);
  fifth_bits_of_16(bits + 2, dst + 16);
}

HWY_INLINE void bytes_of_32(const uint8_t* q, uint8_t* dst) {
  const D32B d;
  hn::StoreU(hn::Xor(hn::LoadU(d, q), hn::Set(d, uint8_t{128})), d, dst);
}

template <class Finish>
HWY_INLINE void two_bits_of_256(const uint8_t* q, uint8_t* dst, const Finish& finish) {
  const D32B d;
  unroll<2>([&](auto half) HWY_ATTR {
    const auto bytes = hn::LoadU(d, q + half * 32);
    unroll<4>([&](auto part) HWY_ATTR {
      constexpr int kPart = static_cast<int>(half) * 4 + static_cast<int>(part);
      const auto low = field<2 * static_cast<int>(part)>(d, bytes, 3);
      hn::StoreU(finish(std::integral_constant<int, kPart>(), low), d, dst + kPart * 32);
    });
  });
}

inline void codes_q2_k(const uint8_t* b, uint8_t* dst) {
  two_bits_of_256(b + 16, dst, [](auto, auto low) HWY_ATTR { return low; });
}
inline void codes_q3_k(const uint8_t* b, uint8_t* dst) {
  const D32B d;
  const auto third = hn::LoadU(d, b);
  two_bits_of_256(b + 32, dst, [&](auto part, auto low) HWY_ATTR {
    return hn::Or(low, moved_up<2>(d, field<part()>(d, third, 1)));
  });
}

inline void codes_q4_k(const uint8_t* b, uint8_t* dst) {
  const D32B d;
  for (int i = 0; i < 4; ++i) {
    const auto bytes = hn::LoadU(d, b + 16 + i * 32);
    hn::StoreU(field<0>(d, bytes, 15), d, dst + i * 64);
    hn::StoreU(field<4>(d, bytes, 15), d, dst + i * 64 + 32);
  }
}

inline void codes_q5_k(const uint8_t* b, uint8_t* dst) {
  const D32B d;
  const auto fifth = hn::LoadU(d, b + 16);
  unroll<4>([&](auto i) HWY_ATTR {
    constexpr int kBit = 2 * static_cast<int>(i);
    const auto bytes = hn::LoadU(d, b + 48 + i * 32);
    const auto low = moved_up<4>(d, field<kBit>(d, fifth, 1));
    const auto high = moved_up<4>(d, field<kBit + 1>(d, fifth, 1));
    hn::StoreU(hn::Or(field<0>(d, bytes, 15), low), d, dst + i * 64);
    hn::StoreU(hn::Or(field<4>(d, bytes, 15), high), d, dst + i * 64 + 32);
  });
}

inline void codes_q6_k(const uint8_t* b, uint8_t* dst) {
  const D32B d;
  for (int half = 0; half < 2; ++half) {
    const auto first = hn::LoadU(d, b + half * 64), second = hn::LoadU(d, b + half * 64 + 32);
    const auto high = hn::LoadU(d, b + 128 + half * 32);
    const auto put = [&](auto low, auto upper, int at) HWY_ATTR {
      hn::StoreU(hn::Or(low, moved_up<4>(d, upper)), d, dst + half * 128 + at);
    };
    put(field<0>(d, first, 15), field<0>(d, high, 3), 0);
    put(field<0>(d, second, 15), field<2>(d, high, 3), 32);
    put(field<4>(d, first, 15), field<4>(d, high, 3), 64);
    put(field<4>(d, second, 15), field<6>(d, high, 3), 96);
  }
}

// Bytes by nibble.
HWY_INLINE void look_up(hn::Vec<D16> table, int64_t n, uint8_t* dst) {
  const D16 d;
  for (int64_t i = 0; i < n; i += 16) {
    hn::StoreU(hn::TableLookupBytes(table, hn::LoadU(d, dst + i)), d, dst + i);
  }
}
HWY_INLINE hn::Vec<D16> iq4_table() {
  const D16 d;
  const auto values = hn::LoadU(d, reinterpret_cast<const uint8_t*>(kIq4Values.data()));
  return hn::Xor(values, hn::Set(d, uint8_t{128}));
}
HWY_INLINE hn::Vec<D16> twice_e2m1_table() {
  const D16 d;
  HWY_ALIGN uint8_t values[16];
  for (int i = 0; i < 16; ++i) values[i] = static_cast<uint8_t>(2 * kE2m1[i] + kE2m1Offset);
  return hn::Load(d, values);
}

inline void codes_iq4_xs(const uint8_t* b, uint8_t* dst) {
  for (int i = 0; i < 8; ++i) nibbles_of_16(b + 8 + i * 16, dst + i * 32);
  look_up(iq4_table(), 256, dst);
}

// Elements [first, first + n) of a row, in whole blocks of the format.
template <class Read>
HWY_INLINE void each_block(const uint8_t* row, int64_t first, int64_t n, int64_t block, int64_t bytes,
                           uint8_t* dst, const Read& read) {
  for (int64_t i = 0; i < n; i += block) read(row + (first + i) / block * bytes, dst + i);
}

inline void widen_blocks(QuantFormat format, const uint8_t* row, int64_t first, int64_t n, uint8_t* dst) {
  const auto each = [&](int64_t block, int64_t bytes, auto read)
                        HWY_ATTR { each_block(row, first, n, block, bytes, dst, read); };
  const auto nibbles = [&](int64_t bytes, int at) HWY_ATTR {
    each(32, bytes, [at](const uint8_t* b, uint8_t* out) HWY_ATTR { nibbles_of_16(b + at, out); });
  };
  const auto fives = [&](int64_t bytes, int at) HWY_ATTR {
    each(32, bytes,
         [at](const uint8_t* b, uint8_t* out) HWY_ATTR { five_bits_of_32(b + at, b + at + 4, out); });
  };
  switch (format) {
    case QuantFormat::kMxfp4:
    case QuantFormat::kNvfp4:
      spread_affine_4(row + first / 2, n, dst);
      return look_up(twice_e2m1_table(), n, dst);
    case QuantFormat::kQ4_0: return nibbles(18, 2);
    case QuantFormat::kQ4_1: return nibbles(20, 4);
    case QuantFormat::kQ5_0: return fives(22, 2);
    case QuantFormat::kQ5_1: return fives(24, 4);
    case QuantFormat::kQ8_0:
      return each(32, 34, [](const uint8_t* b, uint8_t* out) HWY_ATTR { bytes_of_32(b + 2, out); });
    case QuantFormat::kQ2K: return each(256, 84, codes_q2_k);
    case QuantFormat::kQ3K: return each(256, 110, codes_q3_k);
    case QuantFormat::kQ4K: return each(256, 144, codes_q4_k);
    case QuantFormat::kQ5K: return each(256, 176, codes_q5_k);
    case QuantFormat::kQ6K: return each(256, 210, codes_q6_k);
    case QuantFormat::kIq4Nl: nibbles(18, 2); return look_up(iq4_table(), n, dst);
    default: return each(256, 136, codes_iq4_xs);
  }
}

// dst[0, n) = factor * the integers at src.
template <class T>
HWY_INLINE void put_scales(float factor, const T* src, int64_t n, float* dst) {
  const hn::Rebind<T, D> narrow;
  const hn::Rebind<int32_t, D> wide;
  for (int64_t i = 0; i < n; i += lane_count()) {
    const V value = hn::ConvertTo(D(), hn::PromoteTo(wide, hn::LoadU(narrow, src + i)));
    hn::StoreU(hn::Mul(hn::Set(D(), factor), value), D(), dst + i);
  }
}

HWY_INLINE uint32_t word_at(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, 4);
  return word;
}

HWY_INLINE void edges_q2_k(const uint8_t* b, float* scales, float* biases) {
  const D16 d;
  HWY_ALIGN uint8_t parts[32];
  const auto bytes = hn::LoadU(d, b);
  hn::Store(field<0>(d, bytes, 15), d, parts);
  hn::Store(field<4>(d, bytes, 15), d, parts + 16);
  put_scales(gguf::half_at(b + 80), parts, 16, scales);
  put_scales(-gguf::half_at(b + 82), parts + 16, 16, biases);
}

// The packings of 6-bit scales as in q3_k_scale and q4_k_scale, four bytes at a time.
constexpr uint32_t kLow4 = 0x0f0f0f0f, kLow2 = 0x03030303, kLow6 = 0x3f3f3f3f;

HWY_INLINE void edges_q3_k(const uint8_t* b, float* scales) {
  const uint32_t first = word_at(b + 96), second = word_at(b + 100), high = word_at(b + 104);
  const uint32_t words[4] = {
      (first & kLow4) | (high & kLow2) << 4, (second & kLow4) | (high >> 2 & kLow2) << 4,
      (first >> 4 & kLow4) | (high >> 4 & kLow2) << 4, (second >> 4 & kLow4) | (high >> 6 & kLow2) << 4};
  const D16 d;
  HWY_ALIGN int8_t parts[16];
  const auto centred =
      hn::Sub(hn::LoadU(d, reinterpret_cast<const uint8_t*>(words)), hn::Set(d, uint8_t{32}));
  hn::Store(centred, d, reinterpret_cast<uint8_t*>(parts));
  put_scales(gguf::half_at(b + 108), parts, 16, scales);
}

HWY_INLINE void edges_q4_k(const uint8_t* b, float* scales, float* biases) {
  const uint32_t first = word_at(b + 4), second = word_at(b + 8), third = word_at(b + 12);
  const uint32_t words[4] = {first & kLow6, (third & kLow4) | (first >> 6 & kLow2) << 4, second & kLow6,
                             (third >> 4 & kLow4) | (second >> 6 & kLow2) << 4};
  const auto* parts = reinterpret_cast<const uint8_t*>(words);
  // Eight at a time, whatever a vector holds.
  const hn::CappedTag<float, 8> d;
  const hn::Rebind<int32_t, decltype(d)> wide;
  const hn::Rebind<uint8_t, decltype(d)> narrow;
  const auto put = [&](float factor, const uint8_t* src, float* dst) HWY_ATTR {
    const auto value = hn::ConvertTo(d, hn::PromoteTo(wide, hn::LoadU(narrow, src)));
    hn::StoreU(hn::Mul(hn::Set(d, factor), value), d, dst);
  };
  put(gguf::half_at(b), parts, scales);
  put(-gguf::half_at(b + 2), parts + 8, biases);
}

HWY_INLINE void edges_iq4_xs(const uint8_t* b, float* scales) {
  const float d = gguf::half_at(b);
  for (int i = 0; i < 8; ++i) scales[i] = d * static_cast<float>(iq4_xs_scale(b, i) - 32);
}

// The float16 at place `at` of every block of `bytes` bytes.
inline void halves_of(const uint8_t* row, int64_t blocks, int64_t bytes, int64_t at, float* dst) {
  constexpr int64_t kRun = 64;
  HWY_ALIGN float16_t run[kRun];
  for (int64_t first = 0; first < blocks; first += kRun) {
    const int64_t n = std::min(kRun, blocks - first);
    for (int64_t i = 0; i < n; ++i) std::memcpy(&run[i].bits, row + (first + i) * bytes + at, 2);
    int64_t i = 0;
    for (; i + lane_count() <= n; i += lane_count()) hn::StoreU(load_as(D(), run + i), D(), dst + first + i);
    for (; i < n; ++i) dst[first + i] = static_cast<float>(run[i]);
  }
}

// Scales, and biases of biased formats, of all groups of one row of a block format.
inline void edges_of_blocks(const QmmWeights& w, int64_t row, float* scales, float* biases) {
  const uint8_t* codes = w.codes + row * w.code_row_bytes;
  const int64_t blocks = w.groups();
  const auto each = [&](int64_t bytes, auto read) HWY_ATTR {
    for (int64_t i = 0; i < blocks; ++i) read(codes + i * bytes, i);
  };
  switch (w.format) {
    case QuantFormat::kMxfp4:
    case QuantFormat::kNvfp4:
      widen_byte_scales(w.format, static_cast<const uint8_t*>(w.scales) + row * w.scale_row_bytes, blocks,
                        scales);
      for (int64_t i = 0; i < blocks; ++i) scales[i] *= 0.5f;
      return;
    case QuantFormat::kQ4_1:
      halves_of(codes, blocks, 20, 2, biases);
      return halves_of(codes, blocks, 20, 0, scales);
    case QuantFormat::kQ5_1:
      halves_of(codes, blocks, 24, 2, biases);
      return halves_of(codes, blocks, 24, 0, scales);
    case QuantFormat::kQ4_0:
    case QuantFormat::kIq4Nl: return halves_of(codes, blocks, 18, 0, scales);
    case QuantFormat::kQ5_0: return halves_of(codes, blocks, 22, 0, scales);
    case QuantFormat::kQ8_0: return halves_of(codes, blocks, 34, 0, scales);
    case QuantFormat::kQ2K:
      return each(
          84, [&](const uint8_t* b, int64_t i) HWY_ATTR { edges_q2_k(b, scales + 16 * i, biases + 16 * i); });
    case QuantFormat::kQ3K:
      return each(110, [&](const uint8_t* b, int64_t i) HWY_ATTR { edges_q3_k(b, scales + 16 * i); });
    case QuantFormat::kQ4K:
    case QuantFormat::kQ5K:
      return each(w.format == QuantFormat::kQ4K ? 144 : 176, [&](const uint8_t* b, int64_t i) HWY_ATTR {
        edges_q4_k(b, scales + 8 * i, biases + 8 * i);
      });
    case QuantFormat::kQ6K:
      return each(210, [&](const uint8_t* b, int64_t i) HWY_ATTR {
        put_scales(gguf::half_at(b + 208), reinterpret_cast<const int8_t*>(b + 192), 16, scales + 16 * i);
      });
    default: return each(136, [&](const uint8_t* b, int64_t i) HWY_ATTR { edges_iq4_xs(b, scales + 8 * i); });
  }
}

}  // namespace codes
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // LAMINA_SIMD_TARGET
#endif
