"""The recurrences of state spaces and gated units against loops in float64, for lengths around each chunk."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm.models.convolution import CausalConv
from lamina.lm.models.mamba import selective_scan
from lamina.lm.models.mamba2 import state_space
from lamina.lm.models.recurrent import linear_scan

EPS = float(np.finfo(np.float32).eps)
LENGTHS = [1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 130]


def draw(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


def bound(*terms: np.ndarray | float, length: int) -> float:
    """A sum of as many terms as there are positions, each a product of these, rounded at every step."""
    size = np.prod([np.abs(t).max() for t in terms])
    return 8 * EPS * np.sqrt(length + 8) * size * min(length, 16)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("with_state", [False, True])
def test_selective_scan(length, with_state):
    x, steps, take, give, state = draw(
        length, (2, length, 5), (2, length, 5), *[(2, length, 3)] * 2, (2, 3, 5)
    )
    steps, decay = np.abs(steps), -np.abs(draw(99, (3, 5))[0])
    before = mx.array(state) if with_state else None
    y, after = selective_scan(*map(mx.array, (x, steps, decay, take, give)), before)
    h, rows = state.astype(np.float64) * with_state, []
    for t in range(length):
        kept = np.exp(steps[:, t, None].astype(np.float64) * decay)
        h = kept * h + (steps[:, t] * x[:, t]).astype(np.float64)[:, None] * take[:, t, :, None]
        rows.append(np.einsum("bn,bnd->bd", give[:, t], h))
    wanted = np.stack(rows, axis=1)
    limit = bound(steps, x, take, give, 3.0, length=length)
    assert np.abs(np.array(y) - wanted).max() <= limit
    assert np.abs(np.array(after) - h).max() <= limit


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("with_state", [False, True])
def test_state_space(length, with_state):
    x, take, give, state = draw(length, (2, length, 3, 4), *[(2, length, 3, 5)] * 2, (2, 3, 4, 5))
    logs = -np.abs(draw(98, (2, length, 3))[0])
    before = mx.array(state) if with_state else None
    y, after = state_space(*map(mx.array, (x, logs, take, give)), before)
    h, rows = state.astype(np.float64) * with_state, []
    for t in range(length):
        h = np.exp(logs[:, t].astype(np.float64))[..., None, None] * h
        h = h + np.einsum("bhp,bhn->bhpn", x[:, t], take[:, t])
        rows.append(np.einsum("bhpn,bhn->bhp", h, give[:, t]))
    wanted = np.stack(rows, axis=1)
    # Differences of sums of logarithms stand for products of decays: their error is that of the sums.
    limit = bound(x, take, give, 5.0, length=length) * (1 + np.abs(logs).sum(axis=1).max())
    assert np.abs(np.array(y) - wanted).max() <= limit
    assert np.abs(np.array(after) - h).max() <= limit


def test_a_state_that_does_not_decay_or_decays_at_once():
    x, take, give = draw(3, (1, 70, 2, 3), *[(1, 70, 2, 4)] * 2)
    for log, window in ((0.0, 70), (-np.inf, 1)):
        logs = np.full((1, 70, 2), log, dtype=np.float32)
        if window == 1:
            # A finite logarithm whose exponential is zero: infinite ones have no differences.
            logs = np.full((1, 70, 2), -1e4, dtype=np.float32)
        y, _ = state_space(*map(mx.array, (x, logs, take, give)), None)
        seen = np.tril(np.ones((70, 70))) - np.tril(np.ones((70, 70)), -window)
        wanted = np.einsum("blhn,bshn,ls,bshp->blhp", *(a.astype(np.float64) for a in (give, take, seen, x)))
        assert np.abs(np.array(y) - wanted).max() <= bound(x, take, give, 4.0, length=70) * 5


@pytest.mark.parametrize("length", LENGTHS)
def test_linear_scan(length):
    added, state, decay = draw(length, (2, length, 5), (2, 5), (2, length, 5))
    decay = 1 / (1 + np.exp(-decay))
    got = np.array(linear_scan(*map(mx.array, (decay, added, state))))
    h, rows = state.astype(np.float64), []
    for t in range(length):
        h = decay[:, t] * h + added[:, t]
        rows.append(h)
    assert np.abs(got - np.stack(rows, axis=1)).max() <= bound(added, 2.0, length=length)


@pytest.mark.parametrize("parts", [[9], [1] * 9, [2, 1, 3, 3], [5, 4]])
def test_convolution_in_parts(parts):
    (x, weight, bias), conv = draw(1, (2, 9, 6), (6, 1, 4), (6,)), CausalConv(6, 4, bias=True)
    conv.weight, conv.bias = mx.array(weight), mx.array(bias)
    before, rows, start = None, [], 0
    for n in parts:
        y, before = conv(mx.array(x[:, start : start + n]), before)
        rows.append(np.array(y))
        start += n
    padded = np.concatenate([np.zeros((2, 3, 6)), x.astype(np.float64)], axis=1)
    wanted = sum(padded[:, k : k + 9] * weight[:, 0, k] for k in range(4)) + bias
    assert (
        np.abs(np.concatenate(rows, axis=1) - wanted).max()
        <= 8 * EPS * np.abs(weight).max() * np.abs(x).max()
    )
    assert np.array_equal(np.array(before), x[:, -3:])
