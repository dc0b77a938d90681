"""More kinds of instructions: indexing, products, random numbers, nested transforms, and profile s."""

from __future__ import annotations

from typing import Any

import lamina.core as mx

from .drawing import Draw
from .instructions import Drawn, axes_of, axis_of, gridded, kind, one, ranked, real, tame, two

# ---- reads and writes by index


def whole(i: mx.array, n: int) -> mx.array:
    """Any integers as indices of an axis, half of them counted from the end."""
    at = mx.remainder(i.astype(mx.int32), n)
    return mx.where(at % 2 == 0, at, at - n)


def with_indices(d: Draw) -> Drawn:
    """An array and few indices of one of its axes."""
    i = d.pick(ranked(1))
    j = d.pick(lambda v: v.integer and v.ndim < 2)
    return None if i is None or j is None else ([i, j], axis_of(d, d.values[i]) or [])


@kind("take", with_indices, "abes")
def take(x: mx.array, i: mx.array, axis: int) -> mx.array:
    return mx.take(x, whole(i, x.shape[axis]), axis=axis)


@kind("index", with_indices, "abes")
def index(x: mx.array, i: mx.array, axis: int) -> mx.array:
    at: list[Any] = [slice(None)] * x.ndim
    at[axis] = whole(i, x.shape[axis])
    return x[tuple(at)]


@kind("index_pair", lambda d: with_indices(d) and one_index(d), "abes", 0.6)
def index_pair(x: mx.array, i: mx.array) -> mx.array:
    return x[whole(i, x.shape[0]), ..., whole(i, x.shape[-1])]


def one_index(d: Draw) -> Drawn:
    i, j = d.pick(ranked(2)), d.pick(lambda v: v.integer and v.ndim < 2)
    return None if i is None or j is None else ([i, j], [])


def along(d: Draw) -> Drawn:
    """An array and integers of the same shape."""
    i = d.pick(lambda v: v.integer and v.ndim > 0)
    if i is None:
        return None
    j = d.pick(lambda v: v.shapes == d.values[i].shapes)
    return None if j is None else ([j, i], axis_of(d, d.values[i]) or [])


@kind("take_along_axis", along, "abes")
def take_along_axis(x: mx.array, i: mx.array, axis: int) -> mx.array:
    return mx.take_along_axis(x, whole(i, x.shape[axis]), axis=axis)


@kind("put_along_axis", along, "abe", 0.7)
def put_along_axis(x: mx.array, i: mx.array, axis: int) -> mx.array:
    return tame(mx.put_along_axis(x, whole(i, x.shape[axis]), mx.array(0.5).astype(x.dtype), axis=axis))


def written(d: Draw) -> Drawn:
    drawn = with_indices(d)
    if drawn is None:
        return None
    (i, j), _ = drawn
    k = d.pick(lambda v: v.ndim == 0)
    return ([i, j, i if k is None else k], [d.of(["add", "subtract", "maximum", "minimum"])])


@kind("write", written, "abe")
def write(x: mx.array, i: mx.array, value: mx.array, how: str) -> mx.array:
    """Combines at indices that repeat; the numbers added are gridded, as those of sums are."""
    value = gridded(value if value.ndim == 0 else value.flatten()[:1].squeeze(0), 64).astype(x.dtype)
    return tame(getattr(gridded(x, 64).at[whole(i, x.shape[0])], how)(value))


@kind(
    "write_part",
    lambda d: two(d, ranked(1), [d.of(["add", "multiply", "maximum"]), d.of([1, 2, -1])]),
    "abe",
    0.8,
)
def write_part(x: mx.array, y: mx.array, how: str, step: int) -> mx.array:
    x, y = mx.broadcast_arrays(x, y)
    return tame(getattr(x.at[::step], how)(y[::step].astype(x.dtype)))


@kind("set_part", lambda d: two(d, ranked(1), [d.of([0, 1, -1])]), "abes", 0.8)
def set_part(x: mx.array, y: mx.array, start: int) -> mx.array:
    x, y = mx.broadcast_arrays(x, y)
    copy = x + mx.zeros((), x.dtype)
    copy[start:] = y[start:].astype(x.dtype)
    return copy


# ---- products


def product(d: Draw) -> Drawn:
    """Matrices with a common inner axis; or a matrix and its transpose."""
    i = d.pick(ranked(2))
    if i is None:
        return None
    x = d.values[i]

    def fits(y: Any) -> bool:
        return (
            y.ndim == 2
            and [s[-1] for s in x.shapes] == [s[0] for s in y.shapes]
            and max(a[0] * b[-1] for a, b in zip(x.shapes, y.shapes, strict=True)) < 4000
        )

    j = d.pick(fits)
    if j is not None:
        return [i, j], [False]
    return None if max(s[-2] ** 2 for s in x.shapes) > 4000 else ([i, i], [True])


def multiplied(x: mx.array, y: mx.array, transposed: bool) -> mx.array:
    return x @ (mx.swapaxes(y, -1, -2) if transposed else y)


