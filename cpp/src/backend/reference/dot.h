#pragma once

#include <complex>
#include <cstdint>
#include <type_traits>

#include "backend/reference/layout_dtype.h"

namespace lamina::reference {

// What sums of products of T are computed in; integers wrap around.
template <class T>
using DotType = std::conditional_t<kIsComplex<T>, std::complex<double>,
                                   std::conditional_t<std::is_integral_v<T>, uint64_t, double>>;

template <class T>
DotType<T> to_dot(T x) {
  if constexpr (kIsComplex<T>) {
    return {x.real(), x.imag()};
  } else {
    return static_cast<DotType<T>>(widen(x));
  }
}

template <class T>
T from_dot(DotType<T> x) {
  if constexpr (kIsComplex<T>) {
    return {static_cast<float>(x.real()), static_cast<float>(x.imag())};
  } else if constexpr (kIsHalf<T>) {
    return T(static_cast<float>(x));
  } else {
    return static_cast<T>(x);
  }
}

template <class D>
D times(D a, D b) {
  if constexpr (std::is_same_v<D, std::complex<double>>) {
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
  } else {
    return a * b;
  }
}

}  // namespace lamina::reference
