"""vmap of every row of the op tables against a loop over the examples, along every axis of every operand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES
from core.table_cases import Kernel, normal
from core.table_gradients import GRADIENTS, Smooth
from core.table_kernels import KERNELS
from core.table_moves import COMBINATIONS, COMBINED_AT, MOVES, Move, index_of
from core.table_rows import BINARY, EPS, REDUCE, TERNARY, UNARY, Row, by_name, of, rng_of

EXAMPLES = 3
Examples = list[list[np.ndarray]]
Axes = tuple[int | None, ...]


def ways(ndims: Sequence[int]) -> Iterator[Axes]:
    """Every choice of a mapped axis, or none, for operands of these numbers of axes."""
    choices = [[*range(n + 1), -1, None] if n < 3 else [*range(n + 1), None] for n in ndims]
    if len(ndims) > 2:
        # Of many operands: each alone, and all alike.
        alone = [(k, axis) for k, axes in enumerate(choices) for axis in axes if axis is not None]
        yield from (tuple(axis if i == k else None for i in range(len(ndims))) for k, axis in alone)
        yield tuple(0 for _ in ndims)
        yield tuple(-1 for _ in ndims)
        return
    yield from (axes for axes in itertools.product(*choices) if any(a is not None for a in axes))


def outputs(result: Any) -> list[np.ndarray]:
    return [np.asarray(r) for r in ([result] if isinstance(result, mx.array) else result)]


def check_vmap(
    f: Callable[..., Any], examples: Examples, bounds: Callable[[list[np.ndarray]], list[Any]] | None = None
) -> None:
    """The function of a batch against the batch of its results, for every way to map the operands."""
    ndims = [x.ndim for x in examples[0]]
    for axes in ways(ndims):
        used = [[e[k] if a is not None else examples[0][k] for k, a in enumerate(axes)] for e in examples]
        batch = [
            of(np.stack([e[k] for e in used], a)) if a is not None else of(used[0][k])
            for k, a in enumerate(axes)
        ]
        together = outputs(mx.vmap(f, in_axes=axes)(*batch))
        for i, xs in enumerate(used):
            alone = outputs(f(*[of(x) for x in xs]))
            assert len(together) == len(alone)
            allowed = bounds(xs) if bounds else [0] * len(alone)
            for got, want, bound in zip(together, alone, allowed, strict=True):
                assert got.dtype == want.dtype
                assert got.shape == (EXAMPLES, *want.shape), (axes, got.shape)
                assert close(got[i], want, bound), (axes, i)


def close(got: np.ndarray, want: np.ndarray, bound: Any) -> bool:
    with np.errstate(all="ignore"):
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        if np.any(bound):
            same |= np.abs(got.astype(np.complex128) - want.astype(np.complex128)) <= bound
    return bool(same.all())


def drawn(row: Row, dtype: str, shapes: Sequence[tuple[int, ...]]) -> Examples:
    """Examples inside the row's range."""
    if dtype not in EPS:
        make = normal(*shapes)
        return [make(rng_of(row.name, i), dtype) for i in range(EXAMPLES)]
    low, high = max(row.low, -0.9) + 0.05, min(row.high, max(row.low, -0.9) + 1.7)
    return [
        [
            rng_of(row.name, i, k).uniform(low, high, s).astype(NUMPY_DTYPES[dtype])
            for k, s in enumerate(shapes)
        ]
        for i in range(EXAMPLES)
    ]


def dtypes(row: Row) -> list[str]:
    return [t for t in ("float32", "int32", "complex64") if t in row.dtypes]


@pytest.mark.parametrize(**by_name(UNARY))
def test_unary(row: Row) -> None:
    for dtype in dtypes(row):
        check_vmap(getattr(mx, row.name), drawn(row, dtype, [(3, 4)]))
        check_vmap(getattr(mx, row.name), drawn(row, dtype, [()]))


