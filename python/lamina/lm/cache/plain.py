"""The key-value caches of one attention layer: plain, in fewer bits, and of a sliding window."""

from __future__ import annotations

import dataclasses

import lamina.core as mx
from lamina.lm.cache.layout import Layout, Step, StepAttention, narrower
from lamina.lm.cache.pool import KVFormat, Pool
from lamina.lm.cache.protocol import AttentionSpec, Rotation
from lamina.lm.errors import LMError

BLOCK_ROWS = 64
"""Positions of a block of sliding caches and of pools that sequences share."""


class KVCache:
    """Keys and values of the positions seen so far, in buffers that grow in whole steps.

    Between two growths an update writes into the buffers' free part: a steady decode step allocates nothing.

    Parameters
    ----------
    capacity : int
        Positions to make room for at the first update; more are added when needed.
    step : int
        Buffers hold a multiple of this many positions.
    bits : int, optional
        Keep keys and values in 8 bits, or in 4 after a Hadamard transform; as they come by default.

    Examples
    --------
    >>> import lamina.core as mx
    >>> cache = KVCache()
    >>> k, v = cache.update(mx.ones((1, 2, 3, 4)), mx.ones((1, 2, 3, 4)))
    >>> k.shape, cache.offset, cache.capacity
    ((1, 2, 3, 4), 3, 256)
    """

    def __init__(self, capacity: int = 0, step: int = 256, bits: int | None = None) -> None:
        if step <= 0:
            raise LMError(f"KVCache: step must be positive, got {step}")
        self.step = step
        self.format = KVFormat(bits)
        self.offset = 0
        self.batch = 0
        self._wanted = capacity
        self._pool: Pool = []
        self._spec: AttentionSpec | None = None
        self._dtype = mx.float32

    @property
    def window(self) -> int | None:
        """Positions that a position sees at most; None for all before it."""
        return None

    @property
    def capacity(self) -> int:
        """Positions that fit before the buffers must grow."""
        return self._pool[0].shape[2] if self._pool else 0

    @property
    def room(self) -> int:
        """Positions that fit, those cached included, before buffers must grow."""
        return self.capacity

    @property
    def arrays(self) -> list[mx.array]:
        """The buffers: keys, values, and the scales of both where they are kept in fewer bits."""
        return self._pool

    @arrays.setter
    def arrays(self, arrays: list[mx.array]) -> None:
        self._pool = arrays

    @property
    def state(self) -> list[mx.array]:
        """The buffers, to evaluate or count; empty before the first update."""
        return self._pool

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return sum(a.nbytes for a in self._pool)

    @property
    def layout(self) -> Layout:
        """How the buffers hold the positions."""
        return Layout(self.capacity, 1, self.format, self.window)

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
        self._fit(keys, values)
        parts, most = [], self.longest_step
        for first in range(0, max(1, keys.shape[2]), most):
            new = slice(first, first + most)
            length = keys[:, :, new].shape[2]
            self.reserve(length)
            step = Step(self.offset, self.batch, length, self.offset + length)
            cache = StepAttention(step, self.layout, self._pool)
            out = cache.attend(
                queries[:, :, new],
                keys[:, :, new],
                values[:, :, new],
                scale=scale,
                window=narrower(window, self.window),
                sinks=sinks,
                softcap=softcap,
            )
            self._pool = cache.pool
            self.advance(length)
            parts.append(out)
        return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)

    def update(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append ``keys`` and ``values`` (B, H, L, D) and return all (B, H, offset, D) of both.

        Raises
        ------
        LMError
            The batch, head or head-dimension sizes differ from those cached, or the cache does not keep
            every position as it came.
        """
        if self.format.bits is not None or self.window is not None:
            raise LMError("update returns all positions as they came: use attend with this cache")
        self._fit(keys, values)
        start, end = self.offset, self.offset + keys.shape[2]
        self.reserve(keys.shape[2])
        for kept, new in zip(self._pool, (keys, values), strict=True):
            kept[..., start:end, :] = new
        self.offset = end
        return self._pool[0][..., :end, :], self._pool[1][..., :end, :]

    @property
    def longest_step(self) -> int:
        """Positions that one step may append."""
        return 1 << 30

    def advance(self, length: int) -> None:
        """Count ``length`` positions that a step wrote into the buffers."""
        self.offset += length

    def trimmable(self, count: int) -> bool:
        """Return whether the last ``count`` positions can be taken back."""
        return 0 <= count <= self.offset

    def trim(self, count: int) -> None:
        """Take the last ``count`` positions back.

        Raises
        ------
        LMError
            The cache no longer holds what would come before.
        """
        if not self.trimmable(count):
            raise LMError(f"a cache of {self.offset} positions cannot take back {count}")
        self.offset -= count

    def mark(self, short: bool = False) -> list[mx.array] | None:
        """Return what :meth:`back` needs to come back to here later; ``short``: before much more comes."""
        return None

    def reaches(self, mark: list[mx.array] | None, offset: int) -> bool:
        """Return whether :meth:`back` can go to ``offset`` positions, where ``mark`` was made, if it was."""
        return self.trimmable(self.offset - offset)

    def back(self, mark: list[mx.array] | None, offset: int) -> None:
        """Go back to ``offset`` positions, where ``mark`` was made."""
        self.trim(self.offset - offset)

    def copy(self) -> KVCache:
        """Return a cache with the same content; they share buffers until one of them writes."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._pool = list(self._pool)
        return other

    def adopt(self, arrays: list[mx.array], offset: int, spec: AttentionSpec) -> None:
        """Take over the buffers of a cache like this one, of one sequence, that holds ``offset`` positions.

        Raises
        ------
        LMError
            Shapes or dtypes are not those of such a cache.
        """
        dtype = arrays[0].dtype if arrays else mx.float32
        wanted, got = (
            [(tuple(a.shape), a.dtype) for a in side]
            for side in (self._buffers_for(1, offset, spec, dtype), arrays)
        )
        if wanted != got:
            raise LMError(f"a cache of {offset} positions wants buffers {wanted}, got {got}")
        self._spec, self.batch, self._dtype = dataclasses.replace(spec, window=None), 1, dtype
        self._pool, self.offset = arrays, offset

    def used_buffers(self) -> list[mx.array]:
        """Return what :meth:`adopt` takes."""
        return [a[:, :, : self.offset] for a in self._pool]

    def _buffers_for(self, batch: int, rows: int, spec: AttentionSpec, dtype: mx.Dtype) -> Pool:
        return self.format.empty(batch, rows, spec, dtype)

    def reserve(self, length: int) -> None:
        """Make room for ``length`` more positions, once it is known what is cached."""
        end = self.offset + length
        if self._spec is None:
            return
        if not self._pool:
            self._pool = self._buffers_for(self.batch, self._rounded(end), self._spec, self._dtype)
        elif end > self.capacity:
            more = self._rounded(max(end, self.capacity * 9 // 8)) - self.capacity
            self._pool = [
                mx.concatenate([a, mx.zeros((*a.shape[:2], more, a.shape[3]), dtype=a.dtype)], axis=2)
                for a in self._pool
            ]

    def _rounded(self, end: int) -> int:
        return -(-max(end, self._wanted) // self.step) * self.step

    def _fit(self, keys: mx.array, values: mx.array) -> None:
        """Check new rows against those cached; the first ones say what will be cached."""
        spec = AttentionSpec(keys.shape[1], keys.shape[3], values.shape[3])
        if self._spec is None:
            self.format.check(spec)
            self._spec, self.batch, self._dtype = spec, keys.shape[0], keys.dtype
            return
        if keys.shape[0] != self.batch or spec != self._spec:
            own = self._spec
            name, kept, new = (
                ("values", own.value_dim, values)
                if (keys.shape[0], spec.kv_heads, spec.key_dim) == (self.batch, own.kv_heads, own.key_dim)
                else ("keys", own.key_dim, keys)
            )
            raise LMError(
                f"KVCache: wanted {name} of shape ({self.batch}, {own.kv_heads}, L, {kept}), "
                f"got {tuple(new.shape)}"
            )


class RotatingKVCache(KVCache):
    """Keys and values of the last positions only: what a sliding window of ``window`` positions sees.

    They lie in a ring of blocks, which also holds the positions of the longest step, and some more that can
    be taken back.

    Parameters
    ----------
    window : int
        Positions that a position sees, itself included.
    step : int
        Positions that are appended at once; longer inputs are appended in parts.
    bits : int, optional
        As :class:`KVCache`.
    """

    def __init__(self, window: int, step: int = 256, bits: int | None = None) -> None:
        if window <= 0:
            raise LMError(f"RotatingKVCache: window must be positive, got {window}")
        super().__init__(0, step, bits)
        self._window = window
        self._written = 0
        self.blocks = -(-(window + step) // BLOCK_ROWS) + 1

    @property
    def window(self) -> int:
        """Positions that a position sees, itself included."""
        return self._window

    @property
    def capacity(self) -> int:
        """Positions that the ring holds."""
        return self.blocks * BLOCK_ROWS

    @property
    def room(self) -> int:
        """Positions that fit, those cached included, before buffers must grow: they never do."""
        return 1 << 30

    @property
    def layout(self) -> Layout:
        """How the buffers hold the positions."""
        return Layout(BLOCK_ROWS, self.blocks, self.format, self._window)

    @property
    def longest_step(self) -> int:
        """Positions that one step may append."""
        return self.step

    def advance(self, length: int) -> None:
        """Count ``length`` positions that a step wrote into the buffers."""
        super().advance(length)
        self._written = max(self._written, self.offset)

    def trimmable(self, count: int) -> bool:
        """Return whether the last ``count`` positions can be taken back."""
        last_block = (max(self._written, 1) - 1) // BLOCK_ROWS
        kept_from = max(0, (last_block - self.blocks + 1) * BLOCK_ROWS)
        seen_from = max(0, self.offset - count - self._window + 1)
        return 0 <= count <= self.offset and seen_from >= kept_from

    def reserve(self, length: int) -> None:
        """Make the ring at the first update."""
        if not self._pool and self._spec is not None:
            self._pool = self._buffers_for(self.batch, 0, self._spec, self._dtype)

    def adopt(self, arrays: list[mx.array], offset: int, spec: AttentionSpec) -> None:
        """Take over the buffers of a cache like this one, as :meth:`KVCache.adopt`."""
        super().adopt(arrays, offset, spec)
        self._written = offset

    def used_buffers(self) -> list[mx.array]:
        """Return what :meth:`adopt` takes: the whole ring."""
        return list(self._pool)

    def mark(self, short: bool = False) -> list[mx.array] | None:
        """Return what :meth:`back` needs to come back to here later; ``short``: before much more comes."""
        return None if short else list(self._pool)

    def reaches(self, mark: list[mx.array] | None, offset: int) -> bool:
        """Return whether :meth:`back` can go to ``offset`` positions, where ``mark`` was made, if it was."""
        return mark is not None or super().reaches(mark, offset)

    def back(self, mark: list[mx.array] | None, offset: int) -> None:
        """Go back to ``offset`` positions, where ``mark`` was made."""
        if mark is None or self.trimmable(self.offset - offset):
            super().back(mark, offset)
        else:
            self._pool, self.offset, self._written = list(mark), offset, offset

    def _buffers_for(self, batch: int, rows: int, spec: AttentionSpec, dtype: mx.Dtype) -> Pool:
        return self.format.empty(batch * self.blocks, BLOCK_ROWS, spec, dtype)
