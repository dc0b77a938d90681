"""More families by size: 16-bit floats, norms, selections, running extrema, writes, random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.compare import bounds
from bench.compare.jobs import draws
from bench.compare.jobs.random_checks import normal_numbers, uniform_integers
from bench.compare.model import EPS, Check, Expected, Input, Job, Mismatch, Outputs

_MOST_DISTINCT = 1 << 24


def matrix_shape(n: int) -> tuple[int, int]:
    """Rows of 1024, or a square where that would be one row."""
    width = 1024 if n >= 1 << 20 else 32
    return n // width, width


# --- 16-bit floats ---------------------------------------------------------------------------------------


def _cast_bfloat16(to_bfloat16: bool) -> Callable[[int], Job]:
    source, to = ("float32", "bfloat16") if to_bfloat16 else ("bfloat16", "float32")

    def inputs(r: np.random.Generator, n: int) -> list[Input]:
        return [Input(draws.normal_bfloat16(r, n).values, source)]

    return lambda n: Job(
        f"cast/{source}_to_{to}",
        lambda r: inputs(r, n),
        lambda xp, x: xp.cast(x, to),
        lambda i: [Expected(i[0].astype(np.float64), 0.0, to)],
        bytes=6 * n,
    )


def _gelu_bfloat16(n: int) -> Job:
    def gelu(xp: Any, x: Any) -> Any:
        return 0.5 * x * (1.0 + xp.tanh(0.797885 * (x + 0.044715 * x * x * x)))

    def truth(i: Sequence[np.ndarray]) -> list[Expected]:
        x = i[0].astype(np.float64)
        # Libraries that work op by op round to 16 bits eight times, 1 + tanh at its own size.
        bound = 8 * EPS["bfloat16"] * np.abs(x) * (1 + np.abs(x)) + 2.0**-100
        return [Expected(gelu(np, x), bound, "bfloat16")]

    return Job("chain/gelu_bfloat16", lambda r: [draws.normal_bfloat16(r, n)], gelu, truth, bytes=4 * n)


# --- rows ------------------------------------------------------------------------------------------------


def _layer_norm(n: int) -> Job:
    rows, cols = matrix_shape(n)

    def truth(i: Sequence[np.ndarray]) -> list[Expected]:
        x, w, b = (a.astype(np.float64) for a in i)
        d = x - x.mean(-1, keepdims=True)
        out = d / np.sqrt(np.square(d).mean(-1, keepdims=True) + 1e-5)
        size = (np.abs(out) + 1) * np.abs(w) + np.abs(b)
        return [bounds.absolute(out * w + b, size, bounds.walk(cols) + 8)]

    return Job(
        "rows/layer_norm",
        lambda r: [draws.normal(r, rows, cols), draws.normal(r, cols), draws.normal(r, cols)],
        lambda xp, x, w, b: xp.layer_norm(x, w, b, 1e-5),
        truth,
        bytes=8 * n,
    )


def _sum_middle(n: int) -> Job:
    rows, cols = matrix_shape(n)
    shape = (rows // 16 or 1, 16, cols) if rows >= 16 else (1, rows, cols)
    return Job(
        "reduce/sum_middle",
        lambda r: [draws.uniform(r, *shape)],
        lambda xp, x: xp.sum(x, axis=1),
        lambda i: bounds.summed(i[0], 1),
        bytes=4 * n,
    )


def _cummax_rows(n: int) -> Job:
    return Job(
        "scan/cummax_rows",
        lambda r: [draws.uniform(r, *matrix_shape(n))],
        lambda xp, x: xp.cummax(x, axis=1),
        lambda i: bounds.exact(np.maximum.accumulate(i[0], 1)),
        bytes=8 * n,
    )


def _cumsum_columns(n: int) -> Job:
    return Job(
        "scan/cumsum_columns",
        lambda r: [draws.uniform(r, *matrix_shape(n))],
        lambda xp, x: xp.cumsum(x, axis=0),
        lambda i: bounds.scanned(i[0], 0),
        bytes=8 * n,
    )


# --- selections ------------------------------------------------------------------------------------------


def _the_largest(x: np.ndarray, k: int) -> Check:
    """A check that the k largest of each row came, in whatever order."""
    wanted = np.sort(x, axis=-1)[..., -k:]

    def check(outputs: Outputs) -> None:
        (got,) = outputs
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise Mismatch(
                f"wanted {wanted.dtype} of shape {wanted.shape}, got {got.dtype} of shape {got.shape}"
            )
        off = np.argwhere(np.sort(got, axis=-1) != wanted)
        if len(off):
            raise Mismatch(f"{len(off)} of {wanted.size} elements are none of the {k} largest")

    return check


def _topk(name: str, k: int, rows: bool) -> Callable[[int], Job]:
    def make(n: int) -> Job:
        shape = matrix_shape(n) if rows else (n,)
        return Job(
            f"sort/{name}",
            lambda r: [draws.normal(r, *shape)],
            lambda xp, x: xp.topk(x, k),
            lambda i: _the_largest(i[0], k),
            bytes=4 * n,
        )

    return make


def _argsort_rows(n: int) -> Job:
    shape = matrix_shape(min(n, _MOST_DISTINCT))
    return Job(
        "sort/argsort_rows",
        lambda r: [draws.distinct(r, *shape)],
        lambda xp, x: xp.argsort(x, axis=-1),
        lambda i: bounds.exact(np.argsort(i[0], axis=-1), None),
    )


def _sort_integers(n: int) -> Job:
    return Job(
        "sort/line_int32",
        lambda r: [Input(r.integers(-(1 << 28), 1 << 28, n, dtype=np.int32), "int32")],
        lambda xp, x: xp.sort(x, axis=-1),
        lambda i: [Expected(np.sort(i[0]).astype(np.float64), 0.0, "int32")],
    )


def _take_along(n: int) -> Job:
    rows, cols = matrix_shape(n)
    return Job(
        "gather/along_rows",
        lambda r: [draws.normal(r, rows, cols), draws.indices(r, cols, rows, cols)],
        lambda xp, x, i: xp.take_along_axis(x, i, axis=1),
        lambda i: bounds.exact(np.take_along_axis(i[0], i[1], 1)),
        bytes=12 * n,
    )


# --- writes ----------------------------------------------------------------------------------------------


def _scatter_elements(n: int) -> Job:
    def truth(i: Sequence[np.ndarray]) -> list[Expected]:
        x, at, updates = i
        out, norm = x.astype(np.float64), np.abs(x, dtype=np.float64)
        np.add.at(out, at, updates)
        np.add.at(norm, at, np.abs(updates))
        return [bounds.absolute(out, norm, 16)]

    return Job(
        "scatter/add_elements",
        lambda r: [draws.normal(r, n), draws.indices(r, n, n), draws.normal(r, n)],
        lambda xp, x, i, u: xp.scatter_add(x, i, u),
        truth,
        bytes=16 * n,
    )


def _heads(n: int) -> Job:
    dim = 64 if n >= 1 << 14 else 4
    shape = (2, n // (16 * dim), 8, dim)
    return Job(
        "copy/heads",
        lambda r: [draws.normal(r, *shape)],
        lambda xp, x: xp.contiguous(xp.transpose(x, (0, 2, 1, 3))),
        lambda i: bounds.exact(np.transpose(i[0], (0, 2, 1, 3))),
        bytes=8 * n,
    )


# --- random numbers --------------------------------------------------------------------------------------


def _random_normal(n: int) -> Job:
    return Job(
        "random/normal", lambda r: [], lambda xp: xp.normal(n), lambda i: normal_numbers(n), bytes=4 * n
    )


_BELOW = 1 << 20


def _random_integers(n: int) -> Job:
    return Job(
        "random/integers",
        lambda r: [],
        lambda xp: xp.integers(n, _BELOW),
        lambda i: uniform_integers(n, _BELOW),
        bytes=4 * n,
    )


MAKERS = (
    _cast_bfloat16(True),
    _cast_bfloat16(False),
    _gelu_bfloat16,
    _layer_norm,
    _sum_middle,
    _cummax_rows,
    _cumsum_columns,
    _topk("top_8_of_rows", 8, True),
    _topk("top_8_of_line", 8, False),
    _argsort_rows,
    _sort_integers,
    _take_along,
    _scatter_elements,
    _heads,
    _random_normal,
    _random_integers,
)
