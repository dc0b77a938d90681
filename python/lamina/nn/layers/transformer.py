"""Multi-head attention and the transformer of encoder and decoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lamina.core as mx
from lamina.nn.layers._check import positive_int
from lamina.nn.layers.activations import relu
from lamina.nn.layers.base import Module
from lamina.nn.layers.dropout import Dropout
from lamina.nn.layers.linear import Linear
from lamina.nn.layers.normalization import LayerNorm
from lamina.nn.utils import checkpoint as checkpointed

__all__ = [
    "MultiHeadAttention",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

Activation = Callable[[Any], Any]


class MultiHeadAttention(Module):
    """Scaled dot-product attention with several heads and projections before and after.

    Shapes: queries ``(B, L, query_input_dims)``, keys ``(B, S, key_input_dims)``, values ``(B, S,
    value_input_dims)``, output ``(B, L, value_output_dims)``. The modules inside are the linear layers
    ``query_proj``, ``key_proj``, ``value_proj`` and ``out_proj``.

    Parameters
    ----------
    dims : int
        Size of the projected queries and keys, over all heads; also the default of the sizes not given.
    num_heads : int
        Number of heads; it divides ``dims`` and ``value_dims``.
    query_input_dims, key_input_dims, value_input_dims : int, optional
        Entries of the inputs' last axes; ``dims``, ``dims`` and ``key_input_dims`` if not given.
    value_dims : int, optional
        Size of the projected values, over all heads.
    value_output_dims : int, optional
        Entries of the output's last axis.
    bias : bool
        Whether the projections add a bias.

    Raises
    ------
    ValueError
        A size is below 1 or no multiple of ``num_heads``, or the inputs' shapes do not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> attention = nn.MultiHeadAttention(16, num_heads=4)
    >>> x = mx.ones((2, 5, 16))
    >>> attention(x, x, x, mask=attention.create_additive_causal_mask(5)).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        query_input_dims: int | None = None,
        key_input_dims: int | None = None,
        value_input_dims: int | None = None,
        value_dims: int | None = None,
        value_output_dims: int | None = None,
        bias: bool = False,
    ):
        super().__init__()
        self.num_heads = positive_int("MultiHeadAttention", "num_heads", num_heads)
        key_input_dims = key_input_dims or dims
        value_dims = value_dims or dims
        for name, size in (("dims", dims), ("value_dims", value_dims)):
            if size % num_heads:
                raise ValueError(
                    f"[MultiHeadAttention] num_heads must divide {name}, got {num_heads} and {size}"
                )
        self.query_proj = Linear(query_input_dims or dims, dims, bias=bias)
        self.key_proj = Linear(key_input_dims, dims, bias=bias)
        self.value_proj = Linear(value_input_dims or key_input_dims, value_dims, bias=bias)
        self.out_proj = Linear(value_dims, value_output_dims or dims, bias=bias)

    def _split_heads(self, x: mx.array) -> mx.array:
        batch, length, size = x.shape
        return x.reshape(batch, length, self.num_heads, size // self.num_heads).transpose(0, 2, 1, 3)

    def __call__(
        self, queries: mx.array, keys: mx.array, values: mx.array, mask: mx.array | str | None = None
    ) -> mx.array:
        """Attend.

        Parameters
        ----------
        queries : array, shape (B, L, query_input_dims)
            What looks.
        keys : array, shape (B, S, key_input_dims)
            What is looked at.
        values : array, shape (B, S, value_input_dims)
            What is taken from there.
        mask : array or "causal", optional
            Added to the scores where floating, or true where to look if boolean; broadcast to ``(B, H, L,
            S)``.

        Returns
        -------
        array, shape (B, L, value_output_dims)
            The result.
        """
        for name, x in (("queries", queries), ("keys", keys), ("values", values)):
            if x.ndim != 3:
                raise ValueError(f"[MultiHeadAttention] {name} must have 3 axes, got shape {x.shape}")
        if keys.shape[:2] != values.shape[:2]:
            raise ValueError(
                "[MultiHeadAttention] keys and values must agree in batch and length, got shapes "
                f"{keys.shape} and {values.shape}"
            )
        q = self._split_heads(self.query_proj(queries))
        k = self._split_heads(self.key_proj(keys))
        v = self._split_heads(self.value_proj(values))
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(q.shape[-1]), mask=mask)
        return self.out_proj(y.transpose(0, 2, 1, 3).flatten(-2, -1))

    @staticmethod
    def create_additive_causal_mask(N: int, dtype: mx.Dtype = mx.float32) -> mx.array:
        """Return the mask that keeps each of ``N`` positions from looking at later ones.

        Parameters
        ----------
        N : int
            Number of positions.
        dtype : Dtype
            A floating dtype.

        Returns
        -------
        array, shape (N, N)
            0 on and below the diagonal, the dtype's least number above.

        Examples
        --------
        >>> from lamina import core as mx, nn
        >>> (nn.MultiHeadAttention.create_additive_causal_mask(2) < 0).tolist()
        [[False, True], [False, False]]
        """
        positions = mx.arange(N)
        later = positions[:, None] < positions[None]
        return mx.where(later, mx.array(mx.finfo(dtype).min, dtype=dtype), mx.array(0, dtype=dtype))


