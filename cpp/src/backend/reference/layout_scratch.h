#pragma once

#include <cstddef>
#include <cstdint>

namespace lamina {

// Uninitialized 64-byte aligned memory for the time of one kernel. Small blocks are kept for the calling
// thread's next kernel, so that a steady loop asks the system for nothing. Throws OutOfMemory.
class ScratchBytes {
 public:
  explicit ScratchBytes(int64_t bytes);
  ~ScratchBytes();
  ScratchBytes(const ScratchBytes&) = delete;
  ScratchBytes& operator=(const ScratchBytes&) = delete;
  void* data() const { return data_; }

 private:
  void* data_;
  size_t bytes_;
};

// Scratch for n elements of trivially copyable T.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t n) : bytes_(n * static_cast<int64_t>(sizeof(T))) {}
  T* data() const { return static_cast<T*>(bytes_.data()); }
  T& operator[](int64_t i) const { return data()[i]; }

 private:
  ScratchBytes bytes_;
};

}  // namespace lamina
