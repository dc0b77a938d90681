"""Random index expressions against NumPy: reads, writes, `at` updates, and functions that take indices."""

from __future__ import annotations

import math
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st

Case = tuple[np.ndarray, tuple[Any, ...]]


def slices(length: int) -> st.SearchStrategy[slice]:
    bound = st.one_of(st.none(), st.integers(-length - 2, length + 2))
    return st.builds(slice, bound, bound, st.one_of(st.none(), st.integers(-4, 4).filter(bool)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """An array without equal elements, and an index of every kind of item; index arrays broadcast."""
    shape = draw(st.lists(st.integers(1, 4), max_size=4).map(tuple))
    common = draw(st.lists(st.integers(1, 3), max_size=2).map(tuple))
    items: list[Any] = []
    axis = 0
    while axis < len(shape) and draw(st.integers(0, 5)):
        n = shape[axis]
        kind = draw(st.sampled_from(["int", "slice", "slice", "array", "mask"]))
        if kind == "mask":
            # As many true elements as the other index arrays want, or one.
            axes = draw(st.integers(1, min(2, len(shape) - axis)))
            size = math.prod(shape[axis : axis + axes])
            want = common[-1] if common and common[-1] <= size and draw(st.booleans()) else 1
            chosen = draw(st.permutations(range(size)))[:want]
            items.append(np.isin(np.arange(size), chosen).reshape(shape[axis : axis + axes]))
            axis += axes
            continue
        if kind == "int":
            items.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            items.append(draw(slices(n)))
        else:
            own = tuple(draw(st.sampled_from([1, k])) for k in common)[draw(st.integers(0, len(common))) :]
            dtype = draw(st.sampled_from([np.int32, np.int64, np.int8]))
            count = math.prod(own)
            flat = draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count))
            items.append(np.array(flat, dtype).reshape(own))
        axis += 1
    for _ in range(draw(st.integers(0, 2))):
        items.insert(draw(st.integers(0, len(items))), None)
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), ...)
        # What follows an ellipsis counts axes from the end, where lengths are others.
        items = items if fits(shape, items) else [i for i in items if i is not ...]
    return np.arange(math.prod(shape), dtype=np.int32).reshape(shape), tuple(items)


def fits(shape: tuple[int, ...], items: list[Any]) -> bool:
    try:
        np.empty(shape)[tuple(items)]
    except IndexError:
        return False
    return True


