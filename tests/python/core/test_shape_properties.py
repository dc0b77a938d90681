"""Random shapes, axes and layouts against NumPy: reductions, orders, scans, broadcasting, moves."""

from __future__ import annotations

import math
from typing import Any

import lamina.core as mx
import numpy as np
from core.core_cases import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
FILLED = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
SEEDS = st.integers(0, 2**16)


def pair(shape: tuple[int, ...], seed: int, layout: str = "plain") -> tuple[mx.array, np.ndarray]:
    """Small whole numbers, many equal, as an array of that layout and in NumPy."""
    values = np.random.default_rng(seed).integers(-4, 5, shape).astype(np.int32)
    if layout == "transposed":
        return mx.array(np.array(values.T, order="C")).T, values
    if layout == "reversed":
        back = (slice(None, None, -1),) * values.ndim
        return mx.array(np.array(values[back], order="C"))[back], values
    return mx.array(values), values


LAYOUTS = st.sampled_from(["plain", "transposed", "reversed"])


@st.composite
def some_axes(draw: st.DrawFn, ndim: int) -> Any:
    axes = draw(st.lists(st.integers(0, max(ndim - 1, 0)), unique=True, max_size=ndim))
    return draw(st.sampled_from([None, tuple(a - ndim if draw(st.booleans()) else a for a in axes)]))


@settings(max_examples=200)
@given(SHAPES, SEEDS, LAYOUTS, st.sampled_from(["sum", "prod", "max", "min", "all", "any"]), st.data())
def test_reductions(shape: tuple[int, ...], seed: int, layout: str, name: str, data: st.DataObject) -> None:
    a, values = pair(shape, seed, layout)
    axes, keepdims = data.draw(some_axes(values.ndim)), data.draw(st.booleans())
    over = range(values.ndim) if axes is None else axes
    if name in ("max", "min") and any(shape[i] == 0 for i in over):
        return
    kind: dict[str, Any] = {"dtype": np.int32} if name in ("sum", "prod") else {}
    want = np.asarray(getattr(np, name)(values, axis=axes, keepdims=keepdims, **kind))
    assert_same(getattr(mx, name)(a, axis=axes, keepdims=keepdims), want)


@settings(max_examples=200)
@given(FILLED, SEEDS, LAYOUTS, st.data())
def test_orders_and_scans(shape: tuple[int, ...], seed: int, layout: str, data: st.DataObject) -> None:
    a, values = pair(shape, seed, layout)
    axis = data.draw(st.one_of(st.none(), st.integers(-values.ndim, values.ndim - 1)))
    flat, at = (values.reshape(-1), 0) if axis is None else (values, axis)
    n = flat.shape[at]
    ordered = np.sort(flat, axis=at)
    assert_same(mx.sort(a, axis=axis), ordered)
    assert_same(mx.argsort(a, axis=axis), np.argsort(flat, axis=at, kind="stable").astype(np.uint32))
    assert_same(mx.argmax(a, axis=axis), np.asarray(np.argmax(flat, axis=at)).astype(np.uint32))
    assert_same(mx.argmin(a, axis=axis), np.asarray(np.argmin(flat, axis=at)).astype(np.uint32))
    kth = data.draw(st.integers(0, n - 1))
    parted = np.moveaxis(np.asarray(mx.partition(a, kth, axis=axis)), at, -1)
    assert (parted[..., :kth] <= parted[..., kth : kth + 1]).all()
    assert (parted[..., kth:] >= parted[..., kth : kth + 1]).all()
    assert (np.sort(parted, axis=-1) == np.moveaxis(ordered, at, -1)).all()
    top = np.sort(np.asarray(mx.topk(a, kth + 1, axis=axis)), axis=at)
    assert (top == np.take(ordered, np.arange(n - kth - 1, n), axis=at)).all()
    back, inclusive = data.draw(st.booleans()), data.draw(st.booleans())
    for name, ufunc, start in (
        ("cumsum", np.add, 0),
        ("cummax", np.maximum, None),
        ("cummin", np.minimum, None),
    ):
        turned = np.flip(flat, at) if back else flat
        want = ufunc.accumulate(turned, axis=at, dtype=np.int32)
        if not inclusive and start is not None:
            first = np.full_like(np.take(want, [0], axis=at), start)
            want = np.concatenate([first, np.take(want, np.arange(n - 1), axis=at)], axis=at)
        got = getattr(mx, name)(a, axis=axis, reverse=back, inclusive=inclusive or start is None)
        assert_same(got, np.flip(want, at) if back else want)


