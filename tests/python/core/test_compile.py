"""compile: what is traced anew, captured state, constants, errors, and results equal to plain ones."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import assert_same

X = np.array([1.5, 2.5], np.float32)


class Counter:
    """A function that counts how often Python runs it."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return mx.exp(x) + sum(args) + kwargs.get("shift", 0)


def test_traces_once_for_each_shape_dtype_and_constant() -> None:
    f = Counter()
    c = mx.compile(f)
    x = mx.array(X)
    for _ in range(3):
        assert_same(c(x), np.asarray(mx.exp(x) + 0))
    assert f.count == 1
    c(mx.zeros(3))
    assert f.count == 2
    c(x.astype(mx.float16))
    assert f.count == 3
    c(x, 1)
    c(x, 1.0)
    c(x, True)
    assert f.count == 6
    c(x, 1)
    assert f.count == 6
    assert_same(c(x, shift=2), np.asarray(mx.exp(x) + 0 + 2))
    c(x, shift=3)
    c(x, shift=2)
    assert f.count == 8


def test_results_are_the_same_bits_as_plain_ones() -> None:
    def f(x: mx.array, w: mx.array) -> tuple[mx.array, mx.array]:
        h = mx.tanh(x @ w) * mx.sigmoid(x).sum(axis=-1, keepdims=True)
        return h, mx.softmax(h, axis=-1).astype(mx.float16)

    rng = np.random.default_rng(0)
    compiled = mx.compile(f)
    for rows in (1, 5, 64):
        x = mx.array(rng.standard_normal((rows, 32)).astype(np.float32))
        w = mx.array(rng.standard_normal((32, 16)).astype(np.float32))
        for got, want in zip(compiled(x, w), f(x, w), strict=True):
            assert_same(got, np.asarray(want))


def test_trees_in_and_out() -> None:
    c = mx.compile(lambda d, n: {"sum": d["a"] + d["b"][0], "rest": [d["a"], n, None, "text"]})
    for _ in range(2):
        out = c({"a": mx.array(X), "b": (mx.array(X), 1)}, 3)
        assert_same(out["sum"], 2 * X)
        assert_same(out["rest"][0], X)
        assert out["rest"][1:] == [3, None, "text"]


def test_no_arrays() -> None:
    assert mx.compile(lambda: mx.array(2.0))().item() == 2
    assert mx.compile(lambda n: n + 1)(3) == 4


def test_captured_state() -> None:
    state = {"w": mx.array(X), "steps": [mx.array(0)]}

    def step(x: mx.array) -> mx.array:
        state["w"] = state["w"] - 0.5 * x
        state["steps"][0] = state["steps"][0] + 1
        return state["w"].sum()

    c = mx.compile(step, inputs=state, outputs=state)
    w = X.copy()
    for i in range(4):
        w = w - np.float32(0.5)
        assert c(mx.ones(2)).item() == float(w.sum())
        assert_same(state["w"], w)
        assert state["steps"][0].item() == i + 1
    state["w"] = mx.zeros(2)
    assert c(mx.ones(2)).item() == -1


def test_state_that_is_not_captured_is_a_constant() -> None:
    state = [mx.array(1.0)]
    c = mx.compile(lambda x: x * state[0])
    assert c(mx.array(2.0)).item() == 2
    state[0] = mx.array(10.0)
    assert c(mx.array(2.0)).item() == 2


def test_gradient_inside_and_outside() -> None:
    def loss(w: mx.array, x: mx.array) -> mx.array:
        return (mx.tanh(w * x) ** 2).sum()

    w, x = mx.array(X), mx.array([0.25, -1.0])
    want = np.asarray(mx.grad(loss)(w, x))
    for f in (mx.compile(mx.grad(loss)), mx.grad(mx.compile(loss))):
        for _ in range(2):
            np.testing.assert_allclose(np.asarray(f(w, x)), want, rtol=4 * np.finfo(np.float32).eps)


def test_evaluation_while_tracing_is_refused() -> None:
    c = mx.compile(lambda x: x * x.item())
    with pytest.raises(ValueError, match="no value yet"):
        c(mx.array(2.0))
    with pytest.raises(ValueError, match="no value yet"):
        mx.compile(lambda x: x + np.asarray(x))(mx.array(2.0))
    with pytest.raises(ValueError, match="no value yet"):
        mx.compile(lambda x: x[x > 0])(mx.array(X))
    assert mx.compile(lambda x: x * 2)(mx.array(2.0)).item() == 4


def test_failing_function_leaves_state_as_it_was() -> None:
    state = [mx.array(1.0)]

    def f(x: mx.array) -> mx.array:
        state[0] = state[0] + x
        raise KeyError("stop")

    c = mx.compile(f, inputs=state, outputs=state)
    with pytest.raises(KeyError):
        c(mx.array(1.0))
    assert state[0].item() == 1


def test_constants_must_be_hashable() -> None:
    with pytest.raises(TypeError, match="hashable"):
        mx.compile(lambda x, s: x)(mx.array(1.0), {1, 2})


def test_disable_and_enable() -> None:
    f = Counter()
    c = mx.compile(f)
    mx.disable_compile()
    try:
        c(mx.array(X))
        c(mx.array(X))
        assert f.count == 2
    finally:
        mx.enable_compile()
    c(mx.array(X))
    c(mx.array(X))
    assert f.count == 3


def test_shapeless_is_accepted() -> None:
    c = mx.compile(lambda x: x.sum(), shapeless=True)
    assert c(mx.ones(3)).item() == 3
    assert c(mx.ones((2, 2))).item() == 4


def test_as_decorator_with_arguments() -> None:
    from functools import partial

    state = [mx.array(1.0)]

    @partial(mx.compile, inputs=state)
    def f(x: mx.array) -> mx.array:
        return x + state[0]

    assert f(mx.array(1.0)).item() == 2
    state[0] = mx.array(5.0)
    assert f(mx.array(1.0)).item() == 6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shapeless", [False, True])
def test_constants_of_16_bits_are_fused_as_in_the_function(dtype: str, shapeless: bool) -> None:
    """What depends on no input is in the same regions in every call; 16 bits are rounded where they end."""

    def f(x: mx.array) -> tuple[mx.array, mx.array]:
        c = mx.ones((7,), x.dtype) * 1.3 * 1.7
        return mx.sin(x * c), mx.grad(lambda a: mx.checkpoint(lambda b: mx.exp(b * c))(a).sum())(x)

    x = mx.array(np.linspace(-3, 3, 7)).astype(getattr(mx, dtype))
    compiled = mx.compile(f, shapeless=shapeless)
    for _ in range(3):
        for got, want in zip(compiled(x), f(x), strict=True):
            assert np.asarray(got).tobytes() == np.asarray(want).tobytes()
