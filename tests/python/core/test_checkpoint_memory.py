"""Peaks of memory with and without checkpoints, predicted from shapes and compared byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import lamina.core as mx
import numpy as np
import pytest

Wrap = Callable[[Callable], Callable]

# Rows and width of a state, in float32: a whole number of pages; more than one; of a class of small blocks.
SIZES = [(256, 128), (300, 111), (65, 33)]
PAGE = 4096


def capacity(count: int) -> int:
    """The bytes of a block for `count` float32 numbers: eight steps to a power of two, or whole pages."""
    n = 4 * count
    if n <= 512:
        return -(-n // 64) * 64
    step = (1 << ((n - 1).bit_length() - 1)) // 8
    step = step if n <= 64 << 10 else max(step, PAGE)
    return -(-n // step) * step


def block(x: mx.array, w: mx.array, count: int) -> mx.array:
    for _ in range(count):
        x = mx.sin(x @ w)
    return x


def chain(x: mx.array, w: mx.array, blocks: int, layers: int, wrap: Wrap) -> mx.array:
    one = wrap(partial(block, count=layers))
    for _ in range(blocks):
        x = one(x, w)
    return x


def operands(size: tuple[int, int]) -> list[mx.array]:
    """A state, a weight, and a cotangent of the result."""
    rng = np.random.default_rng(0)
    width = size[1]
    shapes = (size, (width, width), size)
    arrays = [mx.array(rng.standard_normal(s).astype(np.float32) / width**0.5) for s in shapes]
    mx.eval(arrays)
    return arrays


def peak(f: Callable[[], mx.array]) -> int:
    """Bytes that an evaluation held at once beyond what was held before it."""
    # Blocks that other tests left may be a little larger than what is asked for.
    mx.clear_cache()
    mx.eval(f())
    mx.synchronize()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(f())
    return mx.get_peak_memory() - before


def peak_of_gradient(size: tuple[int, int], blocks: int, layers: int, wrap: Wrap) -> int:
    x, w, cotangent = operands(size)
    return peak(lambda: mx.vjp(lambda a: chain(a, w, blocks, layers, wrap), [x], [cotangent])[1][0])


def plain(f: Callable) -> Callable:
    return f


CHAINS = [(2, 2), (2, 4), (4, 4), (8, 4), (4, 8), (4, 2), (16, 16)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("blocks", "layers"), CHAINS)
def test_peaks_are_as_computed(size: tuple[int, int], blocks: int, layers: int) -> None:
    state = capacity(size[0] * size[1])
    # Backwards, each layer needs its product x @ w; a cotangent is on its way beside them.
    assert peak_of_gradient(size, blocks, layers, plain) == (blocks * layers + 1) * state
    # The inputs of all blocks but the first, which is given, and the products of one block. A state on its
    # way through it has the room of the block's input, and the product of a cotangent none: each of its tiles
    # is multiplied at once, into the room of the layer's product.
    assert peak_of_gradient(size, blocks, layers, mx.checkpoint) == (blocks + layers - 1) * state


@pytest.mark.parametrize("how", [plain, mx.checkpoint])
def test_gradients_in_any_order_have_the_same_peak(how: Wrap) -> None:
    """Those of the last layer are computed first, whatever the order: what they read can go then."""
    x, _, cotangent = operands(SIZES[0])
    rng = np.random.default_rng(1)
    width = SIZES[0][1]
    weights = [mx.array(rng.standard_normal((width, width)).astype(np.float32) / 12) for _ in range(6)]
    mx.eval(weights)

    def loss(ws: list[mx.array]) -> mx.array:
        y = x
        for w in ws:
            y = how(partial(block, count=4))(y, w)
        return (y * cotangent).sum()

    def asked(order: Callable[[list[mx.array]], list[mx.array]]) -> Callable[[], list[mx.array]]:
        def f() -> list[mx.array]:
            value, gradients = mx.value_and_grad(loss)(weights)
            return order([value, *gradients])

        return f

    peaks = [peak(asked(order)) for order in (list, lambda a: a[::-1], lambda a: a[1::2] + a[::2])]
    assert peaks[0] == peaks[1] == peaks[2]
    state, most = capacity(SIZES[0][0] * width), capacity(width * width)
    # Each layer's input and product are read backwards: of all blocks, or of one and the others' inputs.
    kept = 2 * 6 * 4 if how is plain else 2 * 4 + 6
    # Beside them states on their way, the gradients, and sums of theirs.
    assert peaks[0] <= (kept + 3) * state + 9 * most
