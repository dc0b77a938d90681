"""Functions of the standard that move elements."""

from __future__ import annotations

from collections.abc import Sequence

import lamina.core as mx
from lamina.array_api._common import Array, positive_axis

Axes = int | tuple[int, ...]


def concat(arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
    """Join arrays along an axis, or flattened where `axis` is None.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.concat([xp.ones((1, 2)), xp.zeros((1, 2))], axis=None)
    array([1, 1, 0, 0], dtype=float32)
    """
    return mx.concatenate(list(arrays), axis)


def stack(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
    """Join arrays along a new axis.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.stack([xp.ones(3), xp.zeros(3)], axis=1).shape
    (3, 2)
    """
    return mx.stack(list(arrays), axis)


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """Split into the arrays along an axis, which disappears.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.unstack(xp.asarray([[1, 2], [3, 4]]))[1]
    array([3, 4], dtype=int32)
    """
    return tuple(mx.unstack(x, axis=axis))


def expand_dims(x: Array, /, axis: Axes = 0) -> Array:
    """Insert axes of length 1.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.expand_dims(xp.ones(3), axis=1).shape
    (3, 1)
    """
    return mx.expand_dims(x, axis)


def squeeze(x: Array, /, axis: Axes) -> Array:
    """Drop axes of length 1.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.squeeze(xp.ones((1, 3, 1)), (0, 2)).shape
    (3,)
    """
    return mx.squeeze(x, axis)


def flip(x: Array, /, *, axis: Axes | None = None) -> Array:
    """Reverse the order along axes, or along all.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.flip(xp.arange(3))
    array([2, 1, 0], dtype=int32)
    """
    return mx.flip(x, axis)


def moveaxis(x: Array, source: Axes, destination: Axes, /) -> Array:
    """Move axes to other places.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.moveaxis(xp.ones((2, 3, 4)), (0, 1), (2, 0)).shape
    (3, 4, 2)
    """
    sources = (source,) if isinstance(source, int) else tuple(source)
    targets = (destination,) if isinstance(destination, int) else tuple(destination)
    if len(sources) != len(targets):
        raise ValueError(f"moveaxis: wants as many destinations as sources, got {destination} for {source}")
    front = {
        positive_axis("moveaxis", to, x.ndim): positive_axis("moveaxis", axis, x.ndim)
        for axis, to in zip(sources, targets, strict=True)
    }
    if len(front) != len(sources) or len(set(front.values())) != len(sources):
        raise ValueError(f"moveaxis: {source} or {destination} names an axis twice")
    others = iter(axis for axis in range(x.ndim) if axis not in front.values())
    return mx.transpose(x, [front[to] if to in front else next(others) for to in range(x.ndim)])


def permute_dims(x: Array, /, axes: tuple[int, ...]) -> Array:
    """Put the axes into another order.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.permute_dims(xp.ones((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    return mx.permute_dims(x, axes)


def repeat(x: Array, repeats: int | Array, /, *, axis: int | None = None) -> Array:
    """Repeat elements along an axis, or flattened; numbers of repetitions in an array are evaluated.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.repeat(xp.arange(3), xp.asarray([2, 0, 1]))
    array([0, 0, 2], dtype=int32)
    """
    if isinstance(repeats, int):
        return mx.repeat(x, repeats, axis)
    if axis is None:
        x, axis = x.flatten(), 0
    length = x.shape[positive_axis("repeat", axis, x.ndim)]
    if repeats.ndim > 1 or repeats.size not in (1, length):
        raise ValueError(f"repeat: wants one number or {length} of them, got shape {repeats.shape}")
    counts = mx.broadcast_to(repeats.flatten(), (length,)).tolist()
    if any(n < 0 for n in counts):
        raise ValueError("repeat: numbers of repetitions must not be negative")
    places = [place for place, n in enumerate(counts) for _ in range(n)]
    return mx.take(x, mx.array(places, mx.int64), axis)


def reshape(x: Array, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Array:
    """Give the elements another shape.

    Parameters
    ----------
    x : array
        The array.
    shape : tuple of int
        The shape; one length may be -1.
    copy : bool, optional
        Whether to copy. False has no effect: arrays are values, and whether memory is shared cannot be seen.

    Returns
    -------
    array
        The reshaped array.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.reshape(xp.arange(6), (2, -1)).shape
    (2, 3)
    """
    return mx.reshape(x, shape)


def roll(x: Array, /, shift: int | tuple[int, ...], *, axis: Axes | None = None) -> Array:
    """Shift elements along axes; those that leave at the end come back at the front.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.roll(xp.arange(4), 1)
    array([3, 0, 1, 2], dtype=int32)
    """
    if axis is None or (isinstance(shift, int) and isinstance(axis, int)):
        return mx.roll(x, shift, axis)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(shift)
    if len(shifts) != len(axes):
        raise ValueError(f"roll: wants as many shifts as axes, got {shift} for {axis}")
    for n, at in zip(shifts, axes, strict=True):
        x = mx.roll(x, n, at)
    return x


def tile(x: Array, repetitions: tuple[int, ...], /) -> Array:
    """Repeat the whole array along its axes.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.tile(xp.arange(2), (2, 2)).shape
    (2, 4)
    """
    return mx.tile(x, list(repetitions))


def broadcast_arrays(*arrays: Array) -> list[Array]:
    """Repeat arrays until they have one shape.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> [a.shape for a in xp.broadcast_arrays(xp.ones((2, 1)), xp.ones(3))]
    [(2, 3), (2, 3)]
    """
    return list(mx.broadcast_arrays(*arrays))


def broadcast_to(x: Array, /, shape: tuple[int, ...]) -> Array:
    """Repeat an array until it has a shape.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.broadcast_to(xp.ones(3), (2, 3)).shape
    (2, 3)
    """
    return mx.broadcast_to(x, shape)


def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    """Pick elements along an axis by an array of one axis.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.take(xp.arange(5), xp.asarray([3, 0]))
    array([3, 0], dtype=int32)
    """
    if axis is None and x.ndim != 1:
        raise ValueError(f"take: wants an axis for an array with {x.ndim} axes")
    return mx.take(x, indices, 0 if axis is None else axis)


def take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """Pick one element for each index along an axis; the other axes broadcast.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.take_along_axis(xp.asarray([[3, 1], [5, 9]]), xp.asarray([[1], [0]]))
    array([[1],
           [5]], dtype=int32)
    """
    at = positive_axis("take_along_axis", axis, x.ndim)
    return mx.take_along_axis(x, indices, at)
