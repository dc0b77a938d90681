#pragma once

#include <cstddef>

namespace lamina {

// Blocks straight from the system, aligned to 64 bytes: small ones from malloc, others from pages of their
// own, huge ones from 2 MB-aligned maps with huge pages. Null where the system has no more. Counted as system
// allocations.
void* system_block_allocate(size_t capacity) noexcept;
void system_block_free(void* block, size_t capacity) noexcept;

size_t system_page_bytes();
// Memory of the machine, or of the control group where that is less.
size_t physical_memory_bytes();

}  // namespace lamina
