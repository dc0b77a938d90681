#pragma once

#include <sched.h>

#include <atomic>

namespace lamina {

// A one-byte lock for sections of a few instructions; gives the CPU away where the holder seems not to run.
class SpinLock {
 public:
  void lock() {
    for (int tries = 0; flag_.exchange(true, std::memory_order_acquire); ++tries) {
      while (flag_.load(std::memory_order_relaxed)) {
        if (++tries > 64) sched_yield();
      }
    }
  }
  void unlock() { flag_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> flag_{false};
};

}  // namespace lamina
