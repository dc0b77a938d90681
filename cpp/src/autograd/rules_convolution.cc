#include "autograd/rules.h"
#include "autograd/vmap.h"

// A convolution's gradients are convolutions, and so are its batches.
namespace lamina::autograd {
namespace {

Array conj_if(const Array& a) { return is_complex(a.dtype()) ? conjugate(a) : a; }

Array convolution(Dtype t, const Shape& shape, const Array& x, const Array& w, const ConvolutionParams& p) {
  if (x.size() == 0 || w.size() == 0 || num_elements(shape) == 0) return zeros(shape, t);
  return make_node(OpId::Convolution, t, shape, {x, w}, make_params(p));
}

// The spatial lengths of a shape between two other axes.
Shape with_spatial(int64_t first, const Shape& of, int64_t last) {
  Shape out = of;
  out[0] = first;
  out.back() = last;
  return out;
}
Axes spatial_axes(size_t rank) {
  Axes axes;
  for (size_t i = 1; i + 1 < rank; ++i) axes.push_back(static_cast<int64_t>(i));
  return axes;
}

// Shape `s` with `length` inserted before axis `at`.
Shape inserted(const Shape& s, size_t at, int64_t length) {
  Shape out = s;
  out.insert(out.begin() + at, length);
  return out;
}
// a with its first and its last axis swapped, the last one cut into `groups` of which the number stays
// behind: (N, ..., G * C) to (C, ..., G * N).
Array turned(const Array& a, int64_t groups) {
  const Shape& s = a.shape();
  const auto rank = static_cast<int64_t>(s.size());
  const int64_t channels = s.back() / groups;
  Shape cut = inserted(s, s.size() - 1, groups);
  cut.back() = channels;
  Axes perm{rank};
  for (int64_t i = 1; i < rank; ++i) perm.push_back(i);
  perm.push_back(0);
  return reshape(transpose(reshape(a, cut), perm), with_spatial(channels, s, groups * s[0]));
}

// Gradient of the input: the cotangent spread by the stride, under the kernel read backwards.
Array input_gradient(const OpCall& c, const Array& g) {
  const auto& p = c.node.as<ConvolutionParams>();
  const Shape &x = c.in[0].shape(), &w = c.in[1].shape();
  ConvolutionParams q;
  q.groups = p.groups;
  q.flip = !p.flip;
  q.stride = p.input_dilation;
  q.input_dilation = p.stride;
  q.kernel_dilation = p.kernel_dilation;
  for (size_t i = 0; i < p.stride.size(); ++i) {
    q.padding_lo.push_back((w[i + 1] - 1) * p.kernel_dilation[i] - p.padding_lo[i]);
    q.padding_hi.push_back((x[i + 1] - 1) * p.input_dilation[i] + p.padding_lo[i] -
                           (c.node.shape[i + 1] - 1) * p.stride[i]);
  }
  // (G * O, ..., C) to (C, ..., G * O), then the groups to the front again.
  const int64_t outs = w[0] / p.groups, ins = w.back();
  Shape cut = inserted(w, 0, p.groups);
  cut[1] = outs;
  Array weight = swapaxes(reshape(conj_if(c.in[1]), cut), 1, -1);
  weight = reshape(weight, with_spatial(p.groups * ins, w, outs));
  return convolution(c.node.dtype, x, g, weight, q);
}

// Gradient of a weight with a group for every channel, of up to two spatial axes: the batch is one more of
// them, so that both operands stay as they lie.
Array depthwise_weight_gradient(const Array& x, const Array& g, const Shape& w, ConvolutionParams q) {
  q.groups = w[0];
  for (Shape* steps : {&q.stride, &q.kernel_dilation, &q.input_dilation}) *steps = inserted(*steps, 0, 1);
  for (Shape* padding : {&q.padding_lo, &q.padding_hi}) *padding = inserted(*padding, 0, 0);
  Shape taps = inserted(g.shape(), 0, w[0]);
  taps.back() = 1;
  Shape sums = inserted(with_spatial(1, w, w[0]), 0, 1);
  const Array kernel = reshape(moveaxis(g, -1, 0), taps);
  const Array out = convolution(g.dtype(), sums, reshape(x, inserted(x.shape(), 0, 1)), kernel, q);
  return reshape(moveaxis(out, -1, 0), w);
}

// Gradient of the weight: the input under the cotangent as a kernel, the batch in the channels' place.
Array weight_gradient(const OpCall& c, const Array& g) {
  const auto& p = c.node.as<ConvolutionParams>();
  const Shape &x = c.in[0].shape(), &w = c.in[1].shape();
  ConvolutionParams q;
  q.groups = p.groups;
  q.stride = p.kernel_dilation;
  q.kernel_dilation = p.stride;
  q.input_dilation = p.input_dilation;
  q.padding_lo = p.padding_lo;
  for (size_t i = 0; i < p.stride.size(); ++i) {
    const int64_t dilated = std::max<int64_t>(0, (x[i + 1] - 1) * p.input_dilation[i] + 1);
    q.padding_hi.push_back((w[i + 1] - 1) * p.kernel_dilation[i] + (c.node.shape[i + 1] - 1) * p.stride[i] +
                           1 - dilated - p.padding_lo[i]);
  }
  Array weight;
  if (p.groups == x.back() && p.groups == w[0] && p.groups > 1 && w.size() < 5) {
    weight = depthwise_weight_gradient(conj_if(c.in[0]), g, w, std::move(q));
  } else {
    const Array sums = convolution(c.node.dtype, with_spatial(w.back(), w, w[0]),
                                   turned(conj_if(c.in[0]), p.groups), turned(g, 1), q);
    weight = swapaxes(sums, 0, -1);
  }
  return p.flip ? flip(weight, spatial_axes(w.size())) : weight;
}

// (B, ..., C) with the mapped axis before the last: (..., B * C) and back.
Array into_channels(const Array& a) {
  const Array moved = moveaxis(a, 0, -2);
  Shape shape(moved.shape().begin(), moved.shape().end() - 1);
  shape.back() *= a.shape(-1);
  return reshape(moved, shape);
}
Array out_of_channels(const Array& a, int64_t size) {
  Shape shape = inserted(a.shape(), a.shape().size() - 1, size);
  shape.back() /= size;
  return moveaxis(reshape(a, shape), -2, 0);
}

// The mapped axis goes into the batch.
Array mapped_input(const BatchCall& b) {
  const Node& n = b.call.node;
  Shape x = example_shape(b, 0), out = n.shape;
  x[0] *= b.size;
  out[0] *= b.size;
  const Array folded = reshape(b.call.in[0], x);
  return reshape(convolution(n.dtype, out, folded, b.call.in[1], n.as<ConvolutionParams>()),
                 in_front(b.size, n.shape));
}

// Each group has the output channels of all examples.
Array mapped_weight(const BatchCall& b) {
  const Node& n = b.call.node;
  const auto& p = n.as<ConvolutionParams>();
  const Shape w = example_shape(b, 1);
  const int64_t outs = w[0] / p.groups;
  Shape cut = in_front(b.size, inserted(w, 0, p.groups));
  cut[2] = outs;
  const Array weight =
      reshape(swapaxes(reshape(b.call.in[1], cut), 0, 1), with_spatial(b.size * w[0], w, w.back()));
  Shape shape = n.shape;
  shape.back() *= b.size;
  Array out = convolution(n.dtype, shape, b.call.in[0], weight, p);
  shape.back() = p.groups;
  shape.push_back(b.size);
  shape.push_back(outs);
  out = moveaxis(reshape(out, shape), -2, 0);
  return reshape(out, in_front(b.size, n.shape));
}

// Every example is a group, or several.
Array both_mapped(const BatchCall& b) {
  const Node& n = b.call.node;
  ConvolutionParams p = n.as<ConvolutionParams>();
  p.groups *= b.size;
  Shape w = example_shape(b, 1), shape = n.shape;
  w[0] *= b.size;
  shape.back() *= b.size;
  return out_of_channels(
      convolution(n.dtype, shape, into_channels(b.call.in[0]), reshape(b.call.in[1], w), p), b.size);
}

}  // namespace

Arrays convolution_rule(const OpCall& c, const Arrays& g, const std::vector<bool>& wants) {
  const Array cotangent = astype(g[0], c.node.dtype);
  Arrays out(2);
  if (wants[0]) out[0] = input_gradient(c, cotangent);
  if (wants[1]) out[1] = weight_gradient(c, cotangent);
  return out;
}

Arrays convolution_batch_rule(const BatchCall& b) {
  if (!b.batched[1]) return {mapped_input(b)};
  return {b.batched[0] ? both_mapped(b) : mapped_weight(b)};
}

}  // namespace lamina::autograd
