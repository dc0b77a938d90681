"""Attention over caches in blocks: against NumPy, bit by bit among its regimes, in place, and compiled."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES
from core.table_cases import HALVES
from core.table_paged import Ragged, decoded, encoded
from core.table_rows import of, rng_of

FEATURES = [
    Ragged(((1, 40), (7, 31)), heads=heads, kv_heads=kv, dim=dim, v_dim=v_dim, block=16)
    for dim, v_dim, heads, kv in (
        (64, 64, 4, 4),
        (80, 80, 8, 2),
        (96, 32, 6, 1),
        (128, 128, 3, 1),
        (256, 256, 2, 2),
        (33, 7, 15, 5),
    )
]
BORDERS = [
    Ragged(((1, n), (min(n, 4), n), (n, n)), heads=2, kv_heads=1, dim=8, v_dim=8, block=block)
    for n in (1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)
    for block in (16, 24)
]
OPTIONS = [
    Ragged(((1, 60), (20, 70), (9, 9)), block=8, window=window, sinks=sinks, softcap=cap)
    for window in (None, 1, 8, 33)
    for sinks in (False, True)
    for cap in (None, 1.5)
]
CODES = [
    Ragged(((1, 60), (20, 40)), dim=dim, v_dim=dim, block=8, bits=bits, window=window)
    for dim in (32, 80, 128)
    for bits in ((8, 8), (4, 4), (8, 4), (0, 8))
    for window in (None, 30)
]


@pytest.mark.parametrize("case", [*FEATURES, *BORDERS, *OPTIONS, *CODES], ids=str)
def test_against_numpy(case: Ragged) -> None:
    """NaN lies wherever nothing is to be read, and tables name no block there."""
    for dtype in HALVES:
        xs = case.operands(rng_of(str(case), dtype), dtype, garbage=float("nan"))
        got = np.asarray(case.ours(*map(of, xs)))
        # Garbage in a float64 product would be seen, so the oracle looks at rows that are seen only.
        ((want, bound),) = case.theirs(dtype, *xs)
        assert got.dtype == NUMPY_DTYPES[dtype]
        assert (np.abs(got.astype(np.float64) - want) <= bound).all()


class Cache:
    """Blocks of one sequence in any order, as codes or floats, written by cache_write."""

    def __init__(self, rows: np.ndarray, block: int, bits: int, rng: np.random.Generator) -> None:
        length, heads, _ = rows.shape
        self.block, blocks = block, -(-length // block) + 2
        self.table = rng.permutation(blocks).astype(np.int32)[None]
        parts = [mx.array(rows)] if bits == 0 else mx.fast.quantize_kv(mx.array(rows), bits=bits)
        pools = [mx.zeros((blocks, heads, block, part.shape[-1]), part.dtype) for part in parts]
        slots = mx.array(self.slots(np.arange(length, dtype=np.int32)))
        written = [mx.fast.cache_write(p, x, slots) for p, x in zip(pools, parts, strict=True)]
        self.pool, self.scales = written[0], (written[1] if bits else None)

    def slots(self, positions: np.ndarray) -> np.ndarray:
        return self.table[0][positions // self.block] * self.block + positions % self.block


@pytest.mark.parametrize("bits", [0, 8, 4])
@pytest.mark.parametrize("window", [None, 100])
def test_chunks_blocks_and_plain_attention_give_the_same_bits(bits: int, window: int | None) -> None:
    rng = np.random.default_rng(bits)
    length, heads, kv, dim = 300, 6, 2, 64
    q = rng.standard_normal((length, heads, dim), np.float32)
    k, v = (rng.standard_normal((length, kv, dim), np.float32) for _ in range(2))

    def run(first: int, end: int, block: int) -> np.ndarray:
        keys, values = (Cache(x, block, bits, np.random.default_rng(block)) for x in (k, v))
        out = mx.fast.paged_attention(
            mx.array(q[first:end]), keys.pool, values.pool, mx.array(keys.table), mx.array([end - first]),
            mx.array([end]), scale=0.125, window=window, key_scales=keys.scales, value_scales=values.scales,
        )  # fmt: skip
        return np.asarray(out)

    whole = run(0, length, 32)
    for first, end, block in ((0, length, 7), (0, 1, 32), (250, 300, 64), (299, 300, 32), (40, 297, 500)):
        assert run(first, end, block).tobytes() == whole[first:end].tobytes()
    if bits == 0 and window is None:
        turned = [mx.array(x.swapaxes(0, 1)[None]) for x in (q, k, v)]
        plain = mx.fast.scaled_dot_product_attention(*turned, scale=0.125, mask="causal")
        assert np.asarray(plain[0].swapaxes(0, 1)).tobytes() == whole.tobytes()
        last = mx.fast.scaled_dot_product_attention(turned[0][:, :, -1:], *turned[1:], scale=0.125)
        assert np.asarray(last[0, :, 0]).tobytes() == whole[-1].tobytes()


@pytest.mark.parametrize("bits", [8, 4])
def test_codes_are_close(bits: int) -> None:
    """Off by what half a step of each key and value can do; rotated 4-bit rows too."""
    rng = np.random.default_rng(bits)
    case = Ragged(((30, 90),), dim=64, v_dim=64, block=16)
    q, k, v, *batch = case.operands(rng, "float32")
    if bits == 4:
        k[..., 0] *= 30  # an outlier that a rotation spreads
        q, k, v = (np.asarray(mx.hadamard_transform(of(x))) for x in (q, k, v))
    coded = Ragged(((30, 90),), dim=64, v_dim=64, block=16, bits=(bits, bits))
    (kc, ks), (vc, vs) = (encoded(x, bits) for x in (k, v))
    got = np.asarray(coded.ours(*map(of, [q, kc, vc, *batch, ks, vs])))
    want = np.asarray(case.ours(*map(of, [q, k, v, *batch])))
    k_off, v_off = (np.abs(decoded(c, s) - x).max() for c, s, x in ((kc, ks, k), (vc, vs, v)))
    # Rounding: half a step of a group's largest element, whole steps where 8 levels meet a largest of 7.
    assert k_off <= np.abs(ks).max() * (0.51 if bits == 8 else 1.01)
    score = case.scale * np.abs(q).sum(-1).max() * k_off
    spread = v.max() - v.min()
    assert np.abs(got - want).max() <= v_off + spread * np.expm1(2 * score)
    assert np.abs(got - want).max() > 0


def test_nan_in_a_group_reaches_those_who_see_it() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 64), np.float32)
    rows[1, 3], rows[2, 40] = np.nan, np.inf
    for bits in (8, 4):
        codes, scales = (np.asarray(x) for x in mx.fast.quantize_kv(of(rows), bits=bits))
        lost = np.isnan(decoded(codes, scales)).reshape(4, 2, 32)
        assert lost.any(-1).tolist() == lost.all(-1).tolist()
        assert lost.all(-1).tolist() == [[False, False], [True, False], [False, True], [False, False]]


def test_an_empty_batch_and_no_rows() -> None:
    pool, table = mx.ones((2, 1, 4, 8)), mx.zeros((0, 3), mx.int32)
    none = mx.zeros((0,), mx.int32)
    out = mx.fast.paged_attention(mx.ones((3, 2, 8)), pool, pool, table, none, none, scale=1.0)
    assert np.asarray(out).tolist() == np.zeros((3, 2, 8)).tolist()
    out = mx.fast.paged_attention(mx.ones((0, 2, 8)), pool, pool, table, none, none, scale=1.0)
    assert out.shape == (0, 2, 8)


def peak_of(f: Any) -> int:
    """The most memory in use during a call, beyond what there was."""
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    f()
    return mx.get_peak_memory() - before


def test_writes_are_in_place() -> None:
    pool = mx.zeros((64, 2, 32, 64))
    mx.eval(pool)
    rows, size = mx.ones((3, 2, 64), mx.bfloat16), pool.nbytes
    slots = [mx.array(np.array([i, 70 + i, -1], np.int32)) for i in range(20)]
    mx.eval(rows, slots)

    def steps() -> None:
        nonlocal pool
        for at in slots:
            pool = mx.fast.cache_write(pool, rows, at)
            mx.eval(pool)

    steps()  # zeros are one number until they are written to
    assert peak_of(steps) < size // 4
    held = pool
    pool = mx.fast.cache_write(pool, 2 * rows, slots[0])
    mx.eval(pool)
    assert [held[0, 0, 0, 0].item(), pool[0, 0, 0, 0].item()] == [1, 2]
    want = np.zeros((64 * 32,))
    want[:20] = want[70:90] = 1
    assert np.asarray(held).swapaxes(1, 2)[..., 0, 5].ravel().tolist() == want.tolist()


def test_the_later_of_two_rows_stays() -> None:
    rows = mx.arange(600.0).reshape(100, 2, 3)
    out = mx.fast.cache_write(mx.zeros((1, 2, 2, 3)), rows, mx.ones((100,), mx.int32))
    assert np.asarray(out[0, :, 1]).tolist() == np.asarray(rows[-1]).tolist()
    assert not np.asarray(out[0, :, 0]).any()


def test_a_bad_slot_changes_nothing() -> None:
    pool = mx.zeros((2, 1, 2, 4))
    mx.eval(pool)
    bad = mx.fast.cache_write(pool, mx.ones((2, 1, 4)), mx.array([0, 4]))
    with pytest.raises(IndexError, match=r"\[cache_write\] slots\[1\] is 4, the pool has 4 slots"):
        mx.eval(bad)
    assert not np.asarray(pool).any()


def test_compiled_decoding_traces_once_and_writes_in_place() -> None:
    rng = np.random.default_rng(3)
    traces, heads, kv, dim, block, blocks = 0, 4, 2, 32, 16, 64
    state = [mx.zeros((blocks, kv, block, dim)) for _ in range(2)]
    mx.eval(state)

    def step(x: mx.array, slots: mx.array, tables: mx.array, ends: mx.array, lengths: mx.array) -> mx.array:
        nonlocal traces
        traces += 1
        q, k, v = x[:, :heads], x[:, heads : heads + kv], x[:, heads + kv :]
        state[0] = mx.fast.cache_write(state[0], k, slots)
        state[1] = mx.fast.cache_write(state[1], v, slots)
        return mx.fast.paged_attention(q, *state, tables, ends, lengths, scale=0.2)

    compiled = mx.compile(step, inputs=state, outputs=state)
    tables = rng.permutation(blocks).astype(np.int32)[:20].reshape(2, 10)
    xs = rng.standard_normal((40, 2, heads + 2 * kv, dim), np.float32)
    ends, got = mx.array([1, 2]), []

    def run(first: int, last: int) -> None:
        for i in range(first, last):
            slots = tables[:, i // block] * block + i % block
            out = compiled(mx.array(xs[i]), mx.array(slots), mx.array(tables), ends, mx.array([i + 1, i + 1]))
            mx.eval(out, state)
            got.append(np.array(out))

    run(0, 4)
    assert peak_of(lambda: run(4, 40)) < state[0].nbytes // 2
    assert traces == 1
    for b in range(2):
        rows = [
            mx.array(xs[:, b, part].swapaxes(0, 1)[None]) for part in (slice(4), slice(4, 6), slice(6, 8))
        ]
        want = mx.fast.scaled_dot_product_attention(*rows, scale=0.2, mask="causal")[0]
        assert np.asarray(want).swapaxes(0, 1).tobytes() == np.stack(got)[:, b].tobytes()


def test_there_is_no_gradient() -> None:
    pool, table, one = mx.ones((1, 1, 4, 8)), mx.zeros((1, 1), mx.int32), mx.array([1])

    def attended(q: mx.array) -> mx.array:
        return mx.sum(mx.fast.paged_attention(q, pool, pool, table, one, one, scale=1.0))

    def written(rows: mx.array) -> mx.array:
        return mx.sum(mx.fast.cache_write(pool, rows, one))

    with pytest.raises(NotImplementedError, match=r"\[paged_attention\] has no gradient"):
        mx.grad(attended)(mx.ones((1, 1, 8)))
    with pytest.raises(NotImplementedError, match=r"\[cache_write\] has no gradient"):
        mx.grad(written)(mx.ones((1, 1, 8)))
