"""Reads and assignments with index expressions, against NumPy."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st

VALUES = np.arange(2 * 3 * 4, dtype=np.int32).reshape(2, 3, 4)

READS: list[Any] = [
    0,
    -1,
    (0, 1),
    (0, 1, 2),
    (-1, -1, -1),
    np.int64(1),
    slice(None),
    slice(1, None),
    slice(None, -1),
    slice(None, None, -1),
    slice(10, None),
    slice(None, -10, -1),
    (slice(None), slice(None, None, 2)),
    (slice(None), slice(None, 0, -1), slice(3, 0, -2)),
    ...,
    (..., 0),
    (0, ...),
    (0, ..., 0),
    (...,),
    (),
    None,
    (None, 0, None),
    (..., None),
    (slice(None), None, 1),
    [0, 1],
    [],
    ([0, 1], [1, 2]),
    ([[0], [1]], [0, 2]),
    (slice(None), [2, 0]),
    (slice(None), [2, 0], [3, 3]),
    ([0, 1], slice(None), [1, 2]),
    (0, slice(None), [1, 2]),
    (slice(None), 0, [1, 2]),
    (slice(None), slice(1, 3), [3, 0]),
    (slice(None, None, -1), [[0, 1], [1, 2]], slice(1, 3)),
    ([0], None, [1]),
    (None, [0, 1], None, [1, 2]),
    (..., [0, -1]),
    ([0, 1], ..., 0),
    True,
    False,
    (True, 0),
    (0, True, [1, 2]),
    (slice(None), True),
    np.array(1),
    np.array([[0, 1], [1, 0]]),
    np.array([], dtype=np.int64),
    VALUES > 5,
    VALUES[:, :, 0] > 5,
    np.array([True, False]),
    (slice(None), np.array([True, False, True])),
    (0, np.array([True, False, True])),
    (slice(None), np.array([True, False, True]), [0, 1]),
    (..., np.array([False, False, False, False])),
    np.zeros((2, 3, 4), dtype=bool),
    [True, False],
]


def lamina_index(index: Any) -> Any:
    """The same index with NumPy arrays turned into lamina's."""
    if isinstance(index, tuple):
        return tuple(lamina_index(i) for i in index)
    return mx.array(index) if isinstance(index, np.ndarray) else index


@pytest.mark.parametrize("index", READS, ids=repr)
def test_read(index: Any) -> None:
    want = np.asarray(VALUES[index])
    assert_same(mx.array(VALUES)[lamina_index(index)], want)
    assert_same(mx.array(VALUES)[index], want)


@pytest.mark.parametrize("index", READS, ids=repr)
@pytest.mark.parametrize("kind", ["scalar", "full", "row"])
def test_assign(index: Any, kind: str) -> None:
    want = VALUES.copy()
    shape = np.asarray(want[index]).shape
    # Every element gets a number of its own, so a value in a wrong place shows.
    value: Any = -1
    if kind == "full":
        value = -1 - np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    elif kind == "row":
        value = -1 - np.arange(shape[-1] if shape else 1, dtype=np.int32)
        value = value if shape else value[0]
    want[index] = value
    got = mx.array(VALUES)
    same = got
    got[lamina_index(index)] = mx.array(value) if isinstance(value, np.ndarray) else value
    assert_same(got, want)
    assert same is got


@pytest.mark.parametrize("index", [i for i in READS if i is not True and i is not False], ids=repr)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "maximum", "minimum"])
def test_at(index: Any, name: str) -> None:
    ufunc = getattr(np, name)
    want = VALUES.copy()
    value = np.arange(np.asarray(want[index]).size, dtype=np.int32).reshape(np.asarray(want[index]).shape) - 3
    ufunc.at(want, index, value)
    a = mx.array(VALUES)
    assert_same(getattr(a.at[lamina_index(index)], name)(mx.array(value)), want)
    assert_same(a, VALUES)


def test_at_divide() -> None:
    a = np.array([6.0, 10.0, 4.0], np.float32)
    assert_same(mx.array(a).at[1:].divide(4), np.array([6, 2.5, 1], np.float32))
    assert_same(mx.array(a).at[[0, 0]].divide(2), np.array([1.5, 10, 4], np.float32))
    assert_same(mx.array([7, 9]).at[0].divide(2), np.array([3, 9], np.int32))


def test_at_needs_an_index() -> None:
    with pytest.raises(ValueError, match="wants an index"):
        mx.zeros(3).at.add(1)


def test_repeated_index_accumulates_and_last_write_wins() -> None:
    a = mx.zeros(3)
    assert_same(a.at[[1, 1, 1]].add(1), np.array([0, 3, 0], np.float32))
    a[[2, 2]] = 7
    assert_same(a, np.array([0, 0, 7], np.float32))


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (2, "index 2 is out of bounds for axis 0 of length 2"),
        (-3, "index -3 is out of bounds"),
        (2**70, "out of bounds"),
        ((0, 3), "index 3 is out of bounds for axis 1 of length 3"),
        ((slice(None), [0, 5]), "index 5 is out of bounds for axis 1"),
        ((0, 0, 0, 0), "too many indices: the array has 3 axes, 4 are indexed"),
        ((..., ...), "one ellipsis"),
        (1.5, "a float cannot be an index"),
        ("a", "got str"),
        ({}, "got dict"),
        (([0, 1], [0, 1, 2]), "do not broadcast"),
        (np.zeros((3, 3), bool), "does not fit axis 0 of length 2"),
        (np.zeros(2, np.float32), "must be integers or booleans, got float32"),
    ],
    ids=repr,
)
def test_bad_index(index: Any, text: str) -> None:
    a = mx.array(VALUES)
    with pytest.raises(IndexError, match=text):
        a[index]
    with pytest.raises(IndexError, match=text):
        a[index] = 0
    assert_same(a, VALUES)


