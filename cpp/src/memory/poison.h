#pragma once

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LAMINA_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define LAMINA_ASAN 1
#endif

#ifdef LAMINA_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace lamina {

// Under AddressSanitizer a free block is poisoned, so that a use after free is reported although caches keep
// the block.
#ifdef LAMINA_ASAN
inline constexpr bool kPoisons = true;
inline void poison(void* data, size_t bytes) { __asan_poison_memory_region(data, bytes); }
inline void unpoison(void* data, size_t bytes) { __asan_unpoison_memory_region(data, bytes); }
#else
inline constexpr bool kPoisons = false;
inline void poison(void*, size_t) {}
inline void unpoison(void*, size_t) {}
#endif

}  // namespace lamina
