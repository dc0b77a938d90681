#include <array>
#include <numeric>

#include "autograd/backward.h"
#include "autograd/rules_linalg.h"
#include "graph/eval.h"
#include "quant/formats.h"

namespace lamina::autograd {
namespace {

using Wants = std::vector<bool>;

Array zero(const Array& like) { return Array(int64_t{0}, like.dtype()); }
Array conj_if(const Array& a) { return is_complex(a.dtype()) ? conjugate(a) : a; }
Array last_two_swapped(const Array& a) { return swapaxes(a, -1, -2); }
const Axes& axes_of(const OpCall& c) { return c.node.as<AxesParams>().axes; }

// ---- views ----

Arrays same(const OpCall&, const Arrays& g, const Wants&) { return {g[0]}; }
Arrays depends_rule(const OpCall& c, const Arrays& g, const Wants&) {
  Arrays out(c.in.size());
  out[0] = g[0];
  return out;
}
Arrays broadcast_rule(const OpCall& c, const Arrays& g, const Wants&) {
  return {sum_to(g[0], c.in[0].shape())};
}
Arrays transpose_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const Axes& axes = axes_of(c);
  Axes inverse(axes.size());
  for (size_t i = 0; i < axes.size(); ++i) inverse[static_cast<size_t>(axes[i])] = static_cast<int64_t>(i);
  return {transpose(g[0], inverse)};
}
Arrays expand_rule(const OpCall& c, const Arrays& g, const Wants&) { return {squeeze(g[0], axes_of(c))}; }
Arrays squeeze_rule(const OpCall& c, const Arrays& g, const Wants&) {
  return {expand_dims(g[0], axes_of(c))};
}
Arrays reshape_rule(const OpCall& c, const Arrays& g, const Wants&) {
  return {reshape(g[0], c.in[0].shape())};
}

// The box [start, start + n * stride) as slice() arguments.
Shape box_stop(const Shape& start, const Strides& strides, const Shape& lengths) {
  Shape stop = start;
  for (size_t i = 0; i < start.size(); ++i) {
    const int64_t last = start[i] + (lengths[i] - 1) * strides[i];
    stop[i] = strides[i] > 0 ? last + 1 : last - 1;
    // A stop before the front is written as "past the front", not as counted from the end.
    if (stop[i] < 0) stop[i] = INT64_MIN / 2;
    if (lengths[i] == 0) stop[i] = start[i];
  }
  return stop;
}

Arrays slice_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const auto& p = c.node.as<SliceParams>();
  return {slice_update(zeros_like(c.in[0], g[0].dtype()), g[0], p.start,
                       box_stop(p.start, p.strides, c.node.shape), p.strides)};
}

Arrays as_strided_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const auto& p = c.node.as<AsStridedParams>();
  Array index(p.offset, Dtype::kInt64);
  for (size_t i = 0; i < p.strides.size(); ++i) {
    const Array line =
        multiply(arange(0, c.node.shape[i], 1, Dtype::kInt64), Array(p.strides[i], Dtype::kInt64));
    Shape shape(p.strides.size(), 1);
    shape[i] = c.node.shape[i];
    index = add(index, reshape(line, shape));
  }
  index = broadcast_to(index, c.node.shape);
  const Array flat = zeros({c.in[0].size()}, g[0].dtype());
  const Array sum = scatter(flat, std::span(&index, 1), expand_dims(g[0], {-1}), {0}, ScatterMode::kAdd);
  return {reshape(sum, c.in[0].shape())};
}

Arrays concatenate_rule(const OpCall& c, const Arrays& g, const Wants& wants) {
  const int64_t axis = c.node.as<AxisParams>().axis;
  const auto at = static_cast<size_t>(axis);
  Shape start(c.node.shape.size(), 0), stop = c.node.shape;
  Arrays out;
  int64_t begin = 0;
  for (size_t i = 0; i < c.in.size(); ++i) {
    start[at] = begin;
    begin += c.in[i].shape()[at];
    stop[at] = begin;
    out.push_back(wants[i] ? slice(g[0], start, stop) : Array());
  }
  return out;
}

