#include "autograd/vmap.h"

// Products over ranges of the inner axis.
namespace lamina::autograd {
namespace {

// inside[..., k, 0]: whether segment ... covers k.
Array covered(const Array& segments, int64_t inner) {
  auto bound = [&](int64_t i) {
    Shape start(segments.shape().size(), 0), stop = segments.shape();
    start.back() = i;
    stop.back() = i + 1;
    return expand_dims(slice(segments, start, stop), {-1});
  };
  const Array k = expand_dims(arange(0, inner, 1, Dtype::kInt64), {1});
  return logical_and(greater_equal(k, bound(0)), less(k, bound(1)));
}

// The sum over the segments of a product's share of the elements that each covers.
Array over_segments(const Array& inside, const Array& shares) {
  const Array zero(int64_t{0}, shares.dtype());
  return sum(reshape(where(inside, shares, zero), {-1, shares.shape(-2), shares.shape(-1)}), Axes{0});
}

}  // namespace

Arrays segmented_matmul_rule(const OpCall& c, const Arrays& g, const std::vector<bool>& wants) {
  const Array &a = c.in[0], &b = c.in[1];
  const Array inside = covered(c.in[2], a.shape(1));
  Arrays out(3);
  if (wants[0]) out[0] = over_segments(swapaxes(inside, -1, -2), matmul(g[0], adjoint(b)));
  if (wants[1]) out[1] = over_segments(inside, matmul(adjoint(a), g[0]));
  return out;
}

// One factor's examples follow one another along the axis that is not summed over; segments may have any
// number of leading axes.
Arrays segmented_matmul_batch_rule(const BatchCall& b) {
  const Array &x = b.call.in[0], &y = b.call.in[1], &segments = b.call.in[2];
  if (b.batched[0] + b.batched[1] + b.batched[2] > 1) return batch_by_loop(b);
  if (b.batched[2]) return {segmented_mm(x, y, segments)};
  if (b.batched[0]) {
    const Array all = segmented_mm(reshape(x, {-1, x.shape(-1)}), y, segments);
    return {moveaxis(unflatten(all, -2, {b.size, x.shape(-2)}), -3, 0)};
  }
  const Array wide = reshape(transpose(y, Axes{1, 0, 2}), {y.shape(1), -1});
  return {moveaxis(unflatten(segmented_mm(x, wide, segments), -1, {b.size, y.shape(-1)}), -2, 0)};
}

}  // namespace lamina::autograd
