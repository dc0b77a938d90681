"""MLPs over features."""

from __future__ import annotations

from collections.abc import Callable

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.config import ClampedSwiGLU, DecoderConfig, MLPConfig

ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "silu": nn.silu,
    "gelu": nn.gelu,
    "gelu_tanh": nn.gelu_approx,
    "gelu_sigmoid": nn.gelu_fast_approx,
    "relu": nn.relu,
    "relu2": nn.relu2,
}


def gate_function(config: MLPConfig) -> Callable[[mx.array, mx.array], mx.array]:
    """Return what a gated MLP makes of its gate and of what that multiplies."""
    activation, scale = config.activation, config.gate_scale
    if isinstance(activation, ClampedSwiGLU):
        alpha, limit = activation.alpha, activation.limit

        def clamped(gate: mx.array, up: mx.array) -> mx.array:
            gate, up = mx.minimum(gate, limit), mx.clip(up, -limit, limit)
            return gate * mx.sigmoid(alpha * gate) * (up + 1)

        return clamped
    act = ACTIVATIONS[activation]
    if scale == 1:
        return lambda gate, up: act(gate) * up
    return lambda gate, up: act(gate * scale) * up


class MLP(nn.Module):
    """``down(act(gate(x)) * up(x))`` or ``down(act(up(x)))``, as an :class:`MLPConfig` describes it."""

    part = "mlp"

    def __init__(self, config: MLPConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        if config.gated:
            self._gated = gate_function(config)
        else:
            self._act = ACTIVATIONS[str(config.activation)]
        self._gate, self._up, self._both, self._down = (
            decoder.name(p) for p in ("gate_proj", "up_proj", "gate_up_proj", "down_proj")
        )
        width, hidden, bias = decoder.width, config.hidden, config.bias
        if config.gated and config.fused:
            setattr(self, self._both, nn.Linear(width, 2 * hidden, bias=bias))
        else:
            if config.gated:
                setattr(self, self._gate, nn.Linear(width, hidden, bias=bias))
            setattr(self, self._up, nn.Linear(width, hidden, bias=bias))
        setattr(self, self._down, nn.Linear(hidden, width, bias=bias))

    def __call__(self, x: mx.array) -> mx.array:
        """Map (..., E) to (..., E)."""
        config = self.config
        if not config.gated:
            return self[self._down](self._act(self[self._up](x)))
        if config.fused:
            both = self[self._both](x)
            gate, up = both[..., : config.hidden], both[..., config.hidden :]
        else:
            gate, up = self[self._gate](x), self[self._up](x)
        out = self[self._down](self._gated(gate, up))
        return out if config.out_scale == 1 else out * config.out_scale
