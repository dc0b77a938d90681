"""Cases of the structured rows that compute on numbers: products, order, scans, random words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
import numpy as np
from core.core_cases import INTEGERS, NUMPY_DTYPES
from core.table_cases import Kernel, Wanted, accumulator_eps, mild, normal, rounding, special, wide
from core.table_models import MODEL_KERNELS
from core.table_rows import DTYPES, EPS, widened

# ---- products


def product(dtype: str, a: np.ndarray, b: np.ndarray) -> Wanted:
    if dtype not in EPS:
        return [(np.matmul(a, b), 0)]
    # In float64 the oracle rounds as often as the kernel may.
    x, y = (wide(v) if dtype != "float64" else v for v in (a, b))
    want, size = np.matmul(x, y), np.matmul(np.abs(x), np.abs(y))
    n = a.shape[-1] * {"complex64": 4, "float64": 2}.get(dtype, 1)
    return [(want, n * accumulator_eps(dtype) * size + rounding(dtype) * np.abs(want))]


MATMUL = [
    Kernel(label, normal(*shapes), mx.matmul, product)
    for label, shapes in {
        "vectors": ((61,), (61,)),
        "matrix and vector": ((9, 61), (61,)),
        "vector and matrix": ((61,), (61, 19)),
        "one row": ((1, 130), (130, 33)),
        "few rows": ((5, 130), (130, 33)),
        "blocks": ((70, 129), (129, 131)),
        "batches": ((2, 1, 5, 33), (3, 33, 8)),
        "no rows": ((0, 4), (4, 3)),
        "nothing to add up": ((3, 0), (0, 4)),
    }.items()
]


RANGES = np.array([[[0, 5], [5, 130]], [[64, 64], [129, 130]], [[7, 3], [3, 90]]])


def segmented(dtype: str, a: np.ndarray, b: np.ndarray) -> Wanted:
    parts = [[product(dtype, a[:, i:j], b[i:j])[0] for i, j in pairs] for pairs in RANGES.tolist()]
    want, bound = (np.array([[p[n] for p in row] for row in parts]) for n in (0, 1))
    return [(want, bound)]


SEGMENTED = [
    Kernel(
        label,
        normal((m, 130), (130, n)),
        lambda a, b: mx.segmented_mm(a, b, mx.array(RANGES)),
        segmented,
        list(EPS),
    )
    for label, m, n in (("few rows", 3, 33), ("blocks", 70, 19))
]


PICKS = np.array([[2, 0, -1], [2, 2, 1]])


def picked(dtype: str, a: np.ndarray, b: np.ndarray) -> Wanted:
    return product(dtype, a, b[PICKS])


GATHERED = [
    Kernel(
        label,
        normal(*shapes),
        lambda a, b: mx.gather_mm(a, b, rhs_indices=mx.array(PICKS)),
        picked,
        list(EPS),
    )
    for label, shapes in {
        "one row": ((2, 3, 1, 130), (3, 130, 33)),
        "rows that all share": ((1, 130), (3, 130, 33)),
        "blocks": ((3, 17, 129), (3, 129, 19)),
        "nothing to add up": ((2, 0), (3, 0, 4)),
    }.items()
]


def convolved(groups: int, stride: int) -> Callable[..., Wanted]:
    """Sums over taps of the products of a strided view, padded by 1 and 2, and the tap's weights."""

    def total(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        x = np.pad(x, ((0, 0), (1, 2), (0, 0)))
        n = (x.shape[1] - w.shape[1]) // stride + 1
        x = x.reshape(*x.shape[:2], groups, -1)
        w = w.reshape(groups, -1, *w.shape[1:])
        taps = [x[:, k : k + (n - 1) * stride + 1 : stride] for k in range(w.shape[2])]
        sums = sum(np.einsum("nlgc,goc->nlgo", tap, w[:, :, k]) for k, tap in enumerate(taps))
        return np.asarray(sums).reshape(x.shape[0], n, -1)

    def theirs(dtype: str, x: np.ndarray, w: np.ndarray) -> Wanted:
        x, w = (wide(v) if dtype != "float64" else v for v in (x, w))
        want, size = total(x, w), total(np.abs(x), np.abs(w))
        n = w[0].size * {"complex64": 4, "float64": 2}.get(dtype, 1)
        return [(want, n * accumulator_eps(dtype) * size + rounding(dtype) * np.abs(want))]

    return theirs


CONVOLUTION = [
    Kernel(
        label,
        normal(x, w),
        lambda x, w, g=groups, s=stride: mx.conv_general(x, w, s, ([1], [2]), groups=g),
        convolved(groups, stride),
        list(EPS),
    )
    for label, x, w, groups, stride in [
        ("plain", (2, 9, 5), (33, 3, 5), 1, 1),
        ("few outputs", (2, 9, 5), (4, 2, 5), 1, 2),
        ("groups", (2, 7, 6), (8, 3, 3), 2, 2),
        ("depthwise", (2, 7, 19), (19, 3, 1), 19, 1),
        ("one channel", (1, 90, 1), (1, 7, 1), 1, 1),
    ]
]


# ---- order


def order_key(x: np.ndarray) -> np.ndarray:
    """A dtype that NumPy itself sorts, with NaN last."""
    return x.astype(np.float32) if x.dtype == NUMPY_DTYPES["bfloat16"] else x


def sorted_by(axis: int | None) -> Callable[..., Wanted]:
    return lambda dtype, x: [(np.sort(order_key(x), axis).astype(x.dtype), 0)]


def sorting_by(axis: int | None) -> Callable[..., Wanted]:
    return lambda dtype, x: [(np.argsort(order_key(x), axis, kind="stable").astype(np.uint32), 0)]


def extremum_at(name: str, axis: int | None, keepdims: bool) -> Callable[..., Wanted]:
    f = getattr(np, name)
    return lambda dtype, x: [(np.asarray(f(order_key(x), axis=axis, keepdims=keepdims)).astype(np.uint32), 0)]


def index_result(dtype: str) -> list[str]:
    return ["uint32"]


LINES = ((-1, (5, 131)), (0, (67, 3)), (1, (3, 40, 2)), (None, (7, 9)), (0, (300,)), (0, (0, 3)))
SORT = [
    Kernel(f"axis {axis}", special(shape), lambda a, axis=axis: mx.sort(a, axis), sorted_by(axis))
    for axis, shape in LINES
]
ARGSORT = [
    Kernel(
        f"axis {axis}",
        special(shape),
        lambda a, axis=axis: mx.argsort(a, axis),
        sorting_by(axis),
        results=index_result,
    )
    for axis, shape in LINES
]
ARG_REDUCE = [
    Kernel(
        f"{name}, axis {axis}, {'kept' if keep else 'dropped'}",
        special(shape),
        lambda a, name=name, axis=axis, keep=keep: getattr(mx, name)(a, axis, keep),
        extremum_at(name, axis, keep),
        results=index_result,
    )
    for name in ("argmax", "argmin")
    for axis, shape, keep in (
        (-1, (5, 131), False),
        (0, (67, 3), True),
        (1, (3, 40, 2), False),
        (None, (7, 9), True),
        (None, (1000,), False),
        (1, (0, 3), True),
    )
]


# ---- scans


def accumulated(kind: str, axis: int | None, reverse: bool, inclusive: bool) -> Callable[..., Wanted]:
    """Any of the scans by NumPy's accumulate, from the other end and shifted by one where wanted."""
    identity = {"sum": 0, "prod": 1, "logsumexp": -np.inf, "max": None, "min": None}[kind]
    f = {
        "sum": np.add,
        "prod": np.multiply,
        "max": np.maximum,
        "min": np.minimum,
        "logsumexp": np.logaddexp,
    }[kind]

    def of_line(x: np.ndarray, at: int, start: Any) -> np.ndarray:
        x = np.flip(x, at) if reverse else x
        out = f.accumulate(x, at, dtype=x.dtype) if x.size else x
        if not inclusive and x.size:
            first = np.full_like(np.take(out, [0], at), start)
            out = np.concatenate([first, np.delete(out, -1, at)], at)
        return np.flip(out, at) if reverse else out

    def theirs(dtype: str, x: np.ndarray) -> Wanted:
        x = x.reshape(-1) if axis is None else x
        at = 0 if axis is None else axis
        result = scan_result(kind)(dtype)[0]
        start = lowest_or_highest(kind, dtype) if identity is None else identity
        if result not in EPS:
            return [(of_line(x.astype(NUMPY_DTYPES[result]), at, start), 0)]
        if identity is None:
            return [(of_line(order_key(x), at, start).astype(x.dtype), 0)]
        with np.errstate(all="ignore"):
            want = of_line(wide(x.astype(NUMPY_DTYPES[result])), at, start)
            size = of_line(np.abs(wide(x)), at, 0) if kind == "sum" else np.abs(want)
        steps = 2 * x.shape[at] * (4 if dtype == "complex64" else 1)
        with np.errstate(all="ignore"):
            size = size + x.shape[at] if kind == "logsumexp" else size
            return [(want, steps * accumulator_eps(result) * size + rounding(result) * np.abs(want))]

    return theirs


def lowest_or_highest(kind: str, dtype: str) -> Any:
    """What an extremum of nothing is in a scan."""
    if dtype == "bool_":
        return kind == "min"
    if dtype in INTEGERS:
        info = np.iinfo(NUMPY_DTYPES[dtype])
        return info.min if kind == "max" else info.max
    value = -np.inf if kind == "max" else np.inf
    return complex(value, value) if dtype == "complex64" else value


def scan_result(kind: str) -> Callable[[str], list[str]]:
    def result(dtype: str) -> list[str]:
        if kind in ("sum", "prod"):
            return [widened(dtype)]
        return [dtype if kind != "logsumexp" or dtype in EPS else "float32"]

    return result


def scans() -> list[Kernel]:
    out = []
    for name, kind in {
        "cumsum": "sum",
        "cumprod": "prod",
        "cummax": "max",
        "cummin": "min",
        "logcumsumexp": "logsumexp",
    }.items():
        for axis, shape, reverse, inclusive in (
            (1, (5, 131), False, True),
            (0, (67, 3), True, True),
            (1, (3, 40, 2), True, False),
            (None, (3, 7), False, False),
            (0, (0, 3), False, True),
        ):
            make = {"max": special, "min": special, "prod": mild}.get(kind, normal)(shape)
            floats = [t for t in DTYPES if t != "complex64"]
            out.append(
                Kernel(
                    f"{name}, axis {axis}{', reverse' * reverse}{', exclusive' * (not inclusive)}",
                    make,
                    lambda a, name=name, axis=axis, r=reverse, i=inclusive: getattr(mx, name)(
                        a, axis, reverse=r, inclusive=i
                    ),
                    accumulated(kind, axis, reverse, inclusive),
                    floats if kind == "logsumexp" else DTYPES,
                    scan_result(kind),
                )
            )
    return [*out, Kernel("logcumsumexp", normal((5, 33)), exp_of_sums, sums_of_exp, ["complex64"])]


def exp_of_sums(a: mx.array) -> mx.array:
    return mx.exp(mx.logcumsumexp(a, axis=1))


def sums_of_exp(dtype: str, x: np.ndarray) -> Wanted:
    """Complex logarithms are compared by their exponentials: the branch of a sum is nobody's."""
    want, size = np.exp(wide(x)).cumsum(1), np.abs(np.exp(wide(x))).cumsum(1)
    return [(want, 8 * x.shape[1] * EPS[dtype] * size)]


# ---- random numbers


def threefry(key: np.ndarray, words: int) -> np.ndarray:
    """`words` 32-bit words of a key, as docs/random.md has them."""
    key = key.astype(np.uint32)
    half = (words + 1) // 2
    x = np.arange(half, dtype=np.uint32)
    y = np.where(half + x < words, half + x, 0).astype(np.uint32)
    keys = [key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA)]
    x, y = x + keys[0], y + keys[1]
    for group in range(5):
        for r in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = ((y << np.uint32(r)) | (y >> np.uint32(32 - r))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return np.concatenate([x, y])[:words]


def random_key(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
    return [rng.integers(0, 2**32, 2, np.uint32)]


RANDOM = [
    Kernel(
        f"split in {n}",
        random_key,
        lambda k, n=n: mx.random.split(k, n),
        lambda dtype, k, n=n: [(threefry(k, 2 * n).reshape(n, 2), 0)],
        ["uint32"],
    )
    for n in (1, 2, 7, 1000)
] + [
    Kernel(
        "permutation",
        random_key,
        lambda k: mx.random.permutation(501, key=k),
        lambda dtype, k: [(np.argsort(threefry(k, 501), kind="stable").astype(np.uint32), 0)],
        ["uint32"],
    ),
    Kernel(
        "bernoulli",
        random_key,
        lambda k: mx.random.bernoulli(0.5, (33, 3), key=k),
        lambda dtype, k: [
            (
                (threefry(k, 99).astype(np.float32) < np.float32(2**31) * np.float32(1 + 2**-23)).reshape(
                    33, 3
                ),
                0,
            )
        ],
        ["uint32"],
        lambda dtype: ["bool_"],
    ),
]


KERNELS: dict[str, list[Kernel]] = {
    "Matmul": MATMUL,
    "SegmentedMatmul": SEGMENTED,
    "GatherMatmul": GATHERED,
    "Convolution": CONVOLUTION,
    "ArgReduce": ARG_REDUCE,
    "Sort": SORT,
    "ArgSort": ARGSORT,
    "Scan": scans(),
    "RandomBits": RANDOM,
    **MODEL_KERNELS,
}
