"""How models compute with quantized weights."""

from __future__ import annotations

from typing import Literal

import lamina.nn as nn
from lamina.lm.errors import LMError
from lamina.lm.layers import BlockLayer
from lamina.lm.models.switch import QuantizedSwitchLinear

Arithmetic = Literal["int8", "exact"]

_ACTIVATIONS = {"int8": "int8", "exact": "float"}


def set_arithmetic(model: nn.Module, arithmetic: Arithmetic) -> None:
    """Say how ``model`` multiplies by quantized weights.

    Parameters
    ----------
    model : Module
        The model; its layers are changed in place.
    arithmetic : {"int8", "exact"}
        ``"int8"`` rounds activations to 8 bits in each group, and multiplies integers: fast, and a row gets
        the same bits alone and in any batch. ``"exact"`` multiplies by the dequantized weights in float32.

    Raises
    ------
    LMError
        There is no such arithmetic.

    Examples
    --------
    >>> from lamina.lm import demo_path, load
    >>> model, _ = load(demo_path())
    >>> set_arithmetic(model, "int8")
    """
    if arithmetic not in _ACTIVATIONS:
        raise LMError(f"arithmetic must be one of {', '.join(_ACTIVATIONS)}, got {arithmetic!r}")
    layers = (nn.QuantizedLinear, nn.QuantizedEmbedding, QuantizedSwitchLinear, *BlockLayer)
    for module in model.modules():
        if isinstance(module, layers):
            module.activations = _ACTIVATIONS[arithmetic]
