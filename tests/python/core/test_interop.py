"""Exchange with NumPy, the buffer protocol, DLPack, pickle and copy."""

from __future__ import annotations

import array as std_array
import copy
import ctypes
import gc
import hashlib
import mmap
import pickle
import threading
import weakref
from typing import Any

import lamina.core as mx
import ml_dtypes
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES, assert_same, layouts, sample, short


@pytest.mark.parametrize("name", NUMPY_DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)], ids=str)
def test_round_trip(name: str, shape: tuple[int, ...]) -> None:
    values = sample(name, shape)
    a = mx.array(values, getattr(mx, name))
    assert a.dtype == getattr(mx, name)
    assert_same(a, values)
    assert_same(mx.array(np.asarray(a), getattr(mx, name)), values)
    assert a.tolist() == values.tolist()
    assert np.array_equal(np.array(a), values)


@pytest.mark.parametrize(
    ("numpy_dtype", "dtype"),
    [
        (np.float64, mx.float32),
        (np.complex128, mx.complex64),
        (np.longlong, mx.int64),
        (np.float16, mx.float16),
    ],
)
def test_default_dtypes(numpy_dtype: Any, dtype: mx.Dtype) -> None:
    assert mx.array(np.ones(2, numpy_dtype)).dtype == dtype
    assert mx.asarray(np.ones(2, numpy_dtype)).dtype == dtype


def test_float64_is_exact_on_request() -> None:
    values = np.array([0.1, 1 / 3])
    assert_same(mx.array(values, mx.float64), values)
    assert_same(mx.array(values, mx.float64) + values, values + values)


def test_strided_sources() -> None:
    values = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    for source in (
        values.T,
        values[:, ::-1],
        values[::2, :, 1:3],
        np.broadcast_to(values[0], (5, 3, 4)),
        values[:, 1],
    ):
        assert_same(mx.array(source), source)
    assert_same(mx.array(values.astype(np.complex128)[:, ::2]), values.astype(np.complex64)[:, ::2])


def test_array_is_a_copy() -> None:
    values = np.ones(3, np.float32)
    a = mx.array(values)
    b = mx.asarray(values)
    values[:] = 5
    assert a.tolist() == b.tolist() == [1, 1, 1]


def test_asarray_views_without_a_copy() -> None:
    a = mx.array([[1.0, 2.0], [3.0, 4.0]])
    view = np.asarray(a)
    assert view.ctypes.data == np.asarray(a).ctypes.data
    assert not view.flags.owndata
    view[0, 0] = 9
    assert a[0, 0].item() == 9


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "reversed", "offset"])
def test_layouts_cross_without_a_copy(layout: str) -> None:
    a, twin = layouts(np.arange(9, dtype=np.float32).reshape(3, 3))[layout]
    assert_same(a, twin)
    out = np.asarray(a)
    assert out.ctypes.data == np.asarray(a).ctypes.data
    view = memoryview(a)
    assert view.shape == twin.shape
    assert view.tolist() == twin.tolist()


def test_broadcast_memory_is_read_only() -> None:
    out = np.asarray(mx.broadcast_to(mx.array([1.0, 2.0]), (3, 2)))
    assert out.strides[0] == 0
    assert not out.flags.writeable
    with pytest.raises(TypeError, match="not writable"):
        ctypes.c_char.from_buffer(mx.broadcast_to(mx.array([1.0, 2.0]), (3, 2)))


def test_buffer_keeps_the_memory_alive() -> None:
    a = mx.arange(1000) + 1
    view = memoryview(a)
    out = np.asarray(a)
    del a
    gc.collect()
    mx.clear_cache()
    trash = [mx.eval(mx.zeros(1000) - 1) for _ in range(10)]
    del trash
    assert view[0] == out[0] == 1
    assert out.sum() == 500500


def test_in_place_update_leaves_exported_buffers_alone() -> None:
    a = mx.array([1.0, 2.0])
    before = np.asarray(a)
    a += 1
    assert before.tolist() == [1, 2]
    assert a.tolist() == [2, 3]


