"""Mamba 2's state space: one decay for each head, which makes a chunk of positions a matrix product.

Within a chunk, position l sees position s by (C_l . B_s) exp(sum of the decays after s up to l), as a masked
attention without softmax; a state (P, N) of each head carries what was before the chunk.

Shape letters: B batch, L new positions, H heads, P features of a head, N state numbers, G groups, T length of
a chunk, E embedding.
"""

from __future__ import annotations

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.cache import StateCache, StateSpec, run
from lamina.lm.config import DecoderConfig, Mamba2Config
from lamina.lm.models.convolution import CausalConv

_CHUNK = 64


def state_space(
    x: mx.array, logs: mx.array, take: mx.array, give: mx.array, state: mx.array | None
) -> tuple[mx.array, mx.array]:
    """Run ``h_t = exp(logs_t) h_(t-1) + x_t take_t'`` and ``y_t = h_t give_t`` over positions, in float32.

    Parameters
    ----------
    x : array (B, L, H, P)
        Inputs, times their time steps.
    logs : array (B, L, H)
        Logarithms of the decays, not positive.
    take, give : array (B, L, H, N)
        What puts inputs into the state, and what reads it.
    state : array (B, H, P, N), optional
        h before the first position; zeros by default.

    Returns
    -------
    tuple of array (B, L, H, P) and array (B, H, P, N)
        y, and h after the last position.
    """
    batch, length, heads, features = x.shape
    if state is None:
        state = mx.zeros((batch, heads, features, take.shape[-1]))
    if length == 1:
        added = x[:, 0, :, :, None] * take[:, 0, :, None, :]
        state = mx.exp(logs[:, 0])[..., None, None] * state + added
        return (state @ give[:, 0, :, :, None])[:, None, ..., 0], state
    size = min(_CHUNK, length)
    # Further positions that neither decay nor add anything fill the last chunk.
    x, logs, take, give = (_chunks(a, size) for a in (x, logs, take, give))
    since = mx.cumsum(logs, axis=-1)
    causal = mx.arange(size)[:, None] >= mx.arange(size)
    seen = mx.exp(mx.where(causal, since[..., :, None] - since[..., None, :], -mx.inf))
    y = (give @ take.swapaxes(-1, -2) * seen) @ x
    until_end = mx.exp(since[..., -1:] - since)[..., None]
    added = (x * until_end).swapaxes(-1, -2) @ take
    whole = mx.exp(since[..., -1])[..., None, None]
    before = []
    for i in range(x.shape[1]):
        before.append(state)
        state = whole[:, i] * state + added[:, i]
    y = y + mx.exp(since)[..., None] * (give @ mx.stack(before, axis=1).swapaxes(-1, -2))
    y = y.swapaxes(2, 3).reshape(batch, -1, heads, features)
    return y[:, :length], state


def _chunks(a: mx.array, size: int) -> mx.array:
    """Return (B, L, H, ...) as (B, chunks, H, T, ...), the last chunk filled with zeros."""
    batch, length, *rest = a.shape
    missing = -length % size
    if missing:
        a = mx.concatenate([a, mx.zeros((batch, missing, *rest), dtype=a.dtype)], axis=1)
    return a.reshape(batch, -1, size, *rest).swapaxes(2, 3)


class GatedNorm(nn.Module):
    """RMS norm of each group of features, with a gate before or after it."""

    def __init__(self, features: int, groups: int, eps: float, norm_first: bool) -> None:
        super().__init__()
        self.weight = mx.ones((features,))
        self.groups, self.eps, self.norm_first = groups, eps, norm_first

    def __call__(self, x: mx.array, gate: mx.array) -> mx.array:
        """Norm (..., F), times the open part (..., F) that the gate lets through; both float32."""
        if not self.norm_first:
            x = x * gate
        groups = x.reshape(*x.shape[:-1], self.groups, -1)
        x = mx.fast.rms_norm(groups, None, self.eps).reshape(x.shape) * self["weight"].astype(mx.float32)
        return x * gate if self.norm_first else x


