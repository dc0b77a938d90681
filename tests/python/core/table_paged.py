"""Attention over a cache in blocks, in NumPy, and the cases of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lamina.core as mx
import numpy as np
from core.core_cases import NUMPY_DTYPES
from core.table_cases import HALVES, Kernel, Wanted, accumulator_eps, normal, rounding

GROUP = 32
DTYPES_OF_CODES = {8: np.dtype(np.int8), 4: np.dtype(np.uint8)}


def encoded(rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of quant/kv_rows.h, every step in float32."""
    n = rows.shape[-1]
    groups = -(-n // GROUP)
    x = np.zeros((*rows.shape[:-1], groups * GROUP), np.float32)
    x[..., :n] = rows.astype(np.float32)
    x = x.reshape(*rows.shape[:-1], groups, GROUP)
    low, high = np.minimum(x.min(-1), 0), np.maximum(x.max(-1), 0)
    top = np.maximum(-low, high)
    edge = top / np.float32(127) if bits == 8 else np.where(-low == top, low, high) / np.float32(-8)
    scales = edge.astype(np.float16)
    wide = scales.astype(np.float32)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(wide == 0, np.float32(0), np.float32(1) / wide)
    least, most = (-127, 127) if bits == 8 else (-8, 7)
    codes = np.clip(np.rint(x * inverse[..., None]), least, most).astype(np.int8)
    codes = codes.reshape(*rows.shape[:-1], groups * GROUP)[..., :n]
    if bits == 8:
        return codes, scales
    kept = (codes + 8).astype(np.uint8)
    return kept[..., ::2] | kept[..., 1::2] << 4, scales


def decoded(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The rows, in float64."""
    if codes.dtype == np.uint8:
        pairs = np.stack([codes & 15, codes >> 4], -1).astype(np.int8) - 8
        codes = pairs.reshape(*codes.shape[:-1], -1)
    return codes * np.repeat(scales.astype(np.float64), GROUP, -1)[..., : codes.shape[-1]]


@dataclass(frozen=True)
class Ragged:
    """A ragged batch: for each sequence its new positions and all of them."""

    sequences: tuple[tuple[int, int], ...]
    heads: int = 4
    kv_heads: int = 2
    dim: int = 16
    v_dim: int = 16
    block: int = 4
    bits: tuple[int, int] = (0, 0)  # of codes of keys and values; 0: the dtype itself
    window: int | None = None
    softcap: float | None = None
    sinks: bool = False
    spare: int = 0  # rows of queries after the last sequence's

    @property
    def scale(self) -> float:
        """The usual factor of scores."""
        return self.dim**-0.5

    def operands(
        self, rng: np.random.Generator, dtype: str, garbage: float | None = None
    ) -> list[np.ndarray]:
        """Queries, pools, tables, ends and lengths, then what else there is.

        Blocks are in any order; one is in no table. Where nothing is to be read lies `garbage`.
        """
        columns = max(-(-n // self.block) for _, n in self.sequences)
        blocks = columns * len(self.sequences) + 1
        order = rng.permutation(blocks).astype(np.int32)
        tables = order[:-1].reshape(len(self.sequences), columns)
        t = sum(new for new, _ in self.sequences) + self.spare
        room = (blocks, self.kv_heads, self.block)
        shapes = ((t, self.heads, self.dim), (*room, self.dim), (*room, self.v_dim))
        q, k, v = normal(*shapes)(rng, dtype)
        lengths = np.array([n for _, n in self.sequences], np.int32)
        ends = np.cumsum([new for new, _ in self.sequences], dtype=np.int32)
        pools, scales = [k, v], []
        for i, bits in enumerate(self.bits):
            if bits:
                pools[i], scale = encoded(pools[i], bits)
                scales.append(scale)
        if garbage is not None:
            self.spoil(tables, pools + scales, garbage)
        sinks = normal((self.heads,))(rng, dtype) if self.sinks else []
        return [q, *pools, tables, ends, lengths, *sinks, *scales]

    def spoil(self, tables: np.ndarray, pools: list[np.ndarray], garbage: float) -> None:
        """Write garbage where no query looks, and blocks that are none into the tables."""
        seen = np.zeros((*pools[0].shape[:1], self.block), bool)
        for table, (new, n) in zip(tables, self.sequences, strict=True):
            first = max(0, n - new + 1 - self.window) if self.window and new else 0
            for p in range(first if new else n, n):
                seen[table[p // self.block], p % self.block] = True
            for j in range(len(table)):
                if (j + 1) * self.block <= first or j * self.block >= n or not new:
                    table[j] = -7 if j % 2 else 10**6
        for pool in pools:
            pool.swapaxes(1, 2)[~seen] = garbage if pool.dtype.kind not in "iu" else 85

    def split(self, extra: tuple[Any, ...]) -> dict[str, Any]:
        """The optional operands by name."""
        rest = list(extra)
        out = {"sinks": rest.pop(0)} if self.sinks else {}
        for name, bits in zip(("key_scales", "value_scales"), self.bits, strict=True):
            if bits:
                out[name] = rest.pop(0)
        return out

    def ours(self, *operands: mx.array) -> mx.array:
        """The call."""
        return mx.fast.paged_attention(
            *operands[:6],
            scale=self.scale,
            window=self.window,
            softcap=self.softcap,
            **self.split(operands[6:]),
        )

    def theirs(self, dtype: str, *operands: np.ndarray) -> Wanted:
        """The definition in float64, and how far float32 may be off."""
        q, pools, (tables, ends, lengths) = operands[0], operands[1:3], operands[3:6]
        extra = self.split(operands[6:])
        scales = (extra.get("key_scales"), extra.get("value_scales"))
        k, v = (
            p.astype(np.float64) if s is None else decoded(p, s) for p, s in zip(pools, scales, strict=True)
        )
        out = np.zeros((*q.shape[:2], self.v_dim))
        bound = np.zeros_like(out)
        begin = 0
        for table, end, n in zip(tables, ends, lengths, strict=True):
            where = np.arange(n)
            for row in range(begin, end):
                position = n - end + row
                first = 0 if self.window is None else max(0, position + 1 - self.window)
                at = where[first : position + 1]
                blocks, rows = table[at // self.block], at % self.block
                for h in range(self.heads):
                    kv = h * self.kv_heads // self.heads
                    sink = extra["sinks"].astype(np.float64)[h] if self.sinks else -np.inf
                    out[row, h], bound[row, h] = self.row(
                        dtype, q[row, h].astype(np.float64), k[blocks, kv, rows], v[blocks, kv, rows], sink
                    )
            begin = end
        return [(out, bound + rounding(dtype) * np.abs(out))]

    def row(self, dtype: str, q: np.ndarray, k: np.ndarray, v: np.ndarray, sink: float) -> tuple[Any, Any]:
        """One row's result, and its error."""
        scores = self.scale * (k @ q)
        error = (self.dim + 4) * accumulator_eps(dtype) * self.scale * (np.abs(k) @ np.abs(q)).max()
        if self.bits[0]:
            # Queries are rounded to whole multiples of 1/32767 of their largest element.
            error += self.scale * np.abs(q).max() / 65534 * np.abs(k).sum(-1).max()
        if self.softcap is not None:
            scores = self.softcap * np.tanh(scores / self.softcap)
            error += 4 * accumulator_eps(dtype) * np.abs(scores).max()
        e = np.exp(scores - max(scores.max(), sink))
        total = e.sum() + np.exp(sink - max(scores.max(), sink))
        relative = 2 * error + (len(k) + 16) * accumulator_eps(dtype)
        return e / total @ v, relative * (e / total @ np.abs(v))


def attend(label: str, case: Ragged) -> Kernel:
    return Kernel(label, case.operands, case.ours, case.theirs, HALVES)


PAGED = [
    attend("one sequence", Ragged(((5, 5),))),
    attend("decode", Ragged(((1, 9), (1, 1), (1, 30)))),
    attend("ragged", Ragged(((3, 7), (0, 4), (1, 12), (6, 6)), heads=6, kv_heads=2, block=2)),
    attend("window, sinks and a cap", Ragged(((2, 21), (9, 9)), window=5, softcap=2.0, sinks=True)),
    attend("8 and 4 bits", Ragged(((2, 21), (1, 5)), dim=80, v_dim=34, bits=(8, 4))),
    attend("spare rows", Ragged(((2, 3),), spare=3)),
]


def written(dtype: str, pool: np.ndarray, rows: np.ndarray, slots: np.ndarray) -> Wanted:
    out = pool.copy()
    for row, slot in zip(rows, slots, strict=True):
        if slot >= 0:
            out[slot // pool.shape[2], :, slot % pool.shape[2]] = row.astype(pool.dtype)
    return [(out, 0)]


def write(label: str, count: int, pool_dtype: str | None = None) -> Kernel:
    def make(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
        pool, rows = normal((5, 2, 3, 7), (count, 2, 7))(rng, dtype)
        slots = rng.permutation(16)[:count].astype(np.int32) - 1
        return [pool.astype(NUMPY_DTYPES[pool_dtype or dtype]), rows, slots]

    dtypes = HALVES if pool_dtype else [*HALVES, "int8", "uint8", "float64", "bool_"]
    return Kernel(label, make, mx.fast.cache_write, written, dtypes, lambda dtype: [pool_dtype or dtype])


def quantize(bits: int, shape: tuple[int, ...]) -> Kernel:
    return Kernel(
        f"{bits} bits, {shape}",
        normal(shape),
        lambda rows: mx.fast.quantize_kv(rows, bits=bits),
        lambda dtype, rows: [(part, 0) for part in encoded(rows, bits)],
        HALVES,
        lambda dtype: ["int8" if bits == 8 else "uint8", "float16"],
    )


PAGED_KERNELS: dict[str, list[Kernel]] = {
    "PagedAttention": PAGED,
    "CacheWrite": [write("a few", 4), write("none", 0), write("rounded", 16, "bfloat16")],
    "QuantizeKv": [quantize(bits, shape) for bits in (8, 4) for shape in ((3, 2, 64), (5, 34), (2, 0, 32))],
}
