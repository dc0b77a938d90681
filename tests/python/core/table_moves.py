"""Cases of the structured rows that move, repeat, pick or place elements, exact to the bit in every dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lamina.core as mx
import numpy as np

CUBE, FLAT, NONE, ONE = (3, 4, 5), (7,), (0, 4, 5), ()


@dataclass(frozen=True)
class Move:
    """One call in both libraries, and the shapes of its operands: one tuple of shapes for each trial."""

    label: str
    ours: Callable[..., mx.array]
    theirs: Callable[..., np.ndarray]
    trials: tuple[tuple[tuple[int, ...], ...], ...] = ((CUBE,), (NONE,))


def both(label: str, f: Callable[..., Any], *trials: Any) -> Move:
    """A call that reads the same in both libraries: f(module, *operands)."""
    return Move(
        label, lambda *xs: f(mx, *xs), lambda *xs: f(np, *xs), trials if trials else ((CUBE,), (NONE,))
    )


def indices(*values: Any) -> np.ndarray:
    return np.array(values)


def index_of(module: Any, key: tuple[Any, ...]) -> Any:
    """An index expression with its index arrays in the module's own type."""
    return tuple(mx.array(k) if module is mx and isinstance(k, np.ndarray) else k for k in key)


def placed(module: Any, a: Any, key: tuple[Any, ...], value: Any) -> Any:
    """A copy of `a` with a part set to the value."""
    copy = module.array(a, a.dtype)
    copy[index_of(module, key)] = value
    return copy


