"""Operands of jobs."""

from __future__ import annotations

import numpy as np

from bench.compare.model import Input


def normal(rng: np.random.Generator, *shape: int) -> Input:
    """Normally distributed float32 numbers."""
    return Input(rng.standard_normal(shape, dtype=np.float32), "float32")


def uniform(rng: np.random.Generator, *shape: int, low: float = -1.0, high: float = 1.0) -> Input:
    """Uniform float32 numbers."""
    return Input((rng.random(shape, dtype=np.float32) * (high - low) + low).astype(np.float32), "float32")


def normal_bfloat16(rng: np.random.Generator, *shape: int) -> Input:
    """Normally distributed numbers that bfloat16 holds exactly, as float32."""
    values = normal(rng, *shape).values
    return Input((values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32), "bfloat16")


def indices(rng: np.random.Generator, below: int, *shape: int) -> Input:
    """Uniform indices, repetitions among them."""
    return Input(rng.integers(0, below, shape, dtype=np.int32), "index")


def distinct(rng: np.random.Generator, *shape: int) -> Input:
    """Distinct whole float32 numbers in random order; at most 2**24 of them."""
    count = int(np.prod(shape))
    return Input(rng.permutation(count).astype(np.float32).reshape(shape), "float32")
