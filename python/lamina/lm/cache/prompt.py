"""A prompt's caches, kept for prompts that begin alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lamina.lm.cache.make import CacheOptions, make_caches
from lamina.lm.cache.protocol import LayerSpec
from lamina.lm.errors import LMError

_KEPT_MARKS = 2


@dataclass(frozen=True)
class Mark:
    """Where a text was once: after ``length`` tokens, with what each cache needs to go back there."""

    length: int
    caches: tuple[Any, ...]


class PromptCache:
    """What a model keeps of a text, for continuing it, or another text that begins like it.

    Parameters
    ----------
    specs : sequence of LayerSpec
        What each layer caches (``model.cache_specs()``).
    options : CacheOptions, optional
        How positions are kept.

    Attributes
    ----------
    tokens : list of int
        The text whose positions are kept.
    caches : list of SequenceCache
        One cache for each layer.

    Examples
    --------
    >>> from lamina.lm.cache import AttentionSpec
    >>> cache = PromptCache([AttentionSpec(1, 8, 8)])
    >>> cache.begin([1, 2, 3])
    0
    """

    def __init__(self, specs: Sequence[LayerSpec], options: CacheOptions | None = None) -> None:
        self.specs = tuple(specs)
        self.options = options or CacheOptions()
        self.tokens: list[int] = []
        self.caches = make_caches(self.specs, 0, options)
        self._marks: list[Mark] = []

    @property
    def nbytes(self) -> int:
        """Bytes of the caches."""
        return sum(c.nbytes for c in self.caches)

    def begin(self, ids: Sequence[int], capacity: int = 0) -> int:
        """Make the caches hold a beginning of ``ids``, all but one at most, and return its length.

        ``capacity`` is the number of positions to make room for where nothing can be kept.
        """
        common = 0
        for own, new in zip(self.tokens, ids[:-1], strict=False):
            if own != new:
                break
            common += 1
        kept = self._back_to(common)
        if not kept:
            self.caches = make_caches(self.specs, capacity, self.options)
            self._marks = []
        self.tokens = list(ids[:kept])
        return kept

    def mark(self) -> None:
        """Remember the caches that forget, so that the text can be taken back to here."""
        if self.tokens:
            self._marks = [*self._marks[1 - _KEPT_MARKS :], self.here()]

    def here(self, short: bool = False) -> Mark:
        """Return where the text is now, to go :meth:`back` to; ``short``: before much more comes."""
        return Mark(len(self.tokens), tuple(c.mark(short) for c in self.caches))

    def back(self, mark: Mark) -> None:
        """Go back to where ``mark`` was made."""
        for cache, own in zip(self.caches, mark.caches, strict=True):
            cache.back(own, mark.length)
        self.tokens = self.tokens[: mark.length]

    def extend(self, tokens: Sequence[int]) -> None:
        """Count ``tokens`` whose positions the caches took."""
        self.tokens += tokens

    def settle(self) -> None:
        """Take back positions in the caches that are not counted; where that cannot be, forget everything."""
        ahead = [c.offset - len(self.tokens) for c in self.caches]
        if all(c.trimmable(count) for c, count in zip(self.caches, ahead, strict=True)):
            for cache, count in zip(self.caches, ahead, strict=True):
                cache.trim(count)
        else:
            self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.tokens, self._marks = [], []
        self.caches = make_caches(self.specs, 0, self.options)

    def _back_to(self, length: int) -> int:
        """Take the text back to ``length`` tokens, or to the last mark before; return where it is now."""
        plain = Mark(length, (None,) * len(self.caches))
        for mark in (plain, *reversed(self._marks)):
            pairs = zip(self.caches, mark.caches, strict=True)
            if mark.length <= length and all(c.reaches(own, mark.length) for c, own in pairs):
                self.back(mark)
                self._marks = [m for m in self._marks if m.length <= mark.length]
                return mark.length
        return 0


def check_fits(cache: PromptCache, specs: Sequence[LayerSpec]) -> None:
    """Raise :class:`LMError` where ``cache`` was made for layers that cache something else."""
    if cache.specs != tuple(specs):
        raise LMError("the prompt cache was made for a model whose layers cache something else")
