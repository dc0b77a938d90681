"""Layers from one way of storing their weight to another."""

from __future__ import annotations

import math
from typing import Any

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.errors import ConfigError
from lamina.lm.io.checkpoint import Blocks
from lamina.lm.layers import BlockEmbedding, BlockLinear
from lamina.lm.quantization.exact import moved
from lamina.lm.quantization.formats import Format

_EMBEDDINGS = (nn.Embedding, nn.QuantizedEmbedding, BlockEmbedding)
_LINEAR = (nn.Linear, nn.QuantizedLinear, BlockLinear)


def dense_weight(module: Any, dtype: mx.Dtype) -> mx.array:
    """Return the weight of a layer in floating point, however it is stored."""
    if hasattr(module, "dequantized"):
        return module.dequantized(dtype)
    if "scales" not in module:
        return module["weight"].astype(dtype)
    own = Format(module.mode, module.bits, module.group_size)
    return own.decode({k: module[k] for k in ("weight", "scales", "biases") if k in module}, dtype)


def stored_format(module: Any) -> Format:
    """Return how a layer's weight is stored."""
    if isinstance(module, (BlockLinear, BlockEmbedding)):
        return Format(module.mode)
    if "scales" in module:
        return Format(module.mode, module.bits, module.group_size)
    return Format(str(module["weight"].dtype).rpartition(".")[2])


def columns_of(module: Any) -> int:
    """Return the inputs of a layer, whatever its weight is stored as."""
    if hasattr(module, "mode") and module["weight"].dtype == mx.uint8:
        return Blocks(module["weight"], module.mode).shape[-1]
    if "scales" in module:
        return module["scales"].shape[-1] * module.group_size
    return module["weight"].shape[-1]


def rows_of(module: Any) -> int:
    """Return the rows of a layer's weight, over all experts."""
    return math.prod(module["weight"].shape[:-1])


def layer_in(
    module: Any, format: Format, importance: mx.array | None = None, dtype: mx.Dtype = mx.float32
) -> nn.Module:
    """Return a layer like ``module`` whose weight is stored in ``format``.

    Parameters
    ----------
    module : Module
        A linear layer or an embedding.
    format : Format
        How to store the weight.
    importance : array (inputs,), optional
        The mean square of each input; scales are chosen by it.
    dtype : Dtype
        Of affine scales, and of the vectors of an embedding.

    Raises
    ------
    ConfigError
        Layers of this class cannot be stored so.
    """
    if not isinstance(module, (*_EMBEDDINGS, *_LINEAR)):
        return _like(module, dense_weight(module, dtype), format, importance)
    parts = moved(module, format, dtype) or format.encode(dense_weight(module, dtype), importance)
    bias = module.get("bias")
    if format.is_block and isinstance(module, _EMBEDDINGS):
        return BlockEmbedding(parts["weight"], format.mode, dtype)
    if format.is_block:
        return BlockLinear(parts["weight"], format.mode, bias)
    kind = _class_for(format, isinstance(module, _EMBEDDINGS))
    layer: Any = kind.__new__(kind)
    nn.Module.__init__(layer)
    for name, value in parts.items():
        setattr(layer, name, value)
    if bias is not None:
        layer.bias = bias
    if isinstance(module, _EMBEDDINGS) and not format.is_float:
        layer.num_embeddings, layer.dims = rows_of(module), columns_of(module)
    if not format.is_float:
        layer.group_size, layer.bits, layer.mode = format.group_size, format.bits, format.mode
        layer.freeze()
    return layer


def _class_for(format: Format, embedding: bool) -> type[nn.Module]:
    if format.is_float:
        return nn.Embedding if embedding else nn.Linear
    return nn.QuantizedEmbedding if embedding else nn.QuantizedLinear


def _like(module: Any, weight: mx.array, format: Format, importance: mx.array | None) -> nn.Module:
    """Store the weight of a layer of another class, which knows its own packed form."""
    if format.is_float or format.is_block or not hasattr(module, "to_quantized"):
        raise ConfigError(f"{type(module).__name__} cannot be stored as {format}")
    layer = module.to_quantized(**format.packing())
    for name, value in format.encode(weight, importance).items():
        setattr(layer, name, value)
    return layer
