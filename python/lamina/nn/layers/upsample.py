"""Upsample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import lamina.core as mx
from lamina._lazy import numpy as np
from lamina.nn.layers.base import Module

__all__ = ["Upsample"]


def _triangle(d: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(d), 0)


def _cubic(a: float) -> Callable[[np.ndarray], np.ndarray]:
    """Keys's cubic kernel with slope ``a`` at distance 1."""

    def kernel(d: np.ndarray) -> np.ndarray:
        d = np.abs(d)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))

    return kernel


def _positions(size: int, out: int, scale: float, align_corners: bool) -> np.ndarray:
    """Where each output entry lies on the input's axis."""
    steps = np.arange(out)
    if align_corners:
        return steps * ((size - 1) / max(out - 1, 1))
    return (steps - (out - 1) / 2) / scale + (size - 1) / 2


def _nearest(size: int, out: int, scale: float) -> np.ndarray:
    """Index of the input entry for each output entry; factors below 1 pick at even steps from the first."""
    if scale < 1:
        return np.arange(out, dtype=np.int32) * size // out
    nearest = np.rint((np.arange(out) + 0.5) * (size / out) - 0.5)
    return np.clip(nearest, 0, size - 1).astype(np.int32)


def _taps(
    size: int, out: int, scale: float, mode: str, align_corners: bool, antialias: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights, both ``(out, taps)``, of the input entries that make up each output entry."""
    position = _positions(size, out, scale, align_corners)
    smooth = antialias and scale < 1
    if mode == "linear":
        kernel, radius = _triangle, 1
        position = position if smooth else np.clip(position, 0, size - 1)
    else:
        kernel, radius = _cubic(-0.5 if antialias else -0.75), 2
    reach = radius / scale if smooth else radius
    first = np.floor(position - reach).astype(np.int64) + 1
    indices = first[:, None] + np.arange(math.ceil(2 * reach))
    weights = kernel((indices - position[:, None]) * (scale if smooth else 1))
    inside = (indices >= 0) & (indices < size)
    if antialias:
        weights = weights * inside
        weights = weights / weights.sum(axis=1, keepdims=True)
    return np.clip(indices, 0, size - 1), weights


class Upsample(Module):
    """Resize the axes between the first and the last, by a factor.

    Shapes: input ``(N, ..., C)`` with at least one axis between, output ``(N, ..., C)`` with these axes of
    size ``floor(scale * size)``. The dtype stays, but integers become float32 unless ``mode`` is
    ``"nearest"``.

    Parameters
    ----------
    scale_factor : float or tuple of float
        The factor, or one per axis.
    mode : {"nearest", "linear", "cubic"}
        How to find values between entries; the last two work along each axis in turn.
    align_corners : bool
        Whether the first and last entries of input and output lie at the same places, for the modes
        ``"linear"`` and ``"cubic"``. Otherwise their outer edges do.
    antialias : bool
        Whether factors below 1 average over all entries that an output entry covers.

    Raises
    ------
    ValueError
        A factor is not positive, the mode does not exist, ``antialias`` is set with the mode ``"nearest"`` or
        with ``align_corners``, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Upsample(2)(mx.array([[[1.0], [2.0]]])).tolist()
    [[[1.0], [1.0], [2.0], [2.0]]]
    """

    def __init__(
        self,
        scale_factor: float | tuple,
        mode: Literal["nearest", "linear", "cubic"] = "nearest",
        align_corners: bool = False,
        antialias: bool = False,
    ):
        super().__init__()
        if mode not in ("nearest", "linear", "cubic"):
            raise ValueError(f"[Upsample] mode must be 'nearest', 'linear' or 'cubic', got {mode!r}")
        if antialias and mode == "nearest":
            raise ValueError("[Upsample] antialias does not go with mode 'nearest'")
        if antialias and align_corners:
            raise ValueError("[Upsample] antialias does not go with align_corners")
        factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,)
        if not factors or not all(factor > 0 for factor in factors):
            raise ValueError(f"[Upsample] scale_factor must be positive, got {scale_factor}")
        is_tuple = isinstance(scale_factor, (tuple, list))
        self.scale_factor = tuple(float(factor) for factor in factors) if is_tuple else float(factors[0])
        self.mode = mode
        self.align_corners = align_corners
        self.antialias = antialias

    def _extra_repr(self) -> str:
        return f"scale_factor={self.scale_factor}, mode={self.mode!r}, align_corners={self.align_corners}"

    def _factors(self, x: mx.array) -> tuple[float, ...]:
        axes = x.ndim - 2
        if axes < 1:
            raise ValueError(f"[Upsample] the input must have at least 3 axes, got shape {x.shape}")
        factors = self.scale_factor if isinstance(self.scale_factor, tuple) else (self.scale_factor,) * axes
        if len(factors) != axes:
            raise ValueError(
                f"[Upsample] scale_factor must be one factor or one per axis between first and last, got "
                f"{self.scale_factor} for an input of shape {x.shape}"
            )
        return factors

    def _resize(self, x: mx.array, axis: int, scale: float) -> mx.array:
        size = x.shape[axis]
        out = int(scale * size)
        if out < 1:
            raise ValueError(f"[Upsample] factor {scale} leaves nothing of axis {axis} of shape {x.shape}")
        if self.mode == "nearest":
            return mx.take(x, mx.array(_nearest(size, out, scale)), axis=axis)
        indices, weights = _taps(size, out, scale, self.mode, self.align_corners, self.antialias)
        along_axis = (out,) + (1,) * (x.ndim - axis - 1)
        parts = [
            mx.array(weights[:, k].astype(np.float32)).reshape(along_axis)
            * mx.take(x, mx.array(indices[:, k].astype(np.int32)), axis=axis)
            for k in range(indices.shape[1])
            if weights[:, k].any()
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def __call__(self, x: mx.array) -> mx.array:
        y = x
        for axis, scale in enumerate(self._factors(x), start=1):
            if scale != 1:
                y = self._resize(y, axis, scale)
        return y.astype(x.dtype) if mx.issubdtype(x.dtype, mx.floating) else y