class Mamba2(nn.Module):
    """A state space behind a short convolution, as a :class:`Mamba2Config` describes it."""

    part = "mamba"

    def __init__(self, config: Mamba2Config, decoder: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.inner = config.heads * config.head_dim
        self.mixed = self.inner + 2 * config.groups * config.state
        width = decoder.width
        self.in_proj = nn.Linear(width, self.inner + self.mixed + config.heads, bias=config.bias)
        self.conv1d = CausalConv(self.mixed, config.kernel, config.conv_bias)
        self.dt_bias = mx.ones((config.heads,))
        self.A_log = mx.log(mx.arange(1.0, config.heads + 1))
        self.D = mx.ones((config.heads,))
        if config.norm is not None:
            self.norm = GatedNorm(self.inner, config.groups, config.norm.eps, config.norm_first)
        self.out_proj = nn.Linear(self.inner, width, bias=config.out_bias)
        self._scales: mx.array | None = None
        if any(s != 1 for s in config.part_scales):
            sizes = (self.inner, self.inner, *[config.groups * config.state] * 2, config.heads)
            parts = [mx.full((n,), s) for n, s in zip(sizes, config.part_scales, strict=True)]
            self._scales = mx.concatenate(parts)

    def __call__(self, x: mx.array, cache: StateCache | None = None) -> mx.array:
        """Map the L new positions of ``x`` (B, L, E), which follow those that ``cache`` has seen."""
        config = self.config
        if config.in_scale != 1:
            x = x * config.in_scale
        parts = self.in_proj(x)
        if self._scales is not None:
            parts = parts * self._scales.astype(parts.dtype)
        gate, mixed = parts[..., : self.inner], parts[..., self.inner : self.inner + self.mixed]
        y = run(cache, self._step, mixed, parts[..., self.inner + self.mixed :])
        gate = nn.silu(gate.astype(mx.float32))
        y = self.out_proj((y * gate if config.norm is None else self.norm(y, gate)).astype(x.dtype))
        return y if config.out_scale == 1 else y * config.out_scale

    def _step(
        self, state: list[mx.array] | None, mixed: mx.array, steps: mx.array
    ) -> tuple[mx.array, list[mx.array]]:
        config = self.config
        before, memory = (None, None) if state is None else state
        mixed, before = self.conv1d(mixed, before)
        mixed = nn.silu(mixed).astype(mx.float32)
        x = mixed[..., : self.inner].reshape(*mixed.shape[:2], config.heads, config.head_dim)
        take, give = self._by_head(mixed[..., self.inner :])
        steps = nn.softplus(steps.astype(mx.float32) + self["dt_bias"].astype(mx.float32))
        low, high = config.step_limits
        if low > 0 or high < float("inf"):
            steps = mx.clip(steps, low, high)
        logs = -mx.exp(self["A_log"].astype(mx.float32)) * steps
        y, memory = state_space(x * steps[..., None], logs, take, give, memory)
        y = y + x * self["D"].astype(mx.float32)[:, None]
        return y.reshape(*y.shape[:2], -1), [before, memory]

    def _by_head(self, both: mx.array) -> tuple[mx.array, mx.array]:
        """Split the state's inputs and outputs of G groups into those of heads, (B, L, H, N)."""
        config = self.config
        both = both.reshape(*both.shape[:2], 2, config.groups, 1, config.state)
        each = (*both.shape[:4], config.heads // config.groups, config.state)
        both = mx.broadcast_to(both, each).reshape(*both.shape[:3], config.heads, config.state)
        return both[:, :, 0], both[:, :, 1]

    def cache_spec(self) -> StateSpec:
        """Return what the layer caches: the last inputs of the convolution, and the state."""
        config = self.config
        state = (config.heads, config.head_dim, config.state)
        return StateSpec(((config.kernel - 1, self.mixed), state))
