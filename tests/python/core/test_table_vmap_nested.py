"""vmap inside vmap for every row of the op tables, with mapped axes anywhere: against two loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES
from core.table_cases import Kernel, normal
from core.table_gradients import GRADIENTS, Smooth
from core.table_kernels import KERNELS
from core.table_moves import MOVES, Move
from core.table_rows import BINARY, EPS, REDUCE, STRUCTURED, TERNARY, UNARY, Row, by_name, of, rng_of
from core.test_linalg import MAPPED as LINALG_CASES
from core.test_table_vmap import (
    GRADIENT_CASES,
    GRADIENT_IDS,
    KERNEL_CASES,
    MOVE_CASES,
    close,
    gradients_of,
    outputs,
)

OUTER, INNER, TRIALS = 2, 3, 6
Bounds = Callable[[list[np.ndarray]], list[Any]]


def some_axes(rng: np.random.Generator, ndims: Sequence[int]) -> list[int | None]:
    """A mapped axis for some of the operands, at least one."""
    while True:
        axes = [None if rng.random() < 0.3 else int(rng.integers(-n - 1, n + 1)) for n in ndims]
        if any(a is not None for a in axes):
            return axes


def check_nested(
    label: str, f: Callable[..., Any], draw: Callable[[int], list[np.ndarray]], bounds: Bounds
) -> None:
    """Random axes for both levels and all operands, and for both in the results."""
    rng = rng_of("nested", label)
    grid = [[draw(i * INNER + j) for j in range(INNER)] for i in range(OUTER)]
    ndims = [x.ndim for x in grid[0][0]]
    ranks = [r.ndim for r in outputs(f(*map(of, grid[0][0])))]
    for _ in range(TRIALS):
        inner = some_axes(rng, ndims)
        outer = some_axes(rng, [n + (a is not None) for n, a in zip(ndims, inner, strict=True)])
        out_in = [int(rng.integers(-r - 1, r + 1)) for r in ranks]
        out_out = [int(rng.integers(-r - 2, r + 2)) for r in ranks]
        operands = []
        for k, (a, b) in enumerate(zip(inner, outer, strict=True)):
            rows = [np.stack([e[k] for e in row], a) if a is not None else row[0][k] for row in grid]
            operands.append(of(np.stack(rows, b) if b is not None else rows[0]))
        one = len(ranks) == 1 and isinstance(f(*map(of, grid[0][0])), mx.array)
        mapped = mx.vmap(
            mx.vmap(f, in_axes=tuple(inner), out_axes=out_in[0] if one else out_in),
            in_axes=tuple(outer),
            out_axes=out_out[0] if one else out_out,
        )
        got = [
            np.moveaxis(np.moveaxis(y, o, 0), i if i < 0 else i + 1, 1)
            for y, i, o in zip(outputs(mapped(*operands)), out_in, out_out, strict=True)
        ]
        for i in range(OUTER):
            for j in range(INNER):
                at = [
                    grid[i if b is not None else 0][j if a is not None else 0][k]
                    for k, (a, b) in enumerate(zip(inner, outer, strict=True))
                ]
                want = outputs(f(*map(of, at)))
                for y, w, bound in zip(got, want, bounds(at), strict=True):
                    assert y.dtype == w.dtype
                    assert y.shape == (OUTER, INNER, *w.shape), (inner, outer, out_in, out_out)
                    assert close(y[i, j], w, bound), (inner, outer, out_in, out_out, y[i, j], w)


def exact(f: Callable[..., Any]) -> Bounds:
    return lambda xs: [0] * len(outputs(f(*map(of, xs))))


def in_range(row: Row, *shapes: tuple[int, ...]) -> Callable[[int], list[np.ndarray]]:
    low, high = max(row.low, -0.9) + 0.05, min(row.high, max(row.low, -0.9) + 1.7)
    dtype = "float32" if "float32" in row.dtypes else "int32" if "int32" in row.dtypes else "bool_"

    def draw(i: int) -> list[np.ndarray]:
        if dtype != "float32":
            return normal(*shapes)(rng_of(row.name, i), dtype)
        return [rng_of(row.name, i, k).uniform(low, high, s).astype(np.float32) for k, s in enumerate(shapes)]

    return draw


@pytest.mark.parametrize(**by_name([*UNARY, *BINARY]))
def test_elementwise(row: Row) -> None:
    f = getattr(mx, row.name)
    for shapes in ((2, 3),), ((),):
        pair = shapes if row in UNARY else (shapes[0], (3,))
        check_nested(row.name, f, in_range(row, *pair), exact(f))


@pytest.mark.parametrize(**by_name(TERNARY))
def test_ternary(row: Row) -> None:
    def f(c: mx.array, x: mx.array, y: mx.array) -> mx.array:
        return mx.where(c > 0.2, x, y)

    check_nested(row.name, f, normal_draw("float32", (3, 1), (2, 3, 4), (4,)), exact(f))


def normal_draw(dtype: str, *shapes: tuple[int, ...]) -> Callable[[int], list[np.ndarray]]:
    return lambda i: normal(*shapes)(rng_of("nested", shapes, i), dtype)


@pytest.mark.parametrize(**by_name(REDUCE))
def test_reductions(row: Row) -> None:
    f = getattr(mx, row.name)
    for axis, keepdims in ((None, False), (0, True), (-1, False)):
        # Sums and products of 6 numbers below 2 in another order.
        bound = 2.0**6 * 48 * EPS["float32"] if row.name in ("sum", "prod") else 0
        check_nested(
            row.name, lambda a, x=axis, k=keepdims: f(a, x, k), in_range(row, (2, 3)), lambda _, b=bound: [b]
        )


@pytest.mark.parametrize(("op", "move"), MOVE_CASES, ids=[f"{op}-{m.label}" for op, m in MOVE_CASES])
def test_moves(op: str, move: Move) -> None:
    for shapes in move.trials[:2]:
        make = normal(*shapes)
        check_nested(
            op + move.label,
            move.ours,
            lambda i, m=make: m(rng_of(op, move.label, i), "float32"),
            exact(move.ours),
        )


@pytest.mark.parametrize(("op", "kernel"), KERNEL_CASES, ids=[f"{op}-{k.label}" for op, k in KERNEL_CASES])
def test_kernels(op: str, kernel: Kernel) -> None:
    dtype = "float32" if "float32" in kernel.dtypes else kernel.dtypes[0]

    def bounds(xs: list[np.ndarray]) -> list[Any]:
        return [2 * np.nan_to_num(np.asarray(bound)) for _, bound in kernel.theirs(dtype, *xs)]

    check_nested(
        op + kernel.label, kernel.ours, lambda i: kernel.make(rng_of(op, kernel.label, i), dtype), bounds
    )


@pytest.mark.parametrize(("op", "case"), GRADIENT_CASES, ids=GRADIENT_IDS)
def test_gradients(op: str, case: Smooth) -> None:
    f = gradients_of(case)

    def draw(i: int) -> list[np.ndarray]:
        return [(x * (1 + i / 32)).astype(NUMPY_DTYPES[case.dtype]) for x in case.operands()]

    def bounds(xs: list[np.ndarray]) -> list[Any]:
        return [64 * EPS[case.dtype] * (1 + np.abs(np.asarray(g)).max(initial=0)) for g in f(*map(of, xs))]

    check_nested(op + case.label, f, draw, bounds)


SIX = rng_of("six").standard_normal((OUTER * INNER, 6, 3, 3)) / 4 + np.diag([1.0, 3.0, 7.0])
DECOMPOSED: dict[str, Callable[..., Any]] = {
    **LINALG_CASES,
    "svd of all parts": lambda a: mx.linalg.svd(a),
    "eigh of all parts": lambda a: mx.linalg.eigh(a),
    "qr of all parts": lambda a: mx.linalg.qr(a),
    "solve both": lambda a: mx.linalg.solve(a, a.T),
}


@pytest.mark.parametrize("name", DECOMPOSED)
def test_linear_algebra(name: str) -> None:
    """One matrix after another either way: the same bits."""
    f = DECOMPOSED[name]
    check_nested(name, f, lambda i: [SIX[i, 0]], exact(f))


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_fourier_transforms(name: str) -> None:
    dtype = "float32" if name == "rfft" else "complex64"
    for axis in (0, 1):
        f = lambda a, x=axis: getattr(mx.fft, name)(a, axis=x)  # noqa: E731
        check_nested(name, f, normal_draw(dtype, (4, 5)), exact(f))


def test_every_row_is_mapped() -> None:
    """Leaves alone are never mapped: they have no operand."""
    tested = {*MOVES, *KERNELS, *GRADIENTS, "Eig"}
    leaves = {r.op for r in STRUCTURED if r.family == "kLeaf"} | {"Arange"}
    assert {r.op for r in STRUCTURED} - leaves <= tested
