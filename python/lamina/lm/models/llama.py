"""The Llama architecture."""

from __future__ import annotations

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.cache import AttentionSpec, Caches, KVCache, LayerSpec
from lamina.lm.config import LlamaConfig
from lamina.lm.models.blocks import DecoderLayer


class LlamaBody(nn.Module):
    """Token ids to hidden states: embedding, decoder layers, final norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [DecoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, tokens: mx.array, cache: Caches | None = None) -> mx.array:
        """Return the hidden states (B, L, E) of ``tokens`` (B, L)."""
        x = self.embed_tokens(tokens)
        for i, layer in enumerate(self.layers):
            x = layer(x, None if cache is None else cache[i])
        return self.norm(x)


class Llama(nn.Module):
    """A causal language model.

    ``model(tokens, cache)`` takes ids (B, L) and returns logits (B, L, V). The two halves, :meth:`hidden` and
    :meth:`head`, let a caller ask for the logits of chosen positions only.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = LlamaBody(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def __call__(self, tokens: mx.array, cache: Caches | None = None) -> mx.array:
        """Return the logits (B, L, V) of ``tokens`` (B, L)."""
        return self.head(self.hidden(tokens, cache))

    def hidden(self, tokens: mx.array, cache: Caches | None = None) -> mx.array:
        """Return the normed hidden states (B, L, E) of ``tokens`` (B, L), which follow those cached."""
        return self.model(tokens, cache)

    def head(self, hidden: mx.array) -> mx.array:
        """Return the logits (..., V) of hidden states (..., E)."""
        if self.config.tie_word_embeddings:
            return self.model.embed_tokens.as_linear(hidden)
        return self.lm_head(hidden)

    def cache_specs(self) -> list[LayerSpec]:
        """Return what each layer caches, in the order that ``cache`` lists them."""
        config = self.config
        spec = AttentionSpec(config.num_key_value_heads, config.head_dim, config.head_dim)
        return [spec] * config.num_hidden_layers

    def make_cache(self, capacity: int = 0) -> list[KVCache]:
        """Return one empty cache per layer, with room for ``capacity`` positions from the first update on."""
        return [KVCache(capacity) for _ in self.model.layers]
