#pragma once

#include <cstdint>

namespace lamina {

// Calls to mmap and malloc that the memory layer has made. A steady loop makes none.
uint64_t system_allocation_count();
void count_system_allocation();

}  // namespace lamina
