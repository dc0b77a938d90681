#include "quant/gguf_blocks.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "lamina/dtype.h"
#include "quant/formats.h"

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

// A block as integers.
struct Block {
  uint8_t codes[256];
  float scales[16], biases[16];
};

// 16 bytes of nibbles: elements i and i + 16.
void read_nibbles(const uint8_t* q, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) codes[i] = q[i] & 15, codes[i + 16] = q[i] >> 4;
}

void read_q4_0(const uint8_t* b, Block& out) {
  out.scales[0] = half_at(b);
  read_nibbles(b + 2, out.codes);
}

void read_q4_1(const uint8_t* b, Block& out) {
  out.scales[0] = half_at(b), out.biases[0] = half_at(b + 2);
  read_nibbles(b + 4, out.codes);
}

void add_fifth_bits(uint32_t fifth, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(codes[i] | (fifth >> i & 1) << 4);
}

void read_q5_0(const uint8_t* b, Block& out) {
  out.scales[0] = half_at(b);
  read_nibbles(b + 6, out.codes);
  add_fifth_bits(word_at(b + 2), out.codes);
}

void read_q5_1(const uint8_t* b, Block& out) {
  out.scales[0] = half_at(b), out.biases[0] = half_at(b + 2);
  read_nibbles(b + 8, out.codes);
  add_fifth_bits(word_at(b + 4), out.codes);
}

// Signed codes, 128 more.
void read_q8_0(const uint8_t* b, Block& out) {
  out.scales[0] = half_at(b);
  for (int i = 0; i < 32; ++i) out.codes[i] = b[2 + i] ^ 128;
}

// Two halves of 128 elements; in a half, four times 32 elements share 32 bytes, 2 bits each, low ones first.
void read_two_bits(const uint8_t* q, uint8_t* codes) {
  for (int i = 0; i < 256; ++i) codes[i] = q[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}

void read_q2_k(const uint8_t* b, Block& out) {
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int part = 0; part < 16; ++part) {
    out.scales[part] = d * static_cast<float>(b[part] & 15);
    out.biases[part] = -(dmin * static_cast<float>(b[part] >> 4));
  }
  read_two_bits(b + 16, out.codes);
}

void read_q3_k(const uint8_t* b, Block& out) {
  const float d = half_at(b + 108);
  for (int part = 0; part < 16; ++part) {
    out.scales[part] = d * static_cast<float>(q3_k_scale(b + 96, part) - 32);
  }
  read_two_bits(b + 32, out.codes);
  for (int i = 0; i < 256; ++i)
    out.codes[i] = static_cast<uint8_t>(out.codes[i] | (b[i % 32] >> i / 32 & 1) << 2);
}

// 32 bytes hold 64 elements: their low nibbles, then their high ones.
void read_q4_k_edges(const uint8_t* b, Block& out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  for (int part = 0; part < 8; ++part) {
    const ScaleAndMinimum s = q4_k_scale(b + 4, part);
    out.scales[part] = d * static_cast<float>(s.scale);
    out.biases[part] = -(dmin * static_cast<float>(s.minimum));
  }
}

