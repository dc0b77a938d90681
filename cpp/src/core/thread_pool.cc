#include "core/thread_pool.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "core/cgroup.h"
#include "core/fail.h"
#include "core/fork_locks.h"
#include "core/placement.h"

namespace lamina {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kSlots = 8;  // jobs that run in parallel at once; further callers run theirs alone
constexpr auto kSpin = std::chrono::microseconds(30);
constexpr int kPlaced = 3;  // workers that are placed as they wake (see Placement), for 3 us each

using Body = FunctionRef<void(int64_t)>;

// What the calling thread knows about itself.
struct ThreadState {
  int index = 0;         // 0 for callers, 1.. for workers
  int body_threads = 0;  // thread limit of the job whose body runs now; 0 outside
  int seen_threads = 0;  // what num_threads() last answered to this thread; 0 where it never asked
};
constinit thread_local ThreadState tls;

void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<uint32_t>& word, int waiters) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, waiters, nullptr, nullptr, 0);
}

// True once `ready()` is; false where it stays false for `duration`.
template <class Ready>
bool spin_until(std::chrono::nanoseconds duration, const Ready& ready) {
  if (duration.count() == 0) return ready();
  const auto end = std::chrono::steady_clock::now() + duration;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      cpu_relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// A slot's state is one word: threads that may join (16 bits), then chunks not handed out yet (48 bits),
// offset by kBias so that every thread's one vain decrement at the end cannot borrow from the upper bits.
constexpr int kLimitShift = 48;
constexpr int64_t kBias = 1 << 16;
constexpr int64_t kMaxChunks = (int64_t{1} << kLimitShift) - 1 - kBias;

constexpr uint64_t pack(int limit, int64_t chunks) {
  return static_cast<uint64_t>(limit) << kLimitShift | static_cast<uint64_t>(chunks + kBias);
}
constexpr int limit_of(uint64_t state) { return static_cast<int>(state >> kLimitShift); }
constexpr int64_t remaining_of(uint64_t state) {
  return static_cast<int64_t>(state & ((uint64_t{1} << kLimitShift) - 1)) - kBias;
}

// One running parallel_for. A thread that has taken a chunk and not yet counted it in `pending` keeps the
// job, and so `body`, alive; nobody else may read anything but the atomics.
struct alignas(64) Slot {
  std::atomic<uint64_t> state{0};
  alignas(64) std::atomic<int64_t> pending{0};  // chunks that have not ended
  std::atomic<uint32_t> caller_parked{0};
  Placement caller;
  std::atomic<bool> taken{false};
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  int64_t chunks = 0;
  const Body* body = nullptr;
};

// Runs chunks until none is left to hand out; the calling thread holds the one with `remaining` left.
void run_chunks(Slot& slot, int64_t remaining, int threads) {
  const Body& body = *slot.body;
  const int64_t chunks = slot.chunks;
  int64_t done = 0;
  tls.body_threads = threads;
  for (; remaining > 0; remaining = remaining_of(slot.state.fetch_sub(1, std::memory_order_acquire))) {
    try {
      body(chunks - remaining);
    } catch (...) {
      if (!slot.failed.exchange(true, std::memory_order_relaxed)) slot.error = std::current_exception();
    }
    ++done;
  }
  tls.body_threads = 0;
  if (slot.pending.fetch_sub(done, std::memory_order_seq_cst) != done) return;
  // The slot may serve another job by now: a wake-up too many is harmless, the caller looks again.
  if (slot.caller_parked.exchange(0, std::memory_order_seq_cst) == 0) return;
  slot.caller.wake_beside(sched_getcpu());
  futex_wake(slot.caller_parked, 1);
}

void run_inline(int64_t chunks, const Body& body, int threads) {
  const int outer = std::exchange(tls.body_threads, threads);
  std::exception_ptr error;
  for (int64_t i = 0; i < chunks; ++i) {
    try {
      body(i);
    } catch (...) {
      if (!error) error = std::current_exception();
    }
  }
  tls.body_threads = outer;
  if (error) std::rethrow_exception(error);
}

// The process's workers. Lives for ever: workers are detached and may look at it while the process exits.
class Pool {
 public:
  static Pool& instance() {
    static Pool* pool = new Pool;
    return *pool;
  }

  int limit() {
    int n = limit_.load(std::memory_order_relaxed);
    if (n != 0) return n;
    int fresh = default_thread_count();
    return limit_.compare_exchange_strong(n, fresh) ? fresh : n;
  }

  void set_limit(int n) {
    limit_.store(n);
    retired_.fetch_add(1);
    epoch_.fetch_add(1);
    futex_wake(retired_, INT_MAX);
    futex_wake(epoch_, INT_MAX);
  }

  void run(int64_t chunks, const Body& body, int threads) {
    Slot* slot = take_slot();
    if (slot == nullptr) return run_inline(chunks, body, threads);
    start_workers(threads - 1);
    slot->chunks = chunks;
    slot->body = &body;
    slot->pending.store(chunks, std::memory_order_relaxed);
    slot->state.store(pack(threads, chunks - 1), std::memory_order_seq_cst);
    wake_workers(chunks, threads);
    run_chunks(*slot, chunks, threads);  // the chunk held back from `state` is the caller's first
    wait_for_others(*slot);
    std::exception_ptr error;
    if (slot->failed.load(std::memory_order_relaxed)) {
      error = std::exchange(slot->error, nullptr);
      slot->failed.store(false, std::memory_order_relaxed);
    }
    slot->taken.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
  }

 private:
  Pool() : cpus_(usable_cpu_count()) {
    at_fork(ForkRank::kThreads,
            {[] { instance().start_mutex_.lock(); }, [] { instance().start_mutex_.unlock(); },
             [] { instance().reset_after_fork(); }});
  }

  // Only the forking thread lives on in the child: its jobs and workers start from nothing.
  void reset_after_fork() {
    for (Slot& slot : slots_) new (&slot) Slot;
    for (int i = 1; i <= started_.load(); ++i) new (placements_[static_cast<size_t>(i)]) Placement;
    started_.store(0);
    sleepers_.store(0);
    start_mutex_.unlock();
  }

  // More threads than processors share them anyhow: spinning and placing would starve other processes.
  bool crowded() const { return limit_.load(std::memory_order_relaxed) > cpus_; }

  std::chrono::nanoseconds spin_time() const {
    return crowded() ? std::chrono::nanoseconds(0) : std::chrono::nanoseconds(kSpin);
  }

  Slot* take_slot() {
    for (Slot& slot : slots_) {
      if (!slot.taken.load(std::memory_order_relaxed) &&
          !slot.taken.exchange(true, std::memory_order_acquire)) {
        return &slot;
      }
    }
    return nullptr;
  }

  void wait_for_others(Slot& slot) {
    auto ended = [&] { return slot.pending.load(std::memory_order_acquire) <= 0; };
    if (spin_until(spin_time(), ended)) return;
    for (;;) {
      slot.caller_parked.store(1, std::memory_order_seq_cst);
      if (slot.pending.load(std::memory_order_seq_cst) <= 0) return;
      if (!crowded()) slot.caller.sleeps();
      futex_wait(slot.caller_parked, 1);
      slot.caller.wakes();
    }
  }

  // Either this sees a parked worker, or that worker's last look sees the job: both sides are sequentially
  // consistent.
  void wake_workers(int64_t chunks, int threads) {
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    bool all_may_join = threads >= limit_.load(std::memory_order_relaxed);
    int64_t wanted = all_may_join ? std::min<int64_t>(chunks - 1, threads - 1) : INT_MAX;
    const int placed = std::min(started_.load(std::memory_order_acquire), kPlaced);
    const int cpu = sched_getcpu();
    for (int i = 1; i <= placed; ++i) placements_[static_cast<size_t>(i)]->wake_beside(cpu);
    futex_wake(epoch_, static_cast<int>(wanted));
  }

  bool work(int index) {
    bool worked = false;
    for (int i = 0; i < kSlots; ++i) {
      Slot& slot = slots_[static_cast<size_t>((index + i) % kSlots)];
      uint64_t state = slot.state.load(std::memory_order_seq_cst);
      while (remaining_of(state) > 0 && index < limit_of(state)) {
        if (!slot.state.compare_exchange_weak(state, state - 1, std::memory_order_acquire)) continue;
        run_chunks(slot, remaining_of(state), limit_of(state));
        worked = true;
        break;
      }
    }
    return worked;
  }

  bool has_work(int index) const {
    return std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
      uint64_t state = slot.state.load(std::memory_order_seq_cst);
      return remaining_of(state) > 0 && index < limit_of(state);
    });
  }

  void park(int index) {
    uint32_t retired = retired_.load();
    if (index >= limit_.load()) return futex_wait(retired_, retired);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    uint32_t epoch = epoch_.load(std::memory_order_seq_cst);
    if (!has_work(index) && index < limit_.load()) {
      Placement& placement = *placements_[static_cast<size_t>(index)];
      if (!crowded()) placement.sleeps();
      futex_wait(epoch_, epoch);
      placement.wakes();
    }
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

  [[noreturn]] void worker(int index) {
    tls.index = index;
    for (;;) {
      while (work(index)) {}
      if (!spin_until(spin_time(), [&] { return has_work(index); })) park(index);
    }
  }

  void start_workers(int wanted) {
    if (started_.load(std::memory_order_acquire) >= wanted) return;
    std::lock_guard lock(start_mutex_);
    // Signals stay with the application's own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int n = started_.load(std::memory_order_relaxed); n < wanted; ++n) {
      const int index = n + 1;
      try {
        Placement*& placement = placements_[static_cast<size_t>(index)];
        if (placement == nullptr) placement = new Placement;
        std::thread thread([this, index] { worker(index); });
        pthread_setname_np(thread.native_handle(), ("lamina-" + std::to_string(index)).c_str());
        thread.detach();
      } catch (const std::system_error&) {
        break;  // the system has no thread to give: those that run, and the caller, do the work
      }
      started_.store(index, std::memory_order_release);
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  const int cpus_;
  std::array<Slot, kSlots> slots_;
  std::array<Placement*, kMaxThreads> placements_{};  // by worker, made before it starts; they stay
  std::mutex start_mutex_;
  std::atomic<int> started_{0};
  std::atomic<int> limit_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<uint32_t> epoch_{0};    // workers in service park here
  std::atomic<uint32_t> retired_{0};  // workers beyond the limit park here
};

// Threads for a call from outside any body. Workers beyond what this thread saw must not join: its scratch
// space may be sized by that answer.
int threads_for_call() {
  int limit = Pool::instance().limit();
  return tls.seen_threads == 0 ? limit : std::min(limit, tls.seen_threads);
}

}  // namespace

