"""Dtypes, categories, limits, devices, streams and memory counters."""

from __future__ import annotations

import threading

import lamina.core as mx
import ml_dtypes
import numpy as np
import pytest
from core.core_cases import FLOATS, INTEGERS, NUMPY_DTYPES


def test_dtypes_are_singletons() -> None:
    assert mx.array([1]).dtype is mx.int32
    assert len({getattr(mx, n) for n in NUMPY_DTYPES}) == len(NUMPY_DTYPES)
    assert repr(mx.float32) == "lamina.core.float32"
    assert str(mx.bool_) == "lamina.core.bool"
    assert mx.float32 != "float32"
    with pytest.raises(TypeError):
        mx.Dtype()  # type: ignore[call-arg]


@pytest.mark.parametrize("name", NUMPY_DTYPES)
def test_sizes(name: str) -> None:
    assert getattr(mx, name).size == np.dtype(NUMPY_DTYPES[name]).itemsize


@pytest.mark.parametrize("name", FLOATS)
def test_finfo(name: str) -> None:
    info, want = mx.finfo(getattr(mx, name)), ml_dtypes.finfo(NUMPY_DTYPES[name])
    for field in ("min", "max", "eps", "smallest_normal", "bits"):
        assert getattr(info, field) == float(getattr(want, field)), field
    assert info.dtype == getattr(mx, name)


@pytest.mark.parametrize("name", INTEGERS)
def test_iinfo(name: str) -> None:
    info, want = mx.iinfo(getattr(mx, name)), np.iinfo(name)
    assert (info.min, info.max, info.bits) == (want.min, want.max, want.bits)


def test_limits_of_wrong_dtypes() -> None:
    with pytest.raises(ValueError, match="wants a floating or complex dtype, got int32"):
        mx.finfo(mx.int32)
    with pytest.raises(ValueError, match="wants an integer dtype, got float32"):
        mx.iinfo(mx.float32)
    with pytest.raises(TypeError, match="wants Dtype, got str"):
        mx.finfo("float32")
    assert mx.finfo(mx.complex64).dtype == mx.float32


def test_categories() -> None:
    assert mx.issubdtype(mx.bool_, mx.generic)
    assert not mx.issubdtype(mx.bool_, mx.number)
    assert mx.issubdtype(mx.uint8, mx.unsignedinteger)
    assert mx.issubdtype(mx.int8, mx.integer)
    assert not mx.issubdtype(mx.int8, mx.unsignedinteger)
    assert mx.issubdtype(mx.complexfloating, mx.inexact)
    assert not mx.issubdtype(mx.inexact, mx.floating)
    assert not mx.issubdtype(mx.floating, mx.float32)
    with pytest.raises(TypeError, match="got int"):
        mx.issubdtype(1, mx.number)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("bool", ["bool_"]),
        ("integral", INTEGERS),
        ("real floating", FLOATS),
        ("complex floating", ["complex64"]),
        ("numeric", [*INTEGERS, *FLOATS, "complex64"]),
        (("bool", mx.int8), ["bool_", "int8"]),
        ((), []),
    ],
    ids=str,
)
def test_isdtype(kind: object, names: list[str]) -> None:
    assert [n for n in NUMPY_DTYPES if mx.isdtype(getattr(mx, n), kind)] == [
        n for n in NUMPY_DTYPES if n in names
    ]


def test_isdtype_of_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="unknown kind 'x'"):
        mx.isdtype(mx.float32, "x")


def test_result_type_and_can_cast() -> None:
    assert mx.result_type(mx.int32, mx.zeros(1, mx.float16), mx.bool_) == mx.float16
    assert mx.can_cast(mx.zeros(1, mx.int32), mx.float32)
    assert not mx.can_cast(mx.uint64, mx.int64)
    with pytest.raises(ValueError, match="at least one"):
        mx.result_type()
    with pytest.raises(TypeError, match="got list"):
        mx.result_type([mx.int32])


def test_devices() -> None:
    assert mx.default_device() == mx.Device(mx.cpu) == mx.Device(mx.cpu, 0) == mx.cpu
    assert mx.Device(mx.cpu, 1) != mx.Device(mx.cpu, 0)
    assert hash(mx.Device(mx.cpu)) == hash(mx.Device(mx.cpu, 0))
    assert mx.default_device().type == mx.DeviceType.cpu
    assert repr(mx.Device(mx.gpu, 1)) == "Device(gpu, 1)"
    assert (mx.device_count(mx.cpu), mx.device_count(mx.gpu)) == (1, 0)
    assert mx.is_available(mx.cpu)
    assert not mx.is_available(mx.gpu)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mx.set_default_device(mx.gpu),
        lambda: mx.default_stream(mx.gpu),
        lambda: mx.new_stream(mx.gpu),
        lambda: mx.add(1, 2, stream=mx.gpu),
        lambda: mx.ones(2).sum(stream=mx.Device(mx.cpu, 7)),
        lambda: mx.stream(mx.gpu),
        lambda: mx.device_info(mx.gpu),
    ],
)
def test_devices_that_are_not_there(call) -> None:
    with pytest.raises(ValueError, match="is not available"):
        call()


