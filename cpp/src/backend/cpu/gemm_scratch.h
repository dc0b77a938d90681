#pragma once

#include <cstddef>
#include <cstdint>

namespace lamina::cpu {

// A block of the calling thread's scratch memory, 64-byte aligned, uninitialized, held until the Scratch
// dies. Scratches of one thread die in the reverse order of their birth (stack objects). The memory is kept
// for the thread's next Scratch, so a steady state makes no system allocation. Other threads may use it while
// it lives. Throws OutOfMemory.
class Scratch {
 public:
  explicit Scratch(int64_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_;
  size_t mark_block_, mark_used_;  // the arena's top before this Scratch
};

// Bytes that the calling thread's scratch memory holds from the system.
int64_t scratch_reserved_bytes();

}  // namespace lamina::cpu
