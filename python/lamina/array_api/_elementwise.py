"""Elementwise functions that the core has not, and those that differ from it."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
from lamina.array_api._common import Array, as_array

# Signed integers as wide as each floating dtype.
_BITS = {mx.float16: mx.int16, mx.bfloat16: mx.int16, mx.float32: mx.int32, mx.float64: mx.int64}


def _pair(where: str, x1: Any, x2: Any) -> tuple[Array, Array]:
    """Two floating arrays of one dtype; a Python number takes the other's."""
    if not isinstance(x1, mx.array) and not isinstance(x2, mx.array):
        raise TypeError(f"{where}: wants at least one array, got {type(x1).__name__} and {type(x2).__name__}")
    a = as_array(x1, x2)
    b = as_array(x2, a)
    dtype = mx.result_type(a, b)
    if dtype not in _BITS:
        raise TypeError(f"{where}: wants real floating arrays, got {a.dtype} and {b.dtype}")
    return mx.astype(a, dtype), mx.astype(b, dtype)


def _bits(x: Array) -> Array:
    """The bits as signed integers, of the same shape."""
    return mx.view(mx.contiguous(x), _BITS[x.dtype])


def signbit(x: Array, /) -> Array:
    """Tell which numbers have their sign bit set: negative ones, -0 and such NaN.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.signbit(xp.asarray([0.0, -0.0, -2.0])).tolist()
    [False, True, True]
    """
    if x.dtype not in _BITS:
        raise TypeError(f"signbit: wants a real floating array, got {x.dtype}")
    return _bits(x) < 0


def copysign(x1: Array | float, x2: Array | float, /) -> Array:
    """Give the numbers of `x1` the signs of those of `x2`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.copysign(xp.asarray([1.0, -2.0]), xp.asarray([-0.0, 3.0]))
    array([-1, 2], dtype=float32)
    """
    a, b = _pair("copysign", x1, x2)
    magnitude = mx.abs(a)
    return mx.where(signbit(b), -magnitude, magnitude)


def hypot(x1: Array | float, x2: Array | float, /) -> Array:
    """The square root of ``x1**2 + x2**2`` without overflow in between.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.hypot(xp.asarray([3.0, 3e30]), xp.asarray([4.0, 4e30]))
    array([5, 5e+30], dtype=float32)
    """
    a, b = (mx.abs(v) for v in _pair("hypot", x1, x2))
    large, small = mx.maximum(a, b), mx.minimum(a, b)
    ratio = small / mx.where(large == 0, mx.ones_like(large), large)
    out = large * mx.sqrt(1 + ratio * ratio)
    infinite = mx.logical_or(mx.isinf(a), mx.isinf(b))
    return mx.where(infinite, mx.full_like(out, mx.inf), out)


def nextafter(x1: Array | float, x2: Array | float, /) -> Array:
    """The number next to that of `x1` in the direction of `x2`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> float(xp.nextafter(xp.asarray(1.0), xp.asarray(2.0)) - 1.0) == xp.finfo(xp.float32).eps
    True
    """
    a, b = mx.broadcast_arrays(*_pair("nextafter", x1, x2))
    bits = _bits(a)
    # Away from 0 the bits of the magnitude grow by one; from 0 the first step is the smallest number.
    outwards = (a > 0) == (b > a)
    step = mx.where(outwards, mx.ones_like(bits), -mx.ones_like(bits))
    moved = mx.view(bits + step, a.dtype)
    least = mx.view(mx.ones_like(bits), a.dtype)
    moved = mx.where(a == 0, copysign(mx.broadcast_to(least, b.shape), b), moved)
    moved = mx.where(a == b, b, moved)
    return mx.where(mx.logical_or(mx.isnan(a), mx.isnan(b)), a + b, moved)


def clip(x: Array, /, min: Array | float | None = None, max: Array | float | None = None) -> Array:
    """Replace numbers below `min` and above `max` by these.

    Parameters
    ----------
    x : array
        The numbers.
    min, max : array or number, optional
        The bounds; none by default.

    Returns
    -------
    array
        The numbers, of the dtype of `x`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.clip(xp.asarray([1, 5, 9]), 2, 7)
    array([2, 5, 7], dtype=int32)
    """
    out = x
    for bound, function in ((min, mx.maximum), (max, mx.minimum)):
        if bound is not None:
            out = function(out, mx.astype(as_array(bound, x), x.dtype))
    return out


def round(x: Array, /) -> Array:
    """Round to the nearest whole number, halves to the even one.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.round(xp.asarray([0.5, 1.5, 2.4]))
    array([0, 2, 2], dtype=float32)
    """
    return mx.round(x)
