#pragma once

#include <cstdint>

namespace lamina::cpu {

// True where an output of that size will not stay in the cache anyway, so that stores should go round it.
bool worth_streaming(int64_t bytes);

// memcpy whose stores bypass the cache; call stream_fence() before another thread reads.
void stream_copy(void* to, const void* from, int64_t bytes);
void stream_fence();

}  // namespace lamina::cpu
