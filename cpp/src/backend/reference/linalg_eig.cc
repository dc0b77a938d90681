#include <Eigen/Eigenvalues>

#include "backend/reference/linalg.h"
#include "backend/reference/linalg_batch.h"

namespace lamina::reference {
namespace {

using Complex = std::complex<double>;

// Length 1, and a real component of largest magnitude.
void normalize_columns(Matrix<Complex>& vectors) {
  for (int64_t j = 0; j < vectors.cols(); ++j) {
    vectors.col(j).normalize();
    if ((vectors.col(j).imag().array() == 0).all()) continue;
    int64_t at = 0;
    vectors.col(j).cwiseAbs().maxCoeff(&at);
    const Complex largest = vectors(at, j);
    vectors.col(j) *= std::conj(largest) / std::abs(largest);
    vectors(at, j) = vectors(at, j).real();
  }
}

// T: what the matrix holds; Solver: Eigen's for it in double precision.
template <class T, class Solver>
void eig_of(const View& a, const View& values, const View* vectors) {
  using Wide = typename Solver::MatrixType::Scalar;
  for_each_matrix(a, "linalg::eig", kNotFinite, [&](int64_t i) {
    const Matrix<Wide> matrix = matrix_at<T>(a, i).template cast<Wide>();
    if (!matrix.allFinite()) return false;
    const Solver parts(matrix, vectors != nullptr);
    if (parts.info() != Eigen::Success) return false;
    vector_at<std::complex<float>>(values, i) = parts.eigenvalues().template cast<std::complex<float>>();
    if (!vectors) return true;
    Matrix<Complex> columns = parts.eigenvectors();
    normalize_columns(columns);
    matrix_at<std::complex<float>>(*vectors, i) = columns.cast<std::complex<float>>();
    return true;
  });
}

}  // namespace

void eig(const View& a, const View& values, const View* vectors) {
  if (a.size() == 0) return;
  if (a.dtype == Dtype::kComplex64) {
    eig_of<std::complex<float>, Eigen::ComplexEigenSolver<Matrix<Complex>>>(a, values, vectors);
  } else if (a.dtype == Dtype::kFloat64) {
    eig_of<double, Eigen::EigenSolver<Matrix<double>>>(a, values, vectors);
  } else {
    eig_of<float, Eigen::EigenSolver<Matrix<double>>>(a, values, vectors);
  }
}

}  // namespace lamina::reference
