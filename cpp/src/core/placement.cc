#include "core/placement.h"

#include <cstddef>

namespace lamina {

// Where the system refuses (a sandbox, more processors than a set holds) the thread wakes where it will.
void Placement::bar(int cpu, bool barred) {
  // A sleeper that was not woken last time may be barred from it already.
  const bool done = barred && cpu == barred_;
  const bool known = barred || sched_getaffinity(thread_, sizeof allowed_, &allowed_) == 0;
  if (!done && known && cpu >= 0 && CPU_COUNT(&allowed_) > 1) {
    cpu_set_t others = allowed_;
    CPU_CLR(static_cast<size_t>(cpu), &others);
    if (sched_setaffinity(thread_, sizeof others, &others) == 0) barred = true, barred_ = cpu;
  }
  state_.store(barred ? kBarred : kAsleep, std::memory_order_release);
}

void Placement::lift() {
  while (state_.load(std::memory_order_acquire) == kChanging) sched_yield();
  if (state_.load(std::memory_order_relaxed) == kBarred) sched_setaffinity(0, sizeof allowed_, &allowed_);
  state_.store(kAwake, std::memory_order_relaxed);
}

}  // namespace lamina
