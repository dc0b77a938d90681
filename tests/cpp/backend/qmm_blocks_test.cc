#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>

#include "backend/cpu/qmm.h"
#include "gemm_testing.h"
#include "quant/formats.h"
#include "quant/fp_blocks.h"

namespace lamina::testing {
namespace {

using cpu::QmmArgs;
using cpu::quantized_matmul;

constexpr QuantFormat kFormats[] = {QuantFormat::kMxfp4, QuantFormat::kMxfp8, QuantFormat::kNvfp4,
                                    QuantFormat::kFp8};

// Random codes and scales of ordinary size in guarded buffers of exactly their size, and their values.
struct BlockWeights {
  const BlockFormat& format;
  Guarded codes, scales;
  int64_t rows, cols;
  std::vector<float> values;

  BlockWeights(QuantFormat f, int64_t matrices, int64_t rows_, int64_t cols_, std::mt19937& rng)
      : format(block_format(f)),
        codes(matrices * rows_ * format.row_bytes(cols_), Dtype::kUInt8),
        scales(matrices * rows_ * format.row_scale_bytes(cols_), Dtype::kUInt8),
        rows(rows_),
        cols(cols_),
        values(static_cast<size_t>(matrices * rows_ * cols_)) {
    for (int64_t i = 0; i < codes.elems(); ++i) {
      uint8_t code = static_cast<uint8_t>(rng());
      if (format.bits == 8 && (code & 0x7f) == 0x7f) code ^= 1;  // NaN
      codes.as<uint8_t>()[i] = code;
    }
    for (int64_t i = 0; i < scales.elems(); ++i) {
      scales.as<uint8_t>()[i] =
          static_cast<uint8_t>(f == QuantFormat::kNvfp4 ? 8 + rng() % 112 : 113 + rng() % 8);
    }
    if (f == QuantFormat::kFp8) {
      for (int64_t i = 0; i < scales.elems(); i += 4) {
        const float scale = 0.25f + static_cast<float>(rng() % 1024) / 512;
        std::memcpy(scales.as<uint8_t>() + i, &scale, 4);
      }
    }
    const int64_t blocks = matrices * rows * cols / format.block;
    format.decode(codes.as<uint8_t>(), scales.as<uint8_t>(), blocks, values.data());
  }
  double at(int64_t row, int64_t col) const { return values[static_cast<size_t>(row * cols + col)]; }
};

struct Case {
  QuantFormat format;
  int64_t m, n, k;
  bool transpose = true;
  Dtype x = Dtype::kFloat32;
};

QmmArgs args_of(const Case& t, Guarded& x, BlockWeights& w, Guarded& y) {
  QmmArgs q;
  q.m = t.m, q.n = t.n, q.k = t.k, q.transpose = t.transpose;
  q.format = t.format, q.group = static_cast<int>(w.format.block), q.bits = w.format.bits;
  q.x = x.data(), q.x_dtype = t.x, q.x_row_stride = t.k;
  q.packed = w.codes.data(), q.scales = w.scales.data(), q.scale_dtype = Dtype::kUInt8;
  q.y = y.data(), q.y_dtype = t.x, q.y_row_stride = t.n;
  return q;
}

void check_product(const Case& t, const Guarded& x, int64_t x0, const BlockWeights& w, int64_t row0,
                   const Guarded& y, int64_t y0) {
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t j = 0; j < t.n; ++j) {
      double want = 0, norm = 0;
      for (int64_t s = 0; s < t.k; ++s) {
        const double wv = t.transpose ? w.at(row0 + j, s) : w.at(row0 + s, j);
        const double xv = x.at(x0 + i * t.k + s);
        want += xv * wv, norm += std::abs(xv * wv);
      }
      const double tol = 4 * kEps32 * std::sqrt(static_cast<double>(t.k) + 4) * norm +
                         unit_roundoff(t.x) * std::abs(want) + least_step(t.x);
      ASSERT_NEAR(y.at(y0 + i * t.n + j), want, tol) << "at " << i << ", " << j;
    }
  }
}

void check_case(const Case& t, std::mt19937& rng) {
  SCOPED_TRACE(std::string(block_format(t.format).name) + " m " + std::to_string(t.m) + " n " +
               std::to_string(t.n) + " k " + std::to_string(t.k) + (t.transpose ? " T " : " ") +
               std::string(dtype_name(t.x)));
  BlockWeights w(t.format, 1, t.transpose ? t.n : t.k, t.transpose ? t.k : t.n, rng);
  Guarded x = random_buffer(t.m * t.k, t.x, rng), y(t.m * t.n, t.x);
  quantized_matmul(args_of(t, x, w, y));
  ASSERT_TRUE(y.guards_whole());
  check_product(t, x, 0, w, 0, y, 0);
}

