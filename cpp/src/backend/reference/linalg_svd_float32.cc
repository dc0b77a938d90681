#include "backend/reference/linalg_svd-inl.h"

template class Eigen::BDCSVD<lamina::reference::Matrix<float>>;

namespace lamina::reference {

void svd_float32(const View& a, const View* u, const View& s, const View* vt) { svd_of<float>(a, u, s, vt); }

void svd(const View& a, const View* u, const View& s, const View* vt) {
  switch (a.dtype) {
    case Dtype::kFloat64: return svd_float64(a, u, s, vt);
    case Dtype::kComplex64: return svd_complex64(a, u, s, vt);
    default: return svd_float32(a, u, s, vt);
  }
}

}  // namespace lamina::reference