int default_thread_count() {
  const char* text = std::getenv("LAMINA_NUM_THREADS");
  if (text == nullptr || *text == '\0') return std::min(usable_cpu_count(), kMaxThreads);
  int n = 0;
  const char* end = text + std::strlen(text);
  auto [stop, error] = std::from_chars(text, end, n);
  if (error != std::errc() || stop != end || n < 1 || n > kMaxThreads) {
    fail<ValueError>("threads", "LAMINA_NUM_THREADS must be a whole number from 1 to {}, got '{}'",
                     kMaxThreads, text);
  }
  return n;
}

int num_threads() {
  if (tls.body_threads != 0) return tls.body_threads;
  return tls.seen_threads = Pool::instance().limit();
}

void set_num_threads(int n) {
  if (n < 1 || n > kMaxThreads) {
    fail<ValueError>("set_num_threads", "wanted a number from 1 to {}, got {}", kMaxThreads, n);
  }
  Pool::instance().set_limit(n);
  tls.seen_threads = n;
}

int thread_index() { return tls.index; }

void parallel_for(int64_t chunks, FunctionRef<void(int64_t)> body) {
  if (chunks <= 0) return;
  if (tls.body_threads != 0) return run_inline(chunks, body, tls.body_threads);
  const int threads = threads_for_call();
  if (threads == 1 || chunks == 1) return run_inline(chunks, body, threads);
  if (chunks > kMaxChunks) fail<ValueError>("parallel_for", "at most {} chunks, got {}", kMaxChunks, chunks);
  Pool::instance().run(chunks, body, threads);
}

void parallel_ranges(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> body) {
  if (n <= 0) return;
  grain = std::clamp<int64_t>(grain, 1, INT64_MAX - 64);
  // Ranges that are not tiny begin at multiples of 64 items: whole cache lines and vectors, no shared line at
  // a seam.
  const int64_t quantum = grain >= 64 ? 64 : 1;
  const int threads = tls.body_threads != 0 ? 1 : num_threads();
  const int64_t most = threads == 1 ? 1 : int64_t{4} * threads;
  const int64_t chunks = std::clamp<int64_t>(n / (grain + quantum - 1), 1, most);
  const int64_t units = n / quantum, each = units / chunks, extra = units % chunks;
  auto begin_of = [&](int64_t i) { return i == chunks ? n : (i * each + std::min(i, extra)) * quantum; };
  auto range = [&](int64_t i) { body(begin_of(i), begin_of(i + 1)); };
  parallel_for(chunks, range);
}

}  // namespace lamina
