#include "graph/eval.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <thread>

#include "lamina/memory.h"
#include "lamina/ops.h"
#include "memory/counters.h"

namespace lamina {
namespace {

std::vector<float> values(const Array& a) {
  const Array c = contiguous(a);
  c.eval();
  return {c.data<float>(), c.data<float>() + c.size()};
}

TEST(Eval, NothingRunsBeforeEval) {
  const Array a = Array({1.f, 2.f}, {2}) + 1.0;
  EXPECT_FALSE(a.is_available());
  a.eval();
  EXPECT_TRUE(a.is_available());
  EXPECT_EQ(values(a), (std::vector<float>{2, 3}));
}

TEST(Eval, ChainOf100000Adds) {
  Array a({1.f, 2.f}, {2});
  for (int i = 0; i < 100000; ++i) a = a + 1.0;
  EXPECT_EQ(values(a), (std::vector<float>{100001, 100002}));
}

TEST(Eval, UnevaluatedChainIsFreedWithoutRecursion) {
  Array a({1.f}, {1});
  for (int i = 0; i < 300000; ++i) a = sin(a);
}

TEST(Eval, HeldIntermediatesAreEvaluatedToo) {
  const Array a({1.f, 2.f}, {2});
  const Array b = a * 2.0, c = b + 1.0;
  c.eval();
  EXPECT_TRUE(b.is_available());
  EXPECT_EQ(values(b), (std::vector<float>{2, 4}));
}

TEST(Eval, InputsAreNotOverwritten) {
  const Array a({1.f, 2.f, 3.f}, {3});
  (a + 1.0).eval();
  (a * a).eval();
  EXPECT_EQ(values(a), (std::vector<float>{1, 2, 3}));
}

TEST(Eval, ViewsShareMemoryAndKeepItAlive) {
  Array t;
  {
    const Array a = Array({1.f, 2.f, 3.f, 4.f, 5.f, 6.f}, {2, 3}) * 1.0;
    t = transpose(slice(a, {0, 2}, {2, INT64_MIN / 2}, {1, -2}));
    t.eval();
  }
  EXPECT_EQ(t.shape(), (Shape{2, 2}));
  EXPECT_EQ(values(t), (std::vector<float>{3, 6, 1, 4}));
}

TEST(Eval, SameGraphTwiceUsesOnePlanAndOtherSizesToo) {
  auto run = [](int64_t n) {
    const Array x = arange(int64_t{0}, n, int64_t{1}, Dtype::kFloat32);
    return values(sum(x * x))[0];
  };
  EXPECT_EQ(run(4), 14.f);
  EXPECT_EQ(run(5), 30.f);
}

TEST(Eval, ErrorLeavesArraysLazyAndTheProcessWorking) {
  const Array a({1.f, 2.f, 3.f}, {3});
  const Array bad = take(a, Array(int64_t{7}), 0);
  EXPECT_THROW(bad.eval(), IndexError);
  EXPECT_FALSE(bad.is_available());
  EXPECT_THROW(bad.eval(), IndexError);
  EXPECT_EQ(values(a + 1.0), (std::vector<float>{2, 3, 4}));
}

TEST(Eval, MemoryLimitRaisesAndTheNextCallWorks) {
  const size_t old = set_memory_limit(get_active_memory() + (size_t{8} << 20));
  const Array big = zeros({64, 1024, 1024}) + 1.0;
  EXPECT_THROW(big.eval(), OutOfMemory);
  EXPECT_EQ(values(Array({1.f}, {1}) + 1.0), (std::vector<float>{2}));
  set_memory_limit(old);
  big.eval();
  EXPECT_TRUE(big.is_available());
}

TEST(Eval, AsyncErrorsReachTheNextEval) {
  const Array a({1.f, 2.f, 3.f}, {3});
  const Array bad = take(a, Array(int64_t{7}), 0) + 1.0;
  async_eval(std::array{bad});
  EXPECT_THROW(bad.eval(), IndexError);
}

TEST(Eval, AsyncResultsFeedLaterWork) {
  Array x = zeros({1000});
  for (int i = 0; i < 200; ++i) {
    x = x + 1.0;
    async_eval(std::array{x});
  }
  EXPECT_EQ(values(x)[999], 200.f);
}

TEST(Eval, StreamsOrderThemselves) {
  const Stream other = new_stream({DeviceType::kCpu, 0});
  const Stream saved = default_stream({DeviceType::kCpu, 0});
  Array x = ones({4096});
  for (int i = 0; i < 50; ++i) {
    set_default_stream(i % 2 ? other : saved);
    x = x + 1.0;
    async_eval(std::array{x});
  }
  set_default_stream(saved);
  EXPECT_EQ(values(x)[4095], 51.f);
}

TEST(Eval, ManyThreadsShareAGraph) {
  const Array shared = sum(square(arange(int64_t{0}, int64_t{2000}, int64_t{1}, Dtype::kFloat32)));
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const Array mine = shared * static_cast<double>(t) + static_cast<double>(i);
        const float got = mine.item<float>(), base = shared.item<float>();
        wrong += got != base * static_cast<float>(t) + static_cast<float>(i);
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Eval, SteadyLoopAsksTheSystemForNothing) {
  Array w = ones({256, 256});
  const Array x = ones({256, 256}) * 0.001;
  auto step = [&] {
    w = w - matmul(w, x) * 0.01 + softmax(w, Axes{-1});
    w.eval();
  };
  for (int i = 0; i < 20; ++i) step();
  // A thread of the pool may get its first work late, and then takes scratch of its own, once.
  uint64_t least = UINT64_MAX;
  for (int window = 0; window < 6 && least > 0; ++window) {
    const uint64_t before = system_allocation_count();
    for (int i = 0; i < 50; ++i) step();
    least = std::min(least, system_allocation_count() - before);
  }
  EXPECT_EQ(least, 0u);
}

TEST(Eval, ALongElementwiseChainNeedsTwoBuffers) {
  const int64_t n = 4 << 20;
  Array x = arange(int64_t{0}, n, int64_t{1}, Dtype::kFloat32);
  x.eval();
  reset_peak_memory();
  const size_t before = get_active_memory();
  Array y = x;
  for (int i = 0; i < 20; ++i) y = y * 0.5 + 1.0;
  y.eval();
  EXPECT_LE(get_peak_memory(), before + static_cast<size_t>(n) * 4 + (size_t{1} << 20));
}

}  // namespace
}  // namespace lamina
