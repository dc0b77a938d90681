#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "lamina/ops.h"

// What the benchmarks of the public API share: operands, one check before the first timing, bytes per second.
namespace lamina::bench {

using Arrays = std::vector<Array>;

struct Case {
  std::string name;                                               // unique among all programs' benchmarks
  std::function<Arrays()> operands;                               // evaluated arrays
  std::function<Array(const Arrays&)> run;                        // what is timed, with its evaluation
  std::function<std::string(const Arrays&, const Array&)> check;  // what is wrong with a result, or ""
};

// Registers the case: its result is checked once, then each iteration builds and evaluates it. The rate is
// that of the operands' and the result's bytes, each counted once.
void add_case(Case c);

// 1K, 1M and 8M elements.
inline constexpr int64_t kSizes[] = {int64_t{1} << 10, int64_t{1} << 20, int64_t{1} << 23};
// "1K", "1M", "8M"; the number itself where it is no whole power of 1024.
std::string size_text(int64_t n);

struct Range {
  double lo, hi;
};
constexpr Range range(double lo, double hi) { return {lo, hi}; }

// A reproducible stream of numbers (splitmix64); cheap, since 8M operands are drawn for every row.
class Draws {
 public:
  explicit Draws(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform(Range r) { return r.lo + (r.hi - r.lo) * (static_cast<double>(bits() >> 11) * 0x1p-53); }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }

 private:
  uint64_t state_;
};

// One draw as a T; the range is cut to what an integer T holds.
template <class T>
T draw(Draws& draws, Range r) {
  if constexpr (std::is_same_v<T, bool>) {
    return (draws.bits() & 1) != 0;
  } else if constexpr (std::is_integral_v<T>) {
    const Range cut{std::max(r.lo, static_cast<double>(std::numeric_limits<T>::min())),
                    std::min(r.hi, static_cast<double>(std::numeric_limits<T>::max()))};
    return static_cast<T>(draws.uniform(cut));
  } else if constexpr (std::is_same_v<T, double>) {
    return draws.uniform(r);
  } else {
    return T(static_cast<float>(draws.uniform(r)));
  }
}

// An array of make(i) for every place i.
template <class T, class Make>
Array array_of(const Shape& shape, Make make) {
  const int64_t n = num_elements(shape);
  std::vector<T> values;
  values.reserve(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values.push_back(make(i));
  return Array::copy_host(values.data(), values.size(), DtypeOf<T>::value, shape);
}
// std::vector<bool> has no data(): booleans are made from bytes.
template <class Make>
Array bool_array_of(const Shape& shape, Make make) {
  Array bytes = array_of<uint8_t>(shape, make);
  Array out = not_equal(bytes, Array(int64_t{0}, Dtype::kUInt8));
  out.eval();
  return out;
}
template <class T>
Array random_array(const Shape& shape, Range r, uint64_t seed) {
  Draws draws(seed);
  if constexpr (std::is_same_v<T, bool>) {
    return bool_array_of(shape, [&](int64_t) { return static_cast<uint8_t>(draws.bits() & 1); });
  } else {
    return array_of<T>(shape, [&](int64_t) { return draw<T>(draws, r); });
  }
}

// About 4096 places of [0, n), the first and the last among them.
std::vector<int64_t> sample_places(int64_t n);

// Compares with the reference backend's result of the same function: within tolerance * max(1, |wanted|), or
// with tolerance 0 the same bytes.
std::function<std::string(const Arrays&, const Array&)> like_reference(
    std::function<Array(const Arrays&)> run, double tolerance = 0);

}  // namespace lamina::bench
