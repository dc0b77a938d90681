// Several streams: a graph is taken apart by stream, queues are bounded, results are those of one stream.
#include "graph/stream.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <mutex>
#include <random>
#include <thread>

#include "graph/eval.h"
#include "graph/stream_queue.h"
#include "lamina/memory.h"
#include "lamina/ops.h"

namespace lamina {
namespace {

constexpr Device kCpu{DeviceType::kCpu, 0};

std::vector<float> values(const Array& a) {
  const Array c = contiguous(a);
  c.eval();
  return {c.data<float>(), c.data<float>() + c.size()};
}

// Keeps a stream busy until it is opened.
class Gate {
 public:
  explicit Gate(Stream s) : stream_(s) {
    const std::lock_guard lock(planning_mutex);
    enqueue(
        s.index, [this] { open_.wait(false); }, true);
  }
  ~Gate() {
    open();
    synchronize(stream_);
  }
  void open() {
    open_.store(true);
    open_.notify_all();
  }

 private:
  Stream stream_;
  std::atomic<bool> open_{false};
};

TEST(Streams, AsyncEvaluationsOfAStreamAreBounded) {
  const Stream s = new_stream(kCpu);
  Array x = zeros({64});
  std::atomic<int> done{0};
  Gate gate(s);
  std::thread producer([&] {
    const StreamScope scope(s);
    for (int i = 0; i < 1000; ++i) {
      x = x + 1.0;
      async_eval(std::array{x});
      ++done;
    }
  });
  while (queue_counters(s.index).unfinished < kMostUnfinished) std::this_thread::yield();
  // The producer is inside its next call, and cannot leave it while the gate is closed.
  EXPECT_LE(static_cast<size_t>(done), kMostUnfinished);
  gate.open();
  producer.join();
  EXPECT_EQ(values(x), std::vector<float>(64, 1000.f));
  synchronize(s);
  const QueueCounters c = queue_counters(s.index);
  EXPECT_EQ(c.most_unfinished, kMostUnfinished);
  // Beside them the gate, before it has begun, or the evaluation of this thread.
  EXPECT_LE(c.most_length, kMostUnfinished + 1);
  EXPECT_EQ(c.unfinished, 0u);
  EXPECT_EQ(c.length, 0u);
}

TEST(Streams, FewerWaitWhileMemoryIsShort) {
  const Stream s = new_stream(kCpu);
  const Array big = zeros({1 << 20}) + 1.0;
  big.eval();
  // The array alone is more than three quarters of the limit, and leaves room for the small ones.
  const size_t old = set_memory_limit(get_active_memory() + get_active_memory() / 4);
  Array x = zeros({8});
  {
    Gate gate(s);
    std::thread producer([&] {
      const StreamScope scope(s);
      for (int i = 0; i < 100; ++i) {
        x = x + 1.0;
        async_eval(std::array{x});
      }
    });
    while (queue_counters(s.index).unfinished < kMostUnfinishedOfLarge) std::this_thread::yield();
    gate.open();
    producer.join();
  }
  EXPECT_EQ(values(x), std::vector<float>(8, 100.f));
  set_memory_limit(old);
  EXPECT_EQ(queue_counters(s.index).most_unfinished, kMostUnfinishedOfLarge);
}

TEST(Streams, AFullQueueOfStreamsThatWaitForEachOtherEmpties) {
  const Stream a = new_stream(kCpu), b = new_stream(kCpu);
  std::vector<std::thread> threads;
  std::array<Array, 4> last;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Array x = zeros({16});
      for (int i = 0; i < 500; ++i) {
        const StreamScope scope((i + t) % 2 ? a : b);
        x = x + 1.0;
        async_eval(std::array{x});
      }
      last[static_cast<size_t>(t)] = x;
    });
  }
  for (auto& t : threads) t.join();
  for (const Array& x : last) EXPECT_EQ(values(x), std::vector<float>(16, 500.f));
  for (const Stream s : {a, b}) {
    synchronize(s);
    EXPECT_LE(queue_counters(s.index).most_unfinished, kMostUnfinished);
  }
}

TEST(Streams, AFailedEvaluationGivesItsPlaceBack) {
  const Stream s = new_stream(kCpu);
  const StreamScope scope(s);
  const Array a({1.f, 2.f, 3.f}, {3});
  for (size_t i = 0; i < 3 * kMostUnfinished; ++i) async_eval(std::array{take(a, Array(int64_t{7}), 0)});
  synchronize(s);
  EXPECT_EQ(queue_counters(s.index).unfinished, 0u);
  // One that cannot even be planned.
  const Array traced = make_node(OpId::Placeholder, Dtype::kFloat32, {3}, {});
  EXPECT_THROW(async_eval(std::array{traced + 1.0}), ValueError);
  EXPECT_EQ(queue_counters(s.index).unfinished, 0u);
}

TEST(Streams, WorkInsideAStreamsWorkDoesNotWaitForRoom) {
  const Stream s = new_stream(kCpu);
  std::atomic<bool> ended{false};
  {
    const std::lock_guard lock(planning_mutex);
    enqueue(
        s.index,
        [&] {
          const StreamScope scope(s);
          Array x = zeros({4});
          for (size_t i = 0; i < 2 * kMostUnfinished; ++i) {
            x = x + 1.0;
            async_eval(std::array{x});
          }
          ended = values(x)[0] == static_cast<float>(2 * kMostUnfinished);
        },
        true);
  }
  synchronize(s);
  EXPECT_TRUE(ended);
}