@kind("matmul", product, "abe", 1.2)
def matmul(x: mx.array, y: mx.array, transposed: bool) -> mx.array:
    """Of multiples of 1/8: exact in any order up to 2,100 products."""
    return tame(multiplied(gridded(x, 8), gridded(y, 8), transposed))


@kind("matmul_any", product, "a")
def matmul_any(x: mx.array, y: mx.array, transposed: bool) -> mx.array:
    return tame(multiplied(x, y, transposed))


def floating(v: Any) -> bool:
    return "float" in v.dtype


def contracted(d: Draw) -> Drawn:
    i = d.pick(lambda v: v.ndim == 2 and real(v) and max(s[0] ** 2 for s in v.shapes) < 4000)
    return None if i is None else ([i, i], [d.of(["ij,kj->ki", "ij,kj->ik", "ij,ij->i", "ij,kj->"])])


@kind("einsum", contracted, "abe", 0.4)
def einsum(x: mx.array, y: mx.array, subscripts: str) -> mx.array:
    return tame(mx.einsum(subscripts, gridded(x, 8), gridded(y, 8)))


def signals(v: Any) -> bool:
    return v.ndim == 3 and floating(v) and min(s[1] for s in v.shapes) > 0


@kind("convolution", lambda d: one(d, signals, lambda d, v: [d.number(1, 2), d.number(0, 2)]), "abe", 0.8)
def convolution(x: mx.array, stride: int, padding: int) -> mx.array:
    weight = gridded(mx.random.uniform(-1, 1, (2, 2, x.shape[-1]), key=mx.random.key(3)), 8).astype(x.dtype)
    return tame(mx.conv1d(gridded(x, 8), weight, stride=stride, padding=padding + 1))


@kind(
    "fft",
    lambda d: one(
        d,
        lambda v: v.ndim > 0 and min(s[-1] for s in v.shapes) > 0,
        lambda d, v: [d.of(["fft", "ifft", "rfft"])],
    ),
    "a",
    0.4,
)
def fft(x: mx.array, name: str) -> mx.array:
    x = mx.real(x) if name == "rfft" else x
    return tame(getattr(mx.fft, name)(x.astype(mx.complex64 if name != "rfft" else mx.float32)))


# ---- random numbers, whole functions, nested transforms


def chances(d: Draw, v: Any) -> list[Any]:
    """Backends round normal numbers differently."""
    return [d.number(0, 9), d.of(["uniform", "bernoulli", "randint", *["normal"] * (d.profile != "e")])]


@kind("random", lambda d: one(d, None, chances), "abe", 0.8)
def random(x: mx.array, seed: int, name: str) -> mx.array:
    key = mx.random.split(mx.random.key(seed), 3)[1]
    if name == "bernoulli":
        return mx.random.bernoulli(0.3, x.shape, key=key)
    if name == "randint":
        return mx.random.randint(-5, 6, x.shape, key=key)
    return tame(getattr(mx.random, name)(shape=x.shape, key=key))


@kind(
    "normalize",
    lambda d: one(
        d,
        lambda v: v.ndim > 0 and floating(v),
        lambda d, v: [d.of(["softmax", "rms_norm", "layer_norm", "log_softmax"])],
    ),
    "a",
    1.5,
)
def normalize(x: mx.array, name: str) -> mx.array:
    if name == "softmax":
        return mx.softmax(x, axis=-1)
    if name == "log_softmax":
        return tame(x - mx.logsumexp(x, axis=-1, keepdims=True))
    weight = mx.ones((x.shape[-1],), x.dtype)
    normed = (
        mx.fast.rms_norm(x, weight, 1e-5)
        if name == "rms_norm"
        else mx.fast.layer_norm(x, weight, weight, 1e-5)
    )
    return tame(normed)


def heads(v: Any) -> bool:
    return v.ndim == 3 and v.dtype in ("float32", "float16", "bfloat16") and max(s[1] for s in v.shapes) < 40


@kind("attention", lambda d: one(d, heads, lambda d, v: [d.chance(0.5)]), "a", 1)
def attention(x: mx.array, causal: bool) -> mx.array:
    q = x[None]
    return mx.fast.scaled_dot_product_attention(
        q, mx.sin(q), q, scale=0.5, mask="causal" if causal else None
    )[0]


@kind(
    "rope",
    lambda d: one(
        d,
        lambda v: heads(v) and min(s[-1] for s in v.shapes) > 1,
        lambda d, v: [d.chance(0.5), d.number(0, 3)],
    ),
    "a",
    0.5,
)
def rope(x: mx.array, traditional: bool, offset: int) -> mx.array:
    dims = x.shape[-1] // 2 * 2
    return tame(mx.fast.rope(x, dims, traditional=traditional, base=100.0, scale=1.0, offset=offset))


def inner(x: mx.array) -> mx.array:
    """What nested transforms are of: a few instructions with a shared value."""
    s = x * 0.5 + 0.25
    return s * s * 0.125 + mx.maximum(s, x) * 0.25


