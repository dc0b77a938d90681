// Decoding of GGUF's block formats into float32 lanes, to the bits of quant/gguf_blocks.h: products are
// exact, so that only the order of a product and its sum matters. Per-target; not for the emulated baseline.
#if defined(LAMINA_CPU_QMM_GGUF_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_QMM_GGUF_INL_H_
#undef LAMINA_CPU_QMM_GGUF_INL_H_
#else
#define LAMINA_CPU_QMM_GGUF_INL_H_
#endif

#include <hwy/highway.h>

#include <cstring>

#include "backend/cpu/targets.h"
#include "quant/formats.h"
#include "quant/gguf_blocks.h"

#if LAMINA_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace gguf {

using D = hn::ScalableTag<float>;
using DInt = hn::RebindToSigned<hn::RebindToUnsigned<D>>;
using DByte = hn::Rebind<uint8_t, D>;
using DSignedByte = hn::Rebind<int8_t, D>;
using V = hn::Vec<D>;
using VInt = hn::Vec<DInt>;

HWY_INLINE int step() { return static_cast<int>(hn::Lanes(D())); }

HWY_INLINE float half_at(const uint8_t* p) {
  const hn::CappedTag<hwy::float16_t, 1> d16;
  const hn::CappedTag<float, 1> d32;
  HWY_ALIGN hwy::float16_t value[1];
  std::memcpy(value, p, 2);
  return hn::GetLane(hn::PromoteTo(d32, hn::Load(d16, value)));
}

// Bytes as integers, and a bit field of them.
HWY_INLINE VInt bytes_at(const uint8_t* p) { return hn::PromoteTo(DInt(), hn::LoadU(DByte(), p)); }
HWY_INLINE VInt field(VInt bytes, int shift, int mask) {
  return hn::And(hn::ShiftRightSame(bytes, shift), hn::Set(DInt(), mask));
}
HWY_INLINE VInt minus(VInt codes, int offset) { return hn::Sub(codes, hn::Set(DInt(), offset)); }

// scale * codes, and scale * codes + bias.
HWY_INLINE void put(VInt codes, V scale, float* out) {
  hn::StoreU(hn::Mul(scale, hn::ConvertTo(D(), codes)), D(), out);
}
HWY_INLINE void put(VInt codes, V scale, V bias, float* out) {
  hn::StoreU(hn::MulAdd(scale, hn::ConvertTo(D(), codes), bias), D(), out);
}

HWY_INLINE void decode_q4_0(const uint8_t* b, float* out) {
  const V d = hn::Set(D(), half_at(b));
  for (int i = 0; i < 16; i += step()) {
    const VInt bytes = bytes_at(b + 2 + i);
    put(minus(field(bytes, 0, 15), 8), d, out + i);
    put(minus(field(bytes, 4, 15), 8), d, out + 16 + i);
  }
}

HWY_INLINE void decode_q4_1(const uint8_t* b, float* out) {
  const V d = hn::Set(D(), half_at(b)), m = hn::Set(D(), half_at(b + 2));
  for (int i = 0; i < 16; i += step()) {
    const VInt bytes = bytes_at(b + 4 + i);
    put(field(bytes, 0, 15), d, m, out + i);
    put(field(bytes, 4, 15), d, m, out + 16 + i);
  }
}

// Bit first + lane of `word` in place 4.
HWY_INLINE VInt fifth_bits(uint32_t word, int first) {
  const hn::RebindToUnsigned<DInt> du;
  const auto bits = hn::Shr(hn::Set(du, word >> first), hn::Iota(du, 0));
  return hn::BitCast(DInt(), hn::ShiftLeft<4>(hn::And(bits, hn::Set(du, 1))));
}

template <class Put>
HWY_INLINE void decode_five(uint32_t fifth, const uint8_t* q, const Put& put_at) {
  for (int i = 0; i < 16; i += step()) {
    const VInt bytes = bytes_at(q + i);
    put_at(hn::Or(field(bytes, 0, 15), fifth_bits(fifth, i)), i);
    put_at(hn::Or(field(bytes, 4, 15), fifth_bits(fifth, i + 16)), i + 16);
  }
}

