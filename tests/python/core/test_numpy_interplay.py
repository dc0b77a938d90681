"""NumPy's functions, operators and scalars on arrays; DLPack's protocol; pickles of everything."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import lamina.core as mx
import ml_dtypes
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES, assert_same, layouts, sample, short

A, N = mx.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)

FUNCTIONS: dict[str, Any] = {
    "sum": np.sum,
    "sum over an axis": lambda a: np.sum(a, axis=0, keepdims=True),
    "mean": np.mean,
    "std": lambda a: np.std(a, ddof=1),
    "max": np.max,
    "any": np.any,
    "transpose": np.transpose,
    "reshape": lambda a: np.reshape(a, (4,)),
    "concatenate": lambda a: np.concatenate([a, a], axis=1),
    "mixed": lambda a: np.concatenate([a, N, [[5.0, 6.0]]]),
    "stack of a tuple": lambda a: np.stack((a, a)),
    "squeeze": np.squeeze,
    "einsum": lambda a: np.einsum("ij,jk", a, a),
    "where": lambda a: np.where(a > 2, a, 0),
    "where as a method of ours": lambda a: np.where(np.asarray(a) > 2, a, 0),
    "linalg": np.linalg.det,
    "fft": np.fft.fft,
    "dot": lambda a: np.dot(a, a),
    "clip": lambda a: np.clip(a, 2, 3),
    "round": np.round,
    "sort": lambda a: np.sort(a, axis=None),
    "percentile": lambda a: np.percentile(a, [25, 50]),
    "ufunc": np.exp,
    "ufunc of two": lambda a: np.add(a, a),
    "reduction of a ufunc": lambda a: np.add.reduce(a),
    "outer product by a ufunc": lambda a: np.multiply.outer(a, a),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_numpy(name: str) -> None:
    got, want = FUNCTIONS[name](A), FUNCTIONS[name](N)
    assert not isinstance(got, mx.array)
    assert np.asarray(got).dtype == np.asarray(want).dtype
    assert np.array_equal(got, want)


def test_functions_of_numpy_with_other_results() -> None:
    assert np.shape(A) == (2, 2)
    assert np.ndim(A) == 2
    assert np.size(A) == 4
    assert np.allclose(A, N)
    assert np.array_equal(A, N)
    assert [part.tolist() for part in np.split(A, 2)] == [[[1, 2]], [[3, 4]]]
    out = np.zeros(2, np.float32)
    assert np.sum(A, axis=0, out=out) is out
    assert out.tolist() == [4, 6]
    np.copyto(out, A[0])
    assert out.tolist() == [1, 2]


def test_a_third_library_is_asked() -> None:
    class Third:
        def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> str:
            return f"third {func.__name__}"

    assert np.concatenate([A, Third()]) == "third concatenate"  # type: ignore[list-item]


def test_operators_between_libraries() -> None:
    """The left operand decides between arrays; a NumPy array stays one through in-place operators."""
    for left, right, kind in ((A, N, mx.array), (N, A, np.ndarray)):
        for result in (left + right, left * right, left - right, left / right, left @ right, left**right):
            assert isinstance(result, kind)
    assert isinstance(A == N, mx.array)
    assert isinstance(N == A, np.ndarray)
    n = N.copy()
    n += A
    assert isinstance(n, np.ndarray)
    assert n.tolist() == [[2, 4], [6, 8]]
    a = A + 0
    a += N
    assert isinstance(a, mx.array)
    assert N[mx.array(1), mx.array(0)] == 3
    assert A[np.array([1, 0]), np.int64(0)].tolist() == [3, 1]


SCALARS = [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, np.bool_]


@pytest.mark.parametrize("kind", SCALARS, ids=lambda k: k.__name__)
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "int32", "uint8", "complex64"]
)
def test_scalars_count_as_python_numbers(kind: Any, dtype: str) -> None:
    a, value = mx.array([1, 2]).astype(getattr(mx, dtype)), kind(1)
    plain = value.item()
    for ours, wanted in (
        (lambda v: a * v, lambda v: v * a),
        (lambda v: a + v, lambda v: v + a),
        (lambda v: a / v, None),
        (lambda v: v / a, None),
        (lambda v: a < v, lambda v: v > a),
        (lambda v: mx.maximum(a, v), None),
    ):
        if dtype == "complex64" and ours(plain).dtype == mx.bool_:
            continue
        got, want = ours(value), ours(plain)
        assert isinstance(got, mx.array)
        assert got.dtype == want.dtype
        assert got.tolist() == want.tolist()
        if wanted is not None:
            assert wanted(value).tolist() == want.tolist()
            assert wanted(value).dtype == want.dtype


def test_ml_dtypes_both_ways() -> None:
    values = np.arange(-4, 4, dtype=np.float32).reshape(2, 4)
    for view in (lambda v: v, lambda v: v.T, lambda v: v[::-1, ::2]):
        theirs = view(values.astype(ml_dtypes.bfloat16))
        ours = view(mx.array(values, mx.bfloat16)) if view(values).shape != values.T.shape else None
        a = mx.array(theirs)
        assert a.dtype == mx.bfloat16
        assert_same(a, theirs)
        if ours is not None:
            assert np.array_equal(np.asarray(ours), theirs)
    adopted = mx.asarray(values.astype(ml_dtypes.bfloat16), copy=False)
    assert adopted.dtype == mx.bfloat16
    assert (adopted * 2).tolist() == (values * 2).tolist()
    assert np.asarray(mx.array(values, mx.bfloat16), np.float64).tolist() == values.tolist()


# ---- DLPack


class Producer:
    """Gives the capsule of another array, and remembers what it was asked for."""

    def __init__(self, source: Any, old: bool = False) -> None:
        self.source, self.old, self.asked = source, old, {}

    def __dlpack__(self, **asked: Any) -> object:
        if self.old and asked:
            raise TypeError("no such argument")
        self.asked = asked
        return self.source.__dlpack__(**asked)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


@pytest.mark.parametrize("old", [False, True], ids=["versioned", "old"])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "reversed", "broadcast", "offset"])
def test_dlpack_of_views(layout: str, old: bool) -> None:
    a, twin = layouts(np.arange(9, dtype=np.float32).reshape(3, 3))[layout]
    assert_same(mx.from_dlpack(Producer(a, old)), twin)
    if layout != "broadcast" or not old:
        assert np.array_equal(np.from_dlpack(a), twin)


def test_dlpack_versions_and_flags() -> None:
    a = mx.ones(3) + 0
    producer = Producer(a)
    assert mx.from_dlpack(producer).tolist() == [1, 1, 1]
    assert producer.asked["max_version"][0] == 1
    for version in ((1, 0), (1, 3), (2, 0)):
        assert '"dltensor_versioned"' in repr(a.__dlpack__(max_version=version))
    assert '"dltensor"' in repr(a.__dlpack__(max_version=(0, 8)))
    with pytest.raises(TypeError, match="max_version wants a tuple of two integers or None"):
        a.__dlpack__(max_version=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dl_device wants a tuple of two integers or None"):
        a.__dlpack__(dl_device="cpu")  # type: ignore[arg-type]
    assert '"dltensor"' in repr(a.__dlpack__(stream=None, dl_device=(1, 0)))


def test_dlpack_of_read_only_memory() -> None:
    """A broadcast and adopted bytes may not be written to: NumPy is told so."""
    shared = mx.broadcast_to(mx.array([1.0, 2.0]) + 0, (3, 2))
    out = np.from_dlpack(shared)
    assert out.strides[0] == 0
    fixed = mx.asarray(b"abc", copy=False)
    assert not np.from_dlpack(fixed).flags.writeable
    frozen = np.arange(3)
    frozen.flags.writeable = False
    assert mx.from_dlpack(frozen).tolist() == [0, 1, 2]
    assert not np.asarray(mx.from_dlpack(frozen)).flags.writeable
    writable = np.from_dlpack(mx.arange(3) + 0, copy=True)
    writable[0] = 9
    assert writable.tolist() == [9, 1, 2]


def test_dlpack_errors_of_the_producer_pass_through() -> None:
    class Broken:
        def __dlpack__(self, **_: Any) -> object:
            raise BufferError("nothing to give")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    with pytest.raises(BufferError, match="nothing to give"):
        mx.from_dlpack(Broken())
    with pytest.raises(TypeError, match="no dtype for DLPack type code"):
        mx.from_dlpack(Producer(np.zeros(2, np.complex128)))


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    for name in NUMPY_DTYPES:
        if name in ("uint16", "uint32", "uint64"):
            continue
        a = mx.array(sample(name), getattr(mx, name))
        t = torch.from_dlpack(a)
        assert str(t.dtype) == f"torch.{name.replace('bool_', 'bool')}"
        back = mx.from_dlpack(t)
        assert back.dtype == a.dtype
        assert mx.array_equal(back, a).item()
        assert mx.array_equal(mx.from_dlpack(t.T), a.T).item()
    t = torch.zeros(3)
    shared = mx.from_dlpack(t)
    t[0] = 5
    assert shared.tolist() == [5, 0, 0]
    assert mx.array(t).tolist() == [5, 0, 0]
    torch.from_dlpack(mx.from_dlpack(t))[1] = 7
    assert t.tolist() == [5, 7, 0]


# ---- pickle and copy

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_of_every_protocol(protocol: int) -> None:
    for name in NUMPY_DTYPES:
        a = mx.array(sample(name, (3, 3)), getattr(mx, name))
        for view in (a, a.T, a[::-1], a[1:, 1], mx.broadcast_to(a[0], (2, 3)), a[:0], a[1, 1]):
            again = pickle.loads(pickle.dumps(view, protocol))
            assert again.dtype == view.dtype
            assert_same(again, np.asarray(view))


THINGS = {
    "device": lambda: mx.Device(mx.cpu, 0),
    "another device": lambda: mx.Device(mx.gpu, 3),
    "stream": lambda: mx.default_stream(mx.cpu),
    "new stream": lambda: mx.new_stream(mx.cpu),
    "dtype": lambda: mx.bfloat16,
    "category": lambda: mx.floating,
    "kind": lambda: mx.cpu,
}


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_of_small_things(name: str, protocol: int) -> None:
    value = THINGS[name]()
    assert pickle.loads(pickle.dumps(value, protocol)) == value
    assert copy.copy(value) == value
    assert copy.deepcopy([value]) == [value]
    assert repr(pickle.loads(pickle.dumps(value, protocol))) == repr(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_of_limits(protocol: int) -> None:
    for value in (mx.finfo(mx.bfloat16), mx.finfo(mx.float64), mx.iinfo(mx.uint8)):
        for again in (pickle.loads(pickle.dumps(value, protocol)), copy.deepcopy(value)):
            assert (again.dtype, again.max, again.min) == (value.dtype, value.max, value.min)


def test_a_stream_of_another_process_is_refused() -> None:
    text = pickle.dumps(mx.default_stream(mx.cpu), 0)
    assert text.count(b"I0\n") == 2
    far = text.rpartition(b"I0\n")
    with pytest.raises(ValueError, match=r"wanted stream 250, this process has \d+"):
        pickle.loads(far[0] + b"I250\n" + far[2])


def test_copies_share_nothing_visible() -> None:
    nested = {"w": A + 0, "b": [A[0]]}
    for made in (copy.copy(nested["w"]), copy.deepcopy(nested)["w"]):
        made[0, 0] = -1
        assert short(made.dtype) == "float32"
    assert nested["w"].tolist() == A.tolist()
