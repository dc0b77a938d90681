"""Layers from one way of storing their weight to another."""

from __future__ import annotations

import math
from typing import Any

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.errors import ConfigError
from lamina.lm.io.checkpoint import Blocks
from lamina.lm.layers import (
    BlockEmbedding,
    BlockLayer,
    BlockLinear,
    BlockSwitchLinear,
    Fp8Linear,
    Fp8SwitchLinear,
)
from lamina.lm.models.switch import QuantizedSwitchLinear, SwitchLinear
from lamina.lm.quantization.exact import moved
from lamina.lm.quantization.formats import Format

# The classes for a weight in floating point, packed as mx.quantize packs, and in blocks.
_KINDS: tuple[tuple[type[nn.Module], type[nn.Module], type[nn.Module]], ...] = (
    (nn.Linear, nn.QuantizedLinear, BlockLinear),
    (nn.Embedding, nn.QuantizedEmbedding, BlockEmbedding),
    (SwitchLinear, QuantizedSwitchLinear, BlockSwitchLinear),
)


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
    if isinstance(module, (*BlockLayer, Fp8Linear)):
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
    if isinstance(module, Fp8Linear):
        return 4 * module["weight"].shape[-1]
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
        A linear layer, an embedding, or the linear layers of experts.
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
    own = {Fp8Linear: nn.Linear, Fp8SwitchLinear: SwitchLinear}.get(type(module))
    kinds = next((k for k in _KINDS if own in k or isinstance(module, k)), None)
    if kinds is None:
        raise ConfigError(f"{type(module).__name__} cannot be stored as {format}")
    parts = moved(module, format, dtype) or format.encode(dense_weight(module, dtype), importance)
    kind = kinds[0] if format.is_float else kinds[2] if format.is_block else kinds[1]
    layer: Any = kind.__new__(kind)
    nn.Module.__init__(layer)
    for name, value in parts.items():
        setattr(layer, name, value)
    if "bias" in module:
        layer.bias = module["bias"]
    if kind is nn.QuantizedEmbedding:
        layer.num_embeddings, layer.dims = rows_of(module), columns_of(module)
    if kind is BlockEmbedding:
        layer.dtype = dtype
    if not format.is_float:
        layer.mode = format.mode
        layer.freeze()
    if not (format.is_float or format.is_block):
        layer.group_size, layer.bits = format.group_size, format.bits
    return layer
