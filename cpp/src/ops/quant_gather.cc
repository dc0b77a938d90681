#include "ops/common.h"
#include "quant/formats.h"
#include "quant/fp_blocks.h"

// Products with quantized matrices that are picked from a batch.
namespace lamina {

void check_matrix_indices(const std::optional<Array>& indices, std::string_view op, std::string_view name) {
  if (indices && !is_integer(indices->dtype())) {
    fail<DtypeError>(op, "{} must be integers, got {}", name, indices->dtype());
  }
}

int64_t matrix_count(const Array& a) {
  int64_t matrices = 1;
  for (int64_t i = 0; i + 2 < a.ndim(); ++i) matrices *= a.shape(i);
  return matrices;
}

Array all_matrices(const Array& a) {
  return a.ndim() == 3 ? a : reshape(a, {matrix_count(a), a.shape(-2), a.shape(-1)});
}

Array picked_matrices(const Array& a, const std::optional<Array>& indices, std::string_view op) {
  if (a.ndim() < 2) fail<ShapeError>(op, "wants at least 2 axes, got shape {}", a.shape());
  return indices ? take(all_matrices(a), *indices, 0) : a;
}

PickedFactors picked_factors(const Array& x, const Array& indices, const char* op) {
  Shape shape = broadcast_shapes(Shape(x.shape().begin(), x.shape().end() - 2), indices.shape(), op);
  const Array picks = broadcast_to(indices, shape);
  shape.push_back(x.shape(-2));
  shape.push_back(x.shape(-1));
  return {broadcast_to(x, shape), picks};
}

namespace {

using OptArray = std::optional<Array>;

// What the global scales of nvfp4 matrices, one for each of the batch, multiply their products by; (..., 1,
// 1).
Array product_factor(const Array& w, const OptArray& indices, const QuantSpec& s, const Array& global_scale,
                     const char* op) {
  const Shape batch(w.shape().begin(), w.shape().end() - 2);
  const int64_t matrices = matrix_count(w);
  if (s.format != QuantFormat::kNvfp4) fail<ValueError>(op, "only mode 'nvfp4' takes a global_scale");
  if (global_scale.dtype() != Dtype::kFloat32) {
    fail<DtypeError>(op, "global_scale must be float32, got {}", global_scale.dtype());
  }
  if (global_scale.size() != matrices) {
    fail<ShapeError>(op, "global_scale must have one entry for each of {} matrices, got shape {}", matrices,
                     global_scale.shape());
  }
  Shape each = batch;
  each.push_back(1);
  each.push_back(1);
  const Array scales = multiply(reshape(global_scale, each), Array(1 / kNvfp4Span));
  return picked_matrices(scales, indices, op);
}

}  // namespace

Array gather_qmm(const Array& x, const Array& w, const OptArray& scales, const OptArray& biases,
                 const OptArray& x_indices, const OptArray& w_indices, const QuantSpec& spec, bool transpose,
                 const OptArray& global_scale, QuantizedMode mode) {
  const char* op = "gather_qmm";
  if (!is_floating(x.dtype()) || x.dtype() == Dtype::kFloat64) {
    fail<DtypeError>(op, "x must be float32, float16 or bfloat16, got {}", x.dtype());
  }
  check_matrix_indices(x_indices, op, "lhs_indices");
  check_matrix_indices(w_indices, op, "rhs_indices");
  const Array rows = picked_matrices(x, x_indices, op);
  const auto product = [&](const Array& from) {
    return w_indices ? picked_quantized_matmul(from, w, scales, biases, *w_indices, spec, transpose, mode)
                     : quantized_matmul(from, w, scales, biases, spec, transpose, mode);
  };
  if (!global_scale) return product(rows);
  const Array factor = product_factor(w, w_indices, spec, *global_scale, op);
  return astype(multiply(product(astype(rows, Dtype::kFloat32)), factor), x.dtype());
}

}  // namespace lamina
