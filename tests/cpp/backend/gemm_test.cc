#include "backend/cpu/gemm.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_scratch.h"
#include "gemm_cases.h"

namespace lamina::testing {
namespace {

using cpu::gemm;
using cpu::GemmArgs;
using cpu::GemmEpilogue;
using cpu::GemmMatrix;

TEST(Gemm, EverySmallSize) {
  std::mt19937 rng(1);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t m = 1; m <= 18; ++m) {
      for (int64_t n : {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 47, 65}) {
        for (int64_t k : {1, 2, 5, 16, 33}) check_case({.m = m, .n = n, .k = k}, rng);
      }
    }
  });
}

TEST(Gemm, EveryPairOfLayouts) {
  std::mt19937 rng(2);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (Layout la : kLayouts) {
      for (Layout lb : kLayouts) {
        for (int64_t m : {1, 5, 37}) {
          check_case({.m = m, .n = 41, .k = 19, .la = la, .lb = lb}, rng);
          check_case({.m = 37, .n = m, .k = 19, .la = la, .lb = lb}, rng);
        }
      }
    }
  });
}

TEST(Gemm, EveryMixtureOfDtypes) {
  std::mt19937 rng(3);
  constexpr Dtype kTypes[] = {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBFloat16};
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (Dtype a : kTypes) {
      for (Dtype b : kTypes) {
        for (Dtype c : kTypes) {
          for (Layout lb : {Layout::kRows, Layout::kColumns}) {
            check_case({.m = 3, .n = 45, .k = 70, .a = a, .b = b, .c = c, .lb = lb}, rng);
            check_case({.m = 45, .n = 3, .k = 70, .a = a, .b = b, .c = c, .lb = lb}, rng);
            check_case({.m = 33, .n = 45, .k = 70, .a = a, .b = b, .c = c, .lb = lb}, rng);
          }
        }
      }
    }
    const Dtype d = Dtype::kFloat64;
    for (Layout lb : {Layout::kRows, Layout::kColumns, Layout::kReversed}) {
      check_case({.m = 17, .n = 45, .k = 70, .a = d, .b = d, .c = d, .lb = lb}, rng);
    }
  });
}

TEST(Gemm, ScalesAndAdds) {
  std::mt19937 rng(4);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (Dtype t : {Dtype::kFloat32, Dtype::kFloat16, Dtype::kFloat64}) {
      for (int64_t m : {1, 30}) {
        for (double alpha : {1.0, -0.5, 0.0}) {
          for (double beta : {0.0, 1.0, 2.5}) {
            check_case({.m = m, .n = 35, .k = 20, .a = t, .b = t, .c = t, .alpha = alpha, .beta = beta}, rng);
            check_case({.m = 30, .n = m, .k = 20, .a = t, .b = t, .c = t, .alpha = alpha, .beta = beta}, rng);
          }
        }
      }
    }
  });
}

TEST(Gemm, EmptySharedAxisGivesTheAddend) {
  std::mt19937 rng(5);
  for (int64_t m : {1, 20}) {
    check_case({.m = m, .n = 9, .k = 0}, rng);
    check_case({.m = m, .n = 9, .k = 0, .beta = 1.5}, rng);
  }
}

TEST(Gemm, EmptyOutputsTouchNothing) {
  Guarded c(4, Dtype::kFloat32);
  for (auto [m, n] : {std::pair<int64_t, int64_t>{0, 4}, {4, 0}}) {
    GemmArgs g;
    g.m = m, g.n = n, g.k = 3, g.c = c.data(), g.ldc = 1;
    gemm(g);
  }
  for (int64_t i = 0; i < 4; ++i) EXPECT_TRUE(c.untouched(i));
}

