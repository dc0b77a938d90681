#include "backend/reference/layout.h"

#include <algorithm>

namespace lamina {

void collapse(Shape& shape, std::span<Strides* const> strides) {
  size_t kept = 0;
  bool empty = false;
  for (size_t d = 0; d < shape.size(); ++d) {
    const int64_t n = shape[d];
    empty |= n == 0;
    if (n == 1) continue;
    auto joins = [&](const Strides* s) { return (*s)[kept - 1] == (*s)[d] * n; };
    if (kept > 0 && std::all_of(strides.begin(), strides.end(), joins)) {
      shape[kept - 1] *= n;
      for (Strides* s : strides) (*s)[kept - 1] = (*s)[d];
    } else {
      shape[kept] = n;
      for (Strides* s : strides) (*s)[kept] = (*s)[d];
      ++kept;
    }
  }
  if (empty || kept == 0) {
    shape = Shape{empty ? 0 : 1};
    for (Strides* s : strides) *s = Strides{0};
    return;
  }
  shape.resize(kept);
  for (Strides* s : strides) s->resize(kept);
}

void sort_axes_by_stride(Shape& shape, std::span<Strides* const> strides) {
  auto before = [&](size_t a, size_t b) {
    for (const Strides* s : strides) {
      const int64_t x = (*s)[a] < 0 ? -(*s)[a] : (*s)[a], y = (*s)[b] < 0 ? -(*s)[b] : (*s)[b];
      if (x != y) return x > y;
    }
    return false;
  };
  for (size_t i = 1; i < shape.size(); ++i) {
    for (size_t j = i; j > 0 && before(j, j - 1); --j) {
      std::swap(shape[j], shape[j - 1]);
      for (Strides* s : strides) std::swap((*s)[j], (*s)[j - 1]);
    }
  }
}

Odometer::Odometer(const Shape& shape, std::span<const Strides> strides, int64_t start)
    : shape_(shape), strides_(strides), at_(shape.size()), offsets_(strides.size()) {
  for (size_t d = shape.size(); d-- > 0;) {
    if (shape[d] == 0) return;
    at_[d] = start % shape[d];
    start /= shape[d];
    for (size_t i = 0; i < strides.size(); ++i) offsets_[i] += at_[d] * strides[i][d];
  }
}

void Odometer::advance(int64_t n) {
  for (size_t d = shape_.size() - 1;; --d) {
    at_[d] += n;
    for (size_t i = 0; i < offsets_.size(); ++i) offsets_[i] += n * strides_[i][d];
    if (at_[d] < shape_[d]) return;
    for (size_t i = 0; i < offsets_.size(); ++i) offsets_[i] -= at_[d] * strides_[i][d];
    at_[d] = 0;
    if (d == 0) return;
    n = 1;
  }
}

View drop_axis(const View& v, int64_t axis) {
  View part = v;
  part.shape.erase(part.shape.begin() + axis);
  part.strides.erase(part.strides.begin() + axis);
  return part;
}

View slice_axis(const View& v, int64_t axis, int64_t start, int64_t length) {
  View part = v;
  const auto d = static_cast<size_t>(axis);
  part.data = static_cast<char*>(v.data) + start * v.strides[d] * static_cast<int64_t>(itemsize(v.dtype));
  part.shape[d] = length;
  return part;
}

}  // namespace lamina
