"""Set entries of a module's tree: by a tree of new ones, by path, or for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import lamina.core as mx

# Where an entry is in the tree: its key and the place above, or None at the root. Joined for errors only.
Place = tuple[Any, Any] | None
# A replaced entry: container, key and old value.
Change = tuple[Any, Any, Any]


def is_array(value: Any) -> bool:
    """Whether ``value`` is an array."""
    return isinstance(value, mx.array)


@contextlib.contextmanager
def with_parameters(module: Any, parameters: dict[str, Any]) -> Iterator[None]:
    """Let a module hold other parameters for a while; what they replace is put back at the end."""
    changes: list[Change] = []
    try:
        replace_entries(module, parameters, None, True, "parameter", is_array, changes)
        yield
    finally:
        for container, key, old in changes:
            container[key] = old


def replace_entries(
    target: Any,
    new: Any,
    place: Place,
    strict: bool,
    kind: str,
    is_replaceable: Callable[[Any], bool],
    changes: list[Change] | None = None,
) -> None:
    """Put the leaves of ``new`` into the containers of ``target``; leaves replace only their own kind.

    Each change is noted in ``changes`` as container, key and old value.
    """
    if not isinstance(new, (dict, list)):
        if strict:
            raise ValueError(f'Received invalid type: {type(new).__name__} for "{_path(place)}".')
        return
    for key, value in new.items() if isinstance(new, dict) else enumerate(new):
        if _is_hole(value):
            continue
        known = key in target if isinstance(target, dict) else isinstance(key, int) and key < len(target)
        if not known:
            if strict:
                raise ValueError(_unknown_entry(target, (place, key), kind))
            continue
        old = target[key]
        if is_replaceable(old) and is_replaceable(value):
            if changes is not None:
                changes.append((target, key, old))
            target[key] = value
        elif isinstance(old, (dict, list)) and not is_replaceable(value):
            replace_entries(old, value, (place, key), strict, kind, is_replaceable, changes)
        elif strict:
            raise ValueError(
                f'Received invalid type: {type(value).__name__} for "{_path((place, key))}", '
                f"whose value is of type {type(old).__name__}."
            )


def _is_hole(value: Any) -> bool:
    """Whether a tree's entry stands for 'nothing here'; a module without parameters is no hole."""
    return type(value) in (dict, list) and not value


def _path(place: Place) -> str:
    keys: list[str] = []
    while place is not None:
        place, key = place
        keys.append(str(key))
    return ".".join(reversed(keys))


def _unknown_entry(target: Any, place: tuple[Any, Any], kind: str) -> str:
    path, key = _path(place), place[1]
    if isinstance(target, list) and isinstance(key, int):
        return f'List index {key} of "{path}" is out of bounds for destination of length {len(target)}.'
    known = ", ".join(str(k) for k in target) if isinstance(target, dict) else f"{len(target)} list entries"
    return f'Module does not have {kind} named "{path}". It has: {known}.'


def check_weights(new: dict[str, Any], current: dict[str, mx.array]) -> None:
    """Raise ``ValueError`` unless the new weights have the names and shapes of the current ones."""
    extra = [name for name in new if name not in current]
    if extra:
        raise ValueError(
            f"Received {len(extra)} parameters not in model: \n" + ",\n".join(sorted(extra)) + "."
        )
    missing = [name for name in current if name not in new]
    if missing:
        raise ValueError(f"Missing {len(missing)} parameters: \n" + ",\n".join(sorted(missing)) + ".")
    for name, old in current.items():
        shape = new[name].shape
        if shape != old.shape:
            raise ValueError(f"Expected shape {old.shape} but received shape {shape} for parameter {name}")


def set_entry(module: Any, path: str, value: mx.array) -> None:
    """Set the array at ``path``; nothing happens where the module has no array there."""
    parent: Any = None
    key: Any = None
    node: Any = module
    for part in path.split("."):
        parent, key = node, part
        if isinstance(parent, list) and part.isascii() and part.isdigit():
            key = int(part)
        found = key in parent if isinstance(parent, dict) else isinstance(key, int) and key < len(parent)
        if not found:
            return
        node = parent[key]
    if is_array(node):
        parent[key] = value
