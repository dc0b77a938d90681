#include <cmath>

#include "ops/common.h"

namespace lamina {
namespace {

void check_lengths(const Shape& shape, const char* op) {
  for (int64_t d : shape) {
    if (d < 0) fail<ShapeError>(op, "lengths must not be negative, got shape {}", shape);
  }
  num_elements(shape);  // throws where the product overflows
}

int64_t count_steps(double start, double stop, double step) {
  if (!(step != 0) || !std::isfinite(start) || !std::isfinite(stop) || !std::isfinite(step)) {
    fail<ValueError>("arange", "wants finite start and stop and a finite step that is not 0, got {}, {}, {}",
                     start, stop, step);
  }
  const double n = std::ceil((stop - start) / step);
  if (n >= 0x1p62) fail<ValueError>("arange", "{} values do not fit an array", n);
  return n > 0 ? static_cast<int64_t>(n) : 0;
}

Array arange_node(int64_t n, Dtype dtype, const ArangeParams& p) {
  return make_node(OpId::Arange, dtype, Shape{n}, {}, make_params(p));
}

}  // namespace

Array full(const Shape& shape, const Array& value, std::optional<Dtype> dtype) {
  check_lengths(shape, "full");
  return broadcast_to(astype(value, dtype.value_or(value.dtype())), shape);
}
Array zeros(const Shape& shape, Dtype dtype) { return full(shape, Array(int64_t{0}, dtype)); }
Array ones(const Shape& shape, Dtype dtype) { return full(shape, Array(int64_t{1}, dtype)); }
Array full_like(const Array& a, const Array& value, std::optional<Dtype> dtype) {
  return full(a.shape(), value, dtype.value_or(a.dtype()));
}
Array zeros_like(const Array& a, std::optional<Dtype> dtype) {
  return zeros(a.shape(), dtype.value_or(a.dtype()));
}
Array ones_like(const Array& a, std::optional<Dtype> dtype) {
  return ones(a.shape(), dtype.value_or(a.dtype()));
}

Array arange(double start, double stop, double step, Dtype dtype) {
  if (dtype == Dtype::kBool) fail<DtypeError>("arange", "not defined for dtype bool");
  ArangeParams p{start, step, static_cast<int64_t>(start), static_cast<int64_t>(step)};
  const int64_t n = count_steps(start, stop, step);
  if (is_integer(dtype) && (std::trunc(start) != start || std::trunc(step) != step)) {
    return astype(arange_node(n, Dtype::kFloat64, p), dtype);
  }
  return arange_node(n, dtype, p);
}

Array arange(int64_t start, int64_t stop, int64_t step, Dtype dtype) {
  if (dtype == Dtype::kBool) fail<DtypeError>("arange", "not defined for dtype bool");
  if (step == 0) fail<ValueError>("arange", "step must not be 0");
  const auto width = static_cast<uint64_t>(step > 0 ? stop - start : start - stop);
  const auto size = static_cast<uint64_t>(step > 0 ? step : -step);
  const bool empty = step > 0 ? stop <= start : stop >= start;
  const int64_t n = empty ? 0 : static_cast<int64_t>((width - 1) / size + 1);
  return arange_node(n, dtype, {static_cast<double>(start), static_cast<double>(step), start, step});
}

Array linspace(double start, double stop, int64_t num, Dtype dtype) {
  if (num < 0) fail<ValueError>("linspace", "num must not be negative, got {}", num);
  if (num == 1) return astype(full({1}, Array(start, Dtype::kFloat64)), dtype);
  const double step = (stop - start) / static_cast<double>(num - 1);
  const Array line = arange_node(num, Dtype::kFloat64, {start, step, 0, 1});
  // The last value is stop itself, whatever the steps' rounding adds up to.
  const Array last = equal(arange(0, num, 1, Dtype::kInt64), Array(num - 1, Dtype::kInt64));
  return astype(where(last, Array(stop, Dtype::kFloat64), line), dtype);
}

namespace {
// row index against column index + k, as columns of a table of booleans.
std::pair<Array, Array> row_and_column(int64_t n, int64_t m, int64_t k, const char* op) {
  check_lengths({n, m}, op);
  return {expand_dims(arange(k, n + k, 1, Dtype::kInt64), {1}), arange(0, m, 1, Dtype::kInt64)};
}
}  // namespace

Array eye(int64_t n, int64_t m, int64_t k, Dtype dtype) {
  const auto [row, column] = row_and_column(n, m, k, "eye");
  return astype(equal(row, column), dtype);
}

Array tri(int64_t n, int64_t m, int64_t k, Dtype dtype) {
  const auto [row, column] = row_and_column(n, m, k, "tri");
  return astype(greater_equal(row, column), dtype);
}

namespace {
Array triangle(const Array& a, int64_t k, bool lower) {
  const char* op = lower ? "tril" : "triu";
  if (a.ndim() < 2) fail<ShapeError>(op, "wants at least 2 axes, got shape {}", a.shape());
  const auto [row, column] = row_and_column(a.shape(-2), a.shape(-1), k, op);
  const Array keep = lower ? greater_equal(row, column) : less_equal(row, column);
  return where(keep, a, Array(int64_t{0}, a.dtype()));
}
}  // namespace

Array tril(const Array& a, int64_t k) { return triangle(a, k, true); }
Array triu(const Array& a, int64_t k) { return triangle(a, k, false); }

}  // namespace lamina
