#pragma once

#include "core/view.h"

// Decompositions and solutions over the last two axes of row-contiguous views, through Eigen. Leading axes
// are a batch, spread over the threads; every matrix is worked on by one. A matrix that has not what is asked
// for throws LinalgError with its place in the batch.
namespace lamina::reference {

// float32, float64.
void cholesky(const View& a, bool upper, const View& out);
void solve(const View& a, const View& b, const View& out);
void solve_triangular(const View& a, const View& b, bool upper, const View& out);
void lu(const View& a, const View& packed, const View& pivots, const View& permutation);
void qr(const View& a, const View& q, const View& r);

// float32, float64, complex64. u and vt are null where only the values are wanted; full where they are
// square.
void svd(const View& a, const View* u, const View& s, const View* vt);
// From one triangle; vectors null where only the values are wanted.
void eigh(const View& a, bool upper, const View& values, const View* vectors);
// Computed in double; vectors have length 1 and a real largest component.
void eig(const View& a, const View& values, const View* vectors);

}  // namespace lamina::reference
