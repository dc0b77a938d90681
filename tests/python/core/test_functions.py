"""The functions of the module against NumPy: shapes, values, keyword forms, methods, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import assert_same, layouts

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
M = np.array([[3, -1, 2], [0, 5, -4]], np.int32)
V = np.array([3, 1, 2, 5, 4], np.float32)
FLAGS = np.array([[True, False, True], [False, False, True]])

# name, lamina, NumPy: exact results.
EXACT: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
    ("reshape", lambda: mx.reshape(mx.array(X), (4, -1)), lambda: X.reshape(4, -1)),
    ("reshape int", lambda: mx.reshape(mx.array(X), -1), lambda: X.reshape(-1)),
    ("a.reshape", lambda: mx.array(X).reshape(3, 8), lambda: X.reshape(3, 8)),
    ("a.reshape tuple", lambda: mx.array(X).reshape((3, 8)), lambda: X.reshape(3, 8)),
    ("a.reshape list", lambda: mx.array(X).reshape([24]), lambda: X.reshape(24)),
    ("a.reshape()", lambda: mx.array(5.0).reshape(), lambda: np.float32(5).reshape(())),
    ("flatten", lambda: mx.flatten(mx.array(X), 1, 2), lambda: X.reshape(2, 12)),
    ("flatten 0-d", lambda: mx.flatten(mx.array(1.0)), lambda: np.ones(1, np.float32)),
    ("unflatten", lambda: mx.unflatten(mx.array(X), -1, (2, -1)), lambda: X.reshape(2, 3, 2, 2)),
    ("squeeze", lambda: mx.squeeze(mx.zeros((1, 2, 1)), 0), lambda: np.zeros((2, 1), np.float32)),
    ("a.squeeze", lambda: mx.zeros((1, 2, 1)).squeeze((0, -1)), lambda: np.zeros(2, np.float32)),
    ("expand_dims", lambda: mx.expand_dims(mx.array(M), (0, -1)), lambda: M[None, ..., None]),
    ("transpose", lambda: mx.transpose(mx.array(X)), lambda: X.T),
    ("transpose axes", lambda: mx.transpose(mx.array(X), (1, 0, -1)), lambda: X.transpose(1, 0, 2)),
    ("permute_dims", lambda: mx.permute_dims(mx.array(X), axes=(2, 0, 1)), lambda: X.transpose(2, 0, 1)),
    ("a.transpose", lambda: mx.array(X).transpose(2, 1, 0), lambda: X.T),
    ("a.transpose list", lambda: mx.array(X).transpose([2, 1, 0]), lambda: X.T),
    ("a.transpose None", lambda: mx.array(X).transpose(None), lambda: X.T),
    ("matrix_transpose", lambda: mx.matrix_transpose(mx.array(X)), lambda: X.swapaxes(-1, -2)),
    ("swapaxes", lambda: mx.array(X).swapaxes(0, -1), lambda: X.swapaxes(0, -1)),
    ("moveaxis", lambda: mx.moveaxis(mx.array(X), 0, -1), lambda: np.moveaxis(X, 0, -1)),
    ("flip", lambda: mx.flip(mx.array(X), (0, 2)), lambda: np.flip(X, (0, 2))),
    ("broadcast_to", lambda: mx.broadcast_to(2, (2, 3)), lambda: np.full((2, 3), 2, np.int32)),
    (
        "as_strided",
        lambda: mx.as_strided(mx.array(V), (3, 2), (1, 2), 0),
        lambda: np.array([V[i : i + 3 : 2] for i in range(3)]),
    ),
    ("as_strided default", lambda: mx.as_strided(mx.array(X)), lambda: X),
    ("concatenate", lambda: mx.concatenate([mx.array(M), M], axis=1), lambda: np.concatenate([M, M], 1)),
    (
        "concatenate flat",
        lambda: mx.concat((mx.array(M), mx.array(V)), axis=None),
        lambda: np.concatenate([M, V], None).astype(np.float32),
    ),
    ("stack", lambda: mx.stack([mx.array(M), mx.array(M)], axis=-1), lambda: np.stack([M, M], -1)),
    ("stack one", lambda: mx.stack((mx.array(M),)), lambda: M[None]),
    ("repeat", lambda: mx.repeat(mx.array(M), 2, axis=1), lambda: M.repeat(2, 1)),
    ("repeat flat", lambda: mx.repeat(mx.array(M), repeats=2), lambda: M.repeat(2)),
    ("tile", lambda: mx.tile(mx.array(M), (2, 1, 2)), lambda: np.tile(M, (2, 1, 2))),
    ("tile int", lambda: mx.tile(mx.array(M), 2), lambda: np.tile(M, 2)),
    ("pad", lambda: mx.pad(mx.array(M), 1), lambda: np.pad(M, 1)),
    (
        "pad pair",
        lambda: mx.pad(mx.array(M), (1, 2), constant_values=7),
        lambda: np.pad(M, (1, 2), constant_values=7),
    ),
    ("pad pairs", lambda: mx.pad(mx.array(M), [(1, 0), (0, 2)]), lambda: np.pad(M, [(1, 0), (0, 2)])),
    ("pad one pair", lambda: mx.pad(mx.array(M), ((1, 2),)), lambda: np.pad(M, ((1, 2),))),
    ("pad edge", lambda: mx.pad(mx.array(M), 3, "edge"), lambda: np.pad(M, 3, "edge")),
    ("pad reflect", lambda: mx.pad(mx.array(M), 5, mode="reflect"), lambda: np.pad(M, 5, "reflect")),
    (
        "pad symmetric",
        lambda: mx.pad(mx.array(M), (4, 7), "symmetric"),
        lambda: np.pad(M, (4, 7), "symmetric"),
    ),
    (
        "pad reflect one",
        lambda: mx.pad(mx.array([5]), 2, "reflect"),
        lambda: np.pad(np.array([5], np.int32), 2, "reflect"),
    ),
    ("roll", lambda: mx.roll(mx.array(M), 1), lambda: np.roll(M, 1)),
    ("roll axis", lambda: mx.roll(mx.array(M), -4, 1), lambda: np.roll(M, -4, 1)),
    ("roll axes", lambda: mx.roll(mx.array(M), (1, 2), (0, 1)), lambda: np.roll(M, (1, 2), (0, 1))),
    ("roll one shift", lambda: mx.roll(mx.array(M), 1, (0, 1)), lambda: np.roll(M, 1, (0, 1))),
    ("diagonal", lambda: mx.diagonal(mx.array(X), 1, 0, 2), lambda: np.diagonal(X, 1, 0, 2)),
    (
        "a.diagonal",
        lambda: mx.array(X).diagonal(offset=-1, axis1=1, axis2=2),
        lambda: np.diagonal(X, -1, 1, 2),
    ),
    ("diag", lambda: mx.diag(mx.array(V), -1), lambda: np.diag(V, -1)),
    ("a.diag", lambda: mx.array(M).diag(1), lambda: np.diag(M, 1)),
    ("trace", lambda: mx.trace(mx.array(M), 1), lambda: np.int32(np.trace(M, 1))),
    ("kron", lambda: mx.kron(mx.array(M), mx.array([1, 2])), lambda: np.kron(M, np.array([1, 2], np.int32))),
    ("kron 2-d", lambda: mx.kron(mx.array(M), mx.array(M.T)), lambda: np.kron(M, M.T)),
    ("outer", lambda: mx.outer(mx.array(M), mx.array(V)), lambda: np.outer(M, V).astype(np.float32)),
    ("inner", lambda: mx.inner(mx.array(V), mx.array(V)), lambda: np.inner(V, V)),
    (
        "tensordot",
        lambda: mx.tensordot(mx.array(X), mx.array(X), [[0, 2], [0, 2]]),
        lambda: np.tensordot(X, X, [[0, 2], [0, 2]]),
    ),
    (
        "tensordot int",
        lambda: mx.tensordot(mx.array(X), mx.array(V[:4]), 1),
        lambda: np.tensordot(X, V[:4], 1),
    ),
    ("vecdot", lambda: mx.vecdot(mx.array(M), mx.array(M), axis=0), lambda: (M * M).sum(0).astype(np.int32)),
    ("matmul", lambda: mx.matmul(mx.array(X), mx.array(X).swapaxes(1, 2)), lambda: X @ X.swapaxes(1, 2)),
    ("matmul vectors", lambda: mx.array(V) @ mx.array(V), lambda: V @ V),
    (
        "addmm",
        lambda: mx.addmm(mx.array(V[:3]), mx.array(X[0]), mx.array(X[0].T), 2.0, 0.5),
        lambda: V[:3] / 2 + 2 * (X[0] @ X[0].T),
    ),
    ("where", lambda: mx.where(mx.array(FLAGS), mx.array(M), 0), lambda: np.where(FLAGS, M, np.int32(0))),
    ("clip", lambda: mx.clip(mx.array(M), -1, 3), lambda: M.clip(-1, 3)),
    ("clip low", lambda: mx.clip(mx.array(V), 2, None), lambda: V.clip(2)),
    ("clip float", lambda: mx.clip(mx.array(M), 0.5, 2.5), lambda: M.astype(np.float32).clip(0.5, 2.5)),
    ("sort", lambda: mx.sort(mx.array(M), axis=0), lambda: np.sort(M, 0)),
    ("sort flat", lambda: mx.sort(mx.array(M), None), lambda: np.sort(M, None)),
    ("argsort", lambda: mx.argsort(mx.array(V)), lambda: np.argsort(V).astype(np.uint32)),
    ("topk", lambda: mx.topk(mx.array(V), 2), lambda: np.sort(V)[-2:]),
    ("partition", lambda: mx.sort(mx.partition(mx.array(V), 2)[:3]), lambda: np.sort(V)[:3]),
    ("argpartition", lambda: mx.array(V)[mx.argpartition(mx.array(V), -1)][-1], lambda: V.max()),
    ("argmax", lambda: mx.argmax(mx.array(M), axis=1), lambda: M.argmax(1).astype(np.uint32)),
    (
        "argmin keepdims",
        lambda: mx.argmin(mx.array(M), keepdims=True),
        lambda: np.array([[M.argmin()]], np.uint32),
    ),
    ("a.argmax", lambda: mx.array(M).argmax(), lambda: np.uint32(M.argmax())),
    ("sum", lambda: mx.array(M).sum(axis=(0, 1)), lambda: np.int32(M.sum())),
    ("sum keepdims", lambda: mx.sum(mx.array(M), 1, True), lambda: M.sum(1, keepdims=True).astype(np.int32)),
    ("prod", lambda: mx.prod(mx.array(M), axis=-1), lambda: M.prod(-1).astype(np.int32)),
    ("max", lambda: mx.array(M).max(0), lambda: M.max(0)),
    ("min", lambda: mx.min(mx.array(M), axis=[1]), lambda: M.min(1)),
    ("all", lambda: mx.array(FLAGS).all(axis=0), lambda: FLAGS.all(0)),
    ("any", lambda: mx.any(mx.array(M), axis=1, keepdims=True), lambda: M.any(1, keepdims=True)),
    (
        "count_nonzero",
        lambda: mx.count_nonzero(mx.array(M), axis=1),
        lambda: np.count_nonzero(M, 1).astype(np.int32),
    ),
    ("mean", lambda: mx.mean(mx.array(M), axis=1), lambda: M.sum(1).astype(np.float32) / 3),
    ("median odd", lambda: mx.median(mx.array(V)), lambda: np.median(V)),
    (
        "median even",
        lambda: mx.median(mx.array(M), axis=(0, 1), keepdims=True),
        lambda: np.median(M, keepdims=True).astype(np.float32),
    ),
    ("median axis", lambda: mx.median(mx.array(X), axis=1), lambda: np.median(X, 1)),
    ("median nan", lambda: mx.median(mx.array([1.0, float("nan"), 2.0])), lambda: np.float32("nan")),
    ("cumsum", lambda: mx.cumsum(mx.array(M), axis=1), lambda: M.cumsum(1, dtype=np.int32)),
    ("cumsum flat", lambda: mx.array(M).cumsum(), lambda: M.cumsum(dtype=np.int32)),
    ("cumsum reverse", lambda: mx.cumsum(mx.array(V), reverse=True), lambda: V[::-1].cumsum()[::-1]),
    (
        "cumsum exclusive",
        lambda: mx.cumsum(mx.array(V), inclusive=False),
        lambda: np.r_[np.float32(0), V[:-1].cumsum()],
    ),
    (
        "cumsum dtype",
        lambda: mx.cumulative_sum(mx.array(M), axis=0, dtype=mx.float32),
        lambda: M.cumsum(0, dtype=np.float32),
    ),
    ("cumprod", lambda: mx.cumprod(mx.array(V)), lambda: V.cumprod()),
    ("cummax", lambda: mx.array(V).cummax(0), lambda: np.maximum.accumulate(V)),
    ("cummin", lambda: mx.cummin(mx.array(M), axis=1), lambda: np.minimum.accumulate(M, 1)),
    ("diff", lambda: mx.diff(mx.array(M), axis=0), lambda: np.diff(M, axis=0)),
    ("diff 2", lambda: mx.diff(mx.array(V), n=2), lambda: np.diff(V, 2)),
    ("diff bool", lambda: mx.diff(mx.array(FLAGS)), lambda: np.diff(FLAGS)),
    ("diff empty", lambda: mx.diff(mx.array(V), 7), lambda: np.diff(V, 7)),
    ("take", lambda: mx.take(mx.array(X), mx.array([[2, 0]]), axis=1), lambda: X.take([[2, 0]], 1)),
    ("take flat", lambda: mx.take(mx.array(M), mx.array([5, -1])), lambda: M.take([5, -1])),
    ("take int", lambda: mx.take(mx.array(M), 1, axis=0), lambda: M[1]),
    (
        "take_along_axis",
        lambda: mx.take_along_axis(mx.array(M), mx.argsort(mx.array(M), 1), 1),
        lambda: np.sort(M, 1),
    ),
    (
        "put_along_axis",
        lambda: mx.put_along_axis(mx.array(M), mx.array([[2], [0]]), 9, axis=1),
        lambda: np.array([[3, -1, 9], [9, 5, -4]], np.int32),
    ),
    ("slice", lambda: mx.slice(mx.array(X), mx.array([1, 2]), (1, 2), (2, 2, 2)), lambda: X[:, 1:3, 2:4]),
    ("slice short", lambda: mx.slice(mx.array(X), mx.array([1]), (0,), (1,)), lambda: X[1:]),
    ("slice scalar", lambda: mx.slice(mx.array(V), 2, (0,), (2,)), lambda: V[2:4]),
    ("slice moved inside", lambda: mx.slice(mx.array(V), mx.array([4]), (0,), (2,)), lambda: V[3:]),
    ("slice from the end", lambda: mx.slice(mx.array(V), mx.array([-3]), (0,), (2,)), lambda: V[2:4]),
    (
        "slice_update",
        lambda: mx.slice_update(mx.array(V), mx.zeros(2), mx.array([1]), (0,)),
        lambda: np.array([3, 0, 0, 5, 4], np.float32),
    ),
    (
        "slice_update 2-d",
        lambda: mx.slice_update(mx.array(M), mx.array([[7], [8]]), mx.array([2]), (1,)),
        lambda: np.array([[3, -1, 7], [0, 5, 8]], np.int32),
    ),
    (
        "searchsorted",
        lambda: mx.searchsorted(mx.array([1, 2, 2, 5]), mx.array([0, 1, 2, 3, 5, 9])),
        lambda: np.array([0, 0, 1, 3, 3, 4], np.uint32),
    ),
    (
        "searchsorted right",
        lambda: mx.searchsorted(mx.array([1, 2, 2, 5]), mx.array([[2], [5]]), side="right"),
        lambda: np.array([[3], [4]], np.uint32),
    ),
    (
        "searchsorted none",
        lambda: mx.searchsorted(mx.zeros(0), mx.array([1.0])),
        lambda: np.zeros(1, np.uint32),
    ),
    ("round", lambda: mx.round(mx.array([1.5, 2.5, -0.5])), lambda: np.array([2, 2, -0.0], np.float32)),
    (
        "round negative",
        lambda: mx.array([15, 25, -15, 14]).round(-1),
        lambda: np.array([20, 20, -20, 10], np.int32),
    ),
    ("round integers", lambda: mx.round(mx.array(M), 2), lambda: M),
    ("view", lambda: mx.array(V).view(mx.int32), lambda: V.view(np.int32)),
    ("view wider", lambda: mx.view(mx.array(V[:4]), mx.float64), lambda: V[:4].view(np.float64)),
    ("view narrower", lambda: mx.view(mx.array(M), mx.int16), lambda: M.view(np.int16)),
    ("contiguous", lambda: mx.contiguous(mx.array(X).T), lambda: np.ascontiguousarray(X.T)),
    ("positive", lambda: mx.positive(mx.array(M)), lambda: M),
    ("stop_gradient", lambda: mx.stop_gradient(mx.array(M)), lambda: M),
    (
        "nan_to_num",
        lambda: mx.nan_to_num(mx.array([float("nan"), float("inf"), -float("inf"), 1])),
        lambda: np.nan_to_num(np.array([np.nan, np.inf, -np.inf, 1], np.float32)),
    ),
    (
        "nan_to_num given",
        lambda: mx.nan_to_num(mx.array([float("nan"), float("inf"), -float("inf")]), 1, 2, 3),
        lambda: np.array([1, 2, 3], np.float32),
    ),
    (
        "nan_to_num complex",
        lambda: mx.nan_to_num(mx.array(np.array([complex(np.nan, np.inf), 1 - 2j], np.complex64)), posinf=7),
        lambda: np.array([7j, 1 - 2j], np.complex64),
    ),
    ("nan_to_num integers", lambda: mx.nan_to_num(mx.array(M)), lambda: M),
    (
        "isclose",
        lambda: mx.isclose(
            mx.array([1.0, float("inf"), float("nan")]), mx.array([1.0 + 1e-7, float("inf"), float("nan")])
        ),
        lambda: np.array([True, True, False]),
    ),
    (
        "allclose nan",
        lambda: mx.allclose(mx.array([float("nan")]), mx.array([float("nan")]), equal_nan=True),
        lambda: np.bool_(True),
    ),
    ("array_equal", lambda: mx.array_equal(mx.array(M), M), lambda: np.bool_(True)),
    ("array_equal shapes", lambda: mx.array_equal(mx.array(M), mx.array(V)), lambda: np.bool_(False)),
    (
        "gather_mm",
        lambda: mx.gather_mm(mx.array(X), mx.array(X).swapaxes(1, 2), mx.array([1]), mx.array([0, 1])),
        lambda: X[[1]] @ X.swapaxes(1, 2),
    ),
    ("softmax of one", lambda: mx.softmax(mx.array([[7.0]]), axis=-1), lambda: np.ones((1, 1), np.float32)),
]


@pytest.mark.parametrize(("name", "ours", "theirs"), EXACT, ids=[case[0] for case in EXACT])
def test_exact(name: str, ours: Callable[[], mx.array], theirs: Callable[[], Any]) -> None:
    assert_same(ours(), np.asarray(theirs()))


EPS = float(np.finfo(np.float32).eps)
CLOSE: list[tuple[str, Callable[[], mx.array], Callable[[], Any]]] = [
    ("var", lambda: mx.var(mx.array(X), axis=(0, 2), ddof=1), lambda: X.astype(float).var((0, 2), ddof=1)),
    ("std", lambda: mx.array(X).std(correction=1), lambda: X.astype(float).std(ddof=1)),
    ("std integers", lambda: mx.std(mx.array(M)), lambda: M.std()),
    (
        "logsumexp",
        lambda: mx.logsumexp(mx.array(X), axis=1, keepdims=True),
        lambda: np.logaddexp.reduce(X.astype(float), 1, keepdims=True),
    ),
    ("logcumsumexp", lambda: mx.logcumsumexp(mx.array(V)), lambda: np.logaddexp.accumulate(V.astype(float))),
    (
        "softmax",
        lambda: mx.softmax(mx.array(V)),
        lambda: np.exp(V.astype(float)) / np.exp(V.astype(float)).sum(),
    ),
    ("degrees", lambda: mx.degrees(mx.array(V)), lambda: np.degrees(V.astype(float))),
    ("radians", lambda: mx.radians(mx.array(M)), lambda: np.radians(M.astype(float))),
    ("round decimals", lambda: mx.round(mx.array([1.234, -5.678]), 2), lambda: np.array([1.23, -5.68])),
    (
        "cross_entropy",
        lambda: mx.fast.cross_entropy(mx.array(X[0]), mx.array([0, 3, 1])),
        lambda: np.logaddexp.reduce(X[0].astype(float), 1) - X[0][[0, 1, 2], [0, 3, 1]],
    ),
]


@pytest.mark.parametrize(("name", "ours", "theirs"), CLOSE, ids=[case[0] for case in CLOSE])
def test_close(name: str, ours: Callable[[], mx.array], theirs: Callable[[], Any]) -> None:
    want = np.asarray(theirs())
    got = np.asarray(ours(), np.float64)
    # A few roundings of sums of at most 24 terms of the operands' size.
    np.testing.assert_allclose(got, want, rtol=24 * EPS, atol=24 * EPS * np.abs(want).max())


def test_several_results() -> None:
    for got, want in [
        (mx.split(mx.array(X), 3, axis=1), np.split(X, 3, 1)),
        (mx.array(V).split([1, 3]), np.split(V, [1, 3])),
        (mx.unstack(mx.array(X), axis=-1), list(np.moveaxis(X, -1, 0))),
        (mx.unstack(mx.zeros((0, 2))), []),
        (mx.meshgrid(mx.array(V), mx.array([1, 2])), np.meshgrid(V, np.array([1, 2], np.int32))),
        (
            mx.meshgrid(mx.array(V), mx.array([1, 2]), sparse=True, indexing="ij"),
            np.meshgrid(V, np.array([1, 2], np.int32), sparse=True, indexing="ij"),
        ),
        (mx.meshgrid(mx.array(V), indexing="xy"), [V]),
        (mx.meshgrid(), []),
        (
            mx.broadcast_arrays(mx.array(M), mx.array([[1], [2]])),
            np.broadcast_arrays(M, np.array([[1], [2]], np.int32)),
        ),
        (mx.minmax(mx.array(M), axis=1), [M.min(1), M.max(1)]),
        (mx.divmod(mx.array(M), 3), np.divmod(M, np.int32(3))),
        (mx.nonzero(mx.array(M)), [i.astype(np.int64) for i in M.nonzero()]),
        (mx.where(mx.array(FLAGS)), [i.astype(np.int64) for i in FLAGS.nonzero()]),
        (mx.atleast_1d(mx.array(1), mx.array([2])), [np.array([1], np.int32), np.array([2], np.int32)]),
        (mx.depends([mx.array(M)], [mx.array(V)]), [M]),
    ]:
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            assert_same(g, np.asarray(w))
    for f in (mx.unstack, mx.meshgrid, mx.minmax, mx.divmod, mx.nonzero, mx.broadcast_arrays):
        assert isinstance(f(mx.array(M), *([2] if f is mx.divmod else [])), tuple)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_atleast(n: int) -> None:
    for shape in ((), (3,), (2, 3), (2, 3, 4), (1, 1, 1, 2)):
        got = getattr(mx, f"atleast_{n}d")(mx.zeros(shape))
        assert got.shape == getattr(np, f"atleast_{n}d")(np.zeros(shape)).shape


def test_broadcast_shapes() -> None:
    assert mx.broadcast_shapes((1, 2), (3, 1), 2) == (3, 2)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        mx.broadcast_shapes((2,), (3,))
    with pytest.raises(ValueError, match="at least one"):
        mx.broadcast_shapes()


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "reversed", "broadcast", "offset"])
@pytest.mark.parametrize("name", ["sum", "cumsum", "sort", "argmax", "flip", "concatenate", "take", "max"])
def test_layouts(name: str, layout: str) -> None:
    a, twin = layouts(np.arange(9, dtype=np.float32).reshape(3, 3))[layout]
    ours = {
        "concatenate": lambda: mx.concatenate([a, a], axis=1),
        "take": lambda: mx.take(a, mx.array([1, 0]), axis=0),
    }.get(name, lambda: getattr(mx, name)(a, axis=1))()
    theirs = {
        "concatenate": lambda: np.concatenate([twin, twin], 1),
        "take": lambda: twin.take([1, 0], 0),
        "argmax": lambda: twin.argmax(1).astype(np.uint32),
    }.get(name, lambda: getattr(np, name)(twin, axis=1))()
    assert_same(ours, theirs)


def test_functions_take_numbers_and_numpy_arrays() -> None:
    assert mx.exp(0).item() == 1
    assert mx.add(1, 2).dtype == mx.int32
    assert mx.add(1, 2.5).item() == 3.5
    assert mx.add(np.array([1, 2]), 1).dtype == mx.int64
    assert mx.add(mx.zeros(2, mx.float16), np.ones(2)).dtype == mx.float16
    assert mx.sum(np.ones(3, np.float32)).item() == 3
    assert mx.maximum(2, mx.array([1, 3])).tolist() == [2, 3]
    assert mx.sqrt(True).item() == 1


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: mx.sum(mx.array(M), axis=2), ValueError, "axis 2 is out of bounds for an array with 2 axes"),
    (
        lambda: mx.sum(mx.array(M), axis="x"),
        TypeError,
        r"sum\(\): argument 'axis' wants None \| int \| Sequence\[int\], got str",
    ),
    (lambda: mx.sum(mx.array(M), keepdims="x"), TypeError, "argument 'keepdims' wants bool, got str"),
    (
        lambda: mx.sum([1, 2]),
        TypeError,
        r"argument 'a' wants array, got list; array\(...\) makes an array of it",
    ),
    (lambda: mx.sum(), TypeError, "sum.. misses argument 'a'"),
    (lambda: mx.sum(mx.array(M), 0, True, 3), TypeError, "at most 3 positional arguments, got 4"),
    (lambda: mx.sum(a=mx.array(M)), TypeError, "argument 'a' by position only"),
    (lambda: mx.sum(mx.array(M), axes=0), TypeError, "no argument 'axes'"),
    (lambda: mx.sum(mx.array(M), 0, axis=0), TypeError, "two values for argument 'axis'"),
    (lambda: mx.add(mx.array(M), "x"), TypeError, r"argument 'b' wants scalar \| array, got str"),
    (lambda: mx.add(None, mx.array(M)), TypeError, "argument 'a' wants"),
    (lambda: mx.exp("x"), TypeError, r"exp\(\): argument 'a' wants scalar \| array, got str"),
    (lambda: mx.array(M).astype("float32"), TypeError, r"astype\(\): argument 'dtype' wants Dtype, got str"),
    (lambda: mx.reshape(mx.array(M), (4,)), ValueError, r"6 elements of shape \(2, 3\) into \(4,\)"),
    (lambda: mx.array(M).reshape(2, "x"), TypeError, "wants integers"),
    (lambda: mx.transpose(mx.array(M), (0, 0)), ValueError, "twice"),
    (lambda: mx.concatenate([]), ValueError, "at least one array"),
    (lambda: mx.concatenate([mx.array(M), mx.array(V)]), ValueError, "differ outside axis"),
    (lambda: mx.concatenate(mx.array(M)), TypeError, r"argument 'arrays' wants Sequence\[array\], got"),
    (lambda: mx.stack([mx.array(M), "x"]), TypeError, "got str"),
    (lambda: mx.split(mx.array(V), 2), ValueError, "does not divide into 2 equal parts"),
    (lambda: mx.split(mx.array(V), 0), ValueError, "0 equal parts"),
    (lambda: mx.split(mx.array(V), "x"), TypeError, "argument 'indices_or_sections'"),
    (lambda: mx.pad(mx.array(V), -1), ValueError, "not be negative"),
    (lambda: mx.pad(mx.array(V), 1, "wild"), ValueError, "constant, edge, reflect or symmetric, got 'wild'"),
    (lambda: mx.pad(mx.array(M), [(1, 1)] * 3), ValueError, "one pair of widths for each of 2 axes, got 3"),
    (lambda: mx.pad(mx.zeros((0,)), 1, "edge"), ValueError, "empty"),
    (lambda: mx.meshgrid(mx.array(V), indexing="ab"), ValueError, "'xy' or 'ij', got 'ab'"),
    (lambda: mx.searchsorted(mx.array(V), mx.array(V), side="up"), ValueError, "'left' or 'right', got 'up'"),
    (lambda: mx.searchsorted(mx.array(M), mx.array(V)), ValueError, "must have 1 axis"),
    (lambda: mx.clip(mx.array(V), None, None), ValueError, "a_min or a_max"),
    (lambda: mx.where(mx.array(FLAGS), 1), TypeError, "both x and y or neither"),
    (lambda: mx.median(mx.zeros((0,))), ValueError, "empty"),
    (lambda: mx.max(mx.zeros((0,))), ValueError, "empty"),
    (
        lambda: mx.logsumexp(mx.zeros((3, 0)), axis=-1),
        ValueError,
        r"\[logsumexp\] axis 1 of shape \(3, 0\) is empty",
    ),
    (lambda: mx.argmax(mx.zeros((2, 0)), axis=1), ValueError, "empty"),
    (lambda: mx.topk(mx.array(V), 6), ValueError, "not within an axis of length 5"),
    (lambda: mx.partition(mx.array(V), 5), ValueError, "out of bounds"),
    (lambda: mx.tensordot(mx.array(X), mx.array(V), 1), ValueError, "differ in length"),
    (lambda: mx.tensordot(mx.array(X), mx.array(V), -1), ValueError, "not be negative"),
    (lambda: mx.tensordot(mx.array(X), mx.array(V), "x"), TypeError, "argument 'axes'"),
    (lambda: mx.vecdot(mx.array(V), mx.array(M)), ValueError, "lengths differ"),
    (lambda: mx.matmul(mx.array(1.0), mx.array(V)), ValueError, "at least 1 axis"),
    (lambda: mx.take(mx.array(V), mx.array([0.5])), ValueError, "indices must be integers, got float32"),
    (lambda: mx.take_along_axis(mx.array(M), mx.array([0]), 1), ValueError, "as many axes"),
    (
        lambda: mx.slice(mx.array(V), mx.array([0]), (0,), (6,)),
        ValueError,
        "size of 6 does not fit axis 0 of length 5",
    ),
    (
        lambda: mx.slice(mx.array(V), mx.array([0, 1]), (0,), (2,)),
        ValueError,
        "one integer start for each of 1 axes",
    ),
    (
        lambda: mx.slice_update(mx.array(V), mx.zeros((1, 1)), mx.array([0]), (0,)),
        ValueError,
        "not as many axes",
    ),
    (lambda: mx.as_strided(mx.array(V), (6,), (1,)), ValueError, "leaves an array of 5 elements"),
    (lambda: mx.view(mx.array(V), mx.float64), ValueError, "does not divide"),
    (lambda: mx.quantize(mx.ones((2, 64)), mode="fp3"), ValueError, "affine, mxfp4, .* got 'fp3'"),
    (lambda: mx.quantize(mx.ones((2, 64)), bits=7), ValueError, "bits"),
    (lambda: mx.quantize(mx.ones((2, 64)), global_scale=mx.array(1.0)), ValueError, "only mode 'nvfp4'"),
    (lambda: mx.dequantize(mx.zeros((2, 8), mx.uint32), mx.ones((2, 1))), ValueError, "scales and biases"),
    (
        lambda: mx.fast.scaled_dot_product_attention(*[mx.ones((1, 1, 2, 4))] * 3, scale=1.0, mask="none"),
        ValueError,
        "'causal' or an array",
    ),
    (
        lambda: mx.fast.rms_norm(mx.ones((2, 4)), mx.ones(3), 1e-5),
        ValueError,
        r"weight must have shape \(4,\)",
    ),
    (lambda: mx.fast.cross_entropy(mx.ones((2, 4)), mx.array([0])), ValueError, "integer targets"),
    (lambda: mx.repeat(mx.array(V), -1), ValueError, "not be negative"),
    (lambda: mx.unstack(mx.array(1.0)), ValueError, "at least 1 axis"),
    (lambda: mx.zeros((2**40, 2**40)), ValueError, "63 bits|too many|overflow|fit"),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=[e[2] for e in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        call()
    assert mx.add(1, 1).item() == 2


def test_quantized_products() -> None:
    w = np.random.default_rng(0).standard_normal((8, 128)).astype(np.float32)
    x = np.random.default_rng(1).standard_normal((3, 128)).astype(np.float32)
    for bits, group in ((4, 64), (8, 32)):
        packed, scales, biases = mx.quantize(mx.array(w), group_size=group, bits=bits)
        assert packed.shape == (8, 128 * bits // 32)
        back = np.asarray(mx.dequantize(packed, scales, biases, group, bits), np.float64)
        step = np.asarray(scales, np.float64).repeat(group, 1)
        # Codes begin at the extreme of larger magnitude: at the other end a value may be a whole step away.
        assert (np.abs(back - w) <= np.abs(step) * (1 + 4 * EPS)).all()
        got = np.asarray(
            mx.quantized_matmul(mx.array(x), packed, scales, biases, True, group, bits), np.float64
        )
        want = x.astype(float) @ back.T
        bound = 128 * EPS * (np.abs(x).astype(float) @ np.abs(back).T)
        assert (np.abs(got - want) <= bound).all()
        picked = mx.gather_qmm(
            mx.array(x)[None],
            packed[None],
            scales[None],
            biases[None],
            rhs_indices=mx.array([0, 0]),
            group_size=group,
            bits=bits,
        )
        assert picked.shape == (2, 3, 8)
        assert (np.abs(np.asarray(picked, np.float64)[1] - want) <= bound).all()


def test_diagonals_and_takes_of_empty_axes() -> None:
    assert mx.diagonal(mx.zeros((2, 0, 0)), 0, 1, 2).shape == (2, 0)
    assert mx.take(mx.zeros((2, 0)), mx.zeros((0,), dtype=mx.int32), axis=-1).shape == (2, 0)
    assert mx.take(mx.zeros((0, 2)), mx.zeros((0, 3), dtype=mx.int32), axis=0).shape == (0, 3, 2)


@pytest.mark.parametrize("kind", [ValueError, IndexError, np.exceptions.AxisError], ids=lambda k: k.__name__)
def test_an_axis_that_is_not_there(kind: type[Exception]) -> None:
    """NumPy's class, which both who expects a ValueError and who expects an IndexError catches."""
    with pytest.raises(kind, match=r"\[sum\] axis 4 is out of bounds for an array with 2 axes"):
        mx.sum(mx.ones((2, 2)), axis=4)


@pytest.mark.parametrize("dtype", ["bool_", "int8", "uint8", "uint16", "float16"])
def test_trace_counts_like_sum(dtype: str) -> None:
    a = mx.ones((3, 3)).astype(getattr(mx, dtype))
    assert mx.trace(a).dtype == mx.sum(a).dtype
    assert mx.trace(a).item() == 3
    assert mx.trace(a, dtype=mx.int16).dtype == mx.int16


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_cross_entropy_is_wide(dtype: str) -> None:
    logits = mx.zeros((1, 2)).astype(getattr(mx, dtype))
    got = mx.fast.cross_entropy(logits, mx.array([0]))
    assert got.dtype == (mx.float64 if dtype == "float64" else mx.float32)
    assert got.item() == pytest.approx(np.log(2), rel=1e-6)


def test_unstack_of_an_axis_that_is_not_there() -> None:
    with pytest.raises(IndexError, match="axis 3 is out of bounds for an array with 2 axes"):
        mx.unstack(mx.ones((2, 2)), axis=3)
