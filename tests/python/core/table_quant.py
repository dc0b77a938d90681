"""The floating-point block formats in NumPy, and their cases of the quantization rows."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import ml_dtypes
import numpy as np
from core.core_cases import NUMPY_DTYPES
from core.table_cases import HALVES, Kernel, Wanted, normal, rounding
from core.table_rows import EPS

F32 = EPS["float32"]
SPAN = np.float32(448 * 6)
# Group size, bits and the largest element of each mode.
MODES: dict[str, tuple[int, int, float]] = {
    "mxfp4": (32, 4, 6.0),
    "mxfp8": (32, 8, 448.0),
    "nvfp4": (16, 4, 6.0),
}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
E4M3 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
E8M0 = np.where(np.arange(256) == 255, np.inf, np.exp2(np.arange(256.0) - 127)).astype(np.float32)


def e4m3_codes(x: np.ndarray) -> np.ndarray:
    """The nearest E4M3 codes, ties to even, sizes beyond 448 as 448."""
    return np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)


def e2m1_codes(x: np.ndarray) -> np.ndarray:
    """The nearest E2M1 codes, ties to the smaller size, no negative zero."""
    size = (np.abs(x)[..., None] > (E2M1[1:8] + E2M1[:7]) / 2).sum(-1)
    return np.where((x < 0) & (size > 0), size + 8, size).astype(np.uint8)


def words_of(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes in rows of 32-bit words, the first in the lowest bits."""
    if bits == 4:
        codes = codes[..., 0::2] | codes[..., 1::2] << 4
    return np.ascontiguousarray(codes, np.uint8).view(np.uint32)


def codes_of(words: np.ndarray, bits: int) -> np.ndarray:
    codes = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return codes
    return np.stack([codes & 15, codes >> 4], -1).reshape(*codes.shape[:-1], -1)


def encoded(w: np.ndarray, mode: str, global_scale: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The formats of quant/fp_blocks.h; finite numbers only."""
    group, bits, top = MODES[mode]
    x = w.astype(np.float32).reshape(*w.shape[:-1], -1, group)
    size = (np.abs(x).max(-1) / np.float32(top)).astype(w.dtype).astype(np.float32)
    inverse = np.float32(1) if global_scale is None else SPAN / np.float32(global_scale)
    if mode == "nvfp4":
        scales = e4m3_codes(size * inverse)
        unit = E4M3[scales]
    else:
        mantissa, exponent = np.frexp(size)
        exponent = np.maximum(exponent - (mantissa == 0.5), -127)
        scales = np.where(size > 0, exponent + 127, 127).astype(np.uint8)
        unit = E8M0[scales]
    quotients = (x / np.where(unit == 0, np.float32(1), unit)[..., None]).astype(w.dtype).astype(np.float32)
    x = np.where(unit[..., None] == 0, np.float32(0), quotients * inverse)
    codes = (e4m3_codes if bits == 8 else e2m1_codes)(x)
    return words_of(codes.reshape(w.shape), bits), scales


def decoded(
    words: np.ndarray, scales: np.ndarray, mode: str, global_scale: float | None = None
) -> np.ndarray:
    """The float32 values of packed words."""
    group, bits, _ = MODES[mode]
    codes = codes_of(words, bits).reshape(*scales.shape, group)
    unit = (E4M3 if mode == "nvfp4" else E8M0)[scales]
    if global_scale is not None:
        unit = unit * (np.float32(global_scale) / SPAN)
    return ((E4M3 if bits == 8 else E2M1)[codes] * unit[..., None]).reshape(*words.shape[:-1], -1)


def encode(mode: str) -> Kernel:
    return Kernel(
        mode,
        normal((5, 192)),
        lambda w: mx.quantize(w, mode=mode),
        lambda dtype, w: [(part, 0) for part in encoded(w, mode)],
        HALVES,
        lambda dtype: ["uint32", "uint8"],
    )


def parts(shape: tuple[int, ...], mode: str) -> Any:
    """Random codes, none of them NaN, and scales of ordinary size."""
    group, bits, _ = MODES[mode]

    def make(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
        *outer, columns = shape
        codes = rng.integers(0, 256, (*outer, columns * bits // 8), np.uint8)
        codes = np.where((bits == 8) & (codes & 127 == 127), codes ^ 1, codes)
        low, high = (8, 120) if mode == "nvfp4" else (120, 132)
        scales = rng.integers(low, high, (*outer, columns // group), np.uint8)
        return [codes.view(np.uint32), scales]

    return make


def decode(mode: str) -> Kernel:
    return Kernel(
        mode,
        lambda rng, dtype: [*parts((5, 192), mode)(rng, dtype), np.zeros(1, NUMPY_DTYPES[dtype])],
        lambda words, scales, like: mx.dequantize(words, scales, mode=mode, dtype=like.dtype),
        lambda dtype, words, scales, like: [(decoded(words, scales, mode).astype(like.dtype), 0)],
        HALVES,
    )


def multiply(mode: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], transpose: bool) -> Kernel:
    def make(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
        return [*normal(x_shape)(rng, dtype), *parts(w_shape, mode)(rng, dtype)]

    def theirs(dtype: str, x: np.ndarray, words: np.ndarray, scales: np.ndarray) -> Wanted:
        w = decoded(words, scales, mode).astype(np.float64)
        w = np.swapaxes(w, -1, -2) if transpose else w
        want, size = x.astype(np.float64) @ w, np.abs(x.astype(np.float64)) @ np.abs(w)
        return [(want, x.shape[-1] * F32 * size + rounding(dtype) * np.abs(want))]

    return Kernel(
        f"{mode}, {x_shape} by {w_shape}{', transposed' * transpose}",
        make,
        lambda *p: mx.quantized_matmul(*p, transpose=transpose, mode=mode),
        theirs,
        HALVES,
    )


def products(mode: str) -> list[Kernel]:
    return [
        multiply(mode, (1, 256), (33, 256), True),
        multiply(mode, (5, 96), (7, 96), True),
        multiply(mode, (20, 96), (33, 96), True),
        multiply(mode, (3, 33), (33, 96), False),
        multiply(mode, (2, 3, 64), (2, 7, 64), True),
        multiply(mode, (64,), (3, 64), True),
        multiply(mode, (0, 64), (5, 64), True),
    ]


PICKS = np.array([[2, 0, -1], [2, 2, 1]])


def multiply_picked(mode: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...]) -> Kernel:
    whole = multiply(mode, x_shape, w_shape, True)

    def theirs(dtype: str, x: np.ndarray, words: np.ndarray, scales: np.ndarray) -> Wanted:
        return whole.theirs(dtype, x, words[PICKS], scales[PICKS])

    def ours(*p: mx.array) -> mx.array:
        return mx.gather_qmm(*p, rhs_indices=mx.array(PICKS), mode=mode)

    return Kernel(f"{mode}, {x_shape} by picked {w_shape}", whole.make, ours, theirs, HALVES)


QUANT_KERNELS: dict[str, list[Kernel]] = {
    "AffineQuantize": [encode(mode) for mode in MODES],
    "AffineDequantize": [decode(mode) for mode in MODES],
    "QuantizedMatmul": [kernel for mode in MODES for kernel in products(mode)],
    "GatherQuantizedMatmul": [
        multiply_picked(mode, x, (3, 33, 96)) for mode in MODES for x in ((2, 3, 1, 96), (1, 96), (3, 17, 96))
    ],
}
