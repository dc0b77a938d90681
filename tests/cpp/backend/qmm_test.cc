#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "qmm_testing.h"

namespace lamina::testing {
namespace {

using cpu::GemmEpilogue;
using cpu::QmmArgs;
using cpu::quantized_matmul;

void check_case(const Case& t, std::mt19937& rng) {
  SCOPED_TRACE(describe(t));
  Weights w(1, t.transpose ? t.n : t.k, t.transpose ? t.k : t.n, t.group, t.bits, t.s, rng);
  Guarded x = random_buffer(t.m * t.k, t.x, rng), y(t.m * t.n, t.y);
  quantized_matmul(args_of(t, x, w, y));
  ASSERT_TRUE(y.guards_whole());
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t j = 0; j < t.n; ++j) {
      double want = 0, norm = 0;
      for (int64_t s = 0; s < t.k; ++s) {
        const int64_t row = t.transpose ? j : s, col = t.transpose ? s : j;
        const double xv = x.at(i * t.k + s);
        want += xv * w.at(row, col);
        // The code and the bias are summed apart, so that their magnitudes count.
        norm += std::abs(xv) * (std::abs(w.scale(row, col)) * w.code(row, col) + std::abs(w.bias(row, col)));
      }
      const double tol = 4 * kEps32 * std::sqrt(static_cast<double>(t.k) + 4) * norm +
                         unit_roundoff(t.y) * std::abs(want) + least_step(t.y);
      ASSERT_NEAR(y.at(i * t.n + j), want, tol) << "at " << i << ", " << j;
    }
  }
}

TEST(Qmm, EveryFormatStreamed) {
  std::mt19937 rng(1);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int bits : kAffineBits) {
      for (int group : kAffineGroups) {
        for (int64_t k : {1, 2, 3, 5, 9}) {
          for (int64_t m : {1, 2, 3, 4, 7}) {
            check_case({.m = m, .n = 5 + m, .k = k * group, .group = group, .bits = bits}, rng);
          }
        }
      }
    }
  });
}

TEST(Qmm, EveryFormatPacked) {
  std::mt19937 rng(2);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int bits : kAffineBits) {
      for (int group : kAffineGroups) {
        check_case({.m = 9, .n = 37, .k = 5 * group, .group = group, .bits = bits}, rng);
        check_case({.m = 20, .n = 64, .k = 3 * group, .group = group, .bits = bits}, rng);
        for (int64_t m : {1, 3, 18}) {
          check_case({.m = m, .n = 3 * group, .k = 37, .group = group, .bits = bits, .transpose = false},
                     rng);
        }
      }
    }
  });
}

TEST(Qmm, EveryMixtureOfDtypes) {
  std::mt19937 rng(3);
  constexpr Dtype kTypes[] = {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBFloat16};
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (Dtype x : kTypes) {
      for (Dtype s : kTypes) {
        for (Dtype y : kTypes) {
          for (int64_t m : {1, 12}) {
            for (bool transpose : {true, false}) {
              check_case({.m = m, .n = 64, .k = 192, .transpose = transpose, .x = x, .s = s, .y = y}, rng);
            }
          }
        }
      }
    }
  });
}

TEST(Qmm, LargerThanEveryBlock) {
  std::mt19937 rng(4);
  for (int bits : {4, 8}) {
    check_case({.m = 1, .n = 1000, .k = 1024, .bits = bits}, rng);
    check_case({.m = 5, .n = 300, .k = 2048, .bits = bits}, rng);
    check_case({.m = 65, .n = 300, .k = 1024, .bits = bits}, rng);
    check_case({.m = 9, .n = 1024, .k = 300, .bits = bits, .transpose = false}, rng);
  }
}

TEST(Qmm, StridedActivations) {
  std::mt19937 rng(5);
  for (int64_t m : {2, 15}) {
    Case t{.m = m, .n = 33, .k = 128};
    Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
    Guarded x = random_buffer(m * t.k, Dtype::kFloat32, rng), turned(m * t.k, Dtype::kFloat32);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t s = 0; s < t.k; ++s) turned.set((t.k - 1 - s) * m + i, x.at(i * t.k + s));
    }
    Guarded want(m * t.n, Dtype::kFloat32), got(m * t.n, Dtype::kFloat32);
    quantized_matmul(args_of(t, x, w, want));
    QmmArgs q = args_of(t, turned, w, got);
    q.x = turned.as<float>() + (t.k - 1) * m, q.x_row_stride = 1, q.x_col_stride = -m;
    quantized_matmul(q);
    EXPECT_TRUE(want.same_bits(got));
  }
}

