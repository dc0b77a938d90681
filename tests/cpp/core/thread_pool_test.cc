#include "core/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/cgroup.h"
#include "lamina/error.h"

#if defined(__has_feature)
#define LAMINA_HAS_FEATURE(x) __has_feature(x)
#else
#define LAMINA_HAS_FEATURE(x) 0
#endif

namespace lamina {
namespace {

class ThreadPool : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_num_threads(GetParam()); }
  void TearDown() override { set_num_threads(before_); }

 private:
  int before_ = num_threads();
};

std::vector<int> count_runs(int64_t chunks) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(chunks));
  parallel_for(chunks,
               [&](int64_t i) { runs[static_cast<size_t>(i)].fetch_add(1, std::memory_order_relaxed); });
  return {runs.begin(), runs.end()};
}

TEST_P(ThreadPool, RunsEveryChunkOnce) {
  for (int64_t chunks : {0, 1, 2, 3, 7, 64, 1000, 20000}) {
    EXPECT_EQ(count_runs(chunks), std::vector<int>(static_cast<size_t>(chunks), 1)) << chunks;
  }
}

TEST_P(ThreadPool, ManySmallJobsInARow) {
  int64_t expected = 0;
  std::atomic<int64_t> sum{0};
  for (int64_t job = 0; job < 5000; ++job) {
    parallel_for(1 + job % 9, [&](int64_t i) { sum.fetch_add(i * job, std::memory_order_relaxed); });
    for (int64_t i = 0; i < 1 + job % 9; ++i) expected += i * job;
  }
  EXPECT_EQ(sum.load(), expected);
}

TEST_P(ThreadPool, ResultsOfChunksAreVisibleToTheCaller) {
  std::vector<int64_t> plain(4096);
  for (int64_t round = 1; round <= 50; ++round) {
    parallel_for(4096, [&](int64_t i) { plain[static_cast<size_t>(i)] += round * i; });
  }
  for (int64_t i = 0; i < 4096; ++i) ASSERT_EQ(plain[static_cast<size_t>(i)], i * 50 * 51 / 2);
}

TEST_P(ThreadPool, ThreadIndexIsInRangeAndOwnedByOneThread) {
  std::mutex mutex;
  std::vector<std::set<std::thread::id>> users(static_cast<size_t>(GetParam()));
  parallel_for(2000, [&](int64_t) {
    ASSERT_GE(thread_index(), 0);
    ASSERT_LT(thread_index(), num_threads());
    std::lock_guard lock(mutex);
    users[static_cast<size_t>(thread_index())].insert(std::this_thread::get_id());
  });
  for (const auto& ids : users) EXPECT_LE(ids.size(), 1u);
  EXPECT_EQ(thread_index(), 0);
}

TEST_P(ThreadPool, NestedCallsRunOnTheSameThread) {
  std::atomic<int64_t> inner{0};
  parallel_for(16, [&](int64_t) {
    const auto self = std::this_thread::get_id();
    const int index = thread_index();
    parallel_for(8, [&](int64_t i) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      EXPECT_EQ(thread_index(), index);
      inner.fetch_add(i);
    });
    parallel_ranges(10, 1, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      inner.fetch_add(end - begin);
    });
  });
  EXPECT_EQ(inner.load(), 16 * (28 + 10));
}

TEST_P(ThreadPool, NestedCallUnderASingleChunkIsSerialToo) {
  parallel_for(1, [&](int64_t) {
    const auto self = std::this_thread::get_id();
    parallel_for(64, [&](int64_t) { EXPECT_EQ(std::this_thread::get_id(), self); });
  });
}

TEST_P(ThreadPool, FirstExceptionComesBackAfterAllChunks) {
  for (int64_t bad : {0, 17, 99}) {
    std::atomic<int> ended{0};
    std::string message;
    try {
      parallel_for(100, [&](int64_t i) {
        ended.fetch_add(1);
        if (i == bad) throw std::runtime_error("chunk " + std::to_string(i));
      });
    } catch (const std::runtime_error& e) { message = e.what(); }
    EXPECT_EQ(message, "chunk " + std::to_string(bad));
    EXPECT_EQ(ended.load(), 100);
  }
  EXPECT_EQ(count_runs(100), std::vector<int>(100, 1));
}

TEST_P(ThreadPool, EveryChunkMayThrow) {
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> ended{0};
    EXPECT_THROW(parallel_for(20,
                              [&](int64_t) {
                                ended.fetch_add(1);
                                throw ValueError("always");
                              }),
                 ValueError);
    EXPECT_EQ(ended.load(), 20);
  }
}

