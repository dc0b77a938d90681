"""The gated delta rule against the recurrence, step by step in float64."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.table_gradients import check_gradient
from core.table_rows import EPS, LAYOUTS, laid_out, rng_of

update = mx.fast.gated_delta_update


def draw(b: int, t: int, hk: int, hv: int, dk: int, dv: int, low: float = 0.3) -> list[np.ndarray]:
    """Keys of length 1, as models make them: a step then never makes the state grow."""
    rng = rng_of(b, t, hk, hv, dk, dv)
    k = rng.standard_normal((b, t, hk, dk))
    k /= np.sqrt((k * k).sum(-1, keepdims=True))
    return [
        rng.standard_normal((b, t, hk, dk)) / np.sqrt(dk),
        k,
        rng.standard_normal((b, t, hv, dv)),
        rng.uniform(low, 1, (b, t, hv)),
        rng.uniform(0, 1, (b, t, hv)),
    ]


def recurrence(q: Any, k: Any, v: Any, gamma: Any, beta: Any, state: Any = None, mask: Any = None) -> Any:
    q, k, v, gamma, beta = (np.asarray(x, np.float64) for x in (q, k, v, gamma, beta))
    (b, t, hk, dk), (hv, dv) = q.shape, v.shape[2:]
    s = np.zeros((b, hv, dv, dk)) if state is None else np.array(state, np.float64)
    q, k = (x.repeat(hv // hk, 2) for x in (q, k))
    out = np.zeros((b, t, hv, dv))
    for i in range(t):
        keep = np.ones(b, bool) if mask is None else np.asarray(mask)[:, i] != 0
        new = s * gamma[:, i, :, None, None]
        read = np.einsum("bhvk,bhk->bhv", new, k[:, i])
        new += (beta[:, i, :, None] * (v[:, i] - read))[..., None] * k[:, i, :, None, :]
        s = np.where(keep[:, None, None, None], new, s)
        y = np.einsum("bhvk,bhk->bhv", s, q[:, i])
        out[:, i] = np.where(keep[:, None, None], y, 0)
    return out, s


def assert_close(got: list[mx.array], want: Any, eps: float, steps: int) -> None:
    """Errors of each of the steps add up, relative to the largest value."""
    for x, y in zip(got, want, strict=True):
        x = np.asarray(x).astype(np.float64)
        assert x.shape == y.shape
        scale = np.abs(y).max(initial=0)
        assert np.abs(x - y).max(initial=0) <= 40 * (steps + 8) * eps * scale


SIZES = [
    (1, 1, 1, 1, 4, 4),
    (2, 3, 2, 4, 8, 5),
    (1, 63, 1, 3, 16, 8),
    (2, 64, 2, 2, 8, 8),
    (1, 65, 1, 2, 8, 16),
    (1, 200, 2, 4, 32, 16),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("extras", ["none", "state", "mask", "both"])
def test_against_the_recurrence(size: tuple[int, ...], extras: str) -> None:
    b, t, _, hv, dk, dv = size
    xs, rng = draw(*size), rng_of(size, extras)
    state = rng.standard_normal((b, hv, dv, dk)) if extras in ("state", "both") else None
    mask = rng.random((b, t)) > 0.3 if extras in ("mask", "both") else None
    for name in ("float64", "float32"):
        dtype = getattr(mx, name)
        arrays = [mx.array(x, dtype) for x in xs]
        s = None if state is None else mx.array(state, dtype)
        got = update(*arrays, s, None if mask is None else mx.array(mask))
        assert [x.dtype for x in got] == [dtype, dtype]
        assert_close(got, recurrence(*arrays, s, mask), EPS[name], t)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_halves_keep_a_float32_state(name: str) -> None:
    arrays = [mx.array(x, getattr(mx, name)) for x in draw(2, 9, 2, 4, 8, 8)]
    got = update(*arrays)
    assert [x.dtype for x in got] == [getattr(mx, name), mx.float32]
    wide = [np.asarray(x.astype(mx.float32)) for x in arrays]
    out, state = recurrence(*wide)
    assert_close([got[1]], [state], EPS["float32"], 9)
    assert_close([got[0].astype(mx.float32)], [out], EPS[name], 1)


def test_dtypes() -> None:
    """Queries and keys say the dtype, and the state is never narrower than float32."""
    q, k, v, gamma, beta = (mx.array(x, mx.float16) for x in draw(1, 2, 1, 1, 2, 2))
    assert [x.dtype for x in update(q, k, v, gamma.astype(mx.float32), beta)] == [mx.float16, mx.float32]
    assert [x.dtype for x in update(q.astype(mx.float32), k, v, gamma, beta)] == [mx.float32, mx.float32]
    assert [x.dtype for x in update(q.astype(mx.float64), k, v, gamma, beta)] == [mx.float64, mx.float64]
    ints = [mx.ones(x.shape, mx.int32) for x in (q, k, v, gamma, beta)]
    assert [x.dtype for x in update(*ints)] == [mx.float32, mx.float32]


def test_in_parts_as_in_one() -> None:
    xs = [mx.array(x, mx.float64) for x in draw(1, 150, 1, 2, 8, 4)]
    out, state = update(*xs)
    first, between = update(*[x[:, :67] for x in xs])
    second, last = update(*[x[:, 67:] for x in xs], between)
    assert_close(
        [mx.concatenate([first, second], 1), last], [np.asarray(out), np.asarray(state)], EPS["float64"], 150
    )


def test_gates_of_zero_and_of_either_sign() -> None:
    xs = draw(1, 80, 1, 2, 4, 4, low=-1.0)
    xs[3][:, ::7] = 0
    arrays = [mx.array(x, mx.float64) for x in xs]
    assert_close(update(*arrays), recurrence(*xs), EPS["float64"], 80)


def test_steps_that_do_not_count_may_hold_anything() -> None:
    xs = draw(2, 70, 1, 1, 4, 4)
    mask = rng_of("mask").random((2, 70)) > 0.5
    want = recurrence(*xs, mask=mask)
    for x in xs:
        x[~mask] = np.nan
    got = update(*[mx.array(x, mx.float64) for x in xs], mask=mx.array(mask))
    assert_close(got, want, EPS["float64"], 70)
    one = mx.array(mask[:1].astype(np.int32))
    assert_close(
        update(*[mx.array(np.nan_to_num(x), mx.float64) for x in xs], mask=one),
        recurrence(*[np.nan_to_num(x) for x in xs], mask=mask[:1].repeat(2, 0)),
        EPS["float64"],
        70,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    pairs = [laid_out(x, layout) for x in draw(2, 5, 2, 2, 3, 3)]
    twins = [pick(x) for (_, pick), x in zip(pairs, draw(2, 5, 2, 2, 3, 3), strict=True)]
    assert_close(update(*[a for a, _ in pairs]), recurrence(*twins), EPS["float64"], 5 * 30)


def test_empty() -> None:
    out, state = update(*[mx.array(x[:, :0]) for x in draw(2, 3, 1, 2, 4, 5)])
    assert out.shape == (2, 0, 2, 5)
    assert state.shape == (2, 2, 5, 4)
    given = mx.ones((2, 2, 5, 4))
    _, state = update(*[mx.array(x[:, :0]) for x in draw(2, 3, 1, 2, 4, 5)], given)
    assert mx.array_equal(state, given).item()
    out, state = update(*[mx.array(x[:0]) for x in draw(2, 3, 1, 2, 4, 5)])
    assert out.shape == (0, 3, 2, 5)


@pytest.mark.parametrize("t", [1, 4, 66])
def test_gradients(t: int) -> None:
    rng = rng_of("gradients", t)
    xs = [*draw(1, t, 1, 2, 2, 2), rng.standard_normal((1, 2, 2, 2))]
    xs = [x[:, : min(t, 4)] if t > 4 and i < 5 else x for i, x in enumerate(xs)]

    def f(*a: mx.array) -> mx.array:
        # Long sequences: the few steps that are varied come last, behind a chunk of fixed ones.
        state = a[5]
        if t > 4:
            fixed = [mx.array(x, mx.float64) for x in draw(1, t, 1, 2, 2, 2)]
            a = tuple(mx.concatenate([x[:, 4:], y], 1) for x, y in zip(fixed, a[:5], strict=True))
        out, last = update(*a[:5], state)
        return mx.concatenate([out.flatten(), last.flatten()])

    check_gradient(f, xs)


def test_vmap() -> None:
    xs = [mx.array(x, mx.float64) for x in draw(6, 5, 1, 2, 3, 3)]
    many = [x.reshape(3, 2, *x.shape[1:]) for x in xs]
    got = mx.vmap(lambda *a: tuple(update(*a)))(*many)
    want = [np.asarray(x).reshape(3, 2, *x.shape[1:]) for x in update(*xs)]
    assert_close(list(got), want, EPS["float64"], 5)


def test_errors() -> None:
    q, k, v, gamma, beta = (mx.array(x) for x in draw(2, 3, 2, 4, 8, 5))
    with pytest.raises(ValueError, match=r"\[gated_delta_update\] wants q and k .* got \(3, 2, 8\)"):
        update(q[0], k, v, gamma, beta)
    with pytest.raises(ValueError, match="Hv a multiple of Hk"):
        update(q, k, v[:, :, :3], gamma[:, :, :3], beta[:, :, :3])
    with pytest.raises(ValueError, match="Hv a multiple of Hk"):
        update(q[..., :4], k, v, gamma, beta)
    with pytest.raises(ValueError, match=r"gamma and beta must have shape \(2, 3, 4\), got \(2, 3, 2\)"):
        update(q, k, v, gamma[..., :2], beta)
    with pytest.raises(ValueError, match=r"initial_state must be real and of shape \(2, 4, 5, 8\)"):
        update(q, k, v, gamma, beta, mx.zeros((2, 2, 5, 8)))
    with pytest.raises(ValueError, match=r"mask must broadcast to \(2, 3\), got shape \(3,\)"):
        update(q, k, v, gamma, beta, mask=mx.ones(3))
    with pytest.raises(ValueError, match="wants real dtypes, got complex64"):
        update(q.astype(mx.complex64), k, v, gamma, beta)