Arrays slice_update_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const auto& p = c.node.as<SliceUpdateParams>();
  const Shape stop = box_stop(p.start, p.strides, c.in[1].shape());
  return {slice_update(g[0], zero(g[0]), p.start, stop, p.strides), slice(g[0], p.start, stop, p.strides)};
}

// ---- indexing ----

Arrays gather_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const auto& p = c.node.as<GatherParams>();
  Arrays out(c.in.size());
  const Array base = zeros_like(c.in[0], g[0].dtype());
  out[0] = scatter(base, std::span(c.in).subspan(1), g[0], p.axes, ScatterMode::kAdd);
  return out;
}

Arrays gather_axis_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const int64_t axis = c.node.as<AxisParams>().axis;
  return {put_along_axis(zeros_like(c.in[0], g[0].dtype()), c.in[1], g[0], axis, ScatterMode::kAdd), Array()};
}

// Reading and writing at a node's indices, for Scatter and ScatterAxis alike.
struct Place {
  std::function<Array(const Array&)> read;
  std::function<Array(const Array&, const Array&, ScatterMode)> write;
  Array ids;  // a number for each update, in the updates' shape
};

// For each update of a multiplying scatter, the product of all else that its element is made of; zeros
// allowed.
Array other_factors(const Place& at, const Array& a, const Array& updates) {
  const Array is_zero = equal(updates, zero(updates)), one(int64_t{1}, updates.dtype());
  const Array safe = where(is_zero, one, updates);
  const Array zeros_there =
      at.read(at.write(zeros(a.shape(), Dtype::kInt32), astype(is_zero, Dtype::kInt32), ScatterMode::kAdd));
  const Array no_other = equal(zeros_there, astype(is_zero, Dtype::kInt32));
  const Array product = at.read(at.write(a, safe, ScatterMode::kMultiply));
  return where(no_other, divide(product, safe), zero(product));
}

// Gradients of scatter: the array's and the updates'.
std::pair<Array, Array> scatter_gradients(const Place& at, ScatterMode mode, const Array& g, const Array& a,
                                          const Array& updates, const Array& out) {
  switch (mode) {
    case ScatterMode::kAdd: return {g, at.read(g)};
    case ScatterMode::kSet: {
      // Of updates to one element only the last one counts.
      const Array winner =
          at.write(full(a.shape(), Array(int64_t{-1}, Dtype::kInt64)), at.ids, ScatterMode::kSet);
      const Array won = equal(at.read(winner), at.ids);
      return {at.write(g, zeros_like(updates, g.dtype()), ScatterMode::kSet),
              where(won, at.read(g), zero(g))};
    }
    case ScatterMode::kMultiply: {
      const Array factor = at.write(ones_like(a), updates, ScatterMode::kMultiply);
      return {multiply(g, conj_if(factor)), multiply(at.read(g), conj_if(other_factors(at, a, updates)))};
    }
    default: {
      // Whatever equals the extremum shares its gradient, as in a reduction.
      const Array kept = equal(a, out), won = equal(at.read(out), updates);
      // Counted in at least float32: bfloat16 stops at 256.
      const Dtype t = promote(g.dtype(), Dtype::kFloat32);
      const Array count = at.write(astype(kept, t), astype(won, t), ScatterMode::kAdd);
      const Array shares = divide(astype(g, t), where(equal(count, zero(count)), ones_like(count), count));
      const Array share = astype(shares, g.dtype());
      return {where(kept, share, zero(g)), where(won, at.read(share), zero(g))};
    }
  }
}

Arrays scatter_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const auto& p = c.node.as<ScatterParams>();
  const Arrays index(c.in.begin() + 2, c.in.end());
  const Array &a = c.in[0], &updates = c.in[1];
  const int64_t outer = updates.ndim() - a.ndim();
  const Shape sizes(updates.shape().begin() + outer, updates.shape().end());
  Shape id_shape(updates.shape().begin(), updates.shape().begin() + outer);
  const Array line = reshape(arange(0, num_elements(id_shape), 1, Dtype::kInt64), id_shape);
  Axes tail;
  for (int64_t i = 0; i < a.ndim(); ++i) tail.push_back(outer + i);
  Place at;
  at.read = [&](const Array& x) { return gather(x, index, p.axes, sizes); };
  at.write = [&](const Array& x, const Array& u, ScatterMode m) { return scatter(x, index, u, p.axes, m); };
  at.ids = broadcast_to(expand_dims(line, tail), updates.shape());
  Arrays out(c.in.size());
  std::tie(out[0], out[1]) = scatter_gradients(at, p.mode, g[0], a, updates, c.outs[0]);
  return out;
}

