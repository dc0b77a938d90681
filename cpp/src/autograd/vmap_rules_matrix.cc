#include <algorithm>

#include "autograd/vmap.h"

// Products, quantized formats and the ops of language models, which have a batch axis of their own.
namespace lamina::autograd {
namespace {

// Both operands have as many axes in one example: the unmapped one broadcasts over the mapped axis.
Arrays matmul_rule(const BatchCall& b) { return {matmul(b.call.in[0], b.call.in[1])}; }

Arrays quantize_rule(const BatchCall& b) {
  if (b.call.in.size() > 1) return batch_by_loop(b);  // a global scale serves all of a call's matrices
  return quantize(b.call.in[0], b.call.node.as<QuantParams>().spec());
}

Arrays dequantize_rule(const BatchCall& b) {
  const Arrays in = operands(b);
  const Node& n = b.call.node;
  const QuantSpec spec = n.as<QuantParams>().spec();
  if (spec.format == QuantFormat::kAffine) return {dequantize(in[0], in[1], in[2], spec)};
  if (in.size() > 2) return batch_by_loop(b);
  return {dequantize(in[0], input_at(in, 1), std::nullopt, spec, n.dtype)};
}

// x may stay as it is; of the matrix, all parts are mapped or none, behind x's batch axes.
Arrays quantized_matmul_rule(const BatchCall& b) {
  const auto& p = b.call.node.as<QuantParams>();
  Arrays in = b.call.in;
  if (std::find(b.batched.begin() + 1, b.batched.end(), true) != b.batched.end()) {
    const size_t x_rank = example_shape(b, 0).size(), w_rank = example_shape(b, 1).size();
    Axes between;
    for (size_t i = w_rank; i < x_rank; ++i) between.push_back(static_cast<int64_t>(between.size()) + 1);
    for (size_t i = 1; i < in.size(); ++i) in[i] = expand_dims(operand(b, i), between);
  }
  return {quantized_matmul(in[0], in[1], input_at(in, 2), input_at(in, 3), p.spec(), p.transpose, p.mode)};
}

// Every operand and output has batch axes in front: the mapped one becomes the first of them.
Arrays leading_batch_rule(const BatchCall& b) {
  const Node& n = b.call.node;
  const Arrays in = operands(b);
  if (!n.results) return {make_node(n.op, n.dtype, in_front(b.size, n.shape), in, n.params)};
  std::vector<Shape> shapes;
  std::vector<Dtype> dtypes;
  for (const auto& one : n.results->items) {
    shapes.push_back(in_front(b.size, one.shape));
    dtypes.push_back(one.dtype);
  }
  return make_tuple_node(n.op, shapes, dtypes, in, n.params);
}

// (N, B, ...) as (N * B, ...) and back.
Array folded(const Array& a) {
  Shape shape(a.shape().begin() + 1, a.shape().end());
  shape[0] *= a.shape()[0];
  return reshape(a, shape);
}
Array unfolded(const Array& a, int64_t size) {
  Shape shape = in_front(size, a.shape());
  shape[1] /= size;
  return reshape(a, shape);
}

// One offset for each of the N * B batches; one for all where that is what the op has.
Array rope_offset(const BatchCall& b) {
  const Array& offset = b.call.in[1];
  if (!b.batched[1] && offset.size() == 1) return offset;
  const Array table = b.batched[1] ? reshape(offset, {b.size, -1}) : offset;
  return reshape(broadcast_to(table, {b.size, b.call.node.shape[0]}), {-1});
}

Arrays rope_rule(const BatchCall& b) {
  const Node& n = b.call.node;
  if (n.as<RopeParams>().has_freqs && b.batched[2]) return batch_by_loop(b);
  Arrays in = b.call.in;
  in[0] = folded(operand(b, 0));
  in[1] = rope_offset(b);
  return {unfolded(make_node(n.op, n.dtype, in[0].shape(), in, n.params), b.size)};
}

// Attention and its gradients: every operand but the sinks, and every output, starts with the batch axis.
Arrays attention_rule(const BatchCall& b) {
  const Node& n = b.call.node;
  const auto& p = n.as<AttentionParams>();
  const size_t sinks = p.has_sinks ? (p.has_mask ? 4 : 3) : b.call.in.size();
  if (p.has_sinks && b.batched[sinks]) return batch_by_loop(b);
  Arrays in = b.call.in;
  for (size_t i = 0; i < in.size(); ++i) {
    if (i != sinks) in[i] = folded(operand(b, i));
  }
  // The backward kernel reads the log-sum-exp as dense memory.
  if (n.op == OpId::AttentionBackward) in[in.size() - 2] = contiguous(in[in.size() - 2]);
  std::vector<Shape> shapes;
  std::vector<Dtype> dtypes;
  for (const auto& one : n.results->items) {
    shapes.push_back(one.shape);
    shapes.back()[0] *= b.size;
    dtypes.push_back(one.dtype);
  }
  Arrays out = make_tuple_node(n.op, shapes, dtypes, in, n.params);
  for (Array& a : out) a = unfolded(a, b.size);
  return out;
}

}  // namespace

BatchRule matrix_batch_rule(OpId op) {
  switch (op) {
    case OpId::Matmul: return matmul_rule;
    case OpId::SegmentedMatmul: return segmented_matmul_batch_rule;
    case OpId::GatherMatmul:
    case OpId::GatherQuantizedMatmul: return gathered_batch_rule;
    case OpId::AffineQuantize: return quantize_rule;
    case OpId::AffineDequantize: return dequantize_rule;
    case OpId::QuantizedMatmul: return quantized_matmul_rule;
    case OpId::Rope: return rope_rule;
    case OpId::Attention:
    case OpId::AttentionBackward: return attention_rule;
    case OpId::Convolution: return convolution_batch_rule;
    case OpId::Cholesky:
    case OpId::Solve:
    case OpId::SolveTriangular:
    case OpId::Lu:
    case OpId::Qr:
    case OpId::Svd:
    case OpId::Eigh:
    case OpId::Eig: return leading_batch_rule;
    default: return nullptr;
  }
}

}  // namespace lamina::autograd
