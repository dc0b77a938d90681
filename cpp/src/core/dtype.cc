#include "lamina/dtype.h"

#include <algorithm>
#include <array>
#include <bit>

#include "core/fail.h"

namespace lamina {
namespace {

constexpr std::array<std::string_view, kNumDtypes> kNames = {
    "bool",  "uint8", "uint16",  "uint32",  "uint64",  "int8",     "int16",
    "int32", "int64", "float16", "float32", "float64", "bfloat16", "complex64"};

Dtype signed_of_size(size_t bytes) {
  switch (bytes) {
    case 1: return Dtype::kInt8;
    case 2: return Dtype::kInt16;
    case 4: return Dtype::kInt32;
    default: return Dtype::kInt64;
  }
}

}  // namespace

std::string_view dtype_name(Dtype t) { return kNames[static_cast<size_t>(t)]; }

Dtype dtype_from_name(std::string_view name) {
  auto it = std::find(kNames.begin(), kNames.end(), name);
  if (it == kNames.end()) fail<ValueError>("dtype", "unknown dtype name '{}'", name);
  return static_cast<Dtype>(it - kNames.begin());
}

Dtype promote(Dtype a, Dtype b) {
  if (a == b) return a;
  if (a == Dtype::kBool) return b;
  if (b == Dtype::kBool) return a;
  if (is_complex(a) || is_complex(b)) return Dtype::kComplex64;
  if (is_floating(a) != is_floating(b)) return is_floating(a) ? a : b;
  if (is_floating(a)) {
    if (itemsize(a) == itemsize(b)) return Dtype::kFloat32;  // float16 with bfloat16
    return itemsize(a) > itemsize(b) ? a : b;
  }
  if (is_signed_integer(a) == is_signed_integer(b)) return itemsize(a) > itemsize(b) ? a : b;
  Dtype u = is_unsigned_integer(a) ? a : b, s = is_unsigned_integer(a) ? b : a;
  if (itemsize(u) < itemsize(s)) return s;
  if (itemsize(u) == 8) return Dtype::kFloat32;
  return signed_of_size(2 * itemsize(u));
}

float16_t::float16_t(float x) {
  uint32_t f = std::bit_cast<uint32_t>(x);
  uint32_t sign = (f >> 16) & 0x8000u, mag = f & 0x7fffffffu;
  if (mag > 0x7f800000u) {
    bits = static_cast<uint16_t>(sign | 0x7e00u | ((mag >> 13) & 0x1ffu));
  } else if (mag >= 0x47800000u) {
    bits = static_cast<uint16_t>(sign | 0x7c00u);
  } else if (mag < 0x38800000u) {
    // Adding 0.5 in float aligns a subnormal half's last place with the float's last place.
    float aligned = std::bit_cast<float>(mag) + 0.5f;
    bits = static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - 0x3f000000u));
  } else {
    uint32_t rounded = mag + 0xfffu + ((mag >> 13) & 1u) - 0x38000000u;
    bits = static_cast<uint16_t>(sign | (rounded >> 13));
  }
}

float16_t::operator float() const {
  uint32_t sign = (bits & 0x8000u) << 16, mag = bits & 0x7fffu;
  if (mag >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((mag & 0x3ffu) << 13));
  if (mag < 0x0400u) {
    float v = static_cast<float>(mag) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(v) | sign);
  }
  return std::bit_cast<float>(sign | ((mag << 13) + 0x38000000u));
}

bfloat16_t::bfloat16_t(float x) {
  uint32_t f = std::bit_cast<uint32_t>(x);
  if ((f & 0x7fffffffu) > 0x7f800000u) {
    bits = static_cast<uint16_t>((f >> 16) | 0x40u);
  } else {
    bits = static_cast<uint16_t>((f + 0x7fffu + ((f >> 16) & 1u)) >> 16);
  }
}

bfloat16_t::operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

}  // namespace lamina
