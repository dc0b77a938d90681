"""The three operations on cache blocks, in plain array operations where the core has them not yet."""

from __future__ import annotations

from typing import Any

import lamina.core as mx

_GROUP = 32
_FAST: Any = mx.fast


def cache_write(pool: mx.array, rows: mx.array, slots: mx.array) -> mx.array:
    if hasattr(_FAST, "cache_write"):
        return _FAST.cache_write(pool, rows, slots)
    size = pool.shape[2]
    out = mx.contiguous(pool)
    out[slots // size, :, slots % size] = rows.astype(pool.dtype)
    return out


def quantize_kv(rows: mx.array, bits: int) -> list[mx.array]:
    if hasattr(_FAST, "quantize_kv"):
        return _FAST.quantize_kv(rows, bits=bits)
    dim = rows.shape[-1]
    x = mx.pad(rows.astype(mx.float32), [(0, 0)] * (rows.ndim - 1) + [(0, -dim % _GROUP)])
    x = x.reshape(*rows.shape[:-1], -1, _GROUP)
    low, high = mx.minimum(x.min(-1), 0), mx.maximum(x.max(-1), 0)
    edge = mx.maximum(-low, high) / 127 if bits == 8 else mx.where(-low >= high, low, high) / -8
    scales = edge.astype(mx.float16)
    wide = scales.astype(mx.float32)
    inverse = mx.where(wide == 0, 0, 1 / wide)
    codes = mx.round(x * inverse[..., None]).reshape(*rows.shape[:-1], -1)[..., :dim]
    if bits == 8:
        return [mx.clip(codes, -127, 127).astype(mx.int8), scales]
    kept = (mx.clip(codes, -8, 7) + 8).astype(mx.uint8)
    return [kept[..., ::2] | (kept[..., 1::2] << 4), scales]


def _decoded(codes: mx.array, scales: mx.array | None) -> mx.array:
    if scales is None:
        return codes
    if codes.dtype == mx.uint8:
        pairs = mx.stack([codes & 15, codes >> 4], axis=-1).astype(mx.float32) - 8
        codes = pairs.reshape(*codes.shape[:-1], -1)
    wide = mx.repeat(scales.astype(mx.float32), _GROUP, axis=-1)[..., : codes.shape[-1]]
    return codes.astype(mx.float32) * wide


def paged_attention(
    queries: mx.array,
    key_pool: mx.array,
    value_pool: mx.array,
    tables: mx.array,
    query_ends: mx.array,
    lengths: mx.array,
    *,
    scale: float,
    window: int | None = None,
    sinks: mx.array | None = None,
    softcap: float | None = None,
    key_scales: mx.array | None = None,
    value_scales: mx.array | None = None,
) -> mx.array:
    if hasattr(_FAST, "paged_attention"):
        return _FAST.paged_attention(
            queries,
            key_pool,
            value_pool,
            tables,
            query_ends,
            lengths,
            scale=scale,
            window=window,
            sinks=sinks,
            softcap=softcap,
            key_scales=key_scales,
            value_scales=value_scales,
        )
    count, heads, dim = queries.shape
    row = mx.arange(count)
    seq = mx.minimum((query_ends[None] <= row[:, None]).sum(axis=1), query_ends.shape[0] - 1)
    position = lengths[seq] - (query_ends[seq] - row)
    blocks = tables[seq]

    def gathered(pool: mx.array) -> mx.array:
        picked = pool[blocks].transpose(0, 2, 1, 3, 4)
        return picked.reshape(count, pool.shape[1], -1, pool.shape[3])

    keys = _decoded(gathered(key_pool), None if key_scales is None else gathered(key_scales))
    values = _decoded(gathered(value_pool), None if value_scales is None else gathered(value_scales))
    column = mx.arange(keys.shape[2])[None]
    mask = column <= position[:, None]
    if window is not None:
        mask = mask & (column > position[:, None] - window)
    kv = keys.shape[1]
    grouped = queries.astype(mx.float32).reshape(count, kv, heads // kv, dim) * scale
    scores = grouped @ keys.astype(mx.float32).swapaxes(-1, -2)
    if softcap is not None:
        scores = mx.tanh(scores / softcap) * softcap
    scores = mx.where(mask[:, None, None], scores, -mx.inf)
    if sinks is not None:
        column = mx.broadcast_to(sinks.astype(mx.float32).reshape(1, kv, -1, 1), (*scores.shape[:-1], 1))
        scores = mx.concatenate([scores, column], axis=-1)
    weights = mx.softmax(scores, axis=-1)[..., : keys.shape[2]]
    values = mx.where(mask[:, None, :, None], values.astype(mx.float32), 0)
    return (weights @ values).reshape(count, heads, -1).astype(queries.dtype)
