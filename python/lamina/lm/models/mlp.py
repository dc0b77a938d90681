"""MLPs over features."""

from __future__ import annotations

from collections.abc import Callable

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.config import DecoderConfig, MLPConfig

ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "silu": nn.silu,
    "gelu": nn.gelu,
    "gelu_tanh": nn.gelu_approx,
    "gelu_sigmoid": nn.gelu_fast_approx,
    "relu": nn.relu,
    "relu2": nn.relu2,
}


class MLP(nn.Module):
    """``down(act(gate(x)) * up(x))`` or ``down(act(up(x)))``, as an :class:`MLPConfig` describes it."""

    part = "mlp"

    def __init__(self, config: MLPConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self._act = ACTIVATIONS[config.activation]
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
        if config.gate_scale != 1:
            gate = gate * config.gate_scale
        out = self[self._down](self._act(gate) * up)
        return out if config.out_scale == 1 else out * config.out_scale
