"""Bits: no result depends on the number of threads, and no row on the batch that it is in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.table_bits import cases, computing, digest, leaves, normal, whole
from core.test_gguf import BLOCK_BYTES, ordinary_blocks

THREADS = (1, 2, 7)


def started(threads: int) -> subprocess.Popen[str]:
    """A process that computes all cases with so many threads."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment["LAMINA_NUM_THREADS"] = str(threads)
    return subprocess.Popen(
        [sys.executable, "-m", "core.table_bits"], stdout=subprocess.PIPE, text=True, env=environment
    )


def test_every_computing_row_has_a_case() -> None:
    assert {op for op, _, _ in cases()} - {"fused"} == computing()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    processes = [started(n) for n in THREADS]
    found = [json.loads(p.communicate()[0]) for p in processes]
    assert [p.returncode for p in processes] == [0] * len(THREADS)
    assert [f["threads"] for f in found] == list(THREADS)
    one, *others = (f["hashes"] for f in found)
    for threads, other in zip(THREADS[1:], others, strict=True):
        differing = [label for label in one if one[label] != other[label]]
        assert differing == [], f"1 and {threads} threads"


def test_hashes_see_single_bits() -> None:
    x = np.ones(1000, np.float32)
    y = x.copy()
    y[777] = np.nextafter(x[777], np.float32(2))
    assert digest(mx.array(x)) == digest([mx.array(x)])
    assert digest(mx.array(x)) != digest(mx.array(y))
    assert digest(mx.array(x)) != digest(mx.array(x.reshape(10, 100)))


# --- rows of a batch -------------------------------------------------------------------------------------

ROWS = 37
LENGTH = 2053


@pytest.fixture
def invariant() -> Iterator[None]:
    """Products of float matrices that are invariant, for one test."""
    before = mx.set_batch_invariant(True)
    yield
    mx.set_batch_invariant(before)


def bits(x: Any) -> list[bytes]:
    return [np.ascontiguousarray(np.asarray(a)).tobytes() for a in leaves(x)]