TEST(Gemm, AroundTheBlocks) {
  std::mt19937 rng(6);
  for (int64_t k : {255, 256, 257, 700}) {
    for (int64_t m : {1, 16, 17, 56}) {
      check_case({.m = m, .n = 70, .k = k}, rng);
      check_case({.m = m, .n = 70, .k = k, .lb = Layout::kColumns}, rng);
    }
  }
  check_case({.m = 300, .n = 530, .k = 300}, rng);
  check_case({.m = 300, .n = 530, .k = 300, .c = Dtype::kBFloat16}, rng);
  check_case({.m = 3, .n = 40, .k = 2500, .lb = Layout::kColumns}, rng);
}

TEST(Gemm, ManyRowsAreTakenInSlabsAndManyStepsInSpans) {
  std::mt19937 rng(7);
  check_case({.m = 4100, .n = 20, .k = 600}, rng);
  check_case({.m = 448, .n = 33, .k = 5000}, rng);
  check_case({.m = 448, .n = 33, .k = 5000, .c = Dtype::kBFloat16, .alpha = 0.5, .beta = 2}, rng);
}

// Huge terms that cancel: the error is bounded by the terms' magnitude, not by the result's.
TEST(Gemm, CancellationStaysWithinTheNorm) {
  std::mt19937 rng(8);
  const int64_t m = 20, n = 40, k = 512;
  Guarded a = random_buffer(m * k, Dtype::kFloat32, rng), b = random_buffer(k * n, Dtype::kFloat32, rng);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t s = 0; s < k; s += 2) {
      a.set(i * k + s, 1e6 * a.at(i * k + s));
      a.set(i * k + s + 1, -a.at(i * k + s));
    }
  }
  for (int64_t s = 0; s < k; s += 2) {
    for (int64_t j = 0; j < n; ++j) b.set((s + 1) * n + j, b.at(s * n + j) * (1 + 1e-6));
  }
  Guarded c(m * n, Dtype::kFloat32);
  GemmArgs g;
  g.m = m, g.n = n, g.k = k, g.ldc = n, g.c = c.data();
  g.a = {a.data(), Dtype::kFloat32, k, 1}, g.b = {b.data(), Dtype::kFloat32, n, 1};
  gemm(g);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double want = 0, norm = 0;
      for (int64_t s = 0; s < k; ++s) {
        want += a.at(i * k + s) * b.at(s * n + j);
        norm += std::abs(a.at(i * k + s) * b.at(s * n + j));
      }
      EXPECT_NEAR(c.at(i * n + j), want, 4 * std::sqrt(static_cast<double>(k)) * kEps32 * norm);
    }
  }
}

TEST(Gemm, NonFiniteOperandsReachOnlyTheirRowsAndColumns) {
  std::mt19937 rng(9);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t m : {2, 31}) {
      const int64_t n = 37, k = 21;
      Guarded a = random_buffer(m * k, Dtype::kFloat32, rng), b = random_buffer(k * n, Dtype::kFloat32, rng);
      a.set(1 * k + k - 1, nan);
      b.set(3 * n + n - 1, std::numeric_limits<double>::infinity());
      Guarded c(m * n, Dtype::kFloat32);
      GemmArgs g;
      g.m = m, g.n = n, g.k = k, g.ldc = n, g.c = c.data();
      g.a = {a.data(), Dtype::kFloat32, k, 1}, g.b = {b.data(), Dtype::kFloat32, n, 1};
      gemm(g);
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          if (i == 1) {
            EXPECT_TRUE(std::isnan(c.at(i * n + j)));
          } else {
            EXPECT_EQ(std::isfinite(c.at(i * n + j)), j != n - 1);
          }
        }
      }
    }
  });
}

