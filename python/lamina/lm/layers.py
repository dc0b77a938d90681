"""Layers over weights as published files pack them, run as they are stored."""

from __future__ import annotations

import lamina.core as mx
import lamina.nn as nn


class BlockLinear(nn.Module):
    """A linear layer over the blocks of a GGUF file.

    Parameters
    ----------
    weight : array
        The blocks, uint8 of shape (output_dims, bytes of a row).
    mode : str
        Their type, a mode of ``mx.quantized_matmul``.
    bias : array, optional
        Added to the output, (output_dims,).

    Examples
    --------
    >>> import lamina.core as mx
    >>> BlockLinear(mx.zeros((3, 144), mx.uint8), "q4_k")(mx.ones((2, 256))).shape
    (2, 3)
    """

    activations: str = "float"  # as in ``mx.quantized_matmul``

    def __init__(self, weight: mx.array, mode: str, bias: mx.array | None = None) -> None:
        super().__init__()
        self.mode = mode
        self.weight = weight
        if bias is not None:
            self.bias = bias
        self.freeze()

    def _extra_repr(self) -> str:
        rows = self.weight.shape[0]
        return f"{rows} rows of {self.mode}, bias={'bias' in self}"

    def __call__(self, x: mx.array) -> mx.array:
        """Map (..., input_dims) to (..., output_dims)."""
        y = mx.quantized_matmul(x, self["weight"], mode=self.mode, activations=self.activations)
        return y + self["bias"] if "bias" in self else y

    def dequantized(self, dtype: mx.Dtype) -> mx.array:
        """Return the weight (output_dims, input_dims)."""
        return mx.dequantize(self["weight"], mode=self.mode, dtype=dtype)


class BlockEmbedding(nn.Module):
    """An embedding whose table is blocks of a GGUF file; only the rows that are looked up are read.

    Parameters
    ----------
    weight : array
        The blocks, uint8 of shape (num_embeddings, bytes of a row).
    mode : str
        Their type, a mode of ``mx.dequantize``.
    dtype : Dtype
        Of the vectors.

    Examples
    --------
    >>> import lamina.core as mx
    >>> BlockEmbedding(mx.zeros((10, 144), mx.uint8), "q4_k", mx.float32)(mx.array([[1, 2]])).shape
    (1, 2, 256)
    """

    activations: str = "float"  # as in ``mx.quantized_matmul``

    def __init__(self, weight: mx.array, mode: str, dtype: mx.Dtype) -> None:
        super().__init__()
        self.mode = mode
        self.dtype = dtype
        self.weight = weight
        self.freeze()

    def _extra_repr(self) -> str:
        return f"{self.weight.shape[0]} rows of {self.mode}"

    def __call__(self, x: mx.array) -> mx.array:
        """Look up ids (...): vectors (..., dims)."""
        rows = mx.dequantize(self["weight"][x.reshape(-1)], mode=self.mode, dtype=self.dtype)
        return rows.reshape(*x.shape, rows.shape[-1])

    def as_linear(self, x: mx.array) -> mx.array:
        """Return ``x @ table.T``, (..., num_embeddings)."""
        return mx.quantized_matmul(x, self["weight"], mode=self.mode, activations=self.activations)

    def dequantized(self, dtype: mx.Dtype) -> mx.array:
        """Return the table (num_embeddings, dims)."""
        return mx.dequantize(self["weight"], mode=self.mode, dtype=dtype)


class BlockSwitchLinear(nn.Module):
    """A linear layer for each expert, over the blocks of a GGUF file.

    Parameters
    ----------
    weight : array
        The blocks, uint8 of shape (experts, output_dims, bytes of a row).
    mode : str
        Their type, a mode of ``mx.gather_qmm``.
    bias : array, optional
        Added to the output, (experts, output_dims).

    Examples
    --------
    >>> import lamina.core as mx
    >>> layer = BlockSwitchLinear(mx.zeros((4, 3, 144), mx.uint8), "q4_k")
    >>> layer(mx.ones((2, 1, 256)), mx.array([3, 0])).shape
    (2, 1, 3)
    """

    activations: str = "float"  # as in ``mx.gather_qmm``

    def __init__(self, weight: mx.array, mode: str, bias: mx.array | None = None) -> None:
        super().__init__()
        self.mode = mode
        self.weight = weight
        if bias is not None:
            self.bias = bias
        self.freeze()

    def _extra_repr(self) -> str:
        experts, rows, _ = self.weight.shape
        return f"{experts} experts, {rows} rows of {self.mode}, bias={'bias' in self}"

    def __call__(self, x: mx.array, experts: mx.array) -> mx.array:
        """Map (..., M, input_dims) to (..., M, output_dims), by the expert of ``experts`` (...)."""
        y = mx.gather_qmm(
            x, self["weight"], rhs_indices=experts, mode=self.mode, activations=self.activations
        )
        return y + self["bias"][experts][..., None, :] if "bias" in self else y

    def dequantized(self, dtype: mx.Dtype) -> mx.array:
        """Return the weights (experts, output_dims, input_dims)."""
        return mx.dequantize(self["weight"], mode=self.mode, dtype=dtype)


