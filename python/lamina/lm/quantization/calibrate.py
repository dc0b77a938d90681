"""What the layers of a model see of a text: the mean square of each of their inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import lamina.core as mx
import lamina.nn as nn
from lamina._lazy import numpy as np
from lamina.lm.errors import DataError

_CLASSES: dict[type, type] = {}


def packable(model: Any) -> dict[str, nn.Module]:
    """Return the layers whose weight can be stored in few bits, by path: linear, embedding, experts."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module.get("weight"), mx.array)
        and module["weight"].ndim > 1
        and (hasattr(module, "to_quantized") or hasattr(module, "dequantized") or "scales" in module)
    }


def _recording(kind: type) -> type:
    """Return a class like ``kind`` that adds up the squares of what it is called with."""
    if kind not in _CLASSES:

        def call(self: Any, x: mx.array, *rest: Any, **named: Any) -> mx.array:
            self.__dict__["_seen"].append(x)
            return kind.__call__(self, x, *rest, **named)

        def as_linear(self: Any, x: mx.array) -> mx.array:
            self.__dict__["_seen"].append(x)
            return kind.as_linear(self, x)  # type: ignore[attr-defined]

        # Ids that an embedding looks up are no inputs of its matrix, but what its transpose maps is.
        own = {"as_linear": as_linear} if hasattr(kind, "as_linear") else {"__call__": call}
        _CLASSES[kind] = type(f"Recorded{kind.__name__}", (kind,), own)
    return _CLASSES[kind]


@contextlib.contextmanager
def _recorded(modules: dict[str, nn.Module]) -> Iterator[Callable[[], dict[str, mx.array]]]:
    """Let modules record their inputs; yield a function that takes the mean squares since its last call."""
    kinds = {path: type(module) for path, module in modules.items()}
    for module in modules.values():
        module.__class__ = _recording(type(module))
        module.__dict__["_seen"] = []

    def take() -> dict[str, mx.array]:
        out = {}
        for path, module in modules.items():
            seen, module.__dict__["_seen"] = module.__dict__["_seen"], []
            flat = [x.astype(mx.float32).reshape(-1, x.shape[-1]) for x in seen]
            if flat:
                sums = [mx.square(x).sum(axis=0) for x in flat]
                out[path] = sum(sums[1:], sums[0]) / sum(x.shape[0] for x in flat)
        return out

    try:
        yield take
    finally:
        for path, module in modules.items():
            module.__class__ = kinds[path]
            module.__dict__.pop("_seen", None)


def input_squares(
    model: Any, windows: np.ndarray, advance: Callable[[int], None] | None = None
) -> dict[str, mx.array]:
    """Run a model over token ids and return the mean square of each layer's inputs.

    Parameters
    ----------
    model : Module
        A causal language model.
    windows : ndarray (N, L)
        Token ids; each row is run by itself.
    advance : callable, optional
        Called with the number of ids after each row.

    Returns
    -------
    dict of array
        For each layer's path the mean squares (inputs,), float32. A layer that nothing went through is left
        out.

    Raises
    ------
    DataError
        There are no ids.
    """
    if windows.size == 0:
        raise DataError("no text to calibrate on")
    modules = packable(model)
    sums: dict[str, mx.array] = {}
    with _recorded(modules) as take:
        for row in windows:
            out = model(mx.array(row[None]))
            for path, value in take().items():
                sums[path] = sums[path] + value if path in sums else value
            mx.eval(out[:, -1:], list(sums.values()))
            if advance is not None:
                advance(len(row))
    # Experts that few tokens chose have fewer rows; the mean over windows is near enough.
    return {path: value / len(windows) for path, value in sums.items()}


def cut_windows(ids: np.ndarray, length: int, count: int) -> np.ndarray:
    """Return at most ``count`` windows (N, length) spread evenly over ``ids``.

    Raises
    ------
    DataError
        There are fewer than two ids.

    Examples
    --------
    >>> import numpy as np
    >>> cut_windows(np.arange(10), 3, 2).tolist()
    [[0, 1, 2], [7, 8, 9]]
    """
    if len(ids) < 2:
        raise DataError(f"wanted a text of at least two tokens, got {len(ids)}")
    length = min(length, len(ids))
    whole = len(ids) // length
    places = np.linspace(0, len(ids) - length, min(count, whole)).astype(np.int64)
    return np.stack([ids[p : p + length] for p in places]).astype(np.int32)
