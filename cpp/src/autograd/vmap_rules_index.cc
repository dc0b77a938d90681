#include <algorithm>

#include "autograd/vmap.h"

// Gather and scatter. A mapped array indexed by unmapped indices keeps its mapped axis as one more whole axis
// of the slices; mapped indices of a mapped array are joined by an index that counts the examples.
namespace lamina::autograd {
namespace {

bool any_from(const std::vector<bool>& flags, size_t first) {
  return std::find(flags.begin() + static_cast<std::ptrdiff_t>(first), flags.end(), true) != flags.end();
}

// 0, 1, ... along the mapped axis, for indices that have `rank` axes in one example.
Array example_numbers(const BatchCall& b, const Shape& index) {
  const Array line = arange(0, b.size, 1, b.size <= INT32_MAX ? Dtype::kInt32 : Dtype::kInt64);
  Shape column(index.size() + 1, 1);
  column[0] = b.size;
  return broadcast_to(reshape(line, column), in_front(b.size, index));
}

// Index operands from `first` on, mapped axis in front.
Arrays mapped_indices(const BatchCall& b, size_t first) {
  Arrays out;
  for (size_t i = first; i < b.call.in.size(); ++i) out.push_back(operand(b, i));
  return out;
}

Array gather_node(const Array& a, Arrays indices, const Shape& index_shape, const GatherParams& p) {
  Shape shape = index_shape;
  for (int64_t d : p.slice_sizes) shape.push_back(d);
  indices.insert(indices.begin(), a);
  return make_node(OpId::Gather, a.dtype(), shape, indices, make_params(p));
}

Arrays gather_rule(const BatchCall& b) {
  const auto& p = b.call.node.as<GatherParams>();
  const Array& a = b.call.in[0];
  const Shape index = b.call.in.size() > 1 ? example_shape(b, 1) : Shape{};
  const auto index_rank = static_cast<int64_t>(index.size());
  if (!any_from(b.batched, 1)) {
    const Arrays indices(b.call.in.begin() + 1, b.call.in.end());
    const GatherParams whole{shifted(p.axes), in_front(b.size, p.slice_sizes)};
    return {moveaxis(gather_node(a, indices, index, whole), index_rank, 0)};
  }
  Arrays indices = mapped_indices(b, 1);
  const Shape wide = in_front(b.size, index);
  if (!b.batched[0]) return {gather_node(a, indices, wide, p)};
  GatherParams joined{shifted(p.axes), in_front(1, p.slice_sizes)};
  joined.axes.insert(joined.axes.begin(), 0);
  indices.insert(indices.begin(), example_numbers(b, index));
  return {squeeze(gather_node(a, indices, wide, joined), Axes{index_rank + 1})};
}

Array scatter_node(const Array& a, const Array& updates, const Arrays& indices, const ScatterParams& p) {
  Arrays in{a, updates};
  in.insert(in.end(), indices.begin(), indices.end());
  return make_node(OpId::Scatter, a.dtype(), a.shape(), in, make_params(p));
}

Arrays scatter_rule(const BatchCall& b) {
  const auto& p = b.call.node.as<ScatterParams>();
  const Array a = operand(b, 0), updates = operand(b, 1);
  const int64_t index_rank = updates.ndim() - a.ndim();
  ScatterParams wide{shifted(p.axes), p.mode};
  if (!any_from(b.batched, 2)) {
    const Arrays indices(b.call.in.begin() + 2, b.call.in.end());
    return {scatter_node(a, moveaxis(updates, 0, index_rank), indices, wide)};
  }
  wide.axes.insert(wide.axes.begin(), 0);
  Arrays indices = mapped_indices(b, 2);
  indices.insert(indices.begin(), example_numbers(b, example_shape(b, 2)));
  return {scatter_node(a, expand_dims(updates, {index_rank + 1}), indices, wide)};
}

}  // namespace

BatchRule indexing_batch_rule(OpId op) {
  if (op == OpId::Gather) return gather_rule;
  return op == OpId::Scatter ? scatter_rule : nullptr;
}

}  // namespace lamina::autograd
