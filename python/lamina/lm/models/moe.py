"""Mixtures of experts.

Shape letters: T tokens, X experts, N experts that a token chooses, E embedding.
"""

from __future__ import annotations

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.config import DecoderConfig, MLPConfig, MoEConfig, RouterConfig
from lamina.lm.models.mlp import ACTIVATIONS, MLP, gate_function
from lamina.lm.models.switch import SwitchLinear


class SwitchMLP(nn.Module):
    """An MLP for each expert, as an :class:`MLPConfig` describes it."""

    def __init__(self, config: MLPConfig, experts: int, width: int) -> None:
        super().__init__()
        self.config = config
        hidden, bias = config.hidden, config.bias
        if config.gated:
            self._gated = gate_function(config)
            self.gate_proj = SwitchLinear(experts, width, hidden, bias)
        else:
            self._act = ACTIVATIONS[str(config.activation)]
        self.up_proj = SwitchLinear(experts, width, hidden, bias)
        self.down_proj = SwitchLinear(experts, hidden, width, bias)

    def __call__(self, x: mx.array, chosen: mx.array) -> mx.array:
        """Run rows ``x`` (T, E) through the experts ``chosen`` (T, N); return (T, N, E)."""
        rows = x[:, None, None, :]
        up = self.up_proj(rows, chosen)
        inner = self._gated(self.gate_proj(rows, chosen), up) if self.config.gated else self._act(up)
        return self.down_proj(inner, chosen)[:, :, 0, :]


class CorrectedGate(nn.Module):
    """A router's linear layer with biases that count for the choice only."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.weight = mx.zeros((experts, width))
        self.e_score_correction_bias = mx.zeros((experts,))

    def __call__(self, x: mx.array) -> mx.array:
        """Map (T, E) to (T, X)."""
        return x @ self["weight"].T


def choose(
    config: RouterConfig, outputs: mx.array, correction: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """Choose experts by the router's ``outputs`` (T, X), float32; return them and their weights, (T, N)."""
    scores = outputs
    if config.scoring == "softmax":
        scores = mx.softmax(outputs, axis=-1)
    elif config.scoring == "sigmoid":
        scores = mx.sigmoid(outputs)
    ranks = scores if correction is None else scores + correction
    if config.groups > 1:
        ranks = _within_groups(config, ranks)
    # Of equal scores the first wins; the order of those chosen does not matter.
    chosen = mx.stop_gradient(mx.argsort(-ranks, axis=-1)[:, : config.chosen])
    weights = mx.take_along_axis(scores, chosen, axis=-1)
    if config.scoring == "softmax_of_chosen":
        weights = mx.softmax(weights, axis=-1)
    if config.normalize:
        weights = weights / weights.sum(axis=-1, keepdims=True)
    return chosen, weights if config.scale == 1 else weights * config.scale


def _within_groups(config: RouterConfig, ranks: mx.array) -> mx.array:
    """Rank experts outside the best groups last."""
    groups = ranks.reshape(ranks.shape[0], config.groups, -1)
    if config.group_score == "max":
        of_group = groups.max(axis=-1)
    else:
        of_group = mx.sort(groups, axis=-1)[..., -2:].sum(axis=-1)
    best = mx.argsort(-of_group, axis=-1)[:, : config.chosen_groups]
    kept = (best[:, :, None] == mx.arange(config.groups)).any(axis=1)
    return mx.where(kept[:, :, None], groups, -mx.inf).reshape(ranks.shape)


class MoE(nn.Module):
    """A router, its experts, and perhaps an MLP for all tokens, as a :class:`MoEConfig` describes them."""

    part = "mlp"

    def __init__(self, config: MoEConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self._gate, self._experts, self._shared, self._shared_gate = (
            decoder.name(p) for p in ("gate", "switch_mlp", "shared_expert", "shared_expert_gate")
        )
        if config.router.correction:
            setattr(self, self._gate, CorrectedGate(decoder.width, config.experts))
        else:
            setattr(self, self._gate, nn.Linear(decoder.width, config.experts, bias=config.router.bias))
        setattr(self, self._experts, SwitchMLP(config.expert, config.experts, decoder.width))
        if config.shared is not None:
            setattr(self, self._shared, MLP(config.shared, decoder))
            if config.shared_gate:
                setattr(self, self._shared_gate, nn.Linear(decoder.width, 1, bias=False))

    def __call__(self, x: mx.array) -> mx.array:
        """Map (B, L, E) to (B, L, E), each position by itself."""
        rows = x.reshape(-1, x.shape[-1])
        gate = self[self._gate]
        correction = gate["e_score_correction_bias"] if self.config.router.correction else None
        # In float32: a choice between near equals is to be the same whatever the model's dtype.
        chosen, weights = choose(self.config.router, gate(rows.astype(mx.float32)), correction)
        out = self[self._experts](rows, chosen)
        out = (out * weights[..., None]).sum(axis=1).astype(x.dtype)
        if self.config.shared is not None:
            shared = self[self._shared](rows)
            if self.config.shared_gate:
                shared = shared * mx.sigmoid(self[self._shared_gate](rows))
            out = out + shared
        return out.reshape(x.shape)
