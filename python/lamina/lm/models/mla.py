"""Multi-head latent attention (DeepSeek V2).

Keys and values of head h are linear in one latent vector c of each position: k = U_h c, v = V_h c. Since
q . U_h c = (U_h' q) . c, queries are mapped to the latent space instead, all heads share c as their one key
and value, and only c and a rotated key are cached.

Shape letters: B batch, L new positions, H heads, E embedding, R latent features.
"""

from __future__ import annotations

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.cache import AttentionCache, AttentionSpec, attend, rotate
from lamina.lm.config import DecoderConfig, MLAConfig
from lamina.lm.models.rope import Rope

# That of the published models, whatever their config says of the other norms.
_LATENT_EPS = 1e-6


class LatentAttention(nn.Module):
    """Causal self-attention to latent vectors, as an :class:`MLAConfig` describes it."""

    part = "self_attn"

    def __init__(self, config: MLAConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.rope = Rope(config.rotary)
        width, turned = decoder.width, config.rotary.dims
        rows = config.heads * (config.plain_dim + turned)
        if config.query_rank is None:
            self.q_proj = nn.Linear(width, rows, bias=False)
        else:
            self.q_a_proj = nn.Linear(width, config.query_rank, bias=config.bias)
            self.q_a_layernorm = nn.RMSNorm(config.query_rank, eps=_LATENT_EPS)
            self.q_b_proj = nn.Linear(config.query_rank, rows, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(width, config.kv_rank + turned, bias=config.bias)
        self.kv_a_layernorm = nn.RMSNorm(config.kv_rank, eps=_LATENT_EPS)
        self.kv_b_proj = nn.Linear(
            config.kv_rank, config.heads * (config.plain_dim + config.value_dim), bias=False
        )
        self.o_proj = nn.Linear(config.heads * config.value_dim, width, bias=config.bias)

    def __call__(self, x: mx.array, cache: AttentionCache | None = None) -> mx.array:
        """Attend from the L new positions of ``x`` (B, L, E) to themselves and to what ``cache`` holds."""
        config = self.config
        batch, length, _ = x.shape
        if config.query_rank is None:
            queries = self.q_proj(x)
        else:
            queries = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        queries = queries.reshape(batch, length, config.heads, -1).transpose(0, 2, 1, 3)
        both = self.kv_a_proj_with_mqa(x)
        latent = self.kv_a_layernorm(both[..., : config.kv_rank])[:, None]
        turned_key = self._rotate(cache, both[:, None, :, config.kv_rank :])
        turned = self._rotate(cache, queries[..., config.plain_dim :])
        plain = self._by_head(queries[..., : config.plain_dim], slice(None, config.plain_dim), False)
        out = attend(
            cache,
            mx.concatenate([plain, turned], axis=-1),
            mx.concatenate([latent, turned_key], axis=-1),
            latent,
            scale=config.scale,
        )
        out = self._by_head(out, slice(config.plain_dim, None), True)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(batch, length, -1))

    def _rotate(self, cache: AttentionCache | None, x: mx.array) -> mx.array:
        turned = rotate(cache, self.rope, x)
        return turned if self.rope.magnitude == 1 else turned * self.rope.magnitude

    def _by_head(self, x: mx.array, rows: slice, transpose: bool) -> mx.array:
        """Multiply ``x`` (B, H, L, .) with each head's ``rows`` of ``kv_b_proj``'s matrix."""
        layer, heads = self.kv_b_proj, self.config.heads

        def of_heads(a: mx.array) -> mx.array:
            return a.reshape(heads, -1, a.shape[-1])[:, rows]

        if isinstance(layer, nn.QuantizedLinear):
            biases = layer.get("biases")
            return mx.quantized_matmul(
                x,
                of_heads(layer["weight"]),
                of_heads(layer["scales"]),
                None if biases is None else of_heads(biases),
                transpose=transpose,
                group_size=layer.group_size,
                bits=layer.bits,
                mode=layer.mode,
            )
        # Of another kind of layer, such as one with an adapter: what it makes of the identity.
        weight = layer["weight"] if type(layer) is nn.Linear else layer(mx.eye(self.config.kv_rank)).T
        matrices = of_heads(weight)
        return x @ (matrices.swapaxes(-1, -2) if transpose else matrices)

    def cache_spec(self) -> AttentionSpec:
        """Return what the layer caches: latent vectors, as the key and value of one head."""
        config = self.config
        return AttentionSpec(1, config.kv_rank + config.rotary.dims, config.kv_rank)
