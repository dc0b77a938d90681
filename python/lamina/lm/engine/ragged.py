"""Caches of one step over sequences of different lengths, whose new tokens stand side by side as (1, T)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lamina.core as mx
from lamina.lm.cache.layout import narrower
from lamina.lm.cache.pool import KVFormat, Pool, Rows, as_rows, from_rows
from lamina.lm.cache.protocol import Rotation, StepFunction
from lamina.lm.engine.store import LayerPlan


@dataclass(frozen=True)
class Chunk:
    """Several tokens of one sequence: ``first`` to ``last`` among the T, and the slot of its state."""

    first: int
    last: int
    slot: int
    fresh: bool


@dataclass(frozen=True)
class RaggedStep:
    """What a step does, for all layers.

    Attributes
    ----------
    positions : array (T,), int32
        The number of each token's position.
    groups : sequence of Rows
        Where each group of layers keeps them.
    singles : int
        The first tokens are of as many sequences that have one each, and a past.
    single_slots : array (singles,), int32
        The slots of their states.
    chunks : sequence of Chunk
        The other sequences.
    """

    positions: mx.array
    groups: Sequence[Rows]
    singles: int
    single_slots: mx.array
    chunks: Sequence[Chunk]


class RaggedAttention:
    """An attention layer's cache during a step."""

    def __init__(self, step: RaggedStep, plan: LayerPlan, format: KVFormat, pool: Sequence[mx.array]) -> None:
        self._step, self._plan, self._format = step, plan, format
        self.pool: Pool = list(pool)

    def positions(self, length: int) -> mx.array:
        """Return the numbers of the step's positions, (T,) int32."""
        return self._step.positions

    def rotate(self, rotation: Rotation, x: mx.array) -> mx.array:
        """Apply ``rotation`` to the tokens of ``x`` (1, H, T, D), each at its own position."""
        by_token = x.transpose(2, 1, 0, 3)
        return rotation(by_token, self._step.positions).transpose(2, 1, 0, 3)

    def attend(
        self,
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        *,
        scale: float,
        window: int | None = None,
        sinks: mx.array | None = None,
        softcap: float | None = None,
    ) -> mx.array:
        """Append and attend, each token to its own sequence."""
        rows = self._step.groups[self._plan.group]
        self.pool = self._format.write(self.pool, as_rows(keys), as_rows(values), rows.slots)
        out = self._format.attend(
            self.pool,
            as_rows(queries),
            rows,
            scale=scale,
            window=narrower(window, self._plan.window),
            sinks=sinks,
            softcap=softcap,
        )
        return from_rows(out, 1)


class RaggedState:
    """A recurrent layer's cache during a step."""

    def __init__(self, step: RaggedStep, states: Sequence[mx.array]) -> None:
        self._step = step
        self.states = list(states)

    def positions(self, length: int) -> mx.array:
        """Return the numbers of the step's positions, (T,) int32."""
        return self._step.positions

    def run(self, step: StepFunction, *inputs: mx.array) -> mx.array:
        """Run ``step`` for each sequence; those with one token and a past together."""
        count, outs = self._step.singles, []
        if count:
            slots = self._step.single_slots
            states = [mx.take(a, slots, axis=0) for a in self.states]
            out, after = step(states, *(x[0, :count, None] for x in inputs))
            self._put(slots, after)
            outs.append(out[:, 0][None])
        for chunk in self._step.chunks:
            slot = mx.array([chunk.slot])
            before = None if chunk.fresh else [mx.take(a, slot, axis=0) for a in self.states]
            out, after = step(before, *(x[:, chunk.first : chunk.last] for x in inputs))
            self._put(slot, after)
            outs.append(out)
        return outs[0] if len(outs) == 1 else mx.concatenate(outs, axis=1)

    def _put(self, slots: mx.array, new: Sequence[mx.array]) -> None:
        for i, state in enumerate(new):
            self.states[i][slots] = state


class RaggedHybrid:
    """The cache of a layer with both during a step."""

    def __init__(self, attention: RaggedAttention, state: RaggedState) -> None:
        self.attention, self.state = attention, state


RaggedCache = RaggedAttention | RaggedState | RaggedHybrid


def ragged_cache(
    step: RaggedStep, plan: LayerPlan, format: KVFormat, arrays: Sequence[mx.array]
) -> RaggedCache:
    """Return the cache of a layer for ``step``, from its arrays in the store."""
    if plan.spec is None:
        return RaggedState(step, arrays)
    parts = 2 if format.bits is None else 4
    attention = RaggedAttention(step, plan, format, arrays[:parts])
    return RaggedHybrid(attention, RaggedState(step, arrays[parts:])) if plan.states else attention


def ragged_arrays(cache: RaggedCache) -> list[mx.array]:
    """Return a layer's arrays after the step."""
    if isinstance(cache, RaggedAttention):
        return cache.pool
    if isinstance(cache, RaggedState):
        return cache.states
    return [*cache.attention.pool, *cache.state.states]
