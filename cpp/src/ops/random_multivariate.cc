#include "lamina/linalg.h"
#include "ops/common.h"

namespace lamina::random {

Array multivariate_normal(const Array& mean, const Array& covariance, const Shape& shape, Dtype dtype,
                          const std::optional<Array>& key) {
  const char* op = "multivariate_normal";
  if (dtype != Dtype::kFloat32) fail<DtypeError>(op, "dtype must be float32, got {}", dtype);
  if (mean.ndim() < 1) fail<ShapeError>(op, "wants at least one axis in mean, got shape ()");
  const int64_t n = mean.shape(-1);
  if (covariance.ndim() < 2 || covariance.shape(-1) != n || covariance.shape(-2) != n) {
    fail<ShapeError>(op, "mean of shape {} wants a covariance of (..., {}, {}), got {}", mean.shape(), n, n,
                     covariance.shape());
  }
  const Shape means(mean.shape().begin(), mean.shape().end() - 1);
  const Shape matrices(covariance.shape().begin(), covariance.shape().end() - 2);
  const Shape batch = broadcast_shapes(means, matrices, op);
  Shape full = shape.empty() ? batch : shape;
  if (broadcast_shapes(full, batch, op) != full) {
    fail<ShapeError>(op, "mean and covariance of batch {} do not broadcast to shape {}", batch, full);
  }
  full.push_back(n);
  // A root of the covariance from its eigenvectors, which semi-definite matrices have too.
  const std::vector<Array> parts = linalg::eigh(astype(covariance, Dtype::kFloat32));
  const Array scale = sqrt(maximum(parts[0], Array(0.0f)));
  const Array root = multiply(parts[1], expand_dims(scale, {-2}));
  const Array draw = normal(full, dtype, std::nullopt, std::nullopt, key);
  const Array spread = squeeze(matmul(root, expand_dims(draw, {-1})), Axes{-1});
  return add(astype(mean, dtype), spread);
}

}  // namespace lamina::random
