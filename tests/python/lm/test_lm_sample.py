"""Samplers: filters against their definitions, draws against the distribution."""

from __future__ import annotations

import math

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import LMError, make_sampler
from lamina.lm.sample import categorical, chain, greedy, min_p, temperature, top_k, top_p

PROBS = np.array([0.05, 0.4, 0.1, 0.25, 0.2])


def kept(filtered: mx.array) -> list[set[int]]:
    rows = np.array(filtered).reshape(-1, filtered.shape[-1])
    return [set(np.flatnonzero(np.isfinite(r)).tolist()) for r in rows]


def logits(probs=PROBS) -> mx.array:
    return mx.array(np.log(probs).astype(np.float32)[None])


@pytest.mark.parametrize(
    ("k", "wanted"), [(1, {1}), (2, {1, 3}), (3, {1, 3, 4}), (5, {0, 1, 2, 3, 4}), (9, {0, 1, 2, 3, 4})]
)
def test_top_k(k, wanted):
    assert kept(top_k(k)(logits())) == [wanted]


@pytest.mark.parametrize(
    ("p", "wanted"),
    [(1e-9, {1}), (0.39, {1}), (0.41, {1, 3}), (0.7, {1, 3, 4}), (0.9, {1, 2, 3, 4}), (1.0, {0, 1, 2, 3, 4})],
)
def test_top_p(p, wanted):
    assert kept(top_p(p)(logits())) == [wanted]


@pytest.mark.parametrize(
    ("p", "wanted"), [(0.0, {0, 1, 2, 3, 4}), (0.2, {1, 2, 3, 4}), (0.55, {1, 3}), (0.7, {1}), (1.0, {1})]
)
def test_min_p(p, wanted):
    assert kept(min_p(p)(logits())) == [wanted]


def test_filters_keep_values_and_rows_apart():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((6, 50)).astype(np.float32) * 3
    for f in (top_k(7), top_p(0.8), min_p(0.1)):
        got = np.array(f(mx.array(rows)))
        finite = np.isfinite(got)
        np.testing.assert_array_equal(got[finite], rows[finite])
        for i in range(6):
            np.testing.assert_array_equal(np.array(f(mx.array(rows[i : i + 1])))[0], got[i])
            assert rows[i][finite[i]].min() > rows[i][~finite[i]].max()


def test_top_p_is_the_smallest_sufficient_set():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((40, 30)).astype(np.float32) * 2
    for p in (0.3, 0.75, 0.95):
        for row, keep in zip(rows, kept(top_p(p)(mx.array(rows))), strict=True):
            probs = np.exp(row.astype(np.float64) - row.max())
            ranked = np.sort(probs / probs.sum())[::-1]
            mass = ranked[: len(keep)].sum()
            slack = 30 * np.finfo(np.float32).eps
            assert mass >= p - slack
            assert mass - ranked[len(keep) - 1] < p + slack


def test_ties_with_the_last_kept_token_stay():
    flat = mx.zeros((1, 4))
    assert kept(top_k(1)(flat)) == [{0, 1, 2, 3}]
    assert kept(top_p(0.1)(flat)) == [{0, 1, 2, 3}]


def test_greedy_takes_the_first_of_the_best():
    assert greedy(mx.array([[1.0, 5.0, 5.0], [2.0, 0.0, -1.0]])).tolist() == [1, 0]
    assert make_sampler(temp=0.0, top_k_tokens=3)(logits()).tolist() == [1]


def chi_square(draws: np.ndarray, probs: np.ndarray) -> float:
    wanted = probs * len(draws)
    return float(
        (((np.bincount(draws, minlength=len(probs)) - wanted) ** 2)[probs > 0] / wanted[probs > 0]).sum()
    )


# Quantiles of chi-square at 1 - 1e-6, by degrees of freedom.
CHI_LIMIT = {2: 27.63, 4: 33.38}


@pytest.mark.parametrize("temp", [1.0, 0.5, 2.0])
def test_draws_follow_the_tempered_distribution(temp):
    count = 20000
    rows = mx.broadcast_to(logits(), (count, 5))
    draws = np.array(chain([temperature(temp)], categorical(3))(rows)).astype(np.int64)
    tempered = PROBS ** (1 / temp)
    assert chi_square(draws, tempered / tempered.sum()) < CHI_LIMIT[4]
    # The same draws must not pass for a distribution a few percent off.
    off = tempered / tempered.sum() + np.array([0.04, -0.04, 0, 0, 0])
    assert chi_square(draws, off) > CHI_LIMIT[4]


def test_ruled_out_tokens_are_never_drawn():
    rows = mx.broadcast_to(logits(), (20000, 5))
    draws = np.array(make_sampler(temp=1.0, top_k_tokens=3, seed=5)(rows)).astype(np.int64)
    only = np.where(np.isin(np.arange(5), [1, 3, 4]), PROBS, 0)
    assert set(draws.tolist()) == {1, 3, 4}
    assert chi_square(draws, only / only.sum()) < CHI_LIMIT[2]


def test_seeds():
    rows = mx.broadcast_to(logits(), (200, 5))

    def run(seed):
        sampler = make_sampler(temp=1.0, seed=seed)
        return [sampler(rows).tolist() for _ in range(2)]

    assert run(7) == run(7)
    assert run(7) != run(8)
    first, second = run(7)
    assert first != second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temp": -1}, "temperature must be 0 or more and finite, got -1"),
        ({"temp": math.nan}, "temperature must be 0 or more"),
        ({"top_k_tokens": -2}, r"top_k must be 0 \(off\) or more, got -2"),
        ({"top_p_mass": 0}, r"top_p must be in \(0, 1\], got 0"),
        ({"top_p_mass": 1.5}, r"top_p must be in \(0, 1\], got 1.5"),
        ({"min_p_ratio": -0.1}, r"min_p must be in \[0, 1\], got -0.1"),
    ],
)
def test_bad_options_are_named_even_when_greedy(options, message):
    with pytest.raises(LMError, match=message):
        make_sampler(**options)


def test_bad_filter_arguments():
    with pytest.raises(LMError, match="top_k must be at least 1"):
        top_k(0)
    with pytest.raises(LMError, match="temperature must be positive"):
        temperature(0)
