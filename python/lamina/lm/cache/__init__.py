"""Caches: what a model keeps of the positions it has seen."""

from lamina.lm.cache.plain import KVCache
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

__all__ = [
    "AttentionCache",
    "AttentionSpec",
    "Caches",
    "HybridSpec",
    "KVCache",
    "LayerCache",
    "LayerSpec",
    "StateCache",
    "StateSpec",
    "attend",
    "causal_attention",
    "rotate",
    "run",
]
