"""Dropout of entries and of whole channels."""

from __future__ import annotations

import lamina.core as mx
from lamina.nn.layers.base import Module

__all__ = ["Dropout", "Dropout2d", "Dropout3d"]


def _drop(x: mx.array, keep: float, mask_shape: tuple[int, ...]) -> mx.array:
    mask = mx.random.bernoulli(p=keep, shape=mask_shape)
    # A select, not a product: infinities and NaN in dropped places must not survive as NaN.
    return mx.where(mask, x * (1 / keep), mx.array(0, dtype=x.dtype))


class Dropout(Module):
    """In training, set each entry to zero with probability ``p`` and scale the others by ``1 / (1 - p)``.

    Shapes: input any, output the same. In evaluation mode, the input is returned as it is.

    Parameters
    ----------
    p : float
        The probability, in ``[0, 1)``.

    Raises
    ------
    ValueError
        ``p`` is out of range.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> dropout = nn.Dropout(0.5)
    >>> sorted(set(dropout(mx.ones((100,))).tolist()))
    [0.0, 2.0]
    >>> set(dropout.eval()(mx.ones((100,))).tolist())
    {1.0}
    """

    _dimensions: tuple[int, ...] = ()

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"[{type(self).__name__}] the probability p must be in [0, 1), got {p}")
        self._p = p
        self._p_1 = 1 - p

    def _extra_repr(self) -> str:
        return f"p={self._p}"

    def _mask_shape(self, x: mx.array) -> tuple[int, ...]:
        return tuple(x.shape)

    def __call__(self, x: mx.array) -> mx.array:
        if self._dimensions and x.ndim not in self._dimensions:
            wanted = " or ".join(str(n) for n in self._dimensions)
            raise ValueError(
                f"[{type(self).__name__}] the input must have {wanted} dimensions, got shape {x.shape}"
            )
        if self._p_1 == 1 or not self.training:
            return x
        return _drop(x, self._p_1, self._mask_shape(x))


class _ChannelDropout(Dropout):
    """Dropout of whole channels; an input without batch axis has one dimension less."""

    def _mask_shape(self, x: mx.array) -> tuple[int, ...]:
        batched = x.ndim == max(self._dimensions)
        return (x.shape[0] if batched else 1, *[1] * (x.ndim - 2), x.shape[-1])


class Dropout2d(_ChannelDropout):
    """In training, set whole channels of images to zero with probability ``p``; see :class:`Dropout`.

    Shapes: input ``(N, H, W, C)`` or ``(H, W, C)``, output the same.

    Parameters
    ----------
    p : float
        The probability, in ``[0, 1)``.

    Raises
    ------
    ValueError
        ``p`` is out of range, or the input has not 3 or 4 dimensions.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> y = nn.Dropout2d(0.5)(mx.ones((2, 3, 3, 8)))
    >>> mx.array_equal(y[:, :1, :1], mx.mean(y, axis=(1, 2), keepdims=True)).item()
    True
    """

    _dimensions = (3, 4)


class Dropout3d(_ChannelDropout):
    """In training, set whole channels of volumes to zero with probability ``p``; see :class:`Dropout`.

    Shapes: input ``(N, D, H, W, C)`` or ``(D, H, W, C)``, output the same.

    Parameters
    ----------
    p : float
        The probability, in ``[0, 1)``.

    Raises
    ------
    ValueError
        ``p`` is out of range, or the input has not 4 or 5 dimensions.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Dropout3d(0.5)(mx.ones((2, 3, 3, 3, 8))).shape
    (2, 3, 3, 3, 8)
    """

    _dimensions = (4, 5)