Arrays scatter_axis_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const auto& p = c.node.as<ScatterAxisParams>();
  const Array &a = c.in[0], &index = c.in[1], &updates = c.in[2];
  Place at;
  at.read = [&](const Array& x) { return take_along_axis(x, index, p.axis); };
  at.write = [&](const Array& x, const Array& u, ScatterMode m) {
    return put_along_axis(x, index, u, p.axis, m);
  };
  at.ids = reshape(arange(0, updates.size(), 1, Dtype::kInt64), updates.shape());
  Arrays out(3);
  std::tie(out[0], out[2]) = scatter_gradients(at, p.mode, g[0], a, updates, c.outs[0]);
  return out;
}

// ---- matrices ----

Arrays matmul_rule(const OpCall& c, const Arrays& g, const Wants& wants) {
  Arrays out(2);
  if (wants[0]) out[0] = matmul(g[0], adjoint(c.in[1]));
  if (wants[1]) out[1] = matmul(adjoint(c.in[0]), g[0]);
  return out;
}

Arrays dequantize_rule(const OpCall& c, const Arrays& g, const Wants& wants) {
  const auto& p = c.node.as<QuantParams>();
  if (has_byte_scales("dequantize", p, wants, 1)) return Arrays(c.in.size());
  const auto [ds, db] = group_gradients(g[0], c.in[0], c.in[1], p.group_size, p.bits);
  return {Array(), ds, db};
}

Arrays quantized_matmul_rule(const OpCall& c, const Arrays& g, const Wants& wants) {
  const auto& p = c.node.as<QuantParams>();
  const Array &x = c.in[0], &w = c.in[1];
  Arrays out(c.in.size());
  if (wants[0]) {
    const Array dx = quantized_matmul(g[0], w, input_at(c.in, 2), input_at(c.in, 3), p.spec(), !p.transpose);
    out[0] = sum_to(dx, x.shape());
  }
  if (!has_byte_scales("quantized_matmul", p, wants, 2) && (wants[2] || wants[3])) {
    const Array& scales = c.in[2];
    Array dw = p.transpose ? matmul(last_two_swapped(g[0]), x) : matmul(last_two_swapped(x), g[0]);
    Shape shape(w.shape().begin(), w.shape().end() - 1);
    shape.push_back(scales.shape(-1) * p.group_size);
    std::tie(out[2], out[3]) = group_gradients(sum_to(dw, shape), w, scales, p.group_size, p.bits);
  }
  return out;
}

// ---- reductions, scans, sorting ----

Arrays sum_rule(const OpCall& c, const Arrays& g, const Wants&) {
  return {broadcast_to(g[0], c.in[0].shape())};
}

// The product of the others, exact where elements are zero: exclusive products from both ends.
Arrays prod_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const Array& x = c.in[0];
  const Axes& axes = axes_of(c);
  Axes perm, kept_first;
  for (int64_t i = 0; i < x.ndim(); ++i) {
    if (std::find(axes.begin(), axes.end(), i) == axes.end()) perm.push_back(i);
  }
  const auto kept = static_cast<int64_t>(perm.size());
  for (int64_t i : axes) perm.push_back(i);
  Axes inverse(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) inverse[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
  const Array front = transpose(x, perm);
  Shape flat(front.shape().begin(), front.shape().begin() + kept);
  flat.push_back(
      std::accumulate(front.shape().begin() + kept, front.shape().end(), int64_t{1}, std::multiplies<>()));
  const Array rows = reshape(front, flat);
  const Array left = scan(rows, ScanKind::kProd, -1, false, false),
              right = scan(rows, ScanKind::kProd, -1, true, false);
  const Array others = transpose(reshape(conj_if(multiply(left, right)), front.shape()), inverse);
  return {multiply(g[0], others)};
}

