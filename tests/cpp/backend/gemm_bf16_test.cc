#include <gtest/gtest.h>

#include "backend/cpu/amx.h"
#include "backend/cpu/kernel_choice.h"
#include "backend/cpu/measured.h"
#include "gemm_cases.h"

namespace lamina::testing {
namespace {

using cpu::gemm;
using cpu::GemmArgs;

constexpr Dtype kBFloat16 = Dtype::kBFloat16, kFloat32 = Dtype::kFloat32;

// Runs f with dots of pairs, where this CPU has them.
template <class F>
void with_dots(F&& f) {
  if (!cpu::bf16_dot_supported()) return;
  set_simd_target("avx3_dl");
  cpu::set_bf16_dot("on");
  f("dots");
  cpu::set_bf16_dot("");
  set_simd_target(supported_simd_targets().front());
}
// For every SIMD target without dots, and with them.
template <class F>
void for_each_way(F&& f) {
  cpu::set_bf16_dot("off");
  for_each_target(f);
  cpu::set_bf16_dot("");
  with_dots(f);
}
// For those that keep the bits of rows by themselves.
template <class F>
void for_each_tiled_way(F&& f) {
  if (cpu::amx_supported()) {
    set_simd_target("amx");
    f("amx");
  }
  with_dots(f);
}
bool has_tiled_way() { return cpu::amx_supported() || cpu::bf16_dot_supported(); }

TEST(GemmBFloat16, AroundTilesStripsAndSpans) {
  std::mt19937 rng(1);
  for_each_way([&](const char* name) {
    SCOPED_TRACE(name);
    for (Layout lb : {Layout::kRows, Layout::kColumns}) {
      for (int64_t m : {1, 2, 15, 16, 17, 31, 32, 33, 49, 70}) {
        check_case({.m = m, .n = 47, .k = 133, .a = kBFloat16, .b = kBFloat16, .lb = lb}, rng);
      }
      for (int64_t n : {31, 32, 33, 128, 129, 161}) {
        check_case({.m = 37, .n = n, .k = 160, .a = kBFloat16, .b = kBFloat16, .c = kBFloat16, .lb = lb},
                   rng);
      }
      for (int64_t k : {2047, 2048, 2049, 2081, 4097}) {
        check_case({.m = 3, .n = 33, .k = k, .a = kBFloat16, .b = kBFloat16, .lb = lb}, rng);
        check_case({.m = 35, .n = 33, .k = k, .a = kBFloat16, .b = kBFloat16, .lb = lb}, rng);
      }
    }
  });
}

TEST(GemmBFloat16, EveryPairOfLayoutsScalesAndAdds) {
  std::mt19937 rng(2);
  const auto check = [&](const char* name) {
    SCOPED_TRACE(name);
    for (Layout la : kLayouts) {
      for (Layout lb : kLayouts) {
        for (int64_t m : {5, 37}) {
          check_case({.m = m, .n = 35, .k = 130, .a = kBFloat16, .b = kBFloat16, .la = la, .lb = lb}, rng);
        }
      }
    }
    check_case({.m = 40, .n = 70, .k = 200, .a = kBFloat16, .b = kBFloat16, .alpha = -1.5, .beta = 0.25},
               rng);
  };
  check(simd_target_name());
  with_dots(check);
}

Guarded product(int64_t m, int64_t n, int64_t k, Guarded& a, Guarded& b, bool columns) {
  Guarded c(m * n, kFloat32);
  GemmArgs g;
  g.m = m, g.n = n, g.k = k;
  g.a = {a.data(), kBFloat16, k, 1}, g.b = {b.data(), kBFloat16, columns ? 1 : n, columns ? k : 1};
  g.c = c.data(), g.ldc = n;
  gemm(g);
  return c;
}

// In tiles a row's bits depend neither on the other rows, nor on threads, nor on the layout.
TEST(GemmBFloat16, RowsInTilesKeepTheirBits) {
  if (!has_tiled_way()) GTEST_SKIP() << "this CPU or system has neither AMX tiles nor avx512_bf16";
  for_each_tiled_way([](const char* name) {
    SCOPED_TRACE(name);
    std::mt19937 rng(4);
    const int64_t most = 100, n = 70, k = 2500;
    for (bool columns : {false, true}) {
      Guarded a = random_buffer(most * k, kBFloat16, rng), b = random_buffer(k * n, kBFloat16, rng);
      const Guarded full = product(most, n, k, a, b, columns);
      for (int threads : {1, 2, 7}) {
        const ThreadCount count(threads);
        for (int64_t m : {1, 2, 5, 16, 17, 20, 32, 33, 64, 100}) {
          const Guarded part = product(m, n, k, a, b, columns);
          EXPECT_EQ(std::memcmp(part.data(), full.data(), static_cast<size_t>(m * n) * 4), 0)
              << "m " << m << " threads " << threads;
        }
      }
    }
  });
}

// Several blocks of rows, slabs of columns and spans of steps, against few rows at a time.
TEST(GemmBFloat16, LargerThanEveryBlock) {
  std::mt19937 rng(5);
  check_case({.m = 290, .n = 33, .k = 2060, .a = kBFloat16, .b = kBFloat16}, rng);
  if (!has_tiled_way()) GTEST_SKIP() << "this CPU or system has neither AMX tiles nor avx512_bf16";
  const int64_t m = 300, n = 4200, k = 2050, few = 3;
  Guarded a = random_buffer(m * k, kBFloat16, rng), b = random_buffer(k * n, kBFloat16, rng);
  for_each_tiled_way([&](const char* name) {
    Guarded full = product(m, n, k, a, b, true);
    for (int64_t row : {int64_t{0}, m - few}) {
      Guarded rows(few * k, kBFloat16);
      std::memcpy(rows.data(), a.as<bfloat16_t>() + row * k, static_cast<size_t>(few * k) * 2);
      Guarded part = product(few, n, k, rows, b, true);
      EXPECT_EQ(std::memcmp(part.data(), full.as<float>() + row * n, static_cast<size_t>(few * n) * 4), 0)
          << name;
    }
  });
}

// Tiles and dots count subnormal numbers as zero: what tells that they, and only they, run where they should.
TEST(GemmBFloat16, OnlyTilesAndDotsFlushSubnormalSums) {
  const int64_t m = 3, n = 64, k = 64;
  Guarded a(m * k, kBFloat16), b(k * n, kBFloat16);
  for (int64_t i = 0; i < m * k; ++i) a.set(i, 0x1p-66);
  for (int64_t i = 0; i < k * n; ++i) b.set(i, 0x1p-67);
  for_each_way([&](const std::string_view name) {
    const bool flushed = name == "amx" || name == "dots";
    for (bool columns : {false, true}) {
      const Guarded c = product(m, n, k, a, b, columns);
      for (int64_t i = 0; i < m * n; ++i) ASSERT_EQ(c.at(i), flushed ? 0.0 : 64 * 0x1p-133) << name;
    }
  });
}

// Each product and each sum of a row is rounded as the header says, whatever the row's place in a block.
TEST(GemmBFloat16, DotsRoundAsPromised) {
  if (!cpu::bf16_dot_supported()) GTEST_SKIP() << "this CPU has no avx512_bf16";
  // Others are known to follow Intel's definition by their manuals only.
  if (!__builtin_cpu_is("intel")) GTEST_SKIP() << "this CPU is not Intel's";
  const int64_t m = 21, n = 40, k = 2111;
  std::mt19937 rng(6);
  Guarded a = random_buffer(m * k, kBFloat16, rng), b = random_buffer(k * n, kBFloat16, rng);
  with_dots([&](const char*) {
    for (bool columns : {false, true}) {
      const Guarded c = product(m, n, k, a, b, columns);
      const auto right = [&](int64_t s, int64_t j) { return b.at(columns ? j * k + s : s * n + j); };
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          float total = 0;
          for (int64_t span = 0; span < k; span += 2048) {
            float sum = 0;
            for (int64_t s = span; s < std::min(k, span + 2048); s += 2) {
              // A step that is not there is a product of zeros.
              if (s + 1 < k) {
                sum = std::fma(static_cast<float>(a.at(i * k + s + 1)), static_cast<float>(right(s + 1, j)),
                               sum);
              }
              sum = std::fma(static_cast<float>(a.at(i * k + s)), static_cast<float>(right(s, j)), sum);
            }
            total = span == 0 ? sum : total + sum;
          }
          ASSERT_EQ(c.at(i * n + j), total) << i << " " << j;
        }
      }
    }
  });
}

}  // namespace
}  // namespace lamina::testing
