#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "core/ref.h"

namespace lamina {

class Allocator;

// A block of memory that arrays share. data() is aligned to 64 bytes where allocate() made it.
class Buffer : public RefCounted {
 public:
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  // Bytes that may be used, at least what was asked for.
  size_t bytes() const { return bytes_; }
  // False for adopted memory that must not change, such as a mapped file.
  bool writable() const { return writable_; }
  bool adopted() const { return kind_ == Kind::kAdopted; }
  // True where no other reference exists: the holder of the only one may write in place.
  bool unique() const { return refs.load(std::memory_order_acquire) == 1; }

  static void destroy(Buffer* buffer) noexcept;

 private:
  friend class Allocator;
  enum class Kind : uint8_t { kSmall, kLarge, kAdopted };

  Buffer(Kind kind, bool writable, void* data, size_t bytes)
      : kind_(kind), writable_(writable), data_(data), bytes_(bytes), capacity_(bytes) {}
  ~Buffer() = default;

  Kind kind_;
  bool writable_;
  uint16_t class_ = 0;  // size class of a small block
  void* data_;
  size_t bytes_;
  size_t capacity_;  // bytes of the block; bytes_ is less only under AddressSanitizer, which then guards the
                     // rest
  // The cache's: list links, and when the block was freed.
  Buffer* next_ = nullptr;
  Buffer* previous_ = nullptr;
  uint64_t freed_at_ = 0;
};

using BufferRef = Ref<Buffer>;

// A writable block of at least `bytes`, aligned to 64, contents undefined. Thread-safe. Throws OutOfMemory,
// naming the request, the counters and the limit; nothing has changed then, and the next call works.
BufferRef allocate(size_t bytes);

// A Buffer over memory of somebody else; `release`, which must not throw, is called once when the last
// reference goes. Throws ValueError where data is null and bytes is not 0; release is not called then.
BufferRef adopt(void* data, size_t bytes, bool writable, std::function<void()> release);
// Bytes adopted and not yet released.
size_t adopted_bytes();

}  // namespace lamina
