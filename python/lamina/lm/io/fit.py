"""Puts a checkpoint's tensors into a model: names, shapes and dtypes checked, packed modules kept packed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.config import Quantization
from lamina.lm.errors import CheckpointError, ConfigError
from lamina.lm.io.checkpoint import Blocks, Value
from lamina.lm.io.files import listed
from lamina.lm.layers import (
    BlockEmbedding,
    BlockLinear,
    BlockSwitchLinear,
    Fp8Linear,
    Fp8SwitchLinear,
    PackedLinear,
)
from lamina.lm.models.switch import SwitchLinear
from lamina.utils import tree_flatten, tree_map_with_path

# Packed as mx.quantize packs, where no biases are: by the bits of a code and the size of a group.
_FLOAT_MODES = {(4, 32): "mxfp4", (8, 32): "mxfp8", (4, 16): "nvfp4"}


def fit_weights(model: Any, weights: Mapping[str, Value], packed: bool | None = None) -> None:
    """Put ``weights`` into ``model``; layers whose weights are packed become layers over packed weights.

    Parameters
    ----------
    model : Module
        An untrained model of :func:`lamina.lm.models.build_model`.
    weights : Mapping[str, Value]
        Arrays and blocks by name. A module with ``.scales`` is packed as ``mx.quantize`` packs; mode, bits
        and group size follow from dtypes and shapes, and must be those of the configuration where it says.
    packed : bool, optional
        Whether packed weights are expected although the configuration does not speak of them.

    Raises
    ------
    CheckpointError
        Names are missing or unexpected, or a shape, a dtype or a packing differs from what the configuration
        wants.
    """
    config = model.config
    weights = model.sanitize(dict(weights))
    has_scales = {k.removesuffix(".scales") for k in weights if k.endswith(".scales")}
    if has_scales and config.quantization is None and not packed:
        raise CheckpointError(
            "the weights are quantized (they hold scales), but the config has no 'quantization'"
        )
    modules = dict(model.named_modules())
    changed = {p: _packed_module(p, modules.get(p), weights, config) for p in sorted(has_scales)}
    for name, value in weights.items():
        if name.endswith(".block_scales"):
            path = name.removesuffix(".block_scales")
            changed[path] = _fp8_module(path, modules.get(path), weights)
        if isinstance(value, Blocks):
            path = name.removesuffix(".weight")
            changed[path] = _block_module(name, modules.get(path), value, weights)
    replace_modules(model, {p: m for p, m in changed.items() if m is not None})
    arrays = {k: v.data if isinstance(v, Blocks) else v for k, v in weights.items()}
    _check(dict(tree_flatten(model.parameters())), arrays)
    model.load_weights(list(arrays.items()))


def replace_modules(model: nn.Module, changed: Mapping[str, nn.Module]) -> None:
    """Replace the leaf modules of ``model`` at the paths of ``changed``."""
    if changed:
        model.update_modules(
            tree_map_with_path(
                lambda path, module: changed.get(path, module),
                model.leaf_modules(),
                is_leaf=nn.Module.is_module,
            )
        )


def _check(wanted: Mapping[str, mx.array], given: Mapping[str, mx.array]) -> None:
    for problem, names in (
        ("lacks", wanted.keys() - given.keys()),
        ("has unexpected", given.keys() - wanted.keys()),
    ):
        if names:
            raise CheckpointError(f"the checkpoint {problem} weights: {listed(list(names))}")
    for name, value in given.items():
        if tuple(value.shape) != tuple(wanted[name].shape):
            raise CheckpointError(
                f"weight '{name}' has shape {tuple(value.shape)}, "
                f"the config wants {tuple(wanted[name].shape)}"
            )
        floating = mx.issubdtype(wanted[name].dtype, mx.floating)
        if floating and not mx.issubdtype(value.dtype, mx.floating):
            raise CheckpointError(
                f"weight '{name}' is of {value.dtype}, wanted floating point: its packing is not known"
            )


def _packed_module(
    path: str, module: nn.Module | None, weights: Mapping[str, Value], config: Any
) -> nn.Module | None:
    """Return the layer for the packed weights at ``path``; None where the names' check will complain."""
    weight, scales = weights.get(f"{path}.weight"), weights[f"{path}.scales"]
    if module is None or not isinstance(weight, mx.array) or not isinstance(scales, mx.array):
        return None
    if not hasattr(module, "to_quantized"):
        raise CheckpointError(f"'{path}' is packed, but {type(module).__name__} cannot be")
    packing = _packing(path, module.weight.shape, weight, scales, f"{path}.biases" in weights)
    declared = config.quantization
    if isinstance(declared, Quantization):
        own = declared.for_module(path)
        if own != packing:
            raise CheckpointError(
                f"'{path}' is packed as {packing}, but the config's quantization says {own}"
            )
    wide = (
        f"{path}.biases" in weights and scales.dtype == mx.float32 and not isinstance(declared, Quantization)
    )
    if type(module) is nn.Linear and (wide or f"{path}.order" in weights):
        return _packed_linear(module, packing, f"{path}.order" in weights)
    try:
        return module.to_quantized(**packing)
    except ValueError as e:
        raise CheckpointError(f"'{path}' cannot be packed as {packing}: {e}") from e