def test_buffer_flags() -> None:
    a = mx.arange(6).reshape(2, 3)
    assert memoryview(a).format == "i"
    assert memoryview(a).c_contiguous
    assert memoryview(a.T).f_contiguous
    with pytest.raises(BufferError, match="not row-contiguous"):
        hashlib.sha256(a.T)
    assert hashlib.sha256(a).digest() == hashlib.sha256(bytes(a)).digest()
    with pytest.raises(BufferError, match="bfloat16"):
        memoryview(mx.zeros(2, mx.bfloat16))


def test_bfloat16_crosses_through_ml_dtypes() -> None:
    values = np.array([1.5, -2, 0.1], ml_dtypes.bfloat16)
    a = mx.array(values)
    assert a.dtype == mx.bfloat16
    out = np.asarray(a)
    assert out.dtype == ml_dtypes.bfloat16
    assert_same(a, values)
    assert_same(mx.array(values[::-1]), values[::-1])
    assert mx.array(ml_dtypes.bfloat16(2)).dtype == mx.bfloat16


def test_array_method() -> None:
    a = mx.array([1, 2])
    assert a.__array__(np.float64).dtype == np.float64
    copied = a.__array__(copy=True)
    copied[0] = 9
    assert a.tolist() == [1, 2]
    with pytest.raises(ValueError, match="copy=False"):
        a.__array__(np.float64, copy=False)


def test_unsupported_sources() -> None:
    with pytest.raises(TypeError, match="format"):
        mx.array(np.zeros(2, ">f4"))
    with pytest.raises(TypeError, match="format"):
        mx.array(np.array(["a"]))
    with pytest.raises(TypeError, match="format"):
        mx.array(np.zeros(2, np.longdouble))


def test_standard_library_buffers() -> None:
    assert_same(mx.array(b"abc"), np.array([97, 98, 99], np.uint8))
    assert_same(mx.array(bytearray(b"ab")), np.array([97, 98], np.uint8))
    assert_same(mx.array(std_array.array("d", [1.5, 2])), np.array([1.5, 2], np.float32))
    assert_same(mx.array(std_array.array("l", [1, 2])), np.array([1, 2], np.int64))
    assert_same(mx.array(memoryview(std_array.array("h", [1, -2]))), np.array([1, -2], np.int16))


def test_adoption_shares_memory_and_keeps_the_owner() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    a = mx.asarray(values, copy=False)
    assert np.asarray(a).ctypes.data == values.ctypes.data
    values[0, 0] = 42
    assert a[0, 0].item() == 42
    b = mx.asarray(values.T[::-1], copy=False)
    assert_same(b, values.T[::-1])

    class Owner(np.ndarray):
        pass

    owner = np.ones(4, np.float32).view(Owner)
    alive = weakref.ref(owner)
    c = mx.asarray(owner, copy=False)
    view = c[1:]
    del owner, c
    gc.collect()
    assert alive() is not None
    mx.eval(view)
    del view
    gc.collect()
    assert alive() is None


def test_adoption_of_read_only_memory() -> None:
    a = mx.asarray(b"abc", copy=False)
    assert a.tolist() == [97, 98, 99]
    assert not np.asarray(a).flags.writeable
    b = a + 1
    assert b.tolist() == [98, 99, 100]
    a[0] = 0
    assert a.tolist() == [0, 98, 99]


def test_adoption_refuses_what_needs_a_copy() -> None:
    for source in ([1, 2], 1.5, np.ones(2, np.complex128)):
        with pytest.raises(ValueError, match="without a copy"):
            mx.asarray(source, copy=False)
    with pytest.raises(ValueError, match="without a copy"):
        mx.asarray(np.ones(2), mx.float32, copy=False)
    packed = np.zeros(2, np.dtype([("a", "i1"), ("b", "f4")]))["b"]
    with pytest.raises(ValueError, match="without a copy"):
        mx.asarray(packed, copy=False)
    assert mx.array(packed).tolist() == [0, 0]


