#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "backend/cpu/simd_target.h"
#include "backend/cpu/tile.h"
#include "backend/reference/elementwise_convert.h"
#include "backend/reference/elementwise_scalar.h"
#include "backend/reference/elementwise_types.h"
#include "lamina/error.h"

namespace lamina::testing {

// ---- rows of the table as values

struct Range {
  double lo, hi;
};
constexpr Range range(double lo, double hi) { return {lo, hi}; }

// The type in which a row's scalar expression gives the truth for operands of type T: the next wider one.
// Rows with a bound of 0 are exact arithmetic, whose double value would be rounded twice on its way through
// long double.
template <class T, int kUlp>
struct WiderOf {
  using type = T;
};
template <int kUlp>
struct WiderOf<float, kUlp> {
  using type = double;
};
template <int kUlp>
struct WiderOf<double, kUlp> {
  using type = std::conditional_t<kUlp == 0, double, long double>;
};
template <int kUlp>
struct WiderOf<std::complex<float>, kUlp> {
  using type = std::complex<double>;
};
template <class T, int kUlp>
using Wider = typename WiderOf<T, kUlp>::type;

// ---- numbers

// Steps between two floats of one type; 0 for two NaNs, huge for a NaN beside a number.
template <class T>
int64_t steps_between(T a, T b) {
  if (std::isnan(a) || std::isnan(b))
    return std::isnan(a) && std::isnan(b) ? 0 : std::numeric_limits<int64_t>::max();
  auto rank = [](T x) {
    using I = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    I bits = std::bit_cast<I>(std::abs(x));
    return std::signbit(x) ? -static_cast<int64_t>(bits) : static_cast<int64_t>(bits);
  };
  int64_t low = std::min(rank(a), rank(b)), high = std::max(rank(a), rank(b));
  uint64_t gap = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  return static_cast<int64_t>(std::min<uint64_t>(gap, std::numeric_limits<int64_t>::max()));
}

// Whether a complex64 result is as close to the truth as `ulp` allows: rounding is small against the whole
// number, not against each part, and where the parts of a row combine they may each be off by `ulp` and a few
// more.
inline bool close(std::complex<float> got, std::complex<double> truth, int ulp) {
  using L = std::numeric_limits<float>;
  if (scalar::isfinite(std::complex<float>(truth))) {
    double bound = (ulp + 8) * (double{L::epsilon()} * std::abs(truth) + double{L::denorm_min()});
    return std::abs(std::complex<double>(got) - truth) <= bound;
  }
  return steps_between(got.real(), static_cast<float>(truth.real())) <= ulp + 8 &&
         steps_between(got.imag(), static_cast<float>(truth.imag())) <= ulp + 8;
}
// Whether a real result is within `ulp` steps of the rounded truth, with its sign where that is zero.
template <class T>
bool close(T got, T truth, int ulp) {
  if (truth == 0 && std::signbit(got) != std::signbit(truth)) return false;
  return steps_between(got, truth) <= ulp;
}

// Text of a value, in one place so that the tests' templates stay small.
template <class T>
std::string text(T x) {
  std::ostringstream out;
  out.precision(std::numeric_limits<double>::max_digits10);
  if constexpr (scalar::kIsComplex<T>) {
    out << x;
  } else {
    out << +x;
  }
  return out.str();
}

template <class T>
std::vector<T> special_values() {
  using L = std::numeric_limits<T>;
  if constexpr (scalar::kIsBool<T>) {
    return {false, true};
  } else if constexpr (scalar::kIsFloat<T>) {
    std::vector<T> v;
    for (T x : {T(0),    L::denorm_min(), L::min(),     T(1e-30), L::epsilon(), T(0.25),   T(0.5), T(0.75),
                T(1),    T(1.25),         T(1.5),       T(2),     T(2.5),       T(3),      T(3.5), T(7),
                T(10),   T(31),           T(88.5),      T(100),   T(1e5),       T(131073), T(1e7), T(1e10),
                T(1e30), L::max(),        L::infinity()}) {
      v.push_back(x);
      v.push_back(-x);
    }
    v.push_back(L::quiet_NaN());
    v.push_back(-L::quiet_NaN());
    return v;
  } else if constexpr (scalar::kIsComplex<T>) {
    using F = typename T::value_type;
    std::vector<T> v;
    for (F re : {F(0), F(-0.0), F(1), F(-1), F(2.5)}) {
      for (F im : {F(0), F(1), F(-1), F(0.5)}) v.push_back(T(re, im));
    }
    return v;
  } else {
    std::vector<T> v = {T(0),  T(1),  T(2),  T(3),  T(5),  T(7),   T(8),
                        T(16), T(31), T(32), T(63), T(64), T(100), L::max()};
    v.push_back(static_cast<T>(L::max() - 1));
    v.push_back(L::lowest());
    v.push_back(static_cast<T>(-1));
    v.push_back(static_cast<T>(-2));
    v.push_back(static_cast<T>(-7));
    return v;
  }
}

// A draw from the range: half uniform, half uniform in the logarithm of the magnitude.
template <class T>
T draw(std::mt19937_64& random, Range r) {
  if constexpr (scalar::kIsBool<T>) {
    return (random() & 1) != 0;
  } else if constexpr (scalar::kIsComplex<T>) {
    using F = typename T::value_type;
    Range narrow{std::max(r.lo, -4.0), std::min(r.hi, 4.0)};
    return T(draw<F>(random, narrow), draw<F>(random, narrow));
  } else if constexpr (scalar::kIsInt<T>) {
    // Small counts and divisors are as interesting as whole words.
    uint64_t bits = random();
    return static_cast<T>((bits & 1) != 0 ? bits >> 1 : (bits >> 1) % 130 - 65);
  } else {
    double unit = std::generate_canonical<double, 53>(random);
    if ((random() & 1) != 0) return static_cast<T>(r.lo + unit * (r.hi - r.lo));
    bool minus = r.hi <= 0 || (r.lo < 0 && (random() & 1) != 0);
    double high = std::log(std::abs(minus ? r.lo : r.hi));
    double low = r.lo > 0 ? std::log(r.lo) : r.hi < 0 ? std::log(-r.hi) : std::log(1e-38);
    double magnitude = std::exp(low + unit * (high - low));
    return static_cast<T>(minus ? -magnitude : magnitude);
  }
}
template <class T>
std::vector<T> draws(size_t n, Range r, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<T> v;
  for (size_t i = 0; i < n; ++i) v.push_back(draw<T>(random, r));
  return v;
}

// ---- memory with guard bytes

// n elements of T at an odd element offset, between two stretches of known bytes.
class Guarded {
 public:
  Guarded(size_t bytes, size_t item)
      : bytes_(bytes), start_(kGuard + item), memory_(bytes + 2 * kGuard + item, kFill) {}
  void* data() { return memory_.data() + start_; }
  bool intact() const {
    for (size_t i = 0; i < memory_.size(); ++i) {
      if ((i < start_ || i >= start_ + bytes_) && memory_[i] != kFill) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 128;
  static constexpr unsigned char kFill = 0xa5;
  size_t bytes_, start_;
  std::vector<unsigned char> memory_;
};

// A plain array where std::vector<bool> would not be one.
template <class T>
struct Buffer {
  explicit Buffer(size_t n) : bytes(n * sizeof(T)) {}
  explicit Buffer(const std::vector<T>& v) : bytes(v.size() * sizeof(T)) {
    for (size_t i = 0; i < v.size(); ++i) {
      T x = v[i];
      std::memcpy(bytes.data() + i * sizeof(T), &x, sizeof(T));
    }
  }
  T* data() { return reinterpret_cast<T*>(bytes.data()); }
  T operator[](size_t i) const {
    T x;
    std::memcpy(&x, bytes.data() + i * sizeof(T), sizeof(T));
    return x;
  }
  size_t size() const { return bytes.size() / sizeof(T); }
  std::vector<unsigned char> bytes;
};

// Runs the body once for each SIMD target of this CPU, the best last.
class EveryTarget : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    before_ = simd_target_name();
    set_simd_target(GetParam());
  }
  void TearDown() override { set_simd_target(before_); }

 private:
  std::string before_;
};
inline std::string target_name(const ::testing::TestParamInfo<std::string>& info) { return info.param; }

}  // namespace lamina::testing

#define LAMINA_INSTANTIATE_TARGETS(suite)                                                        \
  INSTANTIATE_TEST_SUITE_P(Simd, suite, ::testing::ValuesIn(::lamina::supported_simd_targets()), \
                           ::lamina::testing::target_name)