def _packing(
    path: str, shape: tuple[int, ...], weight: mx.array, scales: mx.array, biased: bool
) -> dict[str, Any]:
    """Return mode, bits and group size that the shapes of a packed weight and its scales stand for."""
    columns, words, groups = shape[-1], weight.shape[-1], scales.shape[-1]
    bits, group = words * 32 // columns, columns // max(groups, 1)
    mode = "affine" if biased else _FLOAT_MODES.get((bits, group)) if scales.dtype == mx.uint8 else None
    whole = words * 32 == bits * columns and group * groups == columns
    if weight.dtype != mx.uint32 or not whole or mode is None:
        raise CheckpointError(
            f"'{path}' has a weight of {weight.dtype} {tuple(weight.shape)} and scales of {scales.dtype} "
            f"{tuple(scales.shape)}, which is no known packing of {tuple(shape)}"
        )
    return {"group_size": group, "bits": bits, "mode": mode}


def _packed_linear(module: nn.Linear, packing: Mapping[str, Any], ordered: bool) -> nn.Module:
    layer = PackedLinear.from_linear(module, **packing)
    if ordered:
        layer.order = mx.zeros((module.weight.shape[-1],), mx.int32)
    layer.freeze()
    return layer


def _fp8_module(path: str, module: nn.Module | None, weights: Mapping[str, Value]) -> nn.Module | None:
    weight, scales = weights.get(f"{path}.weight"), weights[f"{path}.block_scales"]
    if module is None or not isinstance(weight, mx.array) or not isinstance(scales, mx.array):
        return None
    wanted = tuple(module.weight.shape)
    if (*weight.shape[:-1], 4 * weight.shape[-1]) != wanted:
        raise CheckpointError(
            f"weight '{path}.weight' has shape {(*weight.shape[:-1], 4 * weight.shape[-1])}, "
            f"the config wants {wanted}"
        )
    kinds = {nn.Linear: Fp8Linear, SwitchLinear: Fp8SwitchLinear}
    if type(module) not in kinds:
        raise CheckpointError(f"'{path}' is of 8-bit floats, but {type(module).__name__} cannot be")
    return kinds[type(module)](weight, scales, module.get("bias"))


def _block_module(
    name: str, module: nn.Module | None, blocks: Blocks, weights: Mapping[str, Value]
) -> nn.Module | None:
    if module is None or not name.endswith(".weight"):
        return None
    if tuple(blocks.shape) != tuple(module.weight.shape):
        raise CheckpointError(
            f"weight '{name}' has shape {blocks.shape}, the config wants {tuple(module.weight.shape)}"
        )
    if type(module) is nn.Linear:
        return BlockLinear(blocks.data, blocks.mode, module.get("bias"))
    if type(module) is nn.Embedding:
        return BlockEmbedding(blocks.data, blocks.mode, _activation_dtype(weights))
    if type(module) is SwitchLinear:
        return BlockSwitchLinear(blocks.data, blocks.mode, module.get("bias"))
    raise CheckpointError(
        f"weight '{name}' is of {blocks.mode}, but {type(module).__name__} cannot be packed"
    )


def _activation_dtype(weights: Mapping[str, Value]) -> mx.Dtype:
    """Return the dtype of the weights that are not packed: what activations are computed in."""
    kinds = [
        v.dtype for v in weights.values() if isinstance(v, mx.array) and mx.issubdtype(v.dtype, mx.floating)
    ]
    return kinds[0] if kinds else mx.float32


def quantize_modules(model: nn.Module, quantization: Quantization, only: set[str] | None = None) -> None:
    """Quantize the linear and embedding layers of ``model`` in place; with ``only``, just those paths.

    Raises
    ------
    ConfigError
        A layer's input size is not a multiple of the group size.
    """

    def choose(path: str, module: nn.Module) -> dict[str, Any] | bool:
        if not hasattr(module, "to_quantized") or (only is not None and path not in only):
            return False
        own = quantization.for_module(path)
        if own is None:
            return False
        if module.weight.shape[-1] % own["group_size"]:
            raise ConfigError(
                f"'{path}' has rows of {module.weight.shape[-1]} weights, "
                f"not a multiple of group_size {own['group_size']}"
            )
        return own

    nn.quantize(
        model, quantization.group_size, quantization.bits, mode=quantization.mode, class_predicate=choose
    )