TEST(Streams, EachNodeRunsOnItsOwnStream) {
  const Stream a = new_stream(kCpu), b = new_stream(kCpu);
  const auto on = [](Stream s, const Array& x) {
    const StreamScope scope(s);
    return x + 1.0;
  };
  Gate gate(b);
  const Array x = on(a, zeros({8})), y = on(b, x), z = on(a, x);
  async_eval(std::array{y, z});
  z.eval();  // on stream a alone; y waits for the gate
  EXPECT_TRUE(x.is_available());
  EXPECT_FALSE(y.is_available());
  gate.open();
  EXPECT_EQ(values(y), std::vector<float>(8, 2.f));
  EXPECT_EQ(values(z), std::vector<float>(8, 2.f));
}

TEST(Streams, MemoryThatAnotherStreamReadsIsNotReused) {
  const Stream a = new_stream(kCpu), b = new_stream(kCpu);
  for (int round = 0; round < 50; ++round) {
    Gate gate(b);
    Array x = full({4096}, Array(2.0));
    x.eval();
    Array y;
    {
      const StreamScope scope(b);
      y = x * 3.0;
    }
    async_eval(std::array{y});
    {
      const StreamScope scope(a);
      x = x + 1.0;  // would be computed in place if the reader on b did not count
    }
    x.eval();
    Array other = full({4096}, Array(7.0));
    other.eval();
    gate.open();
    EXPECT_EQ(values(y), std::vector<float>(4096, 6.f));
    EXPECT_EQ(values(x), std::vector<float>(4096, 3.f));
  }
}

TEST(Streams, AnErrorOnOneStreamReachesWhatNeedsItOnOthers) {
  const Stream a = new_stream(kCpu), b = new_stream(kCpu);
  const Array data({1.f, 2.f, 3.f}, {3});
  Array bad, next;
  {
    const StreamScope scope(a);
    bad = take(data, Array(int64_t{7}), 0);
  }
  {
    const StreamScope scope(b);
    next = bad + 1.0;
  }
  for (int i = 0; i < 2; ++i) EXPECT_THROW(next.eval(), IndexError);
  async_eval(std::array{next});
  EXPECT_THROW(next.eval(), IndexError);
  EXPECT_FALSE(bad.is_available());
  EXPECT_EQ(values(data + 1.0), (std::vector<float>{2, 3, 4}));
}

TEST(Streams, DependsWaitsForAnotherStream) {
  const Stream a = new_stream(kCpu), b = new_stream(kCpu);
  Array first, second;
  {
    const StreamScope scope(b);
    first = zeros({4}) + 1.0;
  }
  {
    const StreamScope scope(a);
    const Array in = full({4}, Array(5.0)) * 2.0;
    second = depends(std::array{in}, std::array{first})[0];
  }
  Gate gate(b);
  async_eval(std::array{second});
  EXPECT_FALSE(second.is_available());
  gate.open();
  EXPECT_EQ(values(second), std::vector<float>(4, 10.f));
  EXPECT_TRUE(first.is_available());
}

// A random graph of `size` nodes over the streams, evaluated piece by piece; sums of all nodes.
std::vector<float> random_graph(unsigned seed, std::span<const Stream> streams, bool evaluate_often) {
  std::mt19937 draw(seed);
  const auto below = [&draw](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(draw); };
  std::vector<Array> nodes = {arange(int64_t{0}, int64_t{600}, int64_t{1}, Dtype::kFloat32) * 0.001};
  for (int i = 0; i < 60; ++i) {
    const Stream stream = streams[below(3) % streams.size()];
    const StreamScope scope(stream);
    const Array &x = nodes[below(nodes.size())], &y = nodes[below(nodes.size())];
    Array made;
    switch (below(6)) {
      case 0: made = x + y; break;
      case 1: made = x * y; break;
      case 2: made = sin(x) - y; break;
      case 3: made = x - mean(y, Axes{-1}, true); break;
      case 4: made = flatten(transpose(reshape(x, {20, 30}))); break;
      default: made = flatten(matmul(reshape(x, {20, 30}), reshape(y * 0.01, {30, 20})) + 0.5); break;
    }
    if (made.size() != 600) made = concatenate(std::array{made, slice(made, Shape{0}, Shape{200})}, 0);
    nodes.push_back(tanh(made));
    const size_t what = below(5);
    const size_t which = below(nodes.size());
    if (!evaluate_often) continue;
    if (what == 0) async_eval(std::array{nodes[which]});
    if (what == 1) nodes[which].eval();
    if (what == 2) nodes[which] = nodes[which] * 1.0;  // the old node may be freed while others read it
  }
  std::vector<float> out;
  for (const Array& n : nodes) out.push_back(sum(n).item<float>());
  return out;
}

TEST(Streams, RandomGraphsGiveWhatOneStreamGives) {
  const std::array<Stream, 3> streams = {new_stream(kCpu), new_stream(kCpu), new_stream(kCpu)};
  const std::array<Stream, 1> one = {default_stream(kCpu)};
  constexpr unsigned kThreads = 4, kRounds = 12;
  std::atomic<int> wrong{0};
  std::vector<std::vector<float>> expected;
  for (unsigned seed = 0; seed < kThreads * kRounds; ++seed)
    expected.push_back(random_graph(seed, one, false));
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned r = 0; r < kRounds; ++r) {
        const unsigned seed = t * kRounds + r;
        const std::vector<float> got = random_graph(seed, streams, true);
        // Values lie in [-1, 1]. Fusion keeps every bit of an element, so that sums of rows differ by
        // nothing.
        for (size_t i = 0; i < got.size(); ++i) wrong += got[i] != expected[seed][i];
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace lamina
