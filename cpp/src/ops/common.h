#pragma once

#include <optional>
#include <string_view>

#include "core/fail.h"
#include "graph/node.h"
#include "lamina/ops.h"
#include "ops/params.h"
#include "ops/table.h"

namespace lamina {

// A non-negative axis; throws ValueError naming op, axis and rank.
int64_t normalize_axis(int64_t axis, int64_t ndim, std::string_view op);
// Non-negative, sorted, distinct axes; nullopt gives all.
Axes normalize_axes(const OptAxes& axes, int64_t ndim, std::string_view op);
// The shape with the axes at length 1.
Shape keep_dims(const Shape& shape, const Axes& axes);
Shape drop_dims(const Shape& shape, const Axes& axes);
// Whether an operand of shape `from` may stand for one of shape `to`.
bool broadcasts_to(const Shape& from, const Shape& to);
// float32 for integers and bool, the dtype itself otherwise.
inline Dtype to_inexact(Dtype t) { return is_inexact(t) ? t : Dtype::kFloat32; }
// An elementwise node without dtype or shape checks; inputs may differ in shape as long as they broadcast to
// shape.
Array elementwise(OpId id, Dtype dtype, const Shape& shape, std::initializer_list<Array> inputs);
// A reduction node that keeps the axes at length 1.
Array reduce_keepdims(OpId id, const Array& x, const Axes& axes);
// ---- products with matrices (last two axes) picked from batches by flat indices ----

void check_matrix_indices(const std::optional<Array>& indices, std::string_view op, std::string_view name);
// The matrices that indices pick, or the batch as it is.
Array picked_matrices(const Array& a, const std::optional<Array>& indices, std::string_view op);
int64_t matrix_count(const Array& a);
// The batch as matrices along one axis.
Array all_matrices(const Array& a);
// First factors and the indices of their second ones, both with the leading axes of the products.
struct PickedFactors {
  Array x, indices;
};
PickedFactors picked_factors(const Array& x, const Array& indices, const char* op);
// gather_qmm's product of x (..., M, K) with the matrices that w_indices picks.
Array picked_quantized_matmul(const Array& x, const Array& w, const std::optional<Array>& scales,
                              const std::optional<Array>& biases, const Array& w_indices,
                              const QuantSpec& spec, bool transpose, QuantizedMode mode);
// The result of `row` in a table for operands of dtype t; throws DtypeError where the op does not take it.
Dtype compute_dtype(OpId id, Dtype t);

}  // namespace lamina
