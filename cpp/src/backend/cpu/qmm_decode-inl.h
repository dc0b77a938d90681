// Decoding of affine codes into float32 lanes. Per-target.
#if defined(LAMINA_CPU_QMM_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_QMM_DECODE_INL_H_
#undef LAMINA_CPU_QMM_DECODE_INL_H_
#else
#define LAMINA_CPU_QMM_DECODE_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "backend/cpu/gemm_convert-inl.h"
#include "backend/cpu/qmm_kernel.h"
#include "quant/fp_blocks.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using D32 = hn::Rebind<uint32_t, D>;
using DI = hn::RebindToSigned<D>;
using VI = hn::Vec<DI>;

inline int64_t lane_count() { return static_cast<int64_t>(hn::Lanes(D())); }

// Codes are looked up in a vector of float values where it has enough lanes; the values are centred, which
// keeps the two parts of a product small.
template <int kBits>
constexpr bool kHasTable = HWY_TARGET != HWY_SCALAR&& hn::MaxLanes(D()) >= (size_t{1} << kBits);
template <int kBits>
constexpr float kCentre = kHasTable<kBits> ? static_cast<float>(1 << (kBits - 1)) : 0.0f;

template <int kBits>
V make_table() {
  HWY_ALIGN float values[hn::MaxLanes(D())];
  for (size_t i = 0; i < hn::MaxLanes(D()); ++i) {
    values[i] = static_cast<float>(i & ((1u << kBits) - 1)) - kCentre<kBits>;
  }
  return hn::Load(D(), values);
}

// Value of the code in the low kBits of each lane (less kCentre); higher bits are ignored.
template <int kBits>
HWY_INLINE V decode_low(V table, hn::Vec<D32> words) {
#if HWY_TARGET <= HWY_AVX3
  if constexpr (kHasTable<kBits>) return V{_mm512_permutexvar_ps(words.raw, table.raw)};
#elif HWY_TARGET == HWY_AVX2
  if constexpr (kHasTable<kBits>) return V{_mm256_permutevar8x32_ps(table.raw, words.raw)};
#endif
  (void)table;
  const auto codes = hn::And(words, hn::Set(D32(), (1u << kBits) - 1));
  return hn::ConvertTo(D(), hn::BitCast(hn::RebindToSigned<D32>(), codes));
}

// Codes of a row in their order, one vector at a time. A load may read up to 16 bytes from the first code's
// byte on.
template <int kBits>
class CodeReader {
 public:
#if HWY_TARGET == HWY_SCALAR
  // The code at index i.
  V load(const uint8_t* row, int64_t i) const {
    const int64_t bit = i * kBits;
    uint32_t pair = row[bit / 8];
    if (bit % 8 + kBits > 8) pair |= static_cast<uint32_t>(row[bit / 8 + 1]) << 8;
    return hn::Set(D(), static_cast<float>(pair >> (bit % 8) & ((1u << kBits) - 1)));
  }
#else
  CodeReader() {
    // Lane l takes the two bytes that hold its code; every other byte becomes zero.
    HWY_ALIGN uint8_t bytes[4 * hn::MaxLanes(D())];
    HWY_ALIGN uint32_t shifts[hn::MaxLanes(D())];
    for (size_t lane = 0; lane < hn::Lanes(D()); ++lane) {
      bytes[4 * lane] = static_cast<uint8_t>(lane * kBits / 8);
      bytes[4 * lane + 1] = static_cast<uint8_t>(lane * kBits / 8 + 1);
      bytes[4 * lane + 2] = bytes[4 * lane + 3] = 0x80;
      shifts[lane] = static_cast<uint32_t>(lane * kBits % 8);
    }
    bytes_ = hn::Load(kD8, bytes);
    shifts_ = hn::Load(kD32, shifts);
  }

