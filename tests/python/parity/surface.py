"""The functions that calls are drawn for, each with what draws its arguments and how its results compare.

Comparison: `ulp` (element by element, in units of the last place), `norm` (off by so many roundings of the
largest magnitude that the operands' products and sums can reach), `exact`, or `kind` (dtype and shape only).
Where parts of a result are free (signs of factors, the order of equal elements), canonical.py says what is
compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .calls import Call, Name
from .drawing import DTYPES, FLOATS, INTEGERS, Draw

Arguments = tuple[list[Any], dict[str, Any]]
REAL = ["bool_", *INTEGERS, *FLOATS]
SMALL_FLOATS = ["float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class Spec:
    """One function of the surface."""

    name: str
    draw: Callable[[Draw], Arguments]
    how: str = "ulp"
    bound: float = 4

    def call(self, d: Draw) -> Call:
        # What a method is looked up on, and the index of an update, are no arguments.
        kept = {"array": 1, "at": 2}.get(self.name.partition(".")[0], 0) if "." in self.name else 0
        args, kwargs = d.spoilt(*self.draw(d), kept)
        return Call(self.name, tuple(args), kwargs)


SPECS: dict[str, Spec] = {}


def add(names: str, draw: Callable[[Draw], Arguments], how: str = "ulp", bound: float = 4) -> None:
    """Rows for several functions that take the same arguments."""
    for name in names.split():
        SPECS[name] = Spec(name, draw, how, bound)


# ---- element by element


def unary(d: Draw) -> Arguments:
    return [d.array()], {}


def binary(d: Draw) -> Arguments:
    a = d.array()
    b = d.array(d.partner(a.values.shape)) if d.chance(0.8) else d.scalar()
    return ([b, a] if d.chance(0.2) else [a, b]), {}


def same_binary(d: Draw) -> Arguments:
    """Operands of one dtype, whatever promotion does."""
    a = d.array()
    return [a, d.array(d.partner(a.values.shape), [a.dtype])], {}


def close(d: Draw) -> Arguments:
    (a, b), _ = same_binary(d)
    return [a, b], d.of([{}, {"rtol": 0.5}, {"atol": 1.0, "equal_nan": True}])


def shifted(d: Draw) -> Arguments:
    a = d.array(dtypes=INTEGERS)
    b = d.array(d.partner(a.values.shape), [a.dtype], special=False)
    return [a, type(b)(abs(b.values) % 8, b.dtype, b.view)], {}


def clipped(d: Draw) -> Arguments:
    a = d.array(dtypes=REAL)
    return [a, d.of([None, -1, 0, 0.5]), d.of([None, 2, 3, 1.5])], {}


def conditional(d: Draw) -> Arguments:
    c = d.array(dtypes=d.of([["bool_"], DTYPES]))
    x = d.array(d.partner(c.values.shape)) if d.chance(0.8) else d.scalar()
    y = d.array(d.partner(c.values.shape)) if d.chance(0.8) else d.scalar()
    return [c, x, y], {}


add(
    "abs negative square sign positive real imag conj conjugate logical_not",
    unary,
)
add(
    "ceil floor trunc sqrt rsqrt reciprocal degrees radians array.abs array.sqrt array.square array.rsqrt",
    unary,
)
add(
    "exp expm1 log log2 log10 log1p sin cos tan sinh cosh tanh sigmoid array.exp array.log array.sin",
    unary,
    bound=8,
)
add("arcsin arccos arctan arcsinh arccosh arctanh asin acos atan asinh acosh atanh erfinv", unary, bound=8)
add("array.cos array.log1p array.log2 array.log10 array.reciprocal array.conj", unary, bound=8)
# The peer's error function is an approximation of few terms.
add("erf", unary, bound=64)
add("bitwise_invert stop_gradient isnan isinf isfinite isposinf isneginf", unary)
add("add subtract multiply maximum minimum divide floor_divide remainder divmod", binary)
add("arctan2 atan2 logaddexp power pow", binary, bound=16)
add("equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor", binary)
add("array.__add__ array.__sub__ array.__mul__ array.__truediv__ array.__floordiv__ array.__mod__", binary)
add("array.__eq__ array.__ne__ array.__lt__ array.__le__ array.__gt__ array.__ge__", same_binary)
add("array.__and__ array.__or__ array.__xor__ bitwise_and bitwise_or bitwise_xor array_equal", same_binary)
add(
    "left_shift right_shift bitwise_left_shift bitwise_right_shift array.__lshift__ array.__rshift__", shifted
)
add("isclose allclose", close)
add("clip", clipped)
add("where", conditional)
add("nan_to_num", lambda d: ([d.array()], d.of([{}, {"nan": 2.0}, {"posinf": 9.0, "neginf": -9.0}])))
add("round array.round", lambda d: ([d.array(), *d.of([[], [0], [1], [2], [-1]])], {}))
add("astype array.astype", lambda d: ([d.array(special=False), d.dtype_name()], {}))
add("view array.view", lambda d: ([d.array(low=1), d.dtype_name()], {}), "exact")
add("to_fp8", lambda d: ([d.array(dtypes=FLOATS)], {}), "exact")
add("from_fp8", lambda d: ([d.array(dtypes=["uint8"])], d.of([{}, {"dtype": d.dtype_name(FLOATS)}])), "exact")
add("depends", lambda d: ([d.array(), d.array()], {}), "exact")

# ---- reductions, scans, order


def reduced(d: Draw) -> Arguments:
    a = d.array()
    kwargs = {"keepdims": True} if d.chance(0.3) else {}
    return [a], {**kwargs, **({"axis": d.axes(a.values.ndim)} if d.chance(0.8) else {})}


def spread(d: Draw) -> Arguments:
    args, kwargs = reduced(d)
    return args, {**kwargs, **d.of([{}, {"ddof": 1}])}


def along(d: Draw, **options: Any) -> Arguments:
    """One axis or none; NaN has no place of its own in an order, so there is none."""
    a = d.array(low=1, dtypes=REAL, special=False)
    return [a], {**options, **({"axis": d.axis(a.values.ndim)} if d.chance(0.8) else {})}


def scanned(d: Draw) -> Arguments:
    (a,), kwargs = along(d)
    return [a], {**kwargs, **d.of([{}, {"reverse": True}, {"inclusive": False}])}


def kth(d: Draw) -> Arguments:
    a = d.array(low=1, dtypes=REAL, special=False)
    axis = d.axis(a.values.ndim)
    n = a.values.shape[axis] if -a.values.ndim <= axis < a.values.ndim else 3
    return [a, d.number(0, max(0, n - 1)) if not d.fault() else n + 2], {"axis": axis}


add("sum mean array.sum array.mean", reduced, "norm", 4)
add("prod array.prod", reduced, "ulp", 300)
add("max min all any minmax array.max array.min array.all array.any count_nonzero", reduced, "exact")
add("logsumexp softmax array.logsumexp", reduced, "norm", 16)
add("var std array.var array.std", spread, "norm", 32)
add("median", lambda d: along(d, **d.of([{}, {"keepdims": True}])), "norm", 4)
add("argmax argmin array.argmax array.argmin", lambda d: along(d, **d.of([{}, {"keepdims": True}])), "exact")
add("sort", along, "exact")
add("argsort", along, "exact")
add("cumsum cumulative_sum array.cumsum logcumsumexp", scanned, "norm", 16)
add("cumprod cumulative_prod array.cumprod", scanned, "ulp", 300)
add("cummax cummin array.cummax array.cummin", scanned, "exact")
add("partition argpartition topk", kth, "exact")
add("diff", lambda d: along(d, n=d.number(0, 2)), "ulp")

# ---- shapes


def reshaped(d: Draw) -> Arguments:
    a = d.array()
    dims = [int(n) for n in a.values.shape if n != 1] + [1] * d.number(0, 2)
    dims = [dims[int(i)] for i in d.rng.permutation(len(dims))]
    if dims and d.chance(0.3):
        dims[d.number(0, len(dims) - 1)] = -1
    return [a, [*dims, 3] if d.fault() else dims], {}


def on_axis(d: Draw) -> Arguments:
    a = d.array(low=1)
    return [a], {"axis": d.axis(a.values.ndim)}


def two_axes(d: Draw) -> Arguments:
    a = d.array(low=1)
    return [a, d.axis(a.values.ndim), d.axis(a.values.ndim)], {}


def permuted(d: Draw) -> Arguments:
    a = d.array()
    axes = [int(i) for i in d.rng.permutation(a.values.ndim)]
    return [a, *([] if d.chance(0.3) else [[*axes, 0] if d.fault() else axes])], {}


def joined(d: Draw) -> Arguments:
    shape = list(d.shape(1))
    axis = d.axis(len(shape))
    arrays = []
    for _ in range(d.number(1, 3)):
        if -len(shape) <= axis < len(shape):
            shape[axis] = d.number(0, 4)
        arrays.append(d.array((*shape, 2) if d.fault() else tuple(shape)))
    return [arrays, *d.of([[axis], []])], {}


def stacked(d: Draw) -> Arguments:
    shape = d.shape()
    return [[d.array(shape) for _ in range(d.number(1, 3))]], d.of([{}, {"axis": d.axis(len(shape) + 1)}])


def padded(d: Draw) -> Arguments:
    a = d.array(low=1)
    n = a.values.ndim
    width = d.of([2, (1, 2), [(d.number(0, 2), d.number(0, 2)) for _ in range(n)], (1,)])
    return [a, width], d.of(
        [{}, {"mode": "edge"}, {"constant_values": 3}, {"mode": "reflect"}, {"mode": "symmetric"}]
    )


def divided(d: Draw) -> Arguments:
    a = d.array(low=1)
    return [a, d.of([1, 2, 3, [1], [1, 2], [-1], []])], {"axis": d.axis(a.values.ndim)}


def rolled(d: Draw) -> Arguments:
    a = d.array()
    n = a.values.ndim
    if n >= 2 and d.chance(0.4):
        return [a, *d.of([[(1, -2), (0, 1)], [3, (0, -1)], [(1, 2), 0]])], {}
    return [a, d.number(-9, 9), *([d.axis(n)] if n and d.chance(0.6) else [])], {}


def banded(d: Draw) -> Arguments:
    return [d.array(low=2), d.number(-3, 3)], {}


add("reshape array.reshape", reshaped, "exact")
add("squeeze array.squeeze flip", lambda d: ([a := d.array()], {"axis": d.axes(a.values.ndim)}), "exact")
add("expand_dims", lambda d: ([a := d.array(), d.axis(a.values.ndim + 1)], {}), "exact")
add("swapaxes moveaxis array.swapaxes array.moveaxis flatten array.flatten", two_axes, "exact")
add("transpose permute_dims", permuted, "exact")
add("concatenate concat", joined, "exact")
add("stack", stacked, "exact")
add("pad", padded, "exact")
add("split array.split", divided, "exact")
add("unstack", on_axis, "exact")
add("roll", rolled, "exact")
add(
    "repeat",
    lambda d: ([a := d.array(), d.number(0, 3)], d.of([{}, {"axis": d.axis(a.values.ndim)}])),
    "exact",
)
add("tile", lambda d: ([d.array(), d.of([2, 0, [2], [1, 2], [2, 1, 3], ()])], {}), "exact")
add("broadcast_to", lambda d: ([d.array(d.partner(s := d.shape())), s], {}), "exact")
add("broadcast_arrays", lambda d: ([d.array(d.partner(s := d.shape())), d.array(d.partner(s))], {}), "exact")
add("broadcast_shapes", lambda d: ([s := d.shape(), d.partner(s)], {}), "exact")
add(
    "unflatten",
    lambda d: ([d.array((6, 4)), d.axis(2), d.of([(2, 3), (2, 2), (-1, 2), (3, -1), (5,)])], {}),
    "exact",
)
add("atleast_1d atleast_2d atleast_3d", lambda d: ([d.array() for _ in range(d.number(1, 2))], {}), "exact")
MESHES = [{}, {"indexing": "ij"}, {"sparse": True}, {"indexing": "no"}]
add(
    "meshgrid", lambda d: ([d.array((d.number(0, 4),)) for _ in range(d.number(1, 3))], d.of(MESHES)), "exact"
)
add("tril triu diagonal array.diagonal", banded, "exact")
add("trace", banded, "norm")
add("diag array.diag", lambda d: ([d.array(d.shape(1, 2)), d.number(-3, 3)], {}), "exact")
add("matrix_transpose contiguous", lambda d: ([d.array(low=d.number(0, 2))], {}), "exact")
add(
    "as_strided",
    lambda d: ([d.array((12,)), (2, 3), d.of([(1, 2), (3, 1), (0, 1)]), d.number(0, 3)], {}),
    "exact",
)

# ---- making arrays


NESTED = [1, 2.5, True, 1j, [], [1, 2], [1, 2.5], [[True, 2]], [[1], [2, 3]], "x", None]


def lined(d: Draw) -> Arguments:
    args = [d.of([0, -1.5, 3]), d.of([1, 2.5, -4]), d.number(0, 9)]
    return args, d.of([{}, {"endpoint": False}, {"dtype": d.dtype_name(FLOATS)}])


def ranged(d: Draw) -> Arguments:
    args = d.of([[5], [1, 6], [0, 10, 3], [5, 0, -2], [0.0, 1.0, 0.25], [3.5], [2, 2], [1, 5, -1], [0, 4, 0]])
    return args, d.of([{}, {"dtype": d.dtype_name()}])


add("zeros ones empty", lambda d: ([d.of([d.shape(), 3, 0])], d.of([{}, {"dtype": d.dtype_name()}])), "exact")
add(
    "zeros_like ones_like empty_like", lambda d: ([d.array()], d.of([{}, {"dtype": d.dtype_name()}])), "exact"
)
add(
    "full",
    lambda d: (
        [s := d.shape(), d.of([d.scalar(), d.array(d.partner(s))])],
        d.of([{}, {"dtype": d.dtype_name()}]),
    ),
)
add("full_like", lambda d: ([d.array(), d.scalar()], d.of([{}, {"dtype": d.dtype_name()}])), "exact")
add("arange", ranged, "ulp")
add("linspace", lined, "norm")
add(
    "eye tri",
    lambda d: ([d.number(0, 5), d.number(0, 5), d.number(-3, 3)], d.of([{}, {"dtype": d.dtype_name()}])),
    "exact",
)
add("identity", lambda d: ([d.number(0, 5)], d.of([{}, {"dtype": d.dtype_name()}])), "exact")
add("bartlett blackman hamming hanning", lambda d: ([d.number(-1, 12)], {}), "norm", 8)
add("array", lambda d: ([d.of(NESTED)], d.of([{}, {"dtype": d.dtype_name()}])), "exact")
add("can_cast", lambda d: ([d.dtype_name(), d.dtype_name()], {}), "exact")
add(
    "result_type", lambda d: ([d.of([d.dtype_name(), d.array()]) for _ in range(d.number(1, 3))], {}), "exact"
)
add(
    "issubdtype",
    lambda d: ([d.dtype_name(), Name(d.of(["floating", "integer", "number", "inexact", "generic"]))], {}),
)
add("isdtype", lambda d: ([d.dtype_name(), d.of(["bool", "integral", "real floating", "numeric", "no"])], {}))