TEST_P(ThreadPool, NestedExceptionReachesTheOuterCaller) {
  EXPECT_THROW(parallel_for(4, [](int64_t) { parallel_for(4, [](int64_t) { throw IndexError("inner"); }); }),
               IndexError);
}

TEST_P(ThreadPool, ManyCallersAtOnce) {
  // More callers than the pool has job slots: some of them run alone.
  constexpr int kCallers = 12;
  std::vector<int64_t> sums(kCallers);
  std::vector<int> caught(kCallers);
  std::vector<std::thread> callers;
  for (int c = 0; c < kCallers; ++c) {
    callers.emplace_back([&, c] {
      for (int round = 0; round < 200; ++round) {
        std::vector<int64_t> out(33);
        parallel_for(33, [&](int64_t i) { out[static_cast<size_t>(i)] = i * (c + 1); });
        for (int64_t v : out) sums[static_cast<size_t>(c)] += v;
        try {
          parallel_for(5, [&](int64_t i) {
            if (i == 3) throw c;
          });
        } catch (int who) { caught[static_cast<size_t>(c)] += who == c; }
      }
    });
  }
  for (auto& t : callers) t.join();
  for (int c = 0; c < kCallers; ++c) {
    EXPECT_EQ(sums[static_cast<size_t>(c)], int64_t{200} * (c + 1) * 33 * 32 / 2);
    EXPECT_EQ(caught[static_cast<size_t>(c)], 200);
  }
}

TEST_P(ThreadPool, SizeMayChangeWhileOthersWork) {
  std::atomic<bool> stop{false};
  std::atomic<int64_t> rounds{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      while (!stop.load()) {
        std::vector<int64_t> scratch(static_cast<size_t>(num_threads()));
        parallel_for(40, [&](int64_t) {
          ASSERT_LT(static_cast<size_t>(thread_index()), scratch.size());
          scratch[static_cast<size_t>(thread_index())] += 1;
        });
        int64_t total = 0;
        for (int64_t v : scratch) total += v;
        ASSERT_EQ(total, 40);
        rounds.fetch_add(1);
      }
    });
  }
  for (int i = 0; i < 300 || rounds.load() < 100; ++i) {
    set_num_threads(1 + i % 6);
    std::this_thread::yield();
  }
  stop = true;
  for (auto& t : callers) t.join();
}

TEST_P(ThreadPool, ParkedWorkersWakeUp) {
  std::mutex mutex;
  std::set<std::thread::id> seen;
  const auto self = std::this_thread::get_id();
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    // Two chunks that wait for each other can only end on two threads.
    if (GetParam() < 2) break;
    std::atomic<int> arrived{0};
    parallel_for(2, [&](int64_t) {
      arrived.fetch_add(1);
      while (arrived.load() < 2) std::this_thread::yield();
      std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
  }
  seen.erase(self);
  EXPECT_EQ(seen.empty(), GetParam() < 2);
}

TEST_P(ThreadPool, CallersKeepTheirProcessors) {
  if (GetParam() < 2) return;
  cpu_set_t before, after;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  const auto self = std::this_thread::get_id();
  for (int round = 0; round < 50; ++round) {
    // Chunks of two threads that meet; then the caller waits so long for the other that it parks.
    std::atomic<int> arrived{0};
    parallel_for(2, [&](int64_t) {
      arrived.fetch_add(1);
      while (arrived.load() < 2) std::this_thread::yield();
      if (std::this_thread::get_id() != self) std::this_thread::sleep_for(std::chrono::microseconds(500));
    });
    ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
    ASSERT_TRUE(CPU_EQUAL(&before, &after)) << round;
  }
}

TEST_P(ThreadPool, TwoJobsShareTheWorkers) {
  // Each caller's job needs a second thread to end, so both need a worker at the same time.
  if (GetParam() < 2) return;
  auto job = [] {
    for (int round = 0; round < 50; ++round) {
      std::atomic<int> arrived{0};
      parallel_for(2, [&](int64_t) {
        arrived.fetch_add(1);
        while (arrived.load() < 2) std::this_thread::yield();
      });
    }
  };
  std::thread other(job);
  job();
  other.join();
}

// ThreadSanitizer's own run time cannot start threads in the child of a process with threads.
#if !defined(__SANITIZE_THREAD__) && !LAMINA_HAS_FEATURE(thread_sanitizer)

// Status of a child that runs `body` and reports what it returned.
template <class F>
int in_child(F body) {
  pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_P(ThreadPool, WorksInTheChildAfterFork) {
  count_runs(100);
  for (int round = 0; round < 5; ++round) {
    EXPECT_EQ(in_child([] { return count_runs(500) == std::vector<int>(500, 1) ? 7 : 1; }), 7);
    EXPECT_EQ(count_runs(500), std::vector<int>(500, 1));
  }
}

TEST_P(ThreadPool, ForkWhileAnotherThreadWorks) {
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop.load()) count_runs(50);
  });
  for (int round = 0; round < 10; ++round) {
    EXPECT_EQ(in_child([] { return count_runs(500) == std::vector<int>(500, 1) ? 7 : 1; }), 7);
  }
  stop = true;
  busy.join();
}

