#include <fmt/format.h>

#include "bindings/ops.h"

namespace lamina::bind {
namespace {

// tensordot's axes: a count, or two lists.
std::pair<Axes, Axes> contracted_axes(const Any& any, const Array& a) {
  Axes left, right;
  if (const std::optional<int64_t> n = as_integer(any.object)) {
    if (*n < 0) throw ValueError(fmt::format("[tensordot] axes must not be negative, got {}", *n));
    for (int64_t i = 0; i < *n; ++i) {
      left.push_back(a.ndim() - *n + i);
      right.push_back(i);
    }
    return {left, right};
  }
  const auto items = as_items(any.object);
  if (!items || items->size() != 2) any.wrong();
  const std::optional<Axes> l = as_integers((*items)[0].ptr()), r = as_integers((*items)[1].ptr());
  if (!l || !r) any.wrong();
  return {*l, *r};
}

void add_products(const Scope& core) {
  def(core, "matmul(a: array, b: array, /, *, stream: StreamOrDevice = None) -> array",
      "The matrix product over the last two axes; leading axes are batches and broadcast.\n"
      "@raises ValueError Where the inner dimensions differ.\n"
      ">>> mx.matmul(mx.array([[1.0, 2.0]]), mx.array([[3.0], [4.0]]))\narray([[11]], dtype=float32)\n",
      [](const Array& a, const Array& b) { return matmul(a, b); });
  def(core,
      "addmm(c: array, a: array, b: array, /, alpha: float = 1.0, beta: float = 1.0, *, stream: "
      "StreamOrDevice = None) "
      "-> array",
      "alpha * (a @ b) + beta * c.\n@c Array that broadcasts to the product.\n@b Second factor.\n@alpha "
      "Factor of the product.\n"
      "@beta Factor of c.\n@raises ValueError Where shapes do not fit.\n"
      ">>> mx.addmm(mx.array([1.0]), mx.array([[1.0, 2.0]]), mx.array([[3.0], [4.0]]))\narray([[12]], "
      "dtype=float32)\n",
      [](const Array& c, const Array& a, const Array& b, double alpha, double beta) {
        return addmm(c, a, b, static_cast<float>(alpha), static_cast<float>(beta));
      });
  def(core, "inner(a: array, b: array, /, *, stream: StreamOrDevice = None) -> array",
      "The sum of products over the last axes.\n@b Second input, its last axis as long as the first's.\n"
      "@raises ValueError Where the last axes differ in length.\n"
      ">>> mx.inner(mx.array([1.0, 2.0]), mx.array([3.0, 4.0]))\narray(11, dtype=float32)\n",
      [](const Array& a, const Array& b) { return inner(a, b); });
  def(core, "outer(a: array, b: array, /, *, stream: StreamOrDevice = None) -> array",
      "All products of an element of `a` and one of `b`, both flattened.\n@b Second input.\n"
      ">>> mx.outer(mx.array([1, 2]), mx.array([3, 4]))\narray([[3, 4],\n       [6, 8]], dtype=int32)\n",
      [](const Array& a, const Array& b) { return outer(a, b); });
  def(core,
      "tensordot(a: array, b: array, /, axes: int | Sequence[Sequence[int]] = 2, *, stream: StreamOrDevice = "
      "None) -> "
      "array",
      "The sum of products over pairs of axes.\n@b Second input.\n"
      "@axes Two lists of axes, or n for the last n of `a` and the first n of `b`.\n"
      "@raises ValueError Where the axes differ in length.\n"
      ">>> mx.tensordot(mx.ones((2, 3)), mx.ones((3, 4)), axes=1).shape\n(2, 4)\n",
      [](const Array& a, const Array& b, Any axes) {
        const auto [left, right] = contracted_axes(axes, a);
        return tensordot(a, b, left, right);
      });
  def(core, "vecdot(a: array, b: array, /, *, axis: int = -1, stream: StreamOrDevice = None) -> array",
      "The dot product along an axis, the first input conjugated.\n@raises ValueError Where the axes differ "
      "in length.\n"
      ">>> mx.vecdot(mx.array([1, 2]), mx.array([3, 4]))\narray(11, dtype=int32)\n",
      [](const Array& a, const Array& b, int64_t axis) { return vecdot(a, b, axis); });
  def(core, "kron(a: array, b: array, *, stream: StreamOrDevice = None) -> array",
      "The Kronecker product.\n@b Second input.\n>>> mx.kron(mx.array([1, 2]), mx.array([1, 10]))\narray([1, "
      "10, 2, 20], dtype=int32)\n",
      [](const Array& a, const Array& b) { return kron(a, b); });
  def(core,
      "gather_mm(a: array, b: array, /, lhs_indices: array | None = None, rhs_indices: array | None = None, "
      "*, "
      "sorted_indices: bool = False, stream: StreamOrDevice = None) -> array",
      "The matrix product of matrices picked from the batches.\n@b Second factor.\n"
      "@lhs_indices Flat indices into the batch of `a`; all of it by default.\n"
      "@rhs_indices Flat indices into the batch of `b`; all of it by default.\n"
      "@sorted_indices Whether the indices ascend; the result is the same.\n@raises ValueError Where shapes "
      "do not fit.\n"
      ">>> mx.gather_mm(mx.ones((1, 2, 3)), mx.ones((5, 3, 4)), rhs_indices=mx.array([4, 0])).shape\n(2, 2, "
      "4)\n",
      [](const Array& a, const Array& b, const std::optional<Array>& left, const std::optional<Array>& right,
         bool) { return gather_mm(a, b, left, right); });
}

}  // namespace

void add_linear_algebra(const Scope& core) {
  add_products(core);
  def(core,
      "hadamard_transform(a: array, scale: float | None = None, stream: StreamOrDevice = None) -> array",
      "The product of a Hadamard matrix and the last axis, whose length is m * 2^k with m in (1, 12, 20, "
      "28).\n"
      "@a Array of shape (..., N).\n@scale Factor of the result; 1 / sqrt(N) by default: orthogonal.\n"
      "@raises ValueError For another length, an empty array or complex numbers.\n"
      ">>> mx.hadamard_transform(mx.array([1.0, 2.0]), scale=1.0)\narray([3, -1], dtype=float32)\n",
      [](const Array& a, std::optional<double> scale) { return hadamard_transform(a, scale); });
}

}  // namespace lamina::bind
