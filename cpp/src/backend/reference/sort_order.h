#pragma once

#include <cmath>

#include "backend/reference/layout_dtype.h"

namespace lamina {

// The order of sort and argsort: ascending, NaN after everything and equal to NaN. Complex numbers go by
// real, then imaginary part, after those come R + nan j, nan + R j, nan + nan j, each by the part that is a
// number.
template <class T>
bool sorts_before(T a, T b) {
  if constexpr (kIsComplex<T>) {
    const int rank_a = 2 * std::isnan(a.real()) + std::isnan(a.imag());
    const int rank_b = 2 * std::isnan(b.real()) + std::isnan(b.imag());
    if (rank_a != rank_b) return rank_a < rank_b;
    if (rank_a < 2 && a.real() != b.real()) return a.real() < b.real();
    return rank_a % 2 == 0 && a.imag() < b.imag();
  } else {
    return less(a, b) || (is_nan(b) && !is_nan(a));
  }
}

}  // namespace lamina
