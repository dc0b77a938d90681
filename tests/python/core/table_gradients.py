"""Functions to differentiate for every structured row of the op tables, and numeric derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lamina.core as mx
import numpy as np
from core.core_cases import NUMPY_DTYPES
from core.table_rows import EPS, of, rng_of

F64, F32 = "float64", "float32"


@dataclass(frozen=True)
class Smooth:
    """A function of arrays of these shapes, in the neighbourhood of numbers from a range."""

    label: str
    f: Callable[..., mx.array]
    shapes: tuple[tuple[int, ...], ...] = ((3, 4),)
    low: float = -2.0
    high: float = 2.0
    dtype: str = F64

    def operands(self) -> list[np.ndarray]:
        rng = rng_of(self.label)
        return [rng.uniform(self.low, self.high, s).astype(NUMPY_DTYPES[self.dtype]) for s in self.shapes]


def slopes(loss: Callable[[Sequence[np.ndarray]], float], xs: list[np.ndarray], h: float) -> list[np.ndarray]:
    """Central differences of a number with steps of h, operand by operand, element by element."""
    out = []
    for i, x in enumerate(xs):
        slope = np.zeros(x.shape)
        for at in np.ndindex(x.shape):
            ends = []
            for side in (h, -h):
                moved = x.copy()
                moved[at] += side
                # The step as it is after rounding.
                ends.append((loss([*xs[:i], moved, *xs[i + 1 :]]), float(moved[at])))
            slope[at] = (ends[0][0] - ends[1][0]) / (ends[0][1] - ends[1][1])
        out.append(slope)
    return out


def check_gradient(f: Callable[..., mx.array], xs: list[np.ndarray], dtype: str = F64) -> None:
    """The vjp of f against central differences, and its jvp against its vjp.

    Differences of two step widths tell how far they are from the derivative; on top comes the rounding of f,
    divided by the step.
    """
    eps = EPS[dtype]
    arrays = [of(x) for x in xs]
    out = np.asarray(f(*arrays))
    rng = rng_of("weights", out.shape)
    weights = rng.standard_normal(out.shape).astype(out.dtype)

    def loss(ys: Sequence[np.ndarray]) -> float:
        return float((np.asarray(f(*[of(y) for y in ys])).astype(np.float64) * weights).sum())

    h = float(np.float32(eps ** (1 / 3)))
    size = float(np.abs(out.astype(np.float64) * weights).sum()) + 1
    gradients = [np.asarray(g) for g in mx.vjp(f, arrays, [of(weights)])[1]]
    near, wide = slopes(loss, xs, h), slopes(loss, xs, 2 * h)
    for x, g, a, b in zip(xs, gradients, near, wide, strict=True):
        assert g.dtype == x.dtype
        assert g.shape == x.shape
        bound = np.abs(a - b) + 16 * eps * size / h
        assert (np.abs(g - a) <= bound).all(), (g, a, bound)
    tangents = [rng.standard_normal(x.shape).astype(x.dtype) for x in xs]
    forward = np.asarray(mx.jvp(f, arrays, [of(t) for t in tangents])[1][0]).astype(np.float64)
    parts = [(g.astype(np.float64) * t).ravel() for g, t in zip(gradients, tangents, strict=True)]
    total = np.concatenate(parts) if parts else np.zeros(1)
    terms = np.abs(total).sum() + np.abs(forward * weights).sum() + 1
    assert abs((forward * weights).sum() - total.sum()) <= 256 * eps * terms


def gradient_of(f: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """All gradients of a weighted sum of f's results, one after another in one row."""

    def gradients(*xs: mx.array) -> mx.array:
        out = f(*xs)
        weights = mx.linspace(0.5, 1.5, out.size).reshape(out.shape).astype(out.dtype)
        return mx.concatenate([g.reshape(-1) for g in mx.vjp(f, list(xs), [weights])[1]])

    return gradients


INDEX, PLACES = mx.array([[0, 2], [1, 1]]), mx.array([[0, 1, 1, 2]])


