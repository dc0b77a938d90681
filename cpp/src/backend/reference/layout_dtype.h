#pragma once

#include <bit>
#include <complex>
#include <cstdint>
#include <type_traits>

#include "lamina/dtype.h"

namespace lamina {

using complex64_t = std::complex<float>;

// Calls f(std::type_identity<T>{}) with the C++ type that stores `t`. A bool is a uint8_t holding 0 or 1.
template <class F>
decltype(auto) visit_dtype(Dtype t, F&& f) {
  switch (t) {
    case Dtype::kBool:
    case Dtype::kUInt8: return f(std::type_identity<uint8_t>{});
    case Dtype::kUInt16: return f(std::type_identity<uint16_t>{});
    case Dtype::kUInt32: return f(std::type_identity<uint32_t>{});
    case Dtype::kUInt64: return f(std::type_identity<uint64_t>{});
    case Dtype::kInt8: return f(std::type_identity<int8_t>{});
    case Dtype::kInt16: return f(std::type_identity<int16_t>{});
    case Dtype::kInt32: return f(std::type_identity<int32_t>{});
    case Dtype::kInt64: return f(std::type_identity<int64_t>{});
    case Dtype::kFloat16: return f(std::type_identity<float16_t>{});
    case Dtype::kFloat64: return f(std::type_identity<double>{});
    case Dtype::kBFloat16: return f(std::type_identity<bfloat16_t>{});
    case Dtype::kComplex64: return f(std::type_identity<complex64_t>{});
    default: return f(std::type_identity<float>{});
  }
}

// Calls f with the unsigned integer as wide as one element; for work that only moves bytes.
template <class F>
decltype(auto) visit_itemsize(size_t bytes, F&& f) {
  switch (bytes) {
    case 1: return f(std::type_identity<uint8_t>{});
    case 2: return f(std::type_identity<uint16_t>{});
    case 4: return f(std::type_identity<uint32_t>{});
    default: return f(std::type_identity<uint64_t>{});
  }
}

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, float16_t> || std::is_same_v<T, bfloat16_t>;
template <class T>
inline constexpr bool kIsComplex = std::is_same_v<T, complex64_t>;

// What values of T are computed in: float for the 16-bit floats, else T.
template <class T>
using ComputeType = std::conditional_t<kIsHalf<T>, float, T>;

template <class T>
ComputeType<T> widen(T x) {
  return x;
}
inline float widen(bfloat16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
// Without branches, so that loops over it become vector code.
inline float widen(float16_t x) {
  const int32_t mag = (x.bits & 0x7fff) << 13;
  const int32_t finite = std::bit_cast<int32_t>(std::bit_cast<float>(mag) * 0x1p112f);
  const int32_t infinite = mag >= 0x0f800000 ? 0x7f800000 : 0;
  const int32_t sign = static_cast<int32_t>(static_cast<uint32_t>(x.bits & 0x8000u) << 16);
  return std::bit_cast<float>(finite | infinite | sign);
}

template <class T>
bool is_nan(T x) {
  if constexpr (kIsComplex<T>) {
    return x.real() != x.real() || x.imag() != x.imag();
  } else if constexpr (std::is_same_v<T, float16_t>) {
    return (x.bits & 0x7fffu) > 0x7c00u;
  } else if constexpr (std::is_same_v<T, bfloat16_t>) {
    return (x.bits & 0x7fffu) > 0x7f80u;
  } else {
    return x != x;
  }
}

// a before b among values that are not NaN; complex by real, then imaginary part.
template <class T>
bool less(T a, T b) {
  if constexpr (kIsComplex<T>) {
    return a.real() < b.real() || (a.real() == b.real() && a.imag() < b.imag());
  } else {
    return widen(a) < widen(b);
  }
}

// Product without the slow path that std::complex takes for infinities.
template <class T>
T multiply(T a, T b) {
  if constexpr (kIsComplex<T>) {
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  } else {
    return a * b;
  }
}
template <class T>
T add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  } else {
    return a + b;
  }
}

}  // namespace lamina
