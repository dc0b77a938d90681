#include "ops/fast_double.h"

namespace lamina::fast {
namespace {

void check_weight(const std::optional<Array>& w, const Array& x, const char* op, const char* name) {
  if (w && (w->ndim() != 1 || w->shape(0) != x.shape(-1))) {
    fail<ShapeError>(op, "{} must have shape ({},) for x of {}, got {}", name, x.shape(-1), x.shape(),
                     w->shape());
  }
}

Dtype result_dtype(const Array& x, std::initializer_list<const std::optional<Array>*> others) {
  Dtype t = x.dtype();
  for (const auto* o : others) {
    if (*o) t = promote(t, (*o)->dtype());
  }
  return t;
}

void check_input(const Array& x, const char* op) {
  if (x.ndim() < 1) fail<ShapeError>(op, "wants at least 1 axis, got shape ()");
  if (!is_floating(x.dtype())) fail<DtypeError>(op, "wants a floating dtype, got {}", x.dtype());
}

}  // namespace

Array rms_norm(const Array& x, const std::optional<Array>& weight, float eps) {
  check_input(x, "rms_norm");
  check_weight(weight, x, "rms_norm", "weight");
  const Dtype out = result_dtype(x, {&weight});
  const Dtype t = promote(out, Dtype::kFloat32);
  const Array v = astype(x, t);
  Array y =
      multiply(v, rsqrt(add(mean(square(v), Axes{-1}, true), weak_scalar(static_cast<double>(eps), t))));
  if (weight) y = multiply(y, astype(*weight, t));
  return astype(y, out);
}

Array layer_norm(const Array& x, const std::optional<Array>& weight, const std::optional<Array>& bias,
                 float eps) {
  check_input(x, "layer_norm");
  check_weight(weight, x, "layer_norm", "weight");
  check_weight(bias, x, "layer_norm", "bias");
  const Dtype out = result_dtype(x, {&weight, &bias});
  const Dtype t = promote(out, Dtype::kFloat32);
  const Array v = astype(x, t);
  const Array centered = subtract(v, mean(v, Axes{-1}, true));
  Array y = multiply(
      centered, rsqrt(add(mean(square(centered), Axes{-1}, true), weak_scalar(static_cast<double>(eps), t))));
  if (weight) y = multiply(y, astype(*weight, t));
  if (bias) y = add(y, astype(*bias, t));
  return astype(y, out);
}

Array rope(const Array& x, int dims, bool traditional, std::optional<double> base, double scale,
           const Array& offset, const std::optional<Array>& freqs) {
  check_input(x, "rope");
  if (x.ndim() < 3)
    fail<ShapeError>("rope", "x wants at least 3 axes (B, ..., T, D), got shape {}", x.shape());
  if (dims <= 0 || dims % 2 != 0 || dims > x.shape(-1)) {
    fail<ValueError>("rope", "dims must be even, positive and at most the last axis {}, got {}", x.shape(-1),
                     dims);
  }
  if (base.has_value() == freqs.has_value()) {
    fail<ValueError>("rope", "wants base or freqs, {} came", base ? "both" : "neither");
  }
  if (freqs && (freqs->ndim() != 1 || freqs->shape(0) != dims / 2)) {
    fail<ShapeError>("rope", "freqs must have shape ({},), got {}", dims / 2, freqs->shape());
  }
  if (!is_integer(offset.dtype()) || offset.ndim() > 1 ||
      (offset.size() != 1 && offset.size() != x.shape(0))) {
    fail<ShapeError>("rope", "offset must be an integer or one for each of {} batches, got {} of shape {}",
                     x.shape(0), offset.dtype(), offset.shape());
  }
  if (x.dtype() == Dtype::kFloat64) {
    const Array pairs = arange(int64_t{0}, dims / 2, int64_t{1}, Dtype::kFloat64);
    const Array from_base =
        power(Array(base.value_or(1), Dtype::kFloat64), multiply(pairs, Array(-2.0 / dims, Dtype::kFloat64)));
    const Array frequencies = freqs ? reciprocal(astype(*freqs, Dtype::kFloat64)) : from_base;
    return rope_of_doubles(x, dims, traditional, frequencies, scale, offset);
  }
  std::vector<Array> inputs{x, offset};
  if (freqs) inputs.push_back(astype(*freqs, Dtype::kFloat32));
  RopeParams p;
  p.dims = dims;
  p.traditional = traditional;
  p.has_freqs = freqs.has_value();
  p.base = static_cast<float>(base.value_or(0));
  p.scale = static_cast<float>(scale);
  return make_node(OpId::Rope, x.dtype(), x.shape(), inputs, make_params(p));
}

Array scaled_dot_product_attention(const Array& q, const Array& k, const Array& v, double scale,
                                   const std::optional<Array>& mask, bool causal,
                                   const std::optional<Array>& sinks) {
  const char* op = "scaled_dot_product_attention";
  if (q.ndim() != 4 || k.ndim() != 4 || v.ndim() != 4) {
    fail<ShapeError>(op, "wants 4 axes (B, H, L, D) each, got {}, {} and {}", q.shape(), k.shape(),
                     v.shape());
  }
  const bool fits = q.shape(0) == k.shape(0) && q.shape(0) == v.shape(0) && k.shape(1) == v.shape(1) &&
                    k.shape(2) == v.shape(2) && q.shape(3) == k.shape(3) && k.shape(1) > 0 &&
                    q.shape(1) % k.shape(1) == 0;
  if (!fits) {
    fail<ShapeError>(
        op,
        "queries {}, keys {} and values {} do not fit: equal batch, head dim and key length, query "
        "heads a multiple of key heads",
        q.shape(), k.shape(), v.shape());
  }
  const Dtype t = promote(promote(q.dtype(), k.dtype()), v.dtype());
  if (!is_floating(t)) fail<DtypeError>(op, "wants a floating dtype, got {}", t);
  std::vector<Array> inputs{astype(q, t), astype(k, t), astype(v, t)};
  if (mask) {
    if (mask->dtype() != Dtype::kBool && !is_floating(mask->dtype())) {
      fail<DtypeError>(op, "mask must be bool or floating, got {}", mask->dtype());
    }
    const bool narrow = mask->dtype() == Dtype::kFloat64 && t != Dtype::kFloat64;
    const Array m = narrow ? astype(*mask, Dtype::kFloat32) : *mask;
    const Shape scores{q.shape(0), q.shape(1), q.shape(2), k.shape(2)};
    if (!broadcasts_to(m.shape(), scores)) {
      fail<ShapeError>(op, "a mask of {} does not broadcast to the scores' {}", m.shape(), scores);
    }
    inputs.push_back(broadcast_to(m, scores));
  }
  if (sinks) {
    if (sinks->ndim() != 1 || sinks->shape(0) != q.shape(1)) {
      fail<ShapeError>(op, "sinks must have shape ({},), got {}", q.shape(1), sinks->shape());
    }
    if (t != Dtype::kFloat64) inputs.push_back(astype(*sinks, Dtype::kFloat32));
  }
  if (t == Dtype::kFloat64) {
    const std::optional<Array> m = mask ? std::optional(inputs[3]) : std::nullopt;
    return attention_of_doubles(inputs[0], inputs[1], inputs[2], scale, m, causal, sinks);
  }
  const Shape shapes[] = {{q.shape(0), q.shape(1), q.shape(2), v.shape(3)},
                          {q.shape(0), q.shape(1), q.shape(2)}};
  const Dtype dtypes[] = {t, Dtype::kFloat32};
  AttentionParams p;
  p.scale = static_cast<float>(scale);
  p.causal = causal;
  p.has_mask = mask.has_value();
  p.has_sinks = sinks.has_value();
  return make_tuple_node(OpId::Attention, shapes, dtypes, inputs, make_params(p))[0];
}

}  // namespace lamina::fast
