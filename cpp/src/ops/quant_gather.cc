#include "ops/common.h"
#include "quant/formats.h"
#include "quant/fp_blocks.h"

// Products with quantized matrices that are picked from a batch.
namespace lamina {

Array picked_matrices(const Array& a, const std::optional<Array>& indices, std::string_view op) {
  if (a.ndim() < 2) fail<ShapeError>(op, "wants at least 2 axes, got shape {}", a.shape());
  if (!indices) return a;
  return take(reshape(a, {-1, a.shape(-2), a.shape(-1)}), *indices, 0);
}

namespace {

using OptArray = std::optional<Array>;

// What the global scales of nvfp4 matrices, one for each of the batch, multiply their products by; (..., 1,
// 1).
Array product_factor(const Array& w, const OptArray& indices, const QuantSpec& s, const Array& global_scale,
                     const char* op) {
  const Shape batch(w.shape().begin(), w.shape().end() - 2);
  int64_t matrices = 1;
  for (int64_t n : batch) matrices *= n;
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
                 const OptArray& global_scale) {
  const char* op = "gather_qmm";
  const auto part = [&](const OptArray& a) {
    return a ? OptArray(picked_matrices(*a, w_indices, op)) : std::nullopt;
  };
  if (!is_floating(x.dtype()) || x.dtype() == Dtype::kFloat64) {
    fail<DtypeError>(op, "x must be float32, float16 or bfloat16, got {}", x.dtype());
  }
  const Array rows = picked_matrices(x, x_indices, op), matrices = picked_matrices(w, w_indices, op);
  if (!global_scale) return quantized_matmul(rows, matrices, part(scales), part(biases), spec, transpose);
  const Array factor = product_factor(w, w_indices, spec, *global_scale, op);
  const Array y =
      quantized_matmul(astype(rows, Dtype::kFloat32), matrices, part(scales), part(biases), spec, transpose);
  return astype(multiply(y, factor), x.dtype());
}

}  // namespace lamina
