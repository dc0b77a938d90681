#include "backend/cpu/copy_stream.h"

#include <algorithm>
#include <cstring>

#define LAMINA_WITHOUT_AVX3_DL
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/copy_stream.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "backend/cpu/targets.h"
//
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "core/cpu_caches.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Whole cache lines to a 64-byte aligned address.
void stream_lines(uint8_t* to, const uint8_t* from, int64_t bytes) {
#if !LAMINA_SIMD_TARGET
  std::memcpy(to, from, static_cast<size_t>(bytes));
#else
  const hn::ScalableTag<uint8_t> d;
  const auto vector = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < bytes; i += vector) hn::Stream(hn::LoadU(d, from + i), d, to + i);
#endif
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {
namespace {

HWY_EXPORT(stream_lines);

// Half of the last-level cache, between 8 and 32 MiB: where machines share a huge one, as these do, copying
// 32 MiB and reading the copy take as long either way, and of 64 MiB on less by stores past the caches.
int64_t streaming_threshold_bytes() {
  return std::clamp<int64_t>(cpu_caches().l3 / 2, int64_t{8} << 20, int64_t{32} << 20);
}

}  // namespace

bool worth_streaming(int64_t bytes) {
  static const int64_t threshold = streaming_threshold_bytes();
  return bytes >= threshold;
}

void stream_copy(void* to, const void* from, int64_t bytes) {
  constexpr int64_t kLine = 64;
  auto* out = static_cast<uint8_t*>(to);
  const auto* in = static_cast<const uint8_t*>(from);
  const auto to_line = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(out) % kLine);
  const int64_t head = std::min(bytes, to_line), lines = (bytes - head) / kLine * kLine;
  std::memcpy(out, in, static_cast<size_t>(head));
  if (lines > 0) HWY_DYNAMIC_DISPATCH(stream_lines)(out + head, in + head, lines);
  std::memcpy(out + head + lines, in + head + lines, static_cast<size_t>(bytes - head - lines));
}

void stream_fence() { hwy::FlushStream(); }

}  // namespace lamina::cpu
#endif