@settings(max_examples=150)
@given(SHAPES, SEEDS, LAYOUTS, st.data())
def test_moves(shape: tuple[int, ...], seed: int, layout: str, data: st.DataObject) -> None:
    a, values = pair(shape, seed, layout)
    n = values.ndim
    order = tuple(data.draw(st.permutations(range(n))))
    assert_same(mx.transpose(a, order), np.transpose(values, order))
    lengths = [int(k) for k in np.array(shape)[list(order)]] if n else []
    assert_same(mx.reshape(a, lengths), values.reshape(lengths))
    assert_same(mx.reshape(a, (-1,)), values.reshape(-1))
    assert_same(mx.flip(a, axis=order[:1]), np.flip(values, order[:1]))
    shift = data.draw(st.integers(-7, 7))
    assert_same(mx.roll(a, shift), np.roll(values, shift))
    times = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    assert_same(mx.tile(a, times), np.tile(values, times))
    assert_same(mx.repeat(a, times[0]), np.repeat(values, times[0]))
    if not n:
        return
    i, j = (data.draw(st.integers(-n, n - 1)) for _ in range(2))
    assert_same(mx.moveaxis(a, i, j), np.moveaxis(values, i, j))
    assert_same(mx.swapaxes(a, i, j), np.swapaxes(values, i, j))
    assert_same(mx.expand_dims(a, i), np.expand_dims(values, i))
    assert_same(mx.repeat(a, times[0], axis=i), np.repeat(values, times[0], axis=i))
    assert_same(mx.roll(a, (shift, 1), (i, j)), np.roll(values, (shift, 1), (i, j)))
    width = [tuple(data.draw(st.integers(0, 2)) for _ in range(2)) for _ in range(n)]
    assert_same(mx.pad(a, width, constant_values=3), np.pad(values, width, constant_values=3))
    if values.size:
        assert_same(mx.pad(a, width, mode="edge"), np.pad(values, width, mode="edge"))
    cuts = sorted(data.draw(st.lists(st.integers(0, shape[i]), max_size=3)))
    for got, want in zip(mx.split(a, cuts, axis=i), np.split(values, cuts, axis=i), strict=True):
        assert_same(got, want)
    assert_same(mx.concatenate([a, a], axis=i), np.concatenate([values, values], axis=i))
    assert_same(mx.stack([a, a], axis=i), np.stack([values, values], axis=i))


@settings(max_examples=150)
@given(FILLED, SEEDS, LAYOUTS, st.data())
def test_broadcasting(shape: tuple[int, ...], seed: int, layout: str, data: st.DataObject) -> None:
    def narrowed() -> tuple[int, ...]:
        kept = [data.draw(st.sampled_from([1, n])) for n in shape]
        return tuple(kept[data.draw(st.integers(0, len(kept))) :])

    a, x = pair(narrowed(), seed, layout)
    b, y = pair(narrowed(), seed + 1)
    c, z = pair(narrowed(), seed + 2, layout)
    assert_same(a + b * c, x + y * z)
    assert_same(mx.where(a > b, b, c), np.where(x > y, y, z))
    assert_same(mx.broadcast_to(a, shape), np.broadcast_to(x, shape))
    assert mx.broadcast_shapes(a.shape, b.shape, c.shape) == np.broadcast_shapes(x.shape, y.shape, z.shape)
    for got, want in zip(mx.broadcast_arrays(a, b, c), np.broadcast_arrays(x, y, z), strict=True):
        assert_same(got, want)
    assert math.prod((a + b).shape) == (x + y).size
