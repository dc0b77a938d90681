"""Linear algebra against NumPy in float64: values, conventions, gradients, vmap, errors."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import layouts
from core.test_gradients import check

DTYPES = [mx.float32, mx.float64]
NAMES = ["float32", "float64"]
EPS = {mx.float32: 2.0**-23, mx.float64: 2.0**-52, mx.complex64: 2.0**-23}
SQUARE = [
    "cholesky",
    "cholesky_inv",
    "inv",
    "tri_inv",
    "eig",
    "eigvals",
    "eigh",
    "eigvalsh",
    "det",
    "slogdet",
]
SHAPES = [(1, 1), (4, 4), (5, 3), (3, 5), (2, 3, 4, 4), (2, 5, 2), (3, 2, 6)]


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def regular(seed: int, *shape: int) -> np.ndarray:
    """Square matrices of a condition number well below 100."""
    return draw(seed, *shape) / shape[-1] + np.eye(shape[-1])


def definite(seed: int, *shape: int) -> np.ndarray:
    a = draw(seed, *shape)
    return a @ np.swapaxes(a, -1, -2) / shape[-1] + np.eye(shape[-1])


def array(a: np.ndarray, dtype: Any = mx.float64) -> mx.array:
    return mx.array(a, dtype=dtype)


def held(a: mx.array) -> Any:
    """What an array holds, in double precision."""
    out = np.asarray(a)
    return out.astype(np.complex128 if np.iscomplexobj(out) else np.float64)


def assert_near(got: mx.array, want: np.ndarray, dtype: Any, factor: float = 1.0) -> None:
    """Within the rounding of a backward stable method: eps * n * condition (the factor), of the norm."""
    out = held(got)
    assert out.shape == want.shape
    n = max(want.shape[-2:], default=1)
    scale = np.abs(want).max(initial=0) + 1
    assert np.abs(out - want).max(initial=0) <= 16 * factor * n * EPS[dtype] * scale


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (40, 40), (2, 3, 4, 4), (0, 3, 3), (2, 0, 0)], ids=str)
def test_inverses_and_solutions(shape: tuple[int, ...], dtype: Any) -> None:
    a = held(array(regular(1, *shape), dtype))
    x = array(a, dtype)
    assert mx.linalg.inv(x).dtype == dtype
    assert_near(mx.linalg.inv(x), np.linalg.inv(a), dtype, 100)
    for upper, keep in [(False, np.tril), (True, np.triu)]:
        triangle = keep(a)
        assert_near(mx.linalg.tri_inv(x, upper=upper), np.linalg.inv(triangle), dtype, 100)
        gram = triangle.swapaxes(-1, -2) @ triangle if upper else triangle @ triangle.swapaxes(-1, -2)
        assert_near(mx.linalg.cholesky_inv(x, upper=upper), np.linalg.inv(gram), dtype, 1e4)
        b = held(array(draw(2, *shape[:-1], 3), dtype))
        got = mx.linalg.solve_triangular(x, array(b, dtype), upper=upper)
        assert_near(got, np.linalg.solve(triangle, b), dtype, 100)
    assert_near(mx.linalg.solve(x, array(b, dtype)), np.linalg.solve(a, b), dtype, 100)
    assert_near(mx.linalg.pinv(x), np.linalg.inv(a), dtype, 100)


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (6, 6), (50, 50), (2, 3, 4, 4), (0, 3, 3), (2, 0, 0)], ids=str)
def test_cholesky(shape: tuple[int, ...], dtype: Any) -> None:
    a = held(array(definite(3, *shape), dtype))
    want = np.linalg.cholesky(a)
    # The other triangle is not read.
    poisoned = np.where(np.tril(np.ones(shape[-2:], bool)), a, np.nan)
    assert_near(mx.linalg.cholesky(array(poisoned, dtype)), want, dtype, 100)
    got = mx.linalg.cholesky(array(poisoned.swapaxes(-1, -2), dtype), upper=True)
    assert_near(got, want.swapaxes(-1, -2), dtype, 100)


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("shape", [*SHAPES, (60, 60), (0, 3), (3, 0), (2, 0, 0)], ids=str)
def test_factors_rebuild_the_matrix(shape: tuple[int, ...], dtype: Any) -> None:
    a = held(array(draw(4, *shape), dtype))
    x = array(a, dtype)
    m, n = shape[-2:]
    k = min(m, n)
    p, lower, upper = mx.linalg.lu(x)
    assert p.dtype == mx.uint32
    assert (lower.shape[-2:], upper.shape[-2:]) == ((m, k), (k, n))
    permuted = np.take_along_axis(held(lower), np.asarray(p)[..., None].astype(np.int64), -2)
    assert_near(array(permuted @ held(upper)), a, dtype)
    packed, pivots = mx.linalg.lu_factor(x)
    assert np.array_equal(np.triu(held(packed)[..., :k, :]), held(upper))
    assert (pivots.shape, pivots.dtype) == ((*shape[:-2], k), mx.uint32)
    q, r = (held(v) for v in mx.linalg.qr(x))
    assert_near(array(q @ r), a, dtype)
    assert_near(array(q.swapaxes(-1, -2) @ q), np.broadcast_to(np.eye(k), (*shape[:-2], k, k)), dtype)
    assert np.array_equal(r, np.triu(r))


@pytest.mark.parametrize("dtype", [*DTYPES, mx.complex64], ids=[*NAMES, "complex64"])
@pytest.mark.parametrize("shape", [*SHAPES, (60, 60), (80, 20), (0, 3), (3, 0), (2, 0, 0)], ids=str)
def test_svd(shape: tuple[int, ...], dtype: Any) -> None:
    a = draw(5, *shape) + (1j * draw(6, *shape) if dtype == mx.complex64 else 0)
    x = array(a, dtype)
    a = held(x)
    m, n = shape[-2:]
    k = min(m, n)
    u, s, vt = mx.linalg.svd(x)
    assert (u.shape[-2:], s.shape, vt.shape[-2:]) == ((m, m), (*shape[:-2], k), (n, n))
    assert s.dtype == (mx.float32 if dtype == mx.complex64 else dtype)
    want = np.linalg.svd(a, compute_uv=False)
    assert_near(s, want, dtype, max(m, n))
    assert_near(mx.linalg.svd(x, compute_uv=False), want, dtype, max(m, n))
    again = held(u)[..., :k] * held(s)[..., None, :] @ held(vt)[..., :k, :]
    assert np.abs(again - a).max(initial=0) <= 16 * max(m, n) * EPS[dtype] * (1 + np.abs(a).max(initial=0))


@pytest.mark.parametrize("dtype", [*DTYPES, mx.complex64], ids=[*NAMES, "complex64"])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 50])
def test_eigenvalues(n: int, dtype: Any) -> None:
    a = held(array(draw(7, 2, n, n) + (1j * draw(8, 2, n, n) if dtype == mx.complex64 else 0), dtype))
    x = array(a, dtype)
    uplos: list[Any] = ["L", "U"]
    for uplo in uplos:
        w, v = mx.linalg.eigh(x, uplo)
        want = np.linalg.eigvalsh(a, uplo)
        assert_near(w, want, dtype, n)
        assert_near(mx.linalg.eigvalsh(x, UPLO=uplo), want, dtype, n)
        half = np.tril(a, -1) if uplo == "L" else np.triu(a, 1)
        whole = half + half.conj().swapaxes(-1, -2) + np.eye(n) * a.real
        residual = whole @ held(v) - held(v) * held(w)[..., None, :]
        assert np.abs(residual).max(initial=0) <= 16 * n * EPS[dtype] * (1 + np.abs(whole).max(initial=0))
    w, v = mx.linalg.eig(x)
    assert w.dtype == v.dtype == mx.complex64
    residual = a @ held(v) - held(v) * held(w)[..., None, :]
    # Results are rounded to complex64.
    assert np.abs(residual).max(initial=0) <= 16 * n * EPS[mx.complex64] * (1 + np.abs(a).max(initial=0))
    assert np.array_equal(np.sort(held(mx.linalg.eigvals(x))), np.sort(held(w)))


def test_eigenvectors_have_length_one_and_a_real_largest_component() -> None:
    v = held(mx.linalg.eig(array(draw(9, 6, 6)))[1])
    assert np.abs(np.linalg.norm(v, axis=0) - 1).max() <= 8 * EPS[mx.complex64]
    largest = np.take_along_axis(v, np.abs(v).argmax(0)[None], 0)
    assert np.abs(largest.imag).max() <= EPS[mx.complex64]


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
def test_determinants(dtype: Any) -> None:
    for shape in [(1, 1), (3, 3), (8, 8), (2, 3, 4, 4), (0, 3, 3), (2, 0, 0), (0, 0)]:
        a = held(array(draw(10, *shape), dtype))
        x = array(a, dtype)
        # Rounding in n steps, each scaled by the matrix against its determinant.
        bound = 16 * shape[-1] * EPS[dtype] * (1 + np.linalg.norm(a, axis=(-2, -1)) ** shape[-1])
        assert (np.abs(held(mx.linalg.det(x)) - np.linalg.det(a)) <= bound).all()
        sign, log = mx.linalg.slogdet(x)
        assert (np.abs(held(sign) * np.exp(held(log)) - np.linalg.det(a)) <= 4 * bound).all()
        assert sign.dtype == log.dtype == dtype
    assert mx.linalg.det(mx.zeros((2, 2))).item() == 0
    assert [v.item() for v in mx.linalg.slogdet(mx.zeros((2, 2)))] == [0, -np.inf]
    assert np.isnan(mx.linalg.det(mx.full((2, 2), np.nan)).item())
    assert mx.linalg.det(mx.array([[1, 2], [3, 4]])).dtype == mx.float32
    assert mx.linalg.det(mx.eye(2, dtype=mx.float16)).dtype == mx.float16


def test_layouts() -> None:
    for x, a in layouts(regular(11, 5, 5)).values():
        # The sum with the identity has a condition number below 2 * |a|^2 + 1.
        gram = np.swapaxes(a, -1, -2) @ a + np.eye(a.shape[-1])
        factor = 2 * np.linalg.norm(a, 2) ** 2 + 1
        got = mx.linalg.inv(mx.swapaxes(x, -1, -2) @ x + mx.eye(a.shape[-1]))
        assert_near(got, np.linalg.inv(gram), mx.float32, factor)
        assert_near(mx.linalg.norm(x, ord="nuc"), np.asarray(np.linalg.norm(a, "nuc")), mx.float32, 8)
        assert_near(mx.linalg.svd(x)[1], np.linalg.svd(a)[1], mx.float32, 8)
        q, r = mx.linalg.qr(x)
        assert_near(q @ r, a, mx.float32, 8)


def test_solve_shapes() -> None:
    a, b = regular(12, 3, 3), draw(13, 3)
    assert_near(mx.linalg.solve(array(a), array(b)), np.linalg.solve(a, b), mx.float64, 100)
    many = draw(14, 4, 2, 3, 5)
    got = mx.linalg.solve(array(a), array(many))
    assert_near(got, np.linalg.solve(a, many), mx.float64, 100)
    got = mx.linalg.solve(array(np.stack([a, a.T])), array(many[:, :1]))
    assert_near(got, np.linalg.solve(np.stack([a, a.T]), many[:, :1]), mx.float64, 100)
    batch = np.stack([a, 2 * a])
    got = mx.linalg.solve(array(batch), array(b))
    assert_near(got, np.stack([np.linalg.solve(m, b) for m in batch]), mx.float64, 100)
    assert mx.linalg.solve(array(a, mx.float32), mx.array([1, 2, 3])).dtype == mx.float32
    assert mx.linalg.solve(array(a, mx.float32), array(b)).dtype == mx.float64


def test_pinv_leaves_out_what_is_rounding() -> None:
    a = draw(15, 6, 2) @ draw(16, 2, 4)
    got = held(mx.linalg.pinv(array(a)))
    assert np.abs(got - np.linalg.pinv(a)).max() <= 1e4 * EPS[mx.float64]
    assert np.array_equal(held(mx.linalg.pinv(mx.zeros((2, 3)))), np.zeros((3, 2)))
    assert mx.linalg.pinv(mx.zeros((0, 3))).shape == (3, 0)


ORDERS: list[Any] = [None, 0, 1, 2, 3, -1, -2, 2.5, np.inf, -np.inf]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_vector_norms(order: Any) -> None:
    a = draw(17, 3, 4)
    for axis in (0, 1, -1):
        for keep in (False, True):
            want = np.linalg.norm(a, order, axis, keep)
            assert_near(mx.linalg.norm(array(a), order, axis, keep), want, mx.float64, 8)
    assert_near(mx.linalg.norm(array(a[0]), order), np.asarray(np.linalg.norm(a[0], order)), mx.float64, 8)
    assert mx.linalg.norm(mx.array([3, -4]), order).dtype == mx.float32


@pytest.mark.parametrize("order", [None, "fro", "f", "nuc", 1, -1, 2, -2, np.inf, -np.inf], ids=str)
def test_matrix_norms(order: Any) -> None:
    a = draw(18, 3, 4, 5)
    plain = "fro" if order == "f" else order
    for axes in [(0, 1), (2, 0), (-2, -1)]:
        for keep in (False, True):
            want = np.linalg.norm(a, plain, axes, keep)
            assert_near(mx.linalg.norm(array(a), order, list(axes), keep), want, mx.float64, 8)
    want = np.asarray(np.linalg.norm(a[0], plain))
    assert_near(mx.matrix_norm(array(a[0]), order), want, mx.float64, 8)
    assert mx.linalg.norm(array(a[0], mx.float16), order).dtype == mx.float16


def test_norms_of_everything_and_of_complex_numbers() -> None:
    a = draw(19, 2, 3, 4)
    assert_near(mx.linalg.norm(array(a)), np.asarray(np.linalg.norm(a)), mx.float64)
    assert mx.linalg.norm(array(a), keepdims=True).shape == (1, 1, 1)
    assert mx.linalg.norm(mx.array([3 + 4j, 0]), 1).item() == 5
    assert mx.linalg.norm(mx.zeros(0)).item() == 0
    for arguments, error, message in [
        ({"ord": 3}, ValueError, "for matrices, got 3"),
        ({"ord": "max"}, ValueError, "'nuc' or a number, got 'max'"),
        ({"ord": "fro", "axis": 0}, ValueError, "norm of matrices, but 1 axes"),
        ({"ord": 1, "axis": [0, 1, 1]}, ValueError, "two for matrices, got 3"),
        ({"ord": 2, "axis": [0, 0]}, ValueError, "twice"),
        ({"axis": 2}, IndexError, "axis 2 is out of bounds"),
    ]:
        with pytest.raises(error, match=message):
            mx.linalg.norm(mx.ones((2, 2)), **arguments)


def test_cross() -> None:
    a, b = draw(20, 4, 1, 3), draw(21, 2, 3)
    assert_near(mx.linalg.cross(array(a), array(b)), np.cross(a, b), mx.float64)
    got = mx.linalg.cross(array(a.T), array(b.T[:, :, None]), axis=0)
    assert_near(got, np.cross(a.T, b.T[:, :, None], axis=0), mx.float64)
    flat = held(mx.linalg.cross(array(b[0, :2]), array(b[1, :2])))
    assert np.allclose(flat, np.cross([*b[0, :2], 0], [*b[1, :2], 0]), rtol=0, atol=1e-15)
    assert mx.linalg.cross(mx.array([1, 2]), mx.array([3, 4, 5])).tolist() == [10, -5, -2]
    with pytest.raises(ValueError, match="length 2 or 3"):
        mx.linalg.cross(mx.ones(4), mx.ones(4))
    with pytest.raises(IndexError, match="axis 1"):
        mx.linalg.cross(mx.ones(3), mx.ones(3), axis=1)


# ---- errors ----


@pytest.mark.parametrize("name", [*SQUARE, "pinv", "lu", "lu_factor", "qr", "svd"])
def test_wrong_arguments(name: str) -> None:
    f = getattr(mx.linalg, name)
    with pytest.raises(ValueError, match=rf"\[linalg::{name}\]"):
        f(mx.ones(3))
    with pytest.raises(ValueError, match=rf"\[linalg::{name}\]"):
        f(mx.ones((3, 3), dtype=mx.complex64 if name in {"det", "slogdet"} else mx.int32))
    if name in SQUARE:
        with pytest.raises(ValueError, match=r"square matrices, got shape \(2, 3\)"):
            f(mx.ones((2, 3)))


def test_wrong_systems() -> None:
    for f in (mx.linalg.solve, mx.linalg.solve_triangular):
        with pytest.raises(ValueError, match="3 equations"):
            f(mx.eye(3), mx.ones((4, 2)))
        with pytest.raises(ValueError, match="square"):
            f(mx.ones((3, 2)), mx.ones(3))
        with pytest.raises(ValueError, match="at least 1 axis"):
            f(mx.eye(3), mx.array(1.0))
        with pytest.raises(ValueError, match="float16"):
            f(mx.eye(3, dtype=mx.float16), mx.ones(3, dtype=mx.float16))
        with pytest.raises(ValueError, match="broadcast"):
            f(mx.ones((4, 3, 3)), mx.ones((2, 3, 1)))
    with pytest.raises(ValueError, match="UPLO must be 'L' or 'U', got 'X'"):
        mx.linalg.eigh(mx.eye(2), "X")


SINGULAR = {
    "inv": (mx.linalg.inv, "is singular"),
    "tri_inv": (mx.linalg.tri_inv, "is singular"),
    "cholesky_inv": (mx.linalg.cholesky_inv, "is singular"),
    "solve": (lambda a: mx.linalg.solve(a, a), "is singular"),
    "cholesky": (lambda a: mx.linalg.cholesky(a - mx.eye(3)), "not positive definite"),
    "svd": (lambda a: mx.linalg.svd(a + np.inf, compute_uv=False), "not finite"),
    "eigh": (lambda a: mx.linalg.eigvalsh(a + np.nan), "not finite"),
    "eig": (lambda a: mx.linalg.eigvals(a + np.nan), "not finite"),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_an_error_of_the_evaluation_leaves_everything_usable(name: str) -> None:
    f, message = SINGULAR[name]
    x = mx.zeros((3, 3))
    out = f(x)  # lazy: nothing happens yet
    with pytest.raises(RuntimeError, match=message):
        mx.eval(out)
    with pytest.raises(RuntimeError, match=message):
        mx.eval(f(mx.zeros((2, 3, 3))))
    assert mx.linalg.inv(mx.eye(3)).sum().item() == 3
    assert x.sum().item() == 0


# ---- gradients, vmap ----

GRADIENTS: dict[str, tuple[Any, np.ndarray]] = {
    "inv": (mx.linalg.inv, regular(30, 2, 3, 3)),
    "tri_inv": (mx.linalg.tri_inv, regular(31, 3, 3)),
    "tri_inv upper": (lambda a: mx.linalg.tri_inv(a, upper=True), regular(32, 3, 3)),
    "cholesky_inv": (mx.linalg.cholesky_inv, regular(33, 3, 3)),
    "cholesky": (lambda a: mx.linalg.cholesky(a @ a.T + mx.eye(3)), regular(34, 3, 3)),
    "cholesky upper": (lambda a: mx.linalg.cholesky(a @ a.T + mx.eye(3), upper=True), regular(35, 3, 3)),
    "pinv": (mx.linalg.pinv, draw(36, 4, 2)),
    "det": (mx.linalg.det, regular(37, 2, 3, 3)),
    "slogdet": (lambda a: mx.linalg.slogdet(a)[1], regular(38, 4, 4)),
    "lu": (lambda a: mx.concatenate([v.reshape(-1) for v in mx.linalg.lu(a)[1:]]), draw(39, 4, 4)),
    "lu tall": (lambda a: mx.linalg.lu_factor(a)[0], draw(40, 2, 5, 3)),
    "lu wide": (lambda a: mx.linalg.lu_factor(a)[0], draw(41, 3, 5)),
    "qr": (lambda a: mx.concatenate([v.reshape(-1) for v in mx.linalg.qr(a)]), regular(42, 3, 3)),
    "qr tall": (lambda a: mx.concatenate([v.reshape(-1) for v in mx.linalg.qr(a)]), draw(43, 5, 3)),
    "qr wide": (lambda a: mx.concatenate([v.reshape(-1) for v in mx.linalg.qr(a)]), draw(44, 3, 5)),
    "qr of a batch": (lambda a: mx.linalg.qr(a)[1], draw(45, 2, 4, 3)),
    "svd values": (lambda a: mx.linalg.svd(a, compute_uv=False), draw(46, 2, 3, 4)),
    "eigvalsh": (lambda a: mx.linalg.eigvalsh(a + a.T), draw(48, 4, 4)),
    "eigvalsh upper": (lambda a: mx.linalg.eigvalsh(a + a.T, UPLO="U"), draw(49, 4, 4)),
    "norm": (lambda a: mx.linalg.norm(a, axis=1), draw(50, 3, 4)),
    "nuclear norm": (lambda a: mx.linalg.norm(a, "nuc"), draw(51, 3, 4)),
    "cross": (lambda a: mx.linalg.cross(a, mx.sin(a)), draw(52, 2, 3)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    f, a = GRADIENTS[name]
    check(f, a, smooth=10)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 2)], ids=str)
def test_gradients_of_singular_vectors(shape: tuple[int, ...]) -> None:
    k = min(shape[-2:])

    # Signs of vectors are arbitrary: only what does not depend on them is a function of the matrix.
    def f(a: mx.array) -> mx.array:
        u, s, vt = mx.linalg.svd(a)
        return (u[..., :k] * mx.exp(-s)[..., None, :]) @ vt[..., :k, :] + (u[..., :k] ** 2).sum(-1)[..., None]

    check(f, draw(53, *shape), smooth=100)


def test_gradients_of_eigenvectors() -> None:
    def f(a: mx.array) -> mx.array:
        w, v = mx.linalg.eigh(a + mx.swapaxes(a, -1, -2))
        return (v * mx.exp(w)[..., None, :]) @ mx.swapaxes(v, -1, -2) + v**2

    check(f, draw(54, 2, 3, 3), smooth=100)


def test_gradients_of_solutions() -> None:
    check(mx.linalg.solve, regular(55, 3, 3), draw(56, 3, 2), smooth=10)
    check(mx.linalg.solve, regular(57, 2, 3, 3), draw(58, 3), smooth=10)
    check(mx.linalg.solve, regular(59, 3, 3), draw(60, 2, 3, 1), smooth=10)
    for upper in (False, True):
        check(
            lambda a, b, upper=upper: mx.linalg.solve_triangular(a, b, upper=upper),
            regular(61, 2, 3, 3),
            draw(62, 3, 2),
            smooth=10,
        )


def test_second_derivatives() -> None:
    def f(a: mx.array) -> mx.array:
        return mx.linalg.slogdet(a @ a.T + mx.eye(3))[1] + mx.linalg.inv(a).sum()

    check(mx.grad(f), regular(63, 3, 3), smooth=1000)


def test_what_has_no_gradient_says_so() -> None:
    for f in (lambda a: mx.abs(mx.linalg.eigvals(a)).sum(), lambda a: mx.abs(mx.linalg.eig(a)[1]).sum()):
        with pytest.raises(NotImplementedError, match=r"linalg::eig\] has no gradient"):
            mx.grad(f)(mx.eye(3))


MAPPED: dict[str, Any] = {
    "inv": mx.linalg.inv,
    "cholesky": lambda a: mx.linalg.cholesky(a @ mx.swapaxes(a, -1, -2) + mx.eye(3)),
    "lu": lambda a: mx.linalg.lu(a)[1],
    "lu pivots": lambda a: mx.linalg.lu_factor(a)[1],
    "qr": lambda a: mx.linalg.qr(a)[1],
    "svd": lambda a: mx.linalg.svd(a)[1],
    "svd values": lambda a: mx.linalg.svd(a, compute_uv=False),
    "eigh": lambda a: mx.linalg.eigh(a)[0],
    "eig": mx.linalg.eigvals,
    "det": mx.linalg.det,
    "solve": lambda a: mx.linalg.solve(a, mx.ones((3, 2), dtype=mx.float64)),
    "solve for many": lambda a: mx.linalg.solve(mx.eye(3, dtype=mx.float64) * 2, a),
    "solve_triangular": lambda a: mx.linalg.solve_triangular(a, a),
    "norm": lambda a: mx.linalg.norm(a, 2),
}


@pytest.mark.parametrize("name", MAPPED)
@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 2, 3, 3)], ids=str)
def test_vmap_equals_a_loop(name: str, shape: tuple[int, ...]) -> None:
    f = MAPPED[name]
    if len(shape) == 4 and name == "norm":
        shape = (4, 3, 3)
    x = array(regular(64, *shape))
    want = np.stack([held(f(a)) for a in x])
    assert np.array_equal(held(mx.vmap(f)(x)), want)
    moved = mx.moveaxis(x, 0, 1)
    assert np.array_equal(held(mx.vmap(f, in_axes=1)(moved)), want)


def test_vmap_of_gradients() -> None:
    x = array(definite(65, 4, 3, 3))
    g = mx.grad(lambda a: mx.linalg.cholesky(a).sum() + mx.linalg.slogdet(a)[1])
    want = np.stack([held(g(a)) for a in x])
    assert np.abs(held(mx.vmap(g)(x)) - want).max() <= 64 * EPS[mx.float64] * (1 + np.abs(want).max())


def test_compiled() -> None:
    f = mx.compile(lambda a: mx.linalg.inv(a) @ mx.linalg.qr(a)[0])
    for n in (3, 5):
        a = regular(66, n, n)
        assert_near(f(array(a)), np.linalg.inv(a) @ held(mx.linalg.qr(array(a))[0]), mx.float64, 100)
