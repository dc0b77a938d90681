#include "ops/common.h"

namespace lamina {
namespace {

Shape batch_of(const Array& a) { return Shape(a.shape().begin(), a.shape().end() - 2); }

Array with_batch(const Array& a, const Shape& batch) {
  Shape shape = batch;
  shape.push_back(a.shape(-2));
  shape.push_back(a.shape(-1));
  return broadcast_to(a, shape);
}

}  // namespace

Array matmul(const Array& a, const Array& b) {
  if (a.ndim() == 0 || b.ndim() == 0) {
    fail<ShapeError>("matmul", "wants at least 1 axis on both sides, got shapes {} and {}", a.shape(),
                     b.shape());
  }
  const Dtype t = promote(a.dtype(), b.dtype());
  const Array x = a.ndim() == 1 ? expand_dims(a, {0}) : a;
  const Array y = b.ndim() == 1 ? expand_dims(b, {1}) : b;
  if (x.shape(-1) != y.shape(-2)) {
    fail<ShapeError>("matmul", "inner dimensions differ: {} and {}", a.shape(), b.shape());
  }
  Shape shape;
  try {
    shape = broadcast_shapes(batch_of(x), batch_of(y), "matmul");
  } catch (const ShapeError&) {
    fail<ShapeError>("matmul", "batches of {} and {} do not broadcast", a.shape(), b.shape());
  }
  const Array p = with_batch(astype(x, t), shape), q = with_batch(astype(y, t), shape);
  shape.push_back(x.shape(-2));
  shape.push_back(y.shape(-1));
  const Array out = make_node(OpId::Matmul, t, shape, {p, q});
  Axes drop;
  if (a.ndim() == 1) drop.push_back(-2);
  if (b.ndim() == 1) drop.push_back(-1);
  return drop.empty() ? out : squeeze(out, drop);
}

Array addmm(const Array& c, const Array& a, const Array& b, float alpha, float beta) {
  Array product = matmul(a, b);
  const Dtype t = promote(c.dtype(), product.dtype());
  if (!broadcasts_to(c.shape(), product.shape())) {
    fail<ShapeError>("addmm", "c of shape {} does not broadcast to the product's {}", c.shape(),
                     product.shape());
  }
  product = astype(product, t);
  if (alpha != 1) product = multiply(product, weak_scalar(static_cast<double>(alpha), t));
  Array bias = astype(c, t);
  if (beta != 1) bias = multiply(bias, weak_scalar(static_cast<double>(beta), t));
  return add(product, bias);
}

Array tensordot(const Array& a, const Array& b, const Axes& axes_a, const Axes& axes_b) {
  if (axes_a.size() != axes_b.size()) {
    fail<ValueError>("tensordot", "wants as many axes on both sides, got {} and {}", axes_a, axes_b);
  }
  auto arrange = [](const Array& x, const Axes& axes, bool contracted_first) {
    normalize_axes(axes, x.ndim(), "tensordot");
    Axes inner, outer;
    Shape kept;
    int64_t size = 1;
    for (int64_t i : axes) {
      inner.push_back(normalize_axis(i, x.ndim(), "tensordot"));
      size *= x.shape()[static_cast<size_t>(inner.back())];
    }
    for (int64_t i = 0; i < x.ndim(); ++i) {
      if (std::find(inner.begin(), inner.end(), i) != inner.end()) continue;
      outer.push_back(i);
      kept.push_back(x.shape()[static_cast<size_t>(i)]);
    }
    Axes perm = contracted_first ? inner : outer;
    for (int64_t i : contracted_first ? outer : inner) perm.push_back(i);
    const int64_t rest = num_elements(kept);
    const Shape flat = contracted_first ? Shape{size, rest} : Shape{rest, size};
    return std::pair(reshape(transpose(x, perm), flat), kept);
  };
  for (size_t i = 0; i < axes_a.size(); ++i) {
    if (a.shape(static_cast<int>(axes_a[i])) != b.shape(static_cast<int>(axes_b[i]))) {
      fail<ShapeError>("tensordot", "axes {} of {} and {} of {} differ in length", axes_a, a.shape(), axes_b,
                       b.shape());
    }
  }
  const auto [x, left] = arrange(a, axes_a, false);
  const auto [y, right] = arrange(b, axes_b, true);
  Shape shape = left;
  for (int64_t d : right) shape.push_back(d);
  return reshape(matmul(x, y), shape);
}

Array inner(const Array& a, const Array& b) {
  if (a.ndim() == 0 || b.ndim() == 0) return multiply(a, b);
  return tensordot(a, b, {-1}, {-1});
}

Array outer(const Array& a, const Array& b) {
  return multiply(expand_dims(reshape(a, {-1}), {1}), reshape(b, {-1}));
}

}  // namespace lamina
