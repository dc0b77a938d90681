"""Calls that NumPy's namespace and lamina.array_api both take, by the name of the function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

RNG = np.random.default_rng(5)
F = RNG.standard_normal((3, 4)).astype(np.float32)
D = RNG.standard_normal((4, 3, 3))
S = D @ D.swapaxes(1, 2) + 3 * np.eye(3)
Z = (F + 1j * F[::-1]).astype(np.complex64)
N = RNG.integers(-5, 6, (3, 4)).astype(np.int32)
U = RNG.integers(0, 9, (3, 4)).astype(np.uint8)
B = RNG.random((3, 4)) > 0.5
POSITIVE = np.abs(F) + 0.1

Call = Callable[..., Any]

# By name of the function: calls that NumPy's namespace and ours both take, with their operands.
CALLS: dict[str, list[tuple[Call, tuple[np.ndarray, ...]]]] = {
    "arange": [
        (lambda m: m.arange(5, dtype=m.int32), ()),
        (lambda m: m.arange(1, 9, 3, dtype=m.float64), ()),
        (lambda m: m.arange(5, stop=0, step=-2, dtype=m.int64), ()),
    ],
    "asarray": [
        (lambda m, a: m.asarray(a, dtype=m.float64, copy=True), (F,)),
        (lambda m: m.asarray([1, 2], dtype=m.int8), ()),
    ],
    "empty": [(lambda m: m.empty((2, 3), dtype=m.int16) * 0, ())],
    "empty_like": [(lambda m, a: m.empty_like(a, dtype=m.float64) * 0 + 1, (F,))],
    "eye": [(lambda m: m.eye(3, dtype=m.float32), ()), (lambda m: m.eye(3, 5, k=-1, dtype=m.int8), ())],
    "from_dlpack": [(lambda m: m.from_dlpack(np.arange(4)), ())],
    "full": [(lambda m: m.full((2,), 7, dtype=m.uint8), ()), (lambda m: m.full(3, True), ())],
    "full_like": [
        (lambda m, a: m.full_like(a, 2), (N,)),
        (lambda m, a: m.full_like(a, 2, dtype=m.float64), (N,)),
    ],
    "linspace": [
        (lambda m: m.linspace(0, 1, 7, dtype=m.float64), ()),
        (lambda m: m.linspace(2, -2, num=5, endpoint=False, dtype=m.float32), ()),
        (lambda m: m.astype(m.linspace(0, 2 + 2j, 3), m.complex64), ()),
    ],
    "meshgrid": [
        (lambda m, a, b: m.stack(list(m.meshgrid(a, b))), (F[0], F[1, :3])),
        (lambda m, a, b: m.meshgrid(a, b, indexing="ij")[1], (F[0], F[1, :3])),
    ],
    "ones": [(lambda m: m.ones((2, 0), dtype=m.float32), ()), (lambda m: m.ones(3, dtype=m.complex64), ())],
    "ones_like": [(lambda m, a: m.ones_like(a), (U,))],
    "tril": [(lambda m, a: m.tril(a, k=-1), (F,)), (lambda m, a: m.tril(a), (D,))],
    "triu": [(lambda m, a: m.triu(a, k=1), (F,))],
    "zeros": [(lambda m: m.zeros((2, 3), dtype=m.bool), ())],
    "zeros_like": [(lambda m, a: m.zeros_like(a, dtype=m.int64), (F,))],
    "astype": [
        (lambda m, a: m.astype(a, m.int32), (F,)),
        (lambda m, a: m.astype(a, m.bool, copy=False), (N,)),
    ],
    "broadcast_arrays": [(lambda m, a, b: m.broadcast_arrays(a, b)[1], (F, F[0]))],
    "broadcast_to": [(lambda m, a: m.broadcast_to(a, (2, 3, 4)), (F,))],
    "clip": [
        (lambda m, a: m.clip(a, -0.5, 0.5), (F,)),
        (lambda m, a: m.clip(a, min=0), (N,)),
        (lambda m, a, b: m.clip(a, max=b), (F, F[1])),
        (lambda m, a: m.clip(a), (F,)),
    ],
    "signbit": [
        (lambda m, a: m.signbit(a), (np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, -np.nan]),))
    ],
    "copysign": [(lambda m, a, b: m.copysign(a, b), (F, F[::-1])), (lambda m, a: m.copysign(a, -1.0), (F,))],
    "hypot": [
        (lambda m, a, b: m.hypot(a, b), (F, F[::-1])),
        (
            lambda m, a, b: m.hypot(a, b),
            (np.array([np.inf, np.nan, 0, 3e200, np.nan]), np.array([np.nan, 1, -0.0, 4e200, -np.inf])),
        ),
    ],
    "nextafter": [
        (
            lambda m, a, b: m.nextafter(a, b),
            (
                np.array([0, 0, 1, 1, -1, -1, np.inf, 1, np.nan, 0.0], np.float32),
                np.array([1, -1, 2, 0, 0, -2, 0, 1, 1, -0.0], np.float32),
            ),
        ),
        (lambda m, a: m.nextafter(a, 1.0), (D,)),
    ],
    "take": [
        (lambda m, a, i: m.take(a, i, axis=1), (F, np.array([3, 0, 0]))),
        (lambda m, a, i: m.take(a, i), (F[0], np.array([1]))),
    ],
    "take_along_axis": [(lambda m, a, i: m.take_along_axis(a, i, axis=1), (F, np.argsort(F, 1)))],
    "matmul": [(lambda m, a, b: m.matmul(a, b), (D, S))],
    "matrix_transpose": [(lambda m, a: m.matrix_transpose(a), (D,))],
    "tensordot": [
        (lambda m, a, b: m.tensordot(a, b, axes=1), (D, D[0])),
        (lambda m, a, b: m.tensordot(a, b, axes=((1, 2), (2, 1))), (D, D)),
        (lambda m, a, b: m.tensordot(a, b, axes=0), (F[0], F[1])),
    ],
    "vecdot": [
        (lambda m, a, b: m.vecdot(a, b), (Z, Z[::-1])),
        (lambda m, a, b: m.vecdot(a, b, axis=-2), (D, D[0])),
    ],
    "concat": [
        (lambda m, a, b: m.concat([a, b], axis=1), (F, F)),
        (lambda m, a: m.concat((a, a), axis=None), (F,)),
    ],
    "expand_dims": [
        (lambda m, a: m.expand_dims(a, axis=-1), (F,)),
        (lambda m, a: m.expand_dims(a, axis=(0, 2)), (F,)),
    ],
    "flip": [(lambda m, a: m.flip(a), (F,)), (lambda m, a: m.flip(a, axis=(0, -1)), (D,))],
    "moveaxis": [
        (lambda m, a: m.moveaxis(a, (0, 1), (-1, 0)), (D,)),
        (lambda m, a: m.moveaxis(a, 0, -1), (D,)),
    ],
    "permute_dims": [(lambda m, a: m.permute_dims(a, (2, 0, 1)), (D,))],
    "repeat": [
        (lambda m, a: m.repeat(a, 2, axis=1), (F,)),
        (lambda m, a, n: m.repeat(a, n, axis=0), (F, np.array([0, 2, 1]))),
        (lambda m, a, n: m.repeat(a, n), (F[0], np.array([3]))),
    ],
    "reshape": [
        (lambda m, a: m.reshape(a, (2, -1)), (F,)),
        (lambda m, a: m.reshape(a, (12,), copy=True), (F,)),
    ],
    "roll": [
        (lambda m, a: m.roll(a, 2), (F,)),
        (lambda m, a: m.roll(a, (1, -2), axis=(0, 1)), (F,)),
        (lambda m, a: m.roll(a, 1, axis=(0, 1)), (F,)),
    ],
    "squeeze": [
        (lambda m, a: m.squeeze(a, 0), (F[None],)),
        (lambda m, a: m.squeeze(a, axis=(0, 3)), (D[:1, ..., None],)),
    ],
    "stack": [(lambda m, a, b: m.stack([a, b], axis=-1), (F, F))],
    "tile": [(lambda m, a: m.tile(a, (2, 1, 2)), (F,)), (lambda m, a: m.tile(a, (2,)), (F,))],
    "unstack": [(lambda m, a: m.unstack(a, axis=1)[2], (F,))],
    "argmax": [(lambda m, a: m.argmax(a, axis=1, keepdims=True), (F,)), (lambda m, a: m.argmax(a), (N,))],
    "argmin": [(lambda m, a: m.argmin(a, axis=0), (F,))],
    "count_nonzero": [
        (lambda m, a: m.count_nonzero(a, axis=1), (N,)),
        (lambda m, a: m.count_nonzero(a, keepdims=True), (B,)),
    ],
    "nonzero": [(lambda m, a: m.stack(list(m.nonzero(a))), (N,)), (lambda m, a: m.nonzero(a)[0], (B[0],))],
    "searchsorted": [
        (lambda m, a, b: m.searchsorted(a, b), (np.sort(F[0]), F)),
        (lambda m, a, b, o: m.searchsorted(a, b, side="right", sorter=o), (F[0], F, np.argsort(F[0]))),
    ],
    "where": [
        (lambda m, c, a, b: m.where(c, a, b), (B, F, F[::-1])),
        (lambda m, c, a: m.where(c, a, 0), (B, N)),
    ],
    "sort": [
        (lambda m, a: m.sort(a, axis=0), (F,)),
        (lambda m, a: np.sort(a)[:, ::-1] if m is np else m.sort(a, descending=True), (U,)),
    ],
    "argsort": [
        (lambda m, a: m.argsort(a, stable=True), (U,)),
        (
            lambda m, a: (
                np.argsort(-a.astype(int), 0, stable=True)
                if m is np
                else m.argsort(a, descending=True, axis=0)
            ),
            (U,),
        ),
    ],
    "unique_all": [(lambda m, a, i=i: m.unique_all(a)[i], (N,)) for i in range(4)],
    "unique_counts": [(lambda m, a, i=i: m.unique_counts(a)[i], (U,)) for i in range(2)],
    "unique_inverse": [(lambda m, a: m.unique_inverse(a).inverse_indices, (N,))],
    "unique_values": [
        (lambda m, a: m.sort(m.unique_values(a)), (N,)),
        (lambda m, a: m.unique_values(a), (N[:0],)),
    ],
    "all": [(lambda m, a: m.all(a, axis=1), (B,)), (lambda m, a: m.all(a, keepdims=True), (N,))],
    "any": [(lambda m, a: m.any(a, axis=(0, 1)), (B,)), (lambda m, a: m.any(a), (F[:0],))],
    "max": [(lambda m, a: m.max(a, axis=(0,), keepdims=True), (F,))],
    "min": [(lambda m, a: m.min(a, axis=1), (N,))],
    "mean": [(lambda m, a: m.mean(a, axis=-1), (F,)), (lambda m, a: m.mean(a, keepdims=True), (D,))],
    "prod": [(lambda m, a: m.prod(a, axis=1, dtype=m.int64), (N,))],
    "std": [
        (lambda m, a: m.std(a, axis=1, correction=1), (F,)),
        (lambda m, a: m.std(a, correction=0.5, keepdims=True), (D,)),
    ],
    "sum": [
        (lambda m, a: m.sum(a, axis=(0, 1), dtype=m.int64), (N,)),
        (lambda m, a: m.sum(a, axis=0, keepdims=True), (F,)),
        (lambda m, a: m.sum(a, dtype=m.uint8), (U,)),
    ],
    "var": [(lambda m, a: m.var(a, axis=(0, 2), correction=2.5), (D,)), (lambda m, a: m.var(a), (F,))],
    "cumulative_sum": [
        (lambda m, a: m.cumulative_sum(a, axis=1, include_initial=True), (F,)),
        (lambda m, a: m.cumulative_sum(a, dtype=m.int64), (N[0],)),
    ],
    "cumulative_prod": [(lambda m, a: m.cumulative_prod(a, axis=0, include_initial=True), (F,))],
    "diff": [
        (lambda m, a: m.diff(a, axis=0, n=2), (F,)),
        (lambda m, a, b: m.diff(a, prepend=b, append=b), (F, F[:, :1])),
    ],
    "linalg.cholesky": [
        (lambda m, a: m.linalg.cholesky(a), (S,)),
        (lambda m, a: m.linalg.cholesky(a, upper=True), (S,)),
    ],
    "linalg.cross": [
        (lambda m, a, b: m.linalg.cross(a, b), (D, D[0])),
        (lambda m, a, b: m.linalg.cross(a, b, axis=1), (D, D)),
    ],
    "linalg.det": [(lambda m, a: m.linalg.det(a), (D,))],
    "linalg.diagonal": [(lambda m, a: m.linalg.diagonal(a, offset=1), (D,))],
    "linalg.eigh": [
        (lambda m, a: m.linalg.eigh(a).eigenvalues, (S,)),
        (lambda m, a: m.abs(m.linalg.eigh(a).eigenvectors), (S,)),
    ],
    "linalg.eigvalsh": [(lambda m, a: m.linalg.eigvalsh(a), (S,))],
    "linalg.inv": [(lambda m, a: m.linalg.inv(a), (S,))],
    "linalg.matmul": [(lambda m, a: m.linalg.matmul(a, a), (S,))],
    "linalg.matrix_norm": [
        (lambda m, a, o=o: m.linalg.matrix_norm(a, ord=o, keepdims=o == 1), (D[:, :2],))
        for o in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)
    ],
    "linalg.matrix_power": [(lambda m, a, n=n: m.linalg.matrix_power(a, n), (S,)) for n in (0, 1, 5, -2)],
    "linalg.matrix_rank": [
        (lambda m, a: m.linalg.matrix_rank(a), (np.stack([D[0], np.ones((3, 3)), np.zeros((3, 3))]),)),
        (lambda m, a: m.linalg.matrix_rank(a, rtol=0.5), (S,)),
    ],
    "linalg.matrix_transpose": [(lambda m, a: m.linalg.matrix_transpose(a), (D,))],
    "linalg.outer": [(lambda m, a, b: m.linalg.outer(a, b), (F[0], F[1]))],
    "linalg.pinv": [
        (lambda m, a: m.linalg.pinv(a), (D[:, :2],)),
        (lambda m, a: m.linalg.pinv(a, rtol=0.3), (S,)),
    ],
    "linalg.qr": [
        (lambda m, a, i=i, mode=mode: m.abs(m.linalg.qr(a, mode=mode)[i]), (a,))
        for a in (D[:, :, :2], D[:, :2])
        for mode, i in (("reduced", 0), ("reduced", 1), ("complete", 0), ("complete", 1))
    ],
    "linalg.slogdet": [(lambda m, a, i=i: m.linalg.slogdet(a)[i], (D,)) for i in range(2)],
    "linalg.solve": [
        (lambda m, a, b: m.linalg.solve(a, b), (S, D)),
        (lambda m, a, b: m.linalg.solve(a, b), (S[0], D[0, 0])),
    ],
    "linalg.svd": [
        (lambda m, a, i=i, full=full: m.abs(m.linalg.svd(a, full_matrices=full)[i]), (a,))
        for a in (D[:, :, :2], D[:, :2], D)
        for full in (False, True)
        for i in range(3)
    ],
    "linalg.svdvals": [(lambda m, a: m.linalg.svdvals(a), (D,))],
    "linalg.tensordot": [(lambda m, a: m.linalg.tensordot(a, a, axes=3), (D,))],
    "linalg.trace": [
        (lambda m, a: m.linalg.trace(a, offset=-1), (D,)),
        (lambda m, a: m.linalg.trace(a, dtype=m.int64), (N,)),
    ],
    "linalg.vecdot": [(lambda m, a: m.linalg.vecdot(a, a), (Z,))],
    "linalg.vector_norm": [
        (lambda m, a, o=o: m.linalg.vector_norm(a, axis=(0, 2), ord=o, keepdims=o == 2), (D,))
        for o in (2, 1, 0, 3.5, -1, math.inf, -math.inf)
    ]
    + [(lambda m, a: m.linalg.vector_norm(a), (Z,))],
    "fft.fft": [
        (lambda m, a: m.fft.fft(a, axis=0), (Z,)),
        (lambda m, a: m.fft.fft(a, n=6, norm="ortho"), (Z,)),
    ],
    "fft.ifft": [(lambda m, a: m.fft.ifft(a, norm="forward"), (Z,))],
    "fft.fftn": [
        (lambda m, a: m.fft.fftn(a), (Z,)),
        (lambda m, a: m.fft.fftn(a, s=(3, 5), axes=(0, 1)), (Z,)),
    ],
    "fft.ifftn": [(lambda m, a: m.fft.ifftn(a, axes=(1,)), (Z,))],
    "fft.rfft": [(lambda m, a: m.fft.rfft(a), (F,))],
    "fft.irfft": [(lambda m, a: m.fft.irfft(a, n=5), (Z,))],
    "fft.rfftn": [(lambda m, a: m.fft.rfftn(a), (F,))],
    "fft.irfftn": [(lambda m, a: m.fft.irfftn(a), (Z,))],
    "fft.hfft": [(lambda m, a, n=n: m.fft.hfft(a, norm=n), (Z,)) for n in ("backward", "ortho", "forward")],
    "fft.ihfft": [(lambda m, a, n=n: m.fft.ihfft(a, norm=n), (F,)) for n in ("backward", "ortho", "forward")],
    "fft.fftfreq": [(lambda m, n=n: m.fft.fftfreq(n, d=0.3), ()) for n in (1, 6, 7)],
    "fft.rfftfreq": [(lambda m, n=n: m.fft.rfftfreq(n, d=0.3), ()) for n in (1, 6, 7)],
    "fft.fftshift": [
        (lambda m, a: m.fft.fftshift(a, axes=(1,)), (F,)),
        (lambda m, a: m.fft.fftshift(a, axes=0), (F,)),
    ],
    "fft.ifftshift": [(lambda m, a: m.fft.ifftshift(a), (F[:, :3],))],
}

UNARY = [
    "abs",
    "ceil",
    "floor",
    "trunc",
    "round",
    "sign",
    "square",
    "negative",
    "positive",
    "isfinite",
    "isinf",
    "isnan",
    "cos",
    "cosh",
    "sin",
    "sinh",
    "tan",
    "tanh",
    "atan",
    "asinh",
    "exp",
    "expm1",
]
UNARY_OF_POSITIVE = ["log", "log1p", "log2", "log10", "sqrt", "reciprocal"]
BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "maximum",
    "minimum",
    "atan2",
    "logaddexp",
    "floor_divide",
    "remainder",
]
BITS = ["bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift"]
for _name in UNARY:
    CALLS[_name] = [(lambda m, a, f=_name: getattr(m, f)(a), (F,))]
for _name in UNARY_OF_POSITIVE:
    CALLS[_name] = [(lambda m, a, f=_name: getattr(m, f)(a), (POSITIVE,))]
for _name in ("acos", "asin", "atanh"):
    CALLS[_name] = [(lambda m, a, f=_name: getattr(m, f)(a), (np.tanh(F),))]
CALLS["acosh"] = [(lambda m, a: m.acosh(a), (1 + POSITIVE,))]
for _name in BINARY:
    CALLS[_name] = [(lambda m, a, b, f=_name: getattr(m, f)(a, b), (F, F[::-1]))]
for _name in BITS:
    CALLS[_name] = [(lambda m, a, b, f=_name: getattr(m, f)(a, b), (U, U % 4))]
for _name in ("logical_and", "logical_or", "logical_xor"):
    CALLS[_name] = [(lambda m, a, b, f=_name: getattr(m, f)(a, b), (B, B[::-1]))]
CALLS["logical_not"] = [(lambda m, a: m.logical_not(a), (B,))]
CALLS["bitwise_invert"] = [(lambda m, a: m.bitwise_invert(a), (U,))]
CALLS["pow"] = [(lambda m, a, b: m.pow(a, b), (POSITIVE, F)), (lambda m, a: m.pow(a, 2), (N,))]
for _name in ("real", "imag", "conj"):
    CALLS[_name] = [(lambda m, a, f=_name: getattr(m, f)(a), (Z,))]
