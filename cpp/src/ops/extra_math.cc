#include <cmath>
#include <limits>

#include "ops/common.h"

namespace lamina {
namespace {

constexpr double kPi = 3.141592653589793;

double largest(Dtype t) {
  switch (t) {
    case Dtype::kFloat16: return 65504;
    case Dtype::kBFloat16: return 0x1.fep127;
    case Dtype::kFloat64: return std::numeric_limits<double>::max();
    default: return static_cast<double>(std::numeric_limits<float>::max());
  }
}

Array constant(double v, Dtype t) { return Array(v, t); }

}  // namespace

Array linspace(double start, double stop, int64_t num, bool endpoint, Dtype dtype) {
  if (endpoint) return linspace(start, stop, num, dtype);
  const Array wide = linspace(start, stop, num + 1, Dtype::kFloat64);
  return astype(slice(wide, {0}, {num}), dtype);
}

Array window(Window kind, int64_t length) {
  if (length < 1) return zeros({0}, Dtype::kFloat32);  // of a negative length too, as in NumPy
  if (length == 1) return ones({1});
  const Array n = arange(0, length, 1, Dtype::kFloat64);
  const Dtype t = Dtype::kFloat64;
  const double last = static_cast<double>(length - 1);
  auto wave = [&](double cycles) { return cos(multiply(n, constant(cycles * 2 * kPi / last, t))); };
  Array w;
  switch (kind) {
    case Window::kBartlett: {
      const Array ramp = multiply(n, constant(2 / last, t));
      w = minimum(ramp, subtract(constant(2, t), ramp));
      break;
    }
    case Window::kBlackman:
      w = add(subtract(constant(0.42, t), multiply(constant(0.5, t), wave(1))),
              multiply(constant(0.08, t), wave(2)));
      break;
    case Window::kHamming: w = subtract(constant(0.54, t), multiply(constant(0.46, t), wave(1))); break;
    case Window::kHanning: w = subtract(constant(0.5, t), multiply(constant(0.5, t), wave(1))); break;
  }
  return astype(w, Dtype::kFloat32);
}

Array round(const Array& a, int64_t decimals) {
  const Dtype t = a.dtype();
  if (decimals == 0) return round(a);
  if (!is_inexact(t)) {
    if (decimals > 0) return a;
    const Array unit(std::pow(10.0, static_cast<double>(-decimals)), Dtype::kFloat64);
    return astype(multiply(round(divide(astype(a, Dtype::kFloat64), unit)), unit), t);
  }
  const Dtype real = is_complex(t) ? Dtype::kFloat32 : t;
  const Array unit(std::pow(10.0, static_cast<double>(decimals < 0 ? -decimals : decimals)), real);
  return decimals > 0 ? divide(round(multiply(a, unit)), unit) : multiply(round(divide(a, unit)), unit);
}

Array degrees(const Array& a) {
  const Dtype t = to_inexact(a.dtype());
  return multiply(astype(a, t), constant(180 / kPi, t));
}

Array radians(const Array& a) {
  const Dtype t = to_inexact(a.dtype());
  return multiply(astype(a, t), constant(kPi / 180, t));
}

Array nan_to_num(const Array& a, double nan, std::optional<double> posinf, std::optional<double> neginf) {
  const Dtype t = a.dtype();
  if (!is_inexact(t)) return a;
  if (is_complex(t)) {
    const Array parts[] = {nan_to_num(real(a), nan, posinf, neginf),
                           nan_to_num(imag(a), nan, posinf, neginf)};
    return reshape(view(stack(parts, -1), t), a.shape());
  }
  const Array finite = where(isnan(a), constant(nan, t), a);
  const Array below = where(isposinf(a), constant(posinf.value_or(largest(t)), t), finite);
  return where(isneginf(a), constant(neginf.value_or(-largest(t)), t), below);
}

Array diff(const Array& a, int64_t n, int64_t axis) {
  if (n < 0) fail<ValueError>("diff", "n must not be negative, got {}", n);
  const auto at = static_cast<size_t>(normalize_axis(axis, a.ndim(), "diff"));
  Array out = a;
  for (int64_t i = 0; i < n; ++i) {
    Shape front(a.shape().size(), 0), end = out.shape(), before = out.shape();
    if (end[at] == 0) return out;
    front[at] = 1;
    before[at] -= 1;
    const Array next = slice(out, front, end), previous = slice(out, Shape(end.size(), 0), before);
    out = a.dtype() == Dtype::kBool ? not_equal(next, previous) : subtract(next, previous);
  }
  return out;
}

Array trace(const Array& a, int64_t offset, int64_t axis1, int64_t axis2, std::optional<Dtype> dtype) {
  const Array d = diagonal(a, offset, axis1, axis2);
  const Array total = sum(dtype ? astype(d, *dtype) : d, Axes{-1});
  return dtype ? astype(total, *dtype) : total;
}

Array kron(const Array& a, const Array& b) {
  Array x = a, y = b;
  while (x.ndim() < y.ndim()) x = expand_dims(x, {0});
  while (y.ndim() < x.ndim()) y = expand_dims(y, {0});
  Axes odd, even;
  Shape shape;
  for (int64_t i = 0; i < x.ndim(); ++i) {
    even.push_back(2 * i + 1);
    odd.push_back(2 * i);
    shape.push_back(x.shape()[static_cast<size_t>(i)] * y.shape()[static_cast<size_t>(i)]);
  }
  return reshape(multiply(expand_dims(x, even), expand_dims(y, odd)), shape);
}

Array vecdot(const Array& a, const Array& b, int64_t axis) {
  if (axis >= 0 || a.ndim() == 0 || b.ndim() == 0) {
    if (a.ndim() == 0 || b.ndim() == 0)
      fail<ShapeError>("vecdot", "wants at least 1 axis on both sides, got shapes {} and {}", a.shape(),
                       b.shape());
    normalize_axis(axis, std::min(a.ndim(), b.ndim()), "vecdot");
  }
  const int64_t i = normalize_axis(axis, a.ndim(), "vecdot"), j = normalize_axis(axis, b.ndim(), "vecdot");
  const Array x = moveaxis(a, i, a.ndim() - 1), y = moveaxis(b, j, b.ndim() - 1);
  if (x.shape(-1) != y.shape(-1)) {
    fail<ShapeError>("vecdot", "lengths differ along axis {}: {} and {}", axis, a.shape(), b.shape());
  }
  return sum(multiply(is_complex(x.dtype()) ? conjugate(x) : x, y), Axes{-1});
}

Array median(const Array& a, const OptAxes& axes, bool keepdims) {
  const Axes at = normalize_axes(axes, a.ndim(), "median");
  const Dtype t = to_inexact(a.dtype());
  Axes order;
  int64_t length = 1;
  for (int64_t i = 0, j = 0; i < a.ndim(); ++i) {
    if (static_cast<size_t>(j) < at.size() && at[static_cast<size_t>(j)] == i) {
      length *= a.shape()[static_cast<size_t>(i)];
      ++j;
    } else {
      order.push_back(i);
    }
  }
  if (length == 0)
    fail<ShapeError>("median", "no median over axes {} of shape {}: they are empty", at, a.shape());
  Shape flat = drop_dims(a.shape(), at);
  for (int64_t i : at) order.push_back(i);
  flat.push_back(length);
  const Array sorted = sort(astype(reshape(transpose(a, order), flat), t), -1);
  Shape start(flat.size(), 0), stop = flat;
  start.back() = (length - 1) / 2;
  stop.back() = length / 2 + 1;
  const Array middle = mean(slice(sorted, start, stop), Axes{-1});
  // NaN sorts last: where one is, the median is NaN too.
  start.back() = length - 1;
  stop.back() = length;
  const Array top = squeeze(slice(sorted, start, stop), Axes{-1});
  const Array out = where(isnan(top), top, middle);
  return keepdims ? reshape(out, keep_dims(a.shape(), at)) : out;
}

Array count_nonzero(const Array& a, const OptAxes& axes, bool keepdims) {
  return sum(astype(not_equal(a, Array(int64_t{0}, a.dtype())), Dtype::kInt32), axes, keepdims);
}

Array at_least(const Array& a, int n) {
  if (a.ndim() >= n) return a;
  if (a.ndim() == 0) return reshape(a, Shape(static_cast<size_t>(n), 1));
  if (n == 2) return expand_dims(a, {0});
  return a.ndim() == 1 ? expand_dims(a, {0, 2}) : expand_dims(a, {2});
}

std::vector<Array> meshgrid(std::span<const Array> arrays, bool sparse, bool matrix_order) {
  const size_t n = arrays.size();
  std::vector<Array> out;
  for (size_t i = 0; i < n; ++i) {
    Shape shape(n, 1);
    const size_t at = !matrix_order && i < 2 && n > 1 ? 1 - i : i;
    shape[at] = arrays[i].size();
    out.push_back(reshape(arrays[i], shape));
  }
  return sparse ? out : broadcast_arrays(out);
}

namespace random {

Array laplace(const Shape& shape, Dtype dtype, double loc, double scale, const std::optional<Array>& key) {
  if (!is_floating(dtype)) fail<DtypeError>("laplace", "wants a floating dtype, got {}", dtype);
  const double edge = std::nextafter(-1.0f, 0.0f);
  const Dtype t = promote(dtype, Dtype::kFloat32);
  const Array u = uniform(Array(edge, t), Array(1.0, t), shape, t, key);
  const Array standard = multiply(sign(u), log1p(negative(abs(u))));
  return astype(add(multiply(standard, constant(scale, t)), constant(loc, t)), dtype);
}

}  // namespace random

namespace fast {

Array cross_entropy(const Array& logits, const Array& targets) {
  if (logits.ndim() < 1) fail<ShapeError>("cross_entropy", "logits want at least 1 axis, got shape ()");
  if (!is_floating(logits.dtype())) {
    fail<DtypeError>("cross_entropy", "logits must be floating, got {}", logits.dtype());
  }
  const Shape rows(logits.shape().begin(), logits.shape().end() - 1);
  if (targets.shape() != rows || !is_integer(targets.dtype())) {
    fail<ShapeError>("cross_entropy", "logits of {} want integer targets of {}, got {} of {}", logits.shape(),
                     rows, targets.dtype(), targets.shape());
  }
  const Array x = astype(logits, promote(logits.dtype(), Dtype::kFloat32));
  const Array picked = squeeze(take_along_axis(x, expand_dims(targets, {-1}), -1), Axes{-1});
  return subtract(logsumexp(x, Axes{-1}), picked);
}

}  // namespace fast

}  // namespace lamina
