#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/simd_target.h"
#include "core/thread_pool.h"
#include "lamina/dtype.h"

namespace lamina::testing {

inline constexpr double kEps32 = 0x1p-24;  // unit roundoff, half the spacing at 1

// Unit roundoff of a storage type.
inline double unit_roundoff(Dtype t) {
  switch (t) {
    case Dtype::kFloat16: return 0x1p-11;
    case Dtype::kBFloat16: return 0x1p-8;
    case Dtype::kFloat64: return 0x1p-53;
    default: return kEps32;
  }
}
// Smallest positive value of a storage type: the absolute part of a rounding error.
inline double least_step(Dtype t) { return t == Dtype::kFloat16 ? 0x1p-25 : 0x1p-126; }

inline double read_element(const void* data, Dtype t, int64_t i) {
  switch (t) {
    case Dtype::kFloat16: return static_cast<float>(static_cast<const float16_t*>(data)[i]);
    case Dtype::kBFloat16: return static_cast<float>(static_cast<const bfloat16_t*>(data)[i]);
    case Dtype::kFloat64: return static_cast<const double*>(data)[i];
    default: return static_cast<const float*>(data)[i];
  }
}
inline void write_element(void* data, Dtype t, int64_t i, double x) {
  const auto f = static_cast<float>(x);
  switch (t) {
    case Dtype::kFloat16: static_cast<float16_t*>(data)[i] = float16_t(f); break;
    case Dtype::kBFloat16: static_cast<bfloat16_t*>(data)[i] = bfloat16_t(f); break;
    case Dtype::kFloat64: static_cast<double*>(data)[i] = x; break;
    default: static_cast<float*>(data)[i] = f;
  }
}

// A buffer between guard bytes; guards_whole() tells whether a kernel wrote outside it.
class Guarded {
 public:
  Guarded(int64_t elems, Dtype t)
      : dtype_(t), bytes_(static_cast<size_t>(elems) * itemsize(t)), store_(bytes_ + 2 * kGuard, kMark) {}
  void* data() { return store_.data() + kGuard; }
  const void* data() const { return store_.data() + kGuard; }
  int64_t elems() const { return static_cast<int64_t>(bytes_ / itemsize(dtype_)); }
  Dtype dtype() const { return dtype_; }
  double at(int64_t i) const { return read_element(data(), dtype_, i); }
  void set(int64_t i, double x) { write_element(data(), dtype_, i, x); }
  template <class T>
  T* as() {
    return static_cast<T*>(data());
  }
  bool guards_whole() const {
    for (size_t i = 0; i < kGuard; ++i) {
      if (store_[i] != kMark || store_[kGuard + bytes_ + i] != kMark) return false;
    }
    return true;
  }
  // Whether element i still holds the mark that every byte began with.
  bool untouched(int64_t i) const {
    const auto* p = static_cast<const uint8_t*>(data()) + static_cast<size_t>(i) * itemsize(dtype_);
    for (size_t b = 0; b < itemsize(dtype_); ++b) {
      if (p[b] != kMark) return false;
    }
    return true;
  }
  bool same_bits(const Guarded& o) const { return store_ == o.store_; }

 private:
  static constexpr size_t kGuard = 128;
  static constexpr uint8_t kMark = 0xA5;
  Dtype dtype_;
  size_t bytes_;
  std::vector<uint8_t> store_;
};

inline Guarded random_buffer(int64_t elems, Dtype t, std::mt19937& rng, double scale = 1.0) {
  Guarded g(elems, t);
  std::normal_distribution<double> normal(0.0, scale);
  for (int64_t i = 0; i < elems; ++i) g.set(i, normal(rng));
  return g;
}

// Runs f once for every SIMD target that this CPU supports, with that target forced.
template <class F>
void for_each_target(F&& f) {
  const std::vector<std::string> targets = supported_simd_targets();
  for (const std::string& target : targets) {
    set_simd_target(target);
    f(target.c_str());
  }
  set_simd_target(targets.front());
}

// Restores the number of threads when it dies.
class ThreadCount {
 public:
  explicit ThreadCount(int n) : before_(num_threads()) { set_num_threads(n); }
  ~ThreadCount() { set_num_threads(before_); }

 private:
  int before_;
};

}  // namespace lamina::testing
