"""Blocks of keys and values of one attention layer, and what every cache does with them.

A pool is a list of arrays: keys (P, K, S, D) and values (P, K, S, Dv), P blocks of S positions each; where
they are kept in 8 or 4 bits, codes instead, then the scales of both. Functions take a pool's arrays and
return new ones: evaluated, the write of a pool that nobody else holds is in place.

Shape letters: T new positions of all sequences, B sequences, N blocks of a sequence, H query heads, K
key-value heads, D head dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import lamina.core as mx
from lamina.lm.cache.protocol import AttentionSpec
from lamina.lm.errors import LMError

Pool = list[mx.array]

KV_BITS = (8, 4)
_SCALE_GROUP = 32


@dataclass(frozen=True)
class Rows:
    """Where the T new positions of a step go, and what they see; the same for all layers alike.

    Attributes
    ----------
    slots : array (T,), int32
        Slot ``s`` is row ``s % S`` of block ``s // S``.
    tables : array (B, N), int32
        The blocks of each sequence.
    ends : array (B,), int32
        Where each sequence's new positions end among the T.
    lengths : array (B,), int32
        Positions of each sequence, new ones included.
    """

    slots: mx.array
    tables: mx.array
    ends: mx.array
    lengths: mx.array


@dataclass(frozen=True)
class KVFormat:
    """How keys and values are kept: as they come (``bits`` None), or in 8 or 4 bits.

    Rows of 4 bits are turned by a Hadamard transform first, which spreads what sticks out over the row:
    queries are turned alike, and results turned back.
    """

    bits: int | None = None

    def __post_init__(self) -> None:
        if self.bits is not None and self.bits not in KV_BITS:
            raise LMError(
                f"a cache keeps keys and values in {KV_BITS} bits or as they are, got {self.bits!r}"
            )

    def check(self, spec: AttentionSpec) -> None:
        """Raise :class:`LMError` where a layer's rows cannot be kept so."""
        if self.bits == 4 and (spec.key_dim % 2 or spec.value_dim % 2):
            raise LMError(f"4-bit caches want heads of an even size, got {spec.key_dim} and {spec.value_dim}")

    def _row_bytes(self, dim: int, item_bytes: int) -> int:
        if self.bits is None:
            return dim * item_bytes
        return dim * self.bits // 8 + 2 * -(-dim // _SCALE_GROUP)

    def empty(self, blocks: int, rows: int, spec: AttentionSpec, dtype: mx.Dtype) -> Pool:
        """Return a pool of ``blocks`` of ``rows`` positions; ``dtype`` is that of keys as they come."""
        kept = (blocks, spec.kv_heads, rows)
        dims = (spec.key_dim, spec.value_dim)
        if self.bits is None:
            return [mx.zeros((*kept, dim), dtype=dtype) for dim in dims]
        codes = mx.int8 if self.bits == 8 else mx.uint8
        packed = [mx.zeros((*kept, dim * self.bits // 8), dtype=codes) for dim in dims]
        return packed + [mx.zeros((*kept, -(-dim // _SCALE_GROUP)), dtype=mx.float16) for dim in dims]

    def block_bytes(self, rows: int, spec: AttentionSpec, dtype: mx.Dtype) -> int:
        """Return the bytes of a block of ``rows`` positions."""
        row = sum(self._row_bytes(dim, dtype.size) for dim in (spec.key_dim, spec.value_dim))
        return rows * spec.kv_heads * row

    def write(self, pool: Pool, keys: mx.array, values: mx.array, slots: mx.array) -> Pool:
        """Return ``pool`` with rows of keys (T, K, D) and values (T, K, Dv) in ``slots`` (T,)."""
        rows = [keys, values]
        if self.bits is not None:
            coded = [mx.fast.quantize_kv(self._turned(x), bits=self.bits) for x in rows]
            rows = [part[i] for i in range(2) for part in coded]
        return [mx.fast.cache_write(kept, new, slots) for kept, new in zip(pool, rows, strict=True)]

    def attend(
        self,
        pool: Pool,
        queries: mx.array,
        rows: Rows,
        *,
        scale: float,
        window: int | None = None,
        sinks: mx.array | None = None,
        softcap: float | None = None,
    ) -> mx.array:
        """Return the attention (T, H, Dv) of ``queries`` (T, H, D) over what the pool holds."""
        key_scales, value_scales = (pool[2], pool[3]) if self.bits is not None else (None, None)
        out = mx.fast.paged_attention(
            self._turned(queries),
            pool[0],
            pool[1],
            rows.tables,
            rows.ends,
            rows.lengths,
            scale=scale,
            window=window,
            sinks=sinks,
            softcap=softcap,
            key_scales=key_scales,
            value_scales=value_scales,
        )
        return self._turned(out)

    def _turned(self, x: mx.array) -> mx.array:
        # Turning twice is the identity: the transform's matrix is symmetric and orthogonal.
        if self.bits != 4:
            return x
        dim = x.shape[-1]
        power = dim & -dim
        if power == dim:
            return mx.hadamard_transform(x)
        return mx.hadamard_transform(x.reshape(*x.shape[:-1], -1, power)).reshape(x.shape)


def as_rows(x: mx.array) -> mx.array:
    """Return (B, H, L, D) as rows (B * L, H, D), sequence by sequence."""
    return x.transpose(0, 2, 1, 3).reshape(-1, x.shape[1], x.shape[3])


def from_rows(x: mx.array, batch: int) -> mx.array:
    """Return rows (B * L, H, D) as (B, H, L, D)."""
    return x.reshape(batch, -1, *x.shape[1:]).transpose(0, 2, 1, 3)


def grown(pool: Pool, blocks: int) -> Pool:
    """Return ``pool`` with room for ``blocks`` blocks, the old ones first."""
    return [
        mx.concatenate([a, mx.zeros((blocks - a.shape[0], *a.shape[1:]), dtype=a.dtype)], axis=0)
        for a in pool
    ]
