#include "backend/cpu/simd_target.h"

#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include <atomic>
#include <cstdlib>

#include "core/fail.h"

namespace lamina {
namespace {

struct Target {
  const char* name;
  int64_t bit;
};
// Best first, which is also Highway's order of bits.
constexpr Target kTargets[] = {
    {"avx3_dl", HWY_AVX3_DL}, {"avx3", HWY_AVX3}, {"avx2", HWY_AVX2}, {"sse2", HWY_STATIC_TARGET}};

// What the CPU has and this build has code for, read before anything is forced.
int64_t cpu_targets() {
  static const int64_t targets = (hwy::SupportedTargets() & HWY_TARGETS) | HWY_STATIC_TARGET;
  return targets;
}

std::string join(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

// Allows the target and all worse ones, which serve files that are not compiled for it.
void force(const Target& target) {
  hwy::SetSupportedTargetsForTest(cpu_targets() & ~(target.bit - 1));
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

std::atomic<bool> ready{false};

}  // namespace

void set_simd_target(std::string_view name) {
  std::vector<std::string> possible = supported_simd_targets();
  for (const Target& t : kTargets) {
    if (name != t.name) continue;
    if ((cpu_targets() & t.bit) == 0) {
      fail<ValueError>("LAMINA_SIMD", "wanted '{}', but this CPU supports only {}", name, join(possible));
    }
    force(t);
    ready.store(true, std::memory_order_release);
    return;
  }
  fail<ValueError>("LAMINA_SIMD", "wanted one of {}, got '{}'", join(possible), name);
}

void init_simd_target() {
  if (ready.load(std::memory_order_acquire)) return;
  const char* wanted = std::getenv("LAMINA_SIMD");
  if (wanted && *wanted) return set_simd_target(wanted);
  for (const Target& t : kTargets) {
    if (cpu_targets() & t.bit) return set_simd_target(t.name);
  }
}

const char* simd_target_name() {
  init_simd_target();
  int64_t now = hwy::SupportedTargets();
  for (const Target& t : kTargets) {
    if (now & t.bit) return t.name;
  }
  return "sse2";
}

std::vector<std::string> supported_simd_targets() {
  std::vector<std::string> names;
  for (const Target& t : kTargets) {
    if (cpu_targets() & t.bit) names.emplace_back(t.name);
  }
  return names;
}

}  // namespace lamina
