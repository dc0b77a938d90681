"""Where the caches of one sequence, or of several of one length, keep their positions.

A step of a model is a function of arrays: where it starts, and each layer's pool or state. What else it
depends on is a :class:`Layout`, which hashes, so that a compiled step serves every cache of the same layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lamina.core as mx
from lamina.lm.cache.pool import KVFormat, Pool, Rows, as_rows, from_rows
from lamina.lm.cache.protocol import Rotation, StepFunction


@dataclass(frozen=True)
class Layout:
    """How an attention layer keeps each sequence's positions: in a ring of ``blocks`` blocks of ``rows``.

    ``window`` limits what a position sees, itself included; None does not.
    """

    rows: int
    blocks: int
    format: KVFormat
    window: int | None = None

    def place(self, start: int | mx.array, batch: int, length: int, columns: int) -> Rows:
        """Return where ``length`` positions from number ``start`` on go, in each of ``batch`` sequences.

        ``columns`` blocks at least make up a whole sequence; the ring repeats among them.
        """
        new = mx.arange(length, dtype=mx.int32) + start
        if self.blocks > 1:
            new = (new // self.rows) % self.blocks * self.rows + new % self.rows
        if batch == 1:
            slots = new
        else:
            firsts = [[b * self.blocks * self.rows] for b in range(batch)]
            slots = (mx.array(firsts, dtype=mx.int32) + new[None]).reshape(-1)
        tables = [[b * self.blocks + c % self.blocks for c in range(columns)] for b in range(batch)]
        ends = [(b + 1) * length for b in range(batch)]
        lengths = mx.full((batch,), start + length, dtype=mx.int32)
        return Rows(slots, mx.array(tables, dtype=mx.int32), mx.array(ends, dtype=mx.int32), lengths)

    def columns(self, end: int) -> int:
        """Return how many blocks hold ``end`` positions: a power of two, so that it seldom changes."""
        return 1 if self.blocks == 1 else 1 << max(0, -(-end // self.rows) - 1).bit_length()


@dataclass(frozen=True)
class StateLayout:
    """A recurrent layer: its arrays are its state."""


CacheLayout = Layout | StateLayout | tuple[Layout, StateLayout]


class Step:
    """One step of a model over ``batch`` sequences that all start at position number ``start``."""

    def __init__(self, start: int | mx.array, batch: int, length: int, end: int) -> None:
        self.start, self.batch, self.length = start, batch, length
        self._end = end
        self._placed: dict[Layout, Rows] = {}

    def place(self, layout: Layout) -> Rows:
        """Return where the step's positions go; layers of one layout share it."""
        if layout not in self._placed:
            columns = layout.columns(self._end)
            self._placed[layout] = layout.place(self.start, self.batch, self.length, columns)
        return self._placed[layout]

    def positions(self, length: int) -> mx.array:
        """Return the numbers of the step's positions, (L,) int32."""
        return mx.arange(length, dtype=mx.int32) + self.start


class StepAttention:
    """An attention layer's cache during one step: ``pool`` is the pool before and, afterwards, after it."""

    def __init__(self, step: Step, layout: Layout, pool: Sequence[mx.array]) -> None:
        self._step, self._layout = step, layout
        self.pool: Pool = list(pool)

    def positions(self, length: int) -> mx.array:
        """Return the numbers of the next ``length`` positions, (L,) int32."""
        return self._step.positions(length)

    def rotate(self, rotation: Rotation, x: mx.array) -> mx.array:
        """Apply ``rotation`` to the new positions ``x`` (B, H, L, D)."""
        return rotation(x, self._step.start)

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
        """Append and attend, as :meth:`lamina.lm.cache.AttentionCache.attend` says."""
        rows, layout = self._step.place(self._layout), self._layout
        self.pool = layout.format.write(self.pool, as_rows(keys), as_rows(values), rows.slots)
        out = layout.format.attend(
            self.pool,
            as_rows(queries),
            rows,
            scale=scale,
            window=narrower(window, layout.window),
            sinks=sinks,
            softcap=softcap,
        )
        return from_rows(out, queries.shape[0])


class StepState:
    """A recurrent layer's cache during one step."""

    def __init__(self, step: Step, state: Sequence[mx.array]) -> None:
        self._step = step
        self.state = list(state)

    def positions(self, length: int) -> mx.array:
        """Return the numbers of the next ``length`` positions, (L,) int32."""
        return self._step.positions(length)

    def run(self, step: StepFunction, *inputs: mx.array) -> mx.array:
        """Run ``step`` from the state and keep the state after."""
        out, self.state = step(self.state or None, *inputs)
        return out


class StepHybrid:
    """The cache of a layer with both during one step."""

    def __init__(self, attention: StepAttention, state: StepState) -> None:
        self.attention, self.state = attention, state


StepCache = StepAttention | StepState | StepHybrid


def step_cache(step: Step, layout: CacheLayout, arrays: Sequence[mx.array]) -> StepCache:
    """Return the cache of a layer for ``step``, from the arrays that :func:`step_arrays` gives."""
    if isinstance(layout, Layout):
        return StepAttention(step, layout, arrays)
    if isinstance(layout, StateLayout):
        return StepState(step, arrays)
    attention, _ = layout
    parts = 2 if attention.format.bits is None else 4
    return StepHybrid(StepAttention(step, attention, arrays[:parts]), StepState(step, arrays[parts:]))


def step_arrays(cache: StepCache) -> list[mx.array]:
    """Return a layer's arrays after the step."""
    if isinstance(cache, StepAttention):
        return cache.pool
    if isinstance(cache, StepState):
        return cache.state
    return [*cache.attention.pool, *cache.state.state]


def narrower(a: int | None, b: int | None) -> int | None:
    """Return the smaller window; None is no limit."""
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)
