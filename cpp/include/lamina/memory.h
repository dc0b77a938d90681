#pragma once

#include <cstddef>

namespace lamina {

// The memory of arrays, in bytes. Blocks count with their capacity, which is at most an eighth more than was
// asked for (64 bytes at least). Memory that was adopted from elsewhere does not count.

// Blocks in use.
size_t get_active_memory();
// The most that has been in use since the start or the last reset.
size_t get_peak_memory();
void reset_peak_memory();
// Freed blocks kept for reuse.
size_t get_cache_memory();

// Bytes in use and in the cache together never exceed the limit: reaching it trims the cache; where that is
// not enough, the request throws OutOfMemory and changes nothing. Returns the limit before. At the start it
// is 9/10 of the machine's memory or of the control group's limit, whichever is less.
size_t set_memory_limit(size_t bytes);
size_t get_memory_limit();
// Bytes that the cache may keep; at the start half of the memory limit. 0 returns every freed block to the
// system at once. Returns the limit before.
size_t set_cache_limit(size_t bytes);
// Returns all cached blocks to the system.
void clear_cache();

}  // namespace lamina