#endif

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPool, testing::Values(1, 2, 3, 8));

void expect_ranges(int64_t n, int64_t grain) {
  std::mutex mutex;
  std::set<std::pair<int64_t, int64_t>> ranges;
  parallel_ranges(n, grain, [&](int64_t begin, int64_t end) {
    std::lock_guard lock(mutex);
    ranges.insert({begin, end});
  });
  int64_t at = 0;
  for (auto [begin, end] : ranges) {
    EXPECT_EQ(begin, at) << n << " " << grain;
    EXPECT_GE(end - begin, std::min(n, grain)) << n << " " << grain;
    if (grain >= 64) { EXPECT_EQ(begin % 64, 0); }
    at = end;
  }
  EXPECT_EQ(at, std::max<int64_t>(n, 0));
  EXPECT_LE(ranges.size(), static_cast<size_t>(4 * num_threads()));
}

TEST(ParallelRanges, CoverEverythingOnceInRangesOfAtLeastGrain) {
  const int before = num_threads();
  for (int threads : {1, 2, 5}) {
    set_num_threads(threads);
    for (int64_t n : {-1, 0, 1, 2, 63, 64, 65, 130, 1000, 4097, 1000003}) {
      for (int64_t grain : {0, 1, 3, 63, 64, 65, 100, 1000, 100000}) expect_ranges(n, grain);
    }
    expect_ranges(INT64_MAX, 1);
    expect_ranges(INT64_MAX, INT64_MAX);
  }
  set_num_threads(before);
}

TEST(ThreadCount, RefusesSizesOutOfRange) {
  for (int n : {0, -1, 1025, INT32_MIN}) {
    try {
      set_num_threads(n);
      ADD_FAILURE() << n;
    } catch (const ValueError& e) {
      EXPECT_EQ(e.what(), "[set_num_threads] wanted a number from 1 to 1024, got " + std::to_string(n));
    }
  }
}

class EnvironmentGuard {
 public:
  explicit EnvironmentGuard(const char* value) {
    if (const char* old = std::getenv(kName)) before_ = old;
    setenv(kName, value, 1);
  }
  ~EnvironmentGuard() { before_.empty() ? unsetenv(kName) : setenv(kName, before_.c_str(), 1); }

 private:
  static constexpr const char* kName = "LAMINA_NUM_THREADS";
  std::string before_;
};

TEST(ThreadCount, EnvironmentOverrides) {
  {
    EnvironmentGuard guard("5");
    EXPECT_EQ(default_thread_count(), 5);
  }
  {
    EnvironmentGuard guard("");
    EXPECT_EQ(default_thread_count(), usable_cpu_count());
  }
  for (const char* bad : {"0", "-2", "two", "2x", " 2", "1.5", "99999", "999999999999"}) {
    EnvironmentGuard guard(bad);
    try {
      default_thread_count();
      ADD_FAILURE() << bad;
    } catch (const ValueError& e) {
      EXPECT_EQ(e.what(), "[threads] LAMINA_NUM_THREADS must be a whole number from 1 to 1024, got '" +
                              std::string(bad) + "'");
    }
  }
}

void use_pool_with_bad_environment() {
  setenv("LAMINA_NUM_THREADS", "many", 1);
  int errors = 0;
  for (int i = 0; i < 2; ++i) {
    try {
      parallel_for(3, [](int64_t) {});
    } catch (const ValueError&) { ++errors; }
  }
  setenv("LAMINA_NUM_THREADS", "3", 1);
  std::exit(errors == 2 && num_threads() == 3 ? 7 : 1);
}

TEST(ThreadCountDeathTest, BadEnvironmentIsAnErrorOnFirstUse) {
  // The threadsafe style starts a fresh process, whose pool nobody has used.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(use_pool_with_bad_environment(), testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace lamina
