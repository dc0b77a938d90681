"""Scales for groups of weights: the ones that keep what the inputs see of them closest.

All functions work on the last axis, which is a group, and minimize the sum of ``h * (w - decoded)**2``. ``h``
says how much an error of a weight matters: the mean square of its input, where that is known.
"""

from __future__ import annotations

import lamina.core as mx

# How many codes wider or narrower than the group's range the tried scales are.
_WIDER = (-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9)


def fit_symmetric(w: mx.array, h: mx.array, codes: int, widths: tuple[float, ...] = _WIDER) -> mx.array:
    """Return scales s (..., 1) for weights ``s * q`` with whole q from ``-codes`` to ``codes - 1``.

    Parameters
    ----------
    w : array (..., n)
        Weights, float32.
    h : array (..., n)
        Their importance, which may broadcast.
    codes : int
        Half the number of codes.
    widths : tuple of float
        The tried scales: that many codes more than the largest weight needs.

    Examples
    --------
    >>> import lamina.core as mx
    >>> fit_symmetric(mx.array([[-8.0, 4.0, 1.0]]), mx.ones((1, 3)), 8).tolist()
    [[1.0]]
    """
    places = mx.argmax(mx.abs(w), axis=-1, keepdims=True)
    largest = mx.take_along_axis(w, places, axis=-1)
    best_scale, best_gain = mx.zeros_like(largest), mx.zeros_like(largest)
    for width in widths:
        scale = largest / -(codes + width)
        q = mx.clip(mx.round(w * _inverse(scale)), -codes, codes - 1)
        along, size = (h * w * q).sum(axis=-1, keepdims=True), (h * q * q).sum(axis=-1, keepdims=True)
        # The best scale for these codes is along / size, and it takes along**2 / size from the error.
        found = along * _inverse(size)
        gain = along * found
        better = gain > best_gain
        best_scale = mx.where(better, found, best_scale)
        best_gain = mx.where(better, gain, best_gain)
    return best_scale


def fit_affine(
    w: mx.array, h: mx.array, top: int, widths: tuple[float, ...] = _WIDER, below_zero: bool = False
) -> tuple[mx.array, mx.array]:
    """Return scales s and biases b (..., 1) for weights ``s * q + b`` with whole q from 0 to ``top``.

    Parameters
    ----------
    w : array (..., n)
        Weights, float32.
    h : array (..., n)
        Their importance, which may broadcast.
    top : int
        The largest code.
    widths : tuple of float
        The tried scales: the group's range over ``top`` and so many codes more.
    below_zero : bool
        Whether biases must not be positive.

    Examples
    --------
    >>> import lamina.core as mx
    >>> s, b = fit_affine(mx.array([[-3.0, 0.0, 1.0, 12.0]]), mx.ones((1, 4)), 15)
    >>> s.tolist(), b.tolist()
    ([[1.0]], [[-3.0]])
    """
    low, high = w.min(axis=-1, keepdims=True), w.max(axis=-1, keepdims=True)
    if below_zero:
        low = mx.minimum(low, 0)
    spread = high - low
    weight = mx.broadcast_to(h, w.shape).sum(axis=-1, keepdims=True)
    mean = (h * w).sum(axis=-1, keepdims=True) * _inverse(weight)
    best_scale, best_bias = spread / top, low
    best_error = mx.full(low.shape, mx.inf, dtype=mx.float32)
    for width in widths:
        scale = spread / (top + width)
        q = mx.clip(mx.round((w - low) * _inverse(scale)), 0, top)
        scale, bias = _line(w, h, q, weight, mean, below_zero)
        error = (h * mx.square(w - scale * q - bias)).sum(axis=-1, keepdims=True)
        better = error < best_error
        best_scale = mx.where(better, scale, best_scale)
        best_bias = mx.where(better, bias, best_bias)
        best_error = mx.where(better, error, best_error)
    return best_scale, best_bias


def _line(
    w: mx.array, h: mx.array, q: mx.array, weight: mx.array, mean: mx.array, below_zero: bool
) -> tuple[mx.array, mx.array]:
    """Return the weighted least-squares line through codes and weights; through zero where it must be."""
    code_mean = (h * q).sum(axis=-1, keepdims=True) * _inverse(weight)
    centred = q - code_mean
    size = (h * centred * centred).sum(axis=-1, keepdims=True)
    scale = (h * centred * (w - mean)).sum(axis=-1, keepdims=True) * _inverse(size)
    bias = mean - scale * code_mean
    if not below_zero:
        return scale, bias
    through = (h * w * q).sum(axis=-1, keepdims=True) * _inverse((h * q * q).sum(axis=-1, keepdims=True))
    above = bias > 0
    return mx.maximum(mx.where(above, through, scale), 0), mx.minimum(bias, 0)


def _inverse(x: mx.array) -> mx.array:
    """Return 1 / x, and 0 for 0."""
    return mx.where(x == 0, 0.0, 1 / mx.where(x == 0, 1.0, x))
