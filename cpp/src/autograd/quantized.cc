#include "lamina/transforms.h"
#include "ops/common.h"
#include "quant/formats.h"

// Products of two quantized matrices. Rounding has no useful derivative, so gradients pass straight through
// it: they are those of the product of the dequantized operands.
namespace lamina {
namespace {

using OptArray = std::optional<Array>;

// A product's arguments; as a flat list they are the primals of its custom call.
struct QqmmArrays {
  Array x, w;
  OptArray scales, global_x, global_w, left, right;

  Arrays flat() const {
    Arrays out{x, w};
    for (const OptArray* a : {&scales, &global_x, &global_w, &left, &right}) {
      if (*a) out.push_back(**a);
    }
    return out;
  }
  // The same arguments with other arrays in flat()'s order.
  QqmmArrays with(const Arrays& flat) const {
    QqmmArrays out = *this;
    size_t next = 0;
    out.x = flat[next++], out.w = flat[next++];
    for (OptArray* a : {&out.scales, &out.global_x, &out.global_w, &out.left, &out.right}) {
      if (*a) *a = flat[next++];
    }
    return out;
  }
};

Array rounded(const Array& a, const QuantSpec& spec, const OptArray& global) {
  const std::vector<Array> parts = quantize(a, spec, global);
  return dequantize(parts[0], parts[1], std::nullopt, spec, Dtype::kFloat32, global);
}

Array product(const QqmmArrays& a, const QuantSpec& spec) {
  Array codes = a.w;
  OptArray scales = a.scales;
  if (!scales) {
    const std::vector<Array> parts = quantize(a.w, spec, a.global_w);
    codes = parts[0], scales = parts[1];
  }
  OptArray global_w = a.global_w;
  if (global_w && codes.ndim() > 2 && global_w->size() == 1) {  // one for each matrix
    global_w = broadcast_to(reshape(*global_w, {1}), {codes.size() / (codes.shape(-1) * codes.shape(-2))});
  }
  const Array y = gather_qmm(rounded(a.x, spec, a.global_x), codes, scales, std::nullopt, a.left, a.right,
                             spec, true, global_w);
  return astype(y, a.x.dtype());
}

Arrays gradients(const QqmmArrays& a, const QuantSpec& spec, const Array& cotangent) {
  const Array x = rounded(a.x, spec, a.global_x);
  const Array w = a.scales ? dequantize(a.w, *a.scales, std::nullopt, spec, Dtype::kFloat32, a.global_w)
                           : rounded(a.w, spec, a.global_w);
  const auto plain = [&](const Arrays& in) -> Arrays {
    return {gather_mm(in[0], swapaxes(in[1], -1, -2), a.left, a.right)};
  };
  const Arrays g = vjp(plain, {x, w}, {astype(cotangent, Dtype::kFloat32)}).second;
  Arrays out;
  for (const Array& one : a.flat()) out.push_back(zeros_like(one));
  out[0] = astype(g[0], a.x.dtype());
  if (!a.scales) out[1] = astype(g[1], a.w.dtype());
  return out;
}

void check_float(const Array& a, const char* what, const char* op) {
  if (is_floating(a.dtype()) && a.dtype() != Dtype::kFloat64) return;
  fail<DtypeError>(op, "{} must be float32, float16 or bfloat16, got {}", what, a.dtype());
}

void check_operands(const QqmmArrays& a, const QuantSpec& s, const char* op) {
  if (s.format == QuantFormat::kAffine || block_format(s.format).scale_bytes != 1) {
    fail<ValueError>(op, "mode must be nvfp4, mxfp8 or mxfp4, got '{}'",
                     s.format == QuantFormat::kAffine ? "affine" : block_format(s.format).name);
  }
  check_float(a.x, "x", op);
  if (!a.scales) {
    if (a.w.dtype() == Dtype::kUInt32) fail<ValueError>(op, "a packed w wants scales, got None");
    check_float(a.w, "w", op);
    if (a.w.ndim() > 0 && a.x.ndim() > 0 && a.w.shape(-1) != a.x.shape(-1)) {
      fail<ShapeError>(op, "last axes differ: x {} and w {}", a.x.shape(), a.w.shape());
    }
  }
  if (a.global_x.has_value() != a.global_w.has_value()) {
    fail<ValueError>(op, "wants both global scales or none, got only that of {}", a.global_x ? "x" : "w");
  }
}

Array with_straight_gradients(const QqmmArrays& a, const QuantSpec& spec) {
  const auto run = [a, spec](const Arrays& in) -> Arrays { return {product(a.with(in), spec)}; };
  const auto rule = [a, spec](const Arrays& in, const Arrays& cotangents, const Arrays&) {
    return gradients(a.with(in), spec, cotangents[0]);
  };
  return custom_vjp(run, rule)(a.flat())[0];
}

}  // namespace

Array qqmm(const Array& x, const Array& w, const OptArray& scales, const QuantSpec& spec,
           const OptArray& global_scale_x, const OptArray& global_scale_w) {
  const char* op = "qqmm";
  const Array rows = x.ndim() == 1 ? expand_dims(x, {0}) : x;
  const QqmmArrays a{rows, w, scales, global_scale_x, global_scale_w, std::nullopt, std::nullopt};
  check_operands(a, spec, op);
  if (w.ndim() != 2) fail<ShapeError>(op, "w must have 2 axes, got shape {}", w.shape());
  const Array y = with_straight_gradients(a, spec);
  return x.ndim() == 1 ? squeeze(y, Axes{-2}) : y;
}

Array gather_qqmm(const Array& x, const Array& w, const OptArray& scales, const OptArray& x_indices,
                  const OptArray& w_indices, const QuantSpec& spec, const OptArray& global_scale_x,
                  const OptArray& global_scale_w) {
  const QqmmArrays a{x, w, scales, global_scale_x, global_scale_w, x_indices, w_indices};
  check_operands(a, spec, "gather_qqmm");
  return with_straight_gradients(a, spec);
}

}  // namespace lamina
