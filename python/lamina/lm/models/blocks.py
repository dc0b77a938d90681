"""Blocks that decoder-only architectures are put together from.

Shape letters: B batch, L new positions, S all positions, H query heads, K key-value heads, D head dim, E
embedding. Parameter names follow Hugging Face, so that published checkpoints load as they are.
"""

from __future__ import annotations

import math

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.cache import AttentionCache, attend, rotate
from lamina.lm.config import LlamaConfig, RopeScaling


def llama3_periods(dims: int, theta: float, scaling: RopeScaling) -> list[float]:
    """Return the ``dims // 2`` rotary periods (positions per radian) of Llama 3's stretched rotary embedding.

    Wavelengths shorter than ``original / high_freq_factor`` stay, those longer than ``original /
    low_freq_factor`` are multiplied by ``factor``, and those between are interpolated in frequency.
    """
    periods = []
    original = scaling.original_max_position_embeddings
    for i in range(0, dims, 2):
        frequency = theta ** (-i / dims)
        turns = original * frequency / (2 * math.pi)
        if turns < scaling.low_freq_factor:
            frequency /= scaling.factor
        elif turns <= scaling.high_freq_factor:
            blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
            frequency = (1 - blend) * frequency / scaling.factor + blend * frequency
        periods.append(1 / frequency)
    return periods


class Rope:
    """Rotary position embedding of (B, H, L, D), halves rotated against each other, as a config describes it.

    No module: it has nothing to train, and an empty branch in the tree of parameters would not survive a
    save.
    """

    def __init__(self, config: LlamaConfig) -> None:
        scaling = config.rope_scaling
        self.dims = config.head_dim
        self.base: float | None = config.rope_theta
        self.scale = 1 / scaling.factor if scaling and scaling.kind == "linear" else 1.0
        self._periods: mx.array | None = None
        if scaling and scaling.kind == "llama3":
            self.base = None
            self._periods = mx.array(llama3_periods(self.dims, config.rope_theta, scaling), dtype=mx.float32)

    def __call__(self, x: mx.array, offset: int | mx.array) -> mx.array:
        """Rotate (B, H, L, D), whose first position is number ``offset`` (one, or one for each of B)."""
        return mx.fast.rope(
            x,
            self.dims,
            traditional=False,
            base=self.base,
            scale=self.scale,
            offset=offset,
            freqs=self._periods,
        )


class Attention(nn.Module):
    """Causal self-attention with grouped key-value heads and rotary positions."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        self.scale = config.head_dim**-0.5
        width, bias = config.hidden_size, config.attention_bias
        self.q_proj = nn.Linear(width, self.heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(width, self.kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(width, self.kv_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(self.heads * self.head_dim, width, bias=bias)
        self.rope = Rope(config)

    def __call__(self, x: mx.array, cache: AttentionCache | None = None) -> mx.array:
        """Attend from the L new positions of ``x`` (B, L, E) to themselves and to what ``cache`` holds."""
        batch, length, _ = x.shape
        queries = self._split(self.q_proj(x), self.heads)
        keys = self._split(self.k_proj(x), self.kv_heads)
        values = self._split(self.v_proj(x), self.kv_heads)
        queries, keys = rotate(cache, self.rope, queries), rotate(cache, self.rope, keys)
        out = attend(cache, queries, keys, values, scale=self.scale)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(batch, length, -1))

    def _split(self, x: mx.array, heads: int) -> mx.array:
        batch, length, _ = x.shape
        return x.reshape(batch, length, heads, self.head_dim).transpose(0, 2, 1, 3)


class GatedMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))``."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width, hidden, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(width, hidden, bias=bias)
        self.up_proj = nn.Linear(width, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, width, bias=bias)

    def __call__(self, x: mx.array) -> mx.array:
        """Map (..., E) to (..., E)."""
        return self.down_proj(nn.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Attention and MLP, each behind an RMS norm and added to the residual stream."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = GatedMLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, x: mx.array, cache: AttentionCache | None = None) -> mx.array:
        """Map (B, L, E) to (B, L, E); ``cache`` holds the positions before."""
        x = x + self.self_attn(self.input_layernorm(x), cache)
        return x + self.mlp(self.post_attention_layernorm(x))
