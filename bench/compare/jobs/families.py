"""Every family of array ops by size: in L1, in L2, beside the last-level cache, and twice that cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench.compare import bounds
from bench.compare.jobs import draws
from bench.compare.jobs.families_more import MAKERS, matrix_shape
from bench.compare.jobs.random_checks import uniform_numbers
from bench.compare.model import Expected, Input, Job, Sizes

Truth = Callable[[Sequence[np.ndarray]], Sequence[Expected]]


def jobs(sizes: Sizes) -> list[Job]:
    """The families in turn, each at all sizes."""
    makers = (
        *_UNARY_JOBS,
        *_BINARY_JOBS,
        _select,
        _broadcast,
        *_CASTS,
        *_REDUCTIONS,
        _var_rows,
        _softmax_rows,
    )
    makers += (
        _cumsum_line,
        _cumsum_rows,
        _sort_line,
        _sort_rows,
        _argsort_line,
        _argmax_rows,
        _take_elements,
    )
    makers += (_take_rows, _scatter_rows, _transpose, _every_second, _concatenate, _random_uniform, *MAKERS)
    return [_named(make(n), size) for make in makers for size, n in sizes.families()]


def _named(job: Job, size: str) -> Job:
    return Job(f"{job.name}/{size}", job.inputs, job.run, job.expected, bytes=job.bytes)


# --- element-wise ----------------------------------------------------------------------------------------


def _unary(name: str, low: float, high: float, ulps: float) -> Callable[[int], Job]:
    """A function of one operand, with NumPy's float64 values as the truth."""
    return lambda n: Job(
        f"unary/{name}",
        lambda r: [draws.uniform(r, n, low=low, high=high)],
        lambda xp, x: getattr(xp, name)(x),
        lambda i: bounds.steps(getattr(np, name)(i[0].astype(np.float64)), ulps),
        bytes=8 * n,
    )


_UNARY_JOBS = [
    _unary("negative", -1, 1, 0),
    _unary("abs", -1, 1, 0),
    _unary("sqrt", 0, 1, 1),
    _unary("floor", -100, 100, 0),
    _unary("exp", -10, 10, bounds.ELEMENTARY),
    _unary("expm1", -1, 1, bounds.ELEMENTARY),
    _unary("log", 0.01, 100, bounds.ELEMENTARY),
    _unary("log1p", -0.5, 10, bounds.ELEMENTARY),
    _unary("sin", -3, 3, bounds.ELEMENTARY),
    _unary("tan", -1.5, 1.5, bounds.ELEMENTARY),
    _unary("arctan", -10, 10, bounds.ELEMENTARY),
    _unary("tanh", -5, 5, bounds.ELEMENTARY),
]


def _binary(name: str, low: float, high: float, ulps: float) -> Callable[[int], Job]:
    """A function of two operands."""
    return lambda n: Job(
        f"binary/{name}",
        lambda r: [draws.uniform(r, n, low=low, high=high), draws.uniform(r, n, low=low, high=high)],
        lambda xp, x, y: getattr(xp, name)(x, y),
        lambda i: bounds.steps(getattr(np, name)(i[0].astype(np.float64), i[1].astype(np.float64)), ulps),
        bytes=12 * n,
    )


def _compare(n: int) -> Job:
    return Job(
        "binary/less",
        lambda r: [draws.uniform(r, n), draws.uniform(r, n)],
        lambda xp, x, y: xp.less(x, y),
        lambda i: [Expected((i[0] < i[1]).astype(np.float64), 0.0, None)],
        bytes=9 * n,
    )


_BINARY_JOBS = [
    _binary("add", -1, 1, 0.5),
    _binary("multiply", -1, 1, 0.5),
    _binary("divide", 0.1, 1, 0.5),
    _binary("maximum", -1, 1, 0),
    _binary("power", 0.1, 3, bounds.ELEMENTARY),
    _binary("arctan2", -1, 1, bounds.ELEMENTARY),
    _binary("remainder", 0.1, 100, 0),
    _compare,
]


