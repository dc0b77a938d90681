#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace lamina {

// Small objects that come and go by the million: graph nodes, headers. A thread keeps free blocks of its own,
// so both calls cost a few nanoseconds; a block may be freed on any thread, also while a thread or the
// process ends.
inline constexpr size_t kMaxPooledBytes = 512;

// A block of `bytes`, aligned to 16. More than kMaxPooledBytes go to the system. Throws OutOfMemory.
void* pool_allocate(size_t bytes);
// Gives back what pool_allocate(bytes) returned: the same `bytes`. A null block is ignored.
void pool_free(void* block, size_t bytes) noexcept;

// A T in a pooled block.
template <class T, class... Args>
T* pool_new(Args&&... args) {
  static_assert(alignof(T) <= 16);
  void* block = pool_allocate(sizeof(T));
  try {
    return ::new (block) T(std::forward<Args>(args)...);
  } catch (...) {
    pool_free(block, sizeof(T));
    throw;
  }
}

// Destroys what pool_new<T> made; T must be the object's own type, not a base.
template <class T>
void pool_delete(T* object) noexcept {
  if (object == nullptr) return;
  object->~T();
  pool_free(object, sizeof(T));
}

// Bytes that the pool has taken from the system; they stay with it for the process's life.
size_t pool_reserved_bytes();

}  // namespace lamina