PICKS = mx.array([1, -1, 0])
RANGES = mx.array([[[0, 3], [2, 5]], [[4, 4], [0, 5]]])


def updated(x: mx.array, y: mx.array) -> mx.array:
    z = x * 2
    z[1:, ::2] = y
    return z


def scattered(how: str) -> Callable[[mx.array, mx.array], mx.array]:
    return lambda x, y: getattr(x.at[mx.array([2, 0, 2])], how)(y)


def updated_rows(x: mx.array, y: mx.array) -> mx.array:
    z = x * 2
    z[mx.array([1, 0, 1])] = y
    return z


def scanned(name: str, reverse: bool, inclusive: bool) -> Callable[[mx.array], mx.array]:
    return lambda x: getattr(mx, name)(x, axis=1, reverse=reverse, inclusive=inclusive)


def put(x: mx.array, y: mx.array) -> mx.array:
    return mx.put_along_axis(x, mx.array([[1, 0, 2, 2], [0, 2, 1, 0]]), y, axis=0)


def over_quantized(x: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
    return mx.quantized_matmul(x, WORDS, scales, biases, group_size=32, bits=4)


def over_picked(x: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
    words = mx.stack([WORDS, WORDS[::-1]])
    return mx.gather_qmm(x, words, scales, biases, rhs_indices=PICKS, group_size=32, bits=4)


def from_quantized(scales: mx.array, biases: mx.array) -> mx.array:
    return mx.dequantize(WORDS, scales, biases, group_size=32, bits=4)


def rotated(x: mx.array) -> mx.array:
    return mx.fast.rope(x, 4, traditional=True, base=100.0, scale=1.0, offset=3)


def attend(mask: Any = None, sinks: bool = False) -> Callable[..., mx.array]:
    def f(q: mx.array, k: mx.array, v: mx.array, *more: mx.array) -> mx.array:
        m = more[0] if mask == "array" else mask
        s = more[-1] if sinks else None
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=0.6, mask=m, sinks=s)

    return f


def attention_gradient(q: mx.array, k: mx.array, v: mx.array, g: mx.array) -> mx.array:
    dq, dk, dv = mx.vjp(attend("causal"), [q, k, v], [g])[1]
    return mx.concatenate([dq, dk, dv], axis=1)


def matrix(f: Callable[..., Any], pick: Any = None) -> Callable[..., mx.array]:
    """f of a regular matrix with distinct singular values: its result, or the sizes of several."""

    def g(x: mx.array, *more: mx.array) -> mx.array:
        out = f(x / 4 + mx.diag(mx.array([1.0, 3.0, 7.0], mx.float64))[: x.shape[-2], : x.shape[-1]], *more)
        if isinstance(out, mx.array):
            return out
        # Vectors have any sign.
        return mx.concatenate([mx.abs(part).reshape(-1) for part in (out if pick is None else pick(out))])

    return g


def definite(f: Callable[[mx.array], mx.array]) -> Callable[[mx.array], mx.array]:
    return lambda x: f(x @ x.T + 3 * mx.eye(3, dtype=mx.float64))


def spectrum(x: mx.array) -> mx.array:
    z = mx.fft.rfft(x, axis=0)
    return mx.real(z) * mx.abs(mx.fft.fft(z, axis=1)) + mx.imag(z)


def round_trip(x: mx.array) -> mx.array:
    return mx.fft.irfft(mx.fft.ifft(mx.fft.rfft(x) ** 2, axis=0), 5)


WORDS = mx.array(rng_of("words").integers(0, 2**32, (2, 8), np.uint32))
Q, KV = (1, 2, 3, 4), (1, 1, 3, 4)

SIZES = ((3, 3), (3, 2), (2, 3))


def thin(usv: Any) -> list[mx.array]:
    u, s, vt = usv
    k = s.shape[-1]
    return [u[..., :k], s, vt[..., :k, :]]


GRADIENTS: dict[str, list[Smooth]] = {
    "Identity": [Smooth("nested", lambda x: mx.vjp(mx.sin, [x], [x * x])[1][0])],
    "CustomOutput": [Smooth("custom_function", mx.custom_function(lambda x: mx.sin(x) * x))],
    "Call": [Smooth("compile", mx.compile(lambda x: mx.sin(x) * x, whole=True))],
    "Depends": [Smooth("depends", lambda x, y: mx.depends(x * x, y), ((3, 4), (2,)))],
    "Broadcast": [Smooth("broadcast_to", lambda x: mx.broadcast_to(x[:, None] * x[:, None], (3, 5, 4)))],
    "Transpose": [Smooth("transpose", lambda x: mx.transpose(x) ** 3)],
    "ExpandDims": [Smooth("expand_dims", lambda x: mx.expand_dims(x, (0, 2)) ** 2)],
    "Squeeze": [Smooth("squeeze", lambda x: mx.squeeze(x * x), ((1, 3, 1),))],
    "Reshape": [Smooth("reshape", lambda x: mx.reshape(x.T, (2, 6)) ** 2)],
    "Slice": [Smooth("slice", lambda x: x[::-2, 1:3] ** 2), Smooth("empty slice", lambda x: x[3:] ** 2)],
    "AsStrided": [Smooth("windows", lambda x: mx.as_strided(x, (4, 3), (2, 1), 1) ** 2)],
    "Cast": [Smooth("astype", lambda x: (x * x).astype(mx.float64), dtype=F32)],
    "Contiguous": [Smooth("contiguous", lambda x: mx.contiguous(x.T) ** 2)],
    "Concatenate": [
        Smooth("concatenate", lambda x, y: mx.concatenate([x, y, x], axis=1) ** 2, ((3, 4), (3, 1)))
    ],
    "SliceUpdate": [Smooth("assignment", updated, ((3, 4), (2, 2)))],
    "Gather": [
        Smooth("take", lambda x: mx.take(x, INDEX, axis=0) ** 2),
        Smooth("index", lambda x: x[INDEX, PLACES[0, :2]] ** 2),
    ],
    "GatherAxis": [Smooth("take_along_axis", lambda x: mx.take_along_axis(x, PLACES, axis=0) ** 2)],
    "Scatter": [
        Smooth(f"at {how}", scattered(how), ((3, 4), (3, 4)), 0.3)
        for how in ("add", "subtract", "multiply", "maximum", "minimum")
    ]
    + [Smooth("last of equals", updated_rows, ((3, 4), (3, 4)))],
    "ScatterAxis": [Smooth("put_along_axis", put, ((3, 4), (2, 4)))],
    "Matmul": [
        Smooth("matmul", mx.matmul, ((2, 3, 4), (4, 2))),
        Smooth("vectors", mx.matmul, ((4,), (4,))),
        Smooth("batches", mx.matmul, ((2, 1, 2, 3), (2, 3, 2))),
        Smooth("addmm", lambda c, a, b: mx.addmm(c, a, b, 0.5, 2.0), ((2,), (3, 4), (4, 2))),
    ],
    "SegmentedMatmul": [
        Smooth("overlapping ranges", lambda a, b: mx.segmented_mm(a, b, RANGES), ((2, 5), (5, 3))),
    ],
    "GatherMatmul": [
        Smooth("repeated picks", lambda a, b: mx.gather_mm(a, b, rhs_indices=PICKS), ((3, 1, 2), (2, 2, 3))),
        Smooth("shared rows", lambda a, b: mx.gather_mm(a, b, rhs_indices=PICKS), ((2, 2), (2, 2, 3))),
    ],
    "Convolution": [
        Smooth("groups", lambda x, w: mx.conv1d(x, w, 2, 1, 1, 2), ((2, 5, 4), (6, 2, 2))),
        Smooth("transposed", lambda x, w: mx.conv_transpose1d(x, w, 2, 1), ((1, 4, 3), (2, 3, 3))),
        Smooth("convolve", mx.convolve, ((7,), (3,))),
    ],
    "Sort": [Smooth("sort", lambda x: mx.sort(x, axis=0) ** 2)],
    "Scan": [
        Smooth(f"{name}{', reverse' * r}{', exclusive' * (not i)}", scanned(name, r, i), ((3, 4),), 0.3)
        for name in ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
        for r, i in ((False, True), (True, False))
        if i or name not in ("cummax", "cummin", "logcumsumexp")
    ],
    "AffineDequantize": [Smooth("dequantize", from_quantized, ((2, 2), (2, 2)), dtype=F32)],
    "QuantizedMatmul": [Smooth("quantized", over_quantized, ((2, 64), (2, 2), (2, 2)), dtype=F32)],
    "GatherQuantizedMatmul": [
        Smooth("repeated picks", over_picked, ((3, 2, 64), (2, 2, 2), (2, 2, 2)), dtype=F32)
    ],
    "Rope": [Smooth("rope", rotated, ((1, 2, 3, 4),), dtype=t) for t in (F32, F64)],
    "Attention": [
        Smooth("plain", attend(), (Q, KV, KV), dtype=F32),
        Smooth("causal", attend("causal"), (Q, KV, KV), dtype=F32),
        Smooth("mask", attend("array"), (Q, KV, KV, (1, 1, 3, 3)), dtype=F32),
        Smooth("sinks", attend("causal", True), (Q, KV, KV, (2,)), dtype=F32),
    ],
    "Fft": [
        Smooth("fft and rfft", spectrum, ((5, 2),), dtype=F32),
        Smooth("ifft and irfft", round_trip, ((2, 6),), dtype=F32),
    ],
    "Cholesky": [
        Smooth(f"cholesky{', upper' * u}", definite(lambda a, u=u: mx.linalg.cholesky(a, upper=u)), ((3, 3),))
        for u in (False, True)
    ],
    "Solve": [Smooth("solve", matrix(mx.linalg.solve), ((3, 3), (3, 2)))],
    "SolveTriangular": [
        Smooth(
            f"solve_triangular{', upper' * u}",
            matrix(lambda a, b, u=u: mx.linalg.solve_triangular(a, b, upper=u)),
            ((3, 3), (3, 2)),
        )
        for u in (False, True)
    ],
    "Lu": [Smooth(f"lu of {m}x{n}", matrix(mx.linalg.lu, lambda plu: plu[1:]), ((m, n),)) for m, n in SIZES],
    "Qr": [Smooth(f"qr of {m}x{n}", matrix(mx.linalg.qr), ((m, n),)) for m, n in SIZES],
    "Svd": [
        *[Smooth(f"svd of {m}x{n}", matrix(mx.linalg.svd, thin), ((m, n),)) for m, n in SIZES],
        Smooth("values", matrix(lambda a: mx.linalg.svd(a, compute_uv=False)), ((3, 3),)),
    ],
    "Eigh": [
        Smooth("eigh", matrix(lambda a: mx.linalg.eigh(a + a.T)), ((3, 3),)),
        Smooth("eigvalsh, upper", matrix(lambda a: mx.linalg.eigvalsh(a + a.T, "U")), ((3, 3),)),
    ],
    "AttentionBackward": [Smooth("twice", attention_gradient, (Q, KV, KV, Q), dtype=F32)],
}


# Rows through which nothing flows, and why.
WITHOUT = {
    "Data": "has no input",
    "Scalar": "has no input",
    "Placeholder": "has no input",
    "Arange": "has no input",
    "RandomBits": "gives integers",
    "ArgReduce": "gives integers",
    "ArgSort": "gives integers",
    "Eig": "raises: test_linalg.py",
    "ViewAs": "gives other bits",
    "PagedAttention": "raises: test_paged.py",
    "CacheWrite": "raises: test_paged.py",
    "QuantizeKv": "gives integers and the edges of steps",
    "AffineQuantize": "gives integers and the edges of steps",
    "StopGradient": "by definition",
    "Output": "passes on what Attention and AttentionBackward get",
}
