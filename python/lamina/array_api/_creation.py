"""Functions of the standard that make arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lamina.core as mx
from lamina.array_api._common import Array, Device, check_device

Shape = int | Sequence[int]


def asarray(
    obj: Any, /, *, dtype: mx.Dtype | None = None, device: Device | None = None, copy: bool | None = None
) -> Array:
    """Make an array of numbers, nested sequences, arrays, or objects with a buffer or DLPack.

    Parameters
    ----------
    obj : object
        What to convert.
    dtype : Dtype, optional
        Dtype of the result.
    device : Device, optional
        Where to put it.
    copy : bool, optional
        Whether to copy always, never, or where needed.

    Returns
    -------
    array
        The array.

    Raises
    ------
    ValueError
        A copy is needed and ``copy`` is false.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.asarray([1, 2, 3], dtype=xp.float64)
    array([1, 2, 3], dtype=float64)
    """
    check_device("asarray", device)
    return mx.asarray(obj, dtype, copy=copy)


def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: mx.Dtype | None = None,
    device: Device | None = None,
) -> Array:
    """Evenly spaced numbers in ``[start, stop)``, or in ``[0, start)`` without ``stop``.

    Parameters
    ----------
    start, stop, step : int or float
        The interval and the spacing.
    dtype : Dtype, optional
        Dtype of the result.
    device : Device, optional
        Where to put it.

    Returns
    -------
    array
        The numbers, as one axis.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.arange(1, 7, 2)
    array([1, 3, 5], dtype=int32)
    """
    check_device("arange", device)
    if stop is None:
        start, stop = 0, start
    return mx.arange(start, stop, step, dtype)


def empty(shape: Shape, *, dtype: mx.Dtype | None = None, device: Device | None = None) -> Array:
    """Make an array with any content: zeros.

    Parameters
    ----------
    shape : int or sequence of int
        Lengths of the axes.
    dtype : Dtype, optional
        float32 by default.
    device : Device, optional
        Where to put it.

    Returns
    -------
    array
        The array.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.empty((2, 3)).shape
    (2, 3)
    """
    check_device("empty", device)
    return mx.empty(shape, dtype)


def zeros(shape: Shape, *, dtype: mx.Dtype | None = None, device: Device | None = None) -> Array:
    """Make an array of zeros; arguments as for :func:`empty`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.zeros(2)
    array([0, 0], dtype=float32)
    """
    check_device("zeros", device)
    return mx.zeros(shape, dtype)


def ones(shape: Shape, *, dtype: mx.Dtype | None = None, device: Device | None = None) -> Array:
    """Make an array of ones; arguments as for :func:`empty`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.ones(2, dtype=xp.int8)
    array([1, 1], dtype=int8)
    """
    check_device("ones", device)
    return mx.ones(shape, dtype)


def full(
    shape: Shape, fill_value: complex, *, dtype: mx.Dtype | None = None, device: Device | None = None
) -> Array:
    """Make an array of one number; other arguments as for :func:`empty`.

    Parameters
    ----------
    shape : int or sequence of int
        Lengths of the axes.
    fill_value : number
        The number; its kind says the dtype by default.
    dtype, device
        As for :func:`empty`.

    Returns
    -------
    array
        The array.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.full(2, 5)
    array([5, 5], dtype=int32)
    """
    check_device("full", device)
    return mx.full(shape, fill_value, dtype)


def empty_like(x: Array, /, *, dtype: mx.Dtype | None = None, device: Device | None = None) -> Array:
    """Make an array of the shape and dtype of `x` with any content.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.empty_like(xp.ones((2, 3))).shape
    (2, 3)
    """
    check_device("empty_like", device)
    return mx.empty_like(x, dtype)


def zeros_like(x: Array, /, *, dtype: mx.Dtype | None = None, device: Device | None = None) -> Array:
    """Make zeros of the shape and dtype of `x`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.zeros_like(xp.asarray([1, 2]))
    array([0, 0], dtype=int32)
    """
    check_device("zeros_like", device)
    return mx.zeros_like(x, dtype)


def ones_like(x: Array, /, *, dtype: mx.Dtype | None = None, device: Device | None = None) -> Array:
    """Make ones of the shape and dtype of `x`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.ones_like(xp.asarray([0.5, 2.0]))
    array([1, 1], dtype=float32)
    """
    check_device("ones_like", device)
    return mx.ones_like(x, dtype)


def full_like(
    x: Array, /, fill_value: complex, *, dtype: mx.Dtype | None = None, device: Device | None = None
) -> Array:
    """Make an array of one number with the shape and dtype of `x`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.full_like(xp.asarray([0.5, 2.0]), 3)
    array([3, 3], dtype=float32)
    """
    check_device("full_like", device)
    return mx.full_like(x, fill_value, dtype)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: mx.Dtype | None = None,
    device: Device | None = None,
) -> Array:
    """Make a matrix with ones on its `k`-th diagonal.

    Parameters
    ----------
    n_rows, n_cols : int
        Lengths of the axes; equal by default.
    k : int
        Diagonals above the main one.
    dtype, device
        As for :func:`empty`.

    Returns
    -------
    array, shape (n_rows, n_cols)
        The matrix.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.eye(2, 3, k=1).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    check_device("eye", device)
    return mx.eye(n_rows, n_cols, k, dtype)