def test_asarray_of_arrays() -> None:
    a = mx.array([1.0, 2.0])
    assert np.asarray(mx.asarray(a)).ctypes.data == np.asarray(a).ctypes.data
    assert np.asarray(mx.asarray(a, copy=True)).ctypes.data != np.asarray(a).ctypes.data
    with pytest.raises(ValueError, match="without a copy"):
        mx.asarray(a, mx.int32, copy=False)


def test_owners_are_released_from_other_threads() -> None:
    class Owner(np.ndarray):
        pass

    owners = [np.full(1000, i, np.float32).view(Owner) for i in range(20)]
    alive = [weakref.ref(o) for o in owners]
    results: list[float] = []

    def work(values: np.ndarray) -> None:
        a = mx.asarray(values, copy=False)
        results.append((a * 2).sum().item())

    threads = [threading.Thread(target=work, args=(o,)) for o in owners]
    del owners
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    del threads, t
    mx.eval(mx.zeros(1) + 1)
    gc.collect()
    assert sorted(results) == [2000.0 * i for i in range(20)]
    assert [w() for w in alive] == [None] * 20


def test_mapped_file(tmp_path: Any) -> None:
    path = tmp_path / "data"
    path.write_bytes(np.arange(8, dtype=np.float32).tobytes())
    with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
        a = mx.asarray(np.frombuffer(m, np.float32), copy=False)
        assert (a + 1).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
        del a
        gc.collect()


@pytest.mark.parametrize("name", [n for n in NUMPY_DTYPES if n != "bfloat16"])
def test_dlpack_to_and_from_numpy(name: str) -> None:
    values = sample(name)
    a = mx.from_dlpack(values)
    assert_same(a, values)
    assert_same(mx.array(np.from_dlpack(a), getattr(mx, name)), values)
    assert a.__dlpack_device__() == (1, 0)


def test_dlpack_shares_and_copies() -> None:
    a = mx.arange(6).reshape(2, 3) + 0
    out = np.from_dlpack(a)
    assert out.ctypes.data == np.asarray(a).ctypes.data
    assert np.from_dlpack(a, copy=True).ctypes.data != out.ctypes.data
    values = np.arange(3)
    shared = mx.from_dlpack(values)
    assert np.asarray(shared).ctypes.data == values.ctypes.data
    assert np.asarray(mx.from_dlpack(values, copy=True)).ctypes.data != values.ctypes.data


def test_dlpack_capsules() -> None:
    a = mx.ones(3) + 0
    assert '"dltensor"' in repr(a.__dlpack__())
    assert '"dltensor_versioned"' in repr(a.__dlpack__(max_version=(1, 0)))
    with pytest.raises(BufferError, match="CPU"):
        a.__dlpack__(dl_device=(2, 0))
    with pytest.raises(TypeError, match="DLPackCompatible, got list"):
        mx.from_dlpack([1])

    class Stale:
        def __init__(self) -> None:
            self.capsule = a.__dlpack__()

        def __dlpack__(self, **_: Any) -> object:
            return self.capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    stale = Stale()
    mx.from_dlpack(stale)
    with pytest.raises(TypeError, match="fresh DLPack capsule"):
        mx.from_dlpack(stale)


def test_dlpack_memory_outlives_its_array() -> None:
    out = np.from_dlpack(mx.arange(100) * 2)
    gc.collect()
    mx.clear_cache()
    assert out.sum() == 9900


def test_read_only_memory_is_flagged_or_copied() -> None:
    a = mx.asarray(b"abc", copy=False)
    assert not np.from_dlpack(a).flags.writeable
    with pytest.raises(BufferError, match="read-only"):
        a.__dlpack__(copy=False)
    assert '"dltensor"' in repr(a.__dlpack__())


