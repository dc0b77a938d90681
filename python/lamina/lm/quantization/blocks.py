"""GGUF's blocks, written: the types that are sums of a scale times a whole number and a minimum.

The layouts are those of ``cpp/src/quant/gguf_blocks.h``. Encoders take blocks of weights (blocks, elements)
and how much an error in each matters.
"""

from __future__ import annotations

from collections.abc import Callable

import lamina.core as mx
from lamina.lm.errors import ConfigError
from lamina.lm.quantization.search import fit_affine, fit_symmetric

Encoder = Callable[[mx.array, mx.array], mx.array]


def encode_blocks(weight: mx.array, mode: str, importance: mx.array | None = None) -> mx.array:
    """Return a matrix as blocks of a GGUF type.

    Parameters
    ----------
    weight : array (..., rows, columns)
        Weights of a floating dtype.
    mode : str
        The type: one of :data:`WRITTEN`.
    importance : array (columns,), optional
        How much an error in a column matters; the same for all by default.

    Returns
    -------
    array (..., rows, bytes of a row), uint8

    Raises
    ------
    ConfigError
        The type is not written, or its blocks do not divide the rows.

    Examples
    --------
    >>> import lamina.core as mx
    >>> w = mx.arange(256, dtype=mx.float32).reshape(1, 256)
    >>> blocks = encode_blocks(w, "q8_0")
    >>> blocks.shape, mx.dequantize(blocks, mode="q8_0")[0, 127].item()
    ((1, 272), 127.0)
    """
    if mode not in _ENCODERS:
        raise ConfigError(f"blocks of type {mode!r} cannot be written; supported: {', '.join(WRITTEN)}")
    block, encoder = _ENCODERS[mode]
    columns = weight.shape[-1]
    if columns % block:
        raise ConfigError(f"{mode} wants rows of whole blocks of {block}, got rows of {columns} weights")
    w = weight.astype(mx.float32).reshape(-1, block)
    h = mx.ones((columns,)) if importance is None else importance.astype(mx.float32)
    h = mx.broadcast_to(h.reshape(1, -1, block), (w.shape[0] // (columns // block), columns // block, block))
    return encoder(w, h.reshape(-1, block)).reshape(*weight.shape[:-1], -1)


def _bytes(x: mx.array) -> mx.array:
    """Return numbers as bytes (n, bytes) along the last axis: float16 for floats."""
    return x.astype(mx.float16).view(mx.uint8)


def _half(x: mx.array) -> mx.array:
    """Round to float16, in float32."""
    return x.astype(mx.float16).astype(mx.float32)


def _codes(x: mx.array, scale: mx.array, low: int, high: int) -> mx.array:
    """Return ``x / scale`` as whole numbers within bounds; 0 where the scale is 0."""
    safe = mx.where(scale == 0, 1.0, scale)
    return mx.clip(mx.round(mx.where(scale == 0, 0.0, x / safe)), low, high)


def _nibbles(q: mx.array) -> mx.array:
    """Pack (..., 2 n) codes of 4 bits: the first half in low nibbles, the second in high ones."""
    half = q.shape[-1] // 2
    return mx.bitwise_or(q[..., :half], mx.left_shift(q[..., half:], 4))


def _q8_0(w: mx.array, h: mx.array) -> mx.array:
    scale = mx.abs(w).max(axis=-1, keepdims=True) / 127
    # Halves away from zero, as the reference rounds.
    x = w * mx.where(scale == 0, 0.0, 1 / mx.where(scale == 0, 1.0, scale))
    q = mx.sign(x) * mx.floor(mx.abs(x) + 0.5)
    return mx.concatenate([_bytes(scale), q.astype(mx.int8).view(mx.uint8)], axis=-1)


def _simple(w: mx.array, h: mx.array, bits: int, minimum: bool) -> mx.array:
    """q4_0, q4_1, q5_0, q5_1: blocks of 32 with a scale and perhaps a minimum."""
    top = (1 << bits) - 1
    if minimum:
        scale, bias = map(_half, fit_affine(w, h, top))
        q = _codes(w - bias, scale, 0, top)
        head = [_bytes(scale), _bytes(bias)]
    else:
        scale = _half(fit_symmetric(w, h, (top + 1) // 2))
        q = _codes(w, scale, -(top + 1) // 2, top // 2) + (top + 1) // 2
        head = [_bytes(scale)]
    return mx.concatenate([*head, nibbles_and_fifths(q.astype(mx.uint8), bits)], axis=-1)


def nibbles_and_fifths(q: mx.array, bits: int) -> mx.array:
    """Pack (..., 32) codes as q4_1 and q5_1 do: the fifth bits, if there are any, then the nibbles."""
    nibbles = _nibbles(mx.bitwise_and(q, 15))
    return nibbles if bits == 4 else mx.concatenate([_bit_plane(mx.right_shift(q, 4)), nibbles], axis=-1)


def _bit_plane(q: mx.array) -> mx.array:
    """Pack (..., 8 m) single bits, the first in the lowest place of its byte."""
    bits = mx.left_shift(q.reshape(*q.shape[:-1], -1, 8), mx.arange(8, dtype=mx.uint8))
    return bits.sum(axis=-1).astype(mx.uint8)


def _two_level(w: mx.array, h: mx.array, groups: int, top: int, levels: int) -> tuple[mx.array, ...]:
    """Fit blocks of 256 whose groups have whole scales and minimums: codes, scales, minimums, d, dmin."""
    parts = w.reshape(-1, groups, 256 // groups)
    scale, bias = fit_affine(parts, h.reshape(parts.shape), top, below_zero=True)
    scale, minimum = scale[..., 0], -bias[..., 0]
    d = _half(scale.max(axis=-1, keepdims=True) / levels)
    dmin = _half(minimum.max(axis=-1, keepdims=True) / levels)
    scales, minimums = _codes(scale, d, 0, levels), _codes(minimum, dmin, 0, levels)
    q = _codes(parts + (dmin * minimums)[..., None], (d * scales)[..., None], 0, top)
    q, scales, minimums = (x.astype(mx.uint8) for x in (q, scales, minimums))
    return q, scales, minimums, _bytes(d), _bytes(dmin)


def _six_bits(scales: mx.array, minimums: mx.array) -> mx.array:
    """Pack 8 scales and 8 minimums of 6 bits into 12 bytes."""
    first, last = (x[:, :4] for x in (scales, minimums)), (x[:, 4:] for x in (scales, minimums))
    low = [mx.bitwise_or(a, mx.left_shift(mx.right_shift(b, 4), 6)) for a, b in zip(first, last, strict=True)]
    high = mx.bitwise_or(mx.bitwise_and(scales[:, 4:], 15), mx.left_shift(minimums[:, 4:], 4))
    return mx.concatenate([*low, high], axis=-1)


def _q4_k(w: mx.array, h: mx.array) -> mx.array:
    q, scales, minimums, d, dmin = _two_level(w, h, 8, 15, 63)
    packed = _nibbles(q.reshape(-1, 4, 64)).reshape(-1, 128)
    return mx.concatenate([d, dmin, _six_bits(scales, minimums), packed], axis=-1)


def _q5_k(w: mx.array, h: mx.array) -> mx.array:
    q, scales, minimums, d, dmin = _two_level(w, h, 8, 31, 63)
    fifth = _bit_plane(mx.right_shift(q, 4).swapaxes(1, 2).reshape(-1, 256))
    packed = _nibbles(mx.bitwise_and(q, 15).reshape(-1, 4, 64)).reshape(-1, 128)
    return mx.concatenate([d, dmin, _six_bits(scales, minimums), fifth, packed], axis=-1)


def _pairs(q: mx.array) -> mx.array:
    """Pack (n, 256) codes of 2 bits: in each half, byte l holds elements l, 32 + l, 64 + l, 96 + l."""
    four = q.reshape(-1, 2, 4, 32)
    shifted = mx.left_shift(four, mx.array([0, 2, 4, 6], dtype=mx.uint8)[:, None])
    return shifted.sum(axis=2).astype(mx.uint8).reshape(-1, 64)


def _q2_k(w: mx.array, h: mx.array) -> mx.array:
    q, scales, minimums, d, dmin = _two_level(w, h, 16, 3, 15)
    both = mx.bitwise_or(scales, mx.left_shift(minimums, 4))
    return mx.concatenate([both, _pairs(q.reshape(-1, 256)), d, dmin], axis=-1)


def _signed_level(w: mx.array, h: mx.array, codes: int, levels: int) -> tuple[mx.array, ...]:
    """Fit blocks of 256 whose 16 groups have whole scales of either sign: codes from 0, scales, d."""
    parts = w.reshape(-1, 16, 16)
    scale = fit_symmetric(parts, h.reshape(parts.shape), codes)[..., 0]
    largest = mx.take_along_axis(scale, mx.argmax(mx.abs(scale), axis=-1, keepdims=True), axis=-1)
    d = _half(largest / -levels)
    scales = _codes(scale, d, -levels, levels - 1)
    q = _codes(parts, (d * scales)[..., None], -codes, codes - 1) + codes
    return q.astype(mx.uint8).reshape(-1, 256), scales.astype(mx.int8), _bytes(d)


def _q3_k(w: mx.array, h: mx.array) -> mx.array:
    q, scales, d = _signed_level(w, h, 4, 32)
    third = _bit_plane(mx.right_shift(q, 2).reshape(-1, 8, 32).swapaxes(1, 2).reshape(-1, 256))
    s = (scales + 32).astype(mx.uint8)
    low = mx.bitwise_or(mx.bitwise_and(s[:, :8], 15), mx.left_shift(s[:, 8:], 4))
    high = mx.left_shift(
        mx.right_shift(s, 4).reshape(-1, 4, 4), mx.array([0, 2, 4, 6], dtype=mx.uint8)[:, None]
    )
    high = high.sum(axis=1).astype(mx.uint8)
    return mx.concatenate([third, _pairs(mx.bitwise_and(q, 3)), low, high, d], axis=-1)


def _q6_k(w: mx.array, h: mx.array) -> mx.array:
    q, scales, d = _signed_level(w, h, 32, 128)
    low = _nibbles(mx.bitwise_and(q, 15).reshape(-1, 2, 128)).reshape(-1, 128)
    return mx.concatenate([low, _pairs(mx.right_shift(q, 4)), scales.view(mx.uint8), d], axis=-1)


_ENCODERS: dict[str, tuple[int, Encoder]] = {
    "q4_0": (32, lambda w, h: _simple(w, h, 4, False)),
    "q4_1": (32, lambda w, h: _simple(w, h, 4, True)),
    "q5_0": (32, lambda w, h: _simple(w, h, 5, False)),
    "q5_1": (32, lambda w, h: _simple(w, h, 5, True)),
    "q8_0": (32, _q8_0),
    "q2_k": (256, _q2_k),
    "q3_k": (256, _q3_k),
    "q4_k": (256, _q4_k),
    "q5_k": (256, _q5_k),
    "q6_k": (256, _q6_k),
}
WRITTEN = tuple(_ENCODERS)
"""The types that :func:`encode_blocks` writes."""
