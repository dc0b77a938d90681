#include "backend/cpu/amx.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "lamina/dtype.h"

namespace lamina::testing {
namespace {

using namespace cpu;

// Sums, left and right operand in tiles 0, 1 and 2.
AmxShape shape_of(int rows, int depth_bytes, int cols) {
  AmxShape s;
  s.rows[0] = static_cast<uint8_t>(rows), s.row_bytes[0] = static_cast<uint16_t>(4 * cols);
  s.rows[1] = static_cast<uint8_t>(rows), s.row_bytes[1] = static_cast<uint16_t>(depth_bytes);
  s.rows[2] = static_cast<uint8_t>(depth_bytes / 4), s.row_bytes[2] = static_cast<uint16_t>(4 * cols);
  return s;
}

class Amx : public ::testing::Test {
  void SetUp() override {
    if (!amx_supported()) GTEST_SKIP() << "this CPU or system has no AMX tiles";
  }
};

TEST_F(Amx, IntegerProductsAreExactInEveryShape) {
  std::mt19937 rng(1);
  for (int rows : {1, 7, 16}) {
    for (int depth : {4, 32, 64}) {
      for (int cols : {1, 5, 16}) {
        std::vector<uint8_t> left(16 * 64), right(16 * 64);
        for (uint8_t& v : left) v = static_cast<uint8_t>(rng());
        for (uint8_t& v : right) v = static_cast<uint8_t>(rng());
        std::vector<int32_t> mixed(16 * 16, 5), both_signed(16 * 16, 5);
        {
          const AmxTiles tiles(shape_of(rows, depth, cols));
          amx_load<1>(left.data(), 64);
          amx_load<2>(right.data(), 64);
          amx_load<0>(mixed.data(), 64);
          amx_dot_u8s8<0, 1, 2>();
          amx_store<0>(mixed.data(), 64);
          amx_zero<0>();
          amx_dot_s8s8<0, 1, 2>();
          amx_store<0>(both_signed.data(), 64);
        }
        for (int m = 0; m < 16; ++m) {
          for (int n = 0; n < 16; ++n) {
            int want_mixed = 5, want_signed = 0;
            for (int k = 0; k < depth; ++k) {
              const uint8_t a = left[static_cast<size_t>(m * 64 + k)];
              const auto b = static_cast<int8_t>(right[static_cast<size_t>(k / 4 * 64 + n * 4 + k % 4)]);
              want_mixed += a * b, want_signed += static_cast<int8_t>(a) * b;
            }
            // What lies outside the shape stays.
            if (m >= rows || n >= cols) want_mixed = want_signed = 5;
            ASSERT_EQ(mixed[static_cast<size_t>(m * 16 + n)], want_mixed) << m << " " << n;
            ASSERT_EQ(both_signed[static_cast<size_t>(m * 16 + n)], want_signed) << m << " " << n;
          }
        }
      }
    }
  }
}

float flushed(float v) { return std::abs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v; }

// The order and the roundings that amx.h promises, subnormal numbers included.
TEST_F(Amx, BFloat16ProductsRoundAsPromised) {
  std::mt19937 rng(2);
  std::uniform_real_distribution<float> size(-1.0f, 1.0f);
  constexpr int kDepth = 32;
  std::vector<bfloat16_t> left(16 * kDepth), right(16 * kDepth);
  for (int round = 0; round < 20; ++round) {
    const float least = std::exp2(static_cast<float>(-4 * round));
    for (bfloat16_t& v : left) v = bfloat16_t(size(rng) * least);
    for (bfloat16_t& v : right) v = bfloat16_t(size(rng) * least);
    if (round % 4 == 3) left[5] = bfloat16_t(1e-39f), right[9] = bfloat16_t(-1e-39f);
    std::vector<float> sums(16 * 16);
    for (float& v : sums) v = size(rng) * least * least;
    std::vector<float> want = sums;
    {
      const AmxTiles tiles(shape_of(16, 64, 16));
      amx_load<0>(sums.data(), 64);
      amx_load<1>(left.data(), 64);
      amx_load<2>(right.data(), 64);
      amx_dot_bf16<0, 1, 2>();
      amx_store<0>(sums.data(), 64);
    }
    for (size_t m = 0; m < 16; ++m) {
      for (size_t n = 0; n < 16; ++n) {
        float part[2] = {0, 0};
        for (size_t k = 0; k < kDepth; ++k) {
          const auto a = flushed(static_cast<float>(left[m * kDepth + k]));
          const auto b = flushed(static_cast<float>(right[k / 2 * 32 + n * 2 + k % 2]));
          part[k % 2] = flushed(std::fma(a, b, part[k % 2]));
        }
        const float total = flushed(flushed(want[m * 16 + n]) + flushed(part[0] + part[1]));
        ASSERT_EQ(std::memcmp(&sums[m * 16 + n], &total, 4), 0)
            << "round " << round << ": " << sums[m * 16 + n] << " instead of " << total;
      }
    }
  }
}

}  // namespace
}  // namespace lamina::testing