TEST(Gemm, BatchesWithSharedAndStridedOperands) {
  std::mt19937 rng(10);
  for (auto [m, n, k] : {std::array<int64_t, 3>{4, 6, 5}, {1, 64, 32}, {70, 90, 80}}) {
    const int64_t batch = 11;
    Guarded a = random_buffer(batch * m * k, Dtype::kFloat32, rng);
    Guarded b = random_buffer(3 * k * n, Dtype::kFloat32, rng);
    Guarded c(batch * m * n, Dtype::kFloat32);
    std::vector<int64_t> a_at, b_at, c_at;
    for (int64_t i = 0; i < batch; ++i) {
      a_at.push_back((batch - 1 - i) * m * k), b_at.push_back(i % 3 * k * n), c_at.push_back(i * m * n);
    }
    GemmArgs g;
    g.m = m, g.n = n, g.k = k, g.ldc = n, g.c = c.data(), g.batch = batch;
    g.a = {a.data(), Dtype::kFloat32, k, 1}, g.b = {b.data(), Dtype::kFloat32, n, 1};
    g.a_offsets = a_at.data(), g.b_offsets = b_at.data(), g.c_offsets = c_at.data();
    gemm(g);
    EXPECT_TRUE(c.guards_whole());
    for (int64_t p = 0; p < batch; ++p) {
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double want = 0, norm = 0;
          for (int64_t s = 0; s < k; ++s) {
            const auto at = static_cast<size_t>(p);
            const double term = a.at(a_at[at] + i * k + s) * b.at(b_at[at] + s * n + j);
            want += term, norm += std::abs(term);
          }
          ASSERT_NEAR(c.at(c_at[static_cast<size_t>(p)] + i * n + j), want,
                      (4 * std::sqrt(static_cast<double>(k)) + 4) * kEps32 * norm);
        }
      }
    }
  }
}

TEST(Gemm, ComplexMatchesFloat64) {
  std::mt19937 rng(11);
  const int64_t m = 19, n = 23, k = 40;
  Guarded a = random_buffer(2 * m * k, Dtype::kFloat32, rng),
          b = random_buffer(2 * k * n, Dtype::kFloat32, rng);
  Guarded c0 = random_buffer(2 * n, Dtype::kFloat32, rng);
  Guarded c(m * n, Dtype::kComplex64);
  GemmArgs g;
  g.m = m, g.n = n, g.k = k, g.ldc = n, g.c = c.data(), g.c_dtype = Dtype::kComplex64;
  g.a = {a.data(), Dtype::kComplex64, 1, m}, g.b = {b.data(), Dtype::kComplex64, n, 1};
  g.c0 = {c0.data(), Dtype::kComplex64, 0, 1}, g.alpha = 0.5, g.beta = 2;
  gemm(g);
  EXPECT_TRUE(c.guards_whole());
  const auto z = [](const Guarded& x, int64_t i) {
    return std::complex<double>(x.at(2 * i), x.at(2 * i + 1));
  };
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      std::complex<double> want = 2.0 * z(c0, j);
      double norm = std::abs(want);
      for (int64_t s = 0; s < k; ++s) {
        const auto term = 0.5 * z(a, s * m + i) * z(b, s * n + j);
        want += term, norm += 2 * std::abs(term);
      }
      const auto* out = c.as<float>() + 2 * (i * n + j);
      const double tol = (4 * std::sqrt(2.0 * k) + 4) * kEps32 * norm;
      EXPECT_NEAR(out[0], want.real(), tol);
      EXPECT_NEAR(out[1], want.imag(), tol);
    }
  }
}

