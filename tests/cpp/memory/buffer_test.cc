#include "memory/buffer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "lamina/error.h"
#include "lamina/memory.h"
#include "memory/counters.h"
#include "memory/poison.h"
#include "memory/size_class.h"
#include "memory/system_memory.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define LAMINA_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define LAMINA_SANITIZED 1
#endif
#endif

namespace lamina {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// Starts from an empty cache and puts the limits back.
class Memory : public testing::Test {
 protected:
  void SetUp() override {
    clear_cache();
    active_before_ = get_active_memory();
    reset_peak_memory();
  }
  void TearDown() override {
    set_memory_limit(limit_);
    set_cache_limit(limit_ / 2);
    clear_cache();
    EXPECT_EQ(get_active_memory(), active_before_);
    EXPECT_EQ(get_cache_memory(), 0u);
  }
  size_t active() const { return get_active_memory() - active_before_; }

 private:
  size_t limit_ = get_memory_limit();
  size_t active_before_ = 0;
};

TEST_F(Memory, LimitsAtTheStart) {
  EXPECT_EQ(get_memory_limit(), physical_memory_bytes() / 10 * 9);
  EXPECT_EQ(set_cache_limit(0), get_memory_limit() / 2);
}

TEST_F(Memory, BlocksAreAlignedUsableAndLargeEnough) {
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{65}, size_t{1000}, size_t{65536},
                       size_t{65537}, kMiB, 2 * kMiB - 1, 2 * kMiB, 3 * kMiB + 5}) {
    BufferRef buffer = allocate(bytes);
    EXPECT_GE(buffer->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    if (bytes >= kHugeBytes) { EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % kHugeBytes, 0u); }
    EXPECT_TRUE(buffer->writable());
    EXPECT_FALSE(buffer->adopted());
    std::memset(buffer->data(), 0xab, buffer->bytes());
  }
}

TEST_F(Memory, UniqueKnowsTheOnlyReference) {
  BufferRef a = allocate(100);
  EXPECT_TRUE(a->unique());
  BufferRef b = a;
  EXPECT_FALSE(a->unique());
  b.reset();
  EXPECT_TRUE(a->unique());
}

TEST_F(Memory, CountersFollowAllocationReuseAndRelease) {
  for (size_t bytes : {size_t{1000}, size_t{100000}, 5 * kMiB}) {
    clear_cache();
    reset_peak_memory();
    const size_t capacity = block_capacity(bytes, system_page_bytes());
    BufferRef a = allocate(bytes);
    EXPECT_EQ(active(), capacity);
    EXPECT_EQ(get_cache_memory(), 0u);
    BufferRef b = allocate(bytes);
    EXPECT_EQ(active(), 2 * capacity);
    EXPECT_EQ(get_peak_memory(), get_active_memory());
    void* where = b->data();
    b.reset();
    EXPECT_EQ(active(), capacity);
    EXPECT_EQ(get_cache_memory(), capacity);
    BufferRef c = allocate(bytes);
    EXPECT_EQ(c->data(), where);
    EXPECT_EQ(get_cache_memory(), 0u);
    c.reset();
    a.reset();
    EXPECT_EQ(get_cache_memory(), 2 * capacity);
    EXPECT_EQ(get_peak_memory() - get_active_memory(), 2 * capacity);
    reset_peak_memory();
    EXPECT_EQ(get_peak_memory(), get_active_memory());
    clear_cache();
    EXPECT_EQ(get_cache_memory(), 0u);
  }
}

TEST_F(Memory, NearbySizesShareLargeBlocksButNotWastefully) {
  BufferRef a = allocate(9 * kMiB);
  void* where = a->data();
  a.reset();
  BufferRef near = allocate(8 * kMiB + kMiB / 2);
  EXPECT_EQ(near->data(), where);
  near.reset();
  EXPECT_NE(allocate(7 * kMiB)->data(), where);
  // Of two that fit, the closer one is taken.
  clear_cache();
  BufferRef wide = allocate(18 * kMiB), close = allocate(17 * kMiB);
  where = close->data();
  close.reset();
  wide.reset();
  EXPECT_EQ(allocate(17 * kMiB - 100000)->data(), where);
}

