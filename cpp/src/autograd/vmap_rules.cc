#include <array>

#include "autograd/vmap.h"

namespace lamina::autograd {

Shape in_front(int64_t size, const Shape& shape) {
  Shape out{size};
  for (int64_t d : shape) out.push_back(d);
  return out;
}

Axes shifted(const Axes& axes) {
  Axes out = axes;
  for (int64_t& a : out) ++a;
  return out;
}

Shape example_shape(const BatchCall& b, size_t i) {
  const Shape& shape = b.call.in[i].shape();
  return b.batched[i] ? Shape(shape.begin() + 1, shape.end()) : shape;
}

Array operand(const BatchCall& b, size_t i) {
  const Array& a = b.call.in[i];
  return b.batched[i] ? a : broadcast_to(a, in_front(b.size, a.shape()));
}

Arrays operands(const BatchCall& b) {
  Arrays out;
  for (size_t i = 0; i < b.call.in.size(); ++i) out.push_back(operand(b, i));
  return out;
}

namespace {

// The node again, over a mapped axis that its parameters do not see.
Arrays over(const BatchCall& b, std::span<const Array> in, Ref<Params> params) {
  const Node& n = b.call.node;
  return {make_node(n.op, n.dtype, in_front(b.size, n.shape), in, std::move(params))};
}

// Mapped operand i with axes of length 1 behind the mapped one, so that an example has `rank` axes.
Array of_rank(const BatchCall& b, size_t i, size_t rank) {
  const Array& a = b.call.in[i];
  Axes fresh;
  for (size_t k = a.shape().size(); k <= rank; ++k) fresh.push_back(static_cast<int64_t>(fresh.size()) + 1);
  return expand_dims(a, fresh);
}

Arrays elementwise_rule(const BatchCall& b) {
  Arrays in = b.call.in;
  for (size_t i = 0; i < in.size(); ++i) {
    if (b.batched[i]) in[i] = of_rank(b, i, b.call.node.shape.size());
  }
  return over(b, in, b.call.node.params);
}

// ---- views ----

Arrays identity_rule(const BatchCall& b) { return b.call.in; }
Arrays stop_gradient_rule(const BatchCall& b) { return {stop_gradient(b.call.in[0])}; }
Arrays contiguous_rule(const BatchCall& b) { return {contiguous(b.call.in[0])}; }
Arrays depends_rule(const BatchCall& b) {
  Arrays in = b.call.in;
  in[0] = operand(b, 0);
  return over(b, in, nullptr);
}
Arrays broadcast_rule(const BatchCall& b) {
  const Shape& shape = b.call.node.shape;
  return {broadcast_to(of_rank(b, 0, shape.size()), in_front(b.size, shape))};
}
Arrays transpose_rule(const BatchCall& b) {
  Axes axes = shifted(b.call.node.as<AxesParams>().axes);
  axes.insert(axes.begin(), 0);
  return {transpose(b.call.in[0], axes)};
}
Arrays reshape_rule(const BatchCall& b) {
  return {reshape(b.call.in[0], in_front(b.size, b.call.node.shape))};
}
Arrays view_rule(const BatchCall& b) { return {view(b.call.in[0], b.call.node.dtype)}; }

Arrays as_strided_rule(const BatchCall& b) {
  const auto& p = b.call.node.as<AsStridedParams>();
  Strides strides = p.strides;
  strides.insert(strides.begin(), num_elements(example_shape(b, 0)));
  return {as_strided(b.call.in[0], in_front(b.size, b.call.node.shape), strides, p.offset)};
}

// Slice and slice update: the whole mapped axis.
template <class P>
Arrays box_rule(const BatchCall& b) {
  P p = b.call.node.as<P>();
  p.start.insert(p.start.begin(), 0);
  p.strides.insert(p.strides.begin(), 1);
  return over(b, operands(b), make_params(p));
}

// ---- ops along axes ----

Arrays axes_rule(const BatchCall& b) {
  return over(b, b.call.in, make_params(AxesParams{shifted(b.call.node.as<AxesParams>().axes)}));
}

template <class P>
Arrays axis_rule(const BatchCall& b) {
  P p = b.call.node.as<P>();
  p.axis += 1;
  return over(b, operands(b), make_params(p));
}

// The kernel draws for every key of an array of keys.
Arrays random_bits_rule(const BatchCall& b) { return over(b, b.call.in, b.call.node.params); }

BatchRule plain_rule(OpId op) {
  switch (op) {
    case OpId::Identity: return identity_rule;
    case OpId::StopGradient: return stop_gradient_rule;
    case OpId::Contiguous: return contiguous_rule;
    case OpId::Depends: return depends_rule;
    case OpId::Broadcast: return broadcast_rule;
    case OpId::Transpose: return transpose_rule;
    case OpId::Reshape: return reshape_rule;
    case OpId::ViewAs: return view_rule;
    case OpId::AsStrided: return as_strided_rule;
    case OpId::Slice: return box_rule<SliceParams>;
    case OpId::SliceUpdate: return box_rule<SliceUpdateParams>;
    case OpId::ExpandDims:
    case OpId::Squeeze: return axes_rule;
    case OpId::Concatenate:
    case OpId::Sort:
    case OpId::ArgSort:
    case OpId::GatherAxis: return axis_rule<AxisParams>;
    case OpId::ScatterAxis: return axis_rule<ScatterAxisParams>;
    case OpId::ArgReduce: return axis_rule<ArgReduceParams>;
    case OpId::Scan: return axis_rule<ScanParams>;
    case OpId::Fft: return axis_rule<FftParams>;
    case OpId::RandomBits: return random_bits_rule;
    default: break;
  }
  if (is_elementwise(op)) return elementwise_rule;
  return op_info(op).family == Family::kReduce ? axes_rule : nullptr;
}

BatchRule rule_of(OpId op) {
  for (BatchRule rule : {plain_rule(op), indexing_batch_rule(op), matrix_batch_rule(op)}) {
    if (rule) return rule;
  }
  return batch_by_loop;
}

// Outputs over no example at all: nothing is to be computed, whatever the op.
Arrays empty_outputs(const Node& n) {
  if (!n.results) return {zeros(in_front(0, n.shape), n.dtype)};
  Arrays out;
  for (const auto& one : n.results->items) out.push_back(zeros(in_front(0, one.shape), one.dtype));
  return out;
}

Array example(const Array& a, int64_t i) {
  Shape start(a.shape().size(), 0), stop = a.shape();
  start[0] = i;
  stop[0] = i + 1;
  return squeeze(slice(a, start, stop), Axes{0});
}

}  // namespace

Arrays batch_by_loop(const BatchCall& b) {
  std::vector<Arrays> by_output;
  for (int64_t i = 0; i < b.size; ++i) {
    Arrays in = b.call.in;
    for (size_t k = 0; k < in.size(); ++k) {
      if (b.batched[k]) in[k] = example(in[k], i);
    }
    const Arrays outs = rebuild(b.call, in);
    by_output.resize(outs.size());
    for (size_t k = 0; k < outs.size(); ++k) by_output[k].push_back(outs[k]);
  }
  Arrays out;
  for (const Arrays& examples : by_output) out.push_back(stack(examples));
  return out;
}

Arrays batch(const BatchCall& b) { return b.size == 0 ? empty_outputs(b.call.node) : rule_of(b.call.op)(b); }

}  // namespace lamina::autograd
