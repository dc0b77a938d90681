"""Calls of several steps, by a prefix of the name: `vjp:exp` differentiates, `file:npy` saves and loads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def weights(mx: Any, like: Any, phase: float) -> Any:
    """Numbers between -1 and 1 in the shape and dtype of an array."""
    numbers = np.cos(np.arange(like.size, dtype=np.float32) + np.float32(phase)).reshape(like.shape)
    return mx.array(numbers).astype(like.dtype)


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def floating(mx: Any, value: Any) -> list[Any]:
    """The arrays below a value that can be differentiated."""
    if isinstance(value, (list, tuple)):
        return [a for v in value for a in floating(mx, v)]
    return [value] if isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.inexact) else []


def filled(mx: Any, value: Any, arrays: list[Any]) -> Any:
    """The value with the next of the arrays in the place of each of its floating ones."""
    if isinstance(value, (list, tuple)):
        return type(value)(filled(mx, v, arrays) for v in value)
    return arrays.pop(0) if floating(mx, value) else value


def transformed(mx: Any, how: str, f: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A transform of f with respect to the floating arrays among its arguments."""
    arrays = floating(mx, args)

    def fun(*inner: Any) -> Any:
        return f(*filled(mx, args, list(inner)), **kwargs)

    if how == "compile":
        return mx.compile(fun)(*arrays)
    if not arrays:
        return f(*args, **kwargs)
    if how == "vmap":
        batches = [mx.stack([a, a * 1.25], axis=a.ndim if i % 2 else 0) for i, a in enumerate(arrays)]
        axes = tuple(a.ndim if i % 2 else 0 for i, a in enumerate(arrays))
        return mx.vmap(fun, in_axes=axes)(*batches)
    if how == "jvp":
        return mx.jvp(fun, arrays, [weights(mx, a, i) for i, a in enumerate(arrays)])
    if how == "checkpoint":
        fun = mx.checkpoint(fun)
    cotangents = [weights(mx, out, i) for i, out in enumerate(listed(fun(*arrays)))]
    if how == "grad":

        def loss(*inner: Any) -> Any:
            outs = listed(fun(*inner))
            return sum(
                (mx.real(out * c).sum() for out, c in zip(outs, cotangents, strict=True)), mx.array(0.0)
            )

        return mx.value_and_grad(loss, argnums=list(range(len(arrays))))(*arrays)
    return mx.vjp(fun, arrays, cotangents)


def stored(mx: Any, how: str, arrays: dict[str, Any]) -> Any:
    """The arrays after a file of theirs was written and read, by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / f"file.{how.removesuffix('_compressed')}")
        if how == "npy":
            mx.save(path, arrays["a"])
            back = {"a": mx.load(path)}
        else:
            if how == "safetensors":
                mx.save_safetensors(path, arrays, {"key": "value"})
            elif how == "gguf":
                mx.save_gguf(path, arrays)
            elif how == "npz":
                mx.savez(path, **arrays)
            else:
                mx.savez_compressed(path, **arrays)
            back = mx.load(path)
        mx.eval(back)
        plain = sorted(back)
        if how == "npy" or how.startswith("npz"):
            # What NumPy reads in the same file.
            found = np.load(path)
            theirs = {"a": found} if isinstance(found, np.ndarray) else {n: found[n] for n in sorted(found)}
            return [plain, [back[n] for n in plain], [mx.array(theirs[n]) for n in plain]]
        return [plain, [back[n] for n in plain]]


def loaded(mx: Any, how: str, content: bytes) -> Any:
    """What `load` makes of a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file.{how}"
        path.write_bytes(content)
        back = mx.load(str(path))
        mx.eval(back)
        return back if isinstance(back, mx.array) else [sorted(back), [back[n] for n in sorted(back)]]


def invoked(
    mx: Any, name: str, args: list[Any], kwargs: dict[str, Any], named: Callable[[str], Callable[..., Any]]
) -> Any:
    """The call of a name with a prefix; `named` finds a function of the module."""
    how, _, rest = name.partition(":")
    if how == "file":
        return stored(mx, rest, kwargs)
    if how == "load":
        return loaded(mx, rest, args[0])
    return transformed(mx, how, named(rest), args, kwargs)
