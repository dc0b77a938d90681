"""Searching, sorting and sets. Positions and counts are int64."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import lamina.core as mx
from lamina.array_api._common import INDEX, Array


class UniqueAll(NamedTuple):
    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class UniqueCounts(NamedTuple):
    values: Array
    counts: Array


class UniqueInverse(NamedTuple):
    values: Array
    inverse_indices: Array


def argmax(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Find the first largest element along an axis, or of all.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.argmax(xp.asarray([1, 5, 5]))
    array(1, dtype=int64)
    """
    return mx.argmax(x, axis, keepdims).astype(INDEX)


def argmin(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Find the first smallest element along an axis, or of all.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.argmin(xp.asarray([4, 1, 1]))
    array(1, dtype=int64)
    """
    return mx.argmin(x, axis, keepdims).astype(INDEX)


def count_nonzero(x: Array, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """Count the elements that are not zero.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.count_nonzero(xp.asarray([0, 2, 3]))
    array(2, dtype=int64)
    """
    return mx.count_nonzero(x, axis=axis, keepdims=keepdims).astype(INDEX)


def nonzero(x: Array, /) -> tuple[Array, ...]:
    """Find the elements that are not zero: their places along each axis. Evaluates.

    Raises
    ------
    ValueError
        The array has no axis.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.nonzero(xp.asarray([0, 2, 0, 3]))
    (array([1, 3], dtype=int64),)
    """
    if x.ndim == 0:
        raise ValueError("nonzero: wants at least 1 axis, got shape ()")
    return tuple(mx.nonzero(x))


def searchsorted(
    x1: Array, x2: Array, /, *, side: Literal["left", "right"] = "left", sorter: Array | None = None
) -> Array:
    """Find where the numbers of `x2` would go to keep the sorted `x1` sorted.

    Parameters
    ----------
    x1 : array, one axis
        Sorted numbers.
    x2 : array
        Numbers to find.
    side : {"left", "right"}
        Whether to go in front of equals or behind them.
    sorter : array of int, optional
        The order that sorts `x1`.

    Returns
    -------
    array
        Places, of the shape of `x2`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.searchsorted(xp.asarray([1, 3, 5]), xp.asarray([3, 6]))
    array([1, 3], dtype=int64)
    """
    line = x1 if sorter is None else mx.take(x1, sorter, 0)
    return mx.searchsorted(line, x2, side).astype(INDEX)


def where(condition: Array, x1: Array | float, x2: Array | float, /) -> Array:
    """Pick elements of `x1` where the condition holds, of `x2` elsewhere.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.where(xp.asarray([True, False]), xp.asarray([1, 2]), 0)
    array([1, 0], dtype=int32)
    """
    return mx.where(condition, x1, x2)


def sort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """Sort along an axis; always stable.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.sort(xp.asarray([2, 3, 1]), descending=True)
    array([3, 2, 1], dtype=int32)
    """
    out = mx.sort(x, axis)
    return mx.flip(out, axis) if descending else out


def argsort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """Give the order that sorts along an axis; equal elements keep theirs.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.argsort(xp.asarray([2, 3, 2]), descending=True)
    array([1, 0, 2], dtype=int64)
    """
    if not descending:
        return mx.argsort(x, axis).astype(INDEX)
    places = mx.argsort(mx.flip(x, axis), axis).astype(INDEX)
    return mx.flip(x.shape[axis] - 1 - places, axis)


def _distinct(x: Array) -> int:
    """How many different values there are. Evaluates."""
    line = mx.sort(x.flatten())
    return 0 if line.size == 0 else 1 + int(mx.sum(line[1:] != line[:-1]).item())


def _unique(x: Array, **what: Any) -> tuple[Any, ...]:
    n = _distinct(x)
    if n == 0:
        empty = mx.zeros(0, INDEX)
        shapes = {"return_inverse": mx.zeros(x.shape, INDEX)}
        return (x.flatten(), *[shapes.get(name, empty) for name in what])
    first, *rest = mx.unique(x, size=n, **what)
    return (first, *[part.astype(INDEX) for part in rest])


def unique_all(x: Array, /) -> UniqueAll:
    """Find the different values in ascending order. Evaluates.

    Returns
    -------
    UniqueAll
        values; indices of the first of each in the flattened array; inverse_indices, the place of each
        element among the values; counts.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.unique_all(xp.asarray([3, 1, 3])).inverse_indices
    array([1, 0, 1], dtype=int64)
    """
    return UniqueAll(*_unique(x, return_index=True, return_inverse=True, return_counts=True))


def unique_counts(x: Array, /) -> UniqueCounts:
    """Find the different values and how often each occurs. Evaluates.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.unique_counts(xp.asarray([3, 1, 3])).counts
    array([1, 2], dtype=int64)
    """
    return UniqueCounts(*_unique(x, return_counts=True))


def unique_inverse(x: Array, /) -> UniqueInverse:
    """Find the different values and the place of each element among them. Evaluates.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.unique_inverse(xp.asarray([[3], [1]])).inverse_indices.shape
    (2, 1)
    """
    return UniqueInverse(*_unique(x, return_inverse=True))


def unique_values(x: Array, /) -> Array:
    """Find the different values in ascending order. Evaluates.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.unique_values(xp.asarray([3, 1, 3]))
    array([1, 3], dtype=int32)
    """
    return unique_counts(x).values