  // The codes at i, i + 1, ...; i a multiple of the number of lanes (8 or more).
  HWY_INLINE V load(const uint8_t* row, int64_t i) const {
    const D d;
    const hn::RebindToSigned<decltype(kD32)> di32;
    const uint8_t* p = row + i * kBits / 8;
    if constexpr (kBits == 8) {
      const hn::Rebind<uint8_t, D> d8;
      return hn::ConvertTo(d, hn::PromoteTo(di32, hn::LoadU(d8, p)));
    } else {
      const auto pairs = hn::BitCast(kD32, hn::TableLookupBytesOr0(hn::LoadDup128(kD8, p), bytes_));
      const auto codes = hn::And(hn::Shr(pairs, shifts_), hn::Set(kD32, (1u << kBits) - 1));
      return hn::ConvertTo(d, hn::BitCast(di32, codes));
    }
  }

 private:
  static constexpr hn::Repartition<uint8_t, D> kD8{};
  static constexpr hn::Rebind<uint32_t, D> kD32{};
  hn::Vec<hn::Repartition<uint8_t, D> > bytes_;
  hn::Vec<hn::Rebind<uint32_t, D> > shifts_;
#endif
};

// The small floats of quant/fp_blocks.h. Value of the E2M1 code in the low 4 bits of each lane; higher bits
// are ignored.
inline V e2m1_table() {
  HWY_ALIGN float values[hn::MaxLanes(D())];
  for (size_t i = 0; i < hn::MaxLanes(D()); ++i) values[i] = kE2m1[i % 16];
  return hn::Load(D(), values);
}

HWY_INLINE V decode_e2m1(V table, hn::Vec<D32> words) {
#if HWY_TARGET <= HWY_AVX3
  return V{_mm512_permutexvar_ps(words.raw, table.raw)};
#elif HWY_TARGET == HWY_AVX2
  // Sizes are looked up by 3 bits; the fourth becomes the sign.
  const auto sign = hn::And(hn::ShiftLeft<28>(words), hn::Set(D32(), 0x80000000u));
  return hn::Xor(V{_mm256_permutevar8x32_ps(table.raw, words.raw)}, hn::BitCast(D(), sign));
#else
  (void)table;
  // Sizes as subnormal numbers, moved up.
  const auto sign = hn::And(hn::ShiftLeft<28>(words), hn::Set(D32(), 0x80000000u));
  const auto size = hn::ShiftLeft<22>(hn::And(words, hn::Set(D32(), 7)));
  return hn::Mul(hn::BitCast(D(), hn::Or(size, sign)), hn::Set(D(), 0x1p126f));
#endif
}

// E2M1 codes of a row in their order, one vector at a time; reads their own bytes only.
class E2m1Reader {
 public:
#if HWY_TARGET == HWY_SCALAR
  V load(const uint8_t* row, int64_t i) const { return hn::Set(D(), kE2m1[row[i / 2] >> (i % 2 * 4) & 15]); }
#else
  E2m1Reader() : table_(e2m1_table()) {
    // Lane l takes the byte that holds its code, and moves the upper half of it down where l is odd.
    HWY_ALIGN uint8_t bytes[4 * hn::MaxLanes(D())];
    HWY_ALIGN uint32_t shifts[hn::MaxLanes(D())];
    for (size_t lane = 0; lane < hn::Lanes(D()); ++lane) {
      for (size_t b = 0; b < 4; ++b) bytes[4 * lane + b] = static_cast<uint8_t>(lane / 2 % 8);
      shifts[lane] = static_cast<uint32_t>(lane % 2 * 4);
    }
    bytes_ = hn::Load(kD8, bytes);
    shifts_ = hn::Load(D32(), shifts);
  }

  // The values at i, i + 1, ...; i a multiple of the number of lanes.
  HWY_INLINE V load(const uint8_t* row, int64_t i) const {
    constexpr hn::Repartition<uint64_t, D> kD64{};
    uint64_t codes = 0;
    std::memcpy(&codes, row + i / 2, hn::MaxLanes(D()) / 2);
    const auto all = hn::BitCast(kD8, hn::Set(kD64, codes));
    const auto own = hn::BitCast(D32(), hn::TableLookupBytes(all, bytes_));
    return decode_e2m1(table_, hn::Shr(own, shifts_));
  }

