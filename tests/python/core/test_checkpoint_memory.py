"""Peaks of memory with and without checkpoints, predicted from shapes and compared byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import lamina.core as mx
import numpy as np
import pytest

# A state is a whole number of pages, so that blocks are as large as what is asked for.
ROWS, WIDTH = 256, 128
STATE = 4 * ROWS * WIDTH
WEIGHT = 4 * WIDTH * WIDTH


def block(x: mx.array, w: mx.array, count: int) -> mx.array:
    for _ in range(count):
        x = mx.sin(x @ w)
    return x


def chain(x: mx.array, w: mx.array, blocks: int, per_block: int, wrap: Callable) -> mx.array:
    one = wrap(partial(block, count=per_block))
    for _ in range(blocks):
        x = one(x, w)
    return x


def peak(f: Callable[[], mx.array]) -> int:
    """Bytes that an evaluation held at once beyond what was held before it."""
    mx.eval(f())
    mx.synchronize()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    out = f()
    mx.eval(out)
    return mx.get_peak_memory() - before


def operands() -> tuple[mx.array, mx.array]:
    rng = np.random.default_rng(0)
    x = mx.array(rng.standard_normal((ROWS, WIDTH)).astype(np.float32))
    w = mx.array(rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / WIDTH**0.5)
    mx.eval(x, w)
    return x, w


if __name__ == "__main__":
    x, w = operands()
    for blocks, per in [(1, 1), (1, 2), (1, 4), (2, 4), (4, 4), (8, 4), (4, 8), (4, 2), (4, 1)]:
        row = []
        for wrap in (lambda f: f, mx.checkpoint):
            def loss(x, wrap=wrap):
                return mx.vjp(lambda a: chain(a, w, blocks, per, wrap), [x], [mx.ones((ROWS, WIDTH))])[1][0]
            row.append(peak(lambda: loss(x)) / STATE)
        print(blocks, per, row)
