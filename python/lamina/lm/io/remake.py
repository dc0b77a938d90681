"""The layers of a model in other formats: which, and made one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lamina.core as mx
import lamina.nn as nn
from lamina._lazy import numpy as np
from lamina.lm.config import Quantization
from lamina.lm.errors import ConfigError
from lamina.lm.evaluate import encoded
from lamina.lm.io.fit import replace_modules
from lamina.lm.io.save import is_packed_for_mlx
from lamina.lm.quantization.calibrate import cut_windows, input_squares, packable
from lamina.lm.quantization.exact import moved, same_in_affine, same_in_blocks
from lamina.lm.quantization.formats import FP8, Format
from lamina.lm.quantization.layers import columns_of, layer_in, rows_of, stored_format
from lamina.lm.quantization.recipe import Recipe, is_router, layer_costs, uniform_plan, widen
from lamina.lm.tokenizer import Tokenizer
from lamina.utils import tree_flatten

Log = Callable[[str], None]
# Text for calibration: windows of tokens, for input statistics and for the cost of each layer.
CALIBRATION = (16, 512)
SENSITIVITY = (4, 256)


@dataclass
class Maker:
    """Chooses formats for the layers of a model, and makes the layers."""

    model: Any
    tokenizer: Tokenizer
    calibration: str | None
    log: Log

    def __post_init__(self) -> None:
        self.modules = packable(self.model)
        self.dtype = activation_dtype(self.model)
        self.importance: dict[str, mx.array] = {}

    def plan(self, quantization: Quantization | None, recipe: Recipe | None) -> dict[str, Format]:
        """Return the layers to store anew, and how."""
        if quantization is not None:
            return _declared_plan(self.modules, quantization)
        if recipe is None:
            return {}
        plan = uniform_plan(self.modules, recipe)
        if recipe.calibrate:
            windows = self._windows(*CALIBRATION)
            self.log(f"calibrating on {windows.size} tokens")
            self.importance = input_squares(self.model, windows)
        if recipe.wide is not None:
            candidates = [path for path, format in plan.items() if format == recipe.base]
            costs = layer_costs(
                self.model, self._windows(*SENSITIVITY), plan, self.layer, candidates, self.log
            )
            sizes = {path: rows_of(m) * columns_of(m) for path, m in self.modules.items() if path in plan}
            plan = widen(plan, sizes, costs, recipe)
        return plan

    def check_first_time(self, plan: Mapping[str, Format]) -> None:
        """Raise where a layer of the plan is in few bits already and would lose again."""
        for path, format in plan.items():
            own = stored_format(self.modules[path])
            if own.is_float or own.mode == FP8 or format.is_float or own == format:
                continue
            if moved(self.modules[path], format, self.dtype) is None:
                raise ConfigError(f"the model is quantized already ({own}), and '{path}' would be again")

    def layer(self, path: str, format: Format) -> nn.Module:
        """Return the layer at ``path`` in a format, computed."""
        made = layer_in(self.modules[path], format, self.importance.get(path), self.dtype)
        mx.eval([a for _, a in tree_flatten(made.parameters())])
        return made

    def store(self, plan: Mapping[str, Format]) -> None:
        """Replace the layers of the model by those of the plan, one after another."""
        for number, (path, format) in enumerate(plan.items(), 1):
            self.log(f"layer {number}/{len(plan)}: {path} as {format}")
            replace_modules(self.model, {path: self.layer(path, format)})
            del self.modules[path]  # what was computed of the old weight goes with it

    def _windows(self, count: int, length: int) -> np.ndarray:
        assert self.calibration is not None
        ids, _ = encoded(self.tokenizer, self.calibration)
        return cut_windows(ids, min(length, self.model.config.max_position_embeddings), count)


def _declared_plan(modules: Mapping[str, nn.Module], quantization: Quantization) -> dict[str, Format]:
    plan = {}
    for path, module in modules.items():
        own = quantization.for_module(path)
        if own is None or (is_router(path) and path not in quantization.overrides):
            continue
        format = Format(own["mode"], own["bits"], own["group_size"])
        if columns_of(module) % format.columns:
            raise ConfigError(
                f"'{path}' has rows of {columns_of(module)} weights, "
                f"not a multiple of group_size {format.columns}"
            )
        plan[path] = format
    return plan


def activation_dtype(model: Any) -> mx.Dtype:
    """Return the dtype of a model's vectors: what activations are computed in."""
    arrays = [a for _, a in tree_flatten(model.parameters()) if a.ndim == 1]
    return next((a.dtype for a in arrays if mx.issubdtype(a.dtype, mx.floating)), mx.float32)


def target_lacks(model: Any, plan: Mapping[str, Format], to_gguf: bool) -> dict[str, Format]:
    """Return a format for each layer outside of the plan that the target's files cannot hold as it is.

    With ``to_gguf`` the target is a GGUF file, else MLX's layout. The format is one that
    holds the same numbers, or else a floating dtype.
    """
    dtype = activation_dtype(model)
    plain = Format(str(dtype).rpartition(".")[2])
    found: dict[str, Format] = {}
    for path, module in packable(model).items():
        own = stored_format(module)
        held = own.is_float or own.is_block if to_gguf else is_packed_for_mlx(module)
        if path in plan or held:
            continue
        options = same_in_blocks(own.bits) if to_gguf else same_in_affine(own.mode)
        same = (f for f in options if moved(module, f, dtype) is not None)
        found[path] = next(same, plain)
    return found
