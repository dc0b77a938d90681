"""First and second derivatives of what people differentiate: indexing, scans, convolutions, matrices, ..."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import assert_same
from core.table_gradients import Smooth, check_gradient, gradient_of
from core.table_named_gradients import NAMED

CASES = [(topic, case) for topic, cases in NAMED.items() for case in cases]
IDS = [f"{topic}-{case.label}" for topic, case in CASES]


def test_labels_are_distinct() -> None:
    """Operands are drawn from the label."""
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize(("topic", "case"), CASES, ids=IDS)
def test_first(topic: str, case: Smooth) -> None:
    check_gradient(case.f, case.operands(), case.dtype)


@pytest.mark.parametrize(("topic", "case"), CASES, ids=IDS)
def test_second(topic: str, case: Smooth) -> None:
    check_gradient(gradient_of(case.f), case.operands(), case.dtype)


# ---- where derivatives have corners


def test_ties_of_scattered_extrema_share() -> None:
    """Two equal updates of one element, and an update that equals what was there."""
    index = mx.array([0, 0, 1])
    for how in ("maximum", "minimum"):
        sign = 1.0 if how == "maximum" else -1.0
        x, y = mx.array([1.0, 5.0, 2.0]) * sign, mx.array([3.0, 3.0, 5.0]) * sign
        dx, dy = mx.vjp(lambda a, b, h=how: getattr(a.at[index], h)(b), [x, y], [mx.ones(3)])[1]
        assert dx.tolist() == [0, 0.5, 1]
        assert dy.tolist() == [0.5, 0.5, 0.5]


def test_multiplied_updates_with_zeros() -> None:
    index = mx.array([0, 0, 1, 2, 2])
    x, u = mx.array([2.0, 3.0, 5.0]), mx.array([0.0, 7.0, 0.0, 0.0, 0.0])
    dx, du = mx.vjp(lambda a, b: a.at[index].multiply(b), [x, u], [mx.ones(3)])[1]
    assert dx.tolist() == [0, 0, 0]
    assert du.tolist() == [14, 0, 3, 0, 0]


INF = np.inf


@pytest.mark.parametrize(
    "x",
    [
        [-200.0, -201.0, -202.0],
        [1000.0, 0.0, 1000.0],
        [-1000.0, 1000.0, -1000.0],
        [-INF, 0.0, 1.0],
        [0.0, -INF, 1.0],
        [3.0],
        [],
    ],
    ids=str,
)
def test_logcumsumexp_far_from_zero(x: list[float]) -> None:
    """Weights exp(x_i - out_j) never overflow; elements of -inf have none."""
    for reverse in (False, True):
        a = np.array(x[::-1] if reverse else x)
        out = np.logaddexp.accumulate(a) if len(a) else a
        with np.errstate(invalid="ignore", over="ignore"):
            weights = np.triu(np.exp(a[:, None] - out[None, :]))
        if len(a) and a[0] == -INF:
            weights[0] = [1] + [0] * (len(a) - 1)
        want = weights.sum(1)[::-1] if reverse else weights.sum(1)
        got = mx.grad(lambda v, r=reverse: mx.logcumsumexp(v, reverse=r).sum())(mx.array(x, mx.float32))
        # The running sums are rounded to float32.
        size = np.abs(a[np.isfinite(a)]).max(initial=1)
        assert np.abs(np.asarray(got) - want).max(initial=0) <= 16 * 2.0**-23 * size


def test_products_with_zeros_twice() -> None:
    x = mx.array([2.0, 0.0, 3.0])
    second = mx.grad(lambda a: mx.grad(mx.prod)(a)[1])(x)
    assert_same(second, np.array([3, 0, 2], np.float32))
