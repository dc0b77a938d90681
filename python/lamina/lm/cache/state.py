"""Caches of recurrent layers, and of layers that have both attention and a state."""

from __future__ import annotations

import lamina.core as mx
from lamina.lm.cache.layout import CacheLayout, StateLayout
from lamina.lm.cache.plain import KVCache
from lamina.lm.cache.protocol import StepFunction
from lamina.lm.errors import LMError


class RecurrentCache:
    """The state of a recurrent layer after the positions seen so far.

    Attributes
    ----------
    offset : int
        Positions seen.
    arrays : list of array
        The state, as the layer made it; empty before the first position.
    """

    def __init__(self) -> None:
        self.offset = 0
        self.arrays: list[mx.array] = []

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return sum(a.nbytes for a in self.arrays)

    @property
    def layout(self) -> StateLayout:
        """How the arrays hold the state: as they are."""
        return StateLayout()

    @property
    def room(self) -> int:
        """Positions that fit, those seen included: any number."""
        return 1 << 30

    @property
    def longest_step(self) -> int:
        """Positions that one step may append."""
        return 1 << 30

    def positions(self, length: int) -> mx.array:
        """Return the numbers of the next ``length`` positions, (L,) int32."""
        return mx.arange(self.offset, self.offset + length, dtype=mx.int32)

    def run(self, step: StepFunction, *inputs: mx.array) -> mx.array:
        """Run ``step`` from the state over ``inputs`` (B, L, ...) and keep the state after."""
        out, self.arrays = step(self.arrays or None, *inputs)
        self.advance(inputs[0].shape[1])
        return out

    def advance(self, length: int) -> None:
        """Count ``length`` positions that a step took."""
        self.offset += length

    def reserve(self, length: int) -> None:
        """Do nothing: a state does not grow."""

    def trimmable(self, count: int) -> bool:
        """Return whether the last ``count`` positions can be taken back: none can, or all."""
        return count in (0, self.offset)

    def trim(self, count: int) -> None:
        """Take back nothing or everything.

        Raises
        ------
        LMError
            Something in between is asked for.
        """
        if not self.trimmable(count):
            raise LMError(f"the state after {self.offset} positions cannot take back {count}")
        if count:
            self.offset, self.arrays = 0, []

    def mark(self, short: bool = False) -> list[mx.array]:
        """Return what :meth:`back` needs to come back to here later."""
        return list(self.arrays)

    def reaches(self, mark: list[mx.array] | None, offset: int) -> bool:
        """Return whether :meth:`back` can go to ``offset`` positions, where ``mark`` was made, if it was."""
        return mark is not None or self.trimmable(self.offset - offset)

    def back(self, mark: list[mx.array] | None, offset: int) -> None:
        """Go back to ``offset`` positions, where ``mark`` was made."""
        if mark is None:
            self.trim(self.offset - offset)
        else:
            self.arrays, self.offset = list(mark), offset

    def copy(self) -> RecurrentCache:
        """Return a cache with the same content."""
        other = RecurrentCache()
        other.offset, other.arrays = self.offset, list(self.arrays)
        return other


HybridMark = tuple[list[mx.array] | None, list[mx.array] | None]


class HybridCache:
    """The cache of a layer that has both: it uses ``attention`` and ``state``.

    Parameters
    ----------
    attention : KVCache
        Its keys and values.
    state : RecurrentCache
        Its recurrent state.
    """

    def __init__(self, attention: KVCache, state: RecurrentCache) -> None:
        self.attention, self.state = attention, state

    @property
    def offset(self) -> int:
        """Positions seen."""
        return self.state.offset

    @property
    def arrays(self) -> list[mx.array]:
        """Those of the attention, then those of the state."""
        return [*self.attention.arrays, *self.state.arrays]

    @arrays.setter
    def arrays(self, arrays: list[mx.array]) -> None:
        count = len(self.attention.arrays)
        self.attention.arrays, self.state.arrays = arrays[:count], arrays[count:]

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.attention.nbytes + self.state.nbytes

    @property
    def layout(self) -> CacheLayout:
        """How the arrays hold both."""
        return self.attention.layout, self.state.layout

    @property
    def room(self) -> int:
        """Positions that fit, those seen included, before buffers must grow."""
        return self.attention.room

    @property
    def longest_step(self) -> int:
        """Positions that one step may append."""
        return self.attention.longest_step

    def advance(self, length: int) -> None:
        """Count ``length`` positions that a step took."""
        self.attention.advance(length)
        self.state.advance(length)

    def reserve(self, length: int) -> None:
        """Make room for ``length`` more positions."""
        self.attention.reserve(length)

    def trimmable(self, count: int) -> bool:
        """Return whether the last ``count`` positions can be taken back: none can, or all."""
        return self.state.trimmable(count) and self.attention.trimmable(count)

    def trim(self, count: int) -> None:
        """Take back nothing or everything; raises :class:`LMError` for something in between."""
        self.state.trim(count)
        self.attention.trim(count)

    def mark(self, short: bool = False) -> HybridMark:
        """Return what :meth:`back` needs to come back to here later; ``short``: before much more comes."""
        return self.attention.mark(short), self.state.mark(short)

    def reaches(self, mark: HybridMark | None, offset: int) -> bool:
        """Return whether :meth:`back` can go to ``offset`` positions, where ``mark`` was made, if it was."""
        parts = mark or (None, None)
        return self.attention.reaches(parts[0], offset) and self.state.reaches(parts[1], offset)

    def back(self, mark: HybridMark | None, offset: int) -> None:
        """Go back to ``offset`` positions, where ``mark`` was made."""
        parts = mark or (None, None)
        self.attention.back(parts[0], offset)
        self.state.back(parts[1], offset)

    def copy(self) -> HybridCache:
        """Return a cache with the same content."""
        return HybridCache(self.attention.copy(), self.state.copy())
