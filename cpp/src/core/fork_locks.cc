#include "core/fork_locks.h"

#include <pthread.h>

#include <atomic>
#include <cstddef>

namespace lamina {
namespace {

constexpr auto kRanks = static_cast<size_t>(ForkRank::kCount);

struct Registered {
  ForkHandler handler{};
  std::atomic<bool> ready{false};
  bool locked = false;  // written by the forking thread alone
};
constinit Registered registered[kRanks];

void lock_in_order() {
  for (Registered& r : registered) {
    r.locked = r.ready.load(std::memory_order_acquire);
    if (r.locked) r.handler.lock();
  }
}

void release(bool in_child) {
  for (size_t i = kRanks; i-- > 0;) {
    Registered& r = registered[i];
    if (!r.locked) continue;
    r.locked = false;
    (in_child ? r.handler.renew : r.handler.unlock)();
  }
}

}  // namespace

int at_fork(ForkRank rank, const ForkHandler& handler) {
  static const int once = pthread_atfork(
      lock_in_order, [] { release(false); }, [] { release(true); });
  Registered& r = registered[static_cast<size_t>(rank)];
  r.handler = handler;
  r.ready.store(true, std::memory_order_release);
  return once;
}

}  // namespace lamina
