#include "backend/cpu/qmm.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "gemm_testing.h"
#include "quant/affine.h"

namespace lamina::testing {
namespace {

using cpu::GemmEpilogue;
using cpu::QmmArgs;
using cpu::QmmMode;
using cpu::quantized_matmul;

// Encoded weights in guarded buffers of exactly their size.
struct Weights {
  Guarded packed, scales, biases;
  int64_t rows, cols;
  int group, bits;

  Weights(int64_t matrices, int64_t rows_, int64_t cols_, int group_, int bits_, Dtype t, std::mt19937& rng)
      : packed(matrices * rows_ * affine_row_words(cols_, bits_), Dtype::kFloat32),
        scales(matrices * rows_ * (cols_ / group_), t),
        biases(matrices * rows_ * (cols_ / group_), t),
        rows(rows_),
        cols(cols_),
        group(group_),
        bits(bits_) {
    Guarded w = random_buffer(matrices * rows * cols, t, rng);
    const auto view = [&](Guarded& g, Dtype dtype, int64_t last) {
      const Shape shape{matrices * rows, last};
      return View{g.data(), dtype, shape, row_major_strides(shape)};
    };
    affine_quantize(view(w, t, cols), group, bits, view(packed, Dtype::kUInt32, affine_row_words(cols, bits)),
                    view(scales, t, cols / group), view(biases, t, cols / group));
  }