// Ties share the gradient evenly.
Arrays extremum_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const Array at = astype(equal(c.in[0], c.outs[0]), g[0].dtype());
  return {multiply(divide(g[0], reduce_keepdims(OpId::Sum, at, axes_of(c))), at)};
}

Arrays sort_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const int64_t axis = c.node.as<AxisParams>().axis;
  return {put_along_axis(zeros_like(c.in[0], g[0].dtype()), argsort(c.in[0], axis), g[0], axis)};
}

// Element i is what stood `by` places behind it in the direction of the scan, and zero where there is none.
Array shifted(const Array& a, int64_t axis, bool reverse, int64_t by) {
  const auto at = static_cast<size_t>(axis);
  Shape start(a.shape().size(), 0), stop = a.shape();
  std::vector<std::pair<int64_t, int64_t>> widths(a.shape().size(), {0, 0});
  by = std::min(by, stop[at]);
  if (reverse) {
    stop[at] -= by;
    widths[at] = {by, 0};
  } else {
    start[at] = by;
    widths[at] = {0, by};
  }
  return pad(slice(a, start, stop), widths, zero(a));
}

// Gradient of an inclusive cumulative product, with zeros in x allowed.
Array cumprod_gradient(const Array& x, const Array& out, const Array& g, int64_t axis, bool reverse) {
  auto total = [&](const Array& v) { return scan(v, ScanKind::kSum, axis, !reverse, true); };
  const Array is_zero = equal(x, zero(x));
  const Array zeros_so_far = scan(astype(is_zero, Dtype::kInt32), ScanKind::kSum, axis, reverse, true);
  const Array first = logical_and(is_zero, equal(zeros_so_far, Array(1)));
  const Array one(int64_t{1}, x.dtype());
  const Array without_first = scan(where(first, one, x), ScanKind::kProd, axis, reverse, true);
  const Array plain = divide(total(multiply(g, conj_if(out))), conj_if(where(is_zero, one, x)));
  const Array at_first = total(multiply(g, conj_if(without_first)));
  return where(first, at_first, where(greater(zeros_so_far, Array(0)), zero(g), plain));
}

// Each running extremum passes its gradient to the element it came from; of equal ones, the latest.
Array cumextremum_gradient(const Array& x, const Array& out, const Array& g, int64_t axis, bool reverse) {
  Shape shape(x.shape().size(), 1);
  shape[static_cast<size_t>(axis)] = x.shape()[static_cast<size_t>(axis)];
  const Array line = reshape(arange(0, shape[static_cast<size_t>(axis)], 1, Dtype::kInt64), shape);
  const Array here = equal(x, out);
  const Array none = Array(reverse ? x.shape()[static_cast<size_t>(axis)] - 1 : int64_t{0}, Dtype::kInt64);
  const Array from =
      scan(where(here, line, none), reverse ? ScanKind::kMin : ScanKind::kMax, axis, reverse, true);
  return put_along_axis(zeros_like(g), from, g, axis, ScatterMode::kAdd);
}

// exp(x - y), 1 where both are the same infinity.
Array exp_of_difference(const Array& x, const Array& y) {
  return exp(where(equal(x, y), zero(x), subtract(x, y)));
}

// sum_j g_j exp(x_i - out_j) over the j from i on, as exp(x_i - out_i) t_i with t_i = g_i + r_i t_(i+1) and
// r_i = exp(out_i - out_(i+1)): no exponent is positive. The recurrence is solved by doubling.
Array logcumsumexp_gradient(const Array& x, const Array& out, const Array& g, int64_t axis, bool reverse) {
  const auto at = static_cast<size_t>(axis);
  const int64_t n = x.shape()[at];
  Array total = g, ratio;
  if (n > 1) {
    // The last ratio has nothing to multiply but must be finite.
    Shape start(x.shape().size(), 0), stop = x.shape(), end = start;
    (reverse ? stop[at] : start[at]) += reverse ? -1 : 1;
    end[at] = reverse ? 0 : n - 1;
    Shape after_end = x.shape();
    after_end[at] = end[at] + 1;
    Array parts[] = {slice(out, start, stop), slice(out, end, after_end)};
    if (reverse) std::swap(parts[0], parts[1]);
    ratio = conj_if(exp_of_difference(out, concatenate(parts, axis)));
  }
  for (int64_t by = 1; by < n; by *= 2) {
    total = add(total, multiply(ratio, shifted(total, axis, reverse, by)));
    if (2 * by < n) ratio = multiply(ratio, shifted(ratio, axis, reverse, by));
  }
  return multiply(conj_if(exp_of_difference(x, out)), total);
}