TEST_F(Memory, SteadyLoopMakesNoSystemCallsAndNoPageFaults) {
  auto step = [] {
    std::vector<BufferRef> buffers;
    for (size_t bytes :
         {size_t{8}, size_t{300}, size_t{5000}, size_t{70000}, kMiB, 4 * kMiB, 4 * kMiB, 9 * kMiB}) {
      buffers.push_back(allocate(bytes));
      std::memset(buffers.back()->data(), 1, bytes);
    }
  };
  step();
  step();
  rusage before{}, after{};
  getrusage(RUSAGE_THREAD, &before);
  const uint64_t calls = system_allocation_count();
  for (int i = 0; i < 20; ++i) step();
  getrusage(RUSAGE_THREAD, &after);
  EXPECT_EQ(system_allocation_count(), calls);
#ifndef LAMINA_SANITIZED
  // Below the 256 faults of a single mebibyte touched anew; the test's own stack and heap may fault now and
  // then.
  EXPECT_LT(after.ru_minflt - before.ru_minflt, 100);
#endif
}

TEST_F(Memory, CacheLimitHolds) {
  EXPECT_EQ(set_cache_limit(10 * kMiB), get_memory_limit() / 2);
  std::vector<BufferRef> buffers;
  for (int i = 0; i < 8; ++i) buffers.push_back(allocate(3 * kMiB));
  for (int i = 0; i < 1000; ++i) buffers.push_back(allocate(20000));
  while (!buffers.empty()) {
    buffers.pop_back();
    EXPECT_LE(get_cache_memory(), 10 * kMiB);
  }
  EXPECT_GT(get_cache_memory(), 5 * kMiB);
  EXPECT_EQ(set_cache_limit(kMiB), 10 * kMiB);
  EXPECT_LE(get_cache_memory(), kMiB);
  EXPECT_EQ(set_cache_limit(0), kMiB);
  EXPECT_EQ(get_cache_memory(), 0u);
  allocate(100);
  allocate(5 * kMiB);
  EXPECT_EQ(get_cache_memory(), 0u);
}

TEST_F(Memory, OldestLargeBlocksLeaveTheCacheFirst) {
  set_cache_limit(10 * kMiB);
  BufferRef a = allocate(4 * kMiB), b = allocate(5 * kMiB), c = allocate(3 * kMiB);
  void *at_b = b->data(), *at_c = c->data();
  a.reset();
  b.reset();
  c.reset();  // 12 MiB freed: the first one has to go
  EXPECT_EQ(get_cache_memory(), 8 * kMiB);
  EXPECT_EQ(allocate(5 * kMiB)->data(), at_b);
  EXPECT_EQ(allocate(3 * kMiB)->data(), at_c);
}

TEST_F(Memory, BlockAboveTheCacheLimitDoesNotEmptyTheCache) {
  set_cache_limit(10 * kMiB);
  allocate(4 * kMiB);
  allocate(20 * kMiB);
  EXPECT_EQ(get_cache_memory(), 4 * kMiB);
}

TEST_F(Memory, ReachingTheLimitTrimsTheCacheFirst) {
  set_memory_limit(get_active_memory() + 40 * kMiB);
  { BufferRef a = allocate(30 * kMiB); }
  EXPECT_EQ(get_cache_memory(), 30 * kMiB);
  BufferRef b = allocate(20 * kMiB);
  EXPECT_EQ(get_cache_memory(), 0u);
  EXPECT_EQ(active(), 20 * kMiB);
}

TEST_F(Memory, BeyondTheLimitThrowsWithNumbersAndTheNextCallWorks) {
  const size_t limit = get_active_memory() + 40 * kMiB;
  set_memory_limit(limit);
  BufferRef a = allocate(30 * kMiB);
  { BufferRef cached = allocate(5 * kMiB); }
  try {
    allocate(12 * kMiB + 1);
    ADD_FAILURE();
  } catch (const OutOfMemory& e) {
    EXPECT_EQ(e.what(), "[memory] the memory limit is reached: wanted " + std::to_string(12 * kMiB + 1) +
                            " bytes, with " + std::to_string(get_active_memory()) +
                            " active, 0 cached, limit " + std::to_string(limit) + ", machine " +
                            std::to_string(physical_memory_bytes()));
  }
  EXPECT_EQ(active(), 30 * kMiB);
  EXPECT_GE(allocate(9 * kMiB)->bytes(), 9 * kMiB);
  EXPECT_THROW(allocate(11 * kMiB), OutOfMemory);
  a.reset();
  EXPECT_GE(allocate(11 * kMiB)->bytes(), 11 * kMiB);
}

TEST_F(Memory, SmallBlocksObeyTheLimitToo) {
  set_memory_limit(get_active_memory() + kMiB);
  std::vector<BufferRef> buffers;
  EXPECT_THROW(
      {
        for (int i = 0; i < 100; ++i) buffers.push_back(allocate(32768));
      },
      OutOfMemory);
  EXPECT_EQ(buffers.size(), 32u);
  buffers.pop_back();
  buffers.push_back(allocate(32768));
  set_memory_limit(0);
  EXPECT_THROW(allocate(32768), OutOfMemory);
}

