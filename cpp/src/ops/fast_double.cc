#include "ops/fast_double.h"

#include <limits>

namespace lamina::fast {
namespace {

constexpr Dtype kDouble = Dtype::kFloat64;

Array number(double v) { return Array(v, kDouble); }

// Elements [begin, end) of the last axis, every `step`th.
Array last_part(const Array& x, int64_t begin, int64_t end, int64_t step) {
  Shape from(x.shape().size(), 0), to = x.shape(), steps(x.shape().size(), 1);
  from.back() = begin;
  to.back() = end;
  steps.back() = step;
  return slice(x, from, to, steps);
}

}  // namespace

Array attention_of_doubles(const Array& q, const Array& k, const Array& v, double scale,
                           const std::optional<Array>& mask, bool causal, const std::optional<Array>& sinks) {
  const int64_t B = q.shape(0), H = q.shape(1), L = q.shape(2), K = k.shape(1), S = k.shape(2), G = H / K;
  const Shape grouped{B, K, G, L, S};
  if (S == 0) return zeros({B, H, L, v.shape(3)}, kDouble);
  Array scores = matmul(reshape(multiply(q, number(scale)), {B, K, G, L, q.shape(3)}),
                        swapaxes(expand_dims(k, {2}), -1, -2));
  // Finite, as in the kernels: a row that sees nothing gets the mean of the values, and one of -inf NaN.
  const Array hidden = number(std::numeric_limits<double>::lowest());
  if (mask) {
    const Array m = reshape(*mask, grouped);
    scores = m.dtype() == Dtype::kBool ? where(m, scores, hidden) : add(scores, astype(m, kDouble));
  }
  if (causal) scores = where(tri(L, S, S - L, Dtype::kBool), scores, hidden);
  const std::optional<Array> sink =
      sinks ? std::optional(reshape(astype(*sinks, kDouble), {1, K, G, 1, 1})) : std::nullopt;
  Array top = max(scores, Axes{-1}, true);
  if (sink) top = maximum(top, *sink);
  top = stop_gradient(top);
  const Array e = exp(subtract(scores, top));
  Array total = sum(e, Axes{-1}, true);
  if (sink) total = add(total, exp(subtract(*sink, top)));
  const Array weights = divide(e, total);
  return reshape(matmul(weights, expand_dims(v, {2})), {B, H, L, v.shape(3)});
}

Array rope_of_doubles(const Array& x, int64_t dims, bool traditional, const Array& frequencies, double scale,
                      const Array& offset) {
  const int64_t rank = x.ndim(), T = x.shape(-2), half = dims / 2;
  // Positions (B or 1, 1, ..., T, 1).
  Shape starts(static_cast<size_t>(rank), 1), line = starts;
  starts[0] = offset.size();
  line[static_cast<size_t>(rank) - 2] = T;
  const Array steps = reshape(arange(int64_t{0}, T, int64_t{1}, Dtype::kInt64), line);
  const Array positions = add(astype(reshape(offset, starts), Dtype::kInt64), steps);
  const Array angles = multiply(multiply(astype(positions, kDouble), number(scale)), frequencies);
  const Array c = cos(angles), s = sin(angles);
  const Array a = traditional ? last_part(x, 0, dims, 2) : last_part(x, 0, half, 1);
  const Array b = traditional ? last_part(x, 1, dims, 2) : last_part(x, half, dims, 1);
  const Array first = subtract(multiply(a, c), multiply(b, s)), second = add(multiply(a, s), multiply(b, c));
  std::vector<Array> parts{first, second};
  if (traditional) {
    Shape shape = x.shape();
    shape.back() = dims;
    parts = {reshape(stack(parts, -1), shape)};
  }
  if (dims < x.shape(-1)) parts.push_back(last_part(x, dims, x.shape(-1), 1));
  return concatenate(parts, -1);
}

}  // namespace lamina::fast