Arrays scan_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const auto& p = c.node.as<ScanParams>();
  const Array& x = c.in[0];
  if (p.kind == ScanKind::kSum) return {scan(g[0], ScanKind::kSum, p.axis, !p.reverse, p.inclusive)};
  // The cotangent of an element of an exclusive scan belongs to the inclusive scan's element before it.
  const Array cotangent = p.inclusive ? g[0] : shifted(g[0], p.axis, p.reverse, 1);
  const Array out = p.inclusive ? c.outs[0] : scan(x, p.kind, p.axis, p.reverse, true);
  switch (p.kind) {
    case ScanKind::kProd: return {cumprod_gradient(x, out, cotangent, p.axis, p.reverse)};
    case ScanKind::kLogAddExp: return {logcumsumexp_gradient(x, out, cotangent, p.axis, p.reverse)};
    default: return {cumextremum_gradient(x, out, cotangent, p.axis, p.reverse)};
  }
}

// ---- language models ----

Arrays rope_rule(const OpCall& c, const Arrays& g, const Wants&) {
  RopeParams p = c.node.as<RopeParams>();
  p.inverse = !p.inverse;
  Arrays in = c.in;
  in[0] = g[0];
  Arrays out(c.in.size());
  out[0] = make_node(OpId::Rope, c.node.dtype, c.node.shape, in, make_params(p));
  return out;
}

// Attention in plain ops, for what the kernels do not differentiate: masks, sinks, second derivatives, the
// log-sum-exp.
Arrays plain_attention(const AttentionParams& p, const Arrays& in) {
  const Array q = astype(in[0], Dtype::kFloat32), k = astype(in[1], Dtype::kFloat32),
              v = astype(in[2], Dtype::kFloat32);
  const int64_t b = q.shape(0), heads = q.shape(1), kv = k.shape(1), l = q.shape(2), s = k.shape(2);
  auto grouped = [&](const Array& x) { return reshape(x, {b, kv, heads / kv, l, x.shape(-1)}); };
  Array scores = matmul(grouped(q), expand_dims(last_two_swapped(k), {2})) * static_cast<double>(p.scale);
  // As in the kernels: a row of hidden keys averages all values, one of -inf is NaN, and no key gives zeros.
  const Array hidden(-std::numeric_limits<float>::max());
  if (p.has_mask) {
    const Array m = reshape(in[3], {b, kv, heads / kv, l, s});
    scores =
        in[3].dtype() == Dtype::kBool ? where(m, scores, hidden) : add(scores, astype(m, Dtype::kFloat32));
  }
  if (p.causal) {
    const Array row = expand_dims(arange(s - l, s, 1, Dtype::kInt64), {1}),
                column = arange(0, s, 1, Dtype::kInt64);
    scores = where(greater_equal(row, column), scores, hidden);
  }
  if (p.has_sinks) {
    const Array sinks = reshape(astype(in[p.has_mask ? 4 : 3], Dtype::kFloat32), {1, kv, heads / kv, 1, 1});
    const Array parts[] = {scores, broadcast_to(sinks, {b, kv, heads / kv, l, 1})};
    scores = concatenate(parts, -1);
  }
  if (scores.shape(-1) == 0) {
    const Array none(-std::numeric_limits<double>::infinity());
    return {zeros({b, heads, l, v.shape(-1)}, in[0].dtype()), full({b, heads, l}, none)};
  }
  const Array weights = slice(softmax(scores, Axes{-1}), Shape(5, 0), {b, kv, heads / kv, l, s});
  const Array out = reshape(matmul(weights, expand_dims(v, {2})), {b, heads, l, v.shape(-1)});
  return {astype(out, in[0].dtype()), reshape(logsumexp(scores, Axes{-1}, true), {b, heads, l})};
}