def ours(index: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(mx.array(i) if isinstance(i, np.ndarray) else i for i in index)


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    """Negative numbers, all different, of a shape."""
    return -1 - np.arange(math.prod(shape), dtype=np.int32).reshape(shape)


@settings(max_examples=200)
@given(cases())
def test_read(case: Case) -> None:
    values, index = case
    assert_same(mx.array(values)[ours(index)], np.asarray(values[index]))


@settings(max_examples=100)
@given(cases())
def test_read_of_a_view(case: Case) -> None:
    """The array itself is a transposed and reversed view of memory."""
    values, index = case
    a = mx.array(np.array(values.T, order="C"))
    back = (slice(None, None, -1),) * values.ndim
    assert_same(a.T[ours(index)], np.asarray(values[index]))
    assert_same(mx.array(np.array(values[back], order="C"))[back][ours(index)], np.asarray(values[index]))


@settings(max_examples=150)
@given(cases(), st.sampled_from(["scalar", "full", "row", "one"]))
def test_write(case: Case, kind: str) -> None:
    """The last of several writes to one place stays, as in NumPy."""
    values, index = case
    part = np.asarray(values[index])
    value: Any = -5
    if kind == "full":
        value = numbers(part.shape)
    elif kind == "row":
        value = numbers(part.shape[-1:])
    elif kind == "one":
        value = numbers((1,) * part.ndim)
    want = values.copy()
    want[index] = value
    got = mx.array(values)
    other = got + 0
    got[ours(index)] = mx.array(value) if isinstance(value, np.ndarray) else value
    assert_same(got, want)
    assert_same(other, values)


@settings(max_examples=150)
@given(cases(), st.sampled_from(["add", "subtract", "multiply", "divide", "maximum", "minimum"]))
def test_at(case: Case, name: str) -> None:
    """Every update counts, those of an index that comes twice too."""
    values, index = case
    base = np.asarray(values.astype(np.float32) * 8)
    part = np.asarray(base[index])
    # Powers of two: products and quotients are exact in any order.
    update = np.exp2(np.arange(part.size, dtype=np.float32).reshape(part.shape) % 3)
    want = base.copy()
    getattr(np, name).at(want, index, update)
    a = mx.array(base)
    assert_same(getattr(a.at[ours(index)], name)(mx.array(update)), want)
    assert_same(a, base)


def written(a: mx.array, index: tuple[Any, ...]) -> mx.array:
    a[index] = 1
    return a


@given(cases(), st.data())
def test_out_of_bounds_raises(case: Case, data: st.DataObject) -> None:
    """An int, or one element of an index array, beyond its axis: reads, writes and updates alike."""
    values, _ = case
    if not values.ndim:
        return
    axis = data.draw(st.integers(0, values.ndim - 1))
    n = values.shape[axis]
    bad = data.draw(st.sampled_from([n, n + 5, -n - 1, 2**31, -(2**40)]))
    at: Any = data.draw(st.sampled_from([bad, np.array([0, bad, 0]), [[bad]]]))
    index = (slice(None),) * axis + (at,)
    a = mx.array(values)
    with pytest.raises(IndexError):
        mx.eval(a[ours(index)])
    with pytest.raises(IndexError):
        mx.eval(a.at[ours(index)].add(1))
    with pytest.raises(IndexError):
        mx.eval(written(a, ours(index)))
    spot = mx.array(np.full((1,) * values.ndim, bad))
    for call in (
        lambda: mx.take(a, mx.array([bad]), axis=axis),
        lambda: mx.take_along_axis(a, spot, axis=axis),
        lambda: mx.put_along_axis(a, spot, mx.array(1), axis=axis),
    ):
        with pytest.raises(IndexError):
            mx.eval(call())


@given(cases(), st.data())
def test_along_axis(case: Case, data: st.DataObject) -> None:
    values, _ = case
    if not values.ndim:
        return
    axis = data.draw(st.integers(-values.ndim, values.ndim - 1))
    n = values.shape[axis]
    count = data.draw(st.integers(0, n))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    order = np.argsort(rng.random(values.shape), axis=axis)
    some = np.take(order, np.arange(count), axis=axis)
    some = np.where(rng.random(some.shape) < 0.5, some, some - n)
    assert_same(
        mx.take_along_axis(mx.array(values), mx.array(some), axis=axis),
        np.take_along_axis(values, some, axis),
    )
    want, new = values.copy(), numbers(some.shape)
    np.put_along_axis(want, some, new, axis)
    assert_same(mx.put_along_axis(mx.array(values), mx.array(some), mx.array(new), axis=axis), want)
    flat = rng.integers(-values.size, values.size, (2, 3))
    assert_same(mx.take(mx.array(values), mx.array(flat)), np.take(values, flat, mode="wrap"))


@given(cases(), st.data())
def test_slice_and_slice_update(case: Case, data: st.DataObject) -> None:
    """A window at a start that is an array."""
    values, _ = case
    if not values.ndim:
        return
    sizes = tuple(data.draw(st.integers(1, n)) for n in values.shape)
    start = [data.draw(st.integers(0, n - k)) for n, k in zip(values.shape, sizes, strict=True)]
    window = tuple(slice(s, s + k) for s, k in zip(start, sizes, strict=True))
    axes = list(range(values.ndim))
    at = mx.array(start)
    assert_same(mx.slice(mx.array(values), at, axes, sizes), values[window])
    want = values.copy()
    want[window] = numbers(sizes)
    assert_same(mx.slice_update(mx.array(values), mx.array(numbers(sizes)), at, axes), want)


@given(st.lists(st.integers(0, 5), max_size=3).map(tuple), st.integers(0, 2**16))
def test_places_of_true_elements(shape: tuple[int, ...], seed: int) -> None:
    """What has a size that only values decide: masks, nonzero, and where with one argument."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 3, shape or (1,)).astype(np.int32)
    mask = values > 0
    a = mx.array(values)
    assert_same(a[mx.array(mask)], values[mask])
    for got in (mx.nonzero(a), mx.where(a)):
        want = np.nonzero(values)
        assert [np.asarray(g).tolist() for g in got] == [w.tolist() for w in want]
