#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <numeric>

#include "backend/reference/linalg.h"
#include "backend/reference/linalg_batch.h"

namespace lamina::reference {
namespace {

template <class T>
using Block = Eigen::Ref<Matrix<T>, 0, Eigen::OuterStride<>>;

template <class T>
void swap_rows(Block<T> a, const uint32_t* pivots, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (pivots[i] != i) a.row(i).swap(a.row(pivots[i]));
  }
}

// One column after the other. A column of zeros stays as it is.
template <class T>
void factor_panel(Block<T> a, uint32_t* pivots) {
  const int64_t rows = a.rows(), columns = std::min(rows, a.cols());
  for (int64_t j = 0; j < columns; ++j) {
    int64_t best = j;
    for (int64_t i = j + 1; i < rows; ++i) {
      if (std::abs(a(i, j)) > std::abs(a(best, j))) best = i;
    }
    pivots[j] = static_cast<uint32_t>(best);
    if (best != j) a.row(j).swap(a.row(best));
    if (a(j, j) == T(0)) continue;
    const int64_t below = rows - j - 1, right = a.cols() - j - 1;
    a.col(j).tail(below) /= a(j, j);
    a.bottomRightCorner(below, right).noalias() -= a.col(j).tail(below) * a.row(j).tail(right);
  }
}

// Row exchanges of partial pivoting; halves the columns so that most of the work is matrix products.
template <class T>
void factor(Block<T> a, uint32_t* pivots) {
  const int64_t rows = a.rows(), columns = a.cols(), steps = std::min(rows, columns);
  if (steps <= 16) return factor_panel<T>(a, pivots);
  const int64_t left = steps / 2, right = columns - left, below = rows - left;
  factor<T>(a.leftCols(left), pivots);
  swap_rows<T>(a.rightCols(right), pivots, left);
  Block<T> top = a.topRightCorner(left, right);
  a.topLeftCorner(left, left).template triangularView<Eigen::UnitLower>().solveInPlace(top);
  a.bottomRightCorner(below, right).noalias() -= a.bottomLeftCorner(below, left) * top;
  factor<T>(a.bottomRightCorner(below, right), pivots + left);
  swap_rows<T>(a.bottomLeftCorner(below, left), pivots + left, steps - left);
  for (int64_t i = left; i < steps; ++i) pivots[i] += static_cast<uint32_t>(left);
}

template <class T>
bool has_zero_on_diagonal(const Matrix<T>& a) {
  return (a.diagonal().array() == T(0)).any();
}

}  // namespace

void cholesky(const View& a, bool upper, const View& out) {
  visit_real(a.dtype, [&]<class T>(std::type_identity<T>) {
    for_each_matrix(a, "linalg::cholesky", "is not positive definite", [&](int64_t i) {
      const MatrixMap<T> from = matrix_at<T>(a, i);
      MatrixMap<T> to = matrix_at<T>(out, i);
      const Eigen::LLT<Matrix<T>> root(upper ? Matrix<T>(from.transpose()) : Matrix<T>(from));
      if (upper) {
        to = root.matrixU();
      } else {
        to = root.matrixL();
      }
      return root.info() == Eigen::Success;
    });
  });
}

void solve(const View& a, const View& b, const View& out) {
  if (out.size() == 0) return;
  visit_real(a.dtype, [&]<class T>(std::type_identity<T>) {
    for_each_matrix(a, "linalg::solve", "is singular", [&](int64_t i) {
      Matrix<T> factors = matrix_at<T>(a, i), x = matrix_at<T>(b, i);
      std::vector<uint32_t> pivots(static_cast<size_t>(factors.rows()));
      factor<T>(factors, pivots.data());
      if (has_zero_on_diagonal(factors)) return false;
      swap_rows<T>(x, pivots.data(), factors.rows());
      factors.template triangularView<Eigen::UnitLower>().solveInPlace(x);
      factors.template triangularView<Eigen::Upper>().solveInPlace(x);
      matrix_at<T>(out, i) = x;
      return true;
    });
  });
}

void solve_triangular(const View& a, const View& b, bool upper, const View& out) {
  if (out.size() == 0) return;
  visit_real(a.dtype, [&]<class T>(std::type_identity<T>) {
    for_each_matrix(a, "linalg::solve_triangular", "is singular", [&](int64_t i) {
      const Matrix<T> triangle = matrix_at<T>(a, i);
      if (has_zero_on_diagonal(triangle)) return false;
      Matrix<T> x = matrix_at<T>(b, i);
      if (upper) {
        triangle.template triangularView<Eigen::Upper>().solveInPlace(x);
      } else {
        triangle.template triangularView<Eigen::Lower>().solveInPlace(x);
      }
      matrix_at<T>(out, i) = x;
      return true;
    });
  });
}

void lu(const View& a, const View& packed, const View& pivots, const View& permutation) {
  visit_real(a.dtype, [&]<class T>(std::type_identity<T>) {
    for_each_matrix(a, "linalg::lu", "has no factors", [&](int64_t i) {
      Matrix<T> factors = matrix_at<T>(a, i);
      uint32_t* exchanged = vector_at<uint32_t>(pivots, i).data();
      factor<T>(factors, exchanged);
      matrix_at<T>(packed, i) = factors;
      // order[r] is the row of a that ended up in row r; the permutation is its inverse: a = L[p] U.
      std::vector<uint32_t> order(static_cast<size_t>(factors.rows()));
      std::iota(order.begin(), order.end(), 0u);
      for (int64_t r = 0; r < std::min(factors.rows(), factors.cols()); ++r) {
        std::swap(order[static_cast<size_t>(r)], order[exchanged[r]]);
      }
      VectorMap<uint32_t> to = vector_at<uint32_t>(permutation, i);
      for (size_t r = 0; r < order.size(); ++r) to[order[r]] = static_cast<uint32_t>(r);
      return true;
    });
  });
}

void qr(const View& a, const View& q, const View& r) {
  const int64_t rows = a.shape[a.shape.size() - 2], steps = std::min(rows, a.shape.back());
  if (steps == 0) return;
  visit_real(a.dtype, [&]<class T>(std::type_identity<T>) {
    for_each_matrix(a, "linalg::qr", "has no factors", [&](int64_t i) {
      const Eigen::HouseholderQR<Matrix<T>> factors(matrix_at<T>(a, i));
      matrix_at<T>(q, i) = factors.householderQ() * Matrix<T>::Identity(rows, steps);
      matrix_at<T>(r, i) = factors.matrixQR().topRows(steps).template triangularView<Eigen::Upper>();
      return true;
    });
  });
}

}  // namespace lamina::reference