def _select(n: int) -> Job:
    return Job(
        "select/where",
        lambda r: [Input(r.random(n) < 0.5, "bool"), draws.uniform(r, n), draws.uniform(r, n)],
        lambda xp, c, x, y: xp.where(c, x, y),
        lambda i: bounds.exact(np.where(i[0], i[1], i[2])),
        bytes=13 * n,
    )


def _broadcast(n: int) -> Job:
    rows, cols = matrix_shape(n)
    return Job(
        "broadcast/add_row",
        lambda r: [draws.uniform(r, rows, cols), draws.uniform(r, cols)],
        lambda xp, x, y: x + y,
        lambda i: bounds.steps(i[0].astype(np.float64) + i[1], 0.5),
        bytes=8 * n,
    )


def _cast(source: str, to: str) -> Callable[[int], Job]:
    """A conversion of whole numbers that both dtypes hold."""
    return lambda n: Job(
        f"cast/{source}_to_{to}",
        lambda r: [Input(r.integers(0, 100, n).astype(np.float32), source)],
        lambda xp, x: xp.cast(x, to),
        lambda i: [Expected(i[0].astype(np.float64), 0.0, to)],
        bytes=(np.dtype(source).itemsize + np.dtype(to).itemsize) * n,
    )


_CASTS = [_cast("float32", "float16"), _cast("float16", "float32"), _cast("float32", "int32")]
_CASTS += [_cast("int32", "float32"), _cast("uint8", "float32")]


# --- rows and columns ------------------------------------------------------------------------------------


def _reduce(name: str, axis: int | None, what: str) -> Callable[[int], Job]:
    def make(n: int) -> Job:
        def truth(inputs: Sequence[np.ndarray]) -> Sequence[Expected]:
            if name == "sum":
                return bounds.summed(inputs[0], axis)
            return bounds.exact(getattr(np, name)(inputs[0], axis=axis))

        return Job(
            f"reduce/{name}_{what}",
            lambda r: [draws.uniform(r, *matrix_shape(n))],
            lambda xp, x: getattr(xp, name)(x, axis=axis),
            truth,
            bytes=4 * n,
        )

    return make


_REDUCTIONS = [_reduce("sum", None, "all"), _reduce("sum", -1, "rows"), _reduce("sum", 0, "columns")]
_REDUCTIONS += [_reduce("max", None, "all"), _reduce("max", -1, "rows"), _reduce("max", 0, "columns")]


def _argmax_rows(n: int) -> Job:
    return Job(
        "reduce/argmax_rows",
        lambda r: [draws.uniform(r, *matrix_shape(n))],
        lambda xp, x: xp.argmax(x, axis=-1),
        lambda i: bounds.exact(np.argmax(i[0], axis=-1), None),
        bytes=4 * n,
    )


def _var_rows(n: int) -> Job:
    def truth(inputs: Sequence[np.ndarray]) -> Sequence[Expected]:
        out = inputs[0].astype(np.float64).var(-1)
        return [bounds.absolute(out, out, bounds.walk(inputs[0].shape[-1]) + 8)]

    return Job(
        "reduce/var_rows",
        lambda r: [draws.uniform(r, *matrix_shape(n))],
        lambda xp, x: xp.var(x, axis=-1),
        truth,
        bytes=4 * n,
    )


def _softmax_rows(n: int) -> Job:
    def truth(inputs: Sequence[np.ndarray]) -> Sequence[Expected]:
        e = np.exp(inputs[0].astype(np.float64))
        out = e / e.sum(-1, keepdims=True)
        return [bounds.absolute(out, 3 * out, bounds.walk(e.shape[-1]) + 8)]

    return Job(
        "rows/softmax",
        lambda r: [draws.uniform(r, *matrix_shape(n))],
        lambda xp, x: xp.softmax(x),
        truth,
        bytes=8 * n,
    )


def _cumsum_line(n: int) -> Job:
    return Job(
        "scan/cumsum_line",
        lambda r: [draws.uniform(r, n)],
        lambda xp, x: xp.cumsum(x, axis=0),
        lambda i: bounds.scanned(i[0], 0),
        bytes=8 * n,
    )


