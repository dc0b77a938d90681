"""Reductions and sums along axes."""

from __future__ import annotations

import math

import lamina.core as mx
from lamina.array_api._common import Array, positive_axis

Axes = int | tuple[int, ...]


def _summed(x: Array, dtype: mx.Dtype | None) -> Array:
    """In the dtype to add up in; by default that of the core's sums, at least 32 bits for integers."""
    return x if dtype is None else mx.astype(x, dtype)


def sum(
    x: Array, /, *, axis: Axes | None = None, dtype: mx.Dtype | None = None, keepdims: bool = False
) -> Array:
    """Add up along axes, or everything.

    Parameters
    ----------
    x : array
        The numbers.
    axis : int or tuple of int, optional
        The axes; all by default.
    dtype : Dtype, optional
        Dtype to add up in; integers below 32 bits have 32 by default.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    array
        The sums.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.sum(xp.asarray([1, 2], dtype=xp.int8))
    array(3, dtype=int32)
    """
    out = mx.sum(_summed(x, dtype), axis, keepdims)
    return out if dtype is None else mx.astype(out, dtype)


def prod(
    x: Array, /, *, axis: Axes | None = None, dtype: mx.Dtype | None = None, keepdims: bool = False
) -> Array:
    """Multiply along axes, or everything; arguments as for :func:`sum`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.prod(xp.asarray([2, 3]))
    array(6, dtype=int32)
    """
    out = mx.prod(_summed(x, dtype), axis, keepdims)
    return out if dtype is None else mx.astype(out, dtype)


def max(x: Array, /, *, axis: Axes | None = None, keepdims: bool = False) -> Array:
    """Find the largest element along axes, or of all; NaN where there is one.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.max(xp.asarray([2, 3]))
    array(3, dtype=int32)
    """
    return mx.max(x, axis, keepdims)


def min(x: Array, /, *, axis: Axes | None = None, keepdims: bool = False) -> Array:
    """Find the smallest element along axes, or of all; NaN where there is one.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.min(xp.asarray([2, 3]))
    array(2, dtype=int32)
    """
    return mx.min(x, axis, keepdims)


def mean(x: Array, /, *, axis: Axes | None = None, keepdims: bool = False) -> Array:
    """Average along axes, or everything.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.mean(xp.asarray([2.0, 3.0]))
    array(2.5, dtype=float32)
    """
    return mx.mean(x, axis, keepdims)


def all(x: Array, /, *, axis: Axes | None = None, keepdims: bool = False) -> Array:
    """Tell whether all elements along axes are true.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.all(xp.asarray([1, 0]))
    array(False, dtype=bool)
    """
    return mx.all(x, axis, keepdims)


def any(x: Array, /, *, axis: Axes | None = None, keepdims: bool = False) -> Array:
    """Tell whether any element along axes is true.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.any(xp.asarray([1, 0]))
    array(True, dtype=bool)
    """
    return mx.any(x, axis, keepdims)


def var(x: Array, /, *, axis: Axes | None = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """The variance along axes, or of everything.

    Parameters
    ----------
    x : array
        The numbers.
    axis : int or tuple of int, optional
        The axes; all by default.
    correction : float
        What is taken off the number of elements to divide by.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    array
        The variances.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.var(xp.asarray([1.0, 3.0]), correction=1)
    array(2, dtype=float32)
    """
    if float(correction).is_integer():
        return mx.var(x, axis, keepdims, int(correction))
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    n = math.prod(x.shape[positive_axis("var", a, x.ndim)] for a in axes)
    divisor = n - correction
    return mx.var(x, axis, keepdims) * (n / divisor if divisor > 0 else math.nan if n == 0 else math.inf)


def std(x: Array, /, *, axis: Axes | None = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """The standard deviation along axes, or of everything; arguments as for :func:`var`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.std(xp.asarray([1.0, 3.0]))
    array(1, dtype=float32)
    """
    return mx.sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def _only_axis(where: str, x: Array, axis: int | None) -> int:
    if x.ndim == 0:
        raise ValueError(f"{where}: wants at least 1 axis, got shape ()")
    if axis is None and x.ndim > 1:
        raise ValueError(f"{where}: wants an axis for an array with {x.ndim} axes")
    return positive_axis(where, 0 if axis is None else axis, x.ndim)


def _with_initial(where: str, out: Array, axis: int, initial: bool, value: int) -> Array:
    if not initial:
        return out
    shape = [1 if i == axis else n for i, n in enumerate(out.shape)]
    return mx.concatenate([mx.full(shape, value, out.dtype), out], axis)


def cumulative_sum(
    x: Array, /, *, axis: int | None = None, dtype: mx.Dtype | None = None, include_initial: bool = False
) -> Array:
    """Sums of the elements up to each one along an axis.

    Parameters
    ----------
    x : array
        The numbers.
    axis : int, optional
        The axis; needed for more than one.
    dtype : Dtype, optional
        Dtype to add up in; integers below 32 bits have 32 by default.
    include_initial : bool
        Whether to begin with a zero.

    Returns
    -------
    array
        The sums.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.cumulative_sum(xp.asarray([1, 2, 3]), include_initial=True)
    array([0, 1, 3, 6], dtype=int32)
    """
    at = _only_axis("cumulative_sum", x, axis)
    total = dtype or mx.sum(mx.zeros(0, x.dtype)).dtype
    return _with_initial(
        "cumulative_sum", mx.cumsum(mx.astype(x, total), at).astype(total), at, include_initial, 0
    )


def cumulative_prod(
    x: Array, /, *, axis: int | None = None, dtype: mx.Dtype | None = None, include_initial: bool = False
) -> Array:
    """Products of the elements up to each one along an axis; arguments as for :func:`cumulative_sum`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.cumulative_prod(xp.asarray([1, 2, 3]), include_initial=True)
    array([1, 1, 2, 6], dtype=int32)
    """
    at = _only_axis("cumulative_prod", x, axis)
    total = dtype or mx.prod(mx.zeros(0, x.dtype)).dtype
    return _with_initial(
        "cumulative_prod", mx.cumprod(mx.astype(x, total), at).astype(total), at, include_initial, 1
    )


def diff(
    x: Array, /, *, axis: int = -1, n: int = 1, prepend: Array | None = None, append: Array | None = None
) -> Array:
    """Differences of neighbours along an axis, `n` times.

    Parameters
    ----------
    x : array
        The numbers.
    axis : int
        The axis.
    n : int
        How often to take differences.
    prepend, append : array, optional
        Numbers to put in front and behind first.

    Returns
    -------
    array
        The differences.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.diff(xp.asarray([1, 4, 9]), prepend=xp.asarray([0]))
    array([1, 3, 5], dtype=int32)
    """
    parts = [part for part in (prepend, x, append) if part is not None]
    return mx.diff(mx.concatenate(parts, axis) if len(parts) > 1 else x, n, axis)
