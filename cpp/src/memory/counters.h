#pragma once

#include <atomic>
#include <cstdint>

namespace lamina {

// Calls to mmap and malloc that the memory layer has made. A steady loop makes none.
inline std::atomic<uint64_t> system_allocations{0};
inline uint64_t system_allocation_count() { return system_allocations.load(std::memory_order_relaxed); }

}  // namespace lamina
