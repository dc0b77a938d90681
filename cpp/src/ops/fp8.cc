#include "ops/common.h"

// 8-bit floats with 4 exponent and 3 mantissa bits (E4M3FN of "FP8 Formats for Deep Learning", 2022): largest
// 448, smallest 2^-9, no infinities. Elementwise graphs, so that both directions fuse with what is around
// them.
namespace lamina {
namespace {

constexpr double kTop = 448, kUnit = 0x1p-9;
constexpr int kNan = 0x7f;

Array number(double v, const Array& like) { return Array(v, like.dtype()); }
Array word(int64_t v) { return Array(v, Dtype::kUInt32); }

}  // namespace

Array to_fp8(const Array& x) {
  if (!is_floating(x.dtype())) {
    fail<DtypeError>("to_fp8", "wants an array of real floats, got {}", x.dtype());
  }
  // 16-bit floats are exact in float32, where the steps below are.
  const Array v = x.dtype() == Dtype::kFloat64 ? x : astype(x, Dtype::kFloat32);
  const Array size = minimum(abs(v), number(kTop, v));
  // log2 may round up to the next power of two, but only where the code rounds up to it as well.
  const Array exponent = maximum(floor(log2(size)), number(-6, v));
  const Array shift = where(isnan(v), word(0), astype(add(exponent, number(6, v)), Dtype::kUInt32));
  const Array step = multiply(astype(left_shift(word(1), shift), v.dtype()), number(kUnit, v));
  const Array mantissa = where(isnan(v), number(0, v), round(divide(size, step)));
  const Array code = add(left_shift(shift, word(3)), astype(mantissa, Dtype::kUInt32));
  const Array below =
      logical_or(less(v, number(0, v)), less(reciprocal(v), number(0, v)));  // also true for -0
  const Array sign = where(below, word(0x80), word(0));
  return astype(where(isnan(v), word(kNan), bitwise_or(code, sign)), Dtype::kUInt8);
}

Array from_fp8(const Array& x, Dtype dtype) {
  if (x.dtype() != Dtype::kUInt8) fail<DtypeError>("from_fp8", "wants an array of uint8, got {}", x.dtype());
  if (!is_floating(dtype)) fail<DtypeError>("from_fp8", "wants a real floating dtype, got {}", dtype);
  const Dtype t = dtype == Dtype::kFloat64 ? dtype : Dtype::kFloat32;
  const Array code = astype(x, Dtype::kUInt32);
  const Array exponent = bitwise_and(right_shift(code, word(3)), word(15));
  const Array normal = minimum(exponent, word(1));
  const Array mantissa = add(bitwise_and(code, word(7)), left_shift(normal, word(3)));
  const Array whole = left_shift(mantissa, subtract(exponent, normal));
  const Array size = multiply(astype(whole, t), Array(kUnit, t));
  const Array is_nan = equal(bitwise_and(code, word(kNan)), word(kNan));
  const Array value = where(less(code, word(0x80)), size, negative(size));
  return astype(where(is_nan, Array(std::numeric_limits<double>::quiet_NaN(), t), value), dtype);
}

}  // namespace lamina
