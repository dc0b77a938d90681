#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "backend/cpu/gemm.h"
#include "gemm_testing.h"

namespace lamina::testing {

enum class Layout { kRows, kColumns, kReversed, kRowBroadcast, kColBroadcast, kSpread };
inline constexpr Layout kLayouts[] = {Layout::kRows,         Layout::kColumns,      Layout::kReversed,
                                      Layout::kRowBroadcast, Layout::kColBroadcast, Layout::kSpread};

// A rows x cols matrix in a guarded buffer of its own.
struct Matrix {
  Guarded buffer;
  int64_t rows, cols, row_stride, col_stride, first;

  double at(int64_t i, int64_t j) const { return buffer.at(first + i * row_stride + j * col_stride); }
  cpu::GemmMatrix view() {
    auto* p = static_cast<char*>(buffer.data()) + first * static_cast<int64_t>(itemsize(buffer.dtype()));
    return {p, buffer.dtype(), row_stride, col_stride};
  }
};

inline Matrix make_matrix(int64_t rows, int64_t cols, Dtype t, Layout layout, std::mt19937& rng) {
  const auto with = [&](int64_t elems, int64_t rs, int64_t cs, int64_t first) {
    return Matrix{random_buffer(elems, t, rng), rows, cols, rs, cs, first};
  };
  switch (layout) {
    case Layout::kColumns: return with(rows * cols, 1, rows, 0);
    case Layout::kReversed: return with(rows * cols, -cols, -1, rows * cols - 1);
    case Layout::kRowBroadcast: return with(cols, 0, 1, 0);
    case Layout::kColBroadcast: return with(rows, 1, 0, 0);
    case Layout::kSpread: return with(rows * cols * 6, 2 * (cols * 3), 3, 0);
    default: return with(rows * (cols + 3), cols + 3, 1, 0);
  }
}

struct Case {
  int64_t m, n, k;
  Dtype a = Dtype::kFloat32, b = Dtype::kFloat32, c = Dtype::kFloat32;
  Layout la = Layout::kRows, lb = Layout::kRows;
  double alpha = 1, beta = 0;
  bool invariant = false;
};

inline std::string describe(const Case& t) {
  return "m " + std::to_string(t.m) + " n " + std::to_string(t.n) + " k " + std::to_string(t.k) +
         " layouts " + std::to_string(static_cast<int>(t.la)) + std::to_string(static_cast<int>(t.lb)) + " " +
         std::string(dtype_name(t.a)) + " " + std::string(dtype_name(t.b)) + " -> " +
         std::string(dtype_name(t.c));
}

// Runs the case and checks every element against float64, and what lies around the output.
inline void check_case(const Case& t, std::mt19937& rng) {
  SCOPED_TRACE(describe(t));
  Matrix a = make_matrix(t.m, t.k, t.a, t.la, rng), b = make_matrix(t.k, t.n, t.b, t.lb, rng);
  const Dtype c0_type = t.c;
  Matrix c0 = make_matrix(t.m, t.n, c0_type, Layout::kRowBroadcast, rng);
  const int64_t ldc = t.n + 5;
  Guarded c(t.m * ldc, t.c);
  cpu::GemmArgs g;
  g.m = t.m, g.n = t.n, g.k = t.k, g.a = a.view(), g.b = b.view(), g.c0 = c0.view();
  g.c = c.data(), g.c_dtype = t.c, g.ldc = ldc, g.alpha = t.alpha, g.beta = t.beta;
  g.batch_invariant = t.invariant;
  cpu::gemm(g);
  ASSERT_TRUE(c.guards_whole());
  const double eps = t.c == Dtype::kFloat64 ? 0x1p-53 : kEps32;
  const auto k = static_cast<double>(t.k);
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t j = 0; j < t.n; ++j) {
      double want = 0, norm = 0;
      for (int64_t s = 0; s < t.k; ++s) {
        want += a.at(i, s) * b.at(s, j);
        norm += std::abs(a.at(i, s) * b.at(s, j));
      }
      const double added = t.beta == 0 ? 0 : t.beta * c0.at(i, j);
      want = t.alpha * want + added;
      // Rounding errors of a sum grow like sqrt(k); 4 standard deviations, then the scaling and the output's
      // rounding.
      const double tol = eps * (4 * std::sqrt(k + 1) + 4) * (std::abs(t.alpha) * norm + std::abs(added)) +
                         unit_roundoff(t.c) * std::abs(want) + least_step(t.c);
      ASSERT_NEAR(c.at(i * ldc + j), want, tol) << "at " << i << ", " << j;
    }
    for (int64_t j = t.n; j < ldc; ++j) ASSERT_TRUE(c.untouched(i * ldc + j)) << "row " << i << " col " << j;
  }
}

}  // namespace lamina::testing