class _Fp8Weight(nn.Module):
    """What layers over 8-bit floats share: their weight, its scales, a bias."""

    mode = "fp8"

    def __init__(self, weight: mx.array, block_scales: mx.array, bias: mx.array | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.block_scales = block_scales
        if bias is not None:
            self.bias = bias
        self.freeze()

    def _extra_repr(self) -> str:
        rows, words = self.weight.shape[-2:]
        return f"{rows} rows of {4 * words} 8-bit floats, bias={'bias' in self}"

    def dequantized(self, dtype: mx.Dtype) -> mx.array:
        """Return the weight (output_dims, input_dims)."""
        return mx.dequantize(self["weight"], self["block_scales"], mode="fp8", dtype=dtype)


class Fp8Linear(_Fp8Weight):
    """A linear layer over 8-bit floats (E4M3) with a float32 scale for each 128 of a row.

    Parameters
    ----------
    weight : array
        Four codes in a word, uint32 of shape (output_dims, input_dims / 4).
    block_scales : array
        The bytes of the scales, uint8 of shape (output_dims, input_dims / 32).
    bias : array, optional
        Added to the output, (output_dims,).

    Examples
    --------
    >>> import lamina.core as mx
    >>> layer = Fp8Linear(mx.zeros((3, 64), mx.uint32), mx.ones((3, 2)).view(mx.uint8))
    >>> layer(mx.ones((2, 256))).shape
    (2, 3)
    """

    def __call__(self, x: mx.array) -> mx.array:
        """Map (..., input_dims) to (..., output_dims)."""
        y = mx.quantized_matmul(x, self["weight"], self["block_scales"], mode="fp8")
        return y + self["bias"] if "bias" in self else y


class Fp8SwitchLinear(_Fp8Weight):
    """The same for each expert: ``weight``, ``block_scales`` and ``bias`` begin with an axis of experts."""

    def __call__(self, x: mx.array, experts: mx.array) -> mx.array:
        """Map (..., M, input_dims) to (..., M, output_dims), by the expert of ``experts`` (...)."""
        y = mx.gather_qmm(x, self["weight"], self["block_scales"], rhs_indices=experts, mode="fp8")
        return y + self["bias"][experts][..., None, :] if "bias" in self else y


BlockLayer = (BlockLinear, BlockEmbedding, BlockSwitchLinear)
"""The layers over blocks, for ``isinstance``."""

Fp8Layer = (Fp8Linear, Fp8SwitchLinear)
"""The layers over 8-bit floats, for ``isinstance``."""


class PackedLinear(nn.QuantizedLinear):
    """A quantized linear layer whose scales may be wider than its inputs, and whose inputs may be reordered.

    The output has the input's dtype. ``order`` (input_dims,), where it is there, says which input each column
    of the packed weight belongs to.
    """

    def __call__(self, x: mx.array) -> mx.array:
        """Map (..., input_dims) to (..., output_dims)."""
        y = self._matmul(x[..., self["order"]] if "order" in self else x).astype(x.dtype)
        return y + self["bias"] if "bias" in self else y

    def dequantized(self, dtype: mx.Dtype) -> mx.array:
        """Return the weight (output_dims, input_dims), its columns in the order of the inputs."""
        scales, biases = (
            None if p is None else p.astype(mx.float32) for p in (self["scales"], self.get("biases"))
        )
        own = {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}
        weight = mx.dequantize(self["weight"], scales, biases, **own, dtype=mx.float32).astype(dtype)
        return weight[:, mx.argsort(self["order"])] if "order" in self else weight