 private:
  static constexpr hn::Repartition<uint8_t, D> kD8{};
  V table_;
  hn::Vec<hn::Repartition<uint8_t, D> > bytes_;
  hn::Vec<D32> shifts_;
#endif
};

// The same for E4M3.
class E4m3Reader {
 public:
  HWY_INLINE V load(const uint8_t* row, int64_t i) const {
#if LAMINA_SIMD_TARGET
    const hn::Rebind<uint8_t, D> d8;
    const hn::Rebind<uint16_t, D> d16;
    const hn::Rebind<hwy::float16_t, D> dh;
    const auto code = hn::PromoteTo(d16, hn::LoadU(d8, row + i));
    // float16 has the same fields and 2^8 times smaller numbers; its NaN is a larger exponent.
    const auto size = hn::ShiftLeft<7>(hn::And(code, hn::Set(d16, 0x7f)));
    const auto nan = hn::VecFromMask(d16, hn::Eq(size, hn::Set(d16, 0x3f80)));
    const auto sign = hn::ShiftLeft<8>(hn::And(code, hn::Set(d16, 0x80)));
    const auto half = hn::Or(hn::Or(size, sign), hn::And(nan, hn::Set(d16, 0x7e00)));
    return hn::Mul(hn::PromoteTo(D(), hn::BitCast(dh, half)), hn::Set(D(), 256.0f));
#else
    HWY_ALIGN float values[hn::MaxLanes(D())];
    for (size_t l = 0; l < hn::Lanes(D()); ++l) values[l] = kE4m3[row[i + static_cast<int64_t>(l)]];
    return hn::Load(D(), values);
#endif
  }
};

// 1 / 256 of the values of E4M3 codes other than NaN: what is fast.
class E4m3PartReader {
 public:
  HWY_INLINE V load(const uint8_t* row, int64_t i) const {
#if LAMINA_SIMD_TARGET
    const hn::Rebind<int8_t, D> d8;
    const hn::Rebind<int16_t, D> d16;
    const hn::Rebind<hwy::float16_t, D> dh;
    const auto code = hn::PromoteTo(d16, hn::LoadU(d8, reinterpret_cast<const int8_t*>(row + i)));
    const auto half = hn::And(hn::ShiftLeft<7>(code), hn::Set(d16, static_cast<int16_t>(0xbf80)));
    return hn::PromoteTo(D(), hn::BitCast(dh, half));
#else
    return hn::Mul(E4m3Reader().load(row, i), hn::Set(D(), 1.0f / 256));
#endif
  }
};

// Whether one of n E4M3 codes is NaN; n a multiple of 32.
inline bool has_nan_code(const uint8_t* codes, int64_t n) {
  const hn::CappedTag<uint8_t, 32> d;
  const auto size = hn::Set(d, uint8_t{0x7f});
  auto most = hn::Zero(d);
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(hn::Lanes(d))) {
    most = hn::Max(most, hn::And(hn::LoadU(d, codes + i), size));
  }
  return !hn::AllFalse(d, hn::Eq(most, size));
}

// dst[0, n) = the values of E8M0, E4M3 or float32 scales, then kQmmPad zeros.
inline void widen_byte_scales(QuantFormat format, const uint8_t* src, int64_t n, float* dst) {
  const int64_t lanes = lane_count();
  int64_t i = 0;
  if (format == QuantFormat::kNvfp4) {
    for (; i + lanes <= n; i += lanes) hn::StoreU(E4m3Reader().load(src, i), D(), dst + i);
    for (; i < n; ++i) dst[i] = kE4m3[src[i]];
  } else if (format == QuantFormat::kFp8) {
    std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
  } else {
    for (; i < n; ++i) dst[i] = e8m0_value(src[i]);
  }
  std::fill_n(dst + n, kQmmPad, 0.0f);
}

