#include "memory/pool.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "lamina/error.h"
#include "memory/counters.h"

namespace lamina {
namespace {

struct Block {
  unsigned char* data;
  size_t bytes;
  unsigned char mark;
};

Block make_block(size_t bytes, unsigned char mark) {
  auto* data = static_cast<unsigned char*>(pool_allocate(bytes));
  std::memset(data, mark, bytes);
  return {data, bytes, mark};
}

bool intact(const Block& block) {
  for (size_t i = 0; i < block.bytes; ++i) {
    if (block.data[i] != block.mark) return false;
  }
  return true;
}

TEST(Pool, EverySizeIsUsableAlignedAndApart) {
  std::vector<Block> blocks;
  for (size_t bytes = 0; bytes <= kMaxPooledBytes + 40; ++bytes) {
    for (int copy = 0; copy < 3; ++copy) {
      blocks.push_back(make_block(bytes, static_cast<unsigned char>(bytes * 7 + static_cast<size_t>(copy))));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(blocks.back().data) % 16, 0u) << bytes;
    }
  }
  for (const Block& block : blocks) EXPECT_TRUE(intact(block)) << block.bytes;
  for (const Block& block : blocks) pool_free(block.data, block.bytes);
}

TEST(Pool, NullIsIgnored) { pool_free(nullptr, 40); }

TEST(Pool, AbsurdSizeThrows) { EXPECT_THROW(pool_allocate(SIZE_MAX), OutOfMemory); }

TEST(Pool, RandomTrafficKeepsContents) {
  std::mt19937 rng(7);
  std::vector<Block> alive;
  for (int step = 0; step < 60000; ++step) {
    if (alive.empty() || rng() % 5 < (step < 30000 ? 3u : 2u)) {
      alive.push_back(make_block(rng() % (kMaxPooledBytes + 1), static_cast<unsigned char>(rng())));
    } else {
      size_t at = rng() % alive.size();
      ASSERT_TRUE(intact(alive[at]));
      pool_free(alive[at].data, alive[at].bytes);
      alive[at] = alive.back();
      alive.pop_back();
    }
  }
  for (const Block& block : alive) pool_free(block.data, block.bytes);
}

TEST(Pool, SteadyLoopTakesNothingFromTheSystem) {
  auto cycle = [] {
    std::vector<void*> blocks;
    for (size_t i = 0; i < 3000; ++i) blocks.push_back(pool_allocate(16 + i % 32 * 16));
    for (size_t i = 0; i < blocks.size(); ++i) pool_free(blocks[i], 16 + i % 32 * 16);
  };
  cycle();
  const uint64_t before = system_allocation_count();
  const size_t reserved = pool_reserved_bytes();
  for (int round = 0; round < 20; ++round) cycle();
  EXPECT_EQ(system_allocation_count(), before);
  EXPECT_EQ(pool_reserved_bytes(), reserved);
}

TEST(Pool, BlocksFreedOnAnotherThreadComeBack) {
  // A producer that never frees and a consumer that never allocates must not drain the system.
  auto round = [] {
    std::vector<Block> blocks;
    for (int i = 0; i < 2000; ++i) blocks.push_back(make_block(96, static_cast<unsigned char>(i)));
    std::thread consumer([&] {
      for (const Block& block : blocks) {
        EXPECT_TRUE(intact(block));
        pool_free(block.data, block.bytes);
      }
    });
    consumer.join();
  };
  round();
  round();
  const size_t reserved = pool_reserved_bytes();
  for (int i = 0; i < 20; ++i) round();
  EXPECT_EQ(pool_reserved_bytes(), reserved);
}

TEST(Pool, ShortLivedThreadsLeaveTheirBlocksBehind) {
  auto visit = [] {
    std::thread([] {
      std::vector<Block> blocks;
      for (int i = 0; i < 10; ++i) blocks.push_back(make_block(208, static_cast<unsigned char>(i)));
      for (const Block& block : blocks) pool_free(block.data, block.bytes);
    }).join();
  };
  visit();
  const size_t reserved = pool_reserved_bytes();
  for (int i = 0; i < 500; ++i) visit();
  EXPECT_EQ(pool_reserved_bytes(), reserved);
}

// Frees and allocates while its thread ends, after or before the pool's own clean-up.
struct LastWords {
  void* block = nullptr;
  ~LastWords() {
    pool_free(block, 112);
    void* again = pool_allocate(112);
    std::memset(again, 1, 112);
    pool_free(again, 112);
  }
};

TEST(Pool, WorksWhileAThreadEnds) {
  auto visit = [](bool pool_first) {
    std::thread([pool_first] {
      if (pool_first) pool_free(pool_allocate(32), 32);
      thread_local LastWords words;
      words.block = pool_allocate(112);
    }).join();
  };
  visit(false);
  visit(true);
  const size_t reserved = pool_reserved_bytes();
  for (int i = 0; i < 1000; ++i) visit(i % 2 == 0);
  EXPECT_EQ(pool_reserved_bytes(), reserved);
}

TEST(Pool, ManyThreadsPassBlocksAround) {
  constexpr size_t kThreads = 4;
  struct Mailbox {
    std::mutex mutex;
    std::vector<Block> blocks;
  };
  std::vector<Mailbox> boxes(kThreads);
  std::atomic<int> damaged{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 rng(static_cast<unsigned>(t));
      for (int step = 0; step < 4000; ++step) {
        Block block = make_block(1 + rng() % kMaxPooledBytes, static_cast<unsigned char>(rng()));
        Mailbox& to = boxes[rng() % kThreads];
        {
          std::lock_guard lock(to.mutex);
          to.blocks.push_back(block);
        }
        std::vector<Block> mine;
        {
          std::lock_guard lock(boxes[t].mutex);
          mine.swap(boxes[t].blocks);
        }
        for (const Block& b : mine) {
          damaged += !intact(b);
          pool_free(b.data, b.bytes);
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  for (Mailbox& box : boxes) {
    for (const Block& b : box.blocks) {
      damaged += !intact(b);
      pool_free(b.data, b.bytes);
    }
  }
  EXPECT_EQ(damaged.load(), 0);
}

TEST(Pool, WorksInTheChildAfterForkUnderTraffic) {
  std::atomic<bool> stop{false};
  std::thread traffic([&] {
    std::vector<void*> blocks;
    while (!stop.load()) {
      for (int i = 0; i < 300; ++i) blocks.push_back(pool_allocate(64));
      for (void* b : blocks) pool_free(b, 64);
      blocks.clear();
    }
  });
  for (int round = 0; round < 20; ++round) {
    pid_t pid = fork();
    if (pid == 0) {
      std::vector<Block> blocks;
      for (int i = 0; i < 500; ++i) blocks.push_back(make_block(64, static_cast<unsigned char>(i)));
      bool good = true;
      for (const Block& b : blocks) good = good && intact(b);
      _exit(good ? 7 : 1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
  }
  stop = true;
  traffic.join();
}

struct Counted {
  explicit Counted(int* alive_, bool fail) : alive(alive_) {
    if (fail) throw std::runtime_error("no");
    ++*alive;
  }
  ~Counted() { --*alive; }
  int* alive;
};

TEST(Pool, NewAndDeleteRunConstructorsAndDestructors) {
  int alive = 0;
  Counted* one = pool_new<Counted>(&alive, false);
  EXPECT_EQ(alive, 1);
  pool_delete(one);
  EXPECT_EQ(alive, 0);
  pool_delete<Counted>(nullptr);
  EXPECT_THROW(pool_new<Counted>(&alive, true), std::runtime_error);
  EXPECT_EQ(alive, 0);
}

}  // namespace
}  // namespace lamina
