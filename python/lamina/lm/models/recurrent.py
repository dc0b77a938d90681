"""The real-gated linear recurrent unit of Griffin and RecurrentGemma.

Each feature follows h_t = a_t h_(t-1) + sqrt(1 - a_t^2) i_t x_t, where the decay a_t and the gate i_t depend
on the input.

Shape letters: B batch, L new positions, W features, H blocks of them, E embedding.
"""

from __future__ import annotations

import math

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.cache import StateCache, StateSpec, run
from lamina.lm.config import DecoderConfig, RecurrentConfig
from lamina.lm.models.convolution import CausalConv
from lamina.lm.models.mlp import ACTIVATIONS

# The paper's c: a_t = exp(-c softplus(parameter) gate).
_SHARPNESS = 8.0


def linear_scan(decay: mx.array, added: mx.array, state: mx.array) -> mx.array:
    """Return h_t = decay_t h_(t-1) + added_t for all positions, (B, L, W).

    Chunks of about sqrt(L) positions run side by side from zero; what was before each is added afterwards.

    Parameters
    ----------
    decay, added : array (B, L, W)
        Factors in [0, 1], and inputs.
    state : array (B, W)
        h before the first position.
    """
    batch, length, width = added.shape
    size = math.isqrt(length - 1) + 1
    chunks = -(-length // size)
    missing = chunks * size - length
    if missing:
        end = ((0, 0), (0, missing), (0, 0))
        decay, added = mx.pad(decay, end), mx.pad(added, end)
    decay, added = (a.reshape(batch, chunks, size, width) for a in (decay, added))
    local, product = [added[:, :, 0]], [decay[:, :, 0]]
    for i in range(1, size):
        local.append(decay[:, :, i] * local[-1] + added[:, :, i])
        product.append(decay[:, :, i] * product[-1])
    before = []
    for i in range(chunks):
        before.append(state)
        state = product[-1][:, i] * state + local[-1][:, i]
    carried = mx.stack(before, axis=1)[:, :, None]
    out = mx.stack(local, axis=2) + mx.stack(product, axis=2) * carried
    return out.reshape(batch, -1, width)[:, :length]


class GatedRecurrence(nn.Module):
    """The recurrence and its gates, each a matrix for every block of features."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        size = width // heads
        self.heads = heads
        self.recurrent_param = mx.ones((width,))
        self.input_gate_weight = mx.zeros((heads, size, size))
        self.input_gate_bias = mx.zeros((heads, size))
        self.recurrent_gate_weight = mx.zeros((heads, size, size))
        self.recurrent_gate_bias = mx.zeros((heads, size))

    def __call__(self, x: mx.array, state: mx.array | None) -> tuple[mx.array, mx.array]:
        """Map (B, L, W); return it and the state (B, W) after the last position, in float32."""
        opening = self._gate(x, self["input_gate_weight"], self["input_gate_bias"])
        rate = self._gate(x, self["recurrent_gate_weight"], self["recurrent_gate_bias"])
        log_decay = -_SHARPNESS * rate * nn.softplus(self["recurrent_param"].astype(mx.float32))
        share = mx.sqrt(-mx.expm1(2 * log_decay))
        if state is None:
            # Nothing decays before the first position, so that its input counts in full.
            share = mx.where(mx.arange(x.shape[1])[:, None] == 0, 1.0, share)
            state = mx.zeros((x.shape[0], x.shape[2]))
        out = linear_scan(mx.exp(log_decay), x.astype(mx.float32) * opening * share, state)
        return out, out[:, -1]

    def _gate(self, x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        blocks = x.reshape(*x.shape[:2], self.heads, -1).transpose(2, 0, 1, 3)
        rows = blocks.reshape(self.heads, -1, blocks.shape[-1]) @ weight
        out = rows.reshape(blocks.shape).transpose(1, 2, 0, 3) + bias
        return mx.sigmoid(out.reshape(x.shape).astype(mx.float32))


class Recurrent(nn.Module):
    """A gated recurrence behind a short convolution, times a branch of its input."""

    part = "recurrent"

    def __init__(self, config: RecurrentConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self._act = ACTIVATIONS[config.activation]
        width, inner = decoder.width, config.inner
        self.linear_y = nn.Linear(width, inner)
        self.linear_x = nn.Linear(width, inner)
        self.linear_out = nn.Linear(inner, width)
        self.conv_1d = CausalConv(inner, config.kernel, bias=True)
        self.rg_lru = GatedRecurrence(inner, config.heads)

    def __call__(self, x: mx.array, cache: StateCache | None = None) -> mx.array:
        """Map the L new positions of ``x`` (B, L, E), which follow those that ``cache`` has seen."""
        beside = self._act(self.linear_y(x))
        return self.linear_out(run(cache, self._step, self.linear_x(x)) * beside)

    def _step(self, state: list[mx.array] | None, x: mx.array) -> tuple[mx.array, list[mx.array]]:
        before, memory = (None, None) if state is None else state
        x, before = self.conv_1d(x, before)
        y, memory = self.rg_lru(x, memory)
        return y.astype(x.dtype), [before, memory]

    def cache_spec(self) -> StateSpec:
        """Return what the layer caches: the last inputs of the convolution, and the state."""
        config = self.config
        return StateSpec(((config.kernel - 1, config.inner), (config.inner,)))