TEST(Qmm, BatchPicksItsWeights) {
  std::mt19937 rng(6);
  for (int64_t m : {1, 10}) {
    Case t{.m = m, .n = 48, .k = 128};
    const int64_t batch = 7, matrices = 3;
    Weights w(matrices, t.n, t.k, t.group, t.bits, t.s, rng);
    Guarded x = random_buffer(batch * m * t.k, Dtype::kFloat32, rng), y(batch * m * t.n, Dtype::kFloat32);
    std::vector<int64_t> x_at, y_at, matrix;
    for (int64_t i = 0; i < batch; ++i) {
      x_at.push_back(i * m * t.k), y_at.push_back((batch - 1 - i) * m * t.n),
          matrix.push_back(i * 2 % matrices);
    }
    QmmArgs q = args_of(t, x, w, y);
    q.batch = batch, q.x_offsets = x_at.data(), q.y_offsets = y_at.data(), q.w_matrix = matrix.data();
    quantized_matmul(q);
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < t.n; ++j) {
          double want = 0, norm = 0;
          const auto at = static_cast<size_t>(b);
          for (int64_t s = 0; s < t.k; ++s) {
            const int64_t row = matrix[at] * t.n + j;
            want += x.at(x_at[at] + i * t.k + s) * w.at(row, s);
            norm += std::abs(x.at(x_at[at] + i * t.k + s)) *
                    (std::abs(w.scale(row, s)) * w.code(row, s) + std::abs(w.bias(row, s)));
          }
          ASSERT_NEAR(y.at(y_at[at] + i * t.n + j), want, 4 * kEps32 * std::sqrt(132.0) * norm);
        }
      }
    }
  }
}

TEST(Qmm, EpilogueSeesEveryElementOnce) {
  std::mt19937 rng(7);
  for (int64_t m : {3, 40}) {
    Case t{.m = m, .n = 500, .k = 128};
    Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
    Guarded x = random_buffer(m * t.k, Dtype::kFloat32, rng);
    Guarded plain(m * t.n, Dtype::kFloat32), hooked(m * t.n, Dtype::kFloat32);
    quantized_matmul(args_of(t, x, w, plain));
    const auto hook = [](float* tile, int64_t row0, int64_t rows, int64_t col0, int64_t cols, int64_t ld) {
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < cols; ++j)
          tile[i * ld + j] += static_cast<float>(1000 * (row0 + i) + col0 + j);
      }
    };
    const GemmEpilogue epilogue(hook);
    QmmArgs q = args_of(t, x, w, hooked);
    q.epilogue = &epilogue;
    quantized_matmul(q);
    for (int64_t i = 0; i < m * t.n; ++i) {
      const int64_t row = i / t.n, added = 1000 * row + i % t.n;
      ASSERT_EQ(hooked.as<float>()[i], plain.as<float>()[i] + static_cast<float>(added));
    }
  }
}

TEST(Qmm, EmptySharedAxisAndEmptyOutputs) {
  std::mt19937 rng(8);
  check_case({.m = 2, .n = 64, .k = 0}, rng);
  check_case({.m = 2, .n = 64, .k = 0, .transpose = false}, rng);
  check_case({.m = 0, .n = 64, .k = 64}, rng);
  check_case({.m = 2, .n = 0, .k = 64}, rng);
}

TEST(Qmm, BitsDoNotDependOnTheThreads) {
  std::mt19937 rng(9);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int bits : {3, 4, 8}) {
      for (int64_t m : {1, 6, 30}) {
        Case t{.m = m, .n = 700, .k = 1024, .bits = bits};
        Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
        Guarded x = random_buffer(m * t.k, Dtype::kFloat32, rng);
        Guarded want(m * t.n, Dtype::kFloat32);
        {
          ThreadCount one(1);
          quantized_matmul(args_of(t, x, w, want));
        }
        for (int threads : {2, 7}) {
          ThreadCount many(threads);
          Guarded got(m * t.n, Dtype::kFloat32);
          quantized_matmul(args_of(t, x, w, got));
          EXPECT_TRUE(want.same_bits(got)) << describe(t) << " threads " << threads;
        }
      }
    }
  });
}

TEST(Qmm, NonFiniteActivationsStayInTheirRow) {
  std::mt19937 rng(10);
  for (int64_t m : {3, 20}) {
    Case t{.m = m, .n = 40, .k = 128};
    Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
    Guarded x = random_buffer(m * t.k, Dtype::kFloat32, rng), y(m * t.n, Dtype::kFloat32);
    x.set(1 * t.k + 127, std::numeric_limits<double>::quiet_NaN());
    quantized_matmul(args_of(t, x, w, y));
    for (int64_t i = 0; i < m * t.n; ++i) EXPECT_EQ(std::isnan(y.at(i)), i / t.n == 1) << i;
  }
}

}  // namespace
}  // namespace lamina::testing
