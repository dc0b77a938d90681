#pragma once

#include <cstdint>

#include "memory/buffer.h"

namespace lamina {

// Uninitialized 64-byte aligned working space for n elements of trivially copyable T, from the array
// allocator: counted, cached, and under its limits. Throws OutOfMemory.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t n) : buffer_(allocate(static_cast<size_t>(n) * sizeof(T))) {}
  T* data() const { return static_cast<T*>(buffer_->data()); }
  T& operator[](int64_t i) const { return data()[i]; }

 private:
  BufferRef buffer_;
};

}  // namespace lamina
