#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "memory/counters.h"

namespace lamina {

// A thread's memory for tiles, 64-byte aligned: what was in it before the next call is gone then.
class TileScratch {
 public:
  char* of(size_t bytes) {
    if (size_ < bytes) {
      count_system_allocation();
      memory_ = std::make_unique_for_overwrite<char[]>(bytes + 64);
      size_ = bytes;
    }
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    return memory_.get() + ((64 - address % 64) % 64);
  }

 private:
  std::unique_ptr<char[]> memory_;
  size_t size_ = 0;
};

}  // namespace lamina
