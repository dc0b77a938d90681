"""Products of the main namespace and of linalg."""

from __future__ import annotations

from collections.abc import Sequence

import lamina.core as mx
from lamina.array_api._common import Array, positive_axis


def matmul(x1: Array, x2: Array, /) -> Array:
    """The matrix product over the last two axes.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.matmul(xp.ones((2, 3)), xp.ones((3, 4))).shape
    (2, 4)
    """
    return mx.matmul(x1, x2)


def matrix_transpose(x: Array, /) -> Array:
    """Swap the last two axes.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.matrix_transpose(xp.ones((5, 2, 3))).shape
    (5, 3, 2)
    """
    return mx.matrix_transpose(x)


def tensordot(x1: Array, x2: Array, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Array:
    """The sum of products over pairs of axes.

    Parameters
    ----------
    x1, x2 : array
        The factors.
    axes : int or two sequences of int
        The axes of each, or how many last ones of `x1` and first ones of `x2`.

    Returns
    -------
    array
        The other axes of `x1`, then those of `x2`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.tensordot(xp.ones((2, 3)), xp.ones((3, 4)), axes=1).shape
    (2, 4)
    """
    return mx.tensordot(x1, x2, axes)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """The dot product along an axis of arrays that broadcast; `x1` is conjugated.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.vecdot(xp.ones((2, 3)), xp.ones(3))
    array([3, 3], dtype=float32)
    """
    # The axis is counted before the shapes broadcast: only negative ones mean the same in both.
    at = positive_axis("vecdot", axis, min(x1.ndim, x2.ndim)) - min(x1.ndim, x2.ndim)
    if x1.shape[at] != x2.shape[at]:
        raise ValueError(f"vecdot: axis {axis} of shapes {x1.shape} and {x2.shape} differs in length")
    return mx.vecdot(*mx.broadcast_arrays(x1, x2), axis=at)
