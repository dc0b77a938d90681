"""Caches of every kind: however positions come in, the model gives what it gives without a cache."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import LMError
from lamina.lm.cache import (
    AttentionSpec,
    CacheOptions,
    HybridCache,
    HybridSpec,
    KVCache,
    RecurrentCache,
    RotatingKVCache,
    StateSpec,
    causal_attention,
    make_caches,
)
from lamina.lm.generate import Decoder
from lm.lm_toy import KINDS, toy

EPS = np.finfo(np.float32).eps
TOKENS = np.random.default_rng(0).integers(0, 320, (2, 150))


@pytest.fixture(autouse=True)
def batch_invariant():
    """A row's bits must not depend on how many rows go through a layer with it."""
    before = mx.set_batch_invariant(True)
    yield
    mx.set_batch_invariant(before)


def cached_logits(model, caches, tokens: np.ndarray, cuts) -> np.ndarray:
    """The logits of ``tokens`` (B, L) run in the parts that ``cuts`` divide them into."""
    parts = np.split(tokens, cuts, axis=1)
    return np.concatenate([np.array(model(mx.array(p), caches)) for p in parts], axis=1)


def close(got: np.ndarray, want: np.ndarray) -> None:
    # Logits are sums of WIDTH products through a few layers of unit-size values; sums differ in their order.
    np.testing.assert_allclose(got, want, rtol=0, atol=48 * 8 * EPS * np.abs(want).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "cuts", [[], [1], [64], [63, 65], [100, 101, 102], list(range(1, 150))], ids=lambda c: str(len(c))
)
def test_any_parts_give_the_uncached_logits(kind, cuts):
    model = toy(kind)
    want = np.array(model(mx.array(TOKENS)))
    got = cached_logits(model, model.make_cache(), TOKENS, cuts)
    close(got, want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [None, 8, 4])
def test_the_compiled_step_is_the_plain_one(kind, bits):
    model = toy(kind)
    options = CacheOptions(bits=bits)
    plain, stepped = (make_caches(model.cache_specs(), 0, options) for _ in range(2))
    prompt, rest = TOKENS[:, :70], TOKENS[:, 70:]
    for caches in (plain, stepped):
        mx.eval(model.hidden(mx.array(prompt), caches))
    decoder = Decoder(model, stepped)
    for cuts in ([1, 2, 3, 4, 30, 31, 32, 33, 60, 61],):
        for part in np.split(rest, cuts, axis=1):
            got = np.array(decoder(mx.array(part)))
            np.testing.assert_array_equal(got, np.array(model(mx.array(part), plain)))
    assert [c.offset for c in stepped] == [150] * len(stepped)


@pytest.mark.parametrize("kind", ["attention", "window", "capped"])
@pytest.mark.parametrize("bits", [None, 8, 4])
def test_positions_taken_back_leave_no_trace(kind, bits):
    model = toy(kind)
    caches = make_caches(model.cache_specs(), 0, CacheOptions(bits=bits))
    first = cached_logits(model, caches, TOKENS[:, :120], [100])
    for count in (1, 7, 20):
        assert all(c.trimmable(count) for c in caches)
        again = [c.copy() for c in caches]
        for cache in again:
            cache.trim(count)
        other = np.flip(TOKENS, axis=1)[:, :count]
        cached_logits(model, again, other, [])
        for cache in again:
            cache.trim(count)
        np.testing.assert_array_equal(
            cached_logits(model, again, TOKENS[:, 120 - count : 120], []), first[:, 120 - count :]
        )


def test_a_copy_and_its_original_go_separate_ways():
    model = toy("mixed")
    caches = model.make_cache()
    cached_logits(model, caches, TOKENS[:, :50], [])
    copies = [c.copy() for c in caches]
    a = cached_logits(model, caches, TOKENS[:, 50:60], [])
    b = cached_logits(model, copies, TOKENS[:, 90:100], [])
    close(a, np.array(model(mx.array(TOKENS[:, :60])))[:, 50:])
    both = np.concatenate([TOKENS[:, :50], TOKENS[:, 90:100]], axis=1)
    close(b, np.array(model(mx.array(both)))[:, 50:])


