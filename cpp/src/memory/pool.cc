#include "memory/pool.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>

#include "core/fail.h"
#include "core/fork_locks.h"
#include "memory/counters.h"
#include "memory/poison.h"
#include "memory/spin_lock.h"

namespace lamina {
namespace {

constexpr size_t kStepBytes = 16;
constexpr size_t kClasses = kMaxPooledBytes / kStepBytes;
constexpr uint32_t kBatch = 32;  // blocks that move between a thread and the common store at once
constexpr size_t kSlabBytes = size_t{64} << 10;

constexpr size_t class_of(size_t bytes) { return bytes == 0 ? 0 : (bytes - 1) / kStepBytes; }
constexpr size_t class_bytes(size_t index) { return (index + 1) * kStepBytes; }

// What a free block holds. Chains of blocks form a stack in the common store.
struct FreeBlock {
  FreeBlock* next;
  FreeBlock* next_chain;
};

// A thread's free blocks of one class. `capacity` is 0 until the thread is registered, and again once it is
// ending: then every call takes the slow way.
struct LocalList {
  FreeBlock* head;
  uint32_t count;
  uint32_t capacity;
};
constinit thread_local std::array<LocalList, kClasses> local_lists{};

struct CommonStore {
  SpinLock lock;
  FreeBlock* chains = nullptr;
  std::byte* slab = nullptr;
  size_t slab_bytes_left = 0;
};
constinit std::array<CommonStore, kClasses> stores{};
constinit std::atomic<size_t> reserved_bytes{0};

void hide(FreeBlock* block, size_t index) { poison(block + 1, class_bytes(index) - sizeof(FreeBlock)); }

void push_chain(size_t index, FreeBlock* chain) {
  CommonStore& store = stores[index];
  std::lock_guard lock(store.lock);
  chain->next_chain = store.chains;
  store.chains = chain;
}

// Hands the thread's blocks over when it ends; later frees of this thread go straight to the common store.
struct ThreadEnd {
  ~ThreadEnd() {
    for (size_t i = 0; i < kClasses; ++i) {
      if (local_lists[i].head != nullptr) push_chain(i, local_lists[i].head);
      local_lists[i] = {};
    }
  }
};

// A second life of a thread_local's owner is impossible, so an ended thread must not register again.
constinit thread_local bool registered_once = false;

void register_thread() {
  if (registered_once) return;
  registered_once = true;
  thread_local ThreadEnd at_end;
  static_cast<void>(at_end);
  for (LocalList& list : local_lists) list.capacity = 2 * kBatch;
}

void lock_stores() {
  for (CommonStore& store : stores) store.lock.lock();
}
void unlock_stores() {
  for (CommonStore& store : stores) store.lock.unlock();
}

// Registered when the library is loaded: a child forked during a first use would wait for it for ever.
[[maybe_unused]] const int at_fork_objects =
    at_fork(ForkRank::kObjects, {lock_stores, unlock_stores, unlock_stores});

void* system_allocate(size_t bytes) {
  count_system_allocation();
  void* block = bytes > PTRDIFF_MAX ? nullptr : std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (block == nullptr) fail<OutOfMemory>("memory", "the system has no {} bytes for small objects", bytes);
  return block;
}

// Blocks cut from a slab; the store's lock is held, so a new slab must be at hand.
FreeBlock* carve(CommonStore& store, size_t index) {
  const size_t each = class_bytes(index);
  FreeBlock* chain = nullptr;
  for (uint32_t n = 0; n < kBatch && store.slab_bytes_left >= each; ++n) {
    unpoison(store.slab, sizeof(FreeBlock));
    chain = ::new (store.slab) FreeBlock{chain, nullptr};
    store.slab += each;
    store.slab_bytes_left -= each;
  }
  return chain;
}

FreeBlock* take_chain(size_t index) {
  CommonStore& store = stores[index];
  std::unique_lock lock(store.lock);
  for (;;) {
    if (FreeBlock* chain = store.chains) {
      store.chains = chain->next_chain;
      return chain;
    }
    if (FreeBlock* chain = carve(store, index)) return chain;
    lock.unlock();
    auto* slab = static_cast<std::byte*>(system_allocate(kSlabBytes));
    reserved_bytes.fetch_add(kSlabBytes, std::memory_order_relaxed);
    poison(slab, kSlabBytes);
    lock.lock();
    if (store.slab_bytes_left < class_bytes(index)) {
      store.slab = slab;
      store.slab_bytes_left = kSlabBytes;
      continue;
    }
    // Another thread was faster: keep this slab's blocks as one more chain.
    CommonStore spare;
    spare.slab = slab;
    spare.slab_bytes_left = kSlabBytes;
    while (FreeBlock* chain = carve(spare, index)) {
      chain->next_chain = store.chains;
      store.chains = chain;
    }
  }
}

[[gnu::noinline]] void* allocate_slowly(size_t index) {
  register_thread();
  FreeBlock* chain = take_chain(index);
  LocalList& list = local_lists[index];
  FreeBlock* rest = chain->next;
  if (list.capacity == 0) {
    if (rest != nullptr) push_chain(index, rest);
    return chain;
  }
  list.head = rest;
  for (list.count = 0; rest != nullptr; rest = rest->next) ++list.count;
  return chain;
}

[[gnu::noinline]] void free_slowly(FreeBlock* block, size_t index) {
  register_thread();
  LocalList& list = local_lists[index];
  if (list.capacity == 0) {
    block->next = nullptr;
    push_chain(index, block);
    return;
  }
  block->next = list.head;
  list.head = block;
  if (++list.count < list.capacity) return;
  // Keep the blocks used last, they are warm; the older half goes to the common store.
  FreeBlock* last_kept = list.head;
  for (uint32_t i = 1; i < kBatch; ++i) last_kept = last_kept->next;
  push_chain(index, std::exchange(last_kept->next, nullptr));
  list.count = kBatch;
}

}  // namespace

void* pool_allocate(size_t bytes) {
  if (bytes > kMaxPooledBytes) return system_allocate(bytes);
  const size_t index = class_of(bytes);
  LocalList& list = local_lists[index];
  void* block;
  if (list.head != nullptr) [[likely]] {
    block = list.head;
    list.head = list.head->next;
    --list.count;
  } else {
    block = allocate_slowly(index);
  }
  unpoison(block, bytes);
  return block;
}

void pool_free(void* p, size_t bytes) noexcept {
  if (p == nullptr) return;
  if (bytes > kMaxPooledBytes) return std::free(p);
  const size_t index = class_of(bytes);
  unpoison(p, sizeof(FreeBlock));
  LocalList& list = local_lists[index];
  FreeBlock* block = ::new (p) FreeBlock;
  hide(block, index);
  if (list.count + 1 < list.capacity) [[likely]] {
    block->next = list.head;
    list.head = block;
    ++list.count;
  } else {
    free_slowly(block, index);
  }
}

size_t pool_reserved_bytes() { return reserved_bytes.load(std::memory_order_relaxed); }

}  // namespace lamina
