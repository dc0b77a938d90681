"""Derivatives of every row of the op tables against central differences; forward and backward alike."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES
from core.table_gradients import F64, GRADIENTS, WITHOUT, Smooth, check_gradient, gradient_of
from core.table_rows import BINARY, EPS, INEXACT, REDUCE, STRUCTURED, TERNARY, UNARY, Row, by_name, of, rng_of

# Where a derivative is tried: inside the table's range and away from the poles next to it.
NEAR = {"tan": (-1.2, 1.2), "arcsin": (-0.9, 0.9), "arccos": (-0.9, 0.9), "arctanh": (-0.9, 0.9)} | {
    "erfinv": (-0.9, 0.9),
    "log1p": (-0.8, 2.0),
    "arccosh": (1.2, 3.0),
    "rsqrt": (0.3, 2.3),
    "sqrt": (0.3, 2.3),
    "log": (0.3, 2.3),
    "log2": (0.3, 2.3),
    "log10": (0.3, 2.3),
    "reciprocal": (0.3, 2.3),
    "divide": (0.3, 2.3),
    "arctan2": (0.3, 2.3),
    "power": (0.3, 2.3),
}
REAL = [r for r in UNARY if "float64" in r.dtypes]
PAIRS = [r for r in BINARY if "float64" in r.dtypes]


def numbers(row: Row, *shape: int) -> np.ndarray:
    return rng_of("gradient", row.name, shape).uniform(*NEAR.get(row.name, (-2.3, 2.3)), shape)


def as_float(row: Row, dtype: mx.Dtype):
    """The row as a function to floats: truth values count as 0 and 1."""
    f = getattr(mx, row.name)
    return lambda *xs: f(*xs).astype(dtype)


@pytest.mark.parametrize(**by_name(REAL))
def test_unary(row: Row) -> None:
    check_gradient(as_float(row, mx.float64), [numbers(row, 7)])


@pytest.mark.parametrize(**by_name(PAIRS))
def test_binary_with_broadcasting(row: Row) -> None:
    check_gradient(as_float(row, mx.float64), [numbers(row, 3, 1), numbers(row, 4)])
    check_gradient(as_float(row, mx.float64), [numbers(row), numbers(row, 2)])


def test_select() -> None:
    flags = mx.array([True, False, False, True])
    operands = [numbers(PAIRS[0], 3, 1), numbers(PAIRS[1], 4)]
    check_gradient(lambda x, y: mx.where(flags, x * y, y), operands)
    check_gradient(gradient_of(lambda x, y: mx.where(flags, x * y, y * y)), operands)


@pytest.mark.parametrize(**by_name(REDUCE))
def test_reductions(row: Row) -> None:
    f = getattr(mx, row.name)
    x = numbers(row, 2, 3, 4)
    for axis, keepdims in ((None, False), (1, True), ((0, 2), False), (-1, False)):
        check_gradient(lambda a, axis=axis, k=keepdims: f(a, axis, k).astype(mx.float64), [x])


def test_ties_share_the_gradient_of_an_extremum() -> None:
    x = np.array([[2.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    for sign, f in ((1.0, mx.max), (-1.0, mx.min)):
        got = mx.grad(lambda a, f=f: f(a, axis=1).sum())(of(sign * x))
        assert np.asarray(got).tolist() == [[0.5, 0.0, 0.5], [1 / 3] * 3]
    for f in (mx.maximum, mx.minimum):
        halves = mx.grad(lambda a, b, f=f: f(a, b).sum(), argnums=(0, 1))(of(x), of(x))
        assert all(np.asarray(h).tolist() == [[0.5] * 3] * 2 for h in halves)


def test_products_with_zeros() -> None:
    for zeros in ([], [0], [1, 2], [0, 3]):
        x = numbers(REDUCE[0], 4)
        x[zeros] = 0
        check_gradient(lambda a: mx.prod(a), [x])
        check_gradient(lambda a: mx.cumprod(a, axis=0), [x])


@pytest.mark.parametrize(**by_name([r for r in REAL if "float16" in r.dtypes]))
def test_gradients_in_other_dtypes(row: Row) -> None:
    """The gradient has its operand's dtype, and is that of float64 but for the rounding of a few steps."""
    x = numbers(row, 33)
    for dtype in ("float32", "float16", "bfloat16"):
        given = x.astype(NUMPY_DTYPES[dtype])
        narrow = np.asarray(mx.grad(lambda a: as_float(row, a.dtype)(a).sum())(of(given)))
        wide = np.asarray(mx.grad(lambda a: as_float(row, a.dtype)(a).sum())(of(given.astype(np.float64))))
        assert narrow.dtype == given.dtype
        # Differences like 1 - x^2 cancel by a factor of 10 at most in these ranges.
        bound = 64 * EPS[dtype] * (1 + np.abs(wide))
        assert (np.abs(narrow.astype(np.float64) - wide) <= bound).all(), dtype


CASES = [(op, case) for op, cases in GRADIENTS.items() for case in cases]
CASE_IDS = [f"{op}-{case.label}" for op, case in CASES]


def test_every_row_has_a_case() -> None:
    """Whatever takes numbers with fractions is in one of the lists that the tests run over."""
    assert sorted(r.op for r in STRUCTURED) == sorted([*GRADIENTS, *WITHOUT])
    tested = {r.name for r in (*REAL, *PAIRS, *COMPLEX, *COMPLEX_PAIRS, *REDUCE)} | {"select"}
    assert {r.name for r in (*UNARY, *BINARY, *TERNARY, *REDUCE) if r.dtypes & set(INEXACT)} == tested


