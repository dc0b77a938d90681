#include <Eigen/Eigenvalues>

#include "backend/reference/linalg.h"
#include "backend/reference/linalg_batch.h"

namespace lamina::reference {
namespace {

template <class T>
void eigh_of(const View& a, bool upper, const View& values, const View* vectors) {
  using Real = typename Eigen::NumTraits<T>::Real;
  const int options = vectors ? Eigen::ComputeEigenvectors : Eigen::EigenvaluesOnly;
  for_each_matrix(a, "linalg::eigh", kNotFinite, [&](int64_t i) {
    const MatrixMap<T> from = matrix_at<T>(a, i);
    const Matrix<T> lower = upper ? Matrix<T>(from.adjoint()) : Matrix<T>(from);
    // The other triangle may hold anything.
    if (!Matrix<T>(lower.template triangularView<Eigen::Lower>()).allFinite()) return false;
    const Eigen::SelfAdjointEigenSolver<Matrix<T>> parts(lower, options);
    if (parts.info() != Eigen::Success) return false;
    vector_at<Real>(values, i) = parts.eigenvalues();
    if (vectors) matrix_at<T>(*vectors, i) = parts.eigenvectors();
    return true;
  });
}

}  // namespace

void eigh(const View& a, bool upper, const View& values, const View* vectors) {
  if (a.size() == 0) return;
  if (a.dtype == Dtype::kComplex64) return eigh_of<std::complex<float>>(a, upper, values, vectors);
  visit_real(a.dtype, [&]<class T>(std::type_identity<T>) { eigh_of<T>(a, upper, values, vectors); });
}

}  // namespace lamina::reference