@pytest.mark.parametrize(**by_name(BINARY))
def test_binary(row: Row) -> None:
    for dtype in dtypes(row):
        for shapes in ([(3, 4), (3, 4)], [(3, 1), (4,)], [(), (2, 3)]):
            check_vmap(getattr(mx, row.name), drawn(row, dtype, shapes))


@pytest.mark.parametrize(**by_name(TERNARY))
def test_ternary(row: Row) -> None:
    examples = drawn(row, "float32", [(3, 1), (2, 3, 4), (4,)])
    check_vmap(lambda c, x, y: mx.where(c > 0.2, x, y), examples)


@pytest.mark.parametrize(**by_name(REDUCE))
def test_reductions(row: Row) -> None:
    f = getattr(mx, row.name)
    for axis, keepdims in ((None, False), (0, True), (1, False), (-1, False), ((0, 2), True)):
        for dtype in ("float32", "int32"):
            examples = drawn(row, dtype, [(2, 3, 4)])
            # Products and sums of 24 numbers below 2 in another order.
            spread = 24 * EPS["float32"] * 2.0**24 if row.name == "prod" else 48 * 24 * EPS["float32"]
            bound = spread if dtype == "float32" and row.name in ("sum", "prod") else 0
            check_vmap(lambda a, x=axis, k=keepdims: f(a, x, k), examples, lambda _, b=bound: [b])


MOVE_CASES = [(op, move) for op, moves in MOVES.items() for move in moves if move.label != "mask"]


@pytest.mark.parametrize(("op", "move"), MOVE_CASES, ids=[f"{op}-{m.label}" for op, m in MOVE_CASES])
def test_moves(op: str, move: Move) -> None:
    for shapes in move.trials:
        make = normal(*shapes)
        check_vmap(move.ours, [make(rng_of(op, move.label, i), "float32") for i in range(EXAMPLES)])


def test_shapes_that_depend_on_numbers_are_refused() -> None:
    x = mx.arange(6).reshape(2, 3)
    for f in (lambda a: a[a > 1], mx.nonzero, lambda a: mx.where(a > 1)):
        with pytest.raises(ValueError, match=r"\[\w+\] .*(vmap|traced|transform)"):
            mx.vmap(f)(x)


@pytest.mark.parametrize("at", COMBINED_AT)
@pytest.mark.parametrize("how", COMBINATIONS)
def test_combining_writes(how: str, at: str) -> None:
    key, shape = COMBINED_AT[at]
    make = normal((3, 4, 5), shape)
    examples = [make(rng_of(how, at, i), "int32") for i in range(EXAMPLES)]
    check_vmap(lambda a, b: getattr(a.at[index_of(mx, key)], how)(b), examples)


def test_mapped_indices() -> None:
    """Index arrays with an axis of examples, alone and beside mapped arrays."""
    rng = rng_of("mapped indices")
    examples = [
        [rng.standard_normal((4, 5)).astype(np.float32), rng.integers(-4, 4, 3).astype(np.int32)]
        for _ in range(EXAMPLES)
    ]
    for f in (
        lambda a, i: a[i],
        lambda a, i: a[i, i],
        lambda a, i: a[1:, i],
        lambda a, i: mx.take(a, i, axis=1),
        lambda a, i: mx.take_along_axis(a, i[:, None], axis=0),
        lambda a, i: mx.put_along_axis(a, i[:, None], mx.array(7.0), axis=0),
        lambda a, i: a.at[i].add(a[:3]),
        lambda a, i: a.at[i, 2].multiply(2.0),
        lambda a, i: mx.slice(a, mx.abs(i[:1]), (0,), (1, 5)),
        lambda a, i: mx.slice_update(a, a[:2, :2], mx.abs(i[:2]) % 3, (0, 1)),
    ):
        # Sums of three numbers below 5 in another order.
        check_vmap(f, examples, lambda _: [12 * 5 * EPS["float32"]])


KERNEL_CASES = [(op, kernel) for op, kernels in KERNELS.items() for kernel in kernels]


