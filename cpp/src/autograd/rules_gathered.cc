#include "autograd/vmap.h"
#include "quant/formats.h"

// Products with matrices that indices pick from a batch: operands are x (..., M, K), the parts of the batch,
// and indices (...).
namespace lamina::autograd {
namespace {

// `rows` is their number, which no -1 says where rows are empty.
Array as_rows(const Array& a, int64_t rows) { return reshape(a, {rows, a.shape(-1)}); }

// The indices as int64, counted from the front. Evaluating them throws for one that is out of bounds, which
// nothing else would find.
Array from_front(const Array& indices, int64_t matrices) {
  return take(arange(0, matrices, 1, Dtype::kInt64), indices, 0);
}

// For each of the matrices, the sum of adjoint(a) b over the problems that pick it: their rows follow one
// another once they are sorted, and are a range of the inner axis of one product.
Array sums_by_matrix(const Array& a, const Array& b, const Array& indices, int64_t matrices) {
  Shape shape = indices.shape();
  shape.push_back(a.shape(-2));
  const Array of_row = reshape(broadcast_to(expand_dims(from_front(indices, matrices), {-1}), shape), {-1});
  const Array order = argsort(of_row, 0);
  const Array sorted = take(of_row, order, 0);
  const Array numbers = arange(0, matrices, 1, Dtype::kInt64);
  const Array bounds[] = {searchsorted(sorted, numbers), searchsorted(sorted, numbers, true)};
  const int64_t rows = of_row.size();
  return segmented_mm(adjoint(take(as_rows(a, rows), order, 0)), take(as_rows(b, rows), order, 0),
                      stack(bounds, -1));
}

}  // namespace

Arrays gather_matmul_rule(const OpCall& c, const Arrays& g, const std::vector<bool>& wants) {
  const Array &a = c.in[0], &b = c.in[1], &indices = c.in[2];
  Arrays out(3);
  if (wants[0]) out[0] = gather_mm(g[0], adjoint(b), std::nullopt, indices);
  if (wants[1]) out[1] = sums_by_matrix(a, g[0], indices, b.shape(0));
  return out;
}

Arrays gather_quantized_rule(const OpCall& c, const Arrays& g, const std::vector<bool>& wants) {
  const auto& p = c.node.as<QuantParams>();
  const Array &x = c.in[0], &w = c.in[1], &indices = c.in.back();
  Arrays out(c.in.size());
  const auto factors = std::span(c.in).first(c.in.size() - 1);
  if (wants[0]) {
    out[0] = gather_qmm(g[0], w, input_at(factors, 2), input_at(factors, 3), std::nullopt, indices, p.spec(),
                        !p.transpose);
  }
  if (!has_byte_scales("gather_qmm", p, wants, 2) && (wants[2] || wants[3])) {
    const Array dw = p.transpose ? sums_by_matrix(g[0], x, indices, w.shape(0))
                                 : sums_by_matrix(x, g[0], indices, w.shape(0));
    std::tie(out[2], out[3]) = group_gradients(dw, w, c.in[2], p.group_size, p.bits);
  }
  return out;
}

// Mapped matrices follow one another along the axis that is picked from.
Arrays gathered_batch_rule(const BatchCall& b) {
  const Node& n = b.call.node;
  const size_t last = b.call.in.size() - 1;
  Arrays in = b.call.in;
  in[0] = operand(b, 0);
  in[last] = operand(b, last);
  if (std::find(b.batched.begin() + 1, b.batched.end() - 1, true) != b.batched.end() - 1) {
    const int64_t matrices = example_shape(b, 1)[0];
    for (size_t i = 1; i < last; ++i) {
      const Array all = operand(b, i);
      in[i] = reshape(all, {b.size * matrices, all.shape(-2), all.shape(-1)});
    }
    Shape first(in[last].shape().size(), 1);
    first[0] = b.size;
    const Array offsets = multiply(arange(0, b.size, 1, Dtype::kInt64), Array(matrices, Dtype::kInt64));
    in[last] = add(from_front(in[last], matrices), reshape(offsets, first));
  }
  return {make_node(n.op, n.dtype, in_front(b.size, n.shape), in, n.params)};
}

}  // namespace lamina::autograd
