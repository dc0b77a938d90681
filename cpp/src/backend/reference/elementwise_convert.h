#pragma once

#include <bit>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "backend/reference/elementwise_types.h"

namespace lamina::scalar {

// Nearest below in magnitude, with the last bit set if anything was cut: a later rounding to fewer bits is
// then exact.
inline float round_to_odd(double x) {
  float f = static_cast<float>(x);
  if (!std::isfinite(x) || static_cast<double>(f) == x) return f;
  if (std::isinf(f)) return std::copysign(std::numeric_limits<float>::max(), f);
  uint32_t bits = std::bit_cast<uint32_t>(f);
  if (std::abs(static_cast<double>(f)) > std::abs(x)) --bits;
  return std::bit_cast<float>(bits | 1u);
}
inline float round_to_odd(uint64_t magnitude) {
  if (magnitude >> 24 == 0) return static_cast<float>(magnitude);
  int cut = static_cast<int>(std::bit_width(magnitude)) - 24;
  uint64_t kept = magnitude >> cut;
  if (kept << cut != magnitude) kept |= 1;
  return std::ldexp(static_cast<float>(kept), cut);
}

template <class I>
I truncate(double x) {
  constexpr double kEnd = -static_cast<double>(std::numeric_limits<I>::lowest());
  return x >= -kEnd && x < kEnd ? static_cast<I>(x) : std::numeric_limits<I>::lowest();
}

// One element of any dtype as another; the rules are those of reference_cast.
template <class To, class From>
To convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (kIsHalf<From>) {
    return convert<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From(0);
  } else if constexpr (kDtypeOf<To> == Dtype::kComplex64) {
    return To(convert<float>(x), 0.0f);
  } else if constexpr (kDtypeOf<From> == Dtype::kComplex64) {
    return convert<To>(x.real());
  } else if constexpr (kIsHalf<To>) {
    if constexpr (std::is_same_v<From, double>) {
      return To(round_to_odd(x));
    } else if constexpr (std::is_integral_v<From> && sizeof(From) >= 4) {
      bool minus = std::is_signed_v<From> && x < From(0);
      uint64_t bits = static_cast<uint64_t>(x);
      float magnitude = round_to_odd(minus ? 0 - bits : bits);
      return To(minus ? -magnitude : magnitude);
    } else {
      return To(static_cast<float>(x));
    }
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    double wide = static_cast<double>(x);
    if constexpr (std::is_same_v<To, uint64_t>) {
      if (wide >= 0x1p63 && wide < 0x1p64) return static_cast<uint64_t>(wide);
    }
    if constexpr (sizeof(To) == 8 || std::is_same_v<To, uint32_t>)
      return static_cast<To>(truncate<int64_t>(wide));
    return static_cast<To>(truncate<int32_t>(wide));
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace lamina::scalar
