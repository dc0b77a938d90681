"""Which layer is stored how: one format for all, or a wider one where the model is most sensitive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import lamina.core as mx
import lamina.nn as nn
from lamina._lazy import numpy as np
from lamina.lm.errors import ConfigError
from lamina.lm.quantization.calibrate import packable
from lamina.lm.quantization.formats import Format
from lamina.lm.quantization.layers import columns_of

Log = Callable[[str], None]
# What a layer becomes where its rows do not divide into the groups of the wanted format: blocks of 32 in
# place of 256, else floats.
_SHORTER = {"q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
_FALLBACK = "bfloat16"


@dataclass(frozen=True)
class Recipe:
    """How a model is to be quantized.

    Attributes
    ----------
    base : Format
        The format of most layers.
    wide : Format, optional
        The format of the most sensitive ones.
    bits_per_weight : float
        Give layers the wide format while all packed weights together stay within so many bits each.
    head : Format, optional
        The format of the output layer and of the embedding; ``base`` by default.
    calibrate : bool
        Choose scales by what the inputs of each layer are on the calibration text.
    """

    base: Format
    wide: Format | None = None
    bits_per_weight: float = 0.0
    head: Format | None = None
    calibrate: bool = False

    def __post_init__(self) -> None:
        if self.wide is None:
            return
        low, high = self.base.bits_per_weight, self.wide.bits_per_weight
        if not low < high:
            raise ConfigError(
                f"the wide format {self.wide} ({high} bits) must be wider than {self.base} ({low})"
            )
        if not low <= self.bits_per_weight <= high:
            raise ConfigError(
                f"bits per weight must be from {low:g} ({self.base}) to {high:g} ({self.wide}), "
                f"got {self.bits_per_weight:g}"
            )

    @property
    def needs_text(self) -> bool:
        """Whether a calibration text is needed."""
        return self.calibrate or self.wide is not None


def is_head(path: str) -> bool:
    """Return whether the layer at ``path`` maps to or from token ids."""
    return path.rpartition(".")[2] in ("lm_head", "embed_tokens", "embed_out", "embed_in", "wte")


def is_router(path: str) -> bool:
    """Return whether the layer at ``path`` chooses experts: it is small, and stays as it is."""
    return path.rpartition(".")[2] in ("gate", "router", "shared_expert_gate")


def fitting(format: Format, columns: int) -> Format:
    """Return ``format``, or the nearest one into whose groups rows of ``columns`` weights divide.

    Examples
    --------
    >>> from lamina.lm.quantization.formats import parse_format
    >>> str(fitting(parse_format("q4_k"), 512)), str(fitting(parse_format("q4_k"), 320))
    ('q4_k', 'q5_0')
    """
    if columns % format.columns == 0:
        return format
    if format.mode in _SHORTER and columns % 32 == 0:
        return Format(_SHORTER[format.mode])
    return Format(_FALLBACK)


def uniform_plan(modules: Mapping[str, nn.Module], recipe: Recipe) -> dict[str, Format]:
    """Return the format of each layer by the recipe alone, the wide format and routers left aside."""
    return {
        path: fitting(recipe.head or recipe.base if is_head(path) else recipe.base, columns_of(module))
        for path, module in modules.items()
        if not is_router(path)
    }


def widen(
    plan: Mapping[str, Format],
    sizes: Mapping[str, int],
    costs: Mapping[str, float],
    recipe: Recipe,
) -> dict[str, Format]:
    """Return the plan with the wide format where a bit buys most.

    Parameters
    ----------
    plan : Mapping[str, Format]
        The format of each layer.
    sizes : Mapping[str, int]
        Weights of each layer.
    costs : Mapping[str, float]
        What storing that layer alone in its planned format does to the model: a divergence.
    recipe : Recipe
        The formats, and the bits for a weight in all.
    """
    assert recipe.wide is not None
    out = dict(plan)
    budget = recipe.bits_per_weight * sum(sizes.values())
    used = sum(plan[path].bits_per_weight * sizes[path] for path in sizes)

    def price(path: str) -> float:
        assert recipe.wide is not None
        return (recipe.wide.bits_per_weight - plan[path].bits_per_weight) * sizes[path]

    worth = sorted(costs, key=lambda path: costs[path] / max(price(path), 1.0), reverse=True)
    for path in worth:
        if out[path] == recipe.base and price(path) > 0 and used + price(path) <= budget:
            out[path] = recipe.wide
            used += price(path)
    return out


def layer_costs(
    model: Any,
    windows: np.ndarray,
    plan: Mapping[str, Format],
    encoded: Callable[[str, Format], nn.Module],
    paths: Iterable[str],
    log: Log,
) -> dict[str, float]:
    """Return the mean KL divergence that each layer alone causes in its planned format.

    Parameters
    ----------
    model : Module
        The model as it is.
    windows : ndarray (N, L)
        Token ids to run.
    plan : Mapping[str, Format]
        The formats.
    encoded : callable
        Makes the layer at a path in a format.
    paths : iterable of str
        The layers.
    log : callable
        Takes a line of progress.
    """
    from lamina.lm.io.fit import replace_modules

    ids = mx.array(windows)
    wanted = _log_probabilities(model, ids)
    mx.eval(wanted)
    costs: dict[str, float] = {}
    paths = list(paths)
    modules = packable(model)
    for number, path in enumerate(paths, 1):
        replace_modules(model, {path: encoded(path, plan[path])})
        found = _log_probabilities(model, ids)
        kl = (mx.exp(wanted) * (wanted - found)).sum(axis=-1).mean()
        costs[path] = max(float(kl.item()), 0.0)
        replace_modules(model, {path: modules[path]})
        log(f"sensitivity {number}/{len(paths)}: {path} {costs[path]:.2e}")
    return costs


def _log_probabilities(model: Any, ids: mx.array) -> mx.array:
    """Return log-probabilities (N, positions, V) of the last half of each window, in float32."""
    hidden = model.hidden(ids)[:, ids.shape[1] // 2 :]
    logits = model.head(hidden).astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)
