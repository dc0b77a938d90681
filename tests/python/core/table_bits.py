"""Every computing row of the op tables on operands that are large enough to be split between threads.

Run as a program, it prints a hash of each case's results; test_bits.py compares those of 1, 2 and 7 threads.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import lamina.core as mx
import numpy as np
from core.table_rows import BINARY, REDUCE, STRUCTURED, TERNARY, UNARY, Row, operands

# No length is a multiple of a vector, a tile or a thread's share.
WIDE = (211, 977)
DEEP = (37, 61, 97)
LINE = 1_200_007


def normal(seed: int, *shape: int, dtype: str = "float32") -> mx.array:
    """Standard normal numbers."""
    values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return mx.array(values).astype(getattr(mx, dtype))


def whole(seed: int, below: int, *shape: int, dtype: str = "int32") -> mx.array:
    """Whole numbers, many of them equal."""
    values = np.random.default_rng(seed).integers(0, below, shape, dtype=np.int32)
    return mx.array(values).astype(getattr(mx, dtype))


def chosen(row: Row) -> list[str]:
    """Two dtypes of a row: one of 32 bits where there is one, and one of another size."""
    first = [t for t in ("float32", "int32", "bool_") if t in row.dtypes]
    other = [t for t in ("bfloat16", "float64", "complex64", "uint8") if t in row.dtypes]
    return [*first[:1], *other[:1]]


def tiled(row: Row, dtype: str, count: int) -> list[mx.array]:
    """The operands of the row's other tests, repeated to fill a large matrix."""
    return [mx.array(np.resize(x, WIDE)) for x in operands(row, dtype, count)]


def elementwise() -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Unary, binary and ternary rows."""
    for rows, count in ((UNARY, 1), (BINARY, 2)):
        for row in rows:
            for dtype in chosen(row):
                yield row.op, dtype, lambda r=row, t=dtype, n=count: getattr(mx, r.name)(*tiled(r, t, n))
    for row in TERNARY:
        yield (
            row.op,
            "float32",
            lambda: mx.where(whole(1, 2, *WIDE) > 0, normal(2, *WIDE), normal(3, WIDE[1])),
        )


def reductions() -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Over every axis, two of them, and one long line."""
    for row in REDUCE:
        for dtype in chosen(row) or ["bool_"]:
            for axis in (0, 1, 2, (0, 2), (1, 2), None):

                def reduced(name: str = row.name, t: str = dtype, at: Any = axis) -> mx.array:
                    x = (
                        normal(1, *DEEP, dtype=t)
                        if t in ("float32", "bfloat16")
                        else whole(1, 3, *DEEP, dtype=t)
                    )
                    return getattr(mx, name)(x, axis=at)

                yield row.op, f"{dtype}, axis {axis}", reduced
    yield "Sum", "line", lambda: mx.sum(normal(2, LINE))
    yield "Prod", "line", lambda: mx.prod(1 + normal(2, LINE) / 1000)
    yield "Max", "line", lambda: mx.max(normal(2, LINE))


def products(dtype: str) -> list[mx.array]:
    """Matrix products of one dtype in every layout and regime."""
    m, k, n = 150, 301, 163
    a, b = normal(1, m, k, dtype=dtype), normal(2, k, n, dtype=dtype)
    many, few = normal(3, 9, 70, 90, dtype=dtype), normal(4, 3, 2049, dtype=dtype)
    weights, tall = normal(5, 1025, 2049, dtype=dtype), normal(6, 90, 33, dtype=dtype)
    return [
        a @ b,
        normal(7, k, m, dtype=dtype).T @ normal(8, n, k, dtype=dtype).T,
        many @ many.swapaxes(-1, -2),
        many @ tall,
        few @ weights.T,
        few[:1] @ weights.T,
        few[:, :1025] @ weights,
        weights @ few[0],
        mx.addmm(normal(9, n, dtype=dtype), a, b, 0.5, 2.0),
    ]


def quantized(mode: str, bits: int | None, **options: Any) -> list[mx.array]:
    """Products with packed weights, from one row to many."""
    parts = mx.quantize(normal(1, 1023, 1024), bits=bits, mode=mode)
    x = normal(2, 41, 1024)
    packed = [mx.quantized_matmul(x[:rows], *parts, bits=bits, mode=mode, **options) for rows in (1, 3, 41)]
    return [*parts, *packed, mx.dequantize(*parts, bits=bits, mode=mode)]


