#include "core/placement.h"

#include <gtest/gtest.h>

#include <atomic>
#include <semaphore>
#include <thread>
#include <vector>

namespace lamina {
namespace {

cpu_set_t affinity(pid_t thread = 0) {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(thread, sizeof set, &set), 0);
  return set;
}

std::vector<int> cpus(const cpu_set_t& set) {
  std::vector<int> found;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(static_cast<size_t>(i), &set)) found.push_back(i);
  }
  return found;
}

// A thread that sleeps until it is told to wake.
class Sleeper {
 public:
  explicit Sleeper(const cpu_set_t& allowed)
      : thread_([this, allowed] {
          sched_setaffinity(0, sizeof allowed, &allowed);
          id_ = gettid();
          placement.sleeps();
          asleep_.release();
          wake_.acquire();
          placement.wakes();
          after_ = affinity();
        }) {
    asleep_.acquire();
  }
  ~Sleeper() {
    if (thread_.joinable()) wake();
  }

  std::vector<int> allowed() const { return cpus(affinity(id_)); }
  // Where the thread may run once it is awake again.
  std::vector<int> wake() {
    wake_.release();
    thread_.join();
    return cpus(after_);
  }

  Placement placement;

 private:
  std::binary_semaphore asleep_{0}, wake_{0};
  std::atomic<pid_t> id_{0};
  cpu_set_t after_{};
  std::thread thread_;
};

std::vector<int> without(std::vector<int> set, int cpu) {
  std::erase(set, cpu);
  return set;
}

TEST(Placement, BarsTheWakersProcessorForTheMomentOfWaking) {
  const auto all = cpus(affinity());
  if (all.size() < 2) GTEST_SKIP() << "one processor";
  for (int cpu : all) {
    Sleeper sleeper(affinity());
    sleeper.placement.wake_beside(cpu);
    EXPECT_EQ(sleeper.allowed(), without(all, cpu));
    EXPECT_EQ(sleeper.wake(), all);
  }
}

TEST(Placement, TheLastOfSeveralWakersCounts) {
  const auto all = cpus(affinity());
  if (all.size() < 2) GTEST_SKIP() << "one processor";
  Sleeper sleeper(affinity());
  for (int cpu : {all[0], all[1], all[0], all[1]}) sleeper.placement.wake_beside(cpu);
  EXPECT_EQ(sleeper.allowed(), without(all, all[1]));
  EXPECT_EQ(sleeper.wake(), all);
}

TEST(Placement, LeavesThreadsThatAreBoundToOneProcessorAlone) {
  const auto all = cpus(affinity());
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(all.back()), &one);
  Sleeper sleeper(one);
  sleeper.placement.wake_beside(all.back());
  EXPECT_EQ(sleeper.allowed(), cpus(one));
  EXPECT_EQ(sleeper.wake(), cpus(one));
}

TEST(Placement, AThreadThatIsAwakeIsLeftAlone) {
  const auto all = cpus(affinity());
  Placement placement;
  placement.wake_beside(all[0]);
  EXPECT_EQ(cpus(affinity()), all);
  placement.sleeps();
  placement.wakes();
  placement.wake_beside(all[0]);
  EXPECT_EQ(cpus(affinity()), all);
}

TEST(Placement, AnUnknownProcessorBarsNothing) {
  const auto all = cpus(affinity());
  Sleeper sleeper(affinity());
  sleeper.placement.wake_beside(-1);
  EXPECT_EQ(sleeper.wake(), all);
}

}  // namespace
}  // namespace lamina