TEST(Gemm, EpilogueSeesEveryElementOnceBeforeRounding) {
  std::mt19937 rng(12);
  for (auto [m, n, k] : {std::array<int64_t, 3>{1, 300, 40}, {300, 2, 40}, {100, 300, 300}}) {
    const int64_t batch = 2;
    Guarded a = random_buffer(m * k, Dtype::kFloat32, rng), b = random_buffer(k * n, Dtype::kFloat32, rng);
    Guarded plain(batch * m * n, Dtype::kFloat32), hooked(batch * m * n, Dtype::kFloat32);
    const std::vector<int64_t> c_at = {0, m * n};
    GemmArgs g;
    g.m = m, g.n = n, g.k = k, g.ldc = n, g.c = plain.data(), g.batch = batch, g.c_offsets = c_at.data();
    g.a = {a.data(), Dtype::kFloat32, k, 1}, g.b = {b.data(), Dtype::kFloat32, n, 1};
    gemm(g);
    std::vector<std::atomic<int>> seen(static_cast<size_t>(batch * m * n));
    const auto hook = [&, width = n](float* tile, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                                     int64_t ld) {
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < cols; ++j) {
          ++seen[static_cast<size_t>((row0 + i) * width + col0 + j)];
          tile[i * ld + j] = -2 * tile[i * ld + j] + static_cast<float>(col0 + j);
        }
      }
    };
    const GemmEpilogue epilogue(hook);
    g.epilogue = &epilogue, g.c = hooked.data();
    gemm(g);
    for (int64_t i = 0; i < batch * m * n; ++i) {
      ASSERT_EQ(seen[static_cast<size_t>(i)], 1);
      ASSERT_EQ(hooked.as<float>()[i], -2 * plain.as<float>()[i] + static_cast<float>(i % n));
    }
  }
}

// The output of one product into a fresh buffer.
Guarded product(int64_t m, int64_t n, int64_t k, Guarded& a, Guarded& b, bool b_columns, bool invariant) {
  Guarded c(m * n, Dtype::kFloat32);
  GemmArgs g;
  g.m = m, g.n = n, g.k = k, g.ldc = n, g.c = c.data(), g.batch_invariant = invariant;
  g.a = {a.data(), Dtype::kFloat32, k, 1};
  g.b = b_columns ? GemmMatrix{b.data(), Dtype::kFloat32, 1, k} : GemmMatrix{b.data(), Dtype::kFloat32, n, 1};
  gemm(g);
  return c;
}

TEST(Gemm, BitsDoNotDependOnTheThreads) {
  std::mt19937 rng(13);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (auto [m, n, k] :
         {std::array<int64_t, 3>{1, 900, 900}, {900, 1, 900}, {7, 300, 1100}, {200, 300, 600}}) {
      for (bool columns : {false, true}) {
        Guarded a = random_buffer(m * k, Dtype::kFloat32, rng),
                b = random_buffer(k * n, Dtype::kFloat32, rng);
        ThreadCount one(1);
        const Guarded want = product(m, n, k, a, b, columns, false);
        for (int threads : {2, 7}) {
          ThreadCount many(threads);
          EXPECT_TRUE(want.same_bits(product(m, n, k, a, b, columns, false))) << threads << " threads";
        }
      }
    }
  });
}

TEST(Gemm, BatchInvariantRowsKeepTheirBits) {
  std::mt19937 rng(14);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t n : {1, 40, 130}) {
      const int64_t most = 50, k = 600;
      for (bool columns : {false, true}) {
        Guarded a = random_buffer(most * k, Dtype::kFloat32, rng);
        Guarded b = random_buffer(k * n, Dtype::kFloat32, rng);
        Guarded full = product(most, n, k, a, b, columns, true);
        for (int64_t m : {1, 2, 5, 14, 16, 17, 29}) {
          Guarded part = product(m, n, k, a, b, columns, true);
          EXPECT_EQ(std::memcmp(part.data(), full.data(), static_cast<size_t>(m * n) * 4), 0)
              << "m " << m << " n " << n;
        }
      }
    }
  });
}

TEST(Gemm, SteadyStateKeepsItsScratchMemory) {
  std::mt19937 rng(15);
  ThreadCount one(1);
  Guarded a = random_buffer(300 * 300, Dtype::kFloat32, rng),
          b = random_buffer(300 * 300, Dtype::kFloat32, rng);
  product(300, 300, 300, a, b, false, false);
  product(300, 300, 300, a, b, false, false);
  const int64_t held = cpu::scratch_reserved_bytes();
  for (int i = 0; i < 5; ++i) product(300, 300, 300, a, b, false, false);
  EXPECT_EQ(cpu::scratch_reserved_bytes(), held);
}

}  // namespace
}  // namespace lamina::testing
