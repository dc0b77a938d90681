#include "lamina/linalg.h"
#include "ops/common.h"

namespace lamina::linalg {
namespace {

constexpr DtypeSet kReals = dtype_bit(Dtype::kFloat32) | dtype_bit(Dtype::kFloat64);
constexpr DtypeSet kRealsAndComplex = kReals | kComplex;

void check_matrix(const Array& a, DtypeSet dtypes, const char* op) {
  if (!contains(dtypes, a.dtype())) {
    const char* wanted =
        contains(dtypes, Dtype::kComplex64) ? "float32, float64 or complex64" : "float32 or float64";
    fail<DtypeError>(op, "wants {}, got {}", wanted, a.dtype());
  }
  if (a.ndim() < 2) fail<ShapeError>(op, "wants at least 2 axes, got shape {}", a.shape());
}

void check_square(const Array& a, DtypeSet dtypes, const char* op) {
  check_matrix(a, dtypes, op);
  if (a.shape(-1) != a.shape(-2)) fail<ShapeError>(op, "wants square matrices, got shape {}", a.shape());
}

Shape batch_of(const Array& a) { return Shape(a.shape().begin(), a.shape().end() - 2); }
Shape with_axes(Shape batch, std::initializer_list<int64_t> lengths) {
  for (int64_t n : lengths) batch.push_back(n);
  return batch;
}
Array with_batch(const Array& a, const Shape& batch) {
  return broadcast_to(a, with_axes(batch, {a.shape(-2), a.shape(-1)}));
}
Array swapped(const Array& a) { return swapaxes(a, -1, -2); }
Dtype real_of(Dtype t) { return is_complex(t) ? Dtype::kFloat32 : t; }

// {packed factors, exchanges, permutation}
std::vector<Array> lu_parts(const Array& a) {
  const Shape batch = batch_of(a);
  const int64_t k = std::min(a.shape(-1), a.shape(-2));
  const Shape shapes[] = {a.shape(), with_axes(batch, {k}), with_axes(batch, {a.shape(-2)})};
  const Dtype dtypes[] = {a.dtype(), Dtype::kUInt32, Dtype::kUInt32};
  return make_tuple_node(OpId::Lu, shapes, dtypes, std::span(&a, 1), nullptr);
}

std::vector<Array> svd_parts(const Array& a, SvdMode mode) {
  const Shape batch = batch_of(a);
  const int64_t m = a.shape(-2), n = a.shape(-1), k = std::min(m, n);
  const Ref<Params> params = make_params(SvdParams{mode});
  const Dtype t = a.dtype(), real = real_of(t);
  if (mode == SvdMode::kValues) {
    const Shape values = with_axes(batch, {k});
    return make_tuple_node(OpId::Svd, std::span(&values, 1), std::span(&real, 1), std::span(&a, 1), params);
  }
  const bool thin = mode == SvdMode::kThin;
  const Shape shapes[] = {with_axes(batch, {m, thin ? k : m}), with_axes(batch, {k}),
                          with_axes(batch, {thin ? k : n, n})};
  const Dtype dtypes[] = {t, real, t};
  return make_tuple_node(OpId::Svd, shapes, dtypes, std::span(&a, 1), params);
}

// Eigenvalues and, where wanted, vectors.
std::vector<Array> eigen_parts(OpId op, const Array& a, Dtype values, Dtype vectors, const EigParams& p) {
  const Shape shapes[] = {with_axes(batch_of(a), {a.shape(-1)}), a.shape()};
  const Dtype dtypes[] = {values, vectors};
  const size_t count = p.vectors ? 2 : 1;
  return make_tuple_node(op, std::span(shapes, count), std::span(dtypes, count), std::span(&a, 1),
                         make_params(p));
}

struct System {
  Array a, b;
  bool vector;
};

// Both sides in one dtype with equal batches, b as a matrix.
System make_system(const Array& a, const Array& b, const char* op) {
  const Dtype t = promote(a.dtype(), b.dtype());
  if (!contains(kReals, t)) {
    fail<DtypeError>(op, "wants arrays that promote to float32 or float64, got {} and {}", a.dtype(),
                     b.dtype());
  }
  if (a.ndim() < 2 || a.shape(-1) != a.shape(-2)) {
    fail<ShapeError>(op, "wants square matrices on the left, got shape {}", a.shape());
  }
  if (b.ndim() < 1) fail<ShapeError>(op, "wants at least 1 axis on the right, got shape ()");
  const bool vector = b.ndim() == 1;
  const Array right = vector ? expand_dims(b, {1}) : b;
  if (a.shape(-1) != right.shape(-2)) {
    fail<ShapeError>(op, "{} equations in {} with right-hand sides of shape {}", a.shape(-1), a.shape(),
                     b.shape());
  }
  const Shape batch = broadcast_shapes(batch_of(a), batch_of(right), op);
  return {with_batch(astype(a, t), batch), with_batch(astype(right, t), batch), vector};
}

Array solution(OpId op, const System& s, Ref<Params> params) {
  const Array x = make_node(op, s.b.dtype(), s.b.shape(), {s.a, s.b}, std::move(params));
  return s.vector ? squeeze(x, Axes{-1}) : x;
}

// One matrix for many right-hand sides is factored once: they become columns.
Array solve_columns(const Array& a, const Array& b) {
  const int64_t n = b.shape(-2), k = b.shape(-1);
  const Array columns = reshape(moveaxis(b, -2, 0), {n, -1});
  Shape shape = with_axes({n}, {});
  for (int64_t d : batch_of(b)) shape.push_back(d);
  shape.push_back(k);
  return moveaxis(reshape(solve(a, columns), shape), 0, -2);
}

Array identity_like(const Array& a) {
  const int64_t n = a.shape(-1);
  return with_batch(eye(n, n, 0, a.dtype()), batch_of(a));
}

// det's argument in a dtype that factors, and the dtype of its result.
std::pair<Array, Dtype> factorable(const Array& a, const char* op) {
  if (is_complex(a.dtype())) fail<DtypeError>(op, "wants a real dtype, got {}", a.dtype());
  if (a.ndim() < 2 || a.shape(-1) != a.shape(-2)) {
    fail<ShapeError>(op, "wants square matrices, got shape {}", a.shape());
  }
  const Dtype wide = a.dtype() == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
  return {astype(a, wide), to_inexact(a.dtype())};
}

// +1 or -1 for each matrix: the parity of its row exchanges.
Array permutation_sign(const Array& pivots, Dtype dtype) {
  const Array moved = not_equal(pivots, arange(0, pivots.shape(-1), 1, Dtype::kUInt32));
  const Array odd = remainder(sum(astype(moved, Dtype::kInt32), Axes{-1}), Array(2));
  return astype(subtract(Array(1), multiply(Array(2), odd)), dtype);
}

}  // namespace

Array cholesky(const Array& a, bool upper) {
  check_square(a, kReals, "linalg::cholesky");
  return make_node(OpId::Cholesky, a.dtype(), a.shape(), {a}, make_params(TriangleParams{upper}));
}

Array cholesky_inv(const Array& a, bool upper) {
  check_square(a, kReals, "linalg::cholesky_inv");
  const Array x = tri_inv(a, upper);
  return upper ? matmul(x, swapped(x)) : matmul(swapped(x), x);
}

Array inv(const Array& a) {
  check_square(a, kReals, "linalg::inv");
  return solve(a, identity_like(a));
}

Array tri_inv(const Array& a, bool upper) {
  check_square(a, kReals, "linalg::tri_inv");
  return solve_triangular(a, identity_like(a), upper);
}

Array pinv(const Array& a) {
  check_matrix(a, kReals, "linalg::pinv");
  if (a.size() == 0) return swapped(a);
  const std::vector<Array> parts = svd_parts(a, SvdMode::kThin);
  const Array &u = parts[0], &s = parts[1], &vt = parts[2];
  const double eps = a.dtype() == Dtype::kFloat64 ? 0x1p-52 : 0x1p-23;
  const auto longest = static_cast<double>(std::max(a.shape(-1), a.shape(-2)));
  const Array cutoff = max(s, Axes{-1}, true) * (eps * longest);
  const Array counts = greater(s, stop_gradient(cutoff));
  const Array one(int64_t{1}, s.dtype()), zero(int64_t{0}, s.dtype());
  const Array inverse = where(counts, divide(one, where(counts, s, one)), zero);
  return matmul(multiply(swapped(vt), expand_dims(inverse, {-2})), swapped(u));
}

Array solve(const Array& a, const Array& b) {
  const System s = make_system(a, b, "linalg::solve");
  if (a.ndim() == 2 && b.ndim() > 2 && b.size() > 0) return solve_columns(a, b);
  return solution(OpId::Solve, s, nullptr);
}

Array solve_triangular(const Array& a, const Array& b, bool upper) {
  return solution(OpId::SolveTriangular, make_system(a, b, "linalg::solve_triangular"),
                  make_params(TriangleParams{upper}));
}

std::vector<Array> lu(const Array& a) {
  check_matrix(a, kReals, "linalg::lu");
  const std::vector<Array> parts = lu_parts(a);
  const int64_t m = a.shape(-2), n = a.shape(-1), k = std::min(m, n);
  auto part = [&](int64_t rows, int64_t columns) {
    Shape start(a.shape().size(), 0), stop = with_axes(batch_of(a), {rows, columns});
    return slice(parts[0], start, stop);
  };
  const Array lower = add(tril(part(m, k), -1), eye(m, k, 0, a.dtype()));
  return {parts[2], lower, triu(part(k, n))};
}

std::vector<Array> lu_factor(const Array& a) {
  check_matrix(a, kReals, "linalg::lu_factor");
  const std::vector<Array> parts = lu_parts(a);
  return {parts[0], parts[1]};
}

std::vector<Array> qr(const Array& a) {
  check_matrix(a, kReals, "linalg::qr");
  const int64_t m = a.shape(-2), n = a.shape(-1), k = std::min(m, n);
  const Shape shapes[] = {with_axes(batch_of(a), {m, k}), with_axes(batch_of(a), {k, n})};
  const Dtype dtypes[] = {a.dtype(), a.dtype()};
  return make_tuple_node(OpId::Qr, shapes, dtypes, std::span(&a, 1), nullptr);
}

std::vector<Array> svd(const Array& a, bool compute_uv) {
  check_matrix(a, kRealsAndComplex, "linalg::svd");
  return svd_parts(a, compute_uv ? SvdMode::kFull : SvdMode::kValues);
}

std::vector<Array> eig(const Array& a) {
  check_square(a, kRealsAndComplex, "linalg::eig");
  return eigen_parts(OpId::Eig, a, Dtype::kComplex64, Dtype::kComplex64, {true, false});
}
Array eigvals(const Array& a) {
  check_square(a, kRealsAndComplex, "linalg::eigvals");
  return eigen_parts(OpId::Eig, a, Dtype::kComplex64, Dtype::kComplex64, {false, false})[0];
}
std::vector<Array> eigh(const Array& a, bool upper) {
  check_square(a, kRealsAndComplex, "linalg::eigh");
  return eigen_parts(OpId::Eigh, a, real_of(a.dtype()), a.dtype(), {true, upper});
}
Array eigvalsh(const Array& a, bool upper) {
  check_square(a, kRealsAndComplex, "linalg::eigvalsh");
  return eigen_parts(OpId::Eigh, a, real_of(a.dtype()), a.dtype(), {false, upper})[0];
}

Array det(const Array& a) {
  const auto [matrix, result] = factorable(a, "linalg::det");
  const std::vector<Array> parts = lu_parts(matrix);
  const Array factors = prod(diagonal(parts[0], 0, -2, -1), Axes{-1});
  return astype(multiply(permutation_sign(parts[1], matrix.dtype()), factors), result);
}

std::vector<Array> slogdet(const Array& a) {
  const auto [matrix, result] = factorable(a, "linalg::slogdet");
  const std::vector<Array> parts = lu_parts(matrix);
  const Array line = diagonal(parts[0], 0, -2, -1);
  const Array signs = prod(sign(line), Axes{-1});
  return {astype(multiply(permutation_sign(parts[1], matrix.dtype()), signs), result),
          astype(sum(log(abs(line)), Axes{-1}), result)};
}

}  // namespace lamina::linalg
