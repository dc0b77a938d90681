"""The numbers of golden models: they follow from names and shapes, so that no weights need to be kept."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 numbers that are exact in bfloat16, made from ``name`` and their places.

    Matrices are multiples of 1/512 in [-1/4, 1/4), norms' weights are around 1, biases in [-1/2, 1/2).
    """
    with np.errstate(over="ignore"):
        x = np.arange(int(np.prod(shape)), dtype=np.uint32) + np.uint32(zlib.crc32(name.encode()))
        x = x * np.uint32(747796405) + np.uint32(2891336453)
        x = ((x >> ((x >> np.uint32(28)) + np.uint32(4))) ^ x) * np.uint32(277803737)
        x = (x >> np.uint32(22)) ^ x
    steps = (x >> np.uint32(16)).astype(np.int32) % 256 - 128
    steps = steps.reshape(shape)
    if name.endswith(("A_log", "recurrent_param")):
        return (np.abs(steps) / 64).astype(np.float32)
    if name.endswith("conv1d.weight"):
        return (steps / 128).astype(np.float32)
    if name.endswith("weight") and (len(shape) == 1 or "norm" in name):
        return (1 + steps // 8 / 64).astype(np.float32)
    return (steps / (512 if len(shape) > 1 else 256)).astype(np.float32)


def all_numbers(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return the numbers of several tensors."""
    return {name: numbers(name, tuple(shape)) for name, shape in shapes.items()}


def tokens(vocab: int, lengths: tuple[int, ...] = (13, 7, 10)) -> list[list[int]]:
    """Return sequences of ids of these lengths."""
    return [[int(7 * i * i + 13 * i + 5 * b) % vocab for i in range(n)] for b, n in enumerate(lengths)]
