#include "backend/reference/linalg_svd-inl.h"

namespace lamina::reference {

void svd_complex64(const View& a, const View* u, const View& s, const View* vt) {
  svd_of<std::complex<float>>(a, u, s, vt);
}

}  // namespace lamina::reference
