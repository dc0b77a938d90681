"""mx.random: the numbers of a key, the implicit sequence and its state, arguments."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import FLOATS, golden

CASES = golden("random")


@pytest.mark.parametrize("case", CASES, ids=[c["source"] for c in CASES])
def test_numbers_of_a_key(case: dict[str, Any]) -> None:
    got = eval(case["source"], {"mx": mx})
    assert str(got.dtype).rpartition(".")[2] == case["dtype"]
    assert got.shape == tuple(case["shape"])
    values = np.asarray(got.astype(mx.float64) if mx.issubdtype(got.dtype, mx.floating) else got)
    want = np.array(case["values"])
    if not mx.issubdtype(got.dtype, mx.floating):
        np.testing.assert_array_equal(values.ravel(), want)
        return
    # The bits are the same; the transformation to a distribution may round differently.
    eps = float(mx.finfo(got.dtype).eps)
    np.testing.assert_allclose(values.ravel(), want, rtol=16 * eps, atol=16 * eps)


def test_seed_repeats_the_sequence() -> None:
    mx.random.seed(3)
    first = [mx.random.uniform(shape=(2,)).tolist() for _ in range(3)]
    mx.random.seed(3)
    assert [mx.random.uniform(shape=(2,)).tolist() for _ in range(3)] == first
    assert first[0] != first[1] != first[2]


def test_state_is_a_list_of_one_key() -> None:
    mx.random.seed(5)
    assert isinstance(mx.random.state, list)
    assert [k.tolist() for k in mx.random.state] == [[0, 5]]
    saved = mx.random.state[0]
    first = mx.random.normal((3,)).tolist()
    assert mx.random.state[0].tolist() != [0, 5]
    mx.random.state[0] = saved
    assert mx.random.normal((3,)).tolist() == first
    mx.random.uniform(key=mx.random.key(1))
    after = mx.random.state[0].tolist()
    mx.random.uniform(key=mx.random.key(1))
    assert mx.random.state[0].tolist() == after


def test_damaged_state_is_reported() -> None:
    saved = mx.random.state[0]
    try:
        mx.random.state[0] = "x"
        with pytest.raises(ValueError, match="list of one key"):
            mx.random.uniform()
    finally:
        mx.random.state[0] = saved
    mx.random.uniform()


def test_state_travels_through_compile() -> None:
    def step() -> mx.array:
        return mx.random.uniform(shape=(4,))

    compiled = mx.compile(step, inputs=mx.random.state, outputs=mx.random.state)
    mx.random.seed(11)
    plain = [step().tolist() for _ in range(3)]
    mx.random.seed(11)
    assert [compiled().tolist() for _ in range(3)] == plain


def test_seeds() -> None:
    assert mx.random.key(2**64 - 1).tolist() == [2**32 - 1, 2**32 - 1]
    assert mx.random.key(np.int64(7)).tolist() == [0, 7]
    for f in (mx.random.seed, mx.random.key):
        for bad in (-1, 2**64):
            with pytest.raises(ValueError, match="seed"):
                f(bad)
        with pytest.raises(TypeError, match="argument 'seed' wants int, got float"):
            f(1.5)


@pytest.mark.parametrize("name", FLOATS)
def test_uniform_bounds_and_moments(name: str) -> None:
    n = 20000
    a = np.asarray(mx.random.uniform(-1, 3, (n,), getattr(mx, name), key=mx.random.key(1)), np.float64)
    assert a.min() >= -1
    assert a.max() < 3 or name in {"float16", "bfloat16"}
    assert a.max() <= 3
    # Six standard errors of the mean of n uniform numbers of width 4.
    assert abs(a.mean() - 1) < 6 * 4 / np.sqrt(12 * n) + float(mx.finfo(getattr(mx, name)).eps)


def test_normal_moments() -> None:
    n = 40000
    a = np.asarray(mx.random.normal((n,), loc=2, scale=3, key=mx.random.key(4)), np.float64)
    assert abs(a.mean() - 2) < 6 * 3 / np.sqrt(n)
    assert abs(a.std() / 3 - 1) < 6 / np.sqrt(2 * n)


def test_laplace_moments() -> None:
    n = 40000
    a = np.asarray(mx.random.laplace((n,), loc=1.0, scale=2.0, key=mx.random.key(4)), np.float64)
    assert abs(a.mean() - 1) < 6 * 2 * np.sqrt(2 / n)
    # The mean distance from the centre of a Laplace distribution is its scale, with standard deviation scale.
    assert abs(np.abs(a - 1).mean() / 2 - 1) < 6 / np.sqrt(n)


def test_integers_permutations_and_classes() -> None:
    a = np.asarray(mx.random.randint(-2, 3, (1000,), key=mx.random.key(0)))
    assert sorted(set(a.tolist())) == [-2, -1, 0, 1, 2]
    p = mx.random.permutation(10, key=mx.random.key(0))
    assert sorted(p.tolist()) == list(range(10))
    rows = mx.arange(12).reshape(6, 2)
    shuffled = mx.random.permutation(rows, key=mx.random.key(2))
    assert sorted(shuffled.tolist()) == rows.tolist()
    columns = mx.random.permutation(rows, axis=1, key=mx.random.key(3))
    assert mx.sort(columns, axis=1).tolist() == rows.tolist()
    logits = mx.array([[0.0, -1e9, -1e9], [-1e9, -1e9, 0.0]])
    assert mx.random.categorical(logits).tolist() == [0, 2]
    assert mx.random.categorical(logits, num_samples=4).tolist() == [[0] * 4, [2] * 4]
    assert mx.random.categorical(logits, shape=(5, 2)).tolist() == [[0, 2]] * 5
    assert mx.random.bernoulli(mx.array([0.0, 1.0]), (3, 2)).tolist() == [[False, True]] * 3


def test_split() -> None:
    keys = mx.random.split(mx.random.key(0), num=3)
    assert keys.shape == (3, 2)
    assert keys.dtype == mx.uint32
    assert len({tuple(k) for k in keys.tolist()}) == 3


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: mx.random.uniform(key=mx.zeros(2)), ValueError, "key must be uint32"),
        (lambda: mx.random.uniform(key=mx.zeros(3, mx.uint32)), ValueError, "shape"),
        (lambda: mx.random.uniform(shape=(-1,)), ValueError, "negative"),
        (lambda: mx.random.uniform(dtype=mx.int32), ValueError, "floating"),
        (lambda: mx.random.uniform(shape="x"), TypeError, "argument 'shape'"),
        (lambda: mx.random.normal((2,), loc=mx.zeros(3)), ValueError, "broadcast"),
        (lambda: mx.random.split(mx.random.key(0), -1), ValueError, "not be negative"),
        (lambda: mx.random.permutation("x"), TypeError, r"argument 'x' wants int \| array, got str"),
        (lambda: mx.random.categorical(mx.zeros(3), shape=(2,), num_samples=2), ValueError, "shape"),
    ],
)
def test_errors(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        call()


def test_no_keys() -> None:
    assert mx.random.split(mx.random.key(0), 0).shape == (0, 2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_uniform_of_16_bits_is_rounded_at_every_step(dtype: str) -> None:
    """The width times a number of [0, 1), then the lower end: each rounded, whatever is fused."""
    t = getattr(mx, dtype)
    key = mx.random.key(3)
    low, high = mx.array(-1.5, t), mx.array(3.0, t)
    unit = mx.random.uniform(shape=(500,), dtype=t, key=key)
    width = high - low
    mx.eval(unit, width)
    scaled = unit * width
    mx.eval(scaled)
    want = scaled + low
    mx.eval(want)
    got = mx.random.uniform(low, high, (500,), dtype=t, key=key)
    mx.eval(got)
    assert mx.array_equal(got, want).item()