HWY_INLINE void decode_q5_0(const uint8_t* b, float* out) {
  const V d = hn::Set(D(), half_at(b));
  uint32_t fifth;
  std::memcpy(&fifth, b + 2, 4);
  decode_five(fifth, b + 6, [&](VInt q, int i) HWY_ATTR { put(minus(q, 16), d, out + i); });
}

HWY_INLINE void decode_q5_1(const uint8_t* b, float* out) {
  const V d = hn::Set(D(), half_at(b)), m = hn::Set(D(), half_at(b + 2));
  uint32_t fifth;
  std::memcpy(&fifth, b + 4, 4);
  decode_five(fifth, b + 8, [&](VInt q, int i) HWY_ATTR { put(q, d, m, out + i); });
}

HWY_INLINE void decode_q8_0(const uint8_t* b, float* out) {
  const V d = hn::Set(D(), half_at(b));
  const auto* q = reinterpret_cast<const int8_t*>(b + 2);
  for (int i = 0; i < 32; i += step())
    put(hn::PromoteTo(DInt(), hn::LoadU(DSignedByte(), q + i)), d, out + i);
}

HWY_INLINE void decode_q2_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int part = 0; part < 16; ++part) {
    const V scale = hn::Set(D(), d * static_cast<float>(b[part] & 15));
    const V bias = hn::Set(D(), -(dmin * static_cast<float>(b[part] >> 4)));
    const uint8_t* q = b + 16 + part / 8 * 32 + part % 2 * 16;
    for (int i = 0; i < 16; i += step()) {
      put(field(bytes_at(q + i), part % 8 / 2 * 2, 3), scale, bias, out + part * 16 + i);
    }
  }
}

HWY_INLINE void decode_q3_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 108);
  for (int part = 0; part < 16; ++part) {
    const V scale = hn::Set(D(), d * static_cast<float>(q3_k_scale(b + 96, part) - 32));
    const uint8_t *q = b + 32 + part / 8 * 32 + part % 2 * 16, *third = b + part % 2 * 16;
    for (int i = 0; i < 16; i += step()) {
      const VInt low = field(bytes_at(q + i), part % 8 / 2 * 2, 3);
      const VInt high = hn::ShiftLeft<2>(field(bytes_at(third + i), part / 2, 1));
      put(minus(hn::Or(low, high), 4), scale, out + part * 16 + i);
    }
  }
}

// Scale and bias of sub-block `part` of a q4_k or q5_k block.
struct Edges {
  V scale, bias;
};
HWY_INLINE Edges q4_k_edges(const uint8_t* b, float d, float dmin, int part) {
  const ScaleAndMinimum s = q4_k_scale(b + 4, part);
  return {hn::Set(D(), d * static_cast<float>(s.scale)),
          hn::Set(D(), -(dmin * static_cast<float>(s.minimum)))};
}

HWY_INLINE void decode_q4_k(const uint8_t* b, float* out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  for (int part = 0; part < 8; part += 2) {
    const Edges low = q4_k_edges(b, d, dmin, part), high = q4_k_edges(b, d, dmin, part + 1);
    for (int i = 0; i < 32; i += step()) {
      const VInt bytes = bytes_at(b + 16 + part * 16 + i);
      put(field(bytes, 0, 15), low.scale, low.bias, out + part * 32 + i);
      put(field(bytes, 4, 15), high.scale, high.bias, out + part * 32 + 32 + i);
    }
  }
}

HWY_INLINE void decode_q5_k(const uint8_t* b, float* out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  for (int part = 0; part < 8; part += 2) {
    const Edges low = q4_k_edges(b, d, dmin, part), high = q4_k_edges(b, d, dmin, part + 1);
    for (int i = 0; i < 32; i += step()) {
      const VInt bytes = bytes_at(b + 48 + part * 16 + i), fifth = bytes_at(b + 16 + i);
      const VInt low_bit = hn::ShiftLeft<4>(field(fifth, part, 1));
      const VInt high_bit = hn::ShiftLeft<4>(field(fifth, part + 1, 1));
      put(hn::Or(field(bytes, 0, 15), low_bit), low.scale, low.bias, out + part * 32 + i);
      put(hn::Or(field(bytes, 4, 15), high_bit), high.scale, high.bias, out + part * 32 + 32 + i);
    }
  }
}

