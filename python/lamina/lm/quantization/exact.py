"""Matrices that two layouts can both hold: codes and scales are moved, no number changes."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
from lamina.lm.quantization.affine import pack_codes
from lamina.lm.quantization.blocks import nibbles_and_fifths
from lamina.lm.quantization.formats import Format

_BLOCK = 32
# Block types with one scale for 32 codes: bits of a code, whether there is a minimum.
_SIMPLE = {"q4_0": (4, False), "q4_1": (4, True), "q5_0": (5, False), "q5_1": (5, True), "q8_0": (8, False)}


def same_in_blocks(bits: int) -> list[Format]:
    """Return the block types that may hold affine codes of ``bits``, the smallest first."""
    return [Format(mode) for mode, (own, _) in _SIMPLE.items() if bits <= own and (own < 8 or bits == 8)]


def same_in_affine(mode: str) -> list[Format]:
    """Return the affine formats that hold blocks of a type."""
    bits = _SIMPLE[mode][0] if mode in _SIMPLE else 0
    return [Format("affine", bits, _BLOCK)] if bits in (4, 5, 8) else []


def moved(module: Any, format: Format, dtype: mx.Dtype) -> dict[str, mx.array] | None:
    """Return the parameters of a layer in another format, where that can hold exactly the same numbers.

    Parameters
    ----------
    module : Module
        A layer over blocks with one scale for 32 codes, or over affine codes.
    format : Format
        Affine in groups of 32 for the former, such a block type for the latter.
    dtype : Dtype
        Of affine scales; what it cannot hold counts as a change.

    Returns
    -------
    dict of array, or None
        As :meth:`Format.encode` returns; None where numbers would change.
    """
    if format.mode == "affine" and getattr(module, "mode", "") in _SIMPLE:
        parts = _affine(module["weight"], module.mode) if format in same_in_affine(module.mode) else None
        scales = () if parts is None else (parts["scales"], parts["biases"])
    elif format.mode in _SIMPLE and "biases" in module and "order" not in module:
        parts, scales = _blocks(module, format.mode)
        dtype = mx.float16
    else:
        return None
    if parts is None or not all(_fits(s, dtype) for s in scales):
        return None
    return {k: v.astype(dtype) if k in ("scales", "biases") else v for k, v in parts.items()}


def _fits(x: mx.array, dtype: mx.Dtype) -> bool:
    wide = x.astype(mx.float32)
    return bool((wide.astype(dtype).astype(mx.float32) == wide).all().item())


def _affine(blocks: mx.array, mode: str) -> dict[str, mx.array]:
    """Return words, scales and biases (float32) of blocks with a scale for each 32 codes."""
    bits, has_minimum = _SIMPLE[mode]
    start = 4 if has_minimum else 2
    codes_bytes = {4: 16, 5: 20, 8: 32}[bits]
    parts = blocks.reshape(*blocks.shape[:-1], -1, start + codes_bytes)
    head = mx.contiguous(parts[..., :start]).view(mx.float16).astype(mx.float32)
    data = parts[..., start:]
    if bits == 8:
        codes = (mx.contiguous(data).view(mx.int8).astype(mx.int16) + 128).astype(mx.uint8)
    else:
        nibbles = data[..., -16:]
        codes = mx.concatenate([mx.bitwise_and(nibbles, 15), mx.right_shift(nibbles, 4)], axis=-1)
    if bits == 5:
        planes = mx.right_shift(data[..., :4, None], mx.arange(8, dtype=mx.uint8))
        fifths = mx.bitwise_and(planes, 1).reshape(codes.shape)
        codes = mx.bitwise_or(codes, mx.left_shift(fifths, 4))
    scale = head[..., 0]
    bias = head[..., 1] if has_minimum else scale * -float(1 << (bits - 1))
    words = pack_codes(codes.reshape(*blocks.shape[:-1], -1), bits)
    return {"weight": words, "scales": scale, "biases": bias}


def _blocks(module: Any, mode: str) -> tuple[dict[str, mx.array] | None, tuple[mx.array, ...]]:
    """Return blocks of affine codes, and the scales that float16 must hold."""
    bits, has_minimum = _SIMPLE[mode]
    if module.mode != "affine" or Format(mode) not in same_in_blocks(module.bits):
        return None, ()
    middle = 1 << (module.bits - 1)
    scales, biases = (module[name].astype(mx.float32) for name in ("scales", "biases"))
    if not has_minimum and not bool((biases == scales * -float(middle)).all().item()):
        return None, ()
    unit = mx.ones_like(scales)
    codes = mx.dequantize(
        module["weight"], unit, mx.zeros_like(unit), group_size=module.group_size, bits=module.bits
    )
    q = codes.reshape(*module["weight"].shape[:-1], -1, _BLOCK)
    if not has_minimum:
        q = q + float((1 << (bits - 1)) - middle)
    repeats = module.group_size // _BLOCK
    wide = [mx.repeat(x, repeats, axis=-1)[..., None] for x in (scales, biases)]
    head = [x.astype(mx.float16).view(mx.uint8) for x in (wide if has_minimum else wide[:1])]
    if bits == 8:
        body = (q - 128).astype(mx.int8).view(mx.uint8)
    else:
        body = nibbles_and_fifths(q.astype(mx.uint8), bits)
    blocks = mx.concatenate([*head, body], axis=-1)
    return {"weight": blocks.reshape(*module["weight"].shape[:-1], -1)}, tuple(wide)
