#include <malloc.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <type_traits>
#include <utility>

#include "core/fail.h"
#include "core/fork_locks.h"
#include "lamina/memory.h"
#include "memory/buffer.h"
#include "memory/counters.h"
#include "memory/poison.h"
#include "memory/pool.h"
#include "memory/size_class.h"
#include "memory/spin_lock.h"
#include "memory/system_memory.h"

namespace lamina {
namespace {

constexpr unsigned kShards = 16;

// The part of the small cache that the calling thread uses.
unsigned thread_shard() {
  static constinit std::atomic<unsigned> next{0};
  constinit thread_local unsigned shard = kShards;
  if (shard == kShards) shard = next.fetch_add(1, std::memory_order_relaxed) % kShards;
  return shard;
}

}  // namespace

// Hands out blocks and caches freed ones. A cached block keeps its Buffer, so that a hit costs a list
// operation. `reserved_` is what the system has given, `active_` the part in use; the rest is the cache.
class Allocator {
 public:
  BufferRef allocate(size_t bytes) {
    Buffer* buffer = take(bytes);
    const size_t capacity = buffer->capacity_;
    raise_peak(active_.fetch_add(capacity, std::memory_order_relaxed) + capacity);
    if constexpr (kPoisons) {
      buffer->bytes_ = std::max<size_t>(bytes, 1);
      unpoison(buffer->data_, buffer->bytes_);
    }
    buffer->refs.store(1, std::memory_order_relaxed);
    return BufferRef::adopt(buffer);
  }

  void free(Buffer* buffer) noexcept {
    if (buffer->kind_ == Buffer::Kind::kAdopted) return free_adopted(static_cast<Adopted*>(buffer));
    poison(buffer->data_, buffer->capacity_);
    active_.fetch_sub(buffer->capacity_, std::memory_order_relaxed);
    if (buffer->capacity_ > cache_limit_.load(std::memory_order_relaxed)) return release(buffer);
    if (buffer->kind_ == Buffer::Kind::kSmall) {
      small_push(buffer);
    } else {
      large_push(buffer);
    }
    trim(excess());
  }

  BufferRef adopt(void* data, size_t bytes, bool writable, std::function<void()> release) {
    if (data == nullptr && bytes != 0) fail<ValueError>("adopt", "{} bytes at a null address", bytes);
    auto* buffer = ::new (pool_allocate(sizeof(Adopted))) Adopted(data, bytes, writable, std::move(release));
    adopted_.fetch_add(bytes, std::memory_order_relaxed);
    return BufferRef(buffer);
  }

  size_t active_bytes() const { return active_.load(std::memory_order_relaxed); }
  size_t peak_bytes() const { return peak_.load(std::memory_order_relaxed); }
  size_t adopted_bytes() const { return adopted_.load(std::memory_order_relaxed); }
  size_t cache_bytes() const {
    const size_t active = active_bytes(), reserved = reserved_.load(std::memory_order_relaxed);
    return reserved > active ? reserved - active : 0;
  }
  void reset_peak() { peak_.store(active_bytes(), std::memory_order_relaxed); }

  size_t limit() {
    set_defaults();
    return limit_.load();
  }
  size_t set_limit(size_t bytes) {
    set_defaults();
    const size_t before = limit_.exchange(bytes);
    trim(excess());
    return before;
  }
  size_t set_cache_limit(size_t bytes) {
    set_defaults();
    const size_t before = cache_limit_.exchange(bytes);
    trim(excess());
    return before;
  }
  void clear_cache() {
    trim(SIZE_MAX);
    malloc_trim(0);  // small blocks come from malloc, which keeps what was freed
  }

  void lock_all() {
    grow_lock_.lock();
    large_lock_.lock();
    for (Shard& shard : shards_) shard.lock.lock();
  }
  void unlock_all() {
    for (Shard& shard : shards_) shard.lock.unlock();
    large_lock_.unlock();
    grow_lock_.unlock();
  }

 private:
  struct Adopted : Buffer {
    Adopted(void* data, size_t bytes, bool writable, std::function<void()> release_)
        : Buffer(Kind::kAdopted, writable, data, bytes), release(std::move(release_)) {}
    std::function<void()> release;
  };
  struct alignas(64) Shard {
    SpinLock lock;
    std::array<std::atomic<Buffer*>, kSmallClasses> heads{};  // changed under the lock, peeked at without
  };

  Buffer* take(size_t bytes) {
    if (bytes <= kSmallMaxBytes) {
      const unsigned index = small_class(bytes);
      if (Buffer* buffer = small_pop(index)) return buffer;
      return grow(bytes, small_class_bytes(index), Buffer::Kind::kSmall);
    }
    // Also keeps the rounding below from overflowing.
    if (bytes > physical_memory_bytes()) refuse(bytes, "more than the machine's memory");
    const size_t capacity = block_capacity(bytes, system_page_bytes());
    if (Buffer* buffer = large_pop(capacity)) return buffer;
    return grow(bytes, capacity, Buffer::Kind::kLarge);
  }

