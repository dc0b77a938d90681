#pragma once

#include <cmath>
#include <limits>

#include "backend/reference/layout_dtype.h"
#include "backend/reference/scan_kind.h"

namespace lamina {

inline float real_part(complex64_t x) { return x.real(); }
template <class T>
T real_part(T x) {
  return x;
}
template <class T>
T log1p_exp(T x) {
  return std::log1p(std::exp(x));
}
inline complex64_t log1p_exp(complex64_t x) {
  return static_cast<complex64_t>(std::log(1.0 + std::exp(std::complex<double>(x))));
}

// A scan of elements T runs in Sum: join(what came before, the next element), starting from identity().
template <ScanKind kKind, class T>
struct ScanOp {
  using Sum = ComputeType<T>;
  static constexpr bool kSupported = kKind != ScanKind::kLogAddExp || !std::is_integral_v<T>;

  static Sum identity() {
    if constexpr (kKind == ScanKind::kSum) {
      return Sum{};
    } else if constexpr (kKind == ScanKind::kProd) {
      return Sum{1};
    } else if constexpr (kIsComplex<T>) {
      constexpr float kInfinity = std::numeric_limits<float>::infinity();
      return kKind == ScanKind::kMin ? Sum{kInfinity, kInfinity} : Sum{-kInfinity, -kInfinity};
    } else if constexpr (std::is_floating_point_v<Sum>) {
      constexpr Sum kInfinity = std::numeric_limits<Sum>::infinity();
      return kKind == ScanKind::kMin ? kInfinity : -kInfinity;
    } else {
      return kKind == ScanKind::kMin ? std::numeric_limits<Sum>::max() : std::numeric_limits<Sum>::lowest();
    }
  }

  static Sum join(Sum a, Sum b) {
    if constexpr (kKind == ScanKind::kSum) {
      return add(a, b);
    } else if constexpr (kKind == ScanKind::kProd) {
      return multiply(a, b);
    } else if constexpr (kKind == ScanKind::kLogAddExp) {
      if (is_nan(a) || is_nan(b)) return std::numeric_limits<Sum>::quiet_NaN();
      const Sum high = less(a, b) ? b : a, low = less(a, b) ? a : b;
      // Equal infinities: their difference would be NaN.
      if (high == low && std::isinf(real_part(high))) return high;
      return high + log1p_exp(low - high);
    } else {
      const bool beyond = kKind == ScanKind::kMax ? less(a, b) : less(b, a);
      return !is_nan(a) && (beyond || is_nan(b)) ? b : a;
    }
  }
};

}  // namespace lamina
