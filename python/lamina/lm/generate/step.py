"""One step of a model as one compiled function of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import lamina.core as mx
from lamina.lm.cache import LayerSpec, SequenceCache
from lamina.lm.cache.layout import CacheLayout, Step, step_arrays, step_cache


class LanguageModel(Protocol):
    """What generation asks of a model."""

    config: Any

    def hidden(self, tokens: mx.array, cache: Any = None) -> mx.array:
        """Return the hidden states (B, L, E) of ``tokens`` (B, L)."""
        ...

    def head(self, hidden: mx.array) -> mx.array:
        """Return the logits (..., V) of hidden states (..., E)."""
        ...

    def cache_specs(self) -> Sequence[LayerSpec]:
        """Return what each layer caches."""
        ...


class Decoder:
    """Steps a model on from its caches, without running its Python code again for every token.

    The first step of a shape records what the model does; later ones build that graph again. The model's
    weights are those of the first step.

    Parameters
    ----------
    model : LanguageModel
        The model.
    caches : list of SequenceCache
        Its caches, which hold a prompt.
    limit : int
        Positions that the caches will hold at most, as far as known.
    """

    def __init__(self, model: LanguageModel, caches: Sequence[SequenceCache], limit: int = 0) -> None:
        self._model = model
        self.caches = caches
        self._limit = limit
        self._run = mx.compile(self._step, whole=True)
        # How the caches keep their positions, by number; the last one holds up to so many positions.
        self._layouts: list[tuple[CacheLayout, ...]] = []
        self._span = self._room = 0

    def __call__(self, tokens: mx.array) -> mx.array:
        """Append ``tokens`` (B, L) and return their logits (B, L, V); nothing is evaluated."""
        length = tokens.shape[1]
        start = self.caches[0].offset
        if start + length > self._room:
            self._make_room(start + length)
        arrays = [c.arrays for c in self.caches]
        known = len(self._layouts) - 1
        logits, after = self._run(tokens, mx.array(start, dtype=mx.int32), arrays, known, self._span)
        for cache, new in zip(self.caches, after, strict=True):
            cache.arrays = new
            cache.advance(length)
        return logits

    def _make_room(self, end: int) -> None:
        for cache in self.caches:
            cache.reserve(end - cache.offset)
        layouts = tuple(c.layout for c in self.caches)
        if not self._layouts or layouts != self._layouts[-1]:
            self._layouts.append(layouts)
        self._room = min(c.room for c in self.caches)
        self._span = 1 << (max(self._limit, end) - 1).bit_length()
        self._room = min(self._room, self._span)

    def _step(
        self, tokens: mx.array, start: mx.array, arrays: list[list[mx.array]], known: int, span: int
    ) -> tuple[mx.array, list[list[mx.array]]]:
        step = Step(start, tokens.shape[0], tokens.shape[1], span)
        caches = [step_cache(step, *both) for both in zip(self._layouts[known], arrays, strict=True)]
        logits = self._model.head(self._model.hidden(tokens, caches))
        return logits, [step_arrays(c) for c in caches]
