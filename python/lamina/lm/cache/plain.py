"""The key-value cache of one attention layer."""

from __future__ import annotations

import lamina.core as mx
from lamina.lm.cache.protocol import Rotation, causal_attention
from lamina.lm.errors import LMError


class KVCache:
    """Keys and values of the positions seen so far, in buffers that grow in whole steps.

    Between two growths an update writes into the buffer's free part and returns views: a steady decode step
    allocates no new buffer.

    Parameters
    ----------
    capacity : int
        Positions to make room for at the first update; more are added when needed.
    step : int
        Buffers hold a multiple of this many positions.

    Examples
    --------
    >>> import lamina.core as mx
    >>> cache = KVCache()
    >>> k, v = cache.update(mx.ones((1, 2, 3, 4)), mx.ones((1, 2, 3, 4)))
    >>> k.shape, cache.offset, cache.capacity
    ((1, 2, 3, 4), 3, 256)
    """

    def __init__(self, capacity: int = 0, step: int = 256) -> None:
        if step <= 0:
            raise LMError(f"KVCache: step must be positive, got {step}")
        self.step = step
        self.offset = 0
        self._wanted = capacity
        self._buffers: tuple[mx.array, mx.array] | None = None

    @property
    def capacity(self) -> int:
        """Positions that fit before the buffers must grow."""
        return 0 if self._buffers is None else self._buffers[0].shape[2]

    @property
    def state(self) -> list[mx.array]:
        """The buffers, to evaluate or count; empty before the first update."""
        return [] if self._buffers is None else list(self._buffers)

    def positions(self, length: int) -> mx.array:
        """Return the numbers of the next ``length`` positions, (L,) int32."""
        return mx.arange(self.offset, self.offset + length, dtype=mx.int32)

    def rotate(self, rotation: Rotation, x: mx.array) -> mx.array:
        """Apply ``rotation`` to the new positions ``x`` (B, H, L, D)."""
        return rotation(x, self.offset)

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
        keys, values = self.update(keys, values)
        return causal_attention(
            queries, keys, values, scale=scale, window=window, sinks=sinks, softcap=softcap
        )

    def update(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append ``keys`` and ``values`` (B, H, L, D) and return all (B, H, offset, D) of both.

        Raises
        ------
        LMError
            The batch, head or head-dimension sizes differ from those cached.
        """
        start, end = self.offset, self.offset + keys.shape[2]
        old_keys, old_values = self._buffers or (None, None)
        own_keys = self._fitting("keys", old_keys, keys, end)
        own_values = self._fitting("values", old_values, values, end)
        own_keys[..., start:end, :] = keys
        own_values[..., start:end, :] = values
        self._buffers, self.offset = (own_keys, own_values), end
        return own_keys[..., :end, :], own_values[..., :end, :]

    def _fitting(self, name: str, old: mx.array | None, new: mx.array, end: int) -> mx.array:
        """Return ``old`` where it has room for ``end`` positions like ``new``'s, else a larger copy."""
        batch, heads, _, dim = new.shape
        if old is not None and (old.shape[0], old.shape[1], old.shape[3]) != (batch, heads, dim):
            raise LMError(
                f"KVCache: wanted {name} of shape ({old.shape[0]}, {old.shape[1]}, L, {old.shape[3]}), "
                f"got {tuple(new.shape)}"
            )
        if old is not None and end <= old.shape[2]:
            return old
        rows = -(-max(end, self._wanted) // self.step) * self.step
        if old is None:
            return mx.zeros((batch, heads, rows, dim), dtype=new.dtype)
        more = mx.zeros((batch, heads, rows - self.offset, dim), dtype=old.dtype)
        return mx.concatenate([old[..., : self.offset, :], more], axis=2)