@pytest.mark.parametrize(("op", "kernel"), KERNEL_CASES, ids=[f"{op}-{k.label}" for op, k in KERNEL_CASES])
def test_kernels(op: str, kernel: Kernel) -> None:
    dtype = "float32" if "float32" in kernel.dtypes else kernel.dtypes[0]
    examples = [kernel.make(rng_of(op, kernel.label, i), dtype) for i in range(EXAMPLES)]

    def bounds(xs: list[np.ndarray]) -> list[Any]:
        # Both sides may be that far off.
        return [2 * np.nan_to_num(np.asarray(bound)) for _, bound in kernel.theirs(dtype, *xs)]

    check_vmap(kernel.ours, examples, bounds)


GRADIENT_CASES = [(op, case) for op, cases in GRADIENTS.items() for case in cases]
GRADIENT_IDS = [f"{op}-{case.label}" for op, case in GRADIENT_CASES]


def gradients_of(case: Smooth) -> Callable[..., list[mx.array]]:
    """The gradients of the sum of the function's results."""

    def f(*xs: mx.array) -> list[mx.array]:
        out = case.f(*xs)
        return mx.vjp(case.f, list(xs), [mx.ones(out.shape, out.dtype)])[1]

    return f


@pytest.mark.parametrize(("op", "case"), GRADIENT_CASES, ids=GRADIENT_IDS)
def test_gradients_inside(op: str, case: Smooth) -> None:
    examples = [[x * (1 + i / 16) for x in case.operands()] for i in range(EXAMPLES)]
    examples = [[x.astype(NUMPY_DTYPES[case.dtype]) for x in e] for e in examples]
    f = gradients_of(case)

    def bounds(xs: list[np.ndarray]) -> list[Any]:
        # Sums of at most 64 products in another order.
        return [64 * EPS[case.dtype] * (1 + np.abs(np.asarray(g)).max(initial=0)) for g in f(*map(of, xs))]

    check_vmap(f, examples, bounds)


@pytest.mark.parametrize(("op", "case"), GRADIENT_CASES, ids=GRADIENT_IDS)
def test_gradients_outside(op: str, case: Smooth) -> None:
    """The gradient of a mapped function is the batch of gradients."""
    examples = [[x * (1 + i / 16) for x in case.operands()] for i in range(EXAMPLES)]
    batch = [np.stack(xs).astype(NUMPY_DTYPES[case.dtype]) for xs in zip(*examples, strict=True)]
    mapped = Smooth(case.label, mx.vmap(case.f), dtype=case.dtype)
    together = gradients_of(mapped)(*[of(x) for x in batch])
    for i in range(EXAMPLES):
        alone = gradients_of(case)(*[of(x[i]) for x in batch])
        for got, want in zip(together, alone, strict=True):
            bound = 64 * EPS[case.dtype] * (1 + np.abs(np.asarray(want)).max(initial=0))
            assert close(np.asarray(got)[i], np.asarray(want), bound)


def test_where_results_go() -> None:
    x = rng_of("out").standard_normal((3, 2, 4)).astype(np.float32)
    for axis in (0, 1, 2, -1, -2):
        got = mx.vmap(lambda a: mx.exp(a), in_axes=1, out_axes=axis)(of(x))
        want = np.moveaxis(np.asarray(mx.exp(of(x))), 1, axis)
        assert np.asarray(got).tobytes() == np.ascontiguousarray(want).tobytes()


def test_nested() -> None:
    x, y = rng_of("nested").standard_normal((2, 3, 4)).astype(np.float32)
    for f in (mx.add, mx.matmul, mx.maximum):
        got = mx.vmap(mx.vmap(f, in_axes=(None, 0)), in_axes=(0, None))(of(x), of(y))
        want = np.stack([[np.asarray(f(of(a), of(b))) for b in y] for a in x])
        assert np.abs(np.asarray(got) - want).max() <= 8 * EPS["float32"] * np.abs(want).max()


def test_no_example() -> None:
    for f in (mx.exp, mx.sum, mx.sort, lambda a: a @ a.T):
        got = mx.vmap(f)(mx.zeros((0, 3, 4)))
        assert got.shape == (0, *f(mx.zeros((3, 4))).shape)