def linspace(
    start: complex,
    stop: complex,
    /,
    num: int,
    *,
    dtype: mx.Dtype | None = None,
    device: Device | None = None,
    endpoint: bool = True,
) -> Array:
    """Make `num` evenly spaced numbers from `start` to `stop`.

    Parameters
    ----------
    start, stop : number
        The ends.
    num : int
        How many numbers.
    dtype : Dtype, optional
        float32 by default, complex64 for complex ends.
    device : Device, optional
        Where to put them.
    endpoint : bool
        Whether `stop` is the last of them.

    Returns
    -------
    array, shape (num,)
        The numbers.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linspace(0, 1, 5)
    array([0, 0.25, 0.5, 0.75, 1], dtype=float32)
    """
    check_device("linspace", device)
    if isinstance(start, complex) or isinstance(stop, complex):
        first, last = complex(start), complex(stop)
        parts = [
            mx.linspace(a, b, num, endpoint, mx.float32)
            for a, b in ((first.real, last.real), (first.imag, last.imag))
        ]
        return (parts[0] + 1j * parts[1]).astype(dtype or mx.complex64)
    return mx.linspace(start, stop, num, endpoint, dtype or mx.float32)


def meshgrid(*arrays: Array, indexing: str = "xy") -> list[Array]:
    """Repeat coordinate vectors into a grid.

    Parameters
    ----------
    *arrays : array
        One axis each.
    indexing : {"xy", "ij"}
        Whether the first two axes change places.

    Returns
    -------
    list of array
        One grid for each vector.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> [g.shape for g in xp.meshgrid(xp.arange(2), xp.arange(3))]
    [(3, 2), (3, 2)]
    """
    return list(mx.meshgrid(*arrays, indexing=indexing))


def tril(x: Array, /, *, k: int = 0) -> Array:
    """Keep a matrix's elements on and below its `k`-th diagonal; zeros elsewhere.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.tril(xp.ones((2, 2))).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return mx.tril(x, k)


def triu(x: Array, /, *, k: int = 0) -> Array:
    """Keep a matrix's elements on and above its `k`-th diagonal; zeros elsewhere.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.triu(xp.ones((2, 2))).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    return mx.triu(x, k)


def from_dlpack(x: Any, /, *, device: Device | None = None, copy: bool | None = None) -> Array:
    """Take over an array of another library through DLPack, without a copy where possible.

    Parameters
    ----------
    x : object
        An object with ``__dlpack__``.
    device : Device, optional
        Where to put it.
    copy : bool, optional
        Whether to copy always, never, or where needed.

    Returns
    -------
    array
        The array.

    Examples
    --------
    >>> import numpy
    >>> from lamina import array_api as xp
    >>> xp.from_dlpack(numpy.arange(3, dtype=numpy.int32))
    array([0, 1, 2], dtype=int32)
    """
    check_device("from_dlpack", device)
    return mx.from_dlpack(x, copy=copy)
