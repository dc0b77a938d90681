"""einsum and einsum_path against NumPy, and multivariate_normal against its moments."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.test_gradients import check

EPS = 2.0**-52


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def array(a: np.ndarray) -> mx.array:
    return mx.array(a, dtype=mx.float64)


EINSUM = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ba", (2, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iji->j", (3, 2, 3)),
    ("ij->", (2, 3)),
    ("i,j->ij", (2,), (3,)),
    ("i,i,i->", (3,), (3,), (3,)),
    ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    ("i...->...", (2, 3, 4)),
    ("...i,...i", (2, 3), (2, 3)),
    ("ij,ij->ij", (2, 3), (1, 3)),
    ("b h q d, b h k d -> b h q k", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    ("abc,cd,bd,a->d", (2, 3, 4), (4, 5), (3, 5), (2,)),
    ("ij,kl->", (2, 3), (4, 5)),
    ("ij,jk->ik", (0, 3), (3, 4)),
    ("ij,jk->ik", (2, 0), (0, 4)),
    (",->", (), ()),
]


@pytest.mark.parametrize("case", EINSUM, ids=lambda c: c[0].replace(" ", "") + str(c[1:]))
def test_einsum(case: Any) -> None:
    subscripts, *shapes = case
    arrays = [draw(70 + i, *shape) for i, shape in enumerate(shapes)]
    want = np.asarray(np.einsum(subscripts, *arrays))
    got = np.asarray(mx.einsum(subscripts, *[array(a) for a in arrays]))
    assert got.shape == want.shape
    assert np.abs(got - want).max(initial=0) <= 64 * EPS * (1 + np.abs(want).max(initial=0)) * 10
    whole = [np.arange(a.size).reshape(a.shape) % 5 for a in arrays]
    assert np.array_equal(
        np.asarray(mx.einsum(subscripts, *[mx.array(a) for a in whole])), np.einsum(subscripts, *whole)
    )


def test_einsum_gradients() -> None:
    check(
        lambda a, b: mx.einsum("bij,jk,bk->i", a, b, a[:, 0, :1] * b[:1]), draw(80, 2, 3, 4), draw(81, 4, 5)
    )


def test_einsum_path() -> None:
    arrays = [mx.ones(s) for s in [(10, 1000), (1000, 4), (4, 300), (300, 2)]]
    path, text = mx.einsum_path("ij,jk,kl,lm->im", *arrays)
    assert path == [(0, 1), (0, 1), (0, 1)]
    wanted = [("Naive scaling", 5), ("Optimized scaling", 3), ("Naive FLOP count", 96000000)]
    for name, number in [*wanted, ("Optimized FLOP count", 84960)]:
        assert f"{name}:  {number}\n" in text
    assert "Complete contraction:  ij,jk,kl,lm->im\n" in text
    assert mx.einsum_path("ij->ji", mx.ones((2, 3)))[0] == [(0,)]


@pytest.mark.parametrize(
    ("subscripts", "shapes", "message"),
    [
        ("ij,jk->ik", [(2, 3)], "names 2 operands, got 1"),
        ("ijk", [(2, 3)], "names 3 axes"),
        ("i", [(2, 3)], "names 1 axes"),
        ("ij,jk->ik", [(2, 3), (2, 3)], "does not broadcast"),
        ("ij->ii", [(2, 3)], "occurs twice"),
        ("ij->k", [(2, 3)], "in no operand"),
        ("i%->i", [(2, 3)], "must be letters"),
        ("...i...", [(2, 3)], "two ellipses|names"),
    ],
    ids=str,
)
def test_einsum_errors(subscripts: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mx.einsum(subscripts, *[mx.ones(s) for s in shapes])


def test_multivariate_normal() -> None:
    mean, root = draw(82, 3), draw(83, 3, 3) + np.eye(3)
    cov = root @ root.T
    n = 20000
    x = np.asarray(mx.random.multivariate_normal(mx.array(mean), mx.array(cov), (n,), key=mx.random.key(1)))
    assert x.shape == (n, 3)
    # Five standard deviations of the mean, and of a covariance's entry (its variance is below 2 |cov|^2 / n).
    size = np.abs(cov).max()
    assert np.abs(x.mean(0) - mean).max() <= 5 * np.sqrt(size / n)
    assert np.abs(np.cov(x.T) - cov).max() <= 5 * size * np.sqrt(2 / n)
    zero = mx.random.multivariate_normal(mx.ones((4, 2)), mx.zeros((2, 2)))
    assert zero.tolist() == [[1, 1]] * 4
    with pytest.raises(ValueError, match="wants a covariance"):
        mx.random.multivariate_normal(mx.zeros(3), mx.eye(2))
    with pytest.raises(ValueError, match="float32"):
        mx.random.multivariate_normal(mx.zeros(2), mx.eye(2), dtype=mx.float16)
    with pytest.raises(ValueError, match="broadcast"):
        mx.random.multivariate_normal(mx.zeros((3, 2)), mx.eye(2), (4,))
