"""Tiny random models of every kind of layer that caches something, in the manner of `lamina.lm.models`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import lamina.core as mx
import lamina.nn as nn
import numpy as np
from lamina.lm.cache import AttentionSpec, HybridSpec, StateSpec, attend, make_caches, rotate, run

VOCAB, WIDTH, HEADS, KV_HEADS, DIM = 320, 48, 4, 2, 16


@dataclass(frozen=True)
class ToyConfig:
    """Layers by kind: ``attention``, ``window``, ``capped`` (sinks and softcap), ``state``, ``hybrid``."""

    layers: tuple[str, ...] = ("attention", "attention")
    window: int = 24
    vocab_size: int = VOCAB
    max_position_embeddings: int = 512
    model_type: str = "toy"

    def to_dict(self) -> dict[str, Any]:
        """The fields, as configurations of real models give them."""
        return dataclasses.asdict(self)


class ToyLayer(nn.Module):
    def __init__(self, kind: str, config: ToyConfig) -> None:
        super().__init__()
        self.kind, self.window = kind, config.window if kind in ("window", "capped") else None
        for name, size in (("q", HEADS * DIM), ("k", KV_HEADS * DIM), ("v", KV_HEADS * DIM), ("g", WIDTH)):
            setattr(self, name, nn.Linear(WIDTH, size, bias=False))
        self.o = nn.Linear(HEADS * DIM, WIDTH, bias=False)
        self.sinks = mx.zeros((HEADS,))

    def spec(self):
        attention = AttentionSpec(KV_HEADS, DIM, DIM, self.window)
        if self.kind == "state":
            return StateSpec(((WIDTH,), (1, WIDTH)))
        return (
            HybridSpec(attention, StateSpec(((WIDTH,), (1, WIDTH)))) if self.kind == "hybrid" else attention
        )

    def _attention(self, x, cache):
        q, k, v = (
            p(x).reshape(*x.shape[:2], -1, DIM).transpose(0, 2, 1, 3) for p in (self.q, self.k, self.v)
        )

        def turn(x, offset):
            return mx.fast.rope(x, DIM, traditional=False, base=1e4, scale=1.0, offset=offset)

        extra: dict[str, Any] = {"sinks": self.sinks, "softcap": 5.0} if self.kind == "capped" else {}
        q, k = rotate(cache, turn, q), rotate(cache, turn, k)
        out = attend(cache, q, k, v, scale=DIM**-0.5, window=self.window, **extra)
        return self.o(out.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1))

    def _recurrence(self, x, cache):
        return run(cache, self._step, mx.sigmoid(self.g(x)), x)

    def _step(self, state, gates, x):
        """A gated average, and a sum with the input one position before, as short convolutions have it."""
        batch, length, width = x.shape
        average, before = state or [mx.zeros((batch, width)), mx.zeros((batch, 1, width))]
        outs = []
        for t in range(length):
            average = gates[:, t] * average + (1 - gates[:, t]) * x[:, t]
            outs.append(average)
        shifted = mx.concatenate([before, x[:, :-1]], axis=1)
        return mx.stack(outs, axis=1) + 0.5 * shifted, [average, x[:, -1:]]

    def __call__(self, x, cache=None):
        if self.kind == "state":
            return x + self._recurrence(x, cache)
        if self.kind == "hybrid":
            parts = (None, None) if cache is None else (cache.attention, cache.state)
            return x + self._attention(x, parts[0]) + self._recurrence(x, parts[1])
        return x + self._attention(x, cache)


class Toy(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.layers = [ToyLayer(kind, config) for kind in config.layers]

    def hidden(self, tokens, cache=None):
        x = self.embed(tokens)
        for i, layer in enumerate(self.layers):
            x = layer(mx.fast.rms_norm(x, None, 1e-5), None if cache is None else cache[i])
        return mx.fast.rms_norm(x, None, 1e-5)

    def head(self, hidden):
        return self.embed.as_linear(hidden)

    def __call__(self, tokens, cache=None):
        return self.head(self.hidden(tokens, cache))

    def cache_specs(self):
        return [layer.spec() for layer in self.layers]

    def make_cache(self, capacity: int = 0):
        return make_caches(self.cache_specs(), capacity)


KINDS = {
    "attention": ("attention", "attention"),
    "window": ("window", "attention", "window"),
    "capped": ("capped", "attention"),
    "state": ("state", "state"),
    "mixed": ("state", "attention", "window"),
    "hybrid": ("hybrid", "hybrid"),
}


def toy(kind: str, seed: int = 0, **options) -> Toy:
    """A model with weights that make its answers vary."""
    model = Toy(ToyConfig(KINDS[kind], **options))
    rng = np.random.default_rng(seed)
    for module in model.modules():
        for name, value in module.items():
            if isinstance(value, mx.array):
                scale = 1.0 if value.ndim == 1 else 2.0 / value.shape[-1] ** 0.5
                module[name] = mx.array((rng.standard_normal(value.shape) * scale).astype(np.float32))
    mx.eval(model.parameters())
    return model