def put_along(a: np.ndarray, index: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    copy = np.array(a)
    np.put_along_axis(copy, index, values, axis)
    return copy


def windows(a: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> np.ndarray:
    """as_strided over the elements in row order."""
    at = offset + sum(
        np.arange(n).reshape([-1 if i == k else 1 for i in range(len(shape))]) * s
        for k, (n, s) in enumerate(zip(shape, strides, strict=True))
    )
    return a.reshape(-1)[at]


def reinterpreted(module: Any, a: Any, name: str) -> Any:
    return a.view(getattr(module, name)) if module is mx else np.ascontiguousarray(a).view(getattr(np, name))


def through_gradient(a: mx.array) -> mx.array:
    """The value of a function under vjp, where its argument is a marked copy."""
    return mx.vjp(lambda x: x.transpose(2, 0, 1), [a], [mx.zeros((5, 3, 4)).astype(a.dtype)])[0][0]


@mx.custom_function
def turned(a: mx.array) -> mx.array:
    return a[::-1]


R, C, D = indices(2, 0, -1, 1), indices([1, -2, 3, 3]), indices([[0], [4]])

MOVES: dict[str, list[Move]] = {
    "Data": [both("array", lambda m, a: a, (CUBE,), (NONE,), (ONE,))],
    "Placeholder": [Move("compile", mx.compile(lambda a: a.T), lambda a: a.T, ((CUBE,), (NONE,), (ONE,)))],
    "Identity": [Move("vjp", through_gradient, lambda a: a.transpose(2, 0, 1), ((CUBE,),))],
    "StopGradient": [Move("stop_gradient", mx.stop_gradient, lambda a: a, ((CUBE,), (NONE,), (ONE,)))],
    "CustomOutput": [Move("custom_function", turned, lambda a: a[::-1])],
    "Call": [
        Move(
            "compile as a whole",
            mx.compile(lambda a: a.T, whole=True),
            lambda a: a.T,
            ((CUBE,), (NONE,), (ONE,)),
        ),
        Move("the input", mx.compile(lambda a: a, whole=True), lambda a: a, ((CUBE,), (NONE,), (ONE,))),
    ],
    "Depends": [Move("depends", mx.depends, lambda a, b: a, ((CUBE, FLAT), (NONE, ONE)))],
    "Broadcast": [
        both("axis in front", lambda m, a: m.broadcast_to(a, (2, *a.shape)), (CUBE,), (NONE,), (ONE,)),
        both("repeated axis", lambda m, a: m.broadcast_to(a[:, :1], (3, 4, 5)) if a.size else a),
        both("scalar", lambda m, a: m.broadcast_to(a, (2, 0, 3)), (ONE,)),
    ],
    "Transpose": [
        both("all", lambda m, a: m.transpose(a), (CUBE,), (NONE,), (ONE,), (FLAT,)),
        both("rolled", lambda m, a: m.transpose(a, (2, 0, 1))),
        both("swapped", lambda m, a: m.swapaxes(a, 1, -1)),
        both("moved", lambda m, a: m.moveaxis(a, 0, 1)),
    ],
    "ExpandDims": [
        both("front and back", lambda m, a: m.expand_dims(a, (0, -1)), (CUBE,), (NONE,), (ONE,)),
        both("index", lambda m, a: a[:, None, 1:, None]),
    ],
    "Squeeze": [
        both("all", lambda m, a: m.squeeze(a), ((1, 4, 1, 2),), ((1, 0),), ((1, 1),)),
        both("one", lambda m, a: m.squeeze(a, 2), ((1, 4, 1, 2),)),
        both("index", lambda m, a: a[1, :, 2], (CUBE,), ((2, 0, 3),)),
    ],
    "Reshape": [
        both("merge", lambda m, a: m.reshape(a, (4, -1)) if a.size else m.reshape(a, (0, 20))),
        both("split", lambda m, a: m.reshape(a, (3, 2, 2, 5)) if a.size else m.reshape(a, (2, 0))),
        both("flat", lambda m, a: m.reshape(a, (a.size,)), (CUBE,), (NONE,), (ONE,)),
        both("to 0-d", lambda m, a: m.reshape(a, ()), ((1, 1),), (ONE,)),
        both("of a part", lambda m, a: m.reshape(a[:, 1:3], (3, 10)) if a.size else a),
    ],
    "Slice": [
        both("steps", lambda m, a: a[2::-2, 1:3, ::2]),
        both("to the end", lambda m, a: a[1:, :-1, 4:0:-3]),
        both("empty", lambda m, a: a[3:, 2:1]),
        both("beyond the ends", lambda m, a: a[-9:9, 8:-9:-1]),
        Move(
            "from an array",
            lambda a: mx.slice(a, mx.array([1, 2]), (0, 2), (2, 4, 3)),
            lambda a: a[1:3, :, 2:],
            ((CUBE,),),
        ),
    ],
    "AsStrided": [
        Move(
            "windows",
            lambda a: mx.as_strided(a, (5, 3), (1, 2), 4),
            lambda a: windows(a, (5, 3), (1, 2), 4),
            ((CUBE,),),
        ),
        Move(
            "backwards",
            lambda a: mx.as_strided(a, (4, 2, 3), (-3, 0, 1), 20),
            lambda a: windows(a, (4, 2, 3), (-3, 0, 1), 20),
            ((CUBE,),),
        ),
        Move("empty", lambda a: mx.as_strided(a, (0, 3), (1, 1)), lambda a: np.zeros((0, 3), a.dtype)),
    ],
    "ViewAs": [
        both("bytes", lambda m, a: reinterpreted(m, a, "uint8"), ((3, 8),), ((8,),), ((0, 8),)),
        both("words", lambda m, a: reinterpreted(m, a, "uint32"), ((3, 8),)),
        both("pairs", lambda m, a: reinterpreted(m, a, "complex64"), ((3, 8),)),
        both("bytes of a part", lambda m, a: reinterpreted(m, a[::-1, 2:6], "uint8"), ((3, 8),)),
    ],
    "Contiguous": [
        Move("contiguous", mx.contiguous, np.ascontiguousarray, ((CUBE,), (NONE,), (FLAT,))),
        Move("columns first", lambda a: mx.contiguous(a, allow_col_major=True), lambda a: a),
    ],
    "Concatenate": [
        both("axis 0", lambda m, a, b: m.concatenate([a, b, a]), (CUBE, (1, 4, 5)), (NONE, CUBE)),
        both("middle", lambda m, a, b: m.concatenate([b, a], axis=1), (CUBE, (3, 1, 5)), (CUBE, (3, 0, 5))),
        both("last", lambda m, a, b: m.concatenate([a, b], axis=-1), (CUBE, (3, 4, 1))),
        both("flat", lambda m, a, b: m.concatenate([a, b], axis=None), (CUBE, FLAT), (NONE, (2, 3))),
        both("stack", lambda m, a, b: m.stack([a, b, a], axis=-1), (CUBE, CUBE), (NONE, NONE), (ONE, ONE)),
        both("tile", lambda m, a: m.tile(a, (2, 1, 3))),
        both("roll", lambda m, a: m.roll(a, (1, -7), (0, 2))),
        both("pad", lambda m, a: m.pad(a, ((1, 0), (0, 2), (1, 1)))),
    ],
    "SliceUpdate": [
        both(
            "box",
            lambda m, a, b: placed(m, a, (slice(1, 3), slice(None), slice(0, 4, 2)), b),
            (CUBE, (2, 4, 2)),
            (CUBE, (2,)),
            (CUBE, ONE),
        ),
        both("backwards", lambda m, a, b: placed(m, a, (slice(None, None, -1), 1), b), (CUBE, (3, 5))),
        both("nothing", lambda m, a, b: placed(m, a, (slice(2, 1),), b), (CUBE, (0, 4, 5)), (NONE, ONE)),
        Move(
            "at an array",
            lambda a, b: mx.slice_update(a, b, mx.array([1, 2]), (0, 2)),
            lambda a, b: placed(np, a, (slice(1, 3), slice(None), slice(2, 5)), b),
            ((CUBE, (2, 4, 3)),),
        ),
    ],
    "Gather": [
        both("take", lambda m, a: m.take(a, R if m is np else mx.array(R), axis=0), (CUBE,), ((3, 0),)),
        both("take in the middle", lambda m, a: m.take(a, C if m is np else mx.array(C), axis=1)),
        both("take flat", lambda m, a: m.take(a, D if m is np else mx.array(D)), (CUBE,), (FLAT,)),
        both("pairs", lambda m, a: a[R, C[0]] if m is np else a[mx.array(R), mx.array(C[0])], (CUBE,)),
        both(
            "apart", lambda m, a: a[R, 1:, C[0]] if m is np else a[mx.array(R), 1:, mx.array(C[0])], (CUBE,)
        ),
        both("mask", lambda m, a: a[a == a], (CUBE,)),
        both("no index", lambda m, a: a[R[:0]] if m is np else a[mx.array(R[:0])], (CUBE,), (NONE,)),
    ],
    "GatherAxis": [
        both("axis 0", lambda m, a: m.take_along_axis(a, along(m, (6, 4, 5), 3), axis=0), (CUBE,)),
        both("last", lambda m, a: m.take_along_axis(a, along(m, (3, 4, 2), 5), axis=-1), (CUBE,)),
        both("flat", lambda m, a: m.take_along_axis(a, along(m, (9,), 7), axis=None), (FLAT,)),
        both("none", lambda m, a: m.take_along_axis(a, along(m, (3, 0, 5), 4), axis=1), (CUBE,)),
    ],
    "Scatter": [
        both("lines", lambda m, a, b: placed(m, a, (indices(2, 0),), b), (CUBE, (2, 4, 5)), (CUBE, (5,))),
        both("pairs", lambda m, a, b: placed(m, a, (indices(2, 0, 1), indices(1, -1, 0)), b), (CUBE, (3, 5))),
        both(
            "beside a slice", lambda m, a, b: placed(m, a, (slice(0, 2), indices(3, 1)), b), (CUBE, (2, 2, 5))
        ),
        both("last of equals", lambda m, a, b: placed(m, a, (indices(1, 1, 1),), b), (FLAT, (3,))),
        both("none", lambda m, a, b: placed(m, a, (R[:0],), b), (CUBE, (0, 4, 5))),
    ],
    "ScatterAxis": [
        Move(
            "axis 1",
            lambda a, b: mx.put_along_axis(a, distinct(mx, 1), b, axis=1),
            lambda a, b: put_along(a, distinct(np, 1), b, 1),
            ((CUBE, (3, 2, 5)),),
        ),
        Move(
            "axis 0",
            lambda a, b: mx.put_along_axis(a, distinct(mx, 0), b, axis=0),
            lambda a, b: put_along(a, distinct(np, 0), b, 0),
            ((CUBE, (2, 4, 5)),),
        ),
    ],
}


def along(module: Any, shape: tuple[int, ...], length: int) -> Any:
    """Indices into an axis of that length, negative ones too."""
    values = (np.arange(int(np.prod(shape))).reshape(shape) * 7) % (2 * length) - length
    return mx.array(values) if module is mx else values


def distinct(module: Any, axis: int) -> Any:
    """Two different places along an axis for each line of CUBE across it."""
    shape = [n if i != axis else 2 for i, n in enumerate(CUBE)]
    first = np.arange(int(np.prod(shape))).reshape(shape) % CUBE[axis]
    values = np.where(np.arange(2).reshape([-1 if i == axis else 1 for i in range(3)]) == 1, -1, first % 2)
    return mx.array(values) if module is mx else values


# Writes that combine, as a method of `at` and as a NumPy function.
COMBINATIONS: dict[str, Any] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
COMBINED_AT: dict[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {
    "lines, equal ones too": ((indices(2, 0, 2, 2),), (4, 4, 5)),
    "pairs": ((indices(2, 0, 2), indices(1, -1, 1)), (3, 5)),
    "box": ((slice(1, None), slice(None, None, 3)), (2, 2, 5)),
    "element": ((1, 2, 3), ()),
}