TEST_F(Memory, LoweringTheLimitEmptiesTheCacheAndKeepsItEmpty) {
  BufferRef a = allocate(10 * kMiB), b = allocate(10 * kMiB), c = allocate(kMiB);
  b.reset();
  const size_t before = set_memory_limit(get_active_memory() - kMiB);
  EXPECT_EQ(get_cache_memory(), 0u);
  EXPECT_EQ(set_memory_limit(before), get_active_memory() - kMiB);
  set_memory_limit(get_active_memory() - 5 * kMiB);
  c.reset();
  EXPECT_EQ(get_cache_memory(), 0u);
  EXPECT_THROW(allocate(1000), OutOfMemory);
}

TEST_F(Memory, AbsurdRequestsThrowAndLeaveTheCacheAlone) {
  { BufferRef cached = allocate(3 * kMiB); }
  const size_t physical = physical_memory_bytes();
  for (size_t bytes :
       {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 4095, SIZE_MAX / 2, physical + 1, physical, size_t{1} << 62}) {
    EXPECT_THROW(allocate(bytes), OutOfMemory) << bytes;
  }
  set_memory_limit(SIZE_MAX);
  for (size_t bytes : {SIZE_MAX, SIZE_MAX - 4095, physical + 1})
    EXPECT_THROW(allocate(bytes), OutOfMemory) << bytes;
  EXPECT_EQ(get_cache_memory(), 3 * kMiB);
  EXPECT_EQ(allocate(100)->unique(), true);
}

#ifndef LAMINA_SANITIZED
struct ProcessBytes {
  size_t mapped, resident;
};
ProcessBytes process_bytes() {
  std::ifstream file("/proc/self/statm");
  size_t mapped = 0, resident = 0;
  file >> mapped >> resident;
  return {mapped * system_page_bytes(), resident * system_page_bytes()};
}

int allocate_beyond_address_space() {
  const size_t most = process_bytes().mapped + 100 * kMiB;
  rlimit space{most, most};
  setrlimit(RLIMIT_AS, &space);
  try {
    allocate(kMiB * 150);
    return 1;
  } catch (const OutOfMemory& e) {
    if (!std::string(e.what()).starts_with(
            "[memory] the system has no more: wanted 157286400 bytes, with 0 active, 0 cach")) {
      return 2;
    }
  }
  return allocate(kMiB)->bytes() == kMiB ? 7 : 3;
}

TEST_F(Memory, RefusalBySystemIsAnErrorToo) {
  pid_t pid = fork();
  if (pid == 0) _exit(allocate_beyond_address_space());
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
}

// Page tables, the pool's slabs and malloc's own records stay below 1/128 of the data, and 4 MiB for the
// rest.
void expect_resident(size_t before, size_t bytes) {
  const double moved = static_cast<double>(process_bytes().resident) - static_cast<double>(before);
  EXPECT_NEAR(moved, static_cast<double>(bytes), static_cast<double>(bytes) / 128 + 4.0 * kMiB);
}

TEST_F(Memory, CountersAgreeWithTheProcess) {
  for (size_t each : {size_t{20000}, size_t{200000}, 256 * kMiB}) {
    const size_t before = process_bytes().resident;
    std::vector<BufferRef> buffers;
    while (active() < 256 * kMiB) {
      buffers.push_back(allocate(each));
      std::memset(buffers.back()->data(), 1, buffers.back()->bytes());
    }
    expect_resident(before, active());
    buffers.clear();
    EXPECT_GE(get_cache_memory(), 256 * kMiB);
    expect_resident(before, get_cache_memory());
    clear_cache();
    expect_resident(before, 0);
  }
}
#endif

TEST_F(Memory, AdoptedMemoryIsCountedApartAndReleasedOnce) {
  std::vector<float> owner(1000, 2.0f);
  int released = 0;
  const size_t before = adopted_bytes();
  {
    BufferRef a = adopt(owner.data(), 4000, false, [&released] { ++released; });
    EXPECT_EQ(a->data(), owner.data());
    EXPECT_EQ(a->bytes(), 4000u);
    EXPECT_FALSE(a->writable());
    EXPECT_TRUE(a->adopted());
    EXPECT_EQ(adopted_bytes() - before, 4000u);
    EXPECT_EQ(active(), 0u);
    BufferRef b = a;
    a.reset();
    EXPECT_EQ(released, 0);
  }
  EXPECT_EQ(released, 1);
  EXPECT_EQ(adopted_bytes(), before);
  EXPECT_EQ(get_cache_memory(), 0u);
}