  uint32_t code(int64_t row, int64_t col) {
    const uint32_t* words = packed.as<uint32_t>() + row * affine_row_words(cols, bits);
    const int64_t bit = col * bits;
    const uint64_t pair = words[bit / 32] | (bit % 32 + bits > 32 ? uint64_t{words[bit / 32 + 1]} << 32 : 0);
    return static_cast<uint32_t>(pair >> (bit % 32)) & ((1u << bits) - 1);
  }
  double scale(int64_t row, int64_t col) const { return scales.at(row * (cols / group) + col / group); }
  double bias(int64_t row, int64_t col) const { return biases.at(row * (cols / group) + col / group); }
  double at(int64_t row, int64_t col) { return scale(row, col) * code(row, col) + bias(row, col); }
};

struct Case {
  int64_t m, n, k;
  int group = 64, bits = 4;
  bool transpose = true;
  Dtype x = Dtype::kFloat32, s = Dtype::kFloat32, y = Dtype::kFloat32;
  QmmMode mode = QmmMode::kExact;
};

std::string describe(const Case& t) {
  return "m " + std::to_string(t.m) + " n " + std::to_string(t.n) + " k " + std::to_string(t.k) + " group " +
         std::to_string(t.group) + " bits " + std::to_string(t.bits) + (t.transpose ? " T " : " ") +
         std::string(dtype_name(t.x)) + " " + std::string(dtype_name(t.s)) + " " +
         std::string(dtype_name(t.y));
}

QmmArgs args_of(const Case& t, Guarded& x, Weights& w, Guarded& y) {
  QmmArgs q;
  q.m = t.m, q.n = t.n, q.k = t.k, q.group = t.group, q.bits = t.bits, q.transpose = t.transpose,
  q.mode = t.mode;
  q.x = x.data(), q.x_dtype = t.x, q.x_row_stride = t.k;
  q.packed = w.packed.as<uint32_t>(), q.scales = w.scales.data(), q.biases = w.biases.data(),
  q.scale_dtype = t.s;
  q.y = y.data(), q.y_dtype = t.y, q.y_row_stride = t.n;
  return q;
}

void check_case(const Case& t, std::mt19937& rng) {
  SCOPED_TRACE(describe(t));
  Weights w(1, t.transpose ? t.n : t.k, t.transpose ? t.k : t.n, t.group, t.bits, t.s, rng);
  Guarded x = random_buffer(t.m * t.k, t.x, rng), y(t.m * t.n, t.y);
  quantized_matmul(args_of(t, x, w, y));
  ASSERT_TRUE(y.guards_whole());
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t j = 0; j < t.n; ++j) {
      double want = 0, norm = 0, noise = 0;
      for (int64_t g = 0; g < t.k; g += t.group) {
        double most = 0, spread = 0;
        for (int64_t s = g; s < std::min<int64_t>(t.k, g + t.group); ++s) {
          const int64_t row = t.transpose ? j : s, col = t.transpose ? s : j;
          const double xv = x.at(i * t.k + s), wv = w.at(row, col);
          want += xv * wv;
          // The code and the bias are summed apart, so that their magnitudes count.
          norm +=
              std::abs(xv) * (std::abs(w.scale(row, col)) * w.code(row, col) + std::abs(w.bias(row, col)));
          most = std::max(most, std::abs(xv));
          spread += std::abs(wv);
        }
        noise += spread * most / 254;  // int8 mode: half a step of the activations' grid for each
      }
      const double tol = 4 * kEps32 * std::sqrt(static_cast<double>(t.k) + 4) * norm +
                         (t.mode == QmmMode::kInt8 ? noise : 0) + unit_roundoff(t.y) * std::abs(want) +
                         least_step(t.y);
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

// The activations as the int8 mode sees them: 127 steps either way of the largest in each group.
void round_activations(const Case& t, Guarded& x) {
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t g = 0; g < t.k; g += t.group) {
      float most = 0;
      for (int64_t s = g; s < g + t.group; ++s) most = std::max(most, std::abs(x.as<float>()[i * t.k + s]));
      const float scale = most / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0.0f;
      for (int64_t s = g; s < g + t.group; ++s) {
        float& value = x.as<float>()[i * t.k + s];
        value = scale * std::nearbyint(value * inverse);
      }
    }
  }
}

// Against float64 on the rounded activations: what is left is float32 noise of the sum over groups.
void check_int8(const Case& t, std::mt19937& rng) {
  SCOPED_TRACE(describe(t));
  Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
  Guarded x = random_buffer(t.m * t.k, t.x, rng), y(t.m * t.n, t.y);
  quantized_matmul(args_of(t, x, w, y));
  ASSERT_TRUE(y.guards_whole());
  Guarded rounded = x;
  round_activations(t, rounded);
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t j = 0; j < t.n; ++j) {
      double want = 0, norm = 0;
      for (int64_t s = 0; s < t.k; ++s) {
        const double xv = rounded.at(i * t.k + s);
        want += xv * w.at(j, s);
        norm += std::abs(xv) * (std::abs(w.scale(j, s)) * w.code(j, s) + std::abs(w.bias(j, s)));
      }
      const int64_t whole_groups = t.k / t.group;
      const auto groups = static_cast<double>(whole_groups);
      ASSERT_NEAR(y.at(i * t.n + j), want, kEps32 * (4 * std::sqrt(groups) + 8) * norm + least_step(t.y))
          << "at " << i << ", " << j;
    }
  }
}

TEST(Qmm, Int8EveryFormat) {
  std::mt19937 rng(11);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int bits : kAffineBits) {
      for (int group : kAffineGroups) {
        for (int64_t k : {1, 2, 5, 9}) {
          for (int64_t m : {1, 2, 5, 15}) {
            check_int8(
                {.m = m, .n = 31 + m, .k = k * group, .group = group, .bits = bits, .mode = QmmMode::kInt8},
                rng);
          }
        }
      }
    }
  });
}

TEST(Qmm, Int8IsCloseToExact) {
  std::mt19937 rng(12);
  for (Dtype x : {Dtype::kFloat16, Dtype::kBFloat16, Dtype::kFloat32}) {
    for (int64_t m : {1, 20}) {
      check_case({.m = m, .n = 70, .k = 512, .x = x, .s = Dtype::kBFloat16, .y = x, .mode = QmmMode::kInt8},
                 rng);
    }
  }
  // W [K, N] has no int8 kernel: the exact one answers.
  check_case({.m = 5, .n = 64, .k = 64, .transpose = false, .mode = QmmMode::kInt8}, rng);
}