HWY_INLINE void decode_q6_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 208);
  for (int part = 0; part < 16; ++part) {
    const int half = part / 8, quarter = part / 2 % 4, at = part % 2 * 16;
    const uint8_t *low = b + half * 64 + quarter % 2 * 32 + at, *high = b + 128 + half * 32 + at;
    const V scale = hn::Set(D(), d * static_cast<float>(static_cast<int8_t>(b[192 + part])));
    for (int i = 0; i < 16; i += step()) {
      const VInt upper = hn::ShiftLeft<4>(field(bytes_at(high + i), quarter * 2, 3));
      put(minus(hn::Or(field(bytes_at(low + i), quarter / 2 * 4, 15), upper), 32), scale,
          out + part * 16 + i);
    }
  }
}

HWY_INLINE void decode_iq4(float d, const uint8_t* q, float* out) {
  const hn::FixedTag<uint8_t, 16> d8;
  const V scale = hn::Set(D(), d);
  const auto values = hn::LoadU(d8, reinterpret_cast<const uint8_t*>(kIq4Values.data()));
  const auto bytes = hn::LoadU(d8, q);
  HWY_ALIGN int8_t codes[32];
  auto* words = reinterpret_cast<uint8_t*>(codes);
  hn::Store(hn::TableLookupBytes(values, hn::And(bytes, hn::Set(d8, 15))), d8, words);
  hn::Store(hn::TableLookupBytes(values, hn::ShiftRight<4>(bytes)), d8, words + 16);
  for (int i = 0; i < 32; i += step())
    put(hn::PromoteTo(DInt(), hn::LoadU(DSignedByte(), codes + i)), scale, out + i);
}

HWY_INLINE void decode_iq4_nl(const uint8_t* b, float* out) { decode_iq4(half_at(b), b + 2, out); }

HWY_INLINE void decode_iq4_xs(const uint8_t* b, float* out) {
  const float d = half_at(b);
  for (int part = 0; part < 8; ++part) {
    decode_iq4(d * static_cast<float>(iq4_xs_scale(b, part) - 32), b + 8 + part * 16, out + part * 32);
  }
}

// BlockFormat::decode of one format.
template <void (*kDecode)(const uint8_t*, float*), int64_t kBytes, int64_t kElems>
void decode_all(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  for (int64_t i = 0; i < blocks; ++i) kDecode(codes + i * kBytes, dst + i * kElems);
}

// The decoder of a format, null for those of other files.
inline GgufDecode* vector_decoder(QuantFormat format) {
  switch (format) {
    case QuantFormat::kQ4_0: return decode_all<decode_q4_0, 18, 32>;
    case QuantFormat::kQ4_1: return decode_all<decode_q4_1, 20, 32>;
    case QuantFormat::kQ5_0: return decode_all<decode_q5_0, 22, 32>;
    case QuantFormat::kQ5_1: return decode_all<decode_q5_1, 24, 32>;
    case QuantFormat::kQ8_0: return decode_all<decode_q8_0, 34, 32>;
    case QuantFormat::kQ2K: return decode_all<decode_q2_k, 84, 256>;
    case QuantFormat::kQ3K: return decode_all<decode_q3_k, 110, 256>;
    case QuantFormat::kQ4K: return decode_all<decode_q4_k, 144, 256>;
    case QuantFormat::kQ5K: return decode_all<decode_q5_k, 176, 256>;
    case QuantFormat::kQ6K: return decode_all<decode_q6_k, 210, 256>;
    case QuantFormat::kIq4Nl: return decode_all<decode_iq4_nl, 18, 32>;
    case QuantFormat::kIq4Xs: return decode_all<decode_iq4_xs, 136, 256>;
    default: return nullptr;
  }
}

}  // namespace gguf
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // LAMINA_SIMD_TARGET
#endif
