"""lamina.utils: trees."""

from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamina.utils import tree_flatten, tree_map, tree_map_with_path, tree_merge, tree_reduce, tree_unflatten

TREE = {"a": 1, "b": [2, (3, 4)], "c": {"d": None}, "e": [], "f": (), "g": {}}
LEAVES = [("a", 1), ("b.0", 2), ("b.1.0", 3), ("b.1.1", 4), ("c.d", None)]

keys = st.text("abcxyz_", min_size=1, max_size=4)
trees = st.recursive(
    st.integers(),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4) | st.dictionaries(keys, inner, min_size=1, max_size=4)
    ),
    max_leaves=20,
)


def test_flatten_lists_leaves_with_paths():
    assert tree_flatten(TREE) == LEAVES
    assert tree_flatten(7) == [("", 7)]
    assert tree_flatten([1, [2]], prefix=".root") == [("root.0", 1), ("root.1.0", 2)]


def test_flatten_adds_to_destination():
    seen = [("z", 0)]
    assert tree_flatten({"a": 1}, destination=seen) is seen
    assert seen == [("z", 0), ("a", 1)]
    named = {"z": 0}
    assert tree_flatten({"a": [1]}, destination=named) is named
    assert named == {"z": 0, "a.0": 1}
    with pytest.raises(ValueError, match="destination must be a list or dict, got tuple"):
        tree_flatten({"a": 1}, destination=())


def test_flatten_stops_where_told():
    stopped = tree_flatten(TREE, is_leaf=lambda x: isinstance(x, (list, tuple)))
    assert stopped == [("a", 1), ("b", [2, (3, 4)]), ("c.d", None), ("e", []), ("f", ())]


@given(trees)
def test_unflatten_reverses_flatten(tree):
    assert tree_unflatten(tree_flatten(tree)) == tree
    assert tree_unflatten(tree_flatten(tree, destination={})) == tree


def test_unflatten_details():
    assert tree_unflatten([]) == []
    assert tree_unflatten([("", 5)]) == 5
    assert tree_unflatten([("2", 1), ("0", 3)]) == [3, {}, 1]
    assert tree_unflatten([("10", "k"), ("9", "j")])[9:] == ["j", "k"]
    assert tree_unflatten([("a", 1), ("0", 3)]) == {"a": 1, "0": 3}


def test_map_keeps_structure_and_types():
    pair = namedtuple("pair", "x y")
    mapped = tree_map(lambda x: x, {"a": (1, 2), "b": pair(3, 4), "c": [], "d": None})
    assert mapped == {"a": (1, 2), "b": pair(3, 4), "c": [], "d": None}
    assert type(mapped["a"]) is tuple
    assert type(mapped["b"]) is pair


def test_map_over_several_trees():
    added = tree_map(lambda x, y, z: x + y * z, {"a": [1, 2]}, {"a": [10, 20], "b": 0}, {"a": (3, 4)})
    assert added == {"a": [31, 82]}
    as_leaf = tree_map(lambda x, y: (x, y), {"a": [1]}, {"a": 5}, is_leaf=lambda x: isinstance(x, list))
    assert as_leaf == {"a": ([1], 5)}


@pytest.mark.parametrize(
    ("other", "error", "text"),
    [
        ({"b": [1]}, KeyError, "no entry 'a'"),
        ({"a": [1]}, IndexError, "1 entries where the first has entry 1"),
        ({"a": 5}, TypeError, "int where the first has a container"),
    ],
)
def test_map_says_which_tree_does_not_fit(other, error, text):
    with pytest.raises(error, match=text):
        tree_map(lambda x, y: x, {"a": [1, 2]}, other)
    with pytest.raises(error, match=text):
        tree_map_with_path(lambda p, x, y: x, {"a": [1, 2]}, other)


@given(trees)
def test_map_with_path_sees_the_paths_of_flatten(tree):
    seen = []
    tree_map_with_path(lambda path, x: seen.append((path or "", x)), tree)
    assert seen == tree_flatten(tree)


def test_map_with_path_from_a_root():
    mapped = tree_map_with_path(
        lambda path, x, y: f"{path}:{x}{y}", [1, {"k": 2}], [3, {"k": 4}], path="root"
    )
    assert mapped == ["root.0:13", {"k": "root.1.k:24"}]


def test_reduce():
    assert tree_reduce(lambda total, x: total + x, {"a": 1, "b": [2, (3,)]}, 10) == 16
    assert tree_reduce(lambda total, x: [*total, x], {"a": 1, "b": [2]}, []) == [1, 2]
    assert tree_reduce(lambda total, x: total - x, [5, 2]) == 3
    assert tree_reduce(lambda total, x: total, {}, 5) == 5
    assert (
        tree_reduce(lambda total, x: total + len(x), [[1, 2], [3]], 0, is_leaf=lambda x: x != [[1, 2], [3]])
        == 3
    )


def test_merge_takes_what_is_there():
    assert tree_merge({"a": 1}, {"b": 2}) == {"a": 1, "b": 2}
    assert tree_merge({"a": {"x": 1}}, {"a": {"y": 2}}) == {"a": {"x": 1, "y": 2}}
    assert tree_merge({"a": [1, None]}, {"a": [None, 2, 3]}) == {"a": [1, 2, 3]}
    assert tree_merge({"a": {}}, {"a": 1}) == {"a": 1}
    assert tree_merge((1, None), (None, 2)) == (1, 2)


def test_merge_decides_between_leaves():
    assert tree_merge({"a": [1]}, {"a": [2, 3]}, lambda a, b: a + b) == {"a": [3, 3]}
    with pytest.raises(ValueError, match="no merge_fn was given: int and list"):
        tree_merge({"a": 1}, {"a": [2]})


@given(trees, st.data())
def test_merge_restores_a_split_tree(tree, data):
    leaves = tree_flatten(tree)
    chosen = data.draw(st.lists(st.booleans(), min_size=len(leaves), max_size=len(leaves)))
    flags = iter(chosen)
    marked = tree_map(lambda x: (x, next(flags)), tree)
    is_pair = lambda x: isinstance(x, tuple)  # noqa: E731
    first = tree_map(lambda p: p[0] if p[1] else None, marked, is_leaf=is_pair)
    second = tree_map(lambda p: None if p[1] else p[0], marked, is_leaf=is_pair)
    assert tree_merge(first, second) == tree
