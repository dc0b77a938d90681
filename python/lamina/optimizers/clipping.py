"""Clipping of gradients."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
from lamina.utils import tree_map, tree_reduce

__all__ = ["clip_grad_norm"]


def clip_grad_norm(grads: Any, max_norm: float) -> tuple[Any, mx.array]:
    """Scale gradients down so that their norm, over all of them together, is at most ``max_norm``.

    Parameters
    ----------
    grads : tree of arrays
        The gradients.
    max_norm : float
        The largest norm allowed.

    Returns
    -------
    grads : tree of arrays
        The gradients, scaled; in the dtypes they came in.
    norm : array
        Their norm before, a scalar in at least float32.

    Raises
    ------
    ValueError
        ``max_norm`` is negative.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> grads, norm = optimizers.clip_grad_norm({"w": mx.array([3.0, 4.0])}, max_norm=10.0)
    >>> norm.item(), grads["w"].tolist()
    (5.0, [3.0, 4.0])
    """
    if not max_norm >= 0:
        raise ValueError(f"[clip_grad_norm] max_norm must be at least 0, got {max_norm}")

    def add_square(total: mx.array, grad: mx.array) -> mx.array:
        # In float32 at least: the square of a float16 above 255 overflows.
        wide = grad if grad.dtype == mx.float64 else grad.astype(mx.float32)
        return total + mx.sum(mx.square(wide))

    norm = mx.sqrt(tree_reduce(add_square, grads, mx.array(0, mx.float32)))
    scale = mx.minimum(max_norm / (norm + 1e-6), 1.0)
    return tree_map(lambda grad: (grad * scale).astype(grad.dtype), grads), norm
