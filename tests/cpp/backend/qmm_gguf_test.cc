#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "qmm_testing.h"
#include "quant/formats.h"
#include "quant/gguf_blocks.h"

namespace lamina::testing {
namespace {

using cpu::QmmArgs;
using cpu::quantized_matmul;

// Random blocks with scales of either sign in a guarded buffer of exactly their size, and their values.
struct GgufWeights {
  const BlockFormat& format;
  Guarded codes;
  int64_t rows, cols;
  std::vector<float> values;

  GgufWeights(QuantFormat f, int64_t rows_, int64_t cols_, std::mt19937& rng)
      : format(block_format(f)),
        codes(rows_ * format.row_bytes(cols_), Dtype::kUInt8),
        rows(rows_),
        cols(cols_),
        values(static_cast<size_t>(rows_ * cols_)) {
    auto* bytes = codes.as<uint8_t>();
    for (int64_t i = 0; i < codes.elems(); ++i) bytes[i] = static_cast<uint8_t>(rng());
    const int64_t blocks = rows * cols / format.block;
    for (int64_t i = 0; i < blocks; ++i) {
      for (int64_t place : gguf_scale_places(f)) {
        const float16_t d((static_cast<float>(rng() % 2000) - 1000.0f) / 5000.0f);
        std::memcpy(bytes + i * format.code_bytes + place, &d.bits, 2);
      }
    }
    format.decode(bytes, nullptr, blocks, values.data());
  }
  double at(int64_t row, int64_t col) const { return values[static_cast<size_t>(row * cols + col)]; }
};

QmmArgs args_of(int64_t m, bool transpose, QuantFormat format, Guarded& x, GgufWeights& w, Guarded& y) {
  QmmArgs q;
  q.m = m, q.n = transpose ? w.rows : w.cols, q.k = transpose ? w.cols : w.rows, q.transpose = transpose;
  q.format = format, q.group = static_cast<int>(w.format.block), q.bits = w.format.bits;
  q.x = x.data(), q.x_row_stride = q.k;
  q.packed = w.codes.data();
  q.y = y.data(), q.y_row_stride = q.n;
  return q;
}

void check_product(int64_t m, bool transpose, QuantFormat format, int64_t rows, int64_t cols,
                   std::mt19937& rng) {
  SCOPED_TRACE(std::string(block_format(format).name) + " m " + std::to_string(m) + " rows " +
               std::to_string(rows) + " cols " + std::to_string(cols) + (transpose ? " T" : ""));
  GgufWeights w(format, rows, cols, rng);
  const int64_t n = transpose ? rows : cols, k = transpose ? cols : rows;
  Guarded x = random_buffer(m * k, Dtype::kFloat32, rng), y(m * n, Dtype::kFloat32);
  quantized_matmul(args_of(m, transpose, format, x, w, y));
  ASSERT_TRUE(y.guards_whole());
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double want = 0, norm = 0;
      for (int64_t s = 0; s < k; ++s) {
        const double product = x.at(i * k + s) * (transpose ? w.at(j, s) : w.at(s, j));
        want += product, norm += std::abs(product);
      }
      const double tol =
          4 * kEps32 * std::sqrt(static_cast<double>(k) + 4) * norm + least_step(Dtype::kFloat32);
      ASSERT_NEAR(y.at(i * n + j), want, tol) << "at " << i << ", " << j;
    }
  }
}

TEST(QmmGguf, EveryFormatStreamedAndPacked) {
  std::mt19937 rng(1);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (const GgufBlockType& t : kGgufBlockTypes) {
      const int64_t block = block_format(t.format).block;
      for (int64_t m : {1, 3, 8, 9, 20}) {
        check_product(m, true, t.format, 3 + m, block, rng);
        check_product(m, true, t.format, 37, 5 * block, rng);
        check_product(m, false, t.format, 5 + m, 3 * block, rng);
      }
      check_product(2, true, t.format, 5, 2560, rng);
      check_product(13, true, t.format, 70, 2304, rng);
    }
  });
}

// One-hot activations pick weights: each must have the bits of the format's own decoder.
TEST(QmmGguf, VectorsDecodeToTheSameBits) {
  std::mt19937 rng(2);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (const GgufBlockType& t : kGgufBlockTypes) {
      SCOPED_TRACE(std::string(block_format(t.format).name));
      const int64_t k = 512, n = 5;
      GgufWeights w(t.format, n, k, rng);
      for (int64_t first = 0; first < k; first += 8) {
        Guarded x(8 * k, Dtype::kFloat32), y(8 * n, Dtype::kFloat32);
        std::fill_n(x.as<float>(), 8 * k, 0.0f);
        for (int64_t i = 0; i < 8; ++i) x.as<float>()[i * k + first + i] = 1;
        quantized_matmul(args_of(8, true, t.format, x, w, y));
        for (int64_t i = 0; i < 8 * n; ++i)
          ASSERT_EQ(y.at(i), w.at(i % n, first + i / n)) << first << " " << i;
      }
    }
  });
}

TEST(QmmGguf, ThreadsDoNotChangeAnything) {
  std::mt19937 rng(3);
  for (const GgufBlockType& t : kGgufBlockTypes) {
    for (const int64_t m : {1, 20}) {
      GgufWeights w(t.format, 300, 512, rng);
      Guarded x = random_buffer(m * 512, Dtype::kFloat32, rng), one(m * 300, Dtype::kFloat32), many = one;
      {
        const ThreadCount threads(1);
        quantized_matmul(args_of(m, true, t.format, x, w, one));
      }
      const ThreadCount threads(3);
      quantized_matmul(args_of(m, true, t.format, x, w, many));
      EXPECT_TRUE(one.same_bits(many)) << block_format(t.format).name;
    }
  }
}

}  // namespace
}  // namespace lamina::testing