Arrays attention_rule(const OpCall& c, const Arrays& g, const Wants& wants) {
  const auto& p = c.node.as<AttentionParams>();
  const bool mask_wanted = p.has_mask && wants[3];
  const bool sinks_wanted = p.has_sinks && wants[p.has_mask ? 4 : 3];
  Arrays out(c.in.size());
  if (!mask_wanted && !sinks_wanted && !g[1].valid()) {
    Arrays in = c.in;
    in.push_back(c.outs[0]);
    in.push_back(contiguous(c.outs[1]));
    in.push_back(astype(g[0], c.outs[0].dtype()));
    const Shape shapes[] = {c.in[0].shape(), c.in[1].shape(), c.in[2].shape()};
    const Dtype dtypes[] = {c.in[0].dtype(), c.in[1].dtype(), c.in[2].dtype()};
    const Arrays grads = make_tuple_node(OpId::AttentionBackward, shapes, dtypes, in, c.node.params);
    std::copy(grads.begin(), grads.end(), out.begin());
    return out;
  }
  const Arrays cotangents = {g[0].valid() ? g[0] : zeros_like(c.outs[0]),
                             g[1].valid() ? g[1] : zeros_like(c.outs[1])};
  return vjp([&p](const Arrays& in) { return plain_attention(p, in); }, c.in, cotangents).second;
}

// Second derivatives: through the plain form's gradient as a function of q, k, v, ... and the cotangent.
Arrays attention_backward_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const AttentionParams p = c.node.as<AttentionParams>();
  const size_t n = c.in.size() - 3;
  auto gradients = [&p, n](const Arrays& in) {
    const Arrays primals(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(n));
    auto first = [&p](const Arrays& x) { return Arrays{plain_attention(p, x)[0]}; };
    Arrays d = vjp(first, primals, {in[n]}).second;
    d.resize(3);
    return d;
  };
  Arrays primals(c.in.begin(), c.in.begin() + static_cast<std::ptrdiff_t>(n));
  primals.push_back(c.in.back());
  Arrays cotangents;
  for (size_t i = 0; i < 3; ++i) cotangents.push_back(g[i].valid() ? g[i] : zeros_like(c.outs[i]));
  Arrays grads = vjp(gradients, primals, cotangents).second;
  // The output and the log-sum-exp are functions of the others: their share is in those gradients.
  Arrays out(c.in.size());
  for (size_t i = 0; i < n; ++i) out[i] = grads[i];
  out.back() = grads[n];
  return out;
}

Arrays paged_attention_rule(const OpCall&, const Arrays&, const Wants&) {
  fail<Unsupported>("paged_attention", "has no gradient; scaled_dot_product_attention has one");
}
Arrays call_rule(const OpCall&, const Arrays&, const Wants&) {
  fail<Unsupported>("call", "a graph that is evaluated as a whole has no gradient: take it of the function");
}
Arrays cache_write_rule(const OpCall&, const Arrays&, const Wants&) {
  fail<Unsupported>("cache_write", "has no gradient; an assignment by index has one");
}

