"""The caches of a model, from what its layers cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lamina.lm.cache.plain import KVCache, RotatingKVCache
from lamina.lm.cache.pool import KVFormat
from lamina.lm.cache.protocol import AttentionSpec, LayerSpec, StateSpec
from lamina.lm.cache.state import HybridCache, RecurrentCache
from lamina.lm.errors import LMError

SequenceCache = KVCache | RecurrentCache | HybridCache


@dataclass(frozen=True)
class CacheOptions:
    """How a model's positions are kept.

    Parameters
    ----------
    bits : int, optional
        Keep keys and values in 8 bits, or in 4 after a Hadamard transform; as they come by default.
    window : int, optional
        Let every position see this many at most, itself included, and keep no more: bounded memory, and a
        model that forgets.

    Raises
    ------
    LMError
        An option is out of its range.
    """

    bits: int | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        KVFormat(self.bits)
        if self.window is not None and self.window < 1:
            raise LMError(f"the window of a cache must be positive, got {self.window}")


def make_caches(
    specs: Sequence[LayerSpec], capacity: int = 0, options: CacheOptions | None = None
) -> list[SequenceCache]:
    """Return an empty cache for each layer that ``specs`` describe.

    Parameters
    ----------
    specs : sequence of LayerSpec
        What each layer caches (``model.cache_specs()``).
    capacity : int
        Positions to make room for at once; more are added when needed. 0 for not known.
    options : CacheOptions, optional
        How positions are kept.

    Returns
    -------
    list of KVCache, RecurrentCache or HybridCache

    Raises
    ------
    LMError
        A layer's keys or values cannot be kept in that many bits.

    Examples
    --------
    >>> specs = [AttentionSpec(2, 64, 64), AttentionSpec(2, 64, 64, window=32)]
    >>> [type(c).__name__ for c in make_caches(specs)]
    ['KVCache', 'RotatingKVCache']
    """
    return [_make(spec, capacity, options or CacheOptions()) for spec in specs]


def _make(spec: LayerSpec, capacity: int, options: CacheOptions) -> SequenceCache:
    if isinstance(spec, AttentionSpec):
        return _attention(spec, capacity, options)
    if isinstance(spec, StateSpec):
        return RecurrentCache()
    return HybridCache(_attention(spec.attention, capacity, options), RecurrentCache())


def _attention(spec: AttentionSpec, capacity: int, options: CacheOptions) -> KVCache:
    KVFormat(options.bits).check(spec)
    windows = [w for w in (spec.window, options.window) if w is not None]
    # A window that the positions never outgrow needs no ring.
    if not windows or 0 < capacity <= min(windows):
        return KVCache(capacity, bits=options.bits)
    return RotatingKVCache(min(windows), bits=options.bits)