void read_q4_k(const uint8_t* b, Block& out) {
  read_q4_k_edges(b, out);
  for (int i = 0; i < 256; ++i) out.codes[i] = b[16 + i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15;
}

void read_q5_k(const uint8_t* b, Block& out) {
  read_q4_k_edges(b, out);
  for (int i = 0; i < 256; ++i) {
    const int low = b[48 + i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15,
              fifth = b[16 + i % 32] >> i / 32 & 1;
    out.codes[i] = static_cast<uint8_t>(low | fifth << 4);
  }
}

// Two halves of 128 elements, each four times 32: elements 0 to 31 and 64 to 95 share the first 32 bytes of
// nibbles, 32 to 63 and 96 to 127 the second; their upper bits are pairs of the half's 32 bytes.
void read_q6_k(const uint8_t* b, Block& out) {
  const float d = half_at(b + 208);
  for (int part = 0; part < 16; ++part) {
    out.scales[part] = d * static_cast<float>(static_cast<int8_t>(b[192 + part]));
  }
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, at = i % 32;
    const int low = b[half * 64 + quarter % 2 * 32 + at] >> quarter / 2 * 4 & 15;
    const int high = b[128 + half * 32 + at] >> quarter * 2 & 3;
    out.codes[i] = static_cast<uint8_t>(low | high << 4);
  }
}

// 128 more than the values.
void read_iq4(const uint8_t* q, uint8_t* codes) {
  read_nibbles(q, codes);
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(kIq4Values[codes[i]] + 128);
}

void read_iq4_nl(const uint8_t* b, Block& out) {
  out.scales[0] = half_at(b);
  read_iq4(b + 2, out.codes);
}

void read_iq4_xs(const uint8_t* b, Block& out) {
  const float d = half_at(b);
  for (int part = 0; part < 8; ++part) {
    out.scales[part] = d * static_cast<float>(iq4_xs_scale(b, part) - 32);
    read_iq4(b + 8 + part * 16, out.codes + part * 32);
  }
}

using ReadBlock = void(const uint8_t* b, Block& out);

constexpr ReadBlock* reader_of(QuantFormat format) {
  switch (format) {
    case QuantFormat::kQ4_0: return read_q4_0;
    case QuantFormat::kQ4_1: return read_q4_1;
    case QuantFormat::kQ5_0: return read_q5_0;
    case QuantFormat::kQ5_1: return read_q5_1;
    case QuantFormat::kQ8_0: return read_q8_0;
    case QuantFormat::kQ2K: return read_q2_k;
    case QuantFormat::kQ3K: return read_q3_k;
    case QuantFormat::kQ4K: return read_q4_k;
    case QuantFormat::kQ5K: return read_q5_k;
    case QuantFormat::kQ6K: return read_q6_k;
    case QuantFormat::kIq4Nl: return read_iq4_nl;
    default: return read_iq4_xs;
  }
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

template <QuantFormat kFormat>
void gguf_decode(const uint8_t* codes, const uint8_t*, int64_t blocks, float* dst) {
  const BlockFormat& f = block_format(kFormat);
  Block block{};
  for (int64_t i = 0; i < blocks; ++i, codes += f.code_bytes) {
    reader_of(kFormat)(codes, block);
    for (int64_t e = 0; e < f.block; ++e) {
      const int64_t group = e / f.integers.group;
      const float value = block.scales[group] * static_cast<float>(block.codes[e] - f.integers.offset);
      *dst++ = f.integers.biased ? value + block.biases[group] : value;
    }
  }
}

template <QuantFormat kFormat>
void gguf_integers(const uint8_t* codes, const uint8_t*, int64_t blocks, uint8_t* ints, float* scales,
                   float* biases) {
  const BlockFormat& f = block_format(kFormat);
  const int64_t groups = f.block / f.integers.group;
  Block block{};
  for (int64_t i = 0; i < blocks; ++i, codes += f.code_bytes) {
    reader_of(kFormat)(codes, block);
    ints = std::copy_n(block.codes, f.block, ints);
    scales = std::copy_n(block.scales, groups, scales);
    if (f.integers.biased) biases = std::copy_n(block.biases, groups, biases);
  }
}

template GgufDecode gguf_decode<QuantFormat::kQ4_0>;
template GgufDecode gguf_decode<QuantFormat::kQ4_1>;
template GgufDecode gguf_decode<QuantFormat::kQ5_0>;
template GgufDecode gguf_decode<QuantFormat::kQ5_1>;
template GgufDecode gguf_decode<QuantFormat::kQ8_0>;
template GgufDecode gguf_decode<QuantFormat::kQ2K>;
template GgufDecode gguf_decode<QuantFormat::kQ3K>;
template GgufDecode gguf_decode<QuantFormat::kQ4K>;
template GgufDecode gguf_decode<QuantFormat::kQ5K>;
template GgufDecode gguf_decode<QuantFormat::kQ6K>;
template GgufDecode gguf_decode<QuantFormat::kIq4Nl>;
template GgufDecode gguf_decode<QuantFormat::kIq4Xs>;
template ReadIntegers gguf_integers<QuantFormat::kQ4_0>;
template ReadIntegers gguf_integers<QuantFormat::kQ4_1>;
template ReadIntegers gguf_integers<QuantFormat::kQ5_0>;
template ReadIntegers gguf_integers<QuantFormat::kQ5_1>;
template ReadIntegers gguf_integers<QuantFormat::kQ8_0>;
template ReadIntegers gguf_integers<QuantFormat::kQ2K>;
template ReadIntegers gguf_integers<QuantFormat::kQ3K>;
template ReadIntegers gguf_integers<QuantFormat::kQ4K>;
template ReadIntegers gguf_integers<QuantFormat::kQ5K>;
template ReadIntegers gguf_integers<QuantFormat::kQ6K>;
template ReadIntegers gguf_integers<QuantFormat::kIq4Nl>;
template ReadIntegers gguf_integers<QuantFormat::kIq4Xs>;

}  // namespace lamina
