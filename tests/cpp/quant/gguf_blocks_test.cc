#include "quant/gguf_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <vector>

#include "lamina/dtype.h"
#include "quant/formats.h"

namespace lamina {
namespace {

// Made by tests/golden/make_gguf.py with the reference decoders.
struct Digest {
  std::string_view name;
  uint64_t value;
};
constexpr Digest kDigests[] = {
    {"q4_0", 0xca974af062073de1}, {"q4_1", 0x6b7753d121a1e9e5},   {"q5_0", 0x4f765338693a9679},
    {"q5_1", 0x1732e6ae27bdf9cb}, {"q8_0", 0x12695c2c68ce0b2a},   {"q2_k", 0xf07ca9d66117beea},
    {"q3_k", 0x3ccea1aac2a66f14}, {"q4_k", 0xaafb6ab44241e8c1},   {"q5_k", 0xba2acea97e51a8bf},
    {"q6_k", 0xcc7332bb44fc7ed6}, {"iq4_nl", 0xe8604d0ee4035667}, {"iq4_xs", 0x4f01d9dbd4936ef1},
};

// Places of the float16 fields in a block.
std::vector<int64_t> half_fields(QuantFormat f) {
  switch (f) {
    case QuantFormat::kQ4_1:
    case QuantFormat::kQ5_1:
    case QuantFormat::kQ4K:
    case QuantFormat::kQ5K: return {0, 2};
    case QuantFormat::kQ2K: return {80, 82};
    case QuantFormat::kQ3K: return {108};
    case QuantFormat::kQ6K: return {208};
    default: return {0};
  }
}

// The blocks of make_gguf.py.
std::vector<uint8_t> hashed_blocks(QuantFormat f, int64_t count) {
  const int64_t size = block_format(f).code_bytes;
  std::vector<uint8_t> out(static_cast<size_t>(count * size));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<uint8_t>((uint64_t{i} * 2654435761U & 0xffffffff) >> 13);
  }
  for (int64_t b = 0; b < count; ++b) {
    for (int64_t place : half_fields(f)) out[static_cast<size_t>(b * size + place + 1)] &= 0xbf;
  }
  return out;
}

std::vector<float> decode(QuantFormat f, const std::vector<uint8_t>& blocks) {
  const int64_t count = static_cast<int64_t>(blocks.size()) / block_format(f).code_bytes;
  std::vector<float> out(static_cast<size_t>(count * block_format(f).block),
                         std::numeric_limits<float>::quiet_NaN());
  block_format(f).decode(blocks.data(), nullptr, count, out.data());
  return out;
}

class Blocks : public testing::TestWithParam<size_t> {
 protected:
  static QuantFormat format() { return kGgufBlockTypes[GetParam()].format; }
};
INSTANTIATE_TEST_SUITE_P(Formats, Blocks, testing::Range(size_t{0}, kGgufBlockTypes.size()),
                         [](const auto& p) {
                           return std::string(block_format(kGgufBlockTypes[p.param].format).name);
                         });

TEST_P(Blocks, DecodeToTheReferencesBits) {
  EXPECT_EQ(kDigests[GetParam()].name, block_format(format()).name);
  const std::vector<float> values = decode(format(), hashed_blocks(format(), 300));
  uint64_t h = 0xcbf29ce484222325;
  for (float v : values) {
    uint8_t bytes[4];
    std::memcpy(bytes, &v, 4);
    for (uint8_t byte : bytes) h = (h ^ byte) * 0x100000001b3;
  }
  EXPECT_EQ(h, kDigests[GetParam()].value);
}

TEST_P(Blocks, AreFoundByNameAndNumber) {
  EXPECT_EQ(find_format(block_format(format()).name), format());
  EXPECT_EQ(gguf_format(*gguf_number(format())), format());
}

TEST_P(Blocks, ZeroScalesDecodeToZero) {
  std::vector<uint8_t> blocks = hashed_blocks(format(), 2);
  const int64_t size = block_format(format()).code_bytes;
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t place : half_fields(format()))
      std::memset(&blocks[static_cast<size_t>(b * size + place)], 0, 2);
  }
  for (float v : decode(format(), blocks)) EXPECT_EQ(v, 0.0F);
}

TEST_P(Blocks, ExtremeScalesStayInFloat32) {
  for (uint16_t d : {uint16_t{0x0001}, uint16_t{0x7bff}, uint16_t{0xfbff}}) {
    std::vector<uint8_t> blocks = hashed_blocks(format(), 3);
    const int64_t size = block_format(format()).code_bytes;
    for (int64_t b = 0; b < 3; ++b) {
      for (int64_t place : half_fields(format()))
        std::memcpy(&blocks[static_cast<size_t>(b * size + place)], &d, 2);
    }
    for (float v : decode(format(), blocks)) EXPECT_TRUE(std::isfinite(v));
  }
}

TEST(GgufBlocks, UnknownOnesAreNotFound) {
  for (std::string_view name : {"", "Q4_0", "q8_1", "q4_k "}) EXPECT_FALSE(find_format(name)) << name;
  for (uint32_t type : {0U, 1U, 9U, 15U, 24U, 1000U}) EXPECT_FALSE(gguf_format(type)) << type;
  for (QuantFormat f : {QuantFormat::kAffine, QuantFormat::kMxfp4}) EXPECT_FALSE(gguf_number(f));
}

TEST(GgufBlocks, Q4KByHand) {
  // Sub-block 5 of scale 33 and minimum 50, whose top bits lie with those of sub-block 1.
  std::vector<uint8_t> block(144, 0);
  const uint16_t two = float16_t(2.0F).bits, half = float16_t(0.5F).bits;
  std::memcpy(&block[0], &two, 2);
  std::memcpy(&block[2], &half, 2);
  block[4 + 1] = 33 >> 4 << 6;
  block[4 + 5] = 50 >> 4 << 6;
  block[4 + 9] = (33 & 15) | (50 & 15) << 4;
  block[16 + 64 + 7] = 0xb0;  // the high nibble of byte 7 of the third 32
  const std::vector<float> out = decode(QuantFormat::kQ4K, block);
  EXPECT_EQ(out[5 * 32 + 7], 2.0F * 33 * 11 - 0.5F * 50);
  EXPECT_EQ(out[5 * 32 + 6], -0.5F * 50);
  EXPECT_EQ(out[4 * 32 + 7], 0.0F);
}

}  // namespace
}  // namespace lamina
