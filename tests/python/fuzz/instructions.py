"""Kinds of instructions: how one is drawn and what it computes. Elementwise, views, reductions, scans.

Numbers stay small: every float that a program holds is in [-4, 4] or NaN, so that hundreds of instructions
still say something. Profiles, by letter, are what a kind may be part of:

a  any instruction of any dtype; what is promised bit by bit (compiled, exported) is compared
b  no 16-bit floats, and sums of multiples of 1/64 only, which are exact in every order: vmap, one
   instruction at a time, and one output alone give the same bits too
e  as b, without instructions that backends may round differently: the reference backend gives the same bits
s  floats under instructions that never spread their operands' errors, so that a bound follows from the
   number of roundings: `cost` is how many of a number up to 4 an instruction makes, `per_element` how many
   more for each element of the axes that it sums over
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lamina.core as mx

from .drawing import Draw

Drawn = tuple[list[int], list[Any]] | None


@dataclass(frozen=True)
class Kind:
    """One row: `draw` gives inputs and parameters, `apply` the value of them."""

    name: str
    draw: Callable[[Draw], Drawn]
    apply: Callable[..., mx.array]
    profiles: str
    weight: float
    cost: float
    per_element: float


KINDS: dict[str, Kind] = {}


def kind(
    name: str,
    draw: Callable[[Draw], Drawn],
    profiles: str = "abe",
    weight: float = 1.0,
    cost: float = 0,
    per_element: float = 0,
) -> Callable[[Callable[..., mx.array]], Callable[..., mx.array]]:
    """Adds a row to KINDS."""

    def add(apply: Callable[..., mx.array]) -> Callable[..., mx.array]:
        assert name not in KINDS, name
        KINDS[name] = Kind(name, draw, apply, profiles, weight, cost, per_element)
        return apply

    return add


def tame(x: mx.array) -> mx.array:
    """The value with its floats in [-4, 4]."""
    if x.dtype == mx.complex64:
        return mx.where(mx.abs(x) < 4, x, 0.25)
    return mx.clip(x, -4.0, 4.0) if mx.issubdtype(x.dtype, mx.floating) else x


def gridded(x: mx.array, per_one: int) -> mx.array:
    """Floats rounded to multiples of 1 / per_one, and no -0: what sums hold exactly, in any order."""
    return mx.round(x * per_one) * (1 / per_one) + 0.0 if mx.issubdtype(x.dtype, mx.inexact) else x


# ---- drawing


def one(d: Draw, wanted: Any = None, params: Callable[[Draw, Any], list[Any] | None] | None = None) -> Drawn:
    """One operand, and parameters that depend on it."""
    i = d.pick(wanted)
    if i is None:
        return None
    given = params(d, d.values[i]) if params else []
    return None if given is None else ([i], given)


def two(d: Draw, wanted: Any = None, params: list[Any] | None = None) -> Drawn:
    """Two operands that broadcast together at every set of lengths."""
    i = d.pick(wanted)
    if i is None:
        return None
    x = d.values[i]
    j = d.pick(lambda y: (wanted is None or wanted(y)) and d.broadcasts(x.shapes, y.shapes))
    return None if j is None else ([i, j], params or [])


def ranked(low: int) -> Callable[[Any], bool]:
    return lambda v: v.ndim >= low


def axis_of(d: Draw, v: Any) -> list[Any] | None:
    return [d.number(-v.ndim, v.ndim - 1)] if v.ndim else None


def axes_of(d: Draw, v: Any) -> list[Any] | None:
    """None, or some axes, and whether they are kept."""
    some = [int(i) for i in d.rng.permutation(v.ndim)[: d.number(1, max(1, v.ndim))]]
    some = [-1] if some and d.chance(0.3) else some
    return [None if d.chance(0.2) else tuple(i - v.ndim if d.chance(0.2) else i for i in some), d.chance(0.6)]


# ---- elementwise


def words(text: str) -> list[str]:
    return text.split()


ROUNDED = words("""
    exp expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh
    arctanh erf erfinv sigmoid rsqrt