def nest(d: Draw, v: Any) -> list[Any]:
    """Derivatives of a maximum jump, and so are no part of profile s."""
    return [
        d.of(
            ["compile", "checkpoint", "vmap", "stop", "depends", *["grad", "jvp", "vjp"] * (d.profile != "s")]
        )
    ]


@kind("nested", lambda d: one(d, lambda v: v.dtype in ("float32", "float64"), nest), "abes", 1.5, 8)
def nested(x: mx.array, how: str) -> mx.array:
    if how in ("compile", "checkpoint"):
        return getattr(mx, how)(inner)(x)
    if how == "vmap":
        return mx.vmap(inner, in_axes=-1, out_axes=-1)(x) if x.ndim else inner(x)
    if how == "grad":
        return mx.grad(lambda a: inner(a).sum())(x) * 0.5
    if how == "jvp":
        return mx.jvp(inner, [x], [mx.ones(x.shape, x.dtype)])[1][0] * 0.5
    if how == "vjp":
        return mx.vjp(inner, [x], [mx.ones(x.shape, x.dtype)])[1][0] * 0.5
    return mx.stop_gradient(x) if how == "stop" else mx.depends(x, mx.negative(x))


# ---- profile s: operands in [-4, 4] give results in [-4, 4], and no error of an operand grows

SMOOTH = {
    "sin": mx.sin,
    "cos": mx.cos,
    "tanh": mx.tanh,
    "arctan": mx.arctan,
    "sigmoid": mx.sigmoid,
    "arcsinh": mx.arcsinh,
    "abs": mx.abs,
    "negative": mx.negative,
    "erf": lambda x: mx.erf(x) * 0.875,
    "log1p": lambda x: mx.log1p(mx.abs(x)),
    "exp": lambda x: mx.exp(-mx.abs(x)),
    "hypotenuse": lambda x: mx.sqrt(x * x + 1.0) - 1.0,
    "reciprocal": lambda x: mx.reciprocal(mx.abs(x) + 1.0),
    "rsqrt": lambda x: mx.rsqrt(mx.abs(x) + 1.0),
    "square": lambda x: mx.square(x) * 0.125,
}
SMOOTH_PAIR = {
    "mean": lambda x, y: (x + y) * 0.5,
    "difference": lambda x, y: (x - y) * 0.5,
    "multiply": lambda x, y: x * y * 0.125,
    "maximum": mx.maximum,
    "minimum": mx.minimum,
    "divide": lambda x, y: x / (mx.abs(y) + 8.0),
    "logaddexp": lambda x, y: mx.logaddexp(x, y) * 0.5,
}


# A rounding of a number up to 16 counts as four of one up to 4; functions are within 4 units in the last
# place.
@kind("smooth", lambda d: one(d, None, lambda d, v: [d.of(list(SMOOTH))]), "s", 4, 16)
def smooth(x: mx.array, name: str) -> mx.array:
    return SMOOTH[name](x)


@kind("smooth_pair", lambda d: two(d, None, [d.of(list(SMOOTH_PAIR))]), "s", 6, 8)
def smooth_pair(x: mx.array, y: mx.array, name: str) -> mx.array:
    return SMOOTH_PAIR[name](x, y)


@kind("smooth_cast", lambda d: one(d, None, lambda d, v: [d.dtype()]), "s", 1.5, 1)
def smooth_cast(x: mx.array, name: str) -> mx.array:
    return x.astype(getattr(mx, name))


@kind(
    "smooth_reduce",
    lambda d: one(
        d,
        lambda v: min(min(s, default=1) for s in v.shapes) > 0,
        lambda d, v: [d.of(["mean", "max", "min", "var"]), *(axes_of(d, v) or [])],
    ),
    "s",
    3,
    8,
    2,
)
def smooth_reduce(x: mx.array, name: str, axes: Any, keepdims: bool) -> mx.array:
    y = getattr(mx, name)(x, axis=axes, keepdims=keepdims)
    return y * 0.125 if name == "var" else y


@kind(
    "smooth_row",
    lambda d: one(
        d,
        lambda v: v.ndim > 0 and min(s[-1] for s in v.shapes) > 0,
        lambda d, v: [d.of(["softmax", "rms_norm", "layer_norm", "cumsum"])],
    ),
    "s",
    2,
    32,
    4,
)
def smooth_row(x: mx.array, name: str) -> mx.array:
    if name == "softmax":
        return mx.softmax(x, axis=-1)
    if name == "cumsum":
        return mx.cumsum(x * (1 / x.shape[-1]), axis=-1)
    if name == "rms_norm":
        return mx.fast.rms_norm(x, None, 1.0) * 0.1
    return mx.fast.layer_norm(x, None, None, 1.0) * 0.05


@kind("smooth_matmul", product, "s", 1.5, 8, 1)
def smooth_matmul(x: mx.array, y: mx.array, transposed: bool) -> mx.array:
    return multiplied(x * (1 / (8 * max(1, x.shape[-1]))), y, transposed)
