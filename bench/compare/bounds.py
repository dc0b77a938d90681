"""Error bounds of results, derived from unit roundoff, length and norm.

Roundings behave like independent draws, so that those of a chain of n steps add up like sqrt(n). Eight
deviations are allowed: a wrong result exceeds them by far, a right one in any order of summation does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.compare.model import EPS, Expected

_DEVIATIONS = 8.0
_TINY = 2.0**-126

ELEMENTARY = 8.0
"""Units in the last place that a peer's elementary functions may be off; MLX's exp needs more than four."""


def exact(values: np.ndarray, dtype: str | None = "float32") -> list[Expected]:
    """An output that has one right value: copies, sorts, indices, comparisons."""
    return [Expected(np.asarray(values), 0.0, dtype)]


def steps(values: np.ndarray, ulps: float, dtype: str = "float32") -> list[Expected]:
    """An output within ``ulps`` units in the last place, each twice the unit roundoff."""
    return [Expected(values, 2 * ulps * EPS[dtype] * np.abs(values) + _TINY, dtype)]


def absolute(
    values: np.ndarray, scale: np.ndarray | float, roundings: float, dtype: str = "float32"
) -> Expected:
    """An output that went through so many roundings of numbers of size ``scale``."""
    return Expected(values, roundings * EPS[dtype] * np.asarray(scale) + _TINY, dtype)


def summed(x: np.ndarray, axis: int | None = None, keepdims: bool = False) -> list[Expected]:
    """The sum of float32 numbers over an axis, in whatever order."""
    n = x.size if axis is None else x.shape[axis]
    total = x.sum(axis=axis, keepdims=keepdims, dtype=np.float64)
    # Partial sums wander as far as sqrt(sum of squares) from the straight line to the total.
    wander = np.sqrt(np.square(x, dtype=np.float64).sum(axis=axis, keepdims=keepdims))
    return [absolute(np.asarray(total), np.abs(total) + 4 * wander, walk(n))]


def scanned(x: np.ndarray, axis: int) -> list[Expected]:
    """The cumulative sum of float32 numbers along an axis."""
    partial = x.cumsum(axis=axis, dtype=np.float64)
    return [absolute(partial, np.abs(partial).max(axis=axis, keepdims=True), walk(x.shape[axis]))]


def product(a: np.ndarray, b: np.ndarray, dtype: str = "float32") -> list[Expected]:
    """A matrix product accumulated in float32; each dot is bounded by its vectors' lengths."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norm = np.sqrt(np.square(a64).sum(-1))[..., :, None] * np.sqrt(np.square(b64).sum(-2))[..., None, :]
    values = a64 @ b64
    bound = walk(a.shape[-1]) * EPS["float32"] * norm
    if dtype != "float32":
        bound = bound + 2 * EPS[dtype] * np.abs(values)
    return [Expected(values, bound, dtype)]


def walk(n: int) -> float:
    """How many unit roundoffs n steps may add up to."""
    return _DEVIATIONS * (float(n) ** 0.5 + 1)


def near(values: Sequence[np.ndarray], relative: float) -> list[Expected]:
    """Outputs whose elements may be off by a share of the largest one."""
    return [Expected(v, relative * float(np.abs(v).max(initial=0.0)), "float32") for v in values]
