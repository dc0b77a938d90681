#include "autograd/rules_linalg.h"

#include "lamina/linalg.h"

// Gradients of decompositions, written for real matrices (eigh: complex too). `g` holds cotangents, empty
// where zero. Where a formula divides by differences of values, equal values have no gradient (the result is
// not finite).
namespace lamina::autograd {
namespace {

using Wants = std::vector<bool>;

Array swapped(const Array& a) { return swapaxes(a, -1, -2); }
Array column(const Array& values) { return expand_dims(values, {-1}); }
Array row(const Array& values) { return expand_dims(values, {-2}); }
Array halved(const Array& a) { return a * 0.5; }
Array or_zero(const Array& g, const Array& like) { return g.valid() ? g : zeros_like(like); }
Array plus(const Array& a, const Array& b) { return a.valid() ? add(a, b) : b; }
Array symmetric(const Array& a) { return halved(add(a, adjoint(a))); }
// The lower triangle with half of the diagonal.
Array half_lower(const Array& a) { return halved(add(tril(a), tril(a, -1))); }
// 1 / (values[j] - values[i]), 0 on the diagonal.
Array inverse_gaps(const Array& values) {
  const int64_t n = values.shape(-1);
  const Array gap = subtract(row(values), column(values));
  const Array on = equal(eye(n, n, 0, Dtype::kFloat32), Array(1.0f));
  const Array one(int64_t{1}, gap.dtype()), zero(int64_t{0}, gap.dtype());
  return where(on, zero, divide(one, where(on, one, gap)));
}
// Rows [r0, r1) and columns [c0, c1) of every matrix.
Array block(const Array& a, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
  Shape start(a.shape().size(), 0), stop = a.shape();
  const size_t n = stop.size();
  start[n - 2] = r0;
  stop[n - 2] = r1;
  start[n - 1] = c0;
  stop[n - 1] = c1;
  return slice(a, start, stop);
}

// x = b with triangle `a` applied from the left (from the right: x a = b).
Array left_solve(const Array& a, const Array& b, bool upper) { return linalg::solve_triangular(a, b, upper); }
Array right_solve(const Array& b, const Array& a, bool upper) {
  return swapped(linalg::solve_triangular(swapped(a), swapped(b), !upper));
}

// With L: the gradient of the symmetric matrix is L^-T sym(P) L^-1, P the half lower triangle of L^T dL.
Arrays cholesky_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const bool upper = c.node.as<TriangleParams>().upper;
  const Array l = upper ? swapped(c.outs[0]) : c.outs[0], dl = upper ? swapped(g[0]) : g[0];
  const Array p = symmetric(half_lower(matmul(swapped(l), dl)));
  return {right_solve(left_solve(swapped(l), p, true), l, false)};
}

Arrays solve_rule(const OpCall& c, const Arrays& g, const Wants& wants) {
  const Array db = linalg::solve(swapped(c.in[0]), g[0]);
  Arrays out{Array(), db};
  if (wants[0]) out[0] = negative(matmul(db, swapped(c.outs[0])));
  return out;
}

Arrays solve_triangular_rule(const OpCall& c, const Arrays& g, const Wants& wants) {
  const bool upper = c.node.as<TriangleParams>().upper;
  const Array db = left_solve(swapped(c.in[0]), g[0], !upper);
  Arrays out{Array(), db};
  if (wants[0]) {
    const Array da = negative(matmul(db, swapped(c.outs[0])));
    out[0] = upper ? triu(da) : tril(da);
  }
  return out;
}

// The packed factors' cotangent, mapped to the rows in their new order and then back: for the leading square
// block L^-T [tril(L^T dL, -1) + triu(dU U^T)] U^-1; more rows (columns) are L2 = A2 U^-1 (U2 = L^-1 A2).
Arrays lu_rule(const OpCall& c, const Arrays& g, const Wants&) {
  if (!g[0].valid()) return {Array()};
  const Array& packed = c.outs[0];
  const int64_t m = packed.shape(-2), n = packed.shape(-1), k = std::min(m, n);
  const Array l = add(tril(block(packed, 0, k, 0, k), -1), eye(k, k, 0, packed.dtype()));
  const Array u = triu(block(packed, 0, k, 0, k));
  Array dl = tril(block(g[0], 0, k, 0, k), -1), du = triu(block(g[0], 0, k, 0, k));
  Array rest;
  Array inner_l = matmul(swapped(l), dl), inner_u = matmul(du, swapped(u));
  if (m > n) {
    const Array below = block(packed, k, m, 0, k), d_below = block(g[0], k, m, 0, k);
    rest = right_solve(d_below, swapped(u), false);
    inner_u = subtract(inner_u, matmul(swapped(below), d_below));
  } else if (n > m) {
    const Array right = block(packed, 0, k, k, n), d_right = block(g[0], 0, k, k, n);
    rest = left_solve(swapped(l), d_right, true);
    inner_l = subtract(inner_l, matmul(d_right, swapped(right)));
  }
  const Array inner = add(tril(inner_l, -1), triu(inner_u));
  Array da = right_solve(left_solve(swapped(l), inner, true), swapped(u), false);
  if (rest.valid()) {
    const Array parts[] = {da, rest};
    da = concatenate(parts, m > n ? -2 : -1);
  }
  // Row r of a went to row p[r].
  return {take_along_axis(da, broadcast_to(column(c.outs[2]), da.shape()), -2)};
}

// a = q r with as many columns in q as a has rows or columns; r's leading block must be regular.
Array qr_gradient(const Array& q, const Array& r, const Array& dq, const Array& dr) {
  const Array m = subtract(matmul(r, swapped(dr)), matmul(swapped(dq), q));
  const Array mirrored = add(tril(m), swapped(tril(m, -1)));
  return right_solve(add(dq, matmul(q, mirrored)), swapped(r), false);
}

Arrays qr_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const Array &q = c.outs[0], &r = c.outs[1];
  const Array dq = or_zero(g[0], q), dr = or_zero(g[1], r);
  const int64_t k = r.shape(-2), n = r.shape(-1);
  if (k == n) return {qr_gradient(q, r, dq, dr)};
  // a = [x y], x = q u, y = q v.
  const Array a = c.in[0], y = block(a, 0, k, k, n);
  const Array du = block(dr, 0, k, 0, k), dv = block(dr, 0, k, k, n);
  const Array dx = qr_gradient(q, block(r, 0, k, 0, k), add(dq, matmul(y, swapped(dv))), du);
  const Array parts[] = {dx, matmul(q, dv)};
  return {concatenate(parts, -1)};
}

