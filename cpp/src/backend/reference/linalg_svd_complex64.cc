#include "backend/reference/linalg_svd-inl.h"

extern template class Eigen::BDCSVD<lamina::reference::Matrix<float>>;

namespace lamina::reference {
namespace {

// Reflections on both sides make a complex matrix real and bidiagonal (Golub and Kahan 1965), so that one
// solver, the one for float32, serves both: its singular vectors, reflected back, are the matrix's.
class ComplexSvd {
 public:
  using Complex = std::complex<float>;

  ComplexSvd(const Matrix<Complex>& a, unsigned options) : wide_(a.rows() < a.cols()) {
    const float largest = a.cwiseAbs().maxCoeff();
    const float scale = largest > 0 ? largest : 1.0f;
    const Matrix<Complex> tall = wide_ ? Matrix<Complex>(a.adjoint() / scale) : Matrix<Complex>(a / scale);
    Eigen::internal::UpperBidiagonalization<Matrix<Complex>> reflected(tall);
    const Matrix<float> middle = reflected.bidiagonal().toDenseMatrix();
    const bool vectors = (options & (Eigen::ComputeFullU | Eigen::ComputeThinU)) != 0;
    const Eigen::BDCSVD<Matrix<float>> real(middle, vectors ? Eigen::ComputeFullU | Eigen::ComputeFullV : 0u);
    info_ = real.info();
    values_ = real.singularValues() * scale;
    if (!vectors || info_ != Eigen::Success) return;
    const auto full_left = static_cast<unsigned>(wide_ ? Eigen::ComputeFullV : Eigen::ComputeFullU);
    const Eigen::Index n = tall.cols();
    left_ = Matrix<Complex>::Identity(tall.rows(), (options & full_left) ? tall.rows() : n);
    left_.topLeftCorner(n, n) = real.matrixU().cast<Complex>();
    reflected.householderU().applyThisOnTheLeft(left_);
    right_ = real.matrixV().cast<Complex>();
    reflected.householderV().applyThisOnTheLeft(right_);
  }

  Eigen::ComputationInfo info() const { return info_; }
  const Eigen::VectorXf& singularValues() const { return values_; }
  const Matrix<Complex>& matrixU() const { return wide_ ? right_ : left_; }
  const Matrix<Complex>& matrixV() const { return wide_ ? left_ : right_; }

 private:
  bool wide_;
  Eigen::ComputationInfo info_ = Eigen::Success;
  Eigen::VectorXf values_;
  Matrix<Complex> left_, right_;
};

}  // namespace

void svd_complex64(const View& a, const View* u, const View& s, const View* vt) {
  svd_of<std::complex<float>, ComplexSvd>(a, u, s, vt);
}

}  // namespace lamina::reference
