"""Embedding."""

from __future__ import annotations

import math

import lamina.core as mx
from lamina.nn.layers._check import positive_int
from lamina.nn.layers.base import Module

__all__ = ["Embedding"]


class Embedding(Module):
    """A table of vectors, looked up by integer.

    Shapes: input ``(...)`` of integers, output ``(..., dims)``; the parameter ``weight`` of shape
    ``(num_embeddings, dims)`` is drawn from a normal distribution with standard deviation ``1 / sqrt(dims)``.

    Parameters
    ----------
    num_embeddings : int
        Entries of the table.
    dims : int
        Entries of each vector.

    Raises
    ------
    ValueError
        A size is below 1, or an input is not of an integer dtype.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Embedding(10, 4)(mx.array([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(self, num_embeddings: int, dims: int):
        super().__init__()
        num_embeddings = positive_int("Embedding", "num_embeddings", num_embeddings)
        dims = positive_int("Embedding", "dims", dims)
        self.weight = mx.random.normal(shape=(num_embeddings, dims), scale=math.sqrt(1.0 / dims))

    def _extra_repr(self) -> str:
        num_embeddings, dims = self.weight.shape
        return f"{num_embeddings}, {dims}"

    def __call__(self, x: mx.array) -> mx.array:
        return self["weight"][x]

    def as_linear(self, x: mx.array) -> mx.array:
        """Use the table as the weight of a linear layer without bias, as for a model's tied output.

        Parameters
        ----------
        x : array, shape (..., dims)
            The input.

        Returns
        -------
        array, shape (..., num_embeddings)
            ``x @ weight.T``.

        Examples
        --------
        >>> from lamina import core as mx, nn
        >>> nn.Embedding(10, 4).as_linear(mx.ones((2, 4))).shape
        (2, 10)
        """
        return x @ self["weight"].T

    def to_quantized(
        self,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
        quantize_input: bool = False,
    ) -> Module:
        """Return the embedding with a quantized table; the arguments are as for :meth:`Linear.to_quantized`.

        Raises
        ------
        ValueError
            ``quantize_input`` is set, the mode does not exist, or ``dims`` is no multiple of the group size.

        Examples
        --------
        >>> from lamina import nn
        >>> nn.Embedding(10, 64).to_quantized()
        QuantizedEmbedding(10, 64, group_size=64, bits=4, mode=affine)
        """
        from lamina.nn.layers.quantized import QuantizedEmbedding

        if quantize_input:
            raise ValueError("Quantized input is not supported for Embedding: its input are integers.")
        return QuantizedEmbedding.from_embedding(self, group_size, bits, mode)
