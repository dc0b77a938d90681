#pragma once

#include <limits>

#include "backend/reference/layout_dtype.h"
#include "backend/reference/reduce.h"

namespace lamina::reference {

// A reduction of elements T: Sum is what it runs in, load() widens one element, join() takes the next one.
template <ReduceKind kKind, class T>
struct ReduceOp;

template <class T>
struct ReduceOp<ReduceKind::kSum, T> {
  using Element = T;
  using Sum = std::conditional_t<std::is_integral_v<T>, uint64_t, ComputeType<T>>;
  static Sum identity() { return Sum{}; }
  static Sum load(T x) { return static_cast<Sum>(widen(x)); }
  static Sum join(Sum a, Sum b) { return a + b; }
};

template <class T>
struct ReduceOp<ReduceKind::kProd, T> : ReduceOp<ReduceKind::kSum, T> {
  using Sum = typename ReduceOp<ReduceKind::kSum, T>::Sum;
  static Sum identity() { return Sum{1}; }
  static Sum join(Sum a, Sum b) { return multiply(a, b); }
};

template <class T>
struct ReduceOp<ReduceKind::kMax, T> {
  using Element = T;
  using Sum = ComputeType<T>;
  static Sum identity() {
    if constexpr (kIsComplex<T>) {
      return {-std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
    } else if constexpr (std::is_floating_point_v<Sum>) {
      return -std::numeric_limits<Sum>::infinity();
    } else {
      return std::numeric_limits<Sum>::lowest();
    }
  }
  static Sum load(T x) { return widen(x); }
  // A NaN in the first place stays. Two plain selects: with && and || loops do not become vector code.
  static Sum select(bool first_holds, bool first_lost, Sum first, Sum second) {
    const Sum better = first_holds ? first : second;
    return first_lost ? first : better;
  }
  static Sum join(Sum a, Sum b) {
    if constexpr (kIsComplex<T>) {
      return select(!less(a, b) && !is_nan(b), is_nan(a), a, b);
    } else {
      return select(a >= b, a != a, a, b);
    }
  }
};

template <class T>
struct ReduceOp<ReduceKind::kMin, T> : ReduceOp<ReduceKind::kMax, T> {
  using Sum = ComputeType<T>;
  static Sum identity() {
    if constexpr (kIsComplex<T> || std::is_floating_point_v<Sum>) {
      return -ReduceOp<ReduceKind::kMax, T>::identity();
    } else {
      return std::numeric_limits<Sum>::max();
    }
  }
  static Sum join(Sum a, Sum b) {
    if constexpr (kIsComplex<T>) {
      return ReduceOp<ReduceKind::kMax, T>::select(!less(b, a) && !is_nan(b), is_nan(a), a, b);
    } else {
      return ReduceOp<ReduceKind::kMax, T>::select(a <= b, a != a, a, b);
    }
  }
};

template <class T>
struct ReduceOp<ReduceKind::kAny, T> {
  using Element = T;
  using Sum = uint8_t;
  static Sum identity() { return 0; }
  static Sum load(T x) {
    if constexpr (kIsHalf<T>) {
      return (x.bits & 0x7fffu) != 0;
    } else {
      return x != T{};
    }
  }
  static Sum join(Sum a, Sum b) { return a | b; }
};

template <class T>
struct ReduceOp<ReduceKind::kAll, T> : ReduceOp<ReduceKind::kAny, T> {
  static uint8_t identity() { return 1; }
  static uint8_t join(uint8_t a, uint8_t b) { return a & b; }
};

}  // namespace lamina::reference