// The largest codes with the largest activations: no step of the integer dots may saturate.
TEST(Qmm, Int8DoesNotSaturate) {
  std::mt19937 rng(13);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int bits : {4, 8}) {
      for (int64_t m : {1, 14}) {
        Case t{.m = m, .n = 40, .k = 256, .group = 128, .bits = bits, .mode = QmmMode::kInt8};
        Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
        std::memset(w.packed.data(), 0xff, static_cast<size_t>(t.n * t.k * bits / 8));
        for (int64_t i = 0; i < w.scales.elems(); ++i) w.scales.set(i, 1), w.biases.set(i, 0);
        Guarded x(m * t.k, Dtype::kFloat32), y(m * t.n, Dtype::kFloat32);
        for (int64_t i = 0; i < m * t.k; ++i) x.set(i, i / t.k % 2 ? -127 : 127);
        quantized_matmul(args_of(t, x, w, y));
        for (int64_t i = 0; i < m * t.n; ++i) {
          const double want = (i / t.n % 2 ? -127.0 : 127.0) * ((1 << bits) - 1) * 256;
          ASSERT_EQ(y.at(i), want);
        }
      }
    }
  });
}

TEST(Qmm, Int8RowsKeepTheirBitsInAnyBatch) {
  std::mt19937 rng(14);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int bits : kAffineBits) {
      for (int group : {32, 128}) {
        Case t{.m = 30, .n = 75, .k = 640, .group = group, .bits = bits, .mode = QmmMode::kInt8};
        Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
        Guarded x = random_buffer(t.m * t.k, Dtype::kFloat32, rng), full(t.m * t.n, Dtype::kFloat32);
        quantized_matmul(args_of(t, x, w, full));
        for (int64_t m : {1, 2, 3, 9, 13}) {
          Guarded part(m * t.n, Dtype::kFloat32);
          Case fewer = t;
          fewer.m = m;
          quantized_matmul(args_of(fewer, x, w, part));
          EXPECT_EQ(std::memcmp(part.data(), full.data(), static_cast<size_t>(m * t.n) * 4), 0)
              << "bits " << bits << " m " << m;
        }
      }
    }
  });
}

TEST(Qmm, Int8NonFiniteActivationsStayInTheirRow) {
  std::mt19937 rng(15);
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (int64_t m : {2, 20}) {
      Case t{.m = m, .n = 40, .k = 128, .mode = QmmMode::kInt8};
      Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
      Guarded x = random_buffer(m * t.k, Dtype::kFloat32, rng), y(m * t.n, Dtype::kFloat32);
      x.set(1 * t.k + 127, bad);
      for (int64_t s = 0; s < 64; ++s) x.set(s, 0.0);
      for (int64_t s = 64; s < 128; ++s) x.set(s, 1e-42);
      quantized_matmul(args_of(t, x, w, y));
      for (int64_t i = 0; i < m * t.n; ++i) {
        EXPECT_EQ(std::isnan(y.at(i)), i / t.n == 1) << i;
        if (i < t.n) { EXPECT_NEAR(y.at(i), 0.0, 1e-40); }
      }
    }
  }
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
      for (int64_t m : {1, 30}) {
        Case t{.m = m, .n = 700, .k = 1024, .bits = bits, .mode = QmmMode::kInt8};
        Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
        Guarded x = random_buffer(m * t.k, Dtype::kFloat32, rng);
        Guarded want(m * t.n, Dtype::kFloat32), got = want;
        {
          ThreadCount one(1);
          quantized_matmul(args_of(t, x, w, want));
        }
        ThreadCount many(7);
        quantized_matmul(args_of(t, x, w, got));
        EXPECT_TRUE(want.same_bits(got)) << describe(t);
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