def assert_rows_alone(f: Callable[[mx.array], Any], x: mx.array, sizes: tuple[int, ...] = (1, 2, 7)) -> None:
    """Rows from several places give the same bits as in the batch, alone and in smaller batches."""
    batch = f(x)
    parts = list(leaves(batch))
    for count in sizes:
        for first in {0, (len(x) - count) // 2, len(x) - count}:
            got = f(x[first : first + count])
            assert bits(got) == bits([p[first : first + count] for p in parts]), f"{count} from {first}"


EVERY_ROW: dict[str, Callable[[mx.array], Any]] = {
    "sum": lambda x: mx.sum(x, axis=-1),
    "prod": lambda x: mx.prod(1 + x / 100, axis=-1),
    "mean, var": lambda x: [mx.mean(x, axis=-1), mx.var(x, axis=-1)],
    "sum of squares": lambda x: mx.sum(x * x, axis=-1),
    "logsumexp": lambda x: mx.logsumexp(x, axis=-1),
    "softmax": lambda x: mx.softmax(x, axis=-1),
    "rms norm": lambda x: mx.fast.rms_norm(x, mx.ones((x.shape[-1],)), 1e-5),
    "layer norm": lambda x: mx.fast.layer_norm(x, None, None, 1e-5),
    "norm by hand": lambda x: (x - x.mean(-1, keepdims=True)) * mx.rsqrt(x.var(-1, keepdims=True) + 1e-5),
    "cumsum": lambda x: mx.cumsum(x, axis=-1),
    "sort": lambda x: [mx.sort(x, axis=-1), mx.argsort(x, axis=-1)],
    "fft": lambda x: mx.fft.rfft(x),
    "compiled": mx.compile(lambda x: mx.exp(x - mx.max(x, axis=-1, keepdims=True)) * mx.sigmoid(x)),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("what", EVERY_ROW)
def test_rows_of_everything_but_products_are_always_invariant(what: str, dtype: str) -> None:
    x = normal(1, ROWS, LENGTH, dtype=dtype)
    assert_rows_alone(EVERY_ROW[what], mx.array(np.asarray(x.astype(mx.float32))) if what == "fft" else x)


@pytest.mark.parametrize("what", ["softmax", "norm by hand"])
def test_results_beyond_the_caches_are_those_of_small_batches(what: str) -> None:
    """Of 33 MiB, which are written past the caches, and of pieces that are not; rows do not end at lines."""
    x = normal(6, 4201, LENGTH)
    pieces = [bits(EVERY_ROW[what](x[first : first + 600]))[0] for first in range(0, len(x), 600)]
    assert bits(EVERY_ROW[what](x)) == [b"".join(pieces)]


def test_long_rows_are_invariant() -> None:
    """Rows of several pieces, one of which alone is cut between threads."""
    x = normal(2, 3, 300_007)
    for f in (EVERY_ROW["sum"], EVERY_ROW["softmax"], EVERY_ROW["norm by hand"]):
        assert_rows_alone(f, x, (1, 2))


@pytest.mark.parametrize(
    ("queries", "keys", "mask"), [(1, 1500, None), (65, 65, "causal"), (5, 700, "causal")]
)
def test_attention_is_invariant(queries: int, keys: int, mask: str | None) -> None:
    sequences = normal(3, 9, 8, queries + 2 * keys, 64)

    def attend(x: mx.array) -> mx.array:
        q, k, v = mx.split(x, [queries, queries + keys], axis=2)
        return mx.fast.scaled_dot_product_attention(q, k[:, ::2], v[:, ::2], scale=0.125, mask=mask)

    assert_rows_alone(attend, sequences, (1, 4))


@pytest.mark.parametrize("bits_of_code", [2, 3, 4, 5, 6, 8])
def test_products_with_rounded_activations_are_invariant(bits_of_code: int) -> None:
    parts = mx.quantize(normal(4, 261, 1024), bits=bits_of_code)
    assert_rows_alone(
        lambda x: mx.quantized_matmul(x, *parts, bits=bits_of_code, activations="int8"), normal(5, ROWS, 1024)
    )


# --- the switch ------------------------------------------------------------------------------------------

FLOATS = ("float32", "float64", "float16", "bfloat16", "complex64")
SHAPES = ((700, 261), (2053, 16), (9, 1100), (1029, 1))


def products(dtype: str, k: int, n: int) -> dict[str, Callable[[mx.array], mx.array]]:
    """Products of rows of length k with matrices in several layouts."""
    w, wt, wide = (normal(6, *s, dtype=dtype) for s in ((k, n), (n, k), (2 * k, 2 * n)))
    return {
        "plain": lambda x: x @ w,
        "transposed": lambda x: x @ wt.T,
        "strided": lambda x: x @ wide[::2, ::2],
        "addmm": lambda x: mx.addmm(w[0], x, w, 0.5, 2.0),
        "compiled": mx.compile(lambda x: mx.abs(x @ wt.T) + 1),
        "row by row of a batch": lambda x: (x[:, None] @ w[None])[:, 0],
    }


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.usefixtures("invariant")
def test_products_are_invariant_with_the_switch(dtype: str, shape: tuple[int, int]) -> None:
    for f in products(dtype, *shape).values():
        assert_rows_alone(f, normal(7, 61, shape[0], dtype=dtype), (1, 2, 7, 16, 17))


@pytest.mark.usefixtures("invariant")
def test_products_of_views_of_rows_are_invariant() -> None:
    x, w = normal(8, 700, 61).T, normal(9, 300, 700)
    assert_rows_alone(lambda rows: rows @ w.T, x)
    assert_rows_alone(lambda rows: rows[:, ::-1] @ w.T, x)


@pytest.mark.parametrize("mode", ["affine", "mxfp4", "mxfp8", "nvfp4"])
@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.usefixtures("invariant")
def test_exact_quantized_products_are_invariant_with_the_switch(mode: str, transpose: bool) -> None:
    for code_bits in (2, 3, 4, 5, 6, 8) if mode == "affine" else (None,):
        rows, cols = (261, 1024) if transpose else (1024, 256)
        parts = mx.quantize(normal(10, rows, cols), bits=code_bits, mode=mode)
        for dtype in ("float32", "bfloat16"):

            def multiply(x: mx.array, parts: Any = parts, b: Any = code_bits) -> mx.array:
                return mx.quantized_matmul(x, *parts, transpose=transpose, bits=b, mode=mode)

            assert_rows_alone(multiply, normal(11, ROWS, 1024, dtype=dtype), (1, 2, 8, 9))


@pytest.mark.parametrize("mode", ["q4_0", "q4_k", "q6_k", "q8_0", "iq4_xs"])
@pytest.mark.usefixtures("invariant")
def test_products_with_blocks_are_invariant_with_the_switch(mode: str) -> None:
    blocks = mx.array(ordinary_blocks(mode, 131, 512 // BLOCK_BYTES[mode][0], seed=21))
    x = normal(22, ROWS, 512, dtype="bfloat16")
    assert_rows_alone(lambda rows: mx.quantized_matmul(rows, blocks, mode=mode), x, (1, 2, 8, 9))


@pytest.mark.usefixtures("invariant")
def test_gathered_products_are_invariant_with_the_switch() -> None:
    x, experts, which = normal(12, ROWS, 1, 300), normal(13, 5, 300, 70), whole(14, 5, ROWS, dtype="uint32")
    parts = mx.quantize(normal(15, 5, 70, 320))
    both = mx.concatenate([x, which.astype(mx.float32).reshape(-1, 1, 1)], axis=-1)

    def gathered(rows: mx.array) -> mx.array:
        index = rows[:, 0, -1].astype(mx.uint32)
        padded = mx.pad(rows[..., :-1], [(0, 0), (0, 0), (0, 20)])
        exact = mx.gather_qmm(padded, *parts, rhs_indices=index)
        return mx.concatenate([mx.gather_mm(rows[..., :-1], experts, rhs_indices=index), exact], axis=-1)

    assert_rows_alone(gathered, both)


@pytest.mark.parametrize(
    ("weight", "options"),
    [
        ((48, 3, 3, 32), {"padding": 1}),
        ((48, 3, 3, 32), {"stride": 2}),
        ((40, 1, 1, 32), {}),
        ((4, 1, 1, 32), {}),
        ((3, 3, 3, 32), {}),
        ((32, 3, 3, 1), {"groups": 32}),
        ((16, 3, 3, 8), {"groups": 4}),
        ((16, 1, 1, 8), {"groups": 4}),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
@pytest.mark.usefixtures("invariant")
def test_images_are_invariant_with_the_switch(
    dtype: str, weight: tuple[int, ...], options: dict[str, int]
) -> None:
    w = normal(16, *weight, dtype=dtype)
    for side in (2, 11):
        x = normal(17, 9, side + 2, side + 1, 32, dtype=dtype)
        assert_rows_alone(lambda images: mx.conv_general(images, w, **options), x, (1, 4))


def test_setting_is_taken_when_an_evaluation_is_asked_for() -> None:
    """An evaluation that waits in its stream's queue goes by the setting of its own time."""
    x, w = normal(18, ROWS, 700), normal(19, 500, 700)
    mx.eval(x, w)
    results: dict[bool, bytes] = {}
    for on in (False, True):
        before = mx.set_batch_invariant(on)
        results[on] = bits(x[:1] @ w.T)[0]
        assert mx.set_batch_invariant(before) is on
    # The two ways of one row and a transposed matrix add in different orders.
    assert results[False] != results[True]
    for on in (False, True):
        before = mx.set_batch_invariant(on)
        waiting = [x[:1] @ (w + i).T for i in range(8)] + [x[:1] @ w.T]
        mx.async_eval(*waiting)
        mx.set_batch_invariant(not on)
        assert bits(waiting[-1])[0] == results[on]
        mx.set_batch_invariant(before)


@pytest.mark.parametrize(("value", "want"), [("", "False"), ("0", "False"), ("1", "True")])
def test_environment_sets_the_switch(value: str, want: str) -> None:
    done = run_with(value, "print(mx.get_batch_invariant())")
    assert (done.returncode, done.stdout.strip()) == (0, want)


def test_bad_environment_is_an_error_that_names_it() -> None:
    done = run_with("yes", "mx.eval(mx.ones(3) + 1)")
    assert done.returncode == 1
    assert "ValueError: [LAMINA_BATCH_INVARIANT] wanted 0 or 1, got 'yes'" in done.stderr


def run_with(value: str, code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with that setting in its environment."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment["LAMINA_BATCH_INVARIANT"] = value
    return subprocess.run(
        [sys.executable, "-c", f"import lamina.core as mx\n{code}"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
