"""Layers with quantized weights, and the function that puts them into a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lamina.core as mx
from lamina.nn.layers._check import positive_int
from lamina.nn.layers.base import Module
from lamina.utils import tree_map_with_path

__all__ = ["QQLinear", "QuantizedEmbedding", "QuantizedLinear", "quantize"]

# Mode: default group size and bits.
_MODES = {"affine": (64, 4), "mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}


def _with_defaults(mode: str, group_size: int | None, bits: int | None) -> tuple[int, int]:
    if mode not in _MODES:
        raise ValueError(f"Invalid quantization mode {mode!r}. Valid modes are: {', '.join(_MODES)}.")
    default_group_size, default_bits = _MODES[mode]
    return group_size or default_group_size, bits or default_bits


class _Quantized(Module):
    """A layer whose ``weight`` is packed, with ``scales`` and, in affine mode, ``biases``."""

    group_size: int
    bits: int
    mode: str
    activations: str = "float"  # as in ``mx.quantized_matmul``

    def _set_format(self, group_size: int | None, bits: int | None, mode: str) -> None:
        self.group_size, self.bits = _with_defaults(mode, group_size, bits)
        self.mode = mode

    def _quantize_weight(self, weight: mx.array) -> None:
        packed = mx.quantize(weight, self.group_size, self.bits, mode=self.mode)
        self.weight, self.scales = packed[0], packed[1]
        self.biases = packed[2] if len(packed) > 2 else None

    def _unpacked_dims(self) -> int:
        return self.weight.shape[-1] * 32 // self.bits

    def _format_repr(self) -> str:
        return f"group_size={self.group_size}, bits={self.bits}, mode={self.mode}"

    def _matmul(self, x: mx.array) -> mx.array:
        return mx.quantized_matmul(
            x,
            self["weight"],
            scales=self["scales"],
            biases=self.get("biases"),
            transpose=True,
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
            activations=self.activations,
        )


class QuantizedLinear(_Quantized):
    """:class:`Linear` with a quantized weight.

    Shapes: input ``(..., input_dims)``, output ``(..., output_dims)``; parameters ``weight`` of shape
    ``(output_dims, input_dims * bits / 32)`` and dtype uint32, ``scales`` and, in affine mode, ``biases`` of
    shape ``(output_dims, input_dims / group_size)``, and ``bias`` of shape ``(output_dims,)``. A new layer is
    frozen.

    Parameters
    ----------
    input_dims : int
        Entries of the input's last axis; a multiple of the group size.
    output_dims : int
        Entries of the output's last axis.
    bias : bool
        Whether to add a bias.
    group_size, bits : int, optional
        Weights per scale and bits per weight; the mode's defaults if not given: 64 and 4 for affine.
    mode : {"affine", "mxfp4", "nvfp4", "mxfp8"}
        How to quantize; see ``mx.quantize``.

    Raises
    ------
    ValueError
        The mode does not exist or does not allow for these bits and group size, or a size does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.QuantizedLinear(64, 8)(mx.ones((2, 64))).shape
    (2, 8)
    """

    def __init__(
        self,
        input_dims: int,
        output_dims: int,
        bias: bool = True,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
    ):
        super().__init__()
        self._set_format(group_size, bits, mode)
        input_dims = positive_int("QuantizedLinear", "input_dims", input_dims)
        output_dims = positive_int("QuantizedLinear", "output_dims", output_dims)
        bound = math.sqrt(1 / input_dims)
        self._quantize_weight(mx.random.uniform(low=-bound, high=bound, shape=(output_dims, input_dims)))
        if bias:
            self.bias = mx.zeros((output_dims,))
        self.freeze()

    def _extra_repr(self) -> str:
        return (
            f"input_dims={self._unpacked_dims()}, output_dims={self.weight.shape[0]}, bias={'bias' in self}, "
            f"{self._format_repr()}"
        )

    def __call__(self, x: mx.array) -> mx.array:
        y = self._matmul(x)
        return y + self["bias"] if "bias" in self else y

    @classmethod
    def from_linear(
        cls,
        linear_layer: Module,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
    ) -> QuantizedLinear:
        """Quantize the weight of a linear layer; its bias, if any, is shared and stays trainable.

        Parameters
        ----------
        linear_layer : Linear
            The layer to start from.
        group_size, bits, mode
            As for the class.

        Returns
        -------
        QuantizedLinear
            The new layer.

        Examples
        --------
        >>> from lamina import nn
        >>> nn.QuantizedLinear.from_linear(nn.Linear(64, 8), bits=8).scales.shape
        (8, 1)
        """
        layer = cls.__new__(cls)
        Module.__init__(layer)
        layer._set_format(group_size, bits, mode)
        layer._quantize_weight(linear_layer.weight)
        layer.freeze()
        if "bias" in linear_layer:
            layer.bias = linear_layer.bias
        return layer


class QuantizedEmbedding(_Quantized):
    """:class:`Embedding` with a quantized table.

    Shapes: input ``(...)`` of integers, output ``(..., dims)``; parameters ``weight``, ``scales`` and
    ``biases`` as those of :class:`QuantizedLinear` with ``num_embeddings`` rows. A new layer is frozen.
    Vectors are of the scales' dtype in the affine mode, and bfloat16 in the others, as in MLX: it holds what
    those can say exactly.

    Parameters
    ----------
    num_embeddings : int
        Entries of the table.
    dims : int
        Entries of each vector; a multiple of the group size.
    group_size, bits, mode
        As for :class:`QuantizedLinear`.

    Raises
    ------
    ValueError
        The mode does not exist or does not allow for these bits and group size, or a size does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.QuantizedEmbedding(10, 64)(mx.array([[1, 2]])).shape
    (1, 2, 64)
    >>> nn.QuantizedEmbedding(10, 64, mode="mxfp8")(mx.array([1])).dtype
    lamina.core.bfloat16
    """

    def __init__(
        self,
        num_embeddings: int,
        dims: int,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
    ):
        super().__init__()
        self._set_format(group_size, bits, mode)
        num_embeddings = positive_int("QuantizedEmbedding", "num_embeddings", num_embeddings)
        dims = positive_int("QuantizedEmbedding", "dims", dims)
        self._quantize_weight(mx.random.normal(shape=(num_embeddings, dims), scale=math.sqrt(1 / dims)))
        self.num_embeddings = num_embeddings
        self.dims = dims
        self.freeze()

    def _extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.dims}, {self._format_repr()}"

    def __call__(self, x: mx.array) -> mx.array:
        rows = x.reshape(x.size)
        biases = self.get("biases")
        table = mx.dequantize(
            self["weight"][rows],
            scales=self["scales"][rows],
            biases=None if biases is None else biases[rows],
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
        )
        return table.reshape(*x.shape, self.dims)

    def as_linear(self, x: mx.array) -> mx.array:
        """Use the table as the weight of a linear layer without bias; see :meth:`Embedding.as_linear`.

        Parameters
        ----------
        x : array, shape (..., dims)
            The input.

        Returns
        -------
        array, shape (..., num_embeddings)
            ``x @ table.T``.
        """
        return self._matmul(x)

    @classmethod
    def from_embedding(
        cls,
        embedding_layer: Module,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
    ) -> QuantizedEmbedding:
        """Quantize the table of an embedding.

        Parameters
        ----------
        embedding_layer : Embedding
            The layer to start from.
        group_size, bits, mode
            As for the class.

        Returns
        -------
        QuantizedEmbedding
            The new layer.

        Examples
        --------
        >>> from lamina import nn
        >>> nn.QuantizedEmbedding.from_embedding(nn.Embedding(10, 64), bits=8).scales.shape
        (10, 1)
        """
        layer = cls.__new__(cls)
        Module.__init__(layer)
        layer._set_format(group_size, bits, mode)
        layer.num_embeddings, layer.dims = embedding_layer.weight.shape
        layer._quantize_weight(embedding_layer.weight)
        layer.freeze()
        return layer


class QQLinear(Module):
    """A linear layer that quantizes both its weight and its input, for the modes ``nvfp4`` and ``mxfp8``.

    In training, ``weight`` is kept in full precision and quantized in each call, so that it can be learned.
    In evaluation mode it is kept quantized. There is no bias.

    Shapes: input ``(..., input_dims)``, output ``(..., output_dims)``.

    Parameters
    ----------
    input_dims : int
        Entries of the input's last axis; a multiple of the group size.
    output_dims : int
        Entries of the output's last axis.
    group_size, bits, mode
        As for :class:`QuantizedLinear`.

    Raises
    ------
    ValueError
        The mode does not exist, or a size does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> layer = nn.QQLinear(64, 8)
    >>> layer.weight.shape, layer.eval().weight.shape
    ((8, 64), (8, 8))
    """

    def __init__(
        self,
        input_dims: int,
        output_dims: int,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "nvfp4",
    ):
        super().__init__()
        input_dims = positive_int("QQLinear", "input_dims", input_dims)
        output_dims = positive_int("QQLinear", "output_dims", output_dims)
        bound = math.sqrt(1 / input_dims)
        self._start(
            mx.random.uniform(low=-bound, high=bound, shape=(output_dims, input_dims)), group_size, bits, mode
        )

    def _start(self, weight: mx.array, group_size: int | None, bits: int | None, mode: str) -> None:
        self.group_size, self.bits = _with_defaults(mode, group_size, bits)
        self.mode = mode
        self.weight = weight
        self._quantized = False
        self._weight_dtype = weight.dtype

    def _extra_repr(self) -> str:
        output_dims, input_dims = self.weight.shape
        if self._quantized:
            input_dims = input_dims * 32 // self.bits
        return (
            f"input_dims={input_dims}, output_dims={output_dims}, group_size={self.group_size}, "
            f"bits={self.bits}, mode={self.mode}"
        )

    def quantize(self) -> None:
        """Replace the full-precision weight by ``weight`` and ``scales`` in quantized form."""
        if not self._quantized:
            self._weight_dtype = self.weight.dtype
            self.weight, self.scales = mx.quantize(self.weight, self.group_size, self.bits, mode=self.mode)[
                :2
            ]
            self._quantized = True

    def dequantize(self) -> None:
        """Replace the quantized weight by one in full precision, in the dtype that it had."""
        if self._quantized:
            weight = mx.dequantize(
                self.weight, self.scales, group_size=self.group_size, bits=self.bits, mode=self.mode
            )
            self.weight = weight.astype(self._weight_dtype)
            del self.scales
            self._quantized = False

    def _set_training_mode(self, mode: bool) -> None:
        super()._set_training_mode(mode)
        if mode:
            self.dequantize()
        else:
            self.quantize()

    def __call__(self, x: mx.array) -> mx.array:
        return mx.qqmm(
            x,
            self["weight"],
            scales=self.get("scales"),
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
        )

    @classmethod
    def from_linear(
        cls,
        linear_layer: Module,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "nvfp4",
    ) -> QQLinear:
        """Take over the weight of a linear layer without bias.

        Parameters
        ----------
        linear_layer : Linear
            The layer to start from.
        group_size, bits, mode
            As for the class.

        Returns
        -------
        QQLinear
            The new layer, in the training mode that ``linear_layer`` is in.

        Raises
        ------
        NotImplementedError
            The layer has a bias.
        """
        if "bias" in linear_layer:
            raise NotImplementedError("QQLinear does not support bias yet.")
        layer = cls.__new__(cls)
        Module.__init__(layer)
        layer._start(linear_layer.weight, group_size, bits, mode)
        layer._set_training_mode(linear_layer.training)
        return layer


def quantize(
    model: Module,
    group_size: int | None = None,
    bits: int | None = None,
    *,
    mode: str = "affine",
    quantize_input: bool = False,
    class_predicate: Callable[[str, Module], bool | dict[str, Any]] | None = None,
) -> None:
    """Replace the layers inside a model by quantized ones, in place.

    Parameters
    ----------
    model : Module
        The model; it must contain the layers, not be one.
    group_size, bits : int, optional
        Weights per scale and bits per weight; the mode's defaults if not given: 64 and 4 for affine.
    mode : {"affine", "mxfp4", "nvfp4", "mxfp8"}
        How to quantize; see ``mx.quantize``.
    quantize_input : bool
        Whether linear layers quantize their input too; for ``nvfp4`` and ``mxfp8``.
    class_predicate : callable, optional
        ``class_predicate(path, module)`` says for each layer whether to quantize it; a dict says so and gives
        the arguments for ``module.to_quantized``. By default all layers with that method are quantized.

    Raises
    ------
    ValueError
        A chosen layer has no ``to_quantized`` method or cannot be quantized this way, or the predicate
        returns something else. The model is then unchanged.

    Examples
    --------
    >>> from lamina import nn
    >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    >>> nn.quantize(model, bits=8, class_predicate=lambda path, layer: path == "layers.0")
    >>> [type(layer).__name__ for layer in model.layers]
    ['QuantizedLinear', 'ReLU', 'Linear']
    """
    _with_defaults(mode, group_size, bits)
    chosen = class_predicate or (lambda _, layer: hasattr(layer, "to_quantized"))
    defaults: dict[str, Any] = {"group_size": group_size, "bits": bits, "mode": mode}
    if quantize_input:
        defaults["quantize_input"] = True

    def replace(path: str, layer: Any) -> Any:
        if not Module.is_module(layer):
            return layer
        choice = chosen(path, layer)
        if not isinstance(choice, (bool, dict)):
            raise ValueError(
                "[quantize] class_predicate must return a bool or a dict of arguments for to_quantized, got "
                f"{type(choice).__name__} for {path!r}"
            )
        if choice is False:
            return layer
        if not hasattr(layer, "to_quantized"):
            raise ValueError(
                f"[quantize] {path!r} cannot be quantized: {type(layer).__name__} has no to_quantized"
            )
        try:
            return layer.to_quantized(**(choice if isinstance(choice, dict) else defaults))
        except ValueError as error:
            raise ValueError(f"[quantize] {path!r}, {layer!r}: {error}") from error

    model.update_modules(tree_map_with_path(replace, model.leaf_modules(), is_leaf=Module.is_module))
