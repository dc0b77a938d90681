#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/simd_target.h"
#include "backend/reference/layout_dtype.h"
#include "core/thread_pool.h"
#include "core/view.h"

// Views in every layout a kernel must take, in memory with guards, and plain index arithmetic to check
// against.
namespace lamina::view_testing {

enum class Layout { kDense, kTransposed, kNegative, kSlice, kRepeated };
// Layouts that an output can have, and one more for inputs: the first axis with stride 0.
inline constexpr Layout kOutLayouts[] = {Layout::kDense, Layout::kTransposed, Layout::kNegative,
                                         Layout::kSlice};
inline constexpr Layout kInLayouts[] = {Layout::kDense, Layout::kTransposed, Layout::kNegative,
                                        Layout::kSlice, Layout::kRepeated};

inline constexpr Dtype kAllDtypes[] = {Dtype::kBool,     Dtype::kUInt8,    Dtype::kUInt16,  Dtype::kUInt32,
                                       Dtype::kUInt64,   Dtype::kInt8,     Dtype::kInt16,   Dtype::kInt32,
                                       Dtype::kInt64,    Dtype::kFloat16,  Dtype::kFloat32, Dtype::kFloat64,
                                       Dtype::kBFloat16, Dtype::kComplex64};

inline int64_t count(const Shape& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

// Offset in elements of row-major element `linear`.
inline int64_t offset_of(const View& v, int64_t linear) {
  int64_t offset = 0;
  for (size_t d = v.shape.size(); d-- > 0;) {
    offset += linear % v.shape[d] * v.strides[d];
    linear /= v.shape[d];
  }
  return offset;
}
inline char* element(const View& v, int64_t linear) {
  return static_cast<char*>(v.data) + offset_of(v, linear) * static_cast<int64_t>(itemsize(v.dtype));
}
template <class T>
T& value(const View& v, int64_t linear) {
  return *reinterpret_cast<T*>(element(v, linear));
}
// The bytes of all elements in row-major order.
inline std::vector<char> dense_bytes(const View& v) {
  const size_t item = itemsize(v.dtype);
  std::vector<char> bytes(static_cast<size_t>(v.size()) * item);
  for (int64_t i = 0; i < v.size(); ++i)
    std::memcpy(bytes.data() + static_cast<size_t>(i) * item, element(v, i), item);
  return bytes;
}

// Memory for one view, with a guard before, after and, for a slice, between the elements.
class Box {
 public:
  static constexpr unsigned char kGuard = 0xA5;

  Box(Dtype dtype, const Shape& shape, Layout layout = Layout::kDense) {
    constexpr int64_t kMargin = 64;
    view_.dtype = dtype;
    view_.shape = shape;
    view_.strides = Strides(shape.size());
    int64_t step = 1, start = kMargin;
    for (size_t i = 0; i < shape.size(); ++i) {
      const size_t d = layout == Layout::kTransposed ? i : shape.size() - 1 - i;
      if (layout == Layout::kRepeated && d == 0) continue;
      const int64_t room = layout == Layout::kSlice ? 2 * shape[d] + 1 : std::max<int64_t>(shape[d], 1);
      view_.strides[d] = layout == Layout::kNegative ? -step : layout == Layout::kSlice ? 2 * step : step;
      if (layout == Layout::kNegative) start += step * std::max<int64_t>(shape[d] - 1, 0);
      if (layout == Layout::kSlice) start += step;
      step *= room;
    }
    // 64 bytes of slack bring the memory to the alignment of an array's.
    bytes_.assign(static_cast<size_t>(step + 2 * kMargin) * itemsize(dtype) + 64, kGuard);
    const size_t shift = (64 - reinterpret_cast<uintptr_t>(bytes_.data()) % 64) % 64;
    view_.data = bytes_.data() + shift + static_cast<size_t>(start) * itemsize(dtype);
  }
  Box(Box&&) = default;

  const View& view() const { return view_; }
  operator const View&() const { return view_; }

  // True where no byte outside the view's elements has changed.
  bool guards_intact() const {
    std::vector<unsigned char> rest = bytes_;
    const size_t base = static_cast<size_t>(static_cast<const unsigned char*>(view_.data) - bytes_.data());
    for (int64_t i = 0; i < view_.size(); ++i) {
      const auto at =
          static_cast<int64_t>(base) + offset_of(view_, i) * static_cast<int64_t>(itemsize(view_.dtype));
      std::fill_n(rest.begin() + at, itemsize(view_.dtype), kGuard);
    }
    return std::all_of(rest.begin(), rest.end(), [](unsigned char c) { return c == kGuard; });
  }

 private:
  std::vector<unsigned char> bytes_;
  View view_;
};

template <class T>
T from_double(double x) {
  if constexpr (kIsComplex<T>) {
    return {static_cast<float>(x), 0.0f};
  } else if constexpr (kIsHalf<T>) {
    return T(static_cast<float>(x));
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<int64_t>(x));
  } else {
    return static_cast<T>(x);
  }
}

enum class Values { kBits, kSmall, kSpecial, kNormal, kNearOne };

// kBits: any bit pattern without NaN; kSmall: whole numbers from -4 to 4, many of them equal; kSpecial: small
// numbers with NaN, infinities and zeros of both signs among them.
template <class T>
T draw(std::mt19937_64& rng, Values values, bool is_bool) {
  if (is_bool) return from_double<T>(static_cast<double>(rng() % 2));
  if (values == Values::kBits) {
    T x;
    do {
      const uint64_t bits = rng();
      std::memcpy(static_cast<void*>(&x), &bits, sizeof(T));
    } while (is_nan(x));
    return x;
  }
  auto part = [&] {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN(),
                     kInfinity = std::numeric_limits<double>::infinity();
    constexpr double kSpecials[] = {kNan, -kNan, kInfinity, -kInfinity, -0.0, 0.0};
    if (values == Values::kSpecial && !std::is_integral_v<T> && rng() % 4 == 0) return kSpecials[rng() % 6];
    if (values == Values::kNormal) return std::normal_distribution<double>()(rng);
    if (values == Values::kNearOne) return std::normal_distribution<double>(1.0, 0.05)(rng);
    return static_cast<double>(static_cast<int64_t>(rng() % 9) - 4);
  };
  if constexpr (kIsComplex<T>) {
    const auto real = static_cast<float>(part());
    return {real, static_cast<float>(values == Values::kNearOne ? part() - 1.0 : part())};
  } else {
    return from_double<T>(part());
  }
}

inline void fill(const View& v, uint64_t seed, Values values = Values::kSmall) {
  std::mt19937_64 rng(seed);
  visit_dtype(v.dtype, [&]<class T>(std::type_identity<T>) {
    for (int64_t i = 0; i < v.size(); ++i) value<T>(v, i) = draw<T>(rng, values, v.dtype == Dtype::kBool);
  });
}

inline Box random_box(Dtype dtype, const Shape& shape, Layout layout, uint64_t seed,
                      Values values = Values::kSmall) {
  Box box(dtype, shape, layout);
  fill(box, seed, values);
  return box;
}

inline std::string describe(const View& v) {
  return std::string(dtype_name(v.dtype)) + " " + to_string(v.shape) + " strides " + to_string(v.strides);
}

// Runs body() with 1, 2 and 7 threads; each time out's bytes must be those of the first time.
template <class Body>
void expect_same_for_all_thread_counts(const View& out, const Body& body) {
  const int before = num_threads();
  std::vector<char> first;
  for (int threads : {1, 2, 7}) {
    set_num_threads(threads);
    body();
    if (threads == 1) first = dense_bytes(out);
    EXPECT_EQ(dense_bytes(out), first) << threads << " threads, " << describe(out);
  }
  set_num_threads(before);
}

// Runs body() with each SIMD target that this CPU has.
template <class Body>
void for_each_target(const Body& body) {
  const std::string before = simd_target_name();
  for (const std::string& name : supported_simd_targets()) {
    SCOPED_TRACE(name);
    set_simd_target(name);
    body();
  }
  set_simd_target(before);
}

}  // namespace lamina::view_testing