def _cumsum_rows(n: int) -> Job:
    return Job(
        "scan/cumsum_rows",
        lambda r: [draws.uniform(r, *matrix_shape(n))],
        lambda xp, x: xp.cumsum(x, axis=1),
        lambda i: bounds.scanned(i[0], 1),
        bytes=8 * n,
    )


# --- order -----------------------------------------------------------------------------------------------

_MOST_DISTINCT = 1 << 24


def _sort_line(n: int) -> Job:
    return Job(
        "sort/line",
        lambda r: [draws.normal(r, min(n, _MOST_DISTINCT))],
        lambda xp, x: xp.sort(x, axis=-1),
        lambda i: bounds.exact(np.sort(i[0])),
    )


def _sort_rows(n: int) -> Job:
    return Job(
        "sort/rows",
        lambda r: [draws.normal(r, *matrix_shape(min(n, _MOST_DISTINCT)))],
        lambda xp, x: xp.sort(x, axis=-1),
        lambda i: bounds.exact(np.sort(i[0])),
    )


def _argsort_line(n: int) -> Job:
    return Job(
        "sort/argsort_line",
        lambda r: [draws.distinct(r, min(n, _MOST_DISTINCT))],
        lambda xp, x: xp.argsort(x, axis=-1),
        lambda i: bounds.exact(np.argsort(i[0]), None),
    )


# --- data movement ---------------------------------------------------------------------------------------


def _take_elements(n: int) -> Job:
    return Job(
        "gather/elements",
        lambda r: [draws.normal(r, n), draws.indices(r, n, n)],
        lambda xp, x, i: xp.take(x, i, axis=0),
        lambda i: bounds.exact(i[0][i[1]]),
        bytes=8 * n,
    )


def _take_rows(n: int) -> Job:
    rows, cols = matrix_shape(n)
    return Job(
        "gather/rows",
        lambda r: [draws.normal(r, rows, cols), draws.indices(r, rows, rows)],
        lambda xp, x, i: xp.take(x, i, axis=0),
        lambda i: bounds.exact(i[0][i[1]]),
        bytes=8 * n,
    )


def _scatter_rows(n: int) -> Job:
    rows, cols = matrix_shape(n)

    def truth(inputs: Sequence[np.ndarray]) -> Sequence[Expected]:
        x, at, updates = inputs
        out, norm = x.astype(np.float64), np.abs(x, dtype=np.float64)
        np.add.at(out, at, updates)
        np.add.at(norm, at, np.abs(updates))
        return [bounds.absolute(out, norm, 16)]

    return Job(
        "scatter/add_rows",
        lambda r: [draws.normal(r, rows, cols), draws.indices(r, rows, rows), draws.normal(r, rows, cols)],
        lambda xp, x, i, u: xp.scatter_add(x, i, u),
        truth,
        bytes=12 * n,
    )


def _transpose(n: int) -> Job:
    return Job(
        "copy/transpose",
        lambda r: [draws.normal(r, *matrix_shape(n))],
        lambda xp, x: xp.contiguous(x.T),
        lambda i: bounds.exact(i[0].T),
        bytes=8 * n,
    )


def _every_second(n: int) -> Job:
    return Job(
        "copy/every_second",
        lambda r: [draws.normal(r, *matrix_shape(n))],
        lambda xp, x: xp.contiguous(x[:, ::2]),
        lambda i: bounds.exact(i[0][:, ::2]),
        bytes=6 * n,
    )


def _concatenate(n: int) -> Job:
    rows, cols = matrix_shape(n)
    return Job(
        "copy/concatenate",
        lambda r: [draws.normal(r, rows, cols // 2), draws.normal(r, rows, cols // 2)],
        lambda xp, x, y: xp.concatenate([x, y], axis=1),
        lambda i: bounds.exact(np.concatenate([i[0], i[1]], axis=1)),
        bytes=8 * n,
    )


def _random_uniform(n: int) -> Job:
    return Job(
        "random/uniform", lambda r: [], lambda xp: xp.uniform(n), lambda i: uniform_numbers(n), bytes=4 * n
    )
