#include "backend/reference/sort.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "backend/reference/layout.h"
#include "backend/reference/sort_order.h"

namespace lamina::reference {
namespace {

// Calls body(line_in, line_out) with the byte offsets of every pair of lines along `axis`.
template <class Body>
void for_each_line(const View& in, const View& out, int64_t axis, const Body& body) {
  const View from = drop_axis(in, axis), to = drop_axis(out, axis);
  const auto loop = collapse_views<2>({&from, &to});
  for_each_row(loop, 0, loop.size(), [&](const auto& at, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      body(static_cast<const char*>(in.data) + at[0] + i * loop.inner_stride(0),
           static_cast<char*>(out.data) + at[1] + i * loop.inner_stride(1));
    }
  });
}

int64_t step_bytes(const View& v, int64_t axis) {
  return v.strides[static_cast<size_t>(axis)] * static_cast<int64_t>(itemsize(v.dtype));
}

template <class T>
std::vector<T> read_line(const char* line, int64_t step, int64_t n) {
  std::vector<T> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    values[static_cast<size_t>(i)] = *reinterpret_cast<const T*>(line + i * step);
  return values;
}

template <class T>
bool negative(T x) {
  if constexpr (kIsComplex<T> || std::is_integral_v<T>) {
    return false;
  } else {
    return std::signbit(widen(x));
  }
}

// Writes elements [first, first + out length) of the sorted line.
void sort_from(const View& in, const View& out, int64_t axis, int64_t first) {
  const auto a = static_cast<size_t>(axis);
  visit_dtype(in.dtype, [&]<class T>(std::type_identity<T>) {
    for_each_line(in, out, axis, [&](const char* from, char* to) {
      std::vector<T> values = read_line<T>(from, step_bytes(in, axis), in.shape[a]);
      std::stable_sort(values.begin(), values.end(), [](T x, T y) {
        return sorts_before(x, y) || (!sorts_before(y, x) && !is_nan(x) && negative(x) && !negative(y));
      });
      for (int64_t i = 0; i < out.shape[a]; ++i) {
        *reinterpret_cast<T*>(to + i * step_bytes(out, axis)) = values[static_cast<size_t>(first + i)];
      }
    });
  });
}

void argsort_from(const View& in, const View& out, int64_t axis, int64_t first) {
  const auto a = static_cast<size_t>(axis);
  visit_dtype(in.dtype, [&]<class T>(std::type_identity<T>) {
    for_each_line(in, out, axis, [&](const char* from, char* to) {
      const std::vector<T> values = read_line<T>(from, step_bytes(in, axis), in.shape[a]);
      std::vector<size_t> order(values.size());
      std::iota(order.begin(), order.end(), size_t{0});
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t x, size_t y) { return sorts_before(values[x], values[y]); });
      visit_itemsize(itemsize(out.dtype), [&]<class Index>(std::type_identity<Index>) {
        for (int64_t i = 0; i < out.shape[a]; ++i) {
          *reinterpret_cast<Index*>(to + i * step_bytes(out, axis)) =
              static_cast<Index>(order[static_cast<size_t>(first + i)]);
        }
      });
    });
  });
}

int64_t length(const View& v, int64_t axis) { return v.shape[static_cast<size_t>(axis)]; }

}  // namespace

void sort(const View& in, const View& out, int64_t axis) { sort_from(in, out, axis, 0); }
void argsort(const View& in, const View& out, int64_t axis) { argsort_from(in, out, axis, 0); }
void partition(const View& in, const View& out, int64_t, int64_t axis) { sort(in, out, axis); }
void argpartition(const View& in, const View& out, int64_t, int64_t axis) { argsort(in, out, axis); }
void topk(const View& in, const View& out, int64_t axis) {
  sort_from(in, out, axis, length(in, axis) - length(out, axis));
}
void argtopk(const View& in, const View& out, int64_t axis) {
  argsort_from(in, out, axis, length(in, axis) - length(out, axis));
}

}  // namespace lamina::reference
