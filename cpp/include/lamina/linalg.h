#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lamina/ops.h"

// Linear algebra over the last two axes; leading axes are batches. Arrays are float32 or float64 unless a
// line says more. What a matrix has not (an inverse, a root) is a LinalgError of the evaluation.
namespace lamina::linalg {

// The order of a norm: a number (infinities too), "fro", "f" or "nuc", or nothing: the 2-norm of vectors and
// the Frobenius norm of matrices.
struct NormOrder {
  std::optional<double> number;
  std::string name;
};
// One axis: vectors; two: matrices; none given: all of a. Any dtype.
Array norm(const Array& a, const NormOrder& order = {}, const OptAxes& axes = std::nullopt,
           bool keepdims = false);
// Cross product of vectors of length 2 or 3 along an axis. Any dtype.
Array cross(const Array& a, const Array& b, int64_t axis = -1);

// L with a = L L^T of the lower triangle of a, or U with a = U^T U of its upper triangle.
Array cholesky(const Array& a, bool upper = false);
// Inverse of L L^T (of U^T U) from the triangle alone.
Array cholesky_inv(const Array& a, bool upper = false);
Array inv(const Array& a);
// Inverse of a triangle of a.
Array tri_inv(const Array& a, bool upper = false);
// Moore-Penrose inverse; singular values below eps * max(m, n) * largest count as zero.
Array pinv(const Array& a);
// x with a x = b; b is (..., n, k), or (n,).
Array solve(const Array& a, const Array& b);
Array solve_triangular(const Array& a, const Array& b, bool upper = false);

// {p, L, U} with a = L[p] U; p is uint32.
std::vector<Array> lu(const Array& a);
// {LU, pivots}: both factors in one matrix, and the row that each row was exchanged with (uint32).
std::vector<Array> lu_factor(const Array& a);
// {Q, R}, reduced.
std::vector<Array> qr(const Array& a);
// {U, S, Vt} with square U and Vt, or {S}; complex64 too.
std::vector<Array> svd(const Array& a, bool compute_uv = true);
// {values, vectors}, complex64; complex64 arrays too.
std::vector<Array> eig(const Array& a);
Array eigvals(const Array& a);
// {values in ascending order, vectors} of the matrix that the lower (upper) triangle stands for; complex64
// too.
std::vector<Array> eigh(const Array& a, bool upper = false);
Array eigvalsh(const Array& a, bool upper = false);
// Any real dtype: 16-bit floats keep theirs, integers give float32.
Array det(const Array& a);
// {sign, log |det|}
std::vector<Array> slogdet(const Array& a);

}  // namespace lamina::linalg

namespace lamina {

// Sums of products over labelled axes: "ij,jk->ik". Labels are letters; "..." stands for axes that broadcast;
// without "->" the labels that occur once are kept, in alphabetic order.
Array einsum(const std::string& subscripts, std::span<const Array> operands);
// The pairs that einsum contracts in turn (each result goes to the end of the list), and what that costs.
std::pair<std::vector<std::vector<int>>, std::string> einsum_path(const std::string& subscripts,
                                                                  std::span<const Array> operands);

namespace random {
// Samples of normal distributions; mean (..., n) and covariance (..., n, n) broadcast to shape + (n,).
// float32.
Array multivariate_normal(const Array& mean, const Array& covariance, const Shape& shape = {},
                          Dtype dtype = Dtype::kFloat32, const std::optional<Array>& key = std::nullopt);
}  // namespace random

}  // namespace lamina
