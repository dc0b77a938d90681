#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <numbers>
#include <type_traits>

// One-element definitions that the rows of ops/*.def are written in, for T = bool, (u)int8..64, float, double
// and complex. Integers wrap around modulo 2^bits; nothing here is undefined behaviour for any operand.
namespace lamina::scalar {

template <class T>
inline constexpr bool kIsComplex = false;
template <class T>
inline constexpr bool kIsComplex<std::complex<T>> = true;
template <class T>
inline constexpr bool kIsBool = std::is_same_v<T, bool>;
template <class T>
inline constexpr bool kIsInt = std::is_integral_v<T> && !kIsBool<T>;
template <class T>
inline constexpr bool kIsSigned = kIsInt<T>&& std::is_signed_v<T>;
template <class T>
inline constexpr bool kIsFloat = std::is_floating_point_v<T>;

template <class T>
T lowest() {
  if constexpr (kIsComplex<T>) {
    return T(-INFINITY, -INFINITY);
  } else {
    return kIsFloat<T> ? static_cast<T>(-INFINITY) : std::numeric_limits<T>::lowest();
  }
}
template <class T>
T highest() {
  if constexpr (kIsComplex<T>) {
    return T(INFINITY, INFINITY);
  } else {
    return kIsFloat<T> ? static_cast<T>(INFINITY) : std::numeric_limits<T>::max();
  }
}

// ---- arithmetic

template <class T>
T add(T x, T y) {
  if constexpr (kIsBool<T>)
    return x || y;
  else if constexpr (kIsInt<T>)
    return static_cast<T>(static_cast<uint64_t>(x) + static_cast<uint64_t>(y));
  else
    return x + y;
}
template <class T>
T subtract(T x, T y) {
  if constexpr (kIsBool<T>)
    return x != y;
  else if constexpr (kIsInt<T>)
    return static_cast<T>(static_cast<uint64_t>(x) - static_cast<uint64_t>(y));
  else
    return x - y;
}
template <class T>
T multiply(T x, T y) {
  if constexpr (kIsBool<T>) {
    return x && y;
  } else if constexpr (kIsInt<T>) {
    return static_cast<T>(static_cast<uint64_t>(x) * static_cast<uint64_t>(y));
  } else if constexpr (kIsComplex<T>) {
    // The plain formula, as NumPy has it, without C's recovery of infinities.
    return T(x.real() * y.real() - x.imag() * y.imag(), x.real() * y.imag() + x.imag() * y.real());
  } else {
    return x * y;
  }
}
template <class T>
T negative(T x) {
  if constexpr (kIsInt<T>)
    return static_cast<T>(0 - static_cast<uint64_t>(x));
  else
    return -x;
}
template <class T>
auto abs(T x) {
  if constexpr (kIsComplex<T> || kIsFloat<T>)
    return std::abs(x);
  else if constexpr (kIsSigned<T>)
    return x < 0 ? negative(x) : x;
  else
    return x;
}

template <class T>
bool isnan(T x) {
  if constexpr (kIsComplex<T>)
    return std::isnan(x.real()) || std::isnan(x.imag());
  else if constexpr (kIsFloat<T>)
    return std::isnan(x);
  else
    return false;
}
template <class T>
bool isinf(T x) {
  if constexpr (kIsComplex<T>)
    return std::isinf(x.real()) || std::isinf(x.imag());
  else if constexpr (kIsFloat<T>)
    return std::isinf(x);
  else
    return false;
}
template <class T>
bool isfinite(T x) {
  return !isnan(x) && !isinf(x);
}
template <class T>
bool isposinf(T x) {
  if constexpr (kIsComplex<T>)
    return x == T(INFINITY, 0);
  else if constexpr (kIsFloat<T>)
    return x == static_cast<T>(INFINITY);
  else
    return false;
}
template <class T>
bool isneginf(T x) {
  return isposinf(static_cast<T>(kIsFloat<T> || kIsComplex<T> ? -x : x));
}

template <class T>
T sign(T x) {
  if constexpr (kIsComplex<T>) {
    using F = typename T::value_type;
    if (isnan(x)) return T(NAN, NAN);
    if (x == T(0)) return T(0);
    if (isinf(x)) {
      if (std::isinf(x.real()) && std::isinf(x.imag())) return T(NAN, NAN);
      return std::isinf(x.real()) ? T(std::copysign(F(1), x.real()), F(0))
                                  : T(F(0), std::copysign(F(1), x.imag()));
    }
    return x / std::abs(x);
  } else if constexpr (kIsFloat<T>) {
    if (std::isnan(x)) return x;
    return static_cast<T>(static_cast<int>(x > T(0)) - static_cast<int>(x < T(0)));
  } else if constexpr (kIsSigned<T>) {
    return static_cast<T>((x > 0) - (x < 0));
  } else {
    return static_cast<T>(x != T(0));
  }
}

// ---- division

template <class T>
T floor_divide(T x, T y) {
  if constexpr (kIsBool<T>) {
    return x && y;
  } else if constexpr (kIsInt<T>) {
    if (y == 0) return 0;
    if constexpr (kIsSigned<T>) {
      if (y == -1) return negative(x);
      T q = static_cast<T>(x / y);
      return static_cast<T>(q - ((x % y != 0) && ((x < 0) != (y < 0))));
    } else {
      return static_cast<T>(x / y);
    }
  } else {
    if (y == T(0)) return x / y;
    T mod = std::fmod(x, y);
    T q = (x - mod) / y;
    if (mod != T(0) && (mod < T(0)) != (y < T(0))) q -= T(1);
    // x - mod and its quotient may each be half a unit off a whole number.
    return q == T(0) ? std::copysign(T(0), x / y) : std::rint(q);
  }
}
template <class T>
T remainder(T x, T y) {
  if constexpr (kIsBool<T>) {
    return false;
  } else if constexpr (kIsInt<T>) {
    if (y == 0) return 0;
    if constexpr (kIsSigned<T>) {
      if (y == -1) return 0;
      T r = static_cast<T>(x % y);
      return static_cast<T>(r != 0 && (r < 0) != (y < 0) ? r + y : r);
    } else {
      return static_cast<T>(x % y);
    }
  } else {
    T mod = std::fmod(x, y);
    if (mod == T(0)) return std::copysign(T(0), y);
    return (mod < T(0)) != (y < T(0)) ? mod + y : mod;
  }
}

// ---- rounding: identity for integers and bool

template <class T>
T floor(T x) {
  if constexpr (kIsFloat<T>)
    return std::floor(x);
  else
    return x;
}
template <class T>
T ceil(T x) {
  if constexpr (kIsFloat<T>)
    return std::ceil(x);
  else
    return x;
}
template <class T>
T trunc(T x) {
  if constexpr (kIsFloat<T>)
    return std::trunc(x);
  else
    return x;
}
template <class T>
T round(T x) {
  if constexpr (kIsComplex<T>)
    return T(std::rint(x.real()), std::rint(x.imag()));
  else if constexpr (kIsFloat<T>)
    return std::rint(x);
  else
    return x;
}

// ---- parts of complex numbers

template <class T>
T conjugate(T x) {
  if constexpr (kIsComplex<T>)
    return std::conj(x);
  else
    return x;
}
template <class T>
auto real(T x) {
  if constexpr (kIsComplex<T>)
    return x.real();
  else
    return x;
}
template <class T>
auto imag(T x) {
  if constexpr (kIsComplex<T>)
    return x.imag();
  else
    return T(0);
}

// ---- order; complex numbers by real part, then imaginary part, and never with a NaN

template <class T>
bool less(T x, T y) {
  if constexpr (kIsComplex<T>) {
    if (isnan(x) || isnan(y)) return false;
    return x.real() < y.real() || (x.real() == y.real() && x.imag() < y.imag());
  } else {
    return x < y;
  }
}
template <class T>
bool less_equal(T x, T y) {
  if constexpr (kIsComplex<T>) {
    return less(x, y) || x == y;
  } else {
    return x <= y;
  }
}
template <class T>
T maximum(T x, T y) {
  if (isnan(x)) return x;
  return isnan(y) || !less(y, x) ? y : x;
}
template <class T>
T minimum(T x, T y) {
  if (isnan(x)) return x;
  return isnan(y) || !less(x, y) ? y : x;
}

// ---- bits

template <class T>
T invert(T x) {
  if constexpr (kIsBool<T>)
    return !x;
  else
    return static_cast<T>(~x);
}
template <class T>
T left_shift(T x, T y) {
  constexpr uint64_t kWidth = 8 * sizeof(T);
  uint64_t by = static_cast<uint64_t>(y);
  return by < kWidth ? static_cast<T>(static_cast<uint64_t>(x) << by) : T(0);
}
template <class T>
T right_shift(T x, T y) {
  constexpr uint64_t kWidth = 8 * sizeof(T);
  uint64_t by = static_cast<uint64_t>(y);
  if (by < kWidth) return static_cast<T>(x >> by);
  return static_cast<T>(kIsSigned<T> && x < 0 ? -1 : 0);
}

// ---- elementary functions that std lacks for some T

template <class T>
T rsqrt(T x) {
  return T(1) / std::sqrt(x);
}
template <class T>
T log2(T x) {
  if constexpr (kIsComplex<T>)
    return std::log(x) / std::numbers::ln2_v<typename T::value_type>;
  else
    return std::log2(x);
}
template <class T>
T log1p(T x) {
  if constexpr (kIsComplex<T>) {
    using F = typename T::value_type;
    if (std::abs(x.real()) > F(0.5) || std::abs(x.imag()) > F(0.5)) return std::log(T(1) + x);
    F re = std::log1p(x.real() * (F(2) + x.real()) + x.imag() * x.imag()) / F(2);
    return T(re, std::atan2(x.imag(), F(1) + x.real()));
  } else {
    return std::log1p(x);
  }
}
template <class T>
T expm1(T x) {
  if constexpr (kIsComplex<T>) {
    using F = typename T::value_type;
    if (x.imag() == F(0)) return T(std::expm1(x.real()), x.imag());
    F half = std::sin(x.imag() / F(2));
    F re = std::expm1(x.real()) * std::cos(x.imag()) - F(2) * half * half;
    return T(re, std::exp(x.real()) * std::sin(x.imag()));
  } else {
    return std::expm1(x);
  }
}
template <class T>
T sigmoid(T x) {
  T e = std::exp(-std::abs(x));
  return (std::signbit(x) ? e : T(1)) / (T(1) + e);
}

template <class T>
T logaddexp(T x, T y) {
  if constexpr (std::is_same_v<T, std::complex<float>>) {
    // 1 + exp(low - high) may cancel.
    return static_cast<T>(logaddexp(std::complex<double>(x), std::complex<double>(y)));
  } else if constexpr (kIsComplex<T>) {
    if (isnan(x) || isnan(y)) return T(NAN, NAN);
    T hi = maximum(x, y), lo = minimum(x, y);
    if (std::isinf(hi.real()) && (hi.real() < 0 || !std::isinf(lo.real()))) return hi;
    return hi + log1p(std::exp(lo - hi));
  } else {
    if (x == y) return x + std::numbers::ln2_v<T>;
    T hi = maximum(x, y), lo = minimum(x, y);
    return std::isnan(hi) ? hi : hi + std::log1p(std::exp(lo - hi));
  }
}

// y with erf(y) = x, by Halley's method on erf, or on erfc where that is the better conditioned one.
template <class T>
T erfinv(T x) {
  if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(erfinv(static_cast<double>(x)));
  } else {
    constexpr T kHalfSqrtPi = T(0.5) / std::numbers::inv_sqrtpi_v<T>;
    T m = std::abs(x);
    if (!(m < 1)) return m == 1 ? std::copysign(static_cast<T>(INFINITY), x) : static_cast<T>(NAN);
    T w = -std::log((1 - m) * (1 + m)), a = T(4.33074675) - w / 2;
    T y = m < T(1e-4) ? m * kHalfSqrtPi : std::sqrt(std::sqrt(a * a + w * T(6.80272109)) - a);
    for (int i = 0; i < 4; ++i) {
      T miss = m < T(0.5) ? std::erf(y) - m : (1 - m) - std::erfc(y);
      T newton = miss * kHalfSqrtPi * std::exp(y * y);
      y -= newton / (1 + y * newton);
    }
    return std::copysign(y, x);
  }
}

