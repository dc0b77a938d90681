#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <atomic>
#include <complex>
#include <type_traits>

#include "core/fail.h"
#include "core/thread_pool.h"
#include "core/view.h"

namespace lamina::reference {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using MatrixMap =
    Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, Eigen::Unaligned>;
template <class T>
using VectorMap = Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, 1>, Eigen::Unaligned>;

// Matrix (vector) number i of a row-contiguous batch.
template <class T>
MatrixMap<T> matrix_at(const View& v, int64_t i) {
  const size_t n = v.shape.size();
  const int64_t rows = v.shape[n - 2], columns = v.shape[n - 1];
  return {v.as<T>() + i * rows * columns, rows, columns};
}
template <class T>
VectorMap<T> vector_at(const View& v, int64_t i) {
  const int64_t length = v.shape.back();
  return {v.as<T>() + i * length, length};
}

inline int64_t batch_size(const View& v, size_t inner_axes = 2) {
  int64_t count = 1;
  for (size_t i = 0; i + inner_axes < v.shape.size(); ++i) count *= v.shape[i];
  return count;
}

// Runs body(i) for every matrix of a's batch; the first one for which it gives false fails with `what`.
template <class Body>
void for_each_matrix(const View& a, const char* op, const char* what, const Body& body) {
  const int64_t count = batch_size(a), rows = a.shape[a.shape.size() - 2], columns = a.shape.back();
  const int64_t work = std::max<int64_t>(1, rows * columns * std::min(rows, columns));
  std::atomic<int64_t> first_bad{count};
  parallel_ranges(count, std::max<int64_t>(1, 20000 / work), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (body(i)) continue;
      int64_t seen = first_bad.load();
      while (i < seen && !first_bad.compare_exchange_weak(seen, i)) {}
    }
  });
  if (first_bad.load() == count) return;
  if (count == 1) fail<LinalgError>(op, "the matrix {}", what);
  fail<LinalgError>(op, "matrix {} of the batch {}", first_bad.load(), what);
}

// Calls f(std::type_identity<T>) for the real types that factor.
template <class F>
void visit_real(Dtype t, const F& f) {
  if (t == Dtype::kFloat64) return f(std::type_identity<double>{});
  f(std::type_identity<float>{});
}

inline constexpr const char* kNotFinite = "has values that are not finite, or its iteration did not converge";

}  // namespace lamina::reference