@pytest.mark.parametrize(("op", "case"), CASES, ids=CASE_IDS)
def test_structured(op: str, case: Smooth) -> None:
    check_gradient(case.f, case.operands(), case.dtype)


# ---- higher derivatives: the gradient as a function, against its own differences


@pytest.mark.parametrize(**by_name(REAL))
def test_second_and_third_derivatives_of_unary(row: Row) -> None:
    first = gradient_of(as_float(row, mx.float64))
    check_gradient(first, [numbers(row, 3)])
    check_gradient(gradient_of(first), [numbers(row, 3)])


@pytest.mark.parametrize(**by_name(PAIRS))
def test_second_derivatives_of_binary(row: Row) -> None:
    first = gradient_of(as_float(row, mx.float64))
    check_gradient(first, [numbers(row, 2, 1), numbers(row, 3)])
    check_gradient(gradient_of(first), [numbers(row, 2, 1), numbers(row)])


@pytest.mark.parametrize(**by_name(REDUCE))
def test_second_derivatives_of_reductions(row: Row) -> None:
    first = gradient_of(lambda a: getattr(mx, row.name)(a, 1).astype(mx.float64))
    check_gradient(first, [numbers(row, 2, 3)])
    check_gradient(gradient_of(first), [numbers(row, 2, 3)])


@pytest.mark.parametrize(("op", "case"), CASES, ids=CASE_IDS)
def test_second_derivatives_of_structured(op: str, case: Smooth) -> None:
    check_gradient(gradient_of(case.f), case.operands(), case.dtype)


@pytest.mark.parametrize(
    "op", ["Matmul", "Scan", "Solve", "Cholesky", "Sort", "Scatter", "Convolution", "Eigh"]
)
def test_third_derivatives(op: str) -> None:
    for case in GRADIENTS[op]:
        assert case.dtype == F64
        check_gradient(gradient_of(gradient_of(case.f)), case.operands())


def test_nothing_flows_through_what_has_no_derivative() -> None:
    x = of(numbers(REDUCE[0], 3, 32))

    def gradient(f):
        return np.asarray(mx.grad(lambda a: f(a).astype(mx.float64).sum())(x))

    for f in (
        mx.stop_gradient,
        mx.argsort,
        mx.argmax,
        lambda a: mx.view(a, mx.int64),
        lambda a: mx.quantize(a.astype(mx.float32), 32, 4)[0],
    ):
        assert (gradient(f) == 0).all()


# ---- complex numbers

HOLOMORPHIC = [r for r in UNARY if "complex64" in r.dtypes and r.result == "kSame"]
COMPLEX = [r for r in UNARY if "complex64" in r.dtypes]
COMPLEX_PAIRS = [r for r in BINARY if "complex64" in r.dtypes and r.result == "kSame"]


def points(row: Row, which: str) -> np.ndarray:
    """Numbers off the axes, where branches are cut."""
    rng = rng_of("complex", row.name, which)
    return (rng.uniform(0.4, 0.9, 5) + 1j * rng.uniform(0.3, 0.8, 5)).astype(np.complex64)


@pytest.mark.parametrize(**by_name([*COMPLEX, *COMPLEX_PAIRS]))
def test_complex(row: Row) -> None:
    """jvp against differences along a direction; vjp as its adjoint for the real inner product."""
    f = getattr(mx, row.name)
    xs = [points(row, "x"), points(row, "y") * 1.5][: 1 + (row in COMPLEX_PAIRS)]
    steps = [points(row, f"t{i}") for i in range(len(xs))]
    arrays, tangents = [of(x) for x in xs], [of(t) for t in steps]
    out = np.asarray(f(*arrays))
    result = np.complex64 if out.dtype == np.complex64 else np.float32

    def smooth(*zs: mx.array) -> mx.array:
        y = f(*zs)
        return y if y.dtype == mx.complex64 else y.astype(mx.float32)

    forward = np.asarray(mx.jvp(smooth, arrays, tangents)[1][0])
    h = np.float32(EPS["float32"] ** (1 / 3))
    ends = [np.asarray(smooth(*[of(x + s * h * t) for x, t in zip(xs, steps, strict=True)])) for s in (1, -1)]
    wider = [
        np.asarray(smooth(*[of(x + 2 * s * h * t) for x, t in zip(xs, steps, strict=True)])) for s in (1, -1)
    ]
    slope, other = (ends[0] - ends[1]) / (2 * h), (wider[0] - wider[1]) / (4 * h)
    bound = np.abs(slope - other) + 16 * EPS["float32"] * (np.abs(out) + 1) / h
    assert (np.abs(forward - slope) <= bound).all(), (forward, slope)
    weights = (points(row, "w") if result == np.complex64 else points(row, "w").real).astype(result)
    backward = mx.vjp(smooth, arrays, [of(weights)])[1]
    there = (np.conj(weights) * forward).real.sum()
    back = sum((np.conj(np.asarray(g)) * t).real.sum() for g, t in zip(backward, steps, strict=True))
    size = np.abs(weights * forward).sum() + sum(np.abs(np.asarray(g)).sum() for g in backward) + 1
    assert abs(there - back) <= 64 * EPS["float32"] * size