// dst[0, n) = src[0, n) as float32.
template <class T>
void widen_values(const T* src, int64_t n, float* dst) {
  int64_t i = 0;
  for (; i + lane_count() <= n; i += lane_count()) hn::StoreU(load_as(D(), src + i), D(), dst + i);
  for (; i < n; ++i) dst[i] = static_cast<float>(src[i]);
}

// The same, then kQmmPad zeros.
template <class T>
void widen_padded(const T* src, int64_t n, float* dst) {
  widen_values(src, n, dst);
  for (int64_t i = 0; i < kQmmPad; i += lane_count()) hn::StoreU(hn::Zero(D()), D(), dst + n + i);
}

inline void widen_padded(const void* src, Dtype t, int64_t first, int64_t n, float* dst) {
  switch (t) {
    case Dtype::kFloat16: return widen_padded(static_cast<const float16_t*>(src) + first, n, dst);
    case Dtype::kBFloat16: return widen_padded(static_cast<const bfloat16_t*>(src) + first, n, dst);
    default: return widen_padded(static_cast<const float*>(src) + first, n, dst);
  }
}

// Rows that are turned at a time.
constexpr int64_t kTurnedRows = HWY_TARGET <= HWY_AVX3 ? 16 : 4;

// Widens a tile of scales or biases: dst[g * width + r] = entry first + g of weight row row0 + r, for n <=
// kMost entries. Rows past the last repeat it: their columns of the product are thrown away.
template <int64_t kMost, class T>
void widen_edges_part(const T* src, const QmmWeights& w, int64_t row0, int64_t width, int64_t first,
                      int64_t n, float* dst) {
  HWY_ALIGN float rows[kTurnedRows][kMost];
  const auto entries = [&](int64_t r) { return src + std::min(row0 + r, w.rows - 1) * w.groups() + first; };
  int64_t r0 = 0;
  for (; r0 + kTurnedRows <= width; r0 += kTurnedRows) {
    for (int64_t r = 0; r < kTurnedRows; ++r) widen_values(entries(r0 + r), n, rows[r]);
    const auto row = [&](int64_t r) { return rows[r]; };
    transpose_words_of(row, kTurnedRows, n, dst + r0, width);
  }
  for (; r0 < width; ++r0) {  // the baseline's panels of two columns
    for (int64_t g = 0; g < n; ++g) dst[g * width + r0] = static_cast<float>(entries(r0)[g]);
  }
}

template <class T>
void widen_edges(const T* src, const QmmWeights& w, int64_t row0, int64_t width, int64_t first, int64_t n,
                 float* dst) {
  constexpr int64_t kMost = 128;
  for (int64_t g = 0; g < n; g += kMost) {
    widen_edges_part<kMost>(src, w, row0, width, first + g, std::min(kMost, n - g), dst + g * width);
  }
}

inline void widen_edges(const void* src, const QmmWeights& w, int64_t row0, int64_t width, int64_t first,
                        int64_t n, float* dst) {
  switch (w.scale_dtype) {
    case Dtype::kFloat16:
      return widen_edges(static_cast<const float16_t*>(src), w, row0, width, first, n, dst);
    case Dtype::kBFloat16:
      return widen_edges(static_cast<const bfloat16_t*>(src), w, row0, width, first, n, dst);
    default: return widen_edges(static_cast<const float*>(src), w, row0, width, first, n, dst);
  }
}

// dst[i * width + r] = word first + i of weight row row0 + r, bits unchanged; rows past the last repeat it.
inline void transpose_words(const QmmWeights& w, int64_t row0, int64_t width, int64_t first, int64_t n,
                            float* dst) {
  const auto* words = reinterpret_cast<const float*>(w.codes);
  const auto row = [&](int64_t r) {
    return words + std::min(row0 + r, w.rows - 1) * (w.row_bytes() / 4) + first;
  };
  if (width % kTurnedRows == 0) return transpose_words_of(row, width, n, dst, width);
  for (int64_t r = 0; r < width; ++r) {
    for (int64_t i = 0; i < n; ++i) std::memcpy(dst + i * width + r, row(r) + i, sizeof(float));
  }
}

}  // namespace
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
