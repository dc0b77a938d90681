"""Packed weights: random codes, scales of harmless size, and a plain decoder of each format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.compare.model import Input

_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


@dataclass(frozen=True)
class Packed:
    """A format of weights of shape (n, k), as ``quantized_matmul`` takes them.

    Attributes
    ----------
    draw : callable
        ``draw(rng, n, k)``: the packed operands of random weights.
    decode : callable
        ``decode(*operands)``: the weights in float64.
    offset_size : callable
        ``offset_size(*operands)``: the size of what a code is added to, broadcasting with the weights.
    """

    name: str
    mode: str
    group: int | None
    bits: int | None
    draw: Callable[[np.random.Generator, int, int], list[Input]]
    decode: Callable[..., np.ndarray]
    bits_per_weight: float
    offset_size: Callable[..., np.ndarray | float] = lambda *operands: 0.0

    def bytes(self, n: int, k: int) -> int:
        """Bytes of the packed weights."""
        return int(n * k * self.bits_per_weight / 8)


def _words(rng: np.random.Generator, n: int, k: int, bits: int) -> Input:
    return Input(rng.integers(0, 1 << 32, (n, k * bits // 32), dtype=np.uint32), "uint32")


def _codes(words: np.ndarray, bits: int) -> np.ndarray:
    """Codes that lie one after the other, lowest bits first, across the ends of words."""
    stream = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")
    stream = stream.reshape(len(words), -1, bits)
    return (stream * (1 << np.arange(bits))).sum(-1)


def _affine(bits: int, group: int = 64) -> Packed:
    def draw(r: np.random.Generator, n: int, k: int) -> list[Input]:
        scales = np.exp2(r.integers(-8, -5, (n, k // group))).astype(np.float32)
        biases = (-(2 ** (bits - 1)) * scales).astype(np.float32)
        return [_words(r, n, k, bits), Input(scales, "bfloat16"), Input(biases, "bfloat16")]

    def decode(words: np.ndarray, scales: np.ndarray, biases: np.ndarray) -> np.ndarray:
        each, offset = (np.repeat(a.astype(np.float64), group, 1) for a in (scales, biases))
        return _codes(words, bits) * each + offset

    def size(words: np.ndarray, scales: np.ndarray, biases: np.ndarray) -> np.ndarray:
        return 2 * np.abs(np.repeat(biases.astype(np.float64), group, 1))

    return Packed(f"affine_{bits}", "affine", group, bits, draw, decode, bits + 32 / group, size)


def _mxfp4() -> Packed:
    def draw(r: np.random.Generator, n: int, k: int) -> list[Input]:
        return [_words(r, n, k, 4), Input(r.integers(120, 125, (n, k // 32), dtype=np.uint8), "uint8")]

    def decode(words: np.ndarray, scales: np.ndarray) -> np.ndarray:
        return _E2M1[_codes(words, 4)] * np.repeat(np.exp2(scales.astype(np.float64) - 127), 32, 1)

    return Packed("mxfp4", "mxfp4", 32, 4, draw, decode, 4.25)


def _e4m3(codes: np.ndarray) -> np.ndarray:
    """Positive normal numbers with four bits of exponent and three of mantissa."""
    return np.exp2((codes >> 3).astype(np.float64) - 7) * (1 + (codes & 7) / 8)


def _nvfp4() -> Packed:
    def draw(r: np.random.Generator, n: int, k: int) -> list[Input]:
        return [_words(r, n, k, 4), Input(r.integers(8, 40, (n, k // 16), dtype=np.uint8), "uint8")]

    def decode(words: np.ndarray, scales: np.ndarray) -> np.ndarray:
        return _E2M1[_codes(words, 4)] * np.repeat(_e4m3(scales), 16, 1)

    return Packed("nvfp4", "nvfp4", 16, 4, draw, decode, 4.5)


_Q4_K_BYTES = 144
"""Of 256 weights: two float16 scales, eight 6-bit scales and minima in 12 bytes, and 128 bytes of codes."""


def _q4_k_parts(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (..., 8, 32), steps and offsets (..., 8) of blocks in the last axis."""
    unit = np.ascontiguousarray(blocks[..., :4]).view(np.float16).astype(np.float64)
    low, middle, high = (blocks[..., 4 + 4 * i : 8 + 4 * i].astype(np.int64) for i in range(3))
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], -1)
    minima = np.concatenate([middle & 63, (high >> 4) | (middle >> 6 << 4)], -1)
    pairs = blocks[..., 16:].reshape(*blocks.shape[:-1], 4, 1, 32)
    codes = np.concatenate([pairs & 15, pairs >> 4], -2).reshape(*blocks.shape[:-1], 8, 32)
    return codes, unit[..., :1] * scales, unit[..., 1:] * minima


def _q4_k() -> Packed:
    def draw(r: np.random.Generator, n: int, k: int) -> list[Input]:
        blocks = r.integers(0, 256, (n, k // 256, _Q4_K_BYTES), dtype=np.uint8)
        unit = np.exp2(r.integers(-12, -9, (n, k // 256, 2))).astype(np.float16)
        blocks[..., :4] = unit.view(np.uint8)
        return [Input(blocks.reshape(n, -1), "uint8")]

    def split(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _q4_k_parts(blocks.reshape(len(blocks), -1, _Q4_K_BYTES))

    def decode(blocks: np.ndarray) -> np.ndarray:
        codes, step, offset = split(blocks)
        return (codes * step[..., None] - offset[..., None]).reshape(len(blocks), -1)

    def size(blocks: np.ndarray) -> np.ndarray:
        codes, _, offset = split(blocks)
        return 2 * np.broadcast_to(offset[..., None], codes.shape).reshape(len(blocks), -1)

    return Packed("q4_k", "q4_k", None, None, draw, decode, 4.5, size)


FORMATS = [_affine(2), _affine(3), _affine(6), _affine(8), _mxfp4(), _nvfp4(), _q4_k()]