Arrays thin_svd(const Array& a) {
  const int64_t k = std::min(a.shape(-1), a.shape(-2));
  Shape shapes[] = {a.shape(), Shape(a.shape().begin(), a.shape().end() - 1), a.shape()};
  shapes[0].back() = shapes[1].back() = shapes[2][a.shape().size() - 2] = k;
  const Dtype dtypes[] = {a.dtype(), a.dtype(), a.dtype()};
  return make_tuple_node(OpId::Svd, shapes, dtypes, std::span(&a, 1), make_params(SvdParams{SvdMode::kThin}));
}

// Of square matrices of vectors only the first min(m, n) count: the others are any basis of what is left.
Arrays svd_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const Array& a = c.in[0];
  const int64_t m = a.shape(-2), n = a.shape(-1), k = std::min(m, n);
  const bool values_only = c.node.as<SvdParams>().mode == SvdMode::kValues;
  const Arrays parts = values_only ? thin_svd(a) : c.outs;
  const Array& s = parts[1];
  const Array u = block(parts[0], 0, m, 0, k), v = swapped(block(parts[2], 0, k, 0, n));
  const Array ds = values_only ? g[0] : g[1];
  if (values_only || (!g[0].valid() && !g[2].valid())) { return {matmul(multiply(u, row(ds)), swapped(v))}; }
  if (is_complex(a.dtype())) {
    fail<Unsupported>("linalg::svd", "has no gradient of singular vectors of complex matrices");
  }
  Array core, out;
  const Array gaps = inverse_gaps(square(s));
  auto turned = [&](const Array& basis, const Array& d) {
    const Array w = matmul(swapped(basis), d);
    return multiply(gaps, subtract(w, swapped(w)));
  };
  if (g[0].valid()) {
    const Array du = block(g[0], 0, m, 0, k);
    core = multiply(turned(u, du), row(s));
    if (m > k) {
      const Array off = subtract(du, matmul(u, matmul(swapped(u), du)));
      out = matmul(divide(off, row(s)), swapped(v));
    }
  }
  if (g[2].valid()) {
    const Array dv = swapped(block(g[2], 0, k, 0, n));
    core = plus(core, multiply(column(s), turned(v, dv)));
    if (n > k) {
      const Array off = subtract(dv, matmul(v, matmul(swapped(v), dv)));
      out = plus(out, matmul(divide(u, row(s)), swapped(off)));
    }
  }
  Array d = matmul(matmul(u, core), swapped(v));
  if (ds.valid()) d = add(d, matmul(multiply(u, row(ds)), swapped(v)));
  return {plus(out, d)};
}