def rounded_activations(bits: int) -> list[mx.array]:
    """The same with activations of 8 bits."""
    parts = mx.quantize(normal(1, 1023, 1024), bits=bits)
    x = normal(2, 41, 1024)
    return [mx.quantized_matmul(x[:rows], *parts, bits=bits, activations="int8") for rows in (1, 3, 41)]


def attention(queries: int, keys: int, kv_heads: int, **options: Any) -> Any:
    """Attention and its gradients."""
    q, k, v = normal(1, 2, 4, queries, 64), normal(2, 2, kv_heads, keys, 64), normal(3, 2, kv_heads, keys, 64)

    def total(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return mx.sum(mx.fast.scaled_dot_product_attention(q, k, v, scale=0.125, **options) * q)

    return mx.value_and_grad(total, argnums=(0, 1, 2))(q, k, v)


def paged(queries: int, length: int) -> list[mx.array]:
    """Attention over blocks of floats and of codes, two sequences in a batch."""
    q, k, v = normal(1, 2 * queries, 4, 64), normal(2, 200, 2, 32, 64), normal(3, 200, 2, 32, 64)
    tables, ends = mx.argsort(normal(4, 200)).astype(mx.int32).reshape(2, 100), [queries, 2 * queries]
    batch = tables, mx.array(ends), mx.array([length, length - 5])
    options = {"scale": 0.125, "window": 1000}
    (keys, key_scales), (values, value_scales) = (mx.fast.quantize_kv(x, bits=8) for x in (k, v))
    codes = mx.fast.paged_attention(
        q, keys, values, *batch, key_scales=key_scales, value_scales=value_scales, **options
    )
    return [mx.fast.paged_attention(q, k, v, *batch, **options), codes]


def convolutions() -> list[mx.array]:
    """Plain, strided, one by one, depthwise, with few outputs, and along a line."""
    x = normal(1, 3, 29, 31, 32)
    return [
        mx.conv_general(x, normal(2, 48, 3, 3, 32), padding=1),
        mx.conv_general(x, normal(3, 48, 3, 3, 32), stride=2, padding=1),
        mx.conv_general(x, normal(4, 40, 1, 1, 32)),
        mx.conv_general(x, normal(5, 32, 3, 3, 1), padding=1, groups=32),
        mx.conv_general(x, normal(6, 3, 3, 3, 32)),
        mx.conv_general(normal(7, 2, 5003, 8), normal(8, 16, 7, 8), padding=3),
    ]


def well_conditioned(n: int, count: int) -> mx.array:
    """Symmetric matrices with eigenvalues around 1."""
    a = np.random.default_rng(n).standard_normal((count, n, n))
    return mx.array((a @ a.swapaxes(-1, -2) / n + np.eye(n)).astype(np.float32))


def scans() -> list[mx.array]:
    """All kinds along each axis and along a line."""
    x, line = normal(1, *DEEP), normal(2, LINE)
    kinds = (mx.cumsum, mx.cumprod, mx.cummax, mx.cummin, mx.logcumsumexp)
    return [f(x, axis=axis, reverse=axis == 1) for f in kinds for axis in (0, 1, 2)] + [
        f(line) for f in kinds
    ]


def placed() -> list[mx.array]:
    """Writes, repeated places among them."""
    x, at = normal(1, 503, 401), whole(2, 503, 2011)
    updates = normal(3, 2011, 401)
    long, places = mx.zeros((300_007,)), whole(4, 5000, 400_009)
    return [x.at[at].add(updates), x.at[at].maximum(updates), long.at[places].add(normal(5, 400_009))]


def along() -> list[mx.array]:
    """Picks and places along an axis."""
    x, at = normal(1, 503, 401), whole(2, 401, 503, 300)
    unique = mx.argsort(normal(3, 503, 401), axis=1)
    return [mx.take_along_axis(x, at, axis=1), mx.put_along_axis(x, unique, normal(4, 503, 401), axis=1)]


def through_picked(activations: str) -> mx.array:
    parts = mx.quantize(normal(1, 5, 130, 256))
    x = normal(2, 67, 1, 256)
    return mx.gather_qmm(x, *parts, rhs_indices=whole(3, 5, 67), activations=activations)


def rotated() -> list[mx.array]:
    return [
        mx.fast.rope(normal(1, 4, 8, 301, 64), 64, traditional=t, base=1e4, scale=1.0, offset=3)
        for t in (0, 1)
    ]


def random_numbers() -> list[mx.array]:
    key = mx.random.key(5)
    return [
        mx.random.normal((300_007,), key=key),
        mx.random.uniform(shape=(300_007,), key=key),
        mx.random.split(key, 50_003),
    ]


def transforms() -> list[mx.array]:
    return [
        mx.fft.rfft(normal(1, 211, 1024)),
        mx.fft.fft(normal(2, 211, 360)),
        mx.fft.fft(normal(3, 101, 1009)),
        mx.fft.fft(normal(4, 1 << 17)),
        mx.fft.irfft(mx.fft.rfft2(normal(5, 300, 210))),
    ]


def eigen(f: Callable[[mx.array], Any]) -> Callable[[], Any]:
    return lambda: [f(well_conditioned(24, 31)), f(well_conditioned(130, 1))]


def right_sides(f: Callable[[mx.array, mx.array], Any]) -> Callable[[], Any]:
    return lambda: [
        f(well_conditioned(24, 31), normal(1, 31, 24, 9)),
        f(well_conditioned(130, 1), normal(2, 1, 130, 70)),
    ]


KERNELS: dict[str, dict[str, Callable[[], Any]]] = {
    "Cast": {
        "": lambda: [normal(1, *WIDE).astype(t) for t in (mx.bfloat16, mx.float16, mx.int32, mx.float64)]
    },
    "Contiguous": {
        "": lambda: [
            mx.contiguous(normal(1, *WIDE).T),
            mx.contiguous(normal(2, *DEEP).transpose(1, 2, 0)[::-1]),
        ]
    },
    "Arange": {"": lambda: mx.arange(0, 300_007, dtype=mx.float32)},
    "Concatenate": {
        "": lambda: [mx.concatenate([normal(1, *WIDE), normal(2, *WIDE)], axis=axis) for axis in (0, 1)]
    },
    "SliceUpdate": {
        "": lambda: mx.slice_update(normal(1, *WIDE), normal(2, 200, 900), mx.array([3, 5]), (0, 1))
    },
    "Gather": {"": lambda: mx.take(normal(1, 503, 401), whole(2, 503, 2011), axis=0)},
    "GatherAxis": {"": along},
    "Scatter": {"": placed},
    "ScatterAxis": {"": along},
    "Matmul": {t: lambda t=t: products(t) for t in ("float32", "float64", "bfloat16", "complex64")},
    "SegmentedMatmul": {
        "": lambda: mx.segmented_mm(
            normal(1, 70, 900),
            normal(2, 900, 80),
            mx.array([[0, 300], [300, 301], [301, 900]], dtype=mx.uint32),
        )
    },
    "GatherMatmul": {
        "": lambda: mx.gather_mm(normal(1, 67, 3, 90), normal(2, 5, 90, 130), rhs_indices=whole(3, 5, 67))
    },
    "ArgReduce": {
        "": lambda: [
            f(whole(1, 50, *DEEP, dtype="float32"), axis=a)
            for f in (mx.argmax, mx.argmin)
            for a in (0, 1, 2, None)
        ]
    },
    "Sort": {
        "": lambda: [
            mx.sort(normal(1, LINE)),
            mx.sort(normal(2, *DEEP), axis=1),
            mx.sort(whole(3, 99, 300_007)),
        ]
    },
    "ArgSort": {
        "": lambda: [mx.argsort(whole(1, 9999, LINE, dtype="float32")), mx.argsort(normal(2, *DEEP), axis=1)]
    },
    "Scan": {"": scans},
    "RandomBits": {"": random_numbers},
    "AffineQuantize": {f"{b} bits": lambda b=b: quantized("affine", b) for b in (2, 3, 4, 6, 8)},
    "AffineDequantize": {m: lambda m=m: quantized(m, None) for m in ("mxfp4", "mxfp8", "nvfp4")},
    "QuantizedMatmul": {f"{b} bits": lambda b=b: rounded_activations(b) for b in (4, 8)},
    "GatherQuantizedMatmul": {a: lambda a=a: through_picked(a) for a in ("float", "int8")},
    "Rope": {"": rotated},
    "Attention": {
        "prefill": lambda: attention(203, 203, 2, mask="causal"),
        "decode": lambda: attention(1, 3001, 2),
        "mask": lambda: attention(77, 130, 4, mask=normal(4, 77, 130)),
    },
    "AttentionBackward": {"": lambda: attention(203, 203, 4)},
    "PagedAttention": {"prefill": lambda: paged(203, 1203), "decode": lambda: paged(1, 3001)},
    "Call": {"": lambda: mx.compile(lambda x: mx.softmax(x @ x.T), whole=True)(normal(1, 203, 500))},
    "CacheWrite": {
        "": lambda: mx.fast.cache_write(normal(1, 9, 4, 32, 64), normal(2, 200, 4, 64), whole(3, 288, 200))
    },
    "QuantizeKv": {
        f"{b} bits": lambda b=b: mx.fast.quantize_kv(normal(1, 503, 4, 80), bits=b) for b in (8, 4)
    },
    "Convolution": {"": convolutions},
    "Fft": {"": transforms},
    "Cholesky": {"": eigen(mx.linalg.cholesky)},
    "Solve": {"": right_sides(mx.linalg.solve)},
    "SolveTriangular": {"": right_sides(lambda a, b: mx.linalg.solve_triangular(mx.tril(a), b))},
    "Lu": {"": eigen(mx.linalg.lu_factor)},
    "Qr": {"": eigen(mx.linalg.qr)},
    "Svd": {"": eigen(mx.linalg.svd)},
    "Eigh": {"": eigen(mx.linalg.eigh)},
    "Eig": {"": eigen(mx.linalg.eig)},
}


def fused() -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Rows that fusion makes one pass, gradients, and a step of training."""
    x, w = normal(1, 203, 1531), normal(2, 1531)

    def loss(a: mx.array, b: mx.array) -> mx.array:
        return mx.mean(mx.logsumexp(mx.tanh(x @ a) @ b, axis=-1))

    yield "fused", "softmax", lambda: [mx.softmax(x, axis=axis) for axis in (0, 1)]
    yield "fused", "long rows", lambda: mx.softmax(normal(3, 3, 400_009), axis=-1)
    yield "fused", "norms", lambda: [mx.fast.rms_norm(x, w, 1e-5), mx.fast.layer_norm(x, w, w, 1e-5)]
    yield "fused", "variance", lambda: [mx.var(x, axis=axis) for axis in (0, 1, None)]
    yield "fused", "chain", lambda: mx.exp(-x * x) * mx.sigmoid(x + w) - mx.sum(x * w, axis=-1, keepdims=True)
    parameters = normal(4, 1531, 120) / 40, normal(5, 120, 90) / 11
    yield "fused", "gradient", lambda: mx.value_and_grad(loss, argnums=(0, 1))(*parameters)


def cases() -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """The op, what is done with it, and the function that does it."""
    yield from elementwise()
    yield from reductions()
    for op, functions in KERNELS.items():
        for label, f in functions.items():
            yield op, label, f
    yield from fused()


def computing() -> set[str]:
    """The rows whose kernels compute or move elements."""
    structured = {r.op for r in STRUCTURED if r.family not in ("kLeaf", "kView")}
    return {r.op for r in (*UNARY, *BINARY, *TERNARY, *REDUCE)} | structured


def leaves(tree: Any) -> Iterator[mx.array]:
    """The arrays of nested tuples and lists."""
    if isinstance(tree, mx.array):
        yield tree
    else:
        for part in tree:
            yield from leaves(part)


def digest(tree: Any) -> str:
    """A hash of the bits of all results."""
    found = hashlib.sha256()
    for a in leaves(tree):
        values = np.asarray(a)
        found.update(f"{values.dtype}{values.shape}".encode())
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:16]


def main() -> None:
    """Print the threads in use and the hashes as JSON."""
    hashes = {f"{op}: {label}": digest(f()) for op, label, f in cases()}
    json.dump({"threads": mx.device_info()["threads"], "hashes": hashes}, sys.stdout)


if __name__ == "__main__":
    main()
