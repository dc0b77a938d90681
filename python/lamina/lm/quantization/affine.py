"""The layout of ``mx.quantize``, written with scales that look at the inputs."""

from __future__ import annotations

import lamina.core as mx
from lamina.lm.quantization.search import fit_affine

# Ranges to try around what a group spans: low bits gain from clipping its ends.
_WIDTHS = {2: (-0.5, 0.0, 0.5, 1.0, 1.5), 3: (-0.9, -0.4, 0.0, 0.5, 1.0, 1.5, 2.0)}
_USUAL = (-0.9, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


def pack_codes(codes: mx.array, bits: int) -> mx.array:
    """Pack whole numbers (..., columns) into words: a stream of bits, the first code in the lowest.

    Examples
    --------
    >>> import lamina.core as mx
    >>> pack_codes(mx.arange(8).reshape(1, 8), 4).tolist()
    [[1985229328]]
    """
    eight = codes.astype(mx.uint64).reshape(*codes.shape[:-1], -1, 8)
    joined = mx.left_shift(eight, mx.arange(0, 8 * bits, bits, dtype=mx.uint64)).sum(axis=-1)
    stream = joined.astype(mx.uint64)[..., None].view(mx.uint8)[..., :bits]
    return mx.contiguous(stream.reshape(*codes.shape[:-1], -1)).view(mx.uint32)


def encode_affine(
    weight: mx.array, group_size: int, bits: int, importance: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    """Quantize a matrix so that what its inputs make of it stays closest.

    Parameters
    ----------
    weight : array (..., rows, columns)
        Weights of a floating dtype, that of the result's scales and biases.
    group_size, bits : int
        As for ``mx.quantize``.
    importance : array (columns,)
        The mean square of each input, or anything that says how much an error in a column matters.

    Returns
    -------
    tuple of array
        Packed words, scales and biases, as ``mx.quantize`` returns them.
    """
    groups = weight.shape[-1] // group_size
    w = weight.astype(mx.float32).reshape(-1, groups, group_size)
    h = importance.astype(mx.float32).reshape(groups, group_size)
    # A column that is always zero must not make its group's fit undefined.
    h = mx.maximum(h / h.mean(), 2.0**-20)
    top = (1 << bits) - 1
    scale, bias = fit_affine(w, h, top, _WIDTHS.get(bits, _USUAL))
    scale, bias = (x.astype(weight.dtype) for x in (scale, bias))
    wide, start = scale.astype(mx.float32), bias.astype(mx.float32)
    q = mx.round((w - start) / mx.where(wide == 0, 1.0, wide))
    codes = mx.clip(q, 0, top).reshape(*weight.shape)
    shape = (*weight.shape[:-1], groups)
    return pack_codes(codes, bits), scale.reshape(shape), bias.reshape(shape)