constexpr auto kRules = [] {
  std::array<VjpRule, kNumOps> t{};
  auto set = [&t](OpId op, VjpRule rule) { t[static_cast<size_t>(op)] = rule; };
  set(OpId::Identity, same);
  set(OpId::Contiguous, same);
  set(OpId::Depends, depends_rule);
  set(OpId::Broadcast, broadcast_rule);
  set(OpId::Transpose, transpose_rule);
  set(OpId::ExpandDims, expand_rule);
  set(OpId::Squeeze, squeeze_rule);
  set(OpId::Reshape, reshape_rule);
  set(OpId::Slice, slice_rule);
  set(OpId::AsStrided, as_strided_rule);
  set(OpId::Concatenate, concatenate_rule);
  set(OpId::SliceUpdate, slice_update_rule);
  set(OpId::Gather, gather_rule);
  set(OpId::GatherAxis, gather_axis_rule);
  set(OpId::Scatter, scatter_rule);
  set(OpId::ScatterAxis, scatter_axis_rule);
  set(OpId::Matmul, matmul_rule);
  set(OpId::SegmentedMatmul, segmented_matmul_rule);
  set(OpId::Sum, sum_rule);
  set(OpId::Prod, prod_rule);
  set(OpId::Max, extremum_rule);
  set(OpId::Min, extremum_rule);
  set(OpId::Sort, sort_rule);
  set(OpId::Scan, scan_rule);
  set(OpId::AffineDequantize, dequantize_rule);
  set(OpId::QuantizedMatmul, quantized_matmul_rule);
  set(OpId::GatherMatmul, gather_matmul_rule);
  set(OpId::GatherQuantizedMatmul, gather_quantized_rule);
  set(OpId::Rope, rope_rule);
  set(OpId::Attention, attention_rule);
  set(OpId::AttentionBackward, attention_backward_rule);
  set(OpId::PagedAttention, paged_attention_rule);
  set(OpId::CacheWrite, cache_write_rule);
  set(OpId::Call, call_rule);
  set(OpId::Convolution, convolution_rule);
  return t;
}();

}  // namespace

VjpRule vjp_rule(OpId op) {
  const VjpRule rule = kRules[static_cast<size_t>(op)];
  return rule ? rule : linalg_vjp_rule(op);
}

Array adjoint(const Array& a) { return last_two_swapped(conj_if(a)); }

std::optional<Array> input_at(std::span<const Array> in, size_t i) {
  return i < in.size() ? std::optional<Array>(in[i]) : std::nullopt;
}

std::pair<Array, Array> group_gradients(const Array& dw, const Array& packed, const Array& scales,
                                        int group_size, int bits) {
  const Array q = dequantize(packed, ones_like(scales), zeros_like(scales), group_size, bits);
  Shape groups = scales.shape();
  groups.push_back(group_size);
  const Array g = reshape(astype(dw, Dtype::kFloat32), groups);
  return {sum(multiply(g, reshape(astype(q, Dtype::kFloat32), groups)), Axes{-1}), sum(g, Axes{-1})};
}

bool has_byte_scales(const char* op, const QuantParams& p, const Wants& wants, size_t first_scale) {
  if (p.format == QuantFormat::kAffine) return false;
  if (wants.size() > first_scale && wants[first_scale]) {
    fail<ValueError>(op, "the scales of mode '{}' have no gradient", block_format(p.format).name);
  }
  return true;
}

std::vector<bool> linear_operands(const OpCall& c) {
  std::vector<bool> out(c.in.size(), false);
  switch (c.op) {
    case OpId::Identity:
    case OpId::Contiguous:
    case OpId::Broadcast:
    case OpId::Transpose:
    case OpId::ExpandDims:
    case OpId::Squeeze:
    case OpId::Reshape:
    case OpId::Slice:
    case OpId::AsStrided:
    case OpId::Sum:
    case OpId::Depends:
    case OpId::Gather:
    case OpId::GatherAxis:
    case OpId::Fft:
    case OpId::Rope: out[0] = true; break;
    case OpId::Solve:
    case OpId::SolveTriangular: out[1] = true; break;
    case OpId::Concatenate: out.assign(out.size(), true); break;
    case OpId::SliceUpdate: out = {true, true}; break;
    case OpId::Scan: out[0] = c.node.as<ScanParams>().kind == ScanKind::kSum; break;
    case OpId::AffineDequantize:
      for (size_t i = 1; i < out.size(); ++i)
        out[i] = c.node.as<QuantParams>().format == QuantFormat::kAffine;
      break;
    case OpId::Scatter: {
      const ScatterMode m = c.node.as<ScatterParams>().mode;
      out[0] = out[1] = m == ScatterMode::kSet || m == ScatterMode::kAdd;
      break;
    }
    case OpId::ScatterAxis: {
      const ScatterMode m = c.node.as<ScatterAxisParams>().mode;
      out[0] = out[2] = m == ScatterMode::kSet || m == ScatterMode::kAdd;
      break;
    }
    default: break;
  }
  return out;
}

}  // namespace lamina::autograd