// x^n by squaring; integers modulo 2^bits.
template <class T>
T power_by_squaring(T x, uint64_t n) {
  T r(1);
  for (; n != 0; n >>= 1) {
    if (n & 1) r = multiply(r, x);
    if (n > 1) x = multiply(x, x);
  }
  return r;
}
template <class T>
T power(T x, T y) {
  if constexpr (kIsBool<T>) {
    return x || !y;
  } else if constexpr (kIsInt<T>) {
    if constexpr (kIsSigned<T>) {
      // 1 / x^-y towards zero: only 1 and -1 leave anything; 0 gives 0.
      if (y < 0) return static_cast<T>(x == 1 ? 1 : x != -1 ? 0 : (y & 1) ? -1 : 1);
    }
    return power_by_squaring(x, static_cast<uint64_t>(y));
  } else if constexpr (kIsComplex<T>) {
    using F = typename T::value_type;
    if (y == T(0)) return T(1);
    if (x == T(0)) return y.real() > 0 ? T(0) : T(NAN, NAN);
    F n = y.real();
    if (y.imag() == 0 && n == std::rint(n) && std::abs(n) < 100) {
      T p = power_by_squaring(x, static_cast<uint64_t>(std::abs(n)));
      return n < 0 ? T(1) / p : p;
    }
    // exp(y log x) loses |y log x| times the precision it is computed in.
    return static_cast<T>(std::pow(std::complex<double>(x), std::complex<double>(y)));
  } else {
    return std::pow(x, y);
  }
}

}  // namespace lamina::scalar