TEST_F(Memory, AdoptKeepsItsOwnerAlive) {
  auto owner = std::make_shared<std::vector<int>>(10, 3);
  std::weak_ptr<std::vector<int>> watch = owner;
  BufferRef buffer = adopt(owner->data(), 40, true, [keep = owner] {});
  owner.reset();
  EXPECT_FALSE(watch.expired());
  EXPECT_EQ(static_cast<int*>(buffer->data())[9], 3);
  buffer.reset();
  EXPECT_TRUE(watch.expired());
}

TEST_F(Memory, AdoptTakesNothingAndRefusesNull) {
  EXPECT_EQ(adopt(nullptr, 0, true, nullptr)->bytes(), 0u);
  bool released = false;
  try {
    adopt(nullptr, 5, true, [&] { released = true; });
    ADD_FAILURE();
  } catch (const ValueError& e) { EXPECT_STREQ(e.what(), "[adopt] 5 bytes at a null address"); }
  EXPECT_FALSE(released);
}

TEST_F(Memory, ReleaseMayUseTheAllocator) {
  BufferRef inner;
  int x = 0;
  adopt(&x, sizeof(x), true, [&] { inner = allocate(500); }).reset();
  EXPECT_TRUE(inner && inner->bytes() >= 500);
}

TEST_F(Memory, OneThreadAllocatesAnotherFrees) {
  auto round = [] {
    std::vector<BufferRef> buffers;
    for (int i = 0; i < 100; ++i) buffers.push_back(allocate(3000));
    std::thread([&] { buffers.clear(); }).join();
  };
  round();
  const uint64_t calls = system_allocation_count();
  for (int i = 0; i < 30; ++i) round();
  EXPECT_EQ(system_allocation_count(), calls);
}

TEST_F(Memory, ManyThreadsWithLimitsThatMove) {
  const size_t base = get_active_memory();
  std::atomic<int> damaged{0}, refused{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::vector<std::pair<BufferRef, unsigned char>> shared;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 rng(t);
      for (int step = 0; step < 1500; ++step) {
        const size_t bytes = rng() % 3 == 0 ? rng() % (3 * kMiB) : rng() % 10000;
        const auto mark = static_cast<unsigned char>(rng());
        try {
          BufferRef buffer = allocate(bytes);
          if (bytes > 0) std::memset(buffer->data(), mark, std::min<size_t>(bytes, 4096));
          std::lock_guard lock(mutex);
          if (shared.size() > 20) {
            auto& old = shared[rng() % shared.size()];
            if (*static_cast<unsigned char*>(old.first->data()) != old.second) ++damaged;
            old = shared.back();
            shared.pop_back();
          }
          if (bytes > 0) shared.emplace_back(std::move(buffer), mark);
        } catch (const OutOfMemory&) { ++refused; }
      }
    });
  }
  std::thread tuner([&] {
    for (size_t i = 0; !stop.load(); ++i) {
      set_memory_limit(base + (i % 40) * kMiB);
      set_cache_limit(i % 7 * kMiB);
      if (i % 16 == 0) clear_cache();
      reset_peak_memory();
      std::this_thread::yield();
    }
  });
  for (auto& t : threads) t.join();
  stop = true;
  tuner.join();
  EXPECT_EQ(damaged.load(), 0);
  shared.clear();
  EXPECT_EQ(active(), 0u);
}

TEST_F(Memory, WorksInTheChildAfterForkUnderTraffic) {
  std::atomic<bool> stop{false};
  std::thread traffic([&] {
    while (!stop.load()) { BufferRef a = allocate(500), b = allocate(100000); }
  });
  for (int round = 0; round < 20; ++round) {
    pid_t pid = fork();
    if (pid == 0) {
      bool good = true;
      for (size_t bytes : {size_t{500}, size_t{100000}, 3 * kMiB}) {
        BufferRef buffer = allocate(bytes);
        std::memset(buffer->data(), 9, bytes);
        good = good && static_cast<unsigned char*>(buffer->data())[bytes - 1] == 9;
      }
      clear_cache();
      _exit(good ? 7 : 1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
  }
  stop = true;
  traffic.join();
}

#ifdef LAMINA_ASAN
TEST(MemoryDeathTest, CachedBlocksAreGuarded) {
  EXPECT_DEATH(
      {
        BufferRef buffer = allocate(1000);
        volatile char* data = static_cast<char*>(buffer->data());
        buffer.reset();
        data[10] = 1;
      },
      "use-after-poison");
  EXPECT_DEATH(
      {
        BufferRef buffer = allocate(1000);
        static_cast<volatile char*>(buffer->data())[1000] = 1;
      },
      "use-after-poison");
}
#endif

}  // namespace
}  // namespace lamina
