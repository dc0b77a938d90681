#include "lamina/linalg.h"

#include "bindings/ops.h"

namespace lamina::bind {
namespace {

constexpr const char* kMatrices = "@a Matrices in the last two axes, float32 or float64.\n";
constexpr const char* kAnyMatrices = "@a Matrices in the last two axes, float32, float64 or complex64.\n";
constexpr const char* kNotSquare =
    "@raises ValueError Where the matrices are not square, or of another dtype.\n";
constexpr const char* kSingular = "@raises RuntimeError At evaluation, where a matrix is singular.\n";
constexpr const char* kNoConvergence =
    "@raises RuntimeError At evaluation, for values that are not finite.\n";
constexpr const char* kUplo = "@UPLO 'L' or 'U': the triangle that counts.\n";

std::string text(std::initializer_list<const char*> parts) {
  std::string out;
  for (const char* p : parts) out += p;
  return out;
}

linalg::NormOrder norm_order(const Any& any) {
  if (any.object == Py_None) return {};
  if (PyUnicode_Check(any.object)) return {std::nullopt, py::cast<std::string>(borrowed(any.object))};
  if (PyBool_Check(any.object)) return {any.object == Py_True ? 1.0 : 0.0, ""};
  if (const std::optional<double> v = as_float(any.object)) return {*v, ""};
  any.wrong();
}

bool is_upper(const std::string& uplo, const char* function) {
  if (uplo == "L" || uplo == "l") return false;
  if (uplo == "U" || uplo == "u") return true;
  throw ValueError(std::string("[linalg::") + function + "] UPLO must be 'L' or 'U', got '" + uplo + "'");
}

constexpr const char* kNormOrder =
    "norm(a: array, /, ord: None | int | float | str = None, axis: None | int | Sequence[int] = None, "
    "keepdims: "
    "bool = False, *, stream: StreamOrDevice = None) -> array";

std::string norm_doc(const char* example) {
  return text(
      {"A norm of vectors (one axis) or matrices (two axes).\n\n"
       "Vectors: (sum |x|**ord) ** (1 / ord); inf, -inf: the extremes; 0: how many are not zero.\n"
       "Matrices: 'fro', 'nuc' (sum of singular values), 2 and -2 (the extreme ones), 1 and -1 (of the sums\n"
       "of columns), inf and -inf (of rows).\n"
       "@ord The kind of norm; the 2-norm of all elements by default.\n"
       "@axis One axis or two; all of the array's by default.\n"
       "@raises ValueError For an order that vectors or matrices have not.\n"
       "@raises IndexError For an axis out of bounds.\n",
       example});
}

struct Norm {
  Array operator()(const Array& a, Any order, const OptAxes& axes, bool keepdims) const {
    return linalg::norm(a, norm_order(order), axes, keepdims);
  }
};
struct MatrixNorm : Norm {
  Array operator()(const Array& a, Any order, const OptAxes& axes, bool keepdims) const {
    return Norm::operator()(a, order, axes, keepdims);
  }
};

void add_norms(const Scope& core, const Scope& m) {
  def(m, kNormOrder, norm_doc(">>> mx.linalg.norm(mx.array([3.0, 4.0]))\narray(5, dtype=float32)\n"), Norm{});
  def(core, std::string("matrix_") + kNormOrder,
      norm_doc(">>> mx.matrix_norm(mx.array([[3.0, 4.0]]), 1)\narray(4, dtype=float32)\n"), MatrixNorm{});
  def(m, "cross(a: array, b: array, axis: int = -1, *, stream: StreamOrDevice = None) -> array",
      "The cross product of vectors of length 2 or 3 along an axis; the result has length 3.\n"
      "@raises ValueError For vectors of another length.\n"
      ">>> mx.linalg.cross(mx.array([1, 0, 0]), mx.array([0, 1, 0]))\narray([0, 0, 1], dtype=int32)\n",
      [](const Array& a, const Array& b, int64_t axis) { return linalg::cross(a, b, axis); });
}

void add_inverses(const Scope& m) {
  def(m, "inv(a: array, *, stream: StreamOrDevice = None) -> array",
      text({"The inverse of square matrices.\n", kMatrices, kNotSquare, kSingular,
            ">>> mx.linalg.inv(mx.array([[2.0, 0.0], [0.0, 4.0]]))\narray([[0.5, 0],\n       [0, 0.25]], "
            "dtype=float32)\n"}),
      [](const Array& a) { return linalg::inv(a); });
  def(m, "tri_inv(a: array, upper: bool = False, *, stream: StreamOrDevice = None) -> array",
      text({"The inverse of a triangle of square matrices; the other triangle is not read.\n", kMatrices,
            "@upper The upper triangle.\n", kNotSquare, kSingular,
            ">>> mx.linalg.tri_inv(mx.array([[2.0, 7.0], [0.0, 4.0]]))\narray([[0.5, 0],\n       [0, 0.25]], "
            "dtype=float32)\n"}),
      [](const Array& a, bool upper) { return linalg::tri_inv(a, upper); });
  def(m, "pinv(a: array, *, stream: StreamOrDevice = None) -> array",
      text({"The Moore-Penrose inverse.\n\nSingular values up to eps * max(m, n) times the largest count as "
            "zero.\n",
            kMatrices, "@raises ValueError For another dtype or fewer axes.\n", kNoConvergence,
            ">>> mx.linalg.pinv(mx.ones((4, 2))).shape\n(2, 4)\n"}),
      [](const Array& a) { return linalg::pinv(a); });
  def(m, "cholesky(a: array, upper: bool = False, *, stream: StreamOrDevice = None) -> array",
      text({"L with a = L @ L.T, or U with a = U.T @ U, of symmetric positive definite matrices.\n\n"
            "Only the lower (upper) triangle is read.\n",
            kMatrices, "@upper Give U.\n", kNotSquare,
            "@raises RuntimeError At evaluation, where a matrix is not positive definite.\n",
            ">>> mx.linalg.cholesky(mx.array([[4.0, 2.0], [2.0, 2.0]]))\narray([[2, 0],\n       [1, 1]], "
            "dtype=float32)\n"}),
      [](const Array& a, bool upper) { return linalg::cholesky(a, upper); });
  def(m, "cholesky_inv(a: array, upper: bool = False, *, stream: StreamOrDevice = None) -> array",
      text({"The inverse of L @ L.T (of U.T @ U) from the triangle that `cholesky` gives.\n",
            "@a Triangular matrices in the last two axes, float32 or float64.\n", "@upper `a` is U.\n",
            kNotSquare, kSingular,
            ">>> mx.linalg.cholesky_inv(mx.array([[2.0, 0.0], [0.0, 1.0]]))\narray([[0.25, 0],\n       [0, "
            "1]], "
            "dtype=float32)\n"}),
      [](const Array& a, bool upper) { return linalg::cholesky_inv(a, upper); });
}

void add_solutions(const Scope& m) {
  constexpr const char* kRight = "@b Right-hand sides: shape (n,), or matrices in the last two axes.\n";
  constexpr const char* kShapes = "@raises ValueError Where shapes do not fit, or for another dtype.\n";
  def(m, "solve(a: array, b: array, *, stream: StreamOrDevice = None) -> array",
      text({"x with a @ x = b for square matrices; batches broadcast.\n", kMatrices, kRight, kShapes,
            kSingular,
            ">>> mx.linalg.solve(mx.array([[2.0, 0.0], [0.0, 4.0]]), mx.array([2.0, 2.0]))\n"
            "array([1, 0.5], dtype=float32)\n"}),
      [](const Array& a, const Array& b) { return linalg::solve(a, b); });
  def(m,
      "solve_triangular(a: array, b: array, *, upper: bool = False, stream: StreamOrDevice = None) -> array",
      text({"x with a @ x = b for a triangle of `a`; the other triangle is not read.\n", kMatrices, kRight,
            "@upper The upper triangle.\n", kShapes, kSingular,
            ">>> mx.linalg.solve_triangular(mx.array([[2.0, 0.0], [1.0, 4.0]]), mx.array([2.0, 5.0]))\n"
            "array([1, 1], dtype=float32)\n"}),
      [](const Array& a, const Array& b, bool upper) { return linalg::solve_triangular(a, b, upper); });
  def(m, "det(a: array, *, stream: StreamOrDevice = None) -> array",
      "The determinant of square matrices.\n@a Matrices in the last two axes, of any real dtype; integers "
      "become "
      "float32.\n"
      "@raises ValueError Where the matrices are not square, or complex.\n"
      ">>> mx.linalg.det(mx.array([[1.0, 2.0], [3.0, 4.0]]))\narray(-2, dtype=float32)\n",
      [](const Array& a) { return linalg::det(a); });
  def(m, "slogdet(a: array, *, stream: StreamOrDevice = None) -> tuple[array, array]",
      "Sign and logarithm of the magnitude of the determinant.\n@a Matrices in the last two axes, of any "
      "real dtype; "
      "integers become float32.\n@raises ValueError Where the matrices are not square, or complex.\n"
      ">>> mx.linalg.slogdet(-mx.eye(3))\n(array(-1, dtype=float32), array(0, dtype=float32))\n",
      [](const Array& a) { return ArrayTuple(linalg::slogdet(a)); });
}

void add_factors(const Scope& m) {
  constexpr const char* kDtype = "@raises ValueError For another dtype or fewer axes.\n";
  def(m, "lu(a: array, *, stream: StreamOrDevice = None) -> tuple[array, array, array]",
      text({"Row indices p, lower L with ones on its diagonal, and upper U: a = L[p] @ U.\n", kMatrices,
            kDtype,
            ">>> p, l, u = mx.linalg.lu(mx.array([[0.0, 2.0], [1.0, 3.0]]))\n>>> p\narray([1, 0], "
            "dtype=uint32)\n"}),
      [](const Array& a) { return ArrayTuple(linalg::lu(a)); });
  def(m, "lu_factor(a: array, *, stream: StreamOrDevice = None) -> tuple[array, array]",
      text({"Both factors in one matrix, and the row that each row was exchanged with.\n", kMatrices, kDtype,
            ">>> lu, pivots = mx.linalg.lu_factor(mx.array([[0.0, 2.0], [1.0, 3.0]]))\n"
            ">>> pivots\narray([1, 1], dtype=uint32)\n"}),
      [](const Array& a) { return ArrayTuple(linalg::lu_factor(a)); });
  def(m, "qr(a: array, *, stream: StreamOrDevice = None) -> tuple[array, array]",
      text({"Reduced factors: Q with orthonormal columns and upper R, a = Q @ R.\n", kMatrices, kDtype,
            ">>> q, r = mx.linalg.qr(mx.ones((4, 2)))\n>>> q.shape, r.shape\n((4, 2), (2, 2))\n"}),
      [](const Array& a) { return ArrayTuple(linalg::qr(a)); });
  def(m,
      "svd(a: array, compute_uv: bool = True, *, stream: StreamOrDevice = None) -> tuple[array, array, "
      "array]",
      text({"Singular values S, largest first, and square U and Vt: a = U[:, :k] * S @ Vt[:k].\n",
            kAnyMatrices, "@compute_uv False: only S is computed and returned, as one array.\n", kDtype,
            kNoConvergence,
            ">>> u, s, vt = mx.linalg.svd(mx.array([[3.0, 0.0], [0.0, 4.0]]))\n>>> s\narray([4, 3], "
            "dtype=float32)\n"}),
      [](const Array& a, bool vectors) {
        std::vector<Array> parts = linalg::svd(a, vectors);
        return vectors ? to_python(ArrayTuple(std::move(parts))) : to_python(parts[0]);
      });
}

void add_eigenvalues(const Scope& m) {
  def(m, "eig(a: array, *, stream: StreamOrDevice = None) -> tuple[array, array]",
      text({"Eigenvalues and, as columns of length 1, eigenvectors of square matrices; both complex64.\n",
            kAnyMatrices, kNotSquare, kNoConvergence,
            ">>> w, v = mx.linalg.eig(mx.array([[0.0, -1.0], [1.0, 0.0]]))\n>>> mx.abs(w)\narray([1, 1], "
            "dtype=float32)\n"}),
      [](const Array& a) { return ArrayTuple(linalg::eig(a)); });
  def(m, "eigvals(a: array, *, stream: StreamOrDevice = None) -> array",
      text({"Eigenvalues of square matrices, complex64.\n", kAnyMatrices, kNotSquare, kNoConvergence,
            ">>> mx.abs(mx.linalg.eigvals(mx.array([[0.0, -1.0], [1.0, 0.0]])))\narray([1, 1], "
            "dtype=float32)\n"}),
      [](const Array& a) { return linalg::eigvals(a); });
  def(m, "eigh(a: array, UPLO: str = 'L', *, stream: StreamOrDevice = None) -> tuple[array, array]",
      text({"Eigenvalues, smallest first, and eigenvectors (columns) of Hermitian matrices.\n", kAnyMatrices,
            kUplo, kNotSquare, kNoConvergence,
            ">>> w, v = mx.linalg.eigh(mx.array([[2.0, 0.0], [0.0, 1.0]]))\n>>> w\narray([1, 2], "
            "dtype=float32)\n"}),
      [](const Array& a, const std::string& uplo) {
        return ArrayTuple(linalg::eigh(a, is_upper(uplo, "eigh")));
      });
  def(m, "eigvalsh(a: array, UPLO: str = 'L', *, stream: StreamOrDevice = None) -> array",
      text({"Eigenvalues of Hermitian matrices, smallest first.\n", kAnyMatrices, kUplo, kNotSquare,
            kNoConvergence,
            ">>> mx.linalg.eigvalsh(mx.array([[2.0, 0.0], [0.0, 1.0]]))\narray([1, 2], dtype=float32)\n"}),
      [](const Array& a, const std::string& uplo) {
        return linalg::eigvalsh(a, is_upper(uplo, "eigvalsh"));
      });
}

}  // namespace

void add_linalg(const Scope& core, const Scope& linalg) {
  add_norms(core, linalg);
  add_inverses(linalg);
  add_solutions(linalg);
  add_factors(linalg);
  add_eigenvalues(linalg);
}

}  // namespace lamina::bind
