#pragma once

#include <sched.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>

namespace lamina {

// Where a sleeping thread wakes up. Linux puts it on the processor of the thread that wakes it where it takes
// no other for idle, and virtual processors that are halted it often does not: both then share one for
// milliseconds. So the waker bars its own processor to the sleeper, who lifts that when it runs.
class Placement {
 public:
  // By the thread itself, around its sleep.
  void sleeps() {
    thread_ = gettid();
    state_.store(kAsleep, std::memory_order_release);
  }
  void wakes() {
    int state = kAsleep;
    if (!state_.compare_exchange_strong(state, kAwake, std::memory_order_acquire)) lift();
  }
  // By whoever is about to wake it: keeps it from the processor `cpu`, on which the caller runs.
  void wake_beside(int cpu) {
    int state = state_.load(std::memory_order_relaxed);
    if (state == kAwake || state == kChanging) return;
    if (state_.compare_exchange_strong(state, kChanging, std::memory_order_acquire))
      bar(cpu, state == kBarred);
  }

 private:
  enum State : int { kAwake, kAsleep, kChanging, kBarred };

  void bar(int cpu, bool barred);
  void lift();

  std::atomic<int> state_{kAwake};
  pid_t thread_ = 0;
  int barred_ = -1;      // the processor, while one is barred
  cpu_set_t allowed_{};  // where the thread may run, while a processor is barred to it
};

}  // namespace lamina
