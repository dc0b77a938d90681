#include "backend/cpu/simd_target.h"

#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include <atomic>
#include <cstdlib>

#include "backend/cpu/amx.h"
#include "core/fail.h"

namespace lamina {
namespace {

struct Target {
  const char* name;
  int64_t bit;
  bool amx;
};
// Best first, which is also Highway's order of bits. Those with tiles are a target's kernels and more.
constexpr Target kTargets[] = {{"amx", HWY_AVX3_DL, true},
                               {"avx3_dl", HWY_AVX3_DL, false},
                               {"avx3", HWY_AVX3, false},
                               {"avx2", HWY_AVX2, false},
                               {"sse2", HWY_STATIC_TARGET, false}};

// What the CPU has and this build has code for, read before anything is forced.
int64_t cpu_targets() {
  static const int64_t targets = (hwy::SupportedTargets() & HWY_TARGETS) | HWY_STATIC_TARGET;
  return targets;
}

bool is_supported(const Target& target) {
  return (cpu_targets() & target.bit) != 0 && (!target.amx || cpu::amx_supported());
}

std::string join(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

std::atomic<const Target*> chosen{nullptr};

// Allows the target and all worse ones, which serve files that are not compiled for it.
void force(const Target& target) {
  hwy::SetSupportedTargetsForTest(cpu_targets() & ~(target.bit - 1));
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  chosen.store(&target, std::memory_order_release);
}

}  // namespace

void set_simd_target(std::string_view name) {
  for (const Target& t : kTargets) {
    if (name != t.name) continue;
    if (!is_supported(t)) {
      fail<ValueError>("LAMINA_SIMD", "wanted '{}', but this CPU supports only {}", name,
                       join(supported_simd_targets()));
    }
    return force(t);
  }
  fail<ValueError>("LAMINA_SIMD", "wanted one of {}, got '{}'", join(supported_simd_targets()), name);
}

void init_simd_target() {
  if (chosen.load(std::memory_order_acquire)) return;
  const char* wanted = std::getenv("LAMINA_SIMD");
  if (wanted && *wanted) return set_simd_target(wanted);
  for (const Target& t : kTargets) {
    if (is_supported(t)) return force(t);
  }
}

const char* simd_target_name() {
  init_simd_target();
  return chosen.load(std::memory_order_acquire)->name;
}

std::vector<std::string> supported_simd_targets() {
  std::vector<std::string> names;
  for (const Target& t : kTargets) {
    if (is_supported(t)) names.emplace_back(t.name);
  }
  return names;
}

}  // namespace lamina
