"""Mamba's selective state space.

Each of D features keeps N numbers h that decay and take up input at a rate, the time step, which depends on
the input: h_t = exp(dt_t A) h_(t-1) + dt_t B_t x_t, and y_t = C_t . h_t + D x_t.

Shape letters: B batch, L new positions, D features, N state numbers of each, E embedding.
"""

from __future__ import annotations

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.cache import StateCache, StateSpec, run
from lamina.lm.config import DecoderConfig, MambaConfig
from lamina.lm.models.convolution import CausalConv
from lamina.lm.models.norms import make_norm

# Positions whose decays and inputs are made in one pass: their arrays stay in the caches.
_BLOCK = 16


def selective_scan(
    x: mx.array, steps: mx.array, decay: mx.array, take: mx.array, give: mx.array, state: mx.array | None
) -> tuple[mx.array, mx.array]:
    """Run the recurrence over positions.

    Parameters
    ----------
    x, steps : array (B, L, D)
        Inputs and time steps, float32.
    decay : array (N, D)
        A, negative.
    take, give : array (B, L, N)
        B and C.
    state : array (B, N, D), optional
        h before the first position; zeros by default.

    Returns
    -------
    tuple of array (B, L, D) and array (B, N, D)
        C . h for each position, and h after the last.
    """
    batch, length, features = x.shape
    if state is None:
        state = mx.zeros((batch, decay.shape[0], features))
    inputs = (steps * x)[:, :, None, :]
    out = []
    for start in range(0, length, _BLOCK):
        block = slice(start, min(start + _BLOCK, length))
        kept = mx.exp(steps[:, block, None, :] * decay)
        taken = inputs[:, block] * take[:, block, :, None]
        states = []
        for i in range(block.stop - block.start):
            state = kept[:, i] * state + taken[:, i]
            states.append(state)
        out.append((give[:, block, None, :] @ mx.stack(states, axis=1))[:, :, 0])
    return mx.concatenate(out, axis=1), state


class Mamba(nn.Module):
    """A selective state space behind a short convolution, as a :class:`MambaConfig` describes it."""

    part = "mamba"

    def __init__(self, config: MambaConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        inner, state = config.inner, config.state
        self.in_proj = nn.Linear(decoder.width, 2 * inner, bias=config.bias)
        self.conv1d = CausalConv(inner, config.kernel, config.conv_bias)
        self.x_proj = nn.Linear(inner, config.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(config.rank, inner)
        self.A_log = mx.broadcast_to(mx.log(mx.arange(1.0, state + 1)), (inner, state))
        self.D = mx.ones((inner,))
        self.out_proj = nn.Linear(inner, decoder.width, bias=config.bias)
        if config.norm is not None:
            self.dt_layernorm = make_norm(config.norm, config.rank)
            self.b_layernorm = make_norm(config.norm, state)
            self.c_layernorm = make_norm(config.norm, state)

    def __call__(self, x: mx.array, cache: StateCache | None = None) -> mx.array:
        """Map the L new positions of ``x`` (B, L, E), which follow those that ``cache`` has seen."""
        both = self.in_proj(x)
        inner, gate = both[..., : self.config.inner], both[..., self.config.inner :]
        y = run(cache, self._step, inner) * nn.silu(gate.astype(mx.float32))
        return self.out_proj(y.astype(x.dtype))

    def _step(self, state: list[mx.array] | None, x: mx.array) -> tuple[mx.array, list[mx.array]]:
        config = self.config
        before, memory = (None, None) if state is None else state
        x, before = self.conv1d(x, before)
        x = nn.silu(x)
        parts = self.x_proj(x)
        steps, take = parts[..., : config.rank], parts[..., config.rank : config.rank + config.state]
        give = parts[..., config.rank + config.state :]
        if config.norm is not None:
            steps, take, give = self.dt_layernorm(steps), self.b_layernorm(take), self.c_layernorm(give)
        wide = x.astype(mx.float32)
        y, memory = selective_scan(
            wide,
            nn.softplus(self.dt_proj(steps).astype(mx.float32)),
            -mx.exp(self["A_log"].astype(mx.float32)).T,
            take.astype(mx.float32),
            give.astype(mx.float32),
            memory,
        )
        return y + wide * self["D"].astype(mx.float32), [before, memory]

    def cache_spec(self) -> StateSpec:
        """Return what the layer caches: the last inputs of the convolution, and the state."""
        config = self.config
        return StateSpec(((config.kernel - 1, config.inner), (config.state, config.inner)))
