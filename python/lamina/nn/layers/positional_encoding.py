"""Positional encodings: RoPE, sinusoidal and ALiBi."""

from __future__ import annotations

import math

import lamina.core as mx
from lamina.nn.layers._check import positive_int
from lamina.nn.layers.base import Module

__all__ = ["ALiBi", "RoPE", "SinusoidalPositionalEncoding"]


class RoPE(Module):
    """Rotary positional encoding: rotate pairs of entries by angles that grow with the position.

    Shapes: input ``(..., L, D)`` of at least 3 axes with ``D >= dims``, output the same; entries from
    ``dims`` on are left as they are.

    Parameters
    ----------
    dims : int
        How many entries to rotate; an even number.
    traditional : bool
        Whether the pairs are neighbours, ``(0, 1), (2, 3), ...``, as in the original paper. Otherwise they
        are ``(0, dims / 2), (1, dims / 2 + 1), ...``.
    base : float
        Pair ``i`` turns by ``base ** (-2 * i / dims)`` radians per position.
    scale : float
        Multiplies the positions.

    Raises
    ------
    ValueError
        ``dims`` is odd, or larger than an input's last axis, or an input has fewer than 3 axes.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> y = nn.RoPE(2)(mx.array([[[1.0, 0.0], [1.0, 0.0]]]))
    >>> [round(v, 4) for v in y[0, 1].tolist()]
    [0.5403, 0.8415]
    """

    def __init__(self, dims: int, traditional: bool = False, base: float = 10000, scale: float = 1.0):
        super().__init__()
        self.dims = positive_int("RoPE", "dims", dims)
        if self.dims % 2:
            raise ValueError(f"[RoPE] dims must be even, got {dims}")
        self.traditional = traditional
        self.base = base
        self.scale = scale

    def _extra_repr(self) -> str:
        return f"{self.dims}, traditional={self.traditional}"

    def __call__(self, x: mx.array, offset: int = 0) -> mx.array:
        return mx.fast.rope(
            x, self.dims, traditional=self.traditional, base=self.base, scale=self.scale, offset=offset
        )


class SinusoidalPositionalEncoding(Module):
    """Encode positions by sines and cosines of geometrically spaced frequencies.

    Shapes: input ``(...)`` of positions, output ``(..., dims)``: first the sines, then the cosines.

    Parameters
    ----------
    dims : int
        Entries of the encoding; an even number.
    min_freq, max_freq : float
        The lowest and highest frequency in radians per position; the highest comes first.
    scale : float, optional
        Multiplies the encoding; ``sqrt(2 / dims)``, which makes it a unit vector, if not given.
    cos_first : bool
        Whether the cosines come first.
    full_turns : bool
        Whether the frequencies are in turns per position, not radians.

    Raises
    ------
    ValueError
        ``dims`` is odd or below 1.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> y = nn.SinusoidalPositionalEncoding(2)(mx.array([0, 1]))
    >>> [round(v, 4) for v in y[1].tolist()]
    [0.8415, 0.5403]
    """

    def __init__(
        self,
        dims: int,
        min_freq: float = 0.0001,
        max_freq: float = 1,
        scale: float | None = None,
        cos_first: bool = False,
        full_turns: bool = False,
    ):
        super().__init__()
        half, odd = divmod(positive_int("SinusoidalPositionalEncoding", "dims", dims), 2)
        if odd:
            raise ValueError(f"[SinusoidalPositionalEncoding] dims must be even, got {dims}")
        falling = 1 - mx.arange(half) / max(half - 1, 1)
        low, high = math.log(min_freq), math.log(max_freq)
        sigmas = mx.exp(falling * (high - low) + low)
        # The underscore keeps the frequencies out of the parameters.
        self._sigmas = sigmas * (2 * math.pi) if full_turns else sigmas
        self.scale = math.sqrt(1 / half) if scale is None else scale
        self.cos_first = cos_first

    def __call__(self, x: mx.array) -> mx.array:
        angles = x[..., None] * self._sigmas
        sines, cosines = mx.sin(angles), mx.cos(angles)
        halves = [cosines, sines] if self.cos_first else [sines, cosines]
        encoding = mx.concatenate(halves, axis=-1)
        return encoding if self.scale == 1 else encoding * self.scale


class ALiBi(Module):
    """Attention with linear biases: lower each score in proportion to the distance of query and key.

    Shapes: input ``(B, H, L, S)`` of attention scores, output the same.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.ALiBi()(mx.zeros((1, 1, 1, 3)), offset=2)[0, 0, 0].tolist()
    [-0.0078125, -0.00390625, 0.0]
    """

    @staticmethod
    def create_alibi_slope(num_heads: int, dtype: mx.Dtype = mx.float32) -> mx.array:
        """Return the slope of each head, a falling geometric sequence.

        Parameters
        ----------
        num_heads : int
            Number of heads.
        dtype : Dtype
            Dtype of the result.

        Returns
        -------
        array, shape (num_heads, 1, 1)
            For a power of two, ``2 ** (-8 * i / num_heads)`` with i from 1; for another number, those of the
            next smaller power of two, then every second one of the next larger.
        """
        power = 2 ** math.floor(math.log2(positive_int("ALiBi", "num_heads", num_heads)))
        slopes = [2 ** (-8 * i / power) for i in range(1, power + 1)]
        slopes += [2 ** (-4 * i / power) for i in range(1, 2 * (num_heads - power), 2)]
        return mx.array(slopes, dtype=dtype).reshape(num_heads, 1, 1)

    @staticmethod
    def create_alibi_matrix(
        q_sequence_length: int,
        k_sequence_length: int,
        num_heads: int,
        offset: int = 0,
        dtype: mx.Dtype = mx.float32,
    ) -> mx.array:
        """Return what is added to the scores: minus the slope times the distance.

        Parameters
        ----------
        q_sequence_length, k_sequence_length : int
            Numbers L of queries and S of keys; the queries are those from position ``offset`` to ``L``.
        num_heads : int
            Number of heads H.
        offset : int
            Position of the first query.
        dtype : Dtype
            Dtype of the result.

        Returns
        -------
        array, shape (1, H, L - offset, S)
            The biases.
        """
        queries = mx.arange(offset, q_sequence_length)
        keys = mx.arange(k_sequence_length)
        # Negated as integers, so that distance 0 gives 0 and not -0.
        lowered = (-mx.abs(queries[:, None] - keys[None])).astype(dtype)
        return lowered[None, None] * ALiBi.create_alibi_slope(num_heads, dtype)

    def __call__(self, attention_scores: mx.array, offset: int = 0, mask: mx.array | None = None) -> mx.array:
        _, num_heads, queries, keys = attention_scores.shape
        bias = self.create_alibi_matrix(queries + offset, keys, num_heads, offset, attention_scores.dtype)
        if mask is not None:
            bias = bias + mask
        return attention_scores + bias
