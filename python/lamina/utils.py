"""Work on trees: any nesting of dicts, lists and tuples around leaves.

A module's parameters, its gradients and an optimizer's state are all such trees. A leaf's path joins the keys
and indices that lead to it with dots, as in ``layers.0.weight``; that is also its name in a weights file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

__all__ = ["tree_flatten", "tree_map", "tree_map_with_path", "tree_merge", "tree_reduce", "tree_unflatten"]

IsLeaf = Callable[[Any], bool]


def tree_map(fn: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None) -> Any:
    """Apply ``fn`` to every leaf of ``tree`` and return the results in a tree of the same structure.

    Parameters
    ----------
    fn : callable
        Called as ``fn(leaf, *others)`` with the entries of ``rest`` at the same place.
    tree : tree
        The tree that decides the structure; dicts become plain dicts, lists and tuples keep their type.
    *rest : tree
        Further trees that hold at least the entries of ``tree``.
    is_leaf : callable, optional
        ``is_leaf(node)`` returns true where the walk should stop although the node is a container.

    Returns
    -------
    tree
        The results.

    Raises
    ------
    KeyError, IndexError, TypeError
        A tree of ``rest`` has no such key, no such index, or a leaf where ``tree`` has a container.

    Examples
    --------
    >>> from lamina.utils import tree_map
    >>> tree_map(lambda x, y: x + y, {"a": 1, "b": [2, 3]}, {"a": 10, "b": [20, 30]})
    {'a': 11, 'b': [22, 33]}
    """
    if is_leaf is not None and is_leaf(tree):
        return fn(tree, *rest)
    if isinstance(tree, dict):
        return {k: tree_map(fn, v, *_entries("tree_map", rest, k), is_leaf=is_leaf) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        items = [tree_map(fn, v, *_entries("tree_map", rest, i), is_leaf=is_leaf) for i, v in enumerate(tree)]
        return _sequence_like(tree, items)
    return fn(tree, *rest)


def tree_map_with_path(
    fn: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None, path: Any | None = None
) -> Any:
    """Apply ``fn`` to the path and value of every leaf; see :func:`tree_map`.

    Parameters
    ----------
    fn : callable
        Called as ``fn(path, leaf, *others)``.
    tree, *rest, is_leaf
        As in :func:`tree_map`.
    path : str, optional
        The path of ``tree`` itself; ``None`` for a root.

    Returns
    -------
    tree
        The results.

    Raises
    ------
    KeyError, IndexError, TypeError
        As :func:`tree_map`.

    Examples
    --------
    >>> from lamina.utils import tree_map_with_path
    >>> tree_map_with_path(lambda path, x: f"{path}={x}", {"a": 1, "b": [2]})
    {'a': 'a=1', 'b': ['b.0=2']}
    """
    if is_leaf is not None and is_leaf(tree):
        return fn(path, tree, *rest)

    def walk(key: Any, value: Any) -> Any:
        others = _entries("tree_map_with_path", rest, key)
        below = f"{path}.{key}" if path else f"{key}"
        return tree_map_with_path(fn, value, *others, is_leaf=is_leaf, path=below)

    if isinstance(tree, dict):
        return {k: walk(k, v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return _sequence_like(tree, (walk(i, v) for i, v in enumerate(tree)))
    return fn(path, tree, *rest)


@overload
def tree_flatten(
    tree: Any,
    prefix: str = "",
    is_leaf: IsLeaf | None = None,
    destination: list[tuple[str, Any]] | None = None,
) -> list[tuple[str, Any]]: ...


@overload
def tree_flatten(
    tree: Any, prefix: str = "", is_leaf: IsLeaf | None = None, *, destination: dict[str, Any]
) -> dict[str, Any]: ...


def tree_flatten(
    tree: Any,
    prefix: str = "",
    is_leaf: IsLeaf | None = None,
    destination: list[tuple[str, Any]] | dict[str, Any] | None = None,
) -> list[tuple[str, Any]] | dict[str, Any]:
    """List the leaves of a tree with their paths.

    Parameters
    ----------
    tree : tree
        What to flatten.
    prefix : str
        Put before every path; its first character, by convention a dot, is dropped.
    is_leaf : callable, optional
        ``is_leaf(node)`` returns true where the walk should stop although the node is a container.
    destination : list or dict, optional
        Where to add the leaves; a new list if not given.

    Returns
    -------
    list of (str, leaf) or dict
        ``destination`` with the leaves added in the order of the walk. Empty containers leave nothing.

    Raises
    ------
    ValueError
        ``destination`` is neither a list nor a dict.

    Examples
    --------
    >>> from lamina.utils import tree_flatten
    >>> tree_flatten({"a": 1, "b": [2, (3, 4)]})
    [('a', 1), ('b.0', 2), ('b.1.0', 3), ('b.1.1', 4)]
    >>> tree_flatten({"a": {"b": 1}}, destination={})
    {'a.b': 1}
    """
    if destination is None:
        destination = []
    if isinstance(destination, list):
        _collect(tree, prefix, is_leaf, destination.append)
    elif isinstance(destination, dict):
        found = destination
        _collect(tree, prefix, is_leaf, lambda item: found.__setitem__(*item))
    else:
        raise ValueError(
            f"[tree_flatten] destination must be a list or dict, got {type(destination).__name__}"
        )
    return destination


def tree_unflatten(tree: list[tuple[str, Any]] | dict[str, Any]) -> Any:
    """Rebuild a tree from leaves with paths, the reverse of :func:`tree_flatten`.

    Parameters
    ----------
    tree : list of (str, leaf) or dict
        Paths and leaves, in any order.

    Returns
    -------
    tree
        Levels whose keys are all decimal numbers become lists, with ``{}`` at the numbers not given; other
        levels become dicts. No leaves at all give ``[]``.

    Examples
    --------
    >>> from lamina.utils import tree_unflatten
    >>> tree_unflatten([("a", 1), ("b.0", 2), ("b.1", 3)])
    {'a': 1, 'b': [2, 3]}
    """
    items = list(tree.items() if isinstance(tree, dict) else tree)
    if len(items) == 1 and items[0][0] == "":
        return items[0][1]
    levels: dict[str, list[tuple[str, Any]]] = {}
    for path, leaf in items:
        head, _, tail = path.partition(".")
        levels.setdefault(head, []).append((tail, leaf))
    if all(_is_index(key) for key in levels):
        by_index = sorted((int(key), below) for key, below in levels.items())
        result: list[Any] = []
        for index, below in by_index:
            result.extend({} for _ in range(index - len(result)))
            result.append(tree_unflatten(below))
        return result
    return {key: tree_unflatten(below) for key, below in levels.items()}


def tree_reduce(
    fn: Callable[[Any, Any], Any], tree: Any, initializer: Any = None, is_leaf: IsLeaf | None = None
) -> Any:
    """Fold the leaves of a tree into one value, from first to last.

    Parameters
    ----------
    fn : callable
        Called as ``fn(accumulated, leaf)``.
    tree : tree
        What to reduce.
    initializer : any, optional
        Where to start; if ``None``, the first leaf.
    is_leaf : callable, optional
        ``is_leaf(node)`` returns true where the walk should stop although the node is a container.

    Returns
    -------
    any
        The accumulated value; ``initializer`` where the tree has no leaf.

    Examples
    --------
    >>> from lamina.utils import tree_reduce
    >>> tree_reduce(lambda total, x: total + x, {"a": 1, "b": [2, 3]}, 0)
    6
    """
    accumulated = initializer
    leaves: list[tuple[str, Any]] = []
    _collect(tree, "", is_leaf, leaves.append)
    for _, leaf in leaves:
        accumulated = leaf if accumulated is None else fn(accumulated, leaf)
    return accumulated


def tree_merge(tree_a: Any, tree_b: Any, merge_fn: Callable[[Any, Any], Any] | None = None) -> Any:
    """Join two trees; entries that only one of them has are taken from that one.

    Parameters
    ----------
    tree_a, tree_b : tree
        The trees. ``None`` and empty containers count as 'nothing here'.
    merge_fn : callable, optional
        ``merge_fn(a, b)`` decides where both have a leaf.

    Returns
    -------
    tree
        The joined tree.

    Raises
    ------
    ValueError
        Both trees have something at one place, at least one of the two is a leaf, and ``merge_fn`` is not
        given.

    Examples
    --------
    >>> from lamina.utils import tree_merge
    >>> tree_merge({"a": 1, "l": [2, None]}, {"b": 3, "l": [None, 4]})
    {'a': 1, 'l': [2, 4], 'b': 3}
    """
    if _is_nothing(tree_a):
        return tree_b
    if _is_nothing(tree_b):
        return tree_a
    if isinstance(tree_a, dict) and isinstance(tree_b, dict):
        keys = list(tree_a) + [k for k in tree_b if k not in tree_a]
        return {k: tree_merge(tree_a.get(k), tree_b.get(k), merge_fn) for k in keys}
    if isinstance(tree_a, (list, tuple)) and isinstance(tree_b, (list, tuple)):
        longer, both = max(tree_a, tree_b, key=len), min(len(tree_a), len(tree_b))
        merged = [tree_merge(a, b, merge_fn) for a, b in zip(tree_a, tree_b, strict=False)]
        return _sequence_like(tree_a, [*merged, *longer[both:]])
    if merge_fn is None:
        raise ValueError(
            "[tree_merge] both trees have an entry at one place and no merge_fn was given: "
            f"{type(tree_a).__name__} and {type(tree_b).__name__}"
        )
    return merge_fn(tree_a, tree_b)


def _is_nothing(tree: Any) -> bool:
    return tree is None or (isinstance(tree, (dict, list, tuple)) and len(tree) == 0)


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit()


def _collect(tree: Any, prefix: str, is_leaf: IsLeaf | None, add: Callable[[tuple[str, Any]], None]) -> None:
    if is_leaf is None or not is_leaf(tree):
        if isinstance(tree, dict):
            for key, value in tree.items():
                _collect(value, f"{prefix}.{key}", is_leaf, add)
            return
        if isinstance(tree, (list, tuple)):
            for index, value in enumerate(tree):
                _collect(value, f"{prefix}.{index}", is_leaf, add)
            return
    add((prefix[1:], tree))


def _entries(caller: str, trees: tuple[Any, ...], key: Any) -> list[Any]:
    """The entry ``key`` of each tree, or an error that says which tree lacks it."""
    try:
        return [tree[key] for tree in trees]
    except (KeyError, IndexError, TypeError) as error:
        for number, tree in enumerate(trees, start=2):
            if not isinstance(tree, (dict, list, tuple)):
                what = f"tree {number} has a {type(tree).__name__} where the first has a container"
                raise TypeError(f"[{caller}] {what} with entry {key!r}") from error
            if isinstance(tree, dict) and key not in tree:
                raise KeyError(f"[{caller}] tree {number} has no entry {key!r}, only {list(tree)}") from error
            if not isinstance(tree, dict) and not -len(tree) <= key < len(tree):
                what = f"tree {number} has {len(tree)} entries where the first has entry {key}"
                raise IndexError(f"[{caller}] {what}") from error
        raise


def _sequence_like(sequence: list[Any] | tuple[Any, ...], items: Iterable[Any]) -> Any:
    kind = type(sequence)
    if hasattr(kind, "_fields"):  # a named tuple takes its items one by one
        return kind(*items)
    return kind(items)