class WithMethod:
    """An object that says itself which array it is."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __lamina_array__(self) -> object:
        return self.value


class WithArray:
    """An object with NumPy's conversion method."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.array([1.5, 2.5], np.float32)


def test_array_likes() -> None:
    a = mx.array([1, 2])
    assert_same(mx.array(WithMethod(a)), np.array([1, 2], np.int32))
    assert_same(a + WithMethod(a), np.array([2, 4], np.int32))
    assert_same(mx.exp(WithMethod(mx.zeros(2))), np.ones(2, np.float32))
    assert_same(mx.array(WithArray()), np.array([1.5, 2.5], np.float32))
    assert_same(mx.array(mx.ArrayLike(WithMethod(a))) * 2, np.array([2, 4], np.int32))
    with pytest.raises(TypeError, match="wants an object with an __lamina_array__"):
        mx.ArrayLike(1)
    with pytest.raises(TypeError, match="must return an array, got str"):
        mx.array(WithMethod("x"))


@pytest.mark.parametrize("name", NUMPY_DTYPES)
@pytest.mark.parametrize("protocol", [2, 5])
def test_pickle(name: str, protocol: int) -> None:
    values = sample(name)
    a = mx.array(values, getattr(mx, name))
    again = pickle.loads(pickle.dumps(a.T, protocol))
    assert_same(again, values.T)
    assert short(again.dtype) == short(a.dtype)


def test_pickle_of_other_objects() -> None:
    for value in (mx.float32, mx.bool_, mx.cpu, mx.exp, mx.floating, mx.random.uniform):
        assert pickle.loads(pickle.dumps(value)) is value
    assert copy.deepcopy({"f": mx.exp, "t": mx.bfloat16}) == {"f": mx.exp, "t": mx.bfloat16}


def test_copies_are_independent() -> None:
    a = mx.array([1, 2])
    for b in (copy.copy(a), copy.deepcopy(a)):
        assert b is not a
        b[0] = 5
        assert a.tolist() == [1, 2]


def test_damaged_state_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot have 3 bytes"):
        mx.array(0).__setstate__(("int32", (1,), b"abc"))
    with pytest.raises(ValueError, match="pickled"):
        mx.array(0).__setstate__("x")


def test_weak_references() -> None:
    a = mx.array([1])
    alive = weakref.ref(a)
    assert alive() is a
    del a
    assert alive() is None


def test_subclasses() -> None:
    class Special(mx.array):
        pass

    s = Special([1, 2], dtype=mx.float32)
    assert isinstance(s, mx.array)
    assert type(s) is Special
    assert_same(s + 1, np.array([2, 3], np.float32))
    assert mx.sum(s).item() == 3


def test_numpy_scalars_leave_arithmetic_to_the_array() -> None:
    a = mx.array([1.0, 2.0])
    for scalar in (np.float32(2), np.float64(2), np.int64(2)):
        assert isinstance(scalar * a, mx.array)
        assert (scalar * a).dtype == mx.float32
        assert (scalar - a).tolist() == [1, 0]
    assert isinstance(np.ones(2) + a, np.ndarray)
    assert isinstance(a + np.ones(2), mx.array)


def test_numpy_functions_take_arrays() -> None:
    a = mx.array([1.0, 4.0])
    assert np.sqrt(a).tolist() == [1, 2]
    assert np.concatenate([a, a]).shape == (4,)
    assert float(np.dot(a, a)) == 17
    np.testing.assert_array_equal(a, np.array([1, 4], np.float32))


def test_format_of_one_number() -> None:
    """As Python formats the number; other arrays print."""
    assert f"{mx.array(1.5)}" == "1.5"
    assert f"{mx.array(3)} {mx.array(True)} {mx.array(1 + 2j)}" == "3 True (1+2j)"
    assert f"{mx.array(1 / 3):.2f}" == "0.33"
    assert f"{mx.array([1.5])}" == "array([1.5], dtype=float32)"
