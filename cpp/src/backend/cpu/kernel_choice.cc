#include "backend/cpu/kernel_choice.h"

#include <atomic>
#include <cstdlib>

#include "backend/cpu/measured.h"
#include "backend/cpu/simd_target.h"
#include "core/fail.h"

namespace lamina::cpu {
namespace {

enum class Dots { kUnread, kMeasured, kOn, kOff };
std::atomic<Dots> dots{Dots::kUnread};

Dots dots_setting() {
  if (dots.load(std::memory_order_acquire) == Dots::kUnread) {
    const char* value = std::getenv("LAMINA_BF16_DOT");
    set_bf16_dot(value ? value : "");
  }
  return dots.load(std::memory_order_acquire);
}

bool measured_to_gain() {
  if (!bf16_dot_supported()) return false;
  const MeasuredRates& rates = known_rates().rates;
  return rates.f32 > 0 && rates.bf16_dot >= kDotGain * rates.f32;
}

}  // namespace

void set_bf16_dot(std::string_view value) {
  if (!value.empty() && value != "on" && value != "off") {
    fail<ValueError>("LAMINA_BF16_DOT", "wanted on or off, got '{}'", value);
  }
  if (value == "on" && !bf16_dot_supported()) {
    fail<ValueError>("LAMINA_BF16_DOT", "wanted 'on', but this CPU or build has no avx512_bf16");
  }
  dots.store(value.empty()   ? Dots::kMeasured
             : value == "on" ? Dots::kOn
                             : Dots::kOff,
             std::memory_order_release);
}

BFloat16Products bfloat16_products() {
  const Dots set = dots_setting();
  const std::string_view target = simd_target_name();
  if (target == "amx") return BFloat16Products::kTiles;
  if (target != "avx3_dl" || set == Dots::kOff) return BFloat16Products::kFloat32;
  return set == Dots::kOn || measured_to_gain() ? BFloat16Products::kDots : BFloat16Products::kFloat32;
}

const char* float32_products_name() {
  const std::string_view target = simd_target_name();
  return target == "sse2" ? "plain loops" : target == "avx2" ? "avx2" : "avx512";
}

const char* bfloat16_products_name() {
  switch (bfloat16_products()) {
    case BFloat16Products::kTiles: return "amx tiles";
    case BFloat16Products::kDots: return "avx512_bf16";
    case BFloat16Products::kFloat32: return "float32";
  }
  return "";
}

const char* int8_products_name() {
  const std::string_view target = simd_target_name();
  if (target == "amx") return "amx tiles";
  return target == "avx3_dl" ? "vnni" : float32_products_name();
}

}  // namespace lamina::cpu
