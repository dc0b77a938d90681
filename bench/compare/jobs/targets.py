"""The array jobs that the project has speed targets for, but for the heavy kernels."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench.compare import bounds
from bench.compare.jobs import draws
from bench.compare.jobs.random_checks import normal_numbers
from bench.compare.model import Expected, Job, Limit, Sizes

_ROOT = 0.7978845608028654  # sqrt(2 / pi)


def jobs(sizes: Sizes) -> list[Job]:
    """Element-wise chains, row norms, data movement, random numbers, and the cost of small arrays."""
    return [*_chains(sizes), *_rows(sizes), *_movement(sizes), *_small(sizes)]


def _gelu(xp: Any, x: Any) -> Any:
    return 0.5 * x * (1.0 + xp.tanh(_ROOT * (x + 0.044715 * x * x * x)))


def _gelu_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    x = inputs[0].astype(np.float64)
    return [bounds.absolute(_gelu(np, x), np.abs(x), 16)]


def _scaled_sum_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    x, y = (a.astype(np.float64) for a in inputs)
    return [bounds.absolute(2 * x + 3 * y, 2 * np.abs(x) + 3 * np.abs(y), 4)]


def _chains(sizes: Sizes) -> list[Job]:
    n = sizes.length(8_000_000)
    return [
        Job("target/gelu_by_hand", lambda r: [draws.normal(r, n)], _gelu, _gelu_expected, 1.0, 8 * n),
        Job(
            "target/2x+3y",
            lambda r: [draws.normal(r, n), draws.normal(r, n)],
            lambda xp, x, y: 2.0 * x + 3.0 * y,
            _scaled_sum_expected,
            1.0,
            12 * n,
        ),
        Job(
            "target/exp",
            lambda r: [draws.normal(r, n)],
            lambda xp, x: xp.exp(x),
            lambda i: bounds.steps(np.exp(i[0].astype(np.float64)), bounds.ELEMENTARY),
            1.0,
            8 * n,
        ),
        Job(
            "target/sum_of_squares",
            lambda r: [draws.normal(r, n)],
            lambda xp, x: xp.sum(x * x),
            lambda i: bounds.summed(np.square(i[0], dtype=np.float64)),
            1.0,
            4 * n,
        ),
    ]


def _normalized_by_hand(xp: Any, x: Any) -> Any:
    d = x - xp.mean(x, axis=-1, keepdims=True)
    return d * xp.rsqrt(xp.mean(d * d, axis=-1, keepdims=True) + 1e-5)


def _normalized_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    x = inputs[0].astype(np.float64)
    d = x - x.mean(-1, keepdims=True)
    out = d / np.sqrt(np.square(d).mean(-1, keepdims=True) + 1e-5)
    return [bounds.absolute(out, np.abs(out) + 1, bounds.walk(x.shape[-1]) + 8)]


def _softmax_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    x = inputs[0].astype(np.float64)
    below = x.max(-1, keepdims=True) - x
    e = np.exp(-below)
    out = e / e.sum(-1, keepdims=True)
    # Rounding x - max by half a step changes exp of it by that much, relatively.
    return [bounds.absolute(out, out * (1 + below), bounds.walk(x.shape[-1]) + 8)]


def _rms_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    x, w = (a.astype(np.float64) for a in inputs)
    out = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5) * w
    return [bounds.absolute(out, np.abs(out), bounds.walk(x.shape[-1]) + 8)]


def _rows(sizes: Sizes) -> list[Job]:
    rows, cols = sizes.side(2048), sizes.side(4096)
    size = 8 * rows * cols

    def matrix(r: np.random.Generator) -> list[Any]:
        return [draws.normal(r, rows, cols)]

    return [
        Job("target/norm_by_hand", matrix, _normalized_by_hand, _normalized_expected, 0.3, size),
        Job("target/softmax", matrix, lambda xp, x: xp.softmax(x), _softmax_expected, 0.3, size),
        Job(
            "target/rms_norm",
            lambda r: [draws.normal(r, rows, cols), draws.normal(r, cols)],
            lambda xp, x, w: xp.rms_norm(x, w, 1e-5),
            _rms_expected,
            0.3,
            size,
        ),
        Job(
            "target/sum_axis_0",
            matrix,
            lambda xp, x: xp.sum(x, axis=0),
            lambda i: bounds.summed(i[0], 0),
            1.0,
            size // 2,
        ),
    ]


def _movement(sizes: Sizes) -> list[Job]:
    side, million, rows = sizes.side(2048), sizes.length(1_000_000), sizes.length(65_536)
    width, n = sizes.side(256), sizes.length(8_000_000)
    return [
        Job(
            "target/transpose_copy",
            lambda r: [draws.normal(r, side, side)],
            lambda xp, x: xp.contiguous(x.T),
            lambda i: bounds.exact(i[0].T),
            0.8,
            8 * side * side,
        ),
        Job(
            "target/argsort",
            lambda r: [draws.distinct(r, million)],
            lambda xp, x: xp.argsort(x, axis=-1),
            lambda i: bounds.exact(np.argsort(i[0]), None),
            1.0,
        ),
        Job(
            "target/cumsum",
            lambda r: [draws.uniform(r, n)],
            lambda xp, x: xp.cumsum(x, axis=0),
            lambda i: bounds.scanned(i[0], 0),
            0.8,
            8 * n,
        ),
        Job(
            "target/gather_rows",
            lambda r: [draws.normal(r, rows, width), draws.indices(r, rows, rows)],
            lambda xp, x, i: xp.take(x, i, axis=0),
            lambda i: bounds.exact(i[0][i[1]]),
            0.7,
            8 * rows * width,
        ),
        Job(
            "target/random_normal",
            lambda r: [],
            lambda xp: xp.normal(n),
            lambda i: normal_numbers(n),
            0.5,
            4 * n,
        ),
    ]


def _chained_adds(xp: Any, x: Any, y: Any) -> Any:
    for _ in range(200):
        x = x + y
    return x


def _chained_adds_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    x, y = (a.astype(np.float64) for a in inputs)
    return [bounds.absolute(x + 200 * y, np.abs(x) + 200 * np.abs(y), 200)]


_STEPS = 16
_FIRST = 0b0101_1010_0011_1100


def _expression(number: int, xp: Any, x: Any, y: Any) -> Any:
    """A chain of 16 ops picked by the bits of the number: another number is another structure."""
    out = x
    for step in range(_STEPS):
        out = out + y if number >> step & 1 else xp.maximum(out, y)
    return out


class _FreshExpressions:
    """Another structure at each call, in the same order for every peer; all begin with the known one."""

    def __init__(self) -> None:
        self._numbers: dict[Any, Iterator[int]] = {}

    def __call__(self, xp: Any, x: Any, y: Any) -> Any:
        number = next(self._numbers.setdefault(xp, itertools.count(_FIRST)))
        return _expression(number % (1 << _STEPS), xp, x, y)


def _expression_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    x, y = (a.astype(np.float64) for a in inputs)
    return [bounds.absolute(_expression(_FIRST, np, x, y), np.abs(x) + _STEPS * np.abs(y), _STEPS)]


def _small(sizes: Sizes) -> list[Job]:
    def pair(r: np.random.Generator) -> list[Any]:
        return [draws.normal(r, 64, 64), draws.normal(r, 64, 64)]

    return [
        # Building takes the time: what was recorded before builds nothing, and has a row of its own.
        Job("target/200_small_adds", pair, _chained_adds, _chained_adds_expected, 0.8, traceable=False),
        Job(
            "target/200_small_adds_recorded",
            pair,
            lambda xp, add, x, y: add(x, y),
            _chained_adds_expected,
            prepare=lambda xp, x, y: (xp.recorded(functools.partial(_chained_adds, xp)), x, y),
            traceable=False,
        ),
        Job(
            "target/one_small_add",
            pair,
            lambda xp, x, y: x + y,
            lambda i: bounds.steps(i[0].astype(np.float64) + i[1], 0.5),
            limit=Limit(4e-6),
        ),
        Job("target/known_expression", pair, functools.partial(_expression, _FIRST), _expression_expected),
        Job(
            "target/fresh_expression",
            pair,
            _FreshExpressions(),
            _expression_expected,
            traceable=False,
            limit=Limit(1e-4, "target/known_expression"),
        ),
    ]
