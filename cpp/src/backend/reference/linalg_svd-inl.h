#pragma once

#include <Eigen/SVD>

#include "backend/reference/linalg.h"
#include "backend/reference/linalg_batch.h"

// Compiled once for each element type, each in a file of its own: Eigen's solver takes a compiler half a
// minute.
namespace lamina::reference {

template <class T, class Solver = Eigen::BDCSVD<Matrix<T>>>
void svd_of(const View& a, const View* u, const View& s, const View* vt) {
  using Real = typename Eigen::NumTraits<T>::Real;
  const int64_t rows = a.shape[a.shape.size() - 2], columns = a.shape.back();
  unsigned options = 0;
  if (u) {
    options |= u->shape.back() == rows ? Eigen::ComputeFullU : Eigen::ComputeThinU;
    options |= vt->shape[vt->shape.size() - 2] == columns ? Eigen::ComputeFullV : Eigen::ComputeThinV;
  }
  for_each_matrix(a, "linalg::svd", kNotFinite, [&](int64_t i) {
    const Matrix<T> matrix = matrix_at<T>(a, i);
    if (!matrix.allFinite()) return false;
    if (matrix.size() == 0) {
      if (u) matrix_at<T>(*u, i).setIdentity();
      if (vt) matrix_at<T>(*vt, i).setIdentity();
      return true;
    }
    const Solver parts(matrix, options);
    if (parts.info() != Eigen::Success) return false;
    vector_at<Real>(s, i) = parts.singularValues();
    if (u) matrix_at<T>(*u, i) = parts.matrixU();
    if (vt) matrix_at<T>(*vt, i) = parts.matrixV().adjoint();
    return true;
  });
}

void svd_float32(const View& a, const View* u, const View& s, const View* vt);
void svd_float64(const View& a, const View* u, const View& s, const View* vt);
void svd_complex64(const View& a, const View* u, const View& s, const View* vt);

}  // namespace lamina::reference
