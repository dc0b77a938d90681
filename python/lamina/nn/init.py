"""Initializers: functions that make functions from an array to one of the same shape with initial values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import lamina.core as mx

__all__ = [
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "normal",
    "orthogonal",
    "sparse",
    "uniform",
]

Initializer = Callable[[mx.array], mx.array]
Fan = Literal["fan_in", "fan_out"]


def constant(value: float, dtype: mx.Dtype = mx.float32) -> Callable[[mx.array], mx.array]:
    """Make an initializer that fills with one value.

    Parameters
    ----------
    value : float
        The value.
    dtype : Dtype
        Dtype of the results.

    Returns
    -------
    callable
        From an array of any shape to a new one of the same shape.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.init.constant(0.5)(mx.zeros((2, 2))).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """

    def initializer(a: mx.array) -> mx.array:
        return mx.full(a.shape, value, dtype=dtype)

    return initializer


def normal(
    mean: float = 0.0, std: float = 1.0, dtype: mx.Dtype = mx.float32
) -> Callable[[mx.array], mx.array]:
    """Make an initializer that draws from a normal distribution.

    Parameters
    ----------
    mean, std : float
        Mean and standard deviation.
    dtype : Dtype
        Dtype of the results.

    Returns
    -------
    callable
        From an array of any shape to a new one of the same shape.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.init.normal(std=0.02)(mx.zeros((2, 3))).shape
    (2, 3)
    """

    def initializer(a: mx.array) -> mx.array:
        return mx.random.normal(shape=a.shape, scale=std, loc=mean, dtype=dtype)

    return initializer


def uniform(
    low: float = 0.0, high: float = 1.0, dtype: mx.Dtype = mx.float32
) -> Callable[[mx.array], mx.array]:
    """Make an initializer that draws uniformly from ``[low, high)``.

    Parameters
    ----------
    low, high : float
        The bounds.
    dtype : Dtype
        Dtype of the results.

    Returns
    -------
    callable
        From an array of any shape to a new one of the same shape.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.init.uniform(-0.1, 0.1)(mx.zeros((2, 3))).shape
    (2, 3)
    """

    def initializer(a: mx.array) -> mx.array:
        return mx.random.uniform(low, high, a.shape, dtype=dtype)

    return initializer


def identity(dtype: mx.Dtype = mx.float32) -> Callable[[mx.array], mx.array]:
    """Make an initializer of identity matrices.

    Parameters
    ----------
    dtype : Dtype
        Dtype of the results.

    Returns
    -------
    callable
        From a square matrix to the identity of its size; raises ``ValueError`` for other shapes.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.init.identity()(mx.zeros((2, 2))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def initializer(a: mx.array) -> mx.array:
        if a.ndim != 2 or a.shape[0] != a.shape[1]:
            raise ValueError(f"[identity] the array must be a square matrix, got shape {a.shape}")
        return mx.eye(a.shape[0], dtype=dtype)

    return initializer


def _fans(name: str, a: mx.array) -> tuple[int, int]:
    """Inputs and outputs of each unit of a weight ``(outputs, *kernel, inputs)``."""
    if a.ndim < 2:
        raise ValueError(f"[{name}] the array must have at least 2 axes, got shape {a.shape}")
    window = math.prod(a.shape[1:-1])
    return max(a.shape[-1] * window, 1), max(a.shape[0] * window, 1)


def _chosen_fan(name: str, a: mx.array, mode: str) -> int:
    fan_in, fan_out = _fans(name, a)
    if mode == "fan_in":
        return fan_in
    if mode == "fan_out":
        return fan_out
    raise ValueError(f"[{name}] mode must be 'fan_in' or 'fan_out', got {mode!r}")


def glorot_normal(dtype: mx.Dtype = mx.float32) -> Callable[..., mx.array]:
    """Make a Glorot initializer: normal with standard deviation ``gain * sqrt(2 / (fan_in + fan_out))``.

    Parameters
    ----------
    dtype : Dtype
        Dtype of the results.

    Returns
    -------
    callable
        ``initializer(a, gain=1.0)`` from an array ``(outputs, *kernel, inputs)`` to a new one of the same
        shape; raises ``ValueError`` for fewer than 2 axes.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.init.glorot_normal()(mx.zeros((2, 3)), gain=2.0).shape
    (2, 3)
    """

    def initializer(a: mx.array, gain: float = 1.0) -> mx.array:
        std = gain * math.sqrt(2.0 / sum(_fans("glorot_normal", a)))
        return mx.random.normal(shape=a.shape, scale=std, dtype=dtype)

    return initializer


def glorot_uniform(dtype: mx.Dtype = mx.float32) -> Callable[..., mx.array]:
    """Make a Glorot initializer: uniform within plus or minus ``gain * sqrt(6 / (fan_in + fan_out))``.

    Parameters
    ----------
    dtype : Dtype
        Dtype of the results.

    Returns
    -------
    callable
        ``initializer(a, gain=1.0)`` from an array ``(outputs, *kernel, inputs)`` to a new one of the same
        shape; raises ``ValueError`` for fewer than 2 axes.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.init.glorot_uniform()(mx.zeros((2, 3))).shape
    (2, 3)
    """

    def initializer(a: mx.array, gain: float = 1.0) -> mx.array:
        bound = gain * math.sqrt(6.0 / sum(_fans("glorot_uniform", a)))
        return mx.random.uniform(-bound, bound, a.shape, dtype=dtype)

    return initializer


def he_normal(dtype: mx.Dtype = mx.float32) -> Callable[..., mx.array]:
    """Make a He initializer: normal with standard deviation ``gain / sqrt(fan)``.

    Parameters
    ----------
    dtype : Dtype
        Dtype of the results.

    Returns
    -------
    callable
        ``initializer(a, mode="fan_in", gain=1.0)`` from an array ``(outputs, *kernel, inputs)`` to a new one
        of the same shape, where ``mode`` chooses ``"fan_in"`` or ``"fan_out"``; raises ``ValueError`` for
        another mode or fewer than 2 axes.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.init.he_normal()(mx.zeros((2, 3)), mode="fan_out").shape
    (2, 3)
    """

    def initializer(a: mx.array, mode: Fan = "fan_in", gain: float = 1.0) -> mx.array:
        std = gain / math.sqrt(_chosen_fan("he_normal", a, mode))
        return mx.random.normal(shape=a.shape, scale=std, dtype=dtype)

    return initializer


def he_uniform(dtype: mx.Dtype = mx.float32) -> Callable[..., mx.array]:
    """Make a He initializer: uniform within plus or minus ``gain * sqrt(3 / fan)``.

    Parameters
    ----------
    dtype : Dtype
        Dtype of the results.

    Returns
    -------
    callable
        As for :func:`he_normal`.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.init.he_uniform()(mx.zeros((2, 3))).shape
    (2, 3)
    """

    def initializer(a: mx.array, mode: Fan = "fan_in", gain: float = 1.0) -> mx.array:
        bound = gain * math.sqrt(3.0 / _chosen_fan("he_uniform", a, mode))
        return mx.random.uniform(-bound, bound, a.shape, dtype=dtype)

    return initializer


def sparse(
    sparsity: float, mean: float = 0.0, std: float = 1.0, dtype: mx.Dtype = mx.float32
) -> Callable[[mx.array], mx.array]:
    """Make an initializer that draws from a normal distribution and sets a part of each row to zero.

    Parameters
    ----------
    sparsity : float
        The part, in ``[0, 1]``; each row of n gets ``ceil(sparsity * n)`` zeros.
    mean, std : float
        Mean and standard deviation of the other entries.
    dtype : Dtype
        Dtype of the results.

    Returns
    -------
    callable
        From a matrix to a new one of the same shape; raises ``ValueError`` for other shapes.

    Raises
    ------
    ValueError
        ``sparsity`` is out of range.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> (nn.init.sparse(0.5)(mx.zeros((3, 4))) == 0).sum(axis=1).tolist()
    [2, 2, 2]
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"[sparse] sparsity must be in [0, 1], got {sparsity}")

    def initializer(a: mx.array) -> mx.array:
        if a.ndim != 2:
            raise ValueError(f"[sparse] the array must have 2 axes, got shape {a.shape}")
        zeros = math.ceil(sparsity * a.shape[1])
        ranks = mx.argsort(mx.argsort(mx.random.uniform(shape=a.shape), axis=1), axis=1)
        values = mx.random.normal(shape=a.shape, scale=std, loc=mean, dtype=dtype)
        return mx.where(ranks < zeros, mx.array(0, dtype=dtype), values)

    return initializer


def orthogonal(gain: float = 1.0, dtype: mx.Dtype = mx.float32) -> Callable[[mx.array], mx.array]:
    """Make an initializer of random matrices with orthonormal rows or columns, whichever are fewer.

    Parameters
    ----------
    gain : float
        Multiplies the result.
    dtype : Dtype
        Dtype of the results.

    Returns
    -------
    callable
        From a matrix to a new one of the same shape; raises ``ValueError`` for other shapes.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> q = nn.init.orthogonal()(mx.zeros((2, 3)))
    >>> mx.allclose(q @ q.T, mx.eye(2), atol=1e-5).item()
    True
    """

    def initializer(a: mx.array) -> mx.array:
        if a.ndim != 2:
            raise ValueError(f"[orthogonal] the array must have 2 axes, got shape {a.shape}")
        rows, columns = a.shape
        longer, shorter = max(rows, columns), min(rows, columns)
        q, r = mx.linalg.qr(mx.random.normal(shape=(longer, shorter)), stream=mx.cpu)
        # The signs of R's diagonal, moved into Q, make the distribution uniform over all such matrices.
        q = q * mx.where(mx.diag(r) < 0, -1.0, 1.0)
        return (gain * (q if rows >= columns else q.T)).astype(dtype)

    return initializer
