"""Caches: what a model keeps of the positions it has seen."""

from lamina.lm.cache.make import CacheOptions, SequenceCache, make_caches
from lamina.lm.cache.plain import KVCache, RotatingKVCache
from lamina.lm.cache.pool import KVFormat
from lamina.lm.cache.prompt import PromptCache
from lamina.lm.cache.protocol import (
    AttentionCache,
    AttentionSpec,
    Caches,
    HybridSpec,
    LayerCache,
    LayerSpec,
    StateCache,
    StateSpec,
    attend,
    causal_attention,
    rotate,
    run,
)
from lamina.lm.cache.state import HybridCache, RecurrentCache

__all__ = [
    "AttentionCache",
    "AttentionSpec",
    "CacheOptions",
    "Caches",
    "HybridCache",
    "HybridSpec",
    "KVCache",
    "KVFormat",
    "LayerCache",
    "LayerSpec",
    "PromptCache",
    "RecurrentCache",
    "RotatingKVCache",
    "SequenceCache",
    "StateCache",
    "StateSpec",
    "attend",
    "causal_attention",
    "make_caches",
    "rotate",
    "run",
]