def test_bad_slices() -> None:
    with pytest.raises(ValueError, match="slice step cannot be zero"):
        mx.array(VALUES)[::0]
    with pytest.raises(TypeError, match="slice indices must be integers"):
        mx.array(VALUES)[0:1.5]


def test_array_index_out_of_bounds_raises_at_evaluation_and_the_process_goes_on() -> None:
    a = mx.array(VALUES)
    bad = a[mx.array([0, 2])]
    with pytest.raises(IndexError, match="2"):
        mx.eval(bad)
    assert_same(a[mx.array([1])], VALUES[[1]])


@pytest.mark.parametrize(
    ("index", "value", "text"),
    [
        (0, np.zeros((2, 4)), "value of shape .2, 4. does not broadcast to the indexed part of shape .3, 4."),
        (slice(None), np.zeros(5), "does not broadcast"),
        (np.zeros((2, 3, 4), bool), np.zeros(3), "does not broadcast"),
    ],
)
def test_bad_value(index: Any, value: np.ndarray, text: str) -> None:
    a = mx.array(VALUES)
    with pytest.raises(ValueError, match=text):
        a[index] = mx.array(value)
    assert_same(a, VALUES)


def test_assignment_rejects_what_is_no_number() -> None:
    a = mx.zeros(3)
    with pytest.raises(TypeError, match="numbers, got str"):
        a[0] = "x"
    with pytest.raises(TypeError, match="cannot be deleted"):
        del a[0]


def test_assignment_converts_to_the_dtype_of_the_array() -> None:
    a = mx.array([1, 2, 3])
    a[0] = 2.75
    a[1:] = mx.array([4.5, -4.5])
    assert_same(a, np.array([2, 4, -4], np.int32))
    b = mx.zeros(2, mx.uint8)
    with pytest.raises(ValueError, match="300 is out of range for uint8"):
        b[0] = 300


def test_mask_assignment_of_one_value_for_each_true_element() -> None:
    want = VALUES.copy()
    mask = want % 3 == 0
    want[mask] = np.arange(mask.sum())
    got = mx.array(VALUES)
    got[mx.array(mask)] = mx.arange(int(mask.sum()))
    assert_same(got, want)


def test_zero_dimensional_arrays() -> None:
    a = mx.array(5)
    assert_same(a[()], np.array(5, np.int32))
    assert_same(a[...], np.array(5, np.int32))
    assert_same(a[None], np.array([5], np.int32))
    with pytest.raises(IndexError, match="too many indices"):
        a[0]
    a[()] = 7
    assert_same(a, np.array(7, np.int32))


def test_iteration_and_length() -> None:
    assert [row.tolist() for row in mx.array([[1, 2], [3, 4]])] == [[1, 2], [3, 4]]
    assert len(mx.zeros((4, 2))) == 4
    assert list(mx.zeros((0, 2))) == []
    with pytest.raises(TypeError, match="0-d"):
        len(mx.array(1))
    with pytest.raises(TypeError, match="0-d"):
        iter(mx.array(1))


def test_contains() -> None:
    a = mx.array([1, 2])
    assert 2 in a
    assert 3 not in a
    assert "x" not in a


def axis_index(length: int) -> st.SearchStrategy[Any]:
    """One item for an axis of that length."""
    bound = st.one_of(st.none(), st.integers(-length - 2, length + 2))
    steps = st.one_of(st.none(), st.integers(-3, 3).filter(bool))
    place = st.integers(-length, length - 1)
    return st.one_of(
        place,
        st.builds(slice, bound, bound, steps),
        st.lists(place, min_size=1, max_size=3).map(lambda v: np.array(v)),
        st.lists(st.booleans(), min_size=length, max_size=length).map(lambda v: np.array(v)),
    )


@st.composite
def index_expressions(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    """A shape, and an index that fits it; index arrays have one length, or none are drawn."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    count = draw(st.integers(0, len(shape)))
    items = [draw(axis_index(n)) for n in shape[:count]]
    lengths = {int(i.sum()) if i.dtype == bool else len(i) for i in items if isinstance(i, np.ndarray)}
    if len(lengths - {1}) > 1:
        items = [0 if isinstance(i, np.ndarray) else i for i in items]
    for _ in range(draw(st.integers(0, 2))):
        items.insert(draw(st.integers(0, len(items))), None)
    if draw(st.booleans()):
        items.append(...)
    return shape, tuple(items)


@settings(max_examples=300)
@given(index_expressions())
def test_random_expressions(case: tuple[tuple[int, ...], Any]) -> None:
    shape, index = case
    values = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    part = np.asarray(values[index])
    assert_same(mx.array(values)[index], part)
    want = values.copy()
    new = -1 - np.arange(part.size, dtype=np.int32).reshape(part.shape)
    want[index] = new
    got = mx.array(values)
    got[index] = mx.array(new)
    assert_same(got, want)
    summed = values.copy()
    np.add.at(summed, index, new)
    assert_same(mx.array(values).at[index].add(mx.array(new)), summed)


@pytest.mark.parametrize(
    "index", [(slice(None, None, -1), [1, 0]), ([0, 1], slice(None)), (slice(1, None), 0)], ids=repr
)
def test_layouts(index: Any) -> None:
    values = np.arange(9, dtype=np.float32).reshape(3, 3)
    for a, twin in ((mx.array(values).T, values.T), (mx.array(values)[::-1], values[::-1])):
        assert_same(a[index], twin[index])
