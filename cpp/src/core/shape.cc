#include "lamina/shape.h"

#include "core/fail.h"

namespace lamina {

int64_t num_elements(const Shape& shape) {
  int64_t n = 1;
  bool overflow = false;
  for (int64_t d : shape) {
    if (d == 0) return 0;
    overflow |= __builtin_mul_overflow(n, d, &n);
  }
  if (overflow) fail<ShapeError>("shape", "{} has more elements than 63 bits can count", shape);
  return n;
}

Strides row_major_strides(const Shape& shape) {
  Strides s(shape.size());
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    s[i] = step;
    step *= std::max<int64_t>(shape[i], 1);
  }
  return s;
}

std::string to_string(const Shape& shape) {
  std::string s = "(";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + (shape.size() == 1 ? ",)" : ")");
}

Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op) {
  const Shape& big = a.size() >= b.size() ? a : b;
  const Shape& small = a.size() >= b.size() ? b : a;
  Shape out = big;
  size_t shift = big.size() - small.size();
  for (size_t i = 0; i < small.size(); ++i) {
    int64_t x = big[shift + i], y = small[i];
    if (x != y && x != 1 && y != 1) { fail<ShapeError>(op, "shapes {} and {} do not broadcast", a, b); }
    out[shift + i] = x == 1 ? y : x;
  }
  return out;
}

}  // namespace lamina
