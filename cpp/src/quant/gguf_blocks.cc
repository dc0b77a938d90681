#include "quant/gguf_blocks.h"

#include <bit>
#include <cstring>

#include "lamina/dtype.h"

namespace lamina {
namespace {

static_assert(std::endian::native == std::endian::little);

float half_at(const uint8_t* p) {
  float16_t value;
  std::memcpy(&value.bits, p, 2);
  return static_cast<float>(value);
}

uint32_t word_at(const uint8_t* p) {
  uint32_t value;
  std::memcpy(&value, p, 4);
  return value;
}

void block_q4_0(const uint8_t* b, float* out) {
  const float d = half_at(b);
  const uint8_t* q = b + 2;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((q[i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((q[i] >> 4) - 8);
  }
}

void block_q4_1(const uint8_t* b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  const uint8_t* q = b + 4;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(q[i] & 15) + m;
    out[i + 16] = d * static_cast<float>(q[i] >> 4) + m;
  }
}

// The 5-bit code of elements i and i + 16.
struct FiveBits {
  int low, high;
};
FiveBits five_bits(uint32_t fifth, const uint8_t* q, int i) {
  return {static_cast<int>((q[i] & 15) | (fifth >> i & 1) << 4),
          static_cast<int>((q[i] >> 4) | (fifth >> (i + 16) & 1) << 4)};
}

void block_q5_0(const uint8_t* b, float* out) {
  const float d = half_at(b);
  const uint32_t fifth = word_at(b + 2);
  for (int i = 0; i < 16; ++i) {
    const FiveBits q = five_bits(fifth, b + 6, i);
    out[i] = d * static_cast<float>(q.low - 16);
    out[i + 16] = d * static_cast<float>(q.high - 16);
  }
}

void block_q5_1(const uint8_t* b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  const uint32_t fifth = word_at(b + 4);
  for (int i = 0; i < 16; ++i) {
    const FiveBits q = five_bits(fifth, b + 8, i);
    out[i] = d * static_cast<float>(q.low) + m;
    out[i + 16] = d * static_cast<float>(q.high) + m;
  }
}

void block_q8_0(const uint8_t* b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
}

// Two halves of 128 elements; in a half, four times 32 elements share 32 bytes, 2 bits each, low ones first.
void block_q2_k(const uint8_t* b, float* out) {
  const uint8_t *scales = b, *q = b + 16;
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int part = 0; part < 16; ++part) {
    const float scale = d * static_cast<float>(scales[part] & 15);
    const float minimum = dmin * static_cast<float>(scales[part] >> 4);
    const uint8_t* bytes = q + part / 8 * 32 + part % 2 * 16;
    const int shift = part % 8 / 2 * 2;
    for (int i = 0; i < 16; ++i)
      out[part * 16 + i] = scale * static_cast<float>(bytes[i] >> shift & 3) - minimum;
  }
}

void block_q3_k(const uint8_t* b, float* out) {
  const uint8_t *third = b, *q = b + 32, *scales = b + 96;
  const float d = half_at(b + 108);
  for (int part = 0; part < 16; ++part) {
    const float scale = d * static_cast<float>(q3_k_scale(scales, part) - 32);
    const uint8_t* bytes = q + part / 8 * 32 + part % 2 * 16;
    const uint8_t* bits = third + part % 2 * 16;
    const int shift = part % 8 / 2 * 2, bit = part / 2;
    for (int i = 0; i < 16; ++i) {
      const int code = (bytes[i] >> shift & 3) | (bits[i] >> bit & 1) << 2;
      out[part * 16 + i] = scale * static_cast<float>(code - 4);
    }
  }
}

void block_q4_k(const uint8_t* b, float* out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  for (int part = 0; part < 8; ++part) {
    const ScaleAndMinimum s = q4_k_scale(b + 4, part);
    const float scale = d * static_cast<float>(s.scale), minimum = dmin * static_cast<float>(s.minimum);
    const uint8_t* bytes = b + 16 + part / 2 * 32;
    const int shift = part % 2 * 4;
    for (int i = 0; i < 32; ++i)
      out[part * 32 + i] = scale * static_cast<float>(bytes[i] >> shift & 15) - minimum;
  }
}

void block_q5_k(const uint8_t* b, float* out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  const uint8_t* fifth = b + 16;
  for (int part = 0; part < 8; ++part) {
    const ScaleAndMinimum s = q4_k_scale(b + 4, part);
    const float scale = d * static_cast<float>(s.scale), minimum = dmin * static_cast<float>(s.minimum);
    const uint8_t* bytes = b + 48 + part / 2 * 32;
    const int shift = part % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int code = (bytes[i] >> shift & 15) | (fifth[i] >> part & 1) << 4;
      out[part * 32 + i] = scale * static_cast<float>(code) - minimum;
    }
  }
}

// Two halves of 128 elements, each four times 32: elements 0 to 31 and 64 to 95 share the first 32 bytes of
// nibbles, 32 to 63 and 96 to 127 the second; their upper bits are pairs of the half's 32 bytes.
void block_q6_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 208);
  for (int quarter = 0; quarter < 8; ++quarter) {
    const int half = quarter / 4, in_half = quarter % 4;
    const uint8_t* low = b + half * 64 + in_half % 2 * 32;
    const uint8_t* high = b + 128 + half * 32;
    const uint8_t* scales = b + 192 + quarter * 2;
    for (int i = 0; i < 32; ++i) {
      const int code = (low[i] >> in_half / 2 * 4 & 15) | (high[i] >> in_half * 2 & 3) << 4;
      const float scale = d * static_cast<float>(static_cast<int8_t>(scales[i / 16]));
      out[quarter * 32 + i] = scale * static_cast<float>(code - 32);
    }
  }
}