class TransformerEncoderLayer(Module):
    """Self-attention and a feed-forward network, each with a norm and a residual connection.

    Shapes: input ``(B, L, dims)``, output the same.

    Parameters
    ----------
    dims : int
        Entries of the last axis.
    num_heads : int
        Number of heads; it divides ``dims``.
    mlp_dims : int, optional
        Hidden size of the feed-forward network; ``4 * dims`` if not given.
    dropout : float
        Dropout probability.
    activation : callable
        Activation of the feed-forward network.
    norm_first : bool
        Whether each norm comes before its part (pre-norm) or after the residual connection.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.TransformerEncoderLayer(16, num_heads=4)(mx.ones((2, 5, 16)), None).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        mlp_dims: int | None = None,
        dropout: float = 0.0,
        activation: Activation = relu,
        norm_first: bool = True,
    ):
        super().__init__()
        mlp_dims = mlp_dims or 4 * dims
        self.attention = MultiHeadAttention(dims, num_heads)
        self.ln1 = LayerNorm(dims)
        self.ln2 = LayerNorm(dims)
        self.linear1 = Linear(dims, mlp_dims)
        self.linear2 = Linear(mlp_dims, dims)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = activation
        self.norm_first = norm_first

    def _attend(self, x: mx.array, mask: mx.array | str | None) -> mx.array:
        return self.dropout1(self.attention(x, x, x, mask))

    def _feed_forward(self, x: mx.array) -> mx.array:
        return self.linear2(self.dropout2(self.activation(self.linear1(x))))

    def __call__(self, x: mx.array, mask: mx.array | str | None) -> mx.array:
        if self.norm_first:
            x = x + self._attend(self.ln1(x), mask)
            return x + self._feed_forward(self.ln2(x))
        x = self.ln1(x + self._attend(x, mask))
        return self.ln2(x + self._feed_forward(x))


class TransformerEncoder(Module):
    """A stack of :class:`TransformerEncoderLayer` and a norm at the end.

    Shapes: input ``(B, L, dims)``, output the same.

    Parameters
    ----------
    num_layers : int
        Number of layers.
    dims, num_heads, mlp_dims, dropout, activation, norm_first
        As for the layer.
    checkpoint : bool
        Whether the backward pass recomputes each layer, to save memory.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.TransformerEncoder(2, 16, num_heads=4)(mx.ones((2, 5, 16)), None).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        num_layers: int,
        dims: int,
        num_heads: int,
        mlp_dims: int | None = None,
        dropout: float = 0.0,
        activation=relu,
        norm_first: bool = True,
        checkpoint: bool = False,
    ):
        super().__init__()
        self.layers = [
            TransformerEncoderLayer(dims, num_heads, mlp_dims, dropout, activation, norm_first)
            for _ in range(num_layers)
        ]
        self.ln = LayerNorm(dims)
        self.checkpoint = checkpoint

    def __call__(self, x: mx.array, mask: mx.array | str | None) -> mx.array:
        for layer in self.layers:
            call = checkpointed(layer) if self.checkpoint else layer
            x = call(x, mask)
        return self.ln(x)


