#include <cmath>

#include "lamina/linalg.h"
#include "ops/common.h"

namespace lamina::linalg {
namespace {

constexpr const char* kOp = "linalg::norm";

int64_t axis_in_range(int64_t axis, const Array& a, const char* op) {
  if (axis < -a.ndim() || axis >= a.ndim()) {
    fail<IndexError>(op, "axis {} is out of bounds for an array of shape {}", axis, a.shape());
  }
  return axis < 0 ? axis + a.ndim() : axis;
}

Array magnitude(const Array& a) { return abs(astype(a, to_inexact(a.dtype()))); }

// Root of the sum of squares.
Array euclidean(const Array& a, const Axes& axes, bool keepdims) {
  return sqrt(sum(square(magnitude(a)), axes, keepdims));
}

Array vector_norm(const Array& a, double order, int64_t axis, bool keepdims) {
  const OptAxes axes = Axes{axis};
  const Array x = magnitude(a);
  if (order == 0) return astype(sum(not_equal(x, Array(int64_t{0}, x.dtype())), axes, keepdims), x.dtype());
  if (order == 1) return sum(x, axes, keepdims);
  if (order == 2) return euclidean(a, Axes{axis}, keepdims);
  if (std::isinf(order)) return order > 0 ? max(x, axes, keepdims) : min(x, axes, keepdims);
  const Array exponent = weak_scalar(order, x.dtype());
  return power(sum(power(x, exponent), axes, keepdims), weak_scalar(1 / order, x.dtype()));
}

Array restore(const Array& reduced, const Axes& axes, bool keepdims) {
  Axes sorted = axes;
  std::sort(sorted.begin(), sorted.end());
  return keepdims ? expand_dims(reduced, sorted) : reduced;
}

// Norms of the singular values: "nuc", 2 and -2.
template <class Reduce>
Array spectral_norm(const Array& a, const Axes& axes, bool keepdims, const Reduce& reduce) {
  const Dtype t = to_inexact(a.dtype());
  const bool narrow = t == Dtype::kFloat16 || t == Dtype::kBFloat16;
  Axes perm;
  for (int64_t i = 0; i < a.ndim(); ++i) {
    if (i != axes[0] && i != axes[1]) perm.push_back(i);
  }
  for (int64_t i : axes) perm.push_back(i);
  const Array matrices = transpose(astype(a, narrow ? Dtype::kFloat32 : t), perm);
  const Array values = reduce(svd(matrices, false)[0]);
  return restore(narrow ? astype(values, t) : values, axes, keepdims);
}

// Extremum over one axis of the sums of magnitudes over the other.
Array sum_norm(const Array& a, int64_t summed, int64_t other, bool largest, bool keepdims) {
  const Array sums = sum(magnitude(a), Axes{summed}, true);
  const Array out = largest ? max(sums, Axes{other}, true) : min(sums, Axes{other}, true);
  return keepdims ? out : squeeze(out, Axes{std::min(summed, other), std::max(summed, other)});
}

Array matrix_norm(const Array& a, double order, const Axes& axes, bool keepdims) {
  if (axes[0] == axes[1]) fail<ValueError>(kOp, "axes {} name an axis twice", axes);
  if (std::isinf(order)) return sum_norm(a, axes[1], axes[0], order > 0, keepdims);
  if (order == 1 || order == -1) return sum_norm(a, axes[0], axes[1], order > 0, keepdims);
  if (order == 2 || order == -2) {
    return spectral_norm(a, axes, keepdims,
                         [order](const Array& s) { return order > 0 ? max(s, Axes{-1}) : min(s, Axes{-1}); });
  }
  fail<ValueError>(kOp, "wants ord 1, -1, 2, -2, inf or -inf for matrices, got {}", order);
}

Array named_norm(const Array& a, const std::string& name, const Axes& axes, bool keepdims) {
  if (axes.size() != 2) {
    fail<ValueError>(kOp, "'{}' is a norm of matrices, but {} axes were given", name, axes.size());
  }
  if (name == "fro" || name == "f") return euclidean(a, axes, keepdims);
  if (name != "nuc") fail<ValueError>(kOp, "wants 'fro', 'nuc' or a number, got '{}'", name);
  return spectral_norm(a, axes, keepdims, [](const Array& s) { return sum(s, Axes{-1}); });
}

// Vectors of length 2 as vectors of length 3.
Array three_components(const Array& a, int64_t axis) {
  if (a.shape(static_cast<int>(axis)) == 3) return a;
  std::vector<std::pair<int64_t, int64_t>> widths(a.shape().size(), {0, 0});
  widths[static_cast<size_t>(axis)].second = 1;
  return pad(a, widths, Array(int64_t{0}, a.dtype()));
}

}  // namespace

Array norm(const Array& a, const NormOrder& order, const OptAxes& axes, bool keepdims) {
  const bool plain = !order.number && order.name.empty();
  Axes over;
  for (int64_t i = 0; !axes && i < a.ndim(); ++i) over.push_back(i);
  if (axes) {
    for (int64_t i : *axes) over.push_back(axis_in_range(i, a, kOp));
  }
  if (plain && (!axes || over.size() <= 2)) return euclidean(a, over, keepdims);
  if (!order.name.empty()) return named_norm(a, order.name, over, keepdims);
  if (over.size() == 1 && !plain) return vector_norm(a, *order.number, over[0], keepdims);
  if (over.size() == 2 && !plain) return matrix_norm(a, *order.number, over, keepdims);
  fail<ValueError>(kOp, "wants one axis for vectors or two for matrices, got {}", over.size());
}

Array cross(const Array& a, const Array& b, int64_t axis) {
  const char* op = "linalg::cross";
  if (a.ndim() == 0 || b.ndim() == 0)
    fail<IndexError>(op, "wants vectors, got {} and {}", a.shape(), b.shape());
  const Array x = moveaxis(a, axis_in_range(axis, a, op), -1),
              y = moveaxis(b, axis_in_range(axis, b, op), -1);
  for (const Array& v : {x, y}) {
    if (v.shape(-1) != 2 && v.shape(-1) != 3) {
      fail<ValueError>(op, "wants vectors of length 2 or 3 along the axis, got shapes {} and {}", a.shape(),
                       b.shape());
    }
  }
  const Dtype t = promote(a.dtype(), b.dtype());
  auto parts = [t](const Array& v) { return split(three_components(astype(v, t), v.ndim() - 1), 3, -1); };
  const std::vector<Array> u = parts(x), w = parts(y);
  auto component = [&](size_t i, size_t j) { return subtract(multiply(u[i], w[j]), multiply(u[j], w[i])); };
  const Array out[] = {component(1, 2), component(2, 0), component(0, 1)};
  const int64_t rank = std::max(a.ndim(), b.ndim());
  return moveaxis(concatenate(out, -1), -1, axis < 0 ? axis + rank : axis);
}

}  // namespace lamina::linalg