// v [diag(dw) + F o (v^H dv)] v^H, Hermitian: both triangles share the gradient.
Arrays eigh_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const auto& p = c.node.as<EigParams>();
  const Array vectors = p.vectors ? c.outs[1] : linalg::eigh(c.in[0], p.upper)[1];
  const Dtype t = vectors.dtype();
  Array out;
  if (g[0].valid()) out = matmul(multiply(vectors, row(astype(g[0], t))), adjoint(vectors));
  if (p.vectors && g[1].valid()) {
    const Array turned = multiply(astype(inverse_gaps(c.outs[0]), t), matmul(adjoint(vectors), g[1]));
    out = plus(out, matmul(matmul(vectors, turned), adjoint(vectors)));
  }
  return {symmetric(out)};
}

Arrays eig_rule(const OpCall&, const Arrays&, const Wants&) {
  fail<Unsupported>("linalg::eig", "has no gradient");
}

// ---- Fourier transforms ----

// 1 at the ends of half a spectrum, `middle` between them.
Array end_weights(int64_t n, double middle, const Shape& shape, int64_t axis) {
  const Array k = arange(0, n / 2 + 1, 1, Dtype::kInt64);
  const Array first = equal(k, Array(int64_t{0})), last = equal(k, Array(n % 2 == 0 ? n / 2 : int64_t{-1}));
  const Array w = where(logical_or(first, last), Array(1.0f), Array(middle));
  Shape along(shape.size(), 1);
  along[static_cast<size_t>(axis)] = n / 2 + 1;
  return reshape(w, along);
}

Array fft_node(const Array& a, FftParams p, FftKind kind, const Shape& shape) {
  p.kind = kind;
  const Dtype t = kind == FftKind::kRealInverse ? Dtype::kFloat32 : Dtype::kComplex64;
  return make_node(OpId::Fft, t, shape, {a}, make_params(p));
}

// The adjoint map: the opposite transform with the same factor; half a spectrum counts its middle twice.
Arrays fft_rule(const OpCall& c, const Arrays& g, const Wants&) {
  const auto& p = c.node.as<FftParams>();
  const Shape& shape = c.in[0].shape();
  const auto axis = static_cast<int>(p.axis);
  switch (p.kind) {
    case FftKind::kForward: return {fft_node(g[0], p, FftKind::kInverse, shape)};
    case FftKind::kInverse: return {fft_node(g[0], p, FftKind::kForward, shape)};
    case FftKind::kRealForward: {
      const Array weights = end_weights(c.in[0].shape(axis), 0.5, shape, p.axis);
      return {fft_node(multiply(g[0], weights), p, FftKind::kRealInverse, shape)};
    }
    default: {
      const Array weights = end_weights(g[0].shape(axis), 2, shape, p.axis);
      return {multiply(fft_node(g[0], p, FftKind::kRealForward, shape), weights)};
    }
  }
}

}  // namespace

VjpRule linalg_vjp_rule(OpId op) {
  switch (op) {
    case OpId::Cholesky: return cholesky_rule;
    case OpId::Solve: return solve_rule;
    case OpId::SolveTriangular: return solve_triangular_rule;
    case OpId::Lu: return lu_rule;
    case OpId::Qr: return qr_rule;
    case OpId::Svd: return svd_rule;
    case OpId::Eigh: return eigh_rule;
    case OpId::Eig: return eig_rule;
    case OpId::Fft: return fft_rule;
    default: return nullptr;
  }
}

}  // namespace lamina::autograd
