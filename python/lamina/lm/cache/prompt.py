"""A prompt's caches, kept for prompts that begin alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lamina.lm.cache.make import CacheOptions, SequenceCache, make_caches
from lamina.lm.cache.plain import KVCache
from lamina.lm.cache.protocol import LayerSpec
from lamina.lm.errors import LMError

_KEPT_MARKS = 2


@dataclass
class _Mark:
    """The caches that may not be trimmed later, as they were after ``length`` positions."""

    length: int
    caches: dict[int, SequenceCache] = field(default_factory=dict)


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
        self._marks: list[_Mark] = []

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
        fixed = {
            i: c.copy()
            for i, c in enumerate(self.caches)
            if not (isinstance(c, KVCache) and c.window is None)
        }
        if fixed and self.tokens:
            self._marks = [*self._marks[1 - _KEPT_MARKS :], _Mark(len(self.tokens), fixed)]

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
        if all(c.trimmable(c.offset - length) for c in self.caches):
            return self._restored(length, {})
        for mark in reversed(self._marks):
            rest = [c for i, c in enumerate(self.caches) if i not in mark.caches]
            if mark.length <= length and all(c.trimmable(c.offset - mark.length) for c in rest):
                return self._restored(mark.length, mark.caches)
        return 0

    def _restored(self, length: int, caches: dict[int, SequenceCache]) -> int:
        for i, cache in enumerate(self.caches):
            if i in caches:
                self.caches[i] = caches[i].copy()
            else:
                cache.trim(cache.offset - length)
        self._marks = [m for m in self._marks if m.length <= length]
        return length


def check_fits(cache: PromptCache, specs: Sequence[LayerSpec]) -> None:
    """Raise :class:`LMError` where ``cache`` was made for layers that cache something else."""
    if cache.specs != tuple(specs):
        raise LMError("the prompt cache was made for a model whose layers cache something else")
