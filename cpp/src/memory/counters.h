#pragma once

#include <cstdint>

namespace lamina {

// Calls to mmap and malloc made for blocks, slabs and the kernels' working memory. A steady loop makes none.
uint64_t system_allocation_count();
void count_system_allocation();

}  // namespace lamina