""")
EXACT = words("""
    negative abs sign square sqrt reciprocal floor ceil trunc round logical_not bitwise_invert isnan
    isinf isfinite isposinf isneginf conjugate real imag
""")
BINARY_ROUNDED = words("""
    floor_divide power logaddexp arctan2
""")
BINARY_EXACT = words("""
    add subtract multiply divide remainder maximum minimum equal not_equal less less_equal greater
    greater_equal logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor left_shift
    right_shift
""")
# Complex numbers: quotients, moduli and roots are rounded as each backend's formula has it.
COMPLEX_ROUNDED = {"divide", "abs", "sign", "sqrt", "reciprocal", "square", "multiply"}


def plain(name: str) -> Callable[[Any], bool]:
    return lambda v: v.dtype != "complex64" or name not in COMPLEX_ROUNDED


@kind("rounded", lambda d: one(d, None, lambda d, v: [d.of(ROUNDED)]), "ab", 2)
@kind(
    "unary",
    lambda d: d.then(d.of(EXACT), lambda n: one(d, plain(n) if d.profile == "e" else None, lambda *_: [n])),
    "abe",
    2,
)
def unary(x: mx.array, name: str) -> mx.array:
    return tame(getattr(mx, name)(x))


@kind("rounded2", lambda d: two(d, None, [d.of(BINARY_ROUNDED)]), "ab", 0.7)
@kind(
    "binary",
    lambda d: d.then(d.of(BINARY_EXACT), lambda n: two(d, plain(n) if d.profile == "e" else None, [n])),
    "abe",
    5,
)
def binary(x: mx.array, y: mx.array, name: str) -> mx.array:
    return tame(getattr(mx, name)(x, y))


SCALARS = [True, 2, 3, -1, 0.5, -2.5, 0, 1]


@kind(
    "scalar",
    lambda d: one(
        d,
        lambda v: v.dtype != "complex64",
        lambda d, v: [d.of(["add", "subtract", "multiply", "maximum", "less"]), d.of(SCALARS), d.chance(0.5)],
    ),
    "abe",
)
def scalar(x: mx.array, name: str, number: Any, first: bool) -> mx.array:
    return tame(getattr(mx, name)(number, x) if first else getattr(mx, name)(x, number))


def three(d: Draw) -> Drawn:
    pair = two(d)
    if pair is None:
        return None
    (i, j), _ = pair
    shapes = d.joined(d.values[i].shapes, d.values[j].shapes)
    k = d.pick(lambda c: d.broadcasts(c.shapes, shapes))
    return None if k is None else ([k, i, j], [])


@kind("where", three, "abe", 1)
def where(c: mx.array, x: mx.array, y: mx.array) -> mx.array:
    return tame(mx.where(c.astype(mx.bool_), x, y))


def cast_params(d: Draw, v: Any) -> list[Any] | None:
    return [d.dtype()]


@kind("cast", lambda d: one(d, None, cast_params), "abe", 1.5)
def cast(x: mx.array, name: str) -> mx.array:
    return tame(x.astype(getattr(mx, name)))


# ---- views; in every profile, since they round nothing


def slices(d: Draw, v: Any) -> list[Any] | None:
    """A start, stop and step for each axis; None or counted from either end."""
    out = []
    for k in range(v.ndim):
        step = d.of([1, 1, 1, 2, 3, -1, -2])
        small = min(s[k] for s in v.shapes)
        ends = [None, None, 0, 1, -1, 2, -2] if small > 3 else [None, None, 0, None, -1 if step < 0 else 0]
        start, stop = d.of(ends), d.of([None, None, None, -1, 5] if small > 1 else [None])
        out.append((start, stop, step) if d.chance(0.5) else (None, None, 1))
    return [tuple(out)] if out else None


@kind("slice", lambda d: one(d, ranked(1), slices), "abes", 1.5)
def slice_(x: mx.array, parts: tuple[tuple[int | None, ...], ...]) -> mx.array:
    return x[tuple(slice(*p) for p in parts)]


@kind(
    "transpose",
    lambda d: one(d, ranked(2), lambda d, v: [tuple(int(i) for i in d.rng.permutation(v.ndim))]),
    "abes",
    1.5,
)
def transpose(x: mx.array, axes: tuple[int, ...]) -> mx.array:
    return mx.transpose(x, axes)


@kind(
    "expand_dims",
    lambda d: one(d, lambda v: v.ndim < 4, lambda d, v: [d.number(-v.ndim - 1, v.ndim)]),
    "abes",
)
def expand_dims(x: mx.array, axis: int) -> mx.array:
    return mx.expand_dims(x, axis)


def ones_of(v: Any) -> list[int]:
    """Axes of length 1 at every set of lengths."""
    return [k for k in range(v.ndim) if all(s[k] == 1 for s in v.shapes)]


@kind("squeeze", lambda d: one(d, ones_of, lambda d, v: [d.of(ones_of(v))]), "abes")
def squeeze(x: mx.array, axis: int) -> mx.array:
    return mx.squeeze(x, axis)


@kind("merge", lambda d: one(d, ranked(2), lambda d, v: [d.number(0, v.ndim - 2)]), "abes")
def merge(x: mx.array, axis: int) -> mx.array:
    s = x.shape
    return mx.reshape(x, (*s[:axis], s[axis] * s[axis + 1], *s[axis + 2 :]))


def divisors(d: Draw, v: Any) -> list[Any] | None:
    found = [(k, n) for k in range(v.ndim) for n in (1, 2, 3, 4) if all(s[k] % n == 0 for s in v.shapes)]
    return [*d.of(found), d.chance(0.5)] if found and v.ndim < 4 else None


@kind("unmerge", lambda d: one(d, ranked(1), divisors), "abes")
def unmerge(x: mx.array, axis: int, parts: int, front: bool) -> mx.array:
    n = x.shape[axis] // parts
    return mx.unflatten(x, axis, (parts, n) if front else (n, parts))


@kind("broadcast_like", lambda d: two(d), "abes")
def broadcast_like(x: mx.array, y: mx.array) -> mx.array:
    return mx.broadcast_arrays(x, y)[0]


@kind("flatten", lambda d: one(d), "abes", 0.4)
def flatten(x: mx.array) -> mx.array:
    return mx.flatten(x)


@kind(
    "roll", lambda d: one(d, ranked(1), lambda d, v: [d.number(-3, 3), *(axis_of(d, v) or [])]), "abes", 0.5
)
def roll(x: mx.array, shift: int, axis: int) -> mx.array:
    return mx.roll(x, shift, axis)


@kind(
    "repeat", lambda d: one(d, ranked(1), lambda d, v: [d.number(1, 3), *(axis_of(d, v) or [])]), "abes", 0.4
)
def repeat(x: mx.array, times: int, axis: int) -> mx.array:
    return mx.repeat(x, times, axis)


@kind(
    "tile",
    lambda d: one(d, ranked(1), lambda d, v: [tuple(d.number(1, 2) for _ in range(v.ndim))]),
    "abes",
    0.3,
)
def tile(x: mx.array, times: tuple[int, ...]) -> mx.array:
    return mx.tile(x, times)


@kind(
    "pad",
    lambda d: one(
        d, ranked(1), lambda d, v: [tuple((d.number(0, 2), d.number(0, 2)) for _ in range(v.ndim))]
    ),
    "abes",
    0.5,
)
def pad(x: mx.array, widths: tuple[tuple[int, int], ...]) -> mx.array:
    return mx.pad(x, [list(w) for w in widths])


@kind("diagonal", lambda d: one(d, ranked(2), lambda d, v: [d.number(-1, 1)]), "abes", 0.3)
def diagonal(x: mx.array, offset: int) -> mx.array:
    return mx.diagonal(x, offset, -2, -1)


@kind(
    "triangle",
    lambda d: one(d, ranked(2), lambda d, v: [d.of(["tril", "triu"]), d.number(-1, 1)]),
    "abes",
    0.4,
)
def triangle(x: mx.array, name: str, offset: int) -> mx.array:
    return getattr(mx, name)(x, offset)


def joinable(d: Draw) -> Drawn:
    """Values that agree but for one axis."""
    i = d.pick(ranked(1))
    if i is None:
        return None
    x, axis = d.values[i], d.number(0, d.values[i].ndim - 1)

    def fits(y: Any) -> bool:
        return y.ndim == x.ndim and all(
            a[:axis] + a[axis + 1 :] == b[:axis] + b[axis + 1 :]
            for a, b in zip(x.shapes, y.shapes, strict=True)
        )

    return [i, *[d.pick(fits) or i for _ in range(d.number(1, 2))]], [axis]


@kind("concatenate", joinable, "abes")
def concatenate(*given: Any) -> mx.array:
    return tame(mx.concatenate(list(given[:-1]), axis=given[-1]))


def alike(d: Draw) -> Drawn:
    i = d.pick(lambda v: v.ndim < 4)
    if i is None:
        return None
    x = d.values[i]
    return [i, *[d.pick(lambda y: y.shapes == x.shapes) or i for _ in range(d.number(0, 2))]], [
        d.number(0, x.ndim)
    ]


@kind("stack", alike, "abes", 0.5)
def stack(*given: Any) -> mx.array:
    return tame(mx.stack(list(given[:-1]), axis=given[-1]))


# ---- reductions and scans


def real(v: Any) -> bool:
    return v.dtype != "complex64"


def summed(d: Draw, v: Any) -> list[Any] | None:
    return [d.of(["sum", "sum", "max", "min", "all", "any"]), *(axes_of(d, v) or [])]


@kind("reduce", lambda d: one(d, None, summed), "abe", 2.5)
def reduce(x: mx.array, name: str, axes: Any, keepdims: bool) -> mx.array:
    """Of gridded numbers, so that every order gives the same bits."""
    return tame(getattr(mx, name)(gridded(x, 64), axis=axes, keepdims=keepdims))


@kind(
    "reduce_any",
    lambda d: one(
        d,
        None,
        lambda d, v: [
            d.of(["sum", "prod", "mean", "var", "std", "logsumexp", "max", "min"]),
            *(axes_of(d, v) or []),
        ],
    ),
    "a",
    2,
)
def reduce_any(x: mx.array, name: str, axes: Any, keepdims: bool) -> mx.array:
    return tame(getattr(mx, name)(x, axis=axes, keepdims=keepdims))


@kind(
    "arg_reduce",
    lambda d: one(
        d,
        lambda v: v.ndim > 0 and real(v),
        lambda d, v: [d.of(["argmax", "argmin"]), *(axis_of(d, v) or []), d.chance(0.5)],
    ),
    "abe",
    0.6,
)
def arg_reduce(x: mx.array, name: str, axis: int, keepdims: bool) -> mx.array:
    return getattr(mx, name)(x, axis=axis, keepdims=keepdims)


def scanned(names: str) -> Callable[[Draw, Any], list[Any] | None]:
    return lambda d, v: [d.of(names.split()), *(axis_of(d, v) or []), d.chance(0.3), d.chance(0.7)]


@kind("scan", lambda d: one(d, lambda v: v.ndim > 0 and real(v), scanned("cumsum cummax cummin")), "abe")
def scan(x: mx.array, name: str, axis: int, reverse: bool, inclusive: bool) -> mx.array:
    return tame(getattr(mx, name)(gridded(x, 64), axis=axis, reverse=reverse, inclusive=inclusive))


@kind("scan_any", lambda d: one(d, ranked(1), scanned("cumsum cumprod logcumsumexp")), "a")
def scan_any(x: mx.array, name: str, axis: int, reverse: bool, inclusive: bool) -> mx.array:
    return tame(getattr(mx, name)(x, axis=axis, reverse=reverse, inclusive=inclusive))


@kind("sort", lambda d: one(d, lambda v: v.ndim > 0 and real(v), axis_of), "abes")
def sort(x: mx.array, axis: int) -> mx.array:
    return mx.sort(x + 0, axis=axis)


@kind("argsort", lambda d: one(d, lambda v: v.ndim > 0 and real(v), axis_of), "abe")
def argsort(x: mx.array, axis: int) -> mx.array:
    return mx.argsort(x, axis=axis)