void decode_iq4(float scale, const uint8_t* q, float* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>(kIq4Values[q[i] & 15]);
    out[i + 16] = scale * static_cast<float>(kIq4Values[q[i] >> 4]);
  }
}

void block_iq4_nl(const uint8_t* b, float* out) { decode_iq4(half_at(b), b + 2, out); }

void block_iq4_xs(const uint8_t* b, float* out) {
  const float d = half_at(b);
  for (int part = 0; part < 8; ++part) {
    decode_iq4(d * static_cast<float>(iq4_xs_scale(b, part) - 32), b + 8 + part * 16, out + part * 32);
  }
}

template <int64_t kBytes, int64_t kElems>
void decode_blocks(void (*decode)(const uint8_t*, float*), const uint8_t* codes, int64_t blocks, float* dst) {
  for (int64_t i = 0; i < blocks; ++i) decode(codes + i * kBytes, dst + i * kElems);
}

}  // namespace

std::optional<QuantFormat> gguf_format(uint32_t number) {
  for (const GgufBlockType& t : kGgufBlockTypes) {
    if (t.number == number) return t.format;
  }
  return std::nullopt;
}

std::optional<uint32_t> gguf_number(QuantFormat format) {
  for (const GgufBlockType& t : kGgufBlockTypes) {
    if (t.format == format) return t.number;
  }
  return std::nullopt;
}

void decode_q4_0(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<18, 32>(block_q4_0, codes, blocks, dst);
}
void decode_q4_1(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<20, 32>(block_q4_1, codes, blocks, dst);
}
void decode_q5_0(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<22, 32>(block_q5_0, codes, blocks, dst);
}
void decode_q5_1(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<24, 32>(block_q5_1, codes, blocks, dst);
}
void decode_q8_0(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<34, 32>(block_q8_0, codes, blocks, dst);
}
void decode_q2_k(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<84, 256>(block_q2_k, codes, blocks, dst);
}
void decode_q3_k(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<110, 256>(block_q3_k, codes, blocks, dst);
}
void decode_q4_k(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<144, 256>(block_q4_k, codes, blocks, dst);
}
void decode_q5_k(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<176, 256>(block_q5_k, codes, blocks, dst);
}
void decode_q6_k(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<210, 256>(block_q6_k, codes, blocks, dst);
}
void decode_iq4_nl(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<18, 32>(block_iq4_nl, codes, blocks, dst);
}
void decode_iq4_xs(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  decode_blocks<136, 256>(block_iq4_xs, codes, blocks, dst);
}

}  // namespace lamina
