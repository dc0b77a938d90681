#include "ops/common.h"

// Matrix products of parts: masked blocks, segments of the inner axis, matrices picked from batches.
namespace lamina {
namespace {

Array row_factor(const Array& a) { return a.ndim() == 1 ? expand_dims(a, {0}) : a; }
Array column_factor(const Array& b) { return b.ndim() == 1 ? expand_dims(b, {1}) : b; }
// Drops the axes that row_factor and column_factor have added to the factors of this product.
Array without_added_axes(const Array& product, const Array& a, const Array& b) {
  Axes drop;
  if (a.ndim() == 1) drop.push_back(-2);
  if (b.ndim() == 1) drop.push_back(-1);
  return drop.empty() ? product : squeeze(product, drop);
}

Shape batch_axes(const Array& a) { return Shape(a.shape().begin(), a.shape().end() - 2); }

void check_factors(const Array& a, const Array& b, const char* op) {
  if (a.ndim() == 0 || b.ndim() == 0) {
    fail<ShapeError>(op, "wants at least 1 axis on both sides, got shapes {} and {}", a.shape(), b.shape());
  }
  if (a.shape(-1) != column_factor(b).shape(-2)) {
    fail<ShapeError>(op, "inner dimensions differ: {} and {}", a.shape(), b.shape());
  }
}

struct BlockMask {
  const Array& mask;
  int64_t block;
  const Shape& batch;  // of the product
  const char* name;
};

// x with its blocks kept or dropped (bool mask: what is dropped is 0, whatever it was) or scaled.
Array apply_mask(const Array& x, const BlockMask& m) {
  const char* op = "block_masked_mm";
  const int64_t rows = x.shape(-2), columns = x.shape(-1);
  const int64_t down = (rows + m.block - 1) / m.block, across = (columns + m.block - 1) / m.block;
  const Shape have = m.mask.ndim() < 2 ? Shape{} : batch_axes(m.mask);
  if (m.mask.ndim() < 2 || m.mask.shape(-2) != down || m.mask.shape(-1) != across ||
      have.size() > m.batch.size() || broadcast_shapes(have, m.batch, op) != m.batch) {
    Shape want = m.batch;
    want.push_back(down);
    want.push_back(across);
    fail<ShapeError>(op, "{} must broadcast to {}, one element for each block of {}, got shape {}", m.name,
                     want, m.block, m.mask.shape());
  }
  // (..., down, across) to (..., down * block, across * block), then cropped.
  Shape repeated = have, flat = have;
  for (const int64_t d : {down, m.block, across, m.block}) repeated.push_back(d);
  for (const int64_t d : {down * m.block, across * m.block}) flat.push_back(d);
  const Array whole = reshape(broadcast_to(expand_dims(m.mask, {-3, -1}), repeated), flat);
  Shape stop = flat;
  stop[stop.size() - 2] = rows;
  stop[stop.size() - 1] = columns;
  const Array mask = slice(whole, Shape(stop.size(), 0), stop);
  if (m.mask.dtype() == Dtype::kBool) return where(mask, x, Array(int64_t{0}, x.dtype()));
  return multiply(x, astype(mask, x.dtype()));
}

}  // namespace

Array block_masked_mm(const Array& a, const Array& b, int64_t block_size,
                      const std::optional<Array>& mask_out, const std::optional<Array>& mask_a,
                      const std::optional<Array>& mask_b) {
  const char* op = "block_masked_mm";
  check_factors(a, b, op);
  if (block_size < 1) fail<ValueError>(op, "block_size must be positive, got {}", block_size);
  const Dtype t = promote(a.dtype(), b.dtype());
  if (!is_inexact(t)) {
    fail<DtypeError>(op, "wants factors of inexact dtypes, got {} and {}", a.dtype(), b.dtype());
  }
  Array x = astype(row_factor(a), t), y = astype(column_factor(b), t);
  const Shape batch = broadcast_shapes(batch_axes(x), batch_axes(y), op);
  if (mask_a) x = apply_mask(x, {*mask_a, block_size, batch, "mask_lhs"});
  if (mask_b) y = apply_mask(y, {*mask_b, block_size, batch, "mask_rhs"});
  Array product = matmul(x, y);
  if (mask_out) product = apply_mask(product, {*mask_out, block_size, batch, "mask_out"});
  return without_added_axes(product, a, b);
}

Array segmented_mm(const Array& a, const Array& b, const Array& segments) {
  const char* op = "segmented_mm";
  if (a.ndim() != 2 || b.ndim() != 2) {
    fail<ShapeError>(op, "wants two matrices, got shapes {} and {}", a.shape(), b.shape());
  }
  check_factors(a, b, op);
  const Dtype t = promote(a.dtype(), b.dtype());
  if (!is_inexact(t)) {
    fail<DtypeError>(op, "wants factors of inexact dtypes, got {} and {}", a.dtype(), b.dtype());
  }
  if (!is_integer(segments.dtype())) {
    fail<DtypeError>(op, "segments must be integers, got {}", segments.dtype());
  }
  if (segments.ndim() < 1 || segments.shape(-1) != 2) {
    fail<ShapeError>(op, "segments must have shape (..., 2), got {}", segments.shape());
  }
  Shape shape(segments.shape().begin(), segments.shape().end() - 1);
  shape.push_back(a.shape(0));
  shape.push_back(b.shape(1));
  return make_node(OpId::SegmentedMatmul, t, shape,
                   {astype(a, t), astype(b, t), astype(segments, Dtype::kInt64)});
}

Array gather_mm(const Array& a, const Array& b, const std::optional<Array>& a_indices,
                const std::optional<Array>& b_indices) {
  const char* op = "gather_mm";
  check_factors(a, b, op);
  check_matrix_indices(a_indices, op, "lhs_indices");
  check_matrix_indices(b_indices, op, "rhs_indices");
  const Array x = picked_matrices(row_factor(a), a_indices, op), y = column_factor(b);
  const Dtype t = promote(a.dtype(), b.dtype());
  if (!b_indices || !is_inexact(t)) {
    return without_added_axes(matmul(x, picked_matrices(y, b_indices, op)), a, b);
  }
  const PickedFactors p = picked_factors(astype(x, t), *b_indices, op);
  Shape shape = batch_axes(p.x);
  shape.push_back(x.shape(-2));
  shape.push_back(y.shape(-1));
  const Array product = make_node(OpId::GatherMatmul, t, shape, {p.x, all_matrices(astype(y, t)), p.indices});
  return without_added_axes(product, a, b);
}

}  // namespace lamina
