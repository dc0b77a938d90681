"""Ragged ends beside forbidden memory, sizes past 32 bits, NaN anywhere, threads, bad arguments."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lamina.core as mx
import ml_dtypes
import numpy as np
import pytest

# One function of each family of kernels, with its NumPy twin; all take one array.
FAMILIES: dict[str, tuple[Callable[[Any], Any], Callable[[np.ndarray], Any]]] = {
    "unary": (mx.sqrt, np.sqrt),
    "binary": (lambda a: a + a, lambda a: a + a),
    "chain": (lambda a: mx.maximum(a * 2 - 1, 0), lambda a: np.maximum(a * 2 - 1, 0).astype(a.dtype)),
    "cast": (lambda a: a.astype(mx.int32), lambda a: a.astype(np.int32)),
    "compare": (lambda a: a > 3, lambda a: a > 3),
    "max": (mx.max, np.max),
    "argmax": (mx.argmax, lambda a: np.argmax(a).astype(np.uint32)),
    "sum": (mx.sum, lambda a: np.sum(a, dtype=a.dtype)),
    "cumsum": (mx.cumsum, lambda a: np.cumsum(a, dtype=a.dtype)),
    "sort": (mx.sort, np.sort),
    "reversed": (lambda a: a[::-1] + 0, lambda a: a[::-1]),
    "stepped": (lambda a: a[::2] + 0, lambda a: a[::2]),
    "gather": (lambda a: a[mx.arange(a.size)], lambda a: a),
    "concatenate": (lambda a: mx.concatenate([a, a]), lambda a: np.concatenate([a, a])),
    "inner": (lambda a: a @ a, lambda a: a @ a),
    "outer": (lambda a: a[:, None] * a[None], lambda a: a[:, None] * a[None]),
    "matrix": (
        lambda a: mx.broadcast_to(a, (3, a.size)) @ a[:, None],
        lambda a: np.broadcast_to(a, (3, a.size)) @ a[:, None],
    ),
}


class Guarded:
    """Pages of which the last may not be touched: arrays that end before it show reads past their end."""

    def __init__(self, pages: int) -> None:
        self._map = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        self._bytes = (ctypes.c_ubyte * len(self._map)).from_buffer(self._map)
        self._usable = pages * mmap.PAGESIZE
        self._protect = ctypes.CDLL(None, use_errno=True).mprotect
        self._last = ctypes.c_void_p(ctypes.addressof(self._bytes) + self._usable)
        assert self._protect(self._last, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0

    def array(self, values: np.ndarray) -> np.ndarray:
        """The values, their last byte before the forbidden page."""
        flat = np.frombuffer(self._map, np.uint8, values.nbytes, self._usable - values.nbytes)
        out = flat.view(values.dtype).reshape(values.shape)
        out[...] = values
        return out


# One process-wide guard: the memory of adopted arrays must outlive them.
GUARD = Guarded(1)


def small(n: int, dtype: str) -> np.ndarray:
    """Whole numbers whose sums are exact in every dtype and order."""
    return (np.arange(n) * 7 % 5).astype(dtype)


# Small integers are computed in other dtypes than in NumPy where these ops are concerned.
WIDENED = {"unary", "sum", "cumsum", "inner", "outer", "matrix", "chain"}
TAILS = [(f, t) for f in FAMILIES for t in ("float32", "float16", "float64", "uint8")]


@pytest.mark.parametrize(("family", "dtype"), [(f, t) for f, t in TAILS if t != "uint8" or f not in WIDENED])
def test_every_tail_before_a_forbidden_page(family: str, dtype: str) -> None:
    ours, theirs = FAMILIES[family]
    for n in range(1, 131):
        values = small(n, dtype)
        adopted = mx.asarray(GUARD.array(values), copy=False)
        got, want = np.asarray(ours(adopted)), np.asarray(theirs(values))
        if family == "unary":
            np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps, err_msg=str(n))
        else:
            np.testing.assert_array_equal(got, want, err_msg=str(n))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_weights_before_a_forbidden_page(bits: int) -> None:
    """Quantized products read words of codes, which end where the page begins."""
    for rows in (1, 2, 3, 5, 8, 13):
        w = mx.array(np.sin(np.arange(rows * 64, dtype=np.float32)).reshape(rows, 64))
        codes, scales, biases = mx.quantize(w, 64, bits)
        x = mx.array(np.cos(np.arange(64, dtype=np.float32))[None])
        guarded = mx.asarray(GUARD.array(np.array(codes)), copy=False)
        got = mx.quantized_matmul(x, guarded, scales, biases, True, 64, bits)
        want = x @ mx.dequantize(codes, scales, biases, 64, bits).T
        bound = 64 * np.finfo(np.float32).eps * 64
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=0, atol=bound)


# ---- sizes past 32 bits, in memory of one element

HUGE = 2**31 + 3
HUGE_CASES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "size": (lambda a: a.size, HUGE),
    "last": (lambda a: a[-1].item(), 1),
    "index": (lambda a: a[HUGE - 1].item(), 1),
    "gather": (lambda a: a[mx.array([HUGE - 1, -HUGE, 2**31])].tolist(), [1, 1, 1]),
    "tail": (lambda a: (a[2**31 :] + a[2**31 :]).tolist(), [2, 2, 2]),
    "reversed": (lambda a: a[::-1][:3].tolist(), [1, 1, 1]),
    "stepped": (lambda a: a[:: 2**30].size, 3),
    "reshape": (
        lambda a: mx.reshape(mx.broadcast_to(a[:1], (2**16, 2**16)), (2**8, -1)).shape,
        (2**8, 2**24),
    ),
    "split": (lambda a: [p.size for p in mx.split(a, [2**31])], [2**31, 3]),
    "nbytes": (lambda a: mx.broadcast_to(a[:1].astype(mx.float32), (HUGE,)).nbytes, HUGE * 4),
}


@pytest.mark.parametrize("name", HUGE_CASES)
def test_more_elements_than_32_bits_count(name: str) -> None:
    call, want = HUGE_CASES[name]
    assert call(mx.broadcast_to(mx.array(1, mx.uint8), (HUGE,))) == want


def test_reductions_of_more_elements_than_32_bits_count() -> None:
    """Sums count past 2^31."""
    a = mx.broadcast_to(mx.array(1, mx.uint8), (HUGE,))
    assert mx.sum(a).item() == HUGE
    assert mx.all(a).item() is True


@pytest.mark.parametrize(
    "call",
    [
        lambda: mx.zeros((2**40, 2**40)),
        lambda: mx.broadcast_to(mx.array(1.0), (2**62, 4)),
        lambda: mx.ones((2**31, 2**31, 2**31), mx.uint8),
        lambda: mx.random.uniform(shape=(2**62, 8)),
        lambda: mx.eye(2**40),
        lambda: mx.tile(mx.ones(8), 2**62),
        lambda: mx.repeat(mx.ones(8), 2**62),
        lambda: mx.pad(mx.ones(8), 2**63 - 1),
        lambda: mx.ones((2**33,))[:, None] * mx.ones((2**33,)),
    ],
)
def test_sizes_past_64_bits_raise(call: Callable[[], mx.array]) -> None:
    with pytest.raises((ValueError, MemoryError)):
        mx.eval(call())


# ---- NaN and infinity at every kind of place

EXTREMES: dict[str, tuple[Callable[[Any], Any], Callable[[np.ndarray], Any]]] = {
    "max": (mx.max, np.max),
    "min": (mx.min, np.min),
    "sum": (mx.sum, np.sum),
    "prod": (mx.prod, np.prod),
    "mean": (mx.mean, np.mean),
    "any": (lambda a: mx.any(mx.isnan(a)), lambda a: np.isnan(a).any()),
    "all": (lambda a: mx.all(mx.isfinite(a)), lambda a: np.isfinite(a).all()),
    "maximum": (lambda a: mx.maximum(a, 0), lambda a: np.maximum(a, 0)),
    "clip": (lambda a: mx.clip(a, -1, 2), lambda a: np.clip(a, -1, 2)),
    "abs": (mx.abs, np.abs),
    "cumsum": (mx.cumsum, np.cumsum),
    "sort": (mx.sort, np.sort),
    "where": (lambda a: mx.where(mx.isnan(a), 9, a), lambda a: np.where(np.isnan(a), np.float32(9), a)),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_nan_and_infinity_at_every_place(name: str) -> None:
    """At the first, a middle, the last place and in the tail, for all lengths; the rest are ones."""
    ours, theirs = EXTREMES[name]
    for n in range(1, 301):
        for at in {0, n // 2, n - 1, n - 1 - n % 8 // 2}:
            value = (np.nan, np.inf, -np.inf)[(n + at) % 3]
            x = np.ones(n, np.float32)
            x[at] = value
            got = np.asarray(ours(mx.array(x)))
            np.testing.assert_array_equal(got, theirs(x), err_msg=f"{value} at {at} of {n}")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_nan_in_16_bit_rows(dtype: str) -> None:
    for n in range(1, 131):
        x = np.ones(n, getattr(ml_dtypes, dtype, None) or np.float16)
        x[n - 1] = np.nan
        assert np.isnan(float(mx.max(mx.array(x)).item()))
        assert mx.isnan(mx.softmax(mx.array(x))).tolist() == [True] * n


# ---- threads


def test_threads_that_compile_evaluate_save_load_and_free(tmp_path: Path) -> None:
    """Each thread gets what it would get alone."""
    shared = mx.array(np.arange(64, dtype=np.float32))
    failures: list[BaseException] = []

    def work(me: int) -> None:
        try:
            step = mx.compile(lambda x: mx.sum(x * me) + me)
            file = str(tmp_path / f"{me}.npy")
            for turn in range(25):
                assert step(shared).item() == 2016 * me + me
                a = mx.ones((me + 1, turn + 3)) * me
                mx.save(file, a)
                assert mx.array_equal(mx.load(file), a).item()
                grad = mx.grad(lambda x: mx.sum(x * x))(shared)
                assert grad[me].item() == 2 * me
                if turn % 5 == me % 5:
                    mx.clear_cache()
                del a, grad
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


# ---- processes that must end by themselves

ENDINGS = {
    "limit with two streams": """
        mx.set_cache_limit(0)
        mx.set_memory_limit(2**26)
        streams = [mx.new_stream(mx.cpu) for _ in range(2)]
        caught = 0
        for i in range(6):
            a = [mx.ones((2**22,), stream=s) for s in streams]
            b = [mx.sort(x + i, stream=s) for x, s in zip(a, streams)]
            try:
                mx.async_eval(*b)
                big = mx.ones((2**26,)) + i
                mx.eval(big, *b)
            except MemoryError:
                caught += 1
        assert caught == 6
    """,
    "arrays freed on a thread while it waits": """
        import threading
        def work():
            for i in range(50):
                x = mx.sum(mx.ones((300, 300)) @ mx.ones((300, 300)))
                mx.async_eval(x)
                del x
        threads = [threading.Thread(target=work) for _ in range(16)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    """,
    "a callback that frees": """
        import gc
        @mx.custom_function
        def f(x):
            return x * 2
        @f.vjp
        def f_vjp(primals, cotangents, outputs):
            gc.collect()
            return (cotangents * 2,)
        for _ in range(20):
            assert mx.grad(lambda x: f(x).sum())(mx.ones(3)).tolist() == [2, 2, 2]
    """,
    "fork after work": """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        mx.eval(mx.ones((512, 512)) @ mx.ones((512, 512)))
        child = os.fork()
        if child == 0:
            try:
                mx.eval(mx.ones((64, 64)) @ mx.ones((64, 64)))
            except RuntimeError:
                pass
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
    """,
    "out of memory, then exit": """
        mx.set_memory_limit(2**24)
        x = mx.ones((2**26,)) + 1
        try:
            mx.eval(x)
        except MemoryError:
            x = mx.ones((2**26,)) * 2
            mx.async_eval(mx.ones(4) + 1)
        else:
            raise SystemExit("no error")
    """,
    "work in flight at exit": """
        for _ in range(20):
            mx.async_eval(mx.ones((400, 400)) @ mx.ones((400, 400)))
    """,
}


def ending(code: str, arguments: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs a program; what hangs fails there and says where, by its own watchdog."""
    lines = code.splitlines()
    indent = min((len(x) - len(x.lstrip()) for x in lines if x.strip()), default=0)
    program = "\n".join(["import faulthandler", "faulthandler.dump_traceback_later(300, exit=True)"])
    program += "\nimport lamina.core as mx\n" + "\n".join(x[indent:] for x in lines)
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("name", ENDINGS)
def test_process_ends(name: str) -> None:
    done = ending(ENDINGS[name])
    assert (done.returncode, done.stderr) == (0, "")


BAD_ARGUMENTS = """
    import inspect, random, sys
    rng = random.Random(int(sys.argv[1]))
    mx.set_memory_limit(2**31)
    skip = set("set_memory_limit set_cache_limit set_wired_limit synchronize clear_streams load save".split())
    skip |= set("savez savez_compressed save_safetensors save_gguf export_function exporter".split())
    skip |= set("export_to_dot export_to_svg import_function disable_compile enable_compile".split())
    skip |= set("set_default_device set_default_stream set_printoptions printoptions".split())
    values = [None, -1, 0, 1, 3, 2**31, -2**40, 2**63, 1.5, float("nan"), float("inf"), 1j, "x", b"", (), []]
    values += [[[]], [1, [2]], (0, 0), (-1,), (2**40,), {}, object(), object, mx.float32, mx.cpu, True]
    values += [slice(1), ..., len, "ij,jk->ik"]
    def array():
        shape = [rng.choice([0, 1, 2, 3, 7]) for _ in range(rng.randrange(5))]
        names = "float32 int32 bool_ uint8 complex64 bfloat16 float64 uint32".split()
        dtype = getattr(mx, rng.choice(names))
        a = mx.ones(shape).astype(dtype)
        return a[..., ::-1] if shape and rng.random() < 0.3 else a
    def flatten(x):
        if isinstance(x, mx.array):
            # What a wrong argument makes huge is not worth its memory.
            return [x] if x.size < 2**20 else []
        return [y for v in x for y in flatten(v)] if isinstance(x, (list, tuple)) else []
    scopes = [mx, mx.fast, mx.fft, mx.linalg, mx.random]
    functions = [getattr(s, n) for s in scopes for n in sorted(dir(s)) if n[0] != "_" and n not in skip]
    functions = [f for f in functions if callable(f) and not inspect.isclass(f)]
    methods = [getattr(mx.array, n) for n in sorted(dir(mx.array)) if n[0] != "_"]
    functions += [m for m in methods if callable(m)]
    assert len(functions) > 250, len(functions)
    raised = 0
    for turn in range(3000):
        f = rng.choice(functions)
        args = [array() if rng.random() < 0.6 else rng.choice(values) for _ in range(rng.randrange(5))]
        told = [(a.shape, a.dtype) if isinstance(a, mx.array) else a for a in args]
        print(f.__name__, told, file=sys.stderr, flush=True)
        try:
            mx.eval(*flatten(f(*args)))
        except (TypeError, ValueError, IndexError, OverflowError, MemoryError, RuntimeError, AttributeError):
            raised += 1
    assert raised > 1000, raised
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_wrong_arguments_raise_and_never_end_the_process(seed: int) -> None:
    done = ending(BAD_ARGUMENTS, (str(seed),))
    assert done.returncode == 0, f"exit {done.returncode} after {done.stderr[-900:]}"