def test_wrong_types_for_devices() -> None:
    with pytest.raises(TypeError, match=r"set_default_device.*wants Device \| DeviceType, got str"):
        mx.set_default_device("cpu")
    with pytest.raises(TypeError, match="argument 'stream' wants StreamOrDevice, got int"):
        mx.add(1, 2, stream=1)
    with pytest.raises(TypeError, match="argument 'type' wants DeviceType"):
        mx.Device("cpu")


def test_streams() -> None:
    first, second = mx.new_stream(mx.cpu), mx.new_stream(mx.cpu)
    assert first != second
    assert first == first
    assert first.device == mx.cpu
    before = mx.default_stream(mx.cpu)
    with mx.stream(first) as context:
        assert isinstance(context, mx.StreamContext)
        assert mx.default_stream(mx.cpu) == first
        with mx.stream(second):
            assert mx.default_stream(mx.cpu) == second
        assert mx.default_stream(mx.cpu) == first
        a = mx.ones(1000) + 1
    assert mx.default_stream(mx.cpu) == before
    assert mx.sum(a, stream=second).item() == 2000
    mx.synchronize(first)
    mx.synchronize()


def test_stream_context_is_left_after_an_error() -> None:
    before = mx.default_stream(mx.cpu)
    with pytest.raises(ZeroDivisionError), mx.stream(mx.new_stream(mx.cpu)):
        1 / 0  # noqa: B018
    assert mx.default_stream(mx.cpu) == before


def test_default_stream_is_per_thread() -> None:
    seen = []
    with mx.stream(mx.new_stream(mx.cpu)):
        thread = threading.Thread(target=lambda: seen.append(mx.default_stream(mx.cpu)))
        thread.start()
        thread.join()
        assert seen[0].index == 0
        assert mx.default_stream(mx.cpu).index != 0


def test_thread_local_stream() -> None:
    s = mx.new_thread_local_stream(mx.cpu)
    assert repr(s).startswith("ThreadLocalStream(Device(cpu, 0)")
    assert mx.add(1, 2, stream=s).item() == 3
    results = []
    thread = threading.Thread(target=lambda: results.append(mx.add(1, 2, stream=s).item()))
    thread.start()
    thread.join()
    assert results == [3]


def test_device_info() -> None:
    info = mx.device_info()
    assert info == mx.device_info(mx.cpu)
    assert info["threads"] >= 1
    assert info["memory_size"] > 2**20
    assert info["architecture"]
    assert info["simd"] in {"sse2", "avx2", "avx3", "avx3_dl", "amx"}
    assert 2**13 <= info["l1d_cache_size"] < info["l2_cache_size"]
    assert info["l3_cache_size"] >= 0


def test_memory_counters() -> None:
    mx.synchronize()
    before = mx.get_active_memory()
    a = mx.ones((1 << 18,)) + 1
    mx.eval(a)
    assert mx.get_active_memory() - before >= a.nbytes
    assert mx.get_peak_memory() >= mx.get_active_memory()
    assert a.nbytes <= mx.get_array_buffer_size(a) <= 2 * a.nbytes
    assert mx.get_array_buffer_size(a, a) == mx.get_array_buffer_size(a)
    del a
    assert mx.get_active_memory() - before < 1 << 18
    mx.clear_cache()
    assert mx.get_cache_memory() == 0
    mx.reset_peak_memory()
    assert mx.get_peak_memory() == mx.get_active_memory()


def test_reaching_the_memory_limit_raises_and_the_next_call_works() -> None:
    limit = mx.set_memory_limit(mx.get_active_memory() + (1 << 20))
    try:
        with pytest.raises(MemoryError, match="limit"):
            mx.eval(mx.ones((1 << 20,)) + 1)
        assert (mx.ones(3) + 1).tolist() == [2, 2, 2]
    finally:
        mx.set_memory_limit(limit)
    assert mx.get_memory_limit() == limit


@pytest.mark.parametrize("name", ["set_memory_limit", "set_cache_limit", "set_wired_limit"])
def test_limits_must_not_be_negative(name: str) -> None:
    with pytest.raises(ValueError, match="not negative, got -1"):
        getattr(mx, name)(-1)