def test_fewer_bits_stay_near():
    """The error of a score is that of its key, of an output that of its values: a share of their sizes."""
    rng = np.random.default_rng(1)
    q, k, v = (rng.standard_normal((1, h, 90, 32)).astype(np.float32) for h in (4, 2, 2))
    want = np.array(causal_attention(*(mx.array(x) for x in (q, k, v)), scale=32**-0.5))
    errors = {}
    for bits, levels in ((8, 127), (4, 8)):
        cache = KVCache(bits=bits)
        got = np.array(cache.attend(*(mx.array(x) for x in (q, k, v)), scale=32**-0.5))
        errors[bits] = np.abs(got - want).max()
        # Half a step of the largest element of a group, in values and (through the scores) in weights.
        step = max(np.abs(k).max(), np.abs(v).max()) * 1.5 / levels / 2
        score = step * np.abs(q).sum(-1).max() * 32**-0.5
        assert errors[bits] <= step + 2 * score * np.abs(v).max()
    assert errors[8] * 4 < errors[4]
    plain, eight, four = KVCache(), KVCache(bits=8), KVCache(bits=4)
    for cache in (plain, eight, four):
        cache.attend(*(mx.array(x) for x in (q, k, v)), scale=1.0)
    assert (eight.nbytes / plain.nbytes, four.nbytes / plain.nbytes) == (34 / 128, 18 / 128)


class TestRotating:
    def test_memory_is_bounded(self):
        cache = RotatingKVCache(100, step=64)
        k = mx.ones((1, 1, 500, 4))
        cache.attend(k, k, k, scale=1.0)
        size = cache.nbytes
        for _ in range(4):
            cache.attend(k, k, k, scale=1.0)
        assert cache.nbytes == size == 2 * 4 * 4 * 64 * (3 + 1)
        assert cache.offset == 2500

    @pytest.mark.parametrize("window", [1, 2, 63, 64, 65, 130])
    @pytest.mark.parametrize("step", [1, 64, 100])
    def test_every_window_and_step(self, window, step):
        rng = np.random.default_rng(2)
        q, k, v = (mx.array(rng.standard_normal((1, 2, 300, 8)).astype(np.float32)) for _ in range(3))
        want = np.array(causal_attention(q, k, v, scale=0.3, window=window))
        cache, at, got = RotatingKVCache(window, step=step), 0, []
        for length in (1, 1, 3, 95, 28, 1, 150, 1, 20):
            new = slice(at, at + length)
            at += length
            out = cache.attend(q[:, :, new], k[:, :, new], v[:, :, new], scale=0.3, window=window)
            got.append(np.array(out))
        np.testing.assert_allclose(
            np.concatenate(got, axis=2), want, rtol=0, atol=window * 4 * EPS * np.abs(np.array(v)).max()
        )

    def test_what_was_overwritten_cannot_come_back(self):
        cache = RotatingKVCache(64, step=64)
        k = mx.ones((1, 1, 64, 4))
        for _ in range(6):
            cache.attend(k, k, k, scale=1.0)
        assert cache.trimmable(65)
        assert not cache.trimmable(130)
        with pytest.raises(LMError, match="a cache of 384 positions cannot take back 130"):
            cache.trim(130)

    def test_a_window_of_the_callers_choice(self):
        """A model without windows, told to look back so far only."""
        model, windowed = toy("attention"), toy("attention")
        caches = make_caches(model.cache_specs(), 0, CacheOptions(window=24))
        assert all(isinstance(c, RotatingKVCache) for c in caches)
        for layer in windowed.layers:
            layer.window = 24
        got = cached_logits(model, caches, TOKENS, [40, 41, 42, 110])
        close(got, np.array(windowed(mx.array(TOKENS))))


def test_which_cache_a_layer_gets():
    attention, state = AttentionSpec(2, 16, 16), StateSpec(((4,),))
    sliding = AttentionSpec(2, 16, 16, window=100)
    made = make_caches([attention, sliding, state, HybridSpec(sliding, state)])
    assert [type(c) for c in made] == [KVCache, RotatingKVCache, RecurrentCache, HybridCache]
    assert type(made[3].attention) is RotatingKVCache
    assert [type(c) for c in make_caches([sliding], 100)] == [KVCache]
    assert [type(c) for c in make_caches([sliding], 101)] == [RotatingKVCache]


def test_states_go_back_to_the_start_only():
    model = toy("hybrid")
    caches = model.make_cache()
    first = cached_logits(model, caches, TOKENS[:, :20], [])
    assert not caches[0].trimmable(1)
    with pytest.raises(LMError, match="the state after 20 positions cannot take back 3"):
        caches[0].trim(3)
    for cache in caches:
        cache.trim(20)
    np.testing.assert_array_equal(cached_logits(model, caches, TOKENS[:, :20], []), first)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KVCache(bits=5), r"in \(8, 4\) bits or as they are, got 5"),
        (lambda: CacheOptions(window=0), "the window of a cache must be positive, got 0"),
        (lambda: RotatingKVCache(0), "window must be positive, got 0"),
        (
            lambda: make_caches([AttentionSpec(1, 7, 8)], 0, CacheOptions(bits=4)),
            "4-bit caches want heads of an even size, got 7 and 8",
        ),
        (lambda: RotatingKVCache(8).update(mx.ones((1, 1, 1, 4)), mx.ones((1, 1, 1, 4))), "use attend"),
    ],
)
def test_errors(call, message):
    with pytest.raises(LMError, match=message):
        call()
