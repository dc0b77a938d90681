"""Causal self-attention.

Shape letters: B batch, L new positions, H query heads, K key-value heads, D head dim, E embedding.
"""

from __future__ import annotations

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.cache import AttentionCache, AttentionSpec, attend, rotate
from lamina.lm.config import AttentionConfig, DecoderConfig
from lamina.lm.models.norms import make_norm
from lamina.lm.models.rope import Rope


class Attention(nn.Module):
    """Causal self-attention with grouped key-value heads, as an :class:`AttentionConfig` describes it."""

    part = "self_attn"

    def __init__(self, config: AttentionConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.rope = None if config.rotary is None else Rope(config.rotary)
        # What the rotated part of a head is multiplied by, where the scores' factor cannot stand for it.
        self._magnitude: mx.array | None = None
        if self.rope is not None and self.rope.magnitude != 1:
            if self.rope.dims == config.head_dim:
                self.scale *= self.rope.magnitude**2
            else:
                turned = mx.arange(config.head_dim) < self.rope.dims
                self._magnitude = mx.where(turned, self.rope.magnitude, 1.0)
        self._make_projections(decoder)
        if config.sinks:
            self.sinks = mx.zeros((config.heads,))

    def _make_projections(self, decoder: DecoderConfig) -> None:
        config, width = self.config, decoder.width
        self._q, self._k, self._v, self._qkv, self._o, self._q_norm, self._k_norm = (
            decoder.name(p) for p in ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "q_norm", "k_norm")
        )
        rows, kv_rows = config.heads * config.head_dim, config.kv_heads * config.head_dim
        if config.fused:
            setattr(self, self._qkv, nn.Linear(width, rows + 2 * kv_rows, bias=config.qkv_bias))
        else:
            for name, size in ((self._q, rows), (self._k, kv_rows), (self._v, kv_rows)):
                setattr(self, name, nn.Linear(width, size, bias=config.qkv_bias))
        setattr(self, self._o, nn.Linear(rows, width, bias=config.out_bias))
        if config.qk_norm is not None:
            for name, heads in ((self._q_norm, config.heads), (self._k_norm, config.kv_heads)):
                dims = heads * config.head_dim if config.norm_all else config.head_dim
                setattr(self, name, make_norm(config.qk_norm, dims, heads))

    def __call__(self, x: mx.array, cache: AttentionCache | None = None) -> mx.array:
        """Attend from the L new positions of ``x`` (B, L, E) to themselves and to what ``cache`` holds."""
        config = self.config
        batch, length, _ = x.shape
        if config.in_scale != 1:
            x = x * config.in_scale
        queries, keys, values = (h.transpose(0, 2, 1, 3) for h in self._project(x))
        if self._magnitude is not None:
            queries, keys = (h * self._magnitude.astype(h.dtype) for h in (queries, keys))
        if self.rope is not None:
            queries, keys = rotate(cache, self.rope, queries), rotate(cache, self.rope, keys)
        out = attend(
            cache,
            queries,
            keys,
            values,
            scale=self.scale,
            window=config.window,
            sinks=self["sinks"] if config.sinks else None,
            softcap=config.softcap,
        )
        out = self[self._o](out.transpose(0, 2, 1, 3).reshape(batch, length, -1))
        return out if config.out_scale == 1 else out * config.out_scale

    def _project(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Return queries (B, L, H, D), keys and values (B, L, K, D), normed."""
        config = self.config
        if config.fused:
            queries, keys, values = self._split(self[self._qkv](x))
        else:
            queries, keys, values = self[self._q](x), self[self._k](x), self[self._v](x)
        if config.qk_norm is not None and config.norm_all:
            queries, keys = self[self._q_norm](queries), self[self._k_norm](keys)
        if config.clip is not None:
            queries, keys, values = (mx.clip(p, -config.clip, config.clip) for p in (queries, keys, values))
        shape = (*x.shape[:2], -1, config.head_dim)
        queries, keys, values = (p.reshape(shape) for p in (queries, keys, values))
        if config.qk_norm is not None and not config.norm_all:
            queries, keys = self[self._q_norm](queries), self[self._k_norm](keys)
        return queries, keys, values

    def _split(self, fused: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        config = self.config
        if config.fused == "by_head":
            by_head = fused.reshape(*fused.shape[:2], config.heads, 3, config.head_dim)
            return by_head[..., 0, :], by_head[..., 1, :], by_head[..., 2, :]
        rows, kv_rows = config.heads * config.head_dim, config.kv_heads * config.head_dim
        return fused[..., :rows], fused[..., rows : rows + kv_rows], fused[..., rows + kv_rows :]

    def cache_spec(self) -> AttentionSpec:
        """Return what the layer caches."""
        config = self.config
        return AttentionSpec(config.kv_heads, config.head_dim, config.head_dim, config.window)