  // A new block from the system, within the limit.
  [[gnu::noinline]] Buffer* grow(size_t bytes, size_t capacity, Buffer::Kind kind) {
    set_defaults();
    reserve(bytes, capacity);
    void* data = system_block_allocate(capacity);
    if (data == nullptr) {
      trim(SIZE_MAX);
      data = system_block_allocate(capacity);
    }
    if (data == nullptr) {
      reserved_.fetch_sub(capacity, std::memory_order_relaxed);
      refuse(bytes, "the system has no more");
    }
    void* header = nullptr;
    try {
      header = pool_allocate(sizeof(Buffer));
    } catch (const OutOfMemory&) {
      system_block_free(data, capacity);
      reserved_.fetch_sub(capacity, std::memory_order_relaxed);
      throw;
    }
    auto* buffer = ::new (header) Buffer(kind, true, data, capacity);
    if (kind == Buffer::Kind::kSmall) buffer->class_ = static_cast<uint16_t>(small_class(capacity));
    poison(data, capacity);
    return buffer;
  }

  // Counts `capacity` as reserved; trims the cache where the limit asks for it. Throws OutOfMemory.
  void reserve(size_t bytes, size_t capacity) {
    std::lock_guard lock(grow_lock_);
    const size_t limit = limit_.load();
    if (capacity > limit) refuse(bytes, "more than the memory limit");
    for (bool trimmed = false;; trimmed = true) {
      const size_t reserved = reserved_.load();
      if (reserved <= limit - capacity) break;
      if (trimmed) refuse(bytes, "the memory limit is reached");
      trim(reserved - (limit - capacity));
    }
    reserved_.fetch_add(capacity, std::memory_order_relaxed);
  }

  [[noreturn]] void refuse(size_t bytes, const char* why) {
    fail<OutOfMemory>("memory", "{}: wanted {} bytes, with {} active, {} cached, limit {}, machine {}", why,
                      bytes, active_bytes(), cache_bytes(), limit(), physical_memory_bytes());
  }

  void raise_peak(size_t active) {
    size_t peak = peak_.load(std::memory_order_relaxed);
    while (active > peak && !peak_.compare_exchange_weak(peak, active, std::memory_order_relaxed)) {}
  }

  // Bytes of the cache that the limits do not allow.
  size_t excess() const {
    const size_t reserved = reserved_.load(std::memory_order_relaxed), cached = cache_bytes();
    const size_t cache_limit = cache_limit_.load(std::memory_order_relaxed);
    const size_t limit = limit_.load(std::memory_order_relaxed);
    return std::max(cached > cache_limit ? cached - cache_limit : 0, reserved > limit ? reserved - limit : 0);
  }

  // Returns at least `bytes` of the cache to the system where it holds them: large blocks, the oldest first,
  // then small ones, the largest first.
  void trim(size_t bytes) noexcept {
    while (bytes > 0) {
      Buffer* buffer = large_pop_oldest();
      if (buffer == nullptr) buffer = small_pop_largest();
      if (buffer == nullptr) return;
      bytes -= std::min(bytes, buffer->capacity_);
      release(buffer);
    }
  }

  void release(Buffer* buffer) noexcept {
    unpoison(buffer->data_, buffer->capacity_);
    system_block_free(buffer->data_, buffer->capacity_);
    reserved_.fetch_sub(buffer->capacity_, std::memory_order_relaxed);
    pool_free(buffer, sizeof(Buffer));
  }

  void free_adopted(Adopted* buffer) noexcept {
    adopted_.fetch_sub(buffer->bytes_, std::memory_order_relaxed);
    std::function<void()> release = std::move(buffer->release);
    pool_delete(buffer);
    if (release) release();
  }

  static Buffer* pop(Shard& shard, unsigned index) {
    if (shard.heads[index].load(std::memory_order_relaxed) == nullptr) return nullptr;
    std::lock_guard lock(shard.lock);
    Buffer* buffer = shard.heads[index].load(std::memory_order_relaxed);
    if (buffer != nullptr) shard.heads[index].store(buffer->next_, std::memory_order_relaxed);
    return buffer;
  }

  // A block of the thread's own shard, or else of any: what one thread frees another may need.
  Buffer* small_pop(unsigned index) {
    const unsigned own = thread_shard();
    for (unsigned i = 0; i < kShards; ++i) {
      if (Buffer* buffer = pop(shards_[(own + i) % kShards], index)) return buffer;
    }
    return nullptr;
  }

  Buffer* small_pop_largest() {
    for (unsigned index = kSmallClasses; index-- > 0;) {
      if (Buffer* buffer = small_pop(index)) return buffer;
    }
    return nullptr;
  }

