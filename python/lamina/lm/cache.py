"""The key-value cache of one attention layer."""

from __future__ import annotations

import lamina.core as mx
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
        self._keys: mx.array | None = None
        self._values: mx.array | None = None

    @property
    def capacity(self) -> int:
        """Positions that fit before the buffers must grow."""
        return 0 if self._keys is None else self._keys.shape[2]

    @property
    def state(self) -> list[mx.array]:
        """The buffers, to evaluate or count; empty before the first update."""
        return [] if self._keys is None else [self._keys, self._values]

    def update(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append ``keys`` and ``values`` (B, H, L, D) and return all (B, H, offset, D) of both.

        Raises
        ------
        LMError
            The batch, head or head-dimension sizes differ from those cached.
        """
        start, end = self.offset, self.offset + keys.shape[2]
        if self._keys is not None:
            for name, new, old in (("keys", keys, self._keys), ("values", values, self._values)):
                if new.shape[:2] != old.shape[:2] or new.shape[3] != old.shape[3]:
                    raise LMError(
                        f"KVCache: wanted {name} of shape ({old.shape[0]}, {old.shape[1]}, L, "
                        f"{old.shape[3]}), got {tuple(new.shape)}"
                    )
        if end > self.capacity:
            self._keys = self._grown(self._keys, keys, end)
            self._values = self._grown(self._values, values, end)
        self._keys[..., start:end, :] = keys
        self._values[..., start:end, :] = values
        self.offset = end
        return self._keys[..., :end, :], self._values[..., :end, :]

    def _grown(self, old: mx.array | None, new: mx.array, end: int) -> mx.array:
        batch, heads, _, dim = new.shape
        rows = -(-max(end, self._wanted) // self.step) * self.step
        if old is None:
            return mx.zeros((batch, heads, rows, dim), dtype=new.dtype)
        more = mx.zeros((batch, heads, rows - self.offset, dim), dtype=old.dtype)
        return mx.concatenate([old[..., : self.offset, :], more], axis=2)