class TransformerDecoderLayer(Module):
    """Self-attention, attention to a memory and a feed-forward network, each with a norm and a residual.

    Shapes: input ``(B, L, dims)``, memory ``(B, S, dims)``, output ``(B, L, dims)``.

    Parameters
    ----------
    dims, num_heads, mlp_dims, dropout, activation, norm_first
        As for :class:`TransformerEncoderLayer`.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> layer = nn.TransformerDecoderLayer(16, num_heads=4)
    >>> layer(mx.ones((2, 5, 16)), mx.ones((2, 7, 16)), None, None).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        mlp_dims: int | None = None,
        dropout: float = 0.0,
        activation: Activation = relu,
        norm_first: bool = True,
    ):
        super().__init__()
        mlp_dims = mlp_dims or 4 * dims
        self.self_attention = MultiHeadAttention(dims, num_heads)
        self.cross_attention = MultiHeadAttention(dims, num_heads)
        self.ln1 = LayerNorm(dims)
        self.ln2 = LayerNorm(dims)
        self.ln3 = LayerNorm(dims)
        self.linear1 = Linear(dims, mlp_dims)
        self.linear2 = Linear(mlp_dims, dims)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)
        self.activation = activation
        self.norm_first = norm_first

    def _attend(self, x: mx.array, mask: mx.array | str | None) -> mx.array:
        return self.dropout1(self.self_attention(x, x, x, mask))

    def _attend_to(self, x: mx.array, memory: mx.array, mask: mx.array | str | None) -> mx.array:
        return self.dropout2(self.cross_attention(x, memory, memory, mask))

    def _feed_forward(self, x: mx.array) -> mx.array:
        return self.linear2(self.dropout3(self.activation(self.linear1(x))))

    def __call__(
        self, x: mx.array, memory: mx.array, x_mask: mx.array | str | None, memory_mask: mx.array | str | None
    ) -> mx.array:
        if self.norm_first:
            x = x + self._attend(self.ln1(x), x_mask)
            x = x + self._attend_to(self.ln2(x), memory, memory_mask)
            return x + self._feed_forward(self.ln3(x))
        x = self.ln1(x + self._attend(x, x_mask))
        x = self.ln2(x + self._attend_to(x, memory, memory_mask))
        return self.ln3(x + self._feed_forward(x))


class TransformerDecoder(Module):
    """A stack of :class:`TransformerDecoderLayer` and a norm at the end.

    Shapes: input ``(B, L, dims)``, memory ``(B, S, dims)``, output ``(B, L, dims)``.

    Parameters
    ----------
    num_layers : int
        Number of layers.
    dims, num_heads, mlp_dims, dropout, activation, norm_first
        As for the layer.
    checkpoint : bool
        Whether the backward pass recomputes each layer, to save memory.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> decoder = nn.TransformerDecoder(2, 16, num_heads=4)
    >>> decoder(mx.ones((2, 5, 16)), mx.ones((2, 7, 16)), None, None).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        num_layers: int,
        dims: int,
        num_heads: int,
        mlp_dims: int | None = None,
        dropout: float = 0.0,
        activation=relu,
        norm_first: bool = True,
        checkpoint: bool = False,
    ):
        super().__init__()
        self.layers = [
            TransformerDecoderLayer(dims, num_heads, mlp_dims, dropout, activation, norm_first)
            for _ in range(num_layers)
        ]
        self.ln = LayerNorm(dims)
        self.checkpoint = checkpoint

    def __call__(
        self, x: mx.array, memory: mx.array, x_mask: mx.array | str | None, memory_mask: mx.array | str | None
    ) -> mx.array:
        for layer in self.layers:
            call = checkpointed(layer) if self.checkpoint else layer
            x = call(x, memory, x_mask, memory_mask)
        return self.ln(x)


class Transformer(Module):
    """The transformer of an encoder, which reads a source, and a decoder, which reads that and a target.

    Shapes: source ``(B, S, dims)``, target ``(B, L, dims)``, output ``(B, L, dims)``.

    Parameters
    ----------
    dims, num_heads
        As for the layers.
    num_encoder_layers, num_decoder_layers : int
        Numbers of layers.
    mlp_dims, dropout, activation
        As for the layers.
    custom_encoder, custom_decoder : Module, optional
        Used in place of the standard ones.
    norm_first, checkpoint
        As for :class:`TransformerEncoder`.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> model = nn.Transformer(16, num_heads=4, num_encoder_layers=1, num_decoder_layers=1)
    >>> model(mx.ones((2, 7, 16)), mx.ones((2, 5, 16)), None, None, None).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        dims: int = 512,
        num_heads: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        mlp_dims: int | None = None,
        dropout: float = 0.0,
        activation: Activation = relu,
        custom_encoder: Any | None = None,
        custom_decoder: Any | None = None,
        norm_first: bool = True,
        checkpoint: bool = False,
    ):
        super().__init__()
        options = (dims, num_heads, mlp_dims, dropout, activation, norm_first, checkpoint)
        # Compared with None, as a module without parameters is an empty dict and so false.
        self.encoder = (
            TransformerEncoder(num_encoder_layers, *options) if custom_encoder is None else custom_encoder
        )
        self.decoder = (
            TransformerDecoder(num_decoder_layers, *options) if custom_decoder is None else custom_decoder
        )

    def __call__(
        self,
        src: mx.array,
        tgt: mx.array,
        src_mask: mx.array | str | None,
        tgt_mask: mx.array | str | None,
        memory_mask: mx.array | str | None,
    ) -> mx.array:
        memory = self.encoder(src, src_mask)
        return self.decoder(tgt, memory, tgt_mask, memory_mask)