  void small_push(Buffer* buffer) {
    Shard& shard = shards_[thread_shard()];
    std::lock_guard lock(shard.lock);
    buffer->next_ = shard.heads[buffer->class_].load(std::memory_order_relaxed);
    shard.heads[buffer->class_].store(buffer, std::memory_order_relaxed);
  }

  // A bin is a circular list: bins_[i] is the block freed last, its previous_ the one freed first.
  void large_push(Buffer* buffer) {
    std::lock_guard lock(large_lock_);
    Buffer*& head = bins_[large_bin(buffer->capacity_)];
    buffer->freed_at_ = ++clock_;
    if (head == nullptr) {
      buffer->next_ = buffer->previous_ = buffer;
    } else {
      buffer->next_ = head;
      buffer->previous_ = head->previous_;
      buffer->previous_->next_ = buffer->next_->previous_ = buffer;
    }
    head = buffer;
  }

  Buffer* large_remove(Buffer* buffer) {
    Buffer*& head = bins_[large_bin(buffer->capacity_)];
    buffer->previous_->next_ = buffer->next_;
    buffer->next_->previous_ = buffer->previous_;
    if (head == buffer) head = buffer->next_ == buffer ? nullptr : buffer->next_;
    return buffer;
  }

  // The smallest block that fits, wasting no more than an eighth.
  Buffer* large_pop(size_t capacity) {
    const size_t most = capacity + capacity / 8, first = large_bin(capacity);
    std::lock_guard lock(large_lock_);
    for (size_t bin = first; bin < std::min(first + kBinsPerRequest, kLargeBins); ++bin) {
      Buffer* best = nullptr;
      Buffer* buffer = bins_[bin];
      if (buffer == nullptr) continue;
      do {
        const size_t has = buffer->capacity_;
        if (has >= capacity && has <= most && (best == nullptr || has < best->capacity_)) best = buffer;
        if (has == capacity) break;
        buffer = buffer->next_;
      } while (buffer != bins_[bin]);
      if (best != nullptr) return large_remove(best);
    }
    return nullptr;
  }

  Buffer* large_pop_oldest() {
    std::lock_guard lock(large_lock_);
    Buffer* oldest = nullptr;
    for (Buffer* head : bins_) {
      if (head == nullptr) continue;
      if (oldest == nullptr || head->previous_->freed_at_ < oldest->freed_at_) oldest = head->previous_;
    }
    return oldest == nullptr ? nullptr : large_remove(oldest);
  }

  void set_defaults();

  std::atomic<size_t> active_{0};
  std::atomic<size_t> peak_{0};
  std::atomic<size_t> reserved_{0};
  std::atomic<size_t> adopted_{0};
  std::atomic<size_t> limit_{SIZE_MAX};
  std::atomic<size_t> cache_limit_{SIZE_MAX};
  std::once_flag defaults_set_;
  std::mutex grow_lock_;  // makes the decisions about the limit one after another
  std::mutex large_lock_;
  uint64_t clock_ = 0;
  std::array<Buffer*, kLargeBins> bins_{};
  std::array<Shard, kShards> shards_{};
};

namespace {
// Never destroyed: arrays may die after the last static object.
constinit Allocator the_allocator;
static_assert(std::is_trivially_destructible_v<Allocator>);

[[maybe_unused]] const int at_fork_allocator =
    at_fork(ForkRank::kAllocator, {[] { the_allocator.lock_all(); }, [] { the_allocator.unlock_all(); },
                                   [] { the_allocator.unlock_all(); }});
}  // namespace

void Allocator::set_defaults() {
  std::call_once(defaults_set_, [this] {
    const size_t limit = physical_memory_bytes() / 10 * 9;
    limit_.store(limit);
    cache_limit_.store(limit / 2);
  });
}

void Buffer::destroy(Buffer* buffer) noexcept { the_allocator.free(buffer); }

BufferRef allocate(size_t bytes) { return the_allocator.allocate(bytes); }
BufferRef adopt(void* data, size_t bytes, bool writable, std::function<void()> release) {
  return the_allocator.adopt(data, bytes, writable, std::move(release));
}
size_t adopted_bytes() { return the_allocator.adopted_bytes(); }

size_t get_active_memory() { return the_allocator.active_bytes(); }
size_t get_peak_memory() { return the_allocator.peak_bytes(); }
void reset_peak_memory() { the_allocator.reset_peak(); }
size_t get_cache_memory() { return the_allocator.cache_bytes(); }
size_t set_memory_limit(size_t bytes) { return the_allocator.set_limit(bytes); }
size_t get_memory_limit() { return the_allocator.limit(); }
size_t set_cache_limit(size_t bytes) { return the_allocator.set_cache_limit(bytes); }
void clear_cache() { the_allocator.clear_cache(); }

}  // namespace lamina
