#include <algorithm>

#include "ops/common.h"

namespace lamina {
namespace {

// Bounds that keep every product and sum of lengths below inside 64 bits.
constexpr int64_t kLargest = int64_t{1} << 30;

struct Request {
  const char* op;
  Array input, weight;
  ConvOptions options;
};

// One entry for each spatial axis, each within bounds; an empty list means the default.
Shape per_axis(const Request& r, const char* what, const Shape& given, int64_t least) {
  const size_t axes = r.input.shape().size() - 2;
  if (given.size() > 1 && given.size() != axes) {
    fail<ValueError>(r.op, "wants 1 or {} entries in {}, got {}", axes, what, given);
  }
  Shape out = given;
  out.resize(axes, given.empty() ? std::max<int64_t>(least, 0) : given[0]);
  for (int64_t v : out) {
    if (v < least || v > kLargest) {
      fail<ValueError>(r.op, "wants {} between {} and {}, got {}", what, least, kLargest, given);
    }
  }
  return out;
}

void check_operands(const Request& r) {
  const Shape &x = r.input.shape(), &w = r.weight.shape();
  if (x.size() < 3 || x.size() > 5) {
    fail<ShapeError>(r.op, "wants an input (N, spatial..., C) with 1 to 3 spatial axes, got shape {}", x);
  }
  if (w.size() != x.size()) {
    fail<ShapeError>(r.op,
                     "wants a weight of {} axes (O, spatial..., C / groups) beside input {}, got shape {}",
                     x.size(), x, w);
  }
  const int64_t groups = r.options.groups;
  if (groups < 1) fail<ValueError>(r.op, "wants groups of at least 1, got {}", groups);
  if (x.back() % groups != 0 || w[0] % groups != 0) {
    fail<ShapeError>(r.op, "wants groups that divide the {} input and {} output channels, got {}", x.back(),
                     w[0], groups);
  }
  if (x.back() / groups != w.back()) {
    fail<ShapeError>(r.op, "wants {} input channels in the weight (input {}, groups {}), got weight {}",
                     x.back() / groups, x, groups, w);
  }
  for (const Array* a : {&r.input, &r.weight}) {
    if (!is_inexact(a->dtype())) {
      fail<DtypeError>(r.op, "wants floating-point or complex arrays, got {} and {}", r.input.dtype(),
                       r.weight.dtype());
    }
  }
}

Array make_convolution(const Request& r) {
  check_operands(r);
  const Shape &x = r.input.shape(), &w = r.weight.shape();
  ConvolutionParams p;
  p.stride = per_axis(r, "stride", r.options.stride, 1);
  p.padding_lo = per_axis(r, "padding", r.options.padding_lo, -kLargest);
  p.padding_hi = per_axis(r, "padding", r.options.padding_hi, -kLargest);
  p.kernel_dilation = per_axis(r, "dilation of the kernel", r.options.kernel_dilation, 1);
  p.input_dilation = per_axis(r, "dilation of the input", r.options.input_dilation, 1);
  p.groups = r.options.groups;
  p.flip = r.options.flip;
  Shape shape{x[0]};
  for (size_t i = 0; i + 2 < x.size(); ++i) {
    const int64_t length = x[i + 1], taps = w[i + 1];
    if (length > kLargest || taps > kLargest || taps < 1) {
      fail<ShapeError>(r.op, "wants spatial axes of 1 to {} weights, got input {} and weight {}", kLargest, x,
                       w);
    }
    const int64_t dilated = std::max<int64_t>(0, (length - 1) * p.input_dilation[i] + 1);
    const int64_t padded = dilated + p.padding_lo[i] + p.padding_hi[i];
    const int64_t kernel = (taps - 1) * p.kernel_dilation[i] + 1;
    if (padded < kernel) {
      fail<ShapeError>(
          r.op,
          "wants an input no shorter than the kernel: spatial axis {} of input {} is {} long with its "
          "padding, and the kernel of weight {} {}",
          i, x, padded, w, kernel);
    }
    shape.push_back((padded - kernel) / p.stride[i] + 1);
  }
  shape.push_back(w[0]);
  const Dtype t = promote(r.input.dtype(), r.weight.dtype());
  return make_node(OpId::Convolution, t, shape, {astype(r.input, t), astype(r.weight, t)}, make_params(p));
}

void check_axes(const char* op, const Array& input, int64_t axes) {
  if (input.ndim() != axes + 2) {
    fail<ShapeError>(op, "wants an input of {} axes (N, spatial..., C), got shape {}", axes + 2,
                     input.shape());
  }
}

Array convolution(const char* op, int64_t axes, const Array& input, const Array& weight, const Shape& stride,
                  const Shape& padding, const Shape& dilation, int64_t groups) {
  check_axes(op, input, axes);
  return make_convolution({op, input, weight, {stride, padding, padding, dilation, {1}, groups, false}});
}

Array transposed(const char* op, int64_t axes, const Array& input, const Array& weight, const Shape& stride,
                 const Shape& padding, const Shape& dilation, const Shape& output_padding, int64_t groups) {
  check_axes(op, input, axes);
  Request r{op, input, weight, {}};
  r.options.groups = groups;
  check_operands(r);
  const Shape s = per_axis(r, "stride", stride, 1), d = per_axis(r, "dilation of the kernel", dilation, 1);
  const Shape pad = per_axis(r, "padding", padding, -kLargest);
  const Shape extra = per_axis(r, "output_padding", output_padding, -kLargest);
  r.options.kernel_dilation = d;
  r.options.input_dilation = s;
  r.options.flip = true;
  r.options.padding_lo = r.options.padding_hi = Shape(pad.size(), 0);
  for (size_t i = 0; i < pad.size(); ++i) {
    const int64_t reach = d[i] * (std::min(weight.shape()[i + 1], kLargest) - 1);
    const int64_t length = std::min(input.shape()[i + 1], kLargest);
    const int64_t out = (length - 1) * s[i] + reach + 1 - 2 * pad[i] + extra[i];
    if (length < 1)
      fail<ShapeError>(op, "wants inputs along every spatial axis, got input {}", input.shape());
    if (out < 1) {
      fail<ShapeError>(
          op,
          "wants at least one output: input {} and weight {} with stride {}, padding {}, dilation {} "
          "and output_padding {} leave {} along spatial axis {}",
          input.shape(), weight.shape(), s, pad, d, extra, out, i);
    }
    r.options.padding_lo[i] = reach - pad[i];
    r.options.padding_hi[i] = reach - pad[i] + extra[i];
  }
  return make_convolution(r);
}

}  // namespace

Array conv_general(const Array& input, const Array& weight, const ConvOptions& options) {
  return make_convolution({"conv_general", input, weight, options});
}

#define LAMINA_CONVOLUTION(axes)                                                                          \
  Array conv##axes##d(const Array& input, const Array& weight, const Shape& stride, const Shape& padding, \
                      const Shape& dilation, int64_t groups) {                                            \
    return convolution("conv" #axes "d", axes, input, weight, stride, padding, dilation, groups);         \
  }                                                                                                       \
  Array conv_transpose##axes##d(const Array& input, const Array& weight, const Shape& stride,             \
                                const Shape& padding, const Shape& dilation, const Shape& output_padding, \
                                int64_t groups) {                                                         \
    return transposed("conv_transpose" #axes "d", axes, input, weight, stride, padding, dilation,         \
                      output_padding, groups);                                                            \
  }
