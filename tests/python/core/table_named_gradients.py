"""Functions whose gradients people rely on, beyond one call for each row of the op tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import lamina.core as mx
import numpy as np
from core.table_gradients import F32, Smooth, definite, matrix
from core.table_rows import rng_of

PICK = mx.array([2, 0, 2])
MASK = mx.array([[True, False, True, True], [False, False, True, False], [True, True, False, True]])
GRID = (3, 4)

# ---- indexing

READS: dict[str, Any] = {
    "integer": 1,
    "from the end": -1,
    "slice": slice(1, None),
    "backwards": slice(None, None, -2),
    "array": PICK,
    "array from the end": mx.array([-1, 0]),
    "matrix of indices": mx.array([[0, 2], [1, 1]]),
    "new axis": None,
    "ellipsis": (Ellipsis, 0),
    "slice and array": (slice(1, 3), PICK),
    "array and slice": (PICK, slice(None, None, 2)),
    "two arrays": (PICK, mx.array([1, 0, 1])),
    "integer and array": (1, PICK),
    "nothing": slice(3, 3),
}
# An index, and the shape of what is written there.
WRITES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "integer": (1, (4,)),
    "slice": (slice(0, 2), (2, 4)),
    "backwards": (slice(None, None, -2), (2, 4)),
    "array": (PICK, (3, 4)),
    "array, one row for all": (PICK, (4,)),
    "array, one number": (PICK, ()),
    "slice and array": ((slice(0, 2), PICK), (2, 3)),
    "two arrays": ((PICK, mx.array([1, 0, 1])), (3,)),
    "mask": (MASK, ()),
    "ellipsis": ((Ellipsis, PICK), (3, 3)),
}
HOW = ("add", "subtract", "multiply", "divide", "maximum", "minimum")


def read(index: Any) -> Callable[[mx.array], mx.array]:
    return lambda x: x[index] ** 2


def at(index: Any, how: str) -> Callable[[mx.array, mx.array], mx.array]:
    return lambda x, y: getattr(x.at[index], how)(y) ** 2


def assigned(index: Any) -> Callable[[mx.array, mx.array], mx.array]:
    def f(x: mx.array, y: mx.array) -> mx.array:
        z = x * x
        z[index] = y
        return z**2

    return f


def augmented(x: mx.array, y: mx.array) -> mx.array:
    z = x * 1
    z[PICK] += y
    z[1:] *= y
    z[:, 1] /= y.sum()
    z[0] **= 2
    return z


INDEXING = [
    *[Smooth(f"read {n}", read(i), (GRID,)) for n, i in READS.items()],
    Smooth("read apart", lambda x: x[PICK, :, mx.array([0, 1, 1])] ** 3, ((3, 2, 2),)),
    *[Smooth(f"{h} at {n}", at(i, h), (GRID, s), 0.3, 2.3) for n, (i, s) in WRITES.items() for h in HOW],
    *[Smooth(f"assign at {n}", assigned(i), (GRID, s)) for n, (i, s) in WRITES.items()],
    Smooth("augmented", augmented, (GRID, (4,)), 0.3, 2.3),
]

# ---- orders and scans


def along(name: str, axis: int | None, **options: Any) -> Callable[[mx.array], mx.array]:
    return lambda x: getattr(mx, name)(x, axis=axis, **options)


def chosen(name: str, axis: int | None) -> Callable[[mx.array], mx.array]:
    """topk and partition promise no order."""
    return lambda x: mx.sort(getattr(mx, name)(x, 2, axis=axis), axis=axis) ** 2


def scanned(name: str, axis: int | None, reverse: bool, inclusive: bool) -> Callable[[mx.array], mx.array]:
    def f(x: mx.array) -> mx.array:
        y = getattr(mx, name)(x, axis=axis, reverse=reverse, inclusive=inclusive)
        # Exclusive extrema begin with an infinity.
        return mx.where(mx.isinf(y), 0, y)

    return f


SCANS = ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
ORDERS = [
    *[Smooth(f"sort {a}", lambda x, a=a: mx.sort(x, axis=a) ** 2) for a in (0, 1, None)],
    *[Smooth(f"{n} {a}", chosen(n, a)) for n in ("partition", "topk") for a in (0, 1, None)],
    *[
        Smooth(f"{n} {a}{', reverse' * r}{', exclusive' * (not i)}", scanned(n, a, r, i))
        for n, a, r, i in itertools.product(SCANS, (0, 1, None), (False, True), (True, False))
    ],
    *[Smooth(f"{n} {a}", along(n, a)) for n in ("median", "var", "std", "mean", "logsumexp") for a in (0, 1)],
]

# ---- convolutions


def conv(*options: Any) -> Callable[[mx.array, mx.array], mx.array]:
    return lambda x, w: mx.conv_general(x, w, *options) ** 2


CONVOLUTIONS = [
    *[
        Smooth(f"conv1d {o}", lambda x, w, o=o: mx.conv1d(x, w, *o) ** 2, ((2, 6, 4), (2, 2, 4 // o[3])))
        for o in itertools.product((1, 2), (0, 1), (1, 2), (1, 2))
    ],
    *[
        Smooth(
            f"conv_transpose1d {o}",
            lambda x, w, o=o: mx.conv_transpose1d(x, w, *o[:3], o[3], o[4]) ** 2,
            ((1, 4, 4), (2, 3, 4 // o[4])),
        )
        for o in ((1, 0, 1, 0, 1), (2, 1, 1, 1, 1), (2, 0, 2, 0, 2), (1, 1, 1, 0, 2))
    ],
    Smooth("conv2d", lambda x, w: mx.conv2d(x, w, (2, 1), (1, 0), (1, 2), 2), ((1, 4, 5, 4), (2, 2, 2, 2))),
    Smooth(
        "conv_transpose2d",
        lambda x, w: mx.conv_transpose2d(x, w, (2, 1), (1, 0)),
        ((1, 3, 2, 2), (2, 2, 2, 2)),
    ),
    Smooth("conv3d", lambda x, w: mx.conv3d(x, w, 1, 1), ((1, 2, 3, 2, 1), (1, 2, 2, 2, 1))),
    Smooth("conv_transpose3d", mx.conv_transpose3d, ((1, 2, 2, 2, 1), (1, 2, 2, 2, 1))),
    Smooth("conv_general", conv(1, ([1], [2]), 1, 2, 1, True), ((1, 4, 2), (2, 2, 2))),
    *[
        Smooth(f"convolve {m}", lambda a, b, m=m: mx.convolve(a, b, m), ((7,), (3,)))
        for m in ("full", "same", "valid")
    ],
]

# ---- linear algebra

SQUARE = ((3, 3),)
linalg = mx.linalg
LINEAR = [
    *[
        Smooth(
            f"cholesky_inv {u}",
            definite(lambda a, u=u: linalg.cholesky_inv(linalg.cholesky(a, upper=u), upper=u)),
            SQUARE,
        )
        for u in (False, True)
    ],
    *[
        Smooth(f"tri_inv {u}", matrix(lambda a, u=u: linalg.tri_inv(a, upper=u)), SQUARE)
        for u in (False, True)
    ],
    Smooth("solve for a vector", matrix(linalg.solve), ((3, 3), (3,))),
    Smooth("inv", matrix(linalg.inv), SQUARE),
    Smooth("inv of a batch", lambda x: linalg.inv(x + 4 * mx.eye(3, dtype=mx.float64)), ((2, 3, 3),)),
    *[Smooth(f"pinv {s}", matrix(linalg.pinv), (s,)) for s in ((3, 3), (3, 2), (2, 3))],
    Smooth("det", matrix(linalg.det), SQUARE),
    Smooth("slogdet", matrix(lambda a: linalg.slogdet(a)[1]), SQUARE),
    *[
        Smooth(f"matrix norm {o}", matrix(lambda a, o=o: linalg.norm(a, ord=o, axis=(0, 1))), SQUARE)
        for o in (1, 2, -1, -2, np.inf, -np.inf, "fro", "nuc")
    ],
    *[
        Smooth(f"norm {o}", lambda x, o=o: linalg.norm(x, ord=o, axis=1))
        for o in (None, 0.5, 1, 2, 3, -1, np.inf, -np.inf)
    ],
    Smooth("cross", linalg.cross, ((2, 3), (2, 3))),
    Smooth("kron", mx.kron, ((2, 2), (2, 3))),
    Smooth("einsum", lambda a, b: mx.einsum("ijk,lj->kil", a, b), ((2, 3, 2), (2, 3))),
    Smooth("tensordot", lambda a, b: mx.tensordot(a, b, 1), ((2, 3), (3, 2))),
]

# ---- products with parts of matrices

LEFT, RIGHT = mx.array([0, 1, 1]), mx.array([1, 0, 1])
SEGMENTS = mx.array([[0, 2], [2, 5], [5, 5]])
BLOCKS = mx.array([[True, False], [True, True]])
PARTIAL = [
    Smooth("gather_mm", lambda a, b: mx.gather_mm(a, b, LEFT, RIGHT), ((2, 2, 3), (2, 3, 2))),
    Smooth("gather_mm right", lambda a, b: mx.gather_mm(a, b, rhs_indices=RIGHT), ((3, 2, 3), (2, 3, 2))),
    Smooth("gather_mm left", lambda a, b: mx.gather_mm(a, b, lhs_indices=LEFT), ((2, 2, 3), (3, 3, 2))),
    Smooth("segmented_mm", lambda a, b: mx.segmented_mm(a, b, SEGMENTS), ((2, 5), (5, 3))),
    Smooth("block_masked_mm bool", lambda a, b: mx.block_masked_mm(a, b, 2, BLOCKS), ((3, 3), (3, 4))),
    Smooth(
        "block_masked_mm",
        lambda a, b, o, m, r: mx.block_masked_mm(a, b, 2, o, m, r),
        ((3, 3), (3, 4), (2, 2), (2, 2), (2, 2)),
    ),
]

# ---- quantized products: linear in the activations, the scales and the biases each


def packed(*shape: int, bits: int, group: int = 32) -> mx.array:
    w = mx.array(rng_of("packed", shape, bits).standard_normal(shape).astype(np.float32))
    return mx.quantize(w, group, bits)[0]


def quantized(bits: int, group: int, transpose: bool) -> Smooth:
    words = packed(8, 64, bits=bits, group=group)

    def f(x: mx.array, s: mx.array, b: mx.array) -> mx.array:
        y = mx.quantized_matmul(x, words, s, b, transpose=transpose, group_size=group, bits=bits)
        return y / 2**bits

    parts = (8, 64 // group)
    return Smooth(
        f"{bits} bits by {group}, {transpose}", f, ((2, 64 if transpose else 8), parts, parts), dtype=F32
    )


def gathered(transpose: bool, **indices: mx.array) -> Smooth:
    words = packed(2, 4, 32, bits=4)

    def f(x: mx.array, s: mx.array, b: mx.array) -> mx.array:
        return mx.gather_qmm(x, words, s, b, **indices, transpose=transpose, group_size=32, bits=4) / 16

    shapes = ((2, 2, 32 if transpose else 4), (2, 4, 1), (2, 4, 1))
    return Smooth(f"gather_qmm {transpose} {sorted(indices)}", f, shapes, dtype=F32)


def floats(mode: str, gather: bool) -> Smooth:
    parts = mx.quantize(mx.array(rng_of(mode).standard_normal((4, 32)).astype(np.float32)), mode=mode)

    def f(x: mx.array) -> mx.array:
        if gather:
            one = [p[None] for p in parts]
            return mx.gather_qmm(x[None], *one, rhs_indices=mx.array([0, 0]), mode=mode)
        return mx.quantized_matmul(x, *parts, mode=mode)

    return Smooth(f"{mode}{', gathered' * gather}", f, ((3, 32),), dtype=F32)


QUANTIZED = [
    *[quantized(*o) for o in itertools.product((2, 3, 4, 5, 6, 8), (32, 64), (True, False))],
    *[gathered(t, lhs_indices=LEFT, rhs_indices=RIGHT) for t in (True, False)],
    *[gathered(t, rhs_indices=mx.array([0, 1])) for t in (True, False)],
    *[floats(m, g) for m in ("mxfp4", "mxfp8", "nvfp4") for g in (False, True)],
]

# ---- fast

B, H, KV, L, S, D = 1, 4, 2, 2, 3, 4
QKV = ((B, H, L, D), (B, KV, S, D), (B, KV, S, D))
SEEN = mx.array(rng_of("seen").random((B, H, L, S)) > 0.4) & mx.array([[True], [False]])


def attend(mask: Any = None, given: bool = False, sinks: bool = False) -> Callable[..., mx.array]:
    def f(q: mx.array, k: mx.array, v: mx.array, *more: mx.array) -> mx.array:
        m, s = more[0] if given else mask, more[-1] if sinks else None
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=0.5, mask=m, sinks=s)

    return f


def rope(**options: Any) -> Callable[[mx.array], mx.array]:
    return lambda x: mx.fast.rope(x, 4, **({"base": 100.0, "scale": 0.7, "offset": 3} | options))


def normed(f: Any, *which: bool) -> Callable[..., mx.array]:
    def g(x: mx.array, *parts: mx.array) -> mx.array:
        given = iter(parts)
        return f(x, *[next(given) if w else None for w in which], 1e-3)

    return g


def delta(q: mx.array, k: mx.array, v: mx.array, g: mx.array, beta: mx.array, state: mx.array) -> mx.array:
    out, last = mx.fast.gated_delta_update(q, k, v, g, beta, state)
    return mx.concatenate([out.flatten(), last.flatten()])


FAST = [
    Smooth("attention", attend(), QKV, dtype=F32),
    Smooth("attention, causal", attend("causal"), QKV, dtype=F32),
    Smooth("attention, rows that see nothing", attend(SEEN), QKV, dtype=F32),
    *[
        Smooth(f"attention, mask {m}", attend(given=True), (*QKV, m), dtype=F32)
        for m in ((L, S), (H, 1, S), (B, H, L, S))
    ],
    Smooth("attention, sinks", attend(sinks=True), (*QKV, (H,)), dtype=F32),
    Smooth("attention, sinks, rows that see nothing", attend(SEEN, sinks=True), (*QKV, (H,)), dtype=F32),
    Smooth("attention, sinks and causal", attend("causal", sinks=True), (*QKV, (H,)), dtype=F32),
    Smooth("attention, sinks and mask", attend(None, True, True), (*QKV, (L, S), (H,)), dtype=F32),
    *[
        Smooth(f"rope {t} {n}", rope(traditional=t, **o), ((2, 2, 3, 6),), dtype=F32)
        for t in (True, False)
        for n, o in {
            "offset": {},
            "offsets": {"offset": mx.array([1, 4])},
            "freqs": {"base": None, "freqs": mx.array([1.0, 3.0])},
        }.items()
    ],
    *[
        Smooth(f"{n} {w}", normed(getattr(mx.fast, n), *w), (GRID, *[(4,) for one in w if one]))
        for n, w in (
            ("rms_norm", (True,)),
            ("rms_norm", (False,)),
            ("layer_norm", (True, True)),
            ("layer_norm", (True, False)),
            ("layer_norm", (False, True)),
            ("layer_norm", (False, False)),
        )
    ],
    Smooth(
        "gated_delta_update",
        delta,
        ((1, 2, 1, 3), (1, 2, 1, 3), (1, 2, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2, 3)),
        0.2,
        0.9,
    ),
]

NAMED = {
    "indexing": INDEXING,
    "orders": ORDERS,
    "convolutions": CONVOLUTIONS,
    "linalg": LINEAR,
    "parts": PARTIAL,
    "quantized": QUANTIZED,
    "fast": FAST,
}
