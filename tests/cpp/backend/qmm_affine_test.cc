#include "backend/cpu/qmm_affine.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "gemm_testing.h"
#include "quant/affine.h"

namespace lamina::testing {
namespace {

View rows_of(Guarded& g, Dtype t, int64_t rows, int64_t cols) {
  return {g.data(), t, {rows, cols}, {cols, 1}};
}

// Both encoders and decoders on the same weights.
void check_equal(int64_t rows, int64_t cols, Dtype t, int group, int bits, Guarded& w) {
  SCOPED_TRACE(std::string(dtype_name(t)) + " group " + std::to_string(group) + " bits " +
               std::to_string(bits));
  const int64_t words = affine_row_words(cols, bits), groups = cols / group;
  Guarded packed[2] = {{rows * words, Dtype::kFloat32}, {rows * words, Dtype::kFloat32}};
  Guarded scales[2] = {{rows * groups, t}, {rows * groups, t}}, biases[2] = {scales[0], scales[0]};
  Guarded back[2] = {{rows * cols, t}, {rows * cols, t}};
  for (int i : {0, 1}) {
    const auto encode = i == 0 ? affine_quantize : cpu::quantize_affine;
    const auto decode = i == 0 ? affine_dequantize : cpu::dequantize_affine;
    const View codes = rows_of(packed[i], Dtype::kUInt32, rows, words);
    const View s = rows_of(scales[i], t, rows, groups), b = rows_of(biases[i], t, rows, groups);
    encode(rows_of(w, t, rows, cols), group, bits, codes, s, b);
    decode(codes, s, b, group, bits, rows_of(back[i], t, rows, cols));
  }
  EXPECT_TRUE(packed[0].same_bits(packed[1]));
  EXPECT_TRUE(scales[0].same_bits(scales[1]));
  EXPECT_TRUE(biases[0].same_bits(biases[1]));
  EXPECT_TRUE(back[0].same_bits(back[1]));
}

TEST(QmmAffine, SameBitsAsThePlainCode) {
  std::mt19937 rng(1);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (Dtype t : {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBFloat16}) {
      for (int bits : kAffineBits) {
        for (int group : kAffineGroups) {
          Guarded w = random_buffer(7 * 3 * group, t, rng, 3.0);
          check_equal(7, 3 * group, t, group, bits, w);
        }
      }
    }
  });
}

TEST(QmmAffine, TiesConstantsAndNonFiniteWeights) {
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    Guarded w(6 * 64, Dtype::kFloat32);
    for (int64_t i = 0; i < 64; ++i) {
      w.set(i, static_cast<double>(i % 31) / 2);  // codes half way between integers
      w.set(64 + i, 0), w.set(128 + i, -1.5);
      for (int64_t row : {3, 4, 5}) w.set(row * 64 + i, static_cast<double>(i % 13) - 6);
    }
    w.set(3 * 64 + 5, std::numeric_limits<double>::quiet_NaN());
    w.set(4 * 64 + 5, std::numeric_limits<double>::infinity());
    w.set(5 * 64 + 40, -std::numeric_limits<double>::infinity());
    for (int bits : kAffineBits) {
      // NaN scales compare by their bits: both encoders must make the same NaN.
      check_equal(6, 64, Dtype::kFloat32, 32, bits, w);
    }
  });
}

TEST(QmmAffine, StridedWeightsTakeThePlainWay) {
  std::mt19937 rng(2);
  Guarded w = random_buffer(64 * 5, Dtype::kFloat32, rng);
  Guarded packed(5 * 8, Dtype::kFloat32), scales(5 * 2, Dtype::kFloat32), biases(5 * 2, Dtype::kFloat32);
  const View turned{w.data(), Dtype::kFloat32, {5, 64}, {1, 5}};
  const View codes = rows_of(packed, Dtype::kUInt32, 5, 8);
  const View s = rows_of(scales, Dtype::kFloat32, 5, 2), b = rows_of(biases, Dtype::kFloat32, 5, 2);
  cpu::quantize_affine(turned, 32, 4, codes, s, b);
  // The codes of reversed rows, decoded into place.
  Guarded back(5 * 64, Dtype::kFloat32);
  const auto reversed = [](const View& v) {
    const int64_t cols = v.shape[1];
    return View{v.as<uint32_t>() + 4 * cols, v.dtype, v.shape, {-cols, 1}};
  };
  cpu::dequantize_affine(reversed(codes), reversed(s), reversed(b), 32, 4,
                         rows_of(back, Dtype::kFloat32, 5, 64));
  for (int64_t r = 0; r < 5; ++r) {
    for (int64_t c = 0; c < 64; ++c) {
      EXPECT_NEAR(back.at((4 - r) * 64 + c), w.at(c * 5 + r), 1.001 * std::abs(scales.at(r * 2 + c / 32)));
    }
  }
}

}  // namespace
}  // namespace lamina::testing