LAMINA_CONVOLUTION(1)
LAMINA_CONVOLUTION(2)
LAMINA_CONVOLUTION(3)
#undef LAMINA_CONVOLUTION

Array convolve(const Array& a, const Array& v, ConvolveMode mode) {
  if (a.ndim() != 1 || v.ndim() != 1) {
    fail<ShapeError>("convolve", "wants two sequences of one axis, got shapes {} and {}", a.shape(),
                     v.shape());
  }
  if (a.size() == 0 || v.size() == 0) {
    fail<ShapeError>("convolve", "wants sequences that are not empty, got lengths {} and {}", a.size(),
                     v.size());
  }
  const bool swap = a.size() < v.size();
  const Array &x = swap ? v : a, &w = swap ? a : v;
  const int64_t overlap = w.size() - 1;
  Request r{"convolve", expand_dims(x, {0, 2}), expand_dims(w, {0, 2}), {}};
  r.options.flip = true;
  if (mode == ConvolveMode::kFull) r.options.padding_lo = r.options.padding_hi = {overlap};
  if (mode == ConvolveMode::kSame) {
    // NumPy's choice of the middle where an even number of weights has none.
    r.options.padding_lo = {overlap - overlap / 2};
    r.options.padding_hi = {overlap / 2};
  }
  return reshape(make_convolution(r), {-1});
}

}  // namespace lamina
