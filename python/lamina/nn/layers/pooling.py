"""Maximum and average pooling over 1, 2 and 3 spatial axes, channels last."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, ClassVar

import lamina.core as mx
from lamina.nn.layers._check import ints_per_axis
from lamina.nn.layers.base import Module

__all__ = ["AvgPool1d", "AvgPool2d", "AvgPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d"]

IntOrTuple = int | tuple


def _fold_windows(
    x: mx.array,
    axis: int,
    size: int,
    stride: int,
    pairwise: Callable[[mx.array, mx.array], mx.array],
    over_axis: Callable[..., mx.array],
) -> mx.array:
    """Reduce the windows along one axis; the axis then counts windows."""
    windows = (x.shape[axis] - size) // stride + 1
    before, after = tuple(x.shape[:axis]), tuple(x.shape[axis + 1 :])
    everything = (slice(None),) * axis
    if windows == 1:
        return over_axis(x[(*everything, slice(0, size))], axis=axis, keepdims=True)
    if size == stride:
        whole = x[(*everything, slice(0, windows * size))]
        return over_axis(whole.reshape(*before, windows, size, *after), axis=axis + 1)
    # Tap k of all windows at once is a strided view, so no window is ever copied out.
    span = (windows - 1) * stride + 1
    taps = [x[(*everything, slice(k, k + span, stride))] for k in range(size)]
    return reduce(pairwise, taps)


class _Pool(Module):
    """Pooling axis by axis: a maximum or sum over a box is one over each of its sides in turn.

    Windows that lie side by side are all reduced at once.
    """

    _spatial: ClassVar[int]

    def __init__(
        self, kernel_size: IntOrTuple, stride: IntOrTuple | None = None, padding: IntOrTuple | None = 0
    ):
        super().__init__()
        name, axes = type(self).__name__, self._spatial
        kernel = ints_per_axis(name, "kernel_size", kernel_size, axes, least=1)
        self._kernel_size = kernel
        self._stride = kernel if stride is None else ints_per_axis(name, "stride", stride, axes, least=1)
        self._padding = ints_per_axis(name, "padding", 0 if padding is None else padding, axes, least=0)

    def _extra_repr(self) -> str:
        return f"kernel_size={self._kernel_size}, stride={self._stride}, padding={self._padding}"

    def _pairwise(self, x: mx.array, y: mx.array) -> mx.array:
        raise NotImplementedError(f"{type(self).__name__} does not define _pairwise")

    def _over_axes(self, x: mx.array, **kwargs: Any) -> mx.array:
        raise NotImplementedError(f"{type(self).__name__} does not define _over_axes")

    def _outside(self, dtype: mx.Dtype) -> float | int:
        raise NotImplementedError(f"{type(self).__name__} does not define _outside")

    def _padded(self, x: mx.array) -> mx.array:
        name, axes = type(self).__name__, self._spatial
        if x.ndim < axes + 2:
            raise ValueError(f"[{name}] the input must have at least {axes + 2} axes, got shape {x.shape}")
        sizes = x.shape[-axes - 1 : -1]
        for size, window, pad in zip(sizes, self._kernel_size, self._padding, strict=True):
            if size + 2 * pad < window:
                raise ValueError(
                    f"[{name}] kernel_size {self._kernel_size} does not fit into an input of shape {x.shape} "
                    f"with padding {self._padding}"
                )
        if not any(self._padding):
            return x
        widths = [(0, 0)] * (x.ndim - axes - 1) + [(pad, pad) for pad in self._padding] + [(0, 0)]
        return mx.pad(x, widths, constant_values=mx.array(self._outside(x.dtype), dtype=x.dtype))

    def __call__(self, x: mx.array) -> mx.array:
        x = self._padded(x)
        first = x.ndim - 1 - self._spatial
        if self._kernel_size == self._stride:
            return self._tiled(x, first)
        for i, (size, stride) in enumerate(zip(self._kernel_size, self._stride, strict=True)):
            x = _fold_windows(x, first + i, size, stride, self._pairwise, self._over_axes)
        return x

    def _tiled(self, x: mx.array, first: int) -> mx.array:
        """Windows side by side are axes of their own: one reduction does them all."""
        windows = [n // size for n, size in zip(x.shape[first:-1], self._kernel_size, strict=True)]
        kept = [slice(0, n * size) for n, size in zip(windows, self._kernel_size, strict=True)]
        split = [length for pair in zip(windows, self._kernel_size, strict=True) for length in pair]
        x = x[(..., *kept, slice(None))].reshape(*x.shape[:first], *split, x.shape[-1])
        return self._over_axes(x, axis=tuple(range(first + 1, first + 2 * self._spatial, 2)))


class _MaxPool(_Pool):
    def _outside(self, dtype: mx.Dtype) -> float | int:
        if mx.issubdtype(dtype, mx.floating):
            return -math.inf
        return 0 if dtype == mx.bool_ else mx.iinfo(dtype).min

    def _pairwise(self, x: mx.array, y: mx.array) -> mx.array:
        return mx.maximum(x, y)

    def _over_axes(self, x: mx.array, **kwargs: Any) -> mx.array:
        return mx.max(x, **kwargs)


class _AvgPool(_Pool):
    def _outside(self, dtype: mx.Dtype) -> float | int:
        return 0

    def _pairwise(self, x: mx.array, y: mx.array) -> mx.array:
        return mx.add(x, y)

    def _over_axes(self, x: mx.array, **kwargs: Any) -> mx.array:
        return mx.sum(x, **kwargs)

    def __call__(self, x: mx.array) -> mx.array:
        return super().__call__(x) * (1 / math.prod(self._kernel_size))


class MaxPool1d(_MaxPool):
    """The maximum of each window of a sequence.

    Shapes: input ``(N, L, C)``, output ``(N, L', C)`` with ``L' = (L + 2 * padding - kernel_size) // stride +
    1``.

    Parameters
    ----------
    kernel_size : int
        Size of the window.
    stride : int, optional
        Step from window to window; the window's size if not given.
    padding : int
        Entries added at both ends, less than all others.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.MaxPool1d(2)(mx.array([[[1.0], [3.0], [2.0], [0.0]]])).tolist()
    [[[3.0], [2.0]]]
    """

    _spatial = 1


class MaxPool2d(_MaxPool):
    """The maximum of each window of an image.

    Shapes: input ``(N, H, W, C)``, output ``(N, H', W', C)`` with sizes as for :class:`MaxPool1d`.

    Parameters
    ----------
    kernel_size, stride, padding : int or (int, int)
        As for :class:`MaxPool1d`, along H and W.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.MaxPool2d(2)(mx.arange(16).reshape(1, 4, 4, 1)).reshape(2, 2).tolist()
    [[5, 7], [13, 15]]
    """

    _spatial = 2


class MaxPool3d(_MaxPool):
    """The maximum of each window of a volume.

    Shapes: input ``(N, D, H, W, C)``, output ``(N, D', H', W', C)`` with sizes as for :class:`MaxPool1d`.

    Parameters
    ----------
    kernel_size, stride, padding : int or (int, int, int)
        As for :class:`MaxPool1d`, along D, H and W.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.MaxPool3d(2)(mx.ones((1, 4, 4, 4, 3))).shape
    (1, 2, 2, 2, 3)
    """

    _spatial = 3


class AvgPool1d(_AvgPool):
    """The mean of each window of a sequence.

    Shapes: input ``(N, L, C)``, output ``(N, L', C)`` with ``L' = (L + 2 * padding - kernel_size) // stride +
    1``.

    Parameters
    ----------
    kernel_size : int
        Size of the window.
    stride : int, optional
        Step from window to window; the window's size if not given.
    padding : int
        Zeros added at both ends; they count in the mean.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.AvgPool1d(2)(mx.array([[[1.0], [3.0], [2.0], [0.0]]])).tolist()
    [[[2.0], [1.0]]]
    """

    _spatial = 1


class AvgPool2d(_AvgPool):
    """The mean of each window of an image.

    Shapes: input ``(N, H, W, C)``, output ``(N, H', W', C)`` with sizes as for :class:`AvgPool1d`.

    Parameters
    ----------
    kernel_size, stride, padding : int or (int, int)
        As for :class:`AvgPool1d`, along H and W.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.AvgPool2d(2)(mx.arange(16).reshape(1, 4, 4, 1)).reshape(2, 2).tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """

    _spatial = 2


class AvgPool3d(_AvgPool):
    """The mean of each window of a volume.

    Shapes: input ``(N, D, H, W, C)``, output ``(N, D', H', W', C)`` with sizes as for :class:`AvgPool1d`.

    Parameters
    ----------
    kernel_size, stride, padding : int or (int, int, int)
        As for :class:`AvgPool1d`, along D, H and W.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.AvgPool3d(2)(mx.ones((1, 4, 4, 4, 3))).shape
    (1, 2, 2, 2, 3)
    """

    _spatial = 3