TEST(QmmBlocks, EveryFormatStreamedAndPacked) {
  std::mt19937 rng(1);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (const QuantFormat format : kFormats) {
      const int64_t block = block_format(format).block;
      for (int64_t k : {1, 2, 3, 5, 9, 17, 33}) {
        for (int64_t m : {1, 2, 3, 5, 8, 9, 20}) {
          check_case({format, m, 3 + m, k * block}, rng);
          if (m < 4) check_case({format, m, k * block, 37 + m, false}, rng);
        }
      }
      check_case({format, 13, 70, 38 * block, true}, rng);
      check_case({format, 13, 40 * block, 300, false}, rng);
    }
  });
}

TEST(QmmBlocks, EveryDtypeOfActivations) {
  std::mt19937 rng(2);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (const QuantFormat format : kFormats) {
      for (const Dtype t : {Dtype::kFloat16, Dtype::kBFloat16}) {
        for (int64_t m : {1, 12}) {
          check_case({format, m, 33, 96, true, t}, rng);
          check_case({format, m, 96, 33, false, t}, rng);
        }
      }
    }
  });
}

TEST(QmmBlocks, BatchesPickTheirMatrices) {
  std::mt19937 rng(3);
  for (const QuantFormat format : kFormats) {
    for (const bool transpose : {true, false}) {
      const Case t{format, 2, 64, 96, transpose};
      const int64_t rows = transpose ? t.n : t.k, cols = transpose ? t.k : t.n;
      BlockWeights w(format, 3, rows, cols, rng);
      Guarded x = random_buffer(2 * t.m * t.k, t.x, rng), y(4 * t.m * t.n, t.x);
      QmmArgs q = args_of(t, x, w, y);
      const int64_t x_at[] = {0, t.m * t.k, 0, t.m * t.k}, matrix[] = {2, 0, 1, 2};
      const int64_t y_at[] = {0, t.m * t.n, 2 * t.m * t.n, 3 * t.m * t.n};
      q.batch = 4, q.x_offsets = x_at, q.w_matrix = matrix, q.y_offsets = y_at;
      quantized_matmul(q);
      ASSERT_TRUE(y.guards_whole());
      for (size_t i = 0; i < 4; ++i) check_product(t, x, x_at[i], w, matrix[i] * rows, y, y_at[i]);
    }
  }
}

TEST(QmmBlocks, ThreadsDoNotChangeAnything) {
  std::mt19937 rng(4);
  for (const QuantFormat format : kFormats) {
    for (const int64_t m : {1, 5, 64}) {
      const Case t{format, m, 512, 1024};
      BlockWeights w(format, 1, t.n, t.k, rng);
      Guarded x = random_buffer(t.m * t.k, t.x, rng), one(t.m * t.n, t.x), many = one;
      {
        const ThreadCount threads(1);
        quantized_matmul(args_of(t, x, w, one));
      }
      const ThreadCount threads(3);
      quantized_matmul(args_of(t, x, w, many));
      EXPECT_TRUE(one.same_bits(many));
    }
  }
}

// A NaN or an infinity in a weight reaches its own column of the product and no other.
TEST(QmmBlocks, NonFiniteWeightsStayInTheirRow) {
  std::mt19937 rng(5);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (const QuantFormat format : kFormats) {
      for (const int64_t m : {1, 12}) {
        const Case t{format, m, 9, 96};
        BlockWeights w(format, 1, t.n, t.k, rng);
        w.scales.as<uint8_t>()[w.scales.elems() / 9 * 4] = format == QuantFormat::kNvfp4 ? 0x7f : 255;
        Guarded x = random_buffer(t.m * t.k, t.x, rng), y(t.m * t.n, t.x);
        quantized_matmul(args_of(t, x, w, y));
        for (int64_t i = 0; i < t.m * t.n; ++i) EXPECT_EQ(std::isfinite(y.at(i)), i % t.n != 4) << i;
        if (format != QuantFormat::kMxfp8) continue;
        // E4M3 codes may be NaN themselves: first, last and in between.
        for (const int64_t at : {int64_t{0}, t.k - 1, t.k / 2}) {
          uint8_t& code = w.codes.as<uint8_t>()[7 * t.k + at];
          const uint8_t before = std::exchange(code, at % 2 ? 0x7f : 0xff);
          quantized_matmul(args_of(t, x, w, y));
          for (int64_t i = 0; i < t.m; ++i) EXPECT_TRUE(std::isnan(y.at(i * t.n + 7)));
          EXPECT_TRUE(std::isfinite(y.at(6)) && std::isfinite(y.at(8)));
          code = before;
        }
      }
    }
  });
}

}  // namespace
}  // namespace lamina::testing
