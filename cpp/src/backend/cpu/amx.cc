#include "backend/cpu/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "backend/cpu/simd_target.h"

namespace lamina::cpu {
namespace {

// Linux: asks for a part of the processor's state that programs do not have unless they ask.
constexpr long kRequestState = 0x1023, kTileData = 18;

bool processor_has_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25, kBFloat16 = 1u << 22;
  constexpr unsigned kAll = kTiles | kInt8 | kBFloat16;
  if ((d & kAll) != kAll) return false;
  // Palette 1: bytes of a tile, of a row; tiles, rows.
  if (!__get_cpuid_count(0x1d, 1, &a, &b, &c, &d)) return false;
  return a >> 16 >= 1024 && (b & 0xffff) >= 64 && b >> 16 >= 8 && (c & 0xffff) >= 16;
}

bool system_gives_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kXgetbvThere = 1u << 27;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kXgetbvThere)) return false;
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr uint32_t kTileState = 3u << 17;
  return (low & kTileState) == kTileState && syscall(SYS_arch_prctl, kRequestState, kTileData) == 0;
}

}  // namespace

bool amx_supported() {
  static const bool supported = processor_has_tiles() && system_gives_tiles();
  return supported;
}

bool amx_active() { return std::string_view(simd_target_name()) == "amx"; }

}  // namespace lamina::cpu
