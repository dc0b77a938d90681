#include "backend/reference/fill.h"

#include "backend/reference/layout.h"
#include "backend/reference/layout_dtype.h"
#include "core/thread_pool.h"

namespace lamina::reference {
namespace {

constexpr int64_t kGrain = 16384;  // elements worth a thread

// value(i) -> T for the row-major index i.
template <class T, class Value>
void fill_linear(const View& out, const Value& value) {
  const auto loop = collapse_views<1>({&out});
  parallel_ranges(loop.size(), kGrain, [&](int64_t begin, int64_t end) {
    int64_t linear = begin;
    for_each_row(loop, begin, end, [&](const auto& at, int64_t n) {
      char* to = static_cast<char*>(out.data) + at[0];
      for (int64_t i = 0; i < n; ++i) {
        *reinterpret_cast<T*>(to + i * loop.inner_stride(0)) = value(linear + i);
      }
      linear += n;
    });
  });
}

template <class T>
T from_double(double x) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<int64_t>(x));
  } else if constexpr (std::is_same_v<T, double>) {
    return x;
  } else {
    return T(static_cast<float>(x));
  }
}
template <class T>
T from_int(int64_t x) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(x);
  } else {
    return from_double<T>(static_cast<double>(x));
  }
}

// one(r, c) says which elements of the last two axes are 1.
template <class One>
void fill_matrix(const View& out, const One& one) {
  const int64_t cols = out.shape[out.shape.size() - 1], rows = out.shape[out.shape.size() - 2];
  visit_dtype(out.dtype, [&]<class T>(std::type_identity<T>) {
    fill_linear<T>(out, [&](int64_t i) { return from_int<T>(one(i / cols % rows, i % cols) ? 1 : 0); });
  });
}

}  // namespace

void arange(const View& out, double start, double step) {
  visit_dtype(out.dtype, [&]<class T>(std::type_identity<T>) {
    fill_linear<T>(out, [=](int64_t i) { return from_double<T>(start + static_cast<double>(i) * step); });
  });
}

void arange(const View& out, int64_t start, int64_t step) {
  visit_dtype(out.dtype, [&]<class T>(std::type_identity<T>) {
    fill_linear<T>(out, [=](int64_t i) {
      return from_int<T>(static_cast<int64_t>(static_cast<uint64_t>(start) +
                                              static_cast<uint64_t>(i) * static_cast<uint64_t>(step)));
    });
  });
}

void eye(const View& out, int64_t k) {
  fill_matrix(out, [k](int64_t r, int64_t c) { return c == r + k; });
}

void tri(const View& out, int64_t k) {
  fill_matrix(out, [k](int64_t r, int64_t c) { return c <= r + k; });
}

}  // namespace lamina::reference
