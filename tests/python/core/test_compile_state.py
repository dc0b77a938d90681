"""compile: captured state of every kind, constants, nesting with other transforms, threads, other lengths."""

from __future__ import annotations

import threading
from collections import namedtuple
from typing import Any

import lamina.core as mx
import lamina.nn as nn
import numpy as np
import pytest
from core.core_cases import assert_same

X = np.array([1.5, 2.5], np.float32)


class Count:
    """Counts how often Python runs a function."""

    def __init__(self, f: Any) -> None:
        self.f = f
        self.runs = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.runs += 1
        return self.f(*args, **kwargs)


Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (0.0, -0.0),
        (complex(0, 0.0), complex(0, -0.0)),
        (np.float32(0), np.float32(-0.0)),
        (1, 1.0),
        (1, True),
        ("a", "b"),
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Pair(1, 2), (1, 2)),
        (None, 0),
    ],
    ids=repr,
)
def test_other_constants_trace_again(first: Any, second: Any) -> None:
    f = Count(lambda x, c: x + 1)
    c = mx.compile(f)
    for value in (first, second, first, second):
        c(mx.array(X), value)
    assert f.runs == 2


def test_minus_zero_is_not_zero() -> None:
    c = mx.compile(lambda x, s: x * s)
    x = mx.array(X)
    assert not np.signbit(np.asarray(c(x, 0.0))).any()
    assert np.signbit(np.asarray(c(x, -0.0))).all()


def test_a_nan_constant_is_one_constant() -> None:
    f = Count(lambda x, s: x + s)
    c = mx.compile(f)
    for _ in range(3):
        assert np.isnan(np.asarray(c(mx.array(X), float("nan")))).all()
    assert f.runs == 1


def test_keyword_and_default_arguments() -> None:
    f = Count(lambda x, y=2.0, *more, scale=1, z=None: x * y * scale + sum(more) + (0 if z is None else z))
    c = mx.compile(f)
    x, z = mx.array(X), mx.array(3.0)
    for _ in range(2):
        assert_same(c(x), 2 * X)
        assert_same(c(x, 3.0), 3 * X)
        assert_same(c(x, y=3.0), 3 * X)
        assert_same(c(x, 3.0, 1, 2, scale=2), 6 * X + 3)
        assert_same(c(x, z=z), 2 * X + 3)
        assert_same(c(x, y=z, z=z), 3 * X + 3)
    assert f.runs == 6


def test_results_of_every_kind() -> None:
    c = mx.compile(lambda x: Pair(x, {"a": [x + 1, None], "b": (), "c": mx.array(7)}))
    for _ in range(2):
        out = c(mx.array(X))
        assert type(out) is Pair
        assert_same(out.left, X)
        assert_same(out.right["a"][0], X + 1)
        assert out.right["a"][1] is None
        assert out.right["b"] == ()
        assert out.right["c"].item() == 7
    assert mx.compile(lambda x: None)(mx.array(X)) is None
    x = mx.array(X)
    assert_same(mx.compile(lambda a: a)(x), X)


def test_functions_with_one_name() -> None:
    def make(k: int) -> Any:
        def f(x: mx.array) -> mx.array:
            return x * k

        return mx.compile(f)

    fs = [make(k) for k in range(4)]
    for _ in range(2):
        for k, f in enumerate(fs):
            assert_same(f(mx.array(X)), k * X)


def test_methods() -> None:
    class Model:
        def __init__(self, k: float) -> None:
            self.w = mx.array(k)

        @mx.compile
        def scaled(self, x: mx.array) -> mx.array:
            return x * self.w

    one, two = Model(2.0), Model(3.0)
    for _ in range(2):
        assert_same(one.scaled(mx.array(X)), 2 * X)
        assert_same(two.scaled(mx.array(X)), 3 * X)


def test_lists_that_grow_and_keys_that_go() -> None:
    state: dict[str, Any] = {"seen": [], "old": mx.array(1.0), "nest": ([mx.array(0.0)],)}
    inner = state["nest"][0]

    def step(x: mx.array) -> None:
        state["seen"].append(x * 2)
        state.pop("old", None)
        state["new"] = x
        state["nest"][0][0] = state["nest"][0][0] + 1

    c = mx.compile(step, inputs=state, outputs=state)
    for i in range(3):
        c(mx.array(float(i)))
        assert [s.item() for s in state["seen"]] == [2.0 * k for k in range(i + 1)]
        assert sorted(state) == ["nest", "new", "seen"]
        assert state["new"].item() == i
        assert state["nest"][0] is inner
        assert inner[0].item() == i + 1


def test_what_a_list_of_outputs_alone_gets() -> None:
    log: list[mx.array] = []
    c = mx.compile(lambda x: log.append(x + 1), outputs=log)
    for i in range(4):
        c(mx.array(i))
    assert [a.item() for a in log] == [1, 2, 3, 4]


def test_numbers_in_captured_state() -> None:
    """Numbers that a function changes in its state, and numbers that somebody else changes."""
    state: dict[str, Any] = {"n": 0, "w": mx.array(0.0)}

    def step(x: mx.array) -> mx.array:
        state["n"] += 1
        state["w"] = state["w"] + state["n"] * x
        return state["w"]

    c = mx.compile(step, inputs=state, outputs=state)
    assert [c(mx.array(1.0)).item() for _ in range(4)] == [1, 3, 6, 10]
    assert state["n"] == 4
    state["n"] = 9
    assert c(mx.array(1.0)).item() == 20


def test_modules_and_their_modes() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
            self.scale = 2.0

        def __call__(self, x: mx.array) -> mx.array:
            for layer in self.layers:
                x = layer(x) * self.scale
            return x if self.training else -x

    net = Net()
    f = Count(lambda x: net(x))
    c = mx.compile(f, inputs=net.state)
    x = mx.array(X)[None]
    assert_same(c(x), np.asarray(net(x)))
    net.layers[1].weight = mx.ones((2, 2))
    assert_same(c(x), np.asarray(net(x)))
    assert f.runs == 1
    net.eval()
    assert_same(c(x), np.asarray(net(x)))
    net.scale = 3.0
    assert_same(c(x), np.asarray(net(x)))
    net.train()
    net.scale = 2.0
    assert_same(c(x), np.asarray(net(x)))
    assert f.runs == 3


def test_random_state() -> None:
    def noise(x: mx.array) -> mx.array:
        return x + mx.random.normal(x.shape) * mx.random.uniform()

    x = mx.array(X)
    mx.random.seed(5)
    want = [np.asarray(noise(x)) for _ in range(3)]
    c = mx.compile(noise, inputs=mx.random.state, outputs=mx.random.state)
    for _ in range(2):
        mx.random.seed(5)
        for w in want:
            assert_same(c(x), w)


def test_in_place_updates_of_state_that_others_hold() -> None:
    w = mx.array(X)
    state = {"w": w}

    def step() -> None:
        state["w"] += 1

    for inputs in (None, state):
        state["w"] = w
        c = mx.compile(step, inputs=inputs, outputs=state)
        c()
        assert_same(state["w"], X + 1)
        assert_same(w, X)


def test_an_error_leaves_everything_as_it_was() -> None:
    held = mx.array(1.0)
    state: dict[str, Any] = {"w": held, "items": [mx.array(2.0)], "n": 1}
    fail = [True]

    def step(x: mx.array) -> mx.array:
        state["w"] += x
        state["items"].append(x)
        state["n"] += 1
        state["more"] = x
        if fail[0]:
            raise KeyError("stop")
        return state["w"]

    for inputs in (state, None):
        for shapeless in (False, True):
            c = mx.compile(step, inputs=inputs, outputs=state, shapeless=shapeless)
            fail[0] = True
            with pytest.raises(KeyError):
                c(mx.array(1.0))
            assert sorted(state) == ["items", "n", "w"]
            assert state["w"] is held
            assert held.item() == 1
            assert [a.item() for a in state["items"]] == [2]
            assert state["n"] == 1
            fail[0] = False
            assert c(mx.array(1.0)).item() == 2
            state.clear()
            state.update({"w": held, "items": [mx.array(2.0)], "n": 1})


def test_nested_compile() -> None:
    inner = Count(lambda x: mx.exp(x) + 1)
    ci = mx.compile(inner)
    outer = mx.compile(lambda x: ci(x) * ci(x + 1))
    x = mx.array(X)
    for _ in range(2):
        assert_same(outer(x), np.asarray((mx.exp(x) + 1) * (mx.exp(x + 1) + 1)))
    assert inner.runs == 1


def loss(w: mx.array, x: mx.array) -> mx.array:
    return (mx.tanh(w * x) ** 2).sum()


@pytest.mark.parametrize(
    "make",
    [
        lambda c: c(mx.grad(loss)),
        lambda c: mx.grad(c(loss)),
        lambda c: c(mx.grad(c(loss))),
        lambda c: c(mx.value_and_grad(loss, argnums=(0, 1))),
        lambda c: mx.vmap(c(loss), in_axes=(0, None)),
        lambda c: c(mx.vmap(loss, in_axes=(0, None))),
        lambda c: mx.vmap(c(mx.grad(loss)), in_axes=(None, 0)),
        lambda c: c(mx.vmap(c(mx.grad(c(loss))), in_axes=(None, 0))),
        lambda c: mx.grad(lambda w, x: mx.grad(c(loss))(w, x).sum()),
        lambda c: c(mx.checkpoint(c(loss))),
    ],
)
def test_with_other_transforms(make: Any) -> None:
    """The bits of the same transforms without compile."""
    w, x = mx.array(X), mx.array([0.25, -1.0])
    plain = make(lambda f: f)(w, x)
    compiled = make(mx.compile)
    for _ in range(3):
        got = compiled(w, x)
        mx.eval(got, plain)
        assert flat(got) == flat(plain)
    assert flat(make(lambda f: mx.compile(f, shapeless=True))(w, x)) == flat(plain)


def flat(value: Any) -> list[tuple[bytes, str]]:
    if isinstance(value, mx.array):
        return [(np.asarray(value).tobytes(), str(value.shape))]
    return [leaf for part in value for leaf in flat(part)]


def test_many_threads_share_one_function() -> None:
    f = Count(lambda x: mx.exp(x).sum() + x.shape[0])
    c = mx.compile(f)
    wrong: list[Any] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for n in (3, 4, 5) * 10:
            got = c(mx.ones(n)).item()
            if got != (mx.exp(mx.ones(n)).sum() + n).item():
                wrong.append((n, got))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert f.runs == 3


def test_many_threads_share_captured_state() -> None:
    """No update is lost, and no thread sees the placeholders of another one's trace."""
    state = {"n": mx.array(0)}
    start = threading.Barrier(8)

    def step(x: mx.array) -> mx.array:
        for _ in range(200):  # long enough to be interrupted
            x = x + 0
        state["n"] = state["n"] + 1
        return x

    c = mx.compile(step, inputs=state, outputs=state)
    errors: list[BaseException] = []

    def work(k: int) -> None:
        start.wait()
        try:
            for n in range(1, 6):
                assert c(mx.full((n,), k)).tolist() == [k] * n
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert state["n"].item() == 40


SHAPELESS = {
    "loop over a length": lambda x: sum(x[i] * (i + 1) for i in range(x.shape[0])),
    "odd and even": lambda x: x.reshape(2, -1) if x.size % 2 == 0 else x[1:],
    "halves": lambda x: mx.concatenate([x[x.shape[0] // 2 :], x[: x.shape[0] // 2]]),
    "mask of lengths": lambda x: mx.where(mx.tri(x.shape[0], x.shape[1]) > 0, x, -1.0),
    "constant of a length": lambda x: x / mx.array(np.arange(1, x.shape[0] + 1, dtype=np.float32))[:, None],
    "logarithm of a length": lambda x: x * float(np.log(x.shape[0])),
    "convolution": lambda x: mx.conv1d(x[None], mx.ones((2, 3, x.shape[1])), stride=2, padding=1),
    "products": lambda x: (x.T @ x) / x.shape[0] ** 0.5,
    "squeeze": lambda x: x.sum(0, keepdims=True).squeeze(0),
    "split": lambda x: mx.split(x, x.shape[0])[0],
    "sort and scan": lambda x: mx.cumsum(mx.sort(x, axis=0), axis=1)[::-1],
    "gather": lambda x: mx.take(x, mx.arange(x.shape[0] - 1, -1, -1), axis=0),
    "quantized": lambda x: mx.dequantize(*mx.quantize(mx.tile(x, (1, 64)), 32), 32),
    "gradient": mx.grad(lambda x: (mx.softmax(x, -1) * x).sum()),
    "vmap": mx.vmap(lambda row: row / row.sum()),
    "from the third": lambda x: x[3:] * 2,
    "first five": lambda x: x[:5] + 1,
    "last five": lambda x: x[-5:].sum(0),
    "all but three": lambda x: mx.exp(x[:-3]),
    "window": lambda x: x[1:-1] - x[:-2],
    "negative steps": lambda x: x[5:0:-2],
    "at most four": lambda x: x[: min(4, x.shape[0])] * x.shape[0],
    "largest two": lambda x: mx.topk(x, min(2, x.shape[0]), axis=0),
    "strided": lambda x: x[::3],
    "roll": lambda x: mx.roll(x, 2, 0),
    "padded to eight": lambda x: mx.pad(x, [(0, max(0, 8 - x.shape[0])), (0, 0)]),
    "argument of a length": lambda x: mx.argmax(x, axis=0) + x.size,
    "repeat": lambda x: mx.repeat(x, 2, axis=0)[1:],
    "outer": lambda x: x[:, None, :] * x[None, :, :],
    "eye": lambda x: x @ mx.eye(x.shape[1]) + mx.zeros((x.shape[0], 1)),
}


@pytest.mark.parametrize("name", SHAPELESS)
def test_shapeless_at_any_length(name: str) -> None:
    """Where a graph holds for some lengths only, others are traced: the bits are always the plain ones."""
    f = SHAPELESS[name]
    c = mx.compile(f, shapeless=True)
    rng = np.random.default_rng(1)
    for shape in [(4, 3), (7, 3), (4, 6), (2, 2), (9, 5), (3, 8), (16, 3), (6, 6), (1, 4), (4, 3)]:
        x = mx.array(rng.standard_normal(shape).astype(np.float32))
        plain, got = f(x), c(x)
        assert got.shape == plain.shape
        assert np.asarray(got).tobytes() == np.asarray(plain).tobytes(), shape


def test_shapeless_probes_find_the_state_of_the_call() -> None:
    """A function that adds to its state, and runs several times while it is recorded."""
    state: dict[str, object] = {"items": [], "n": 0}

    def step(x: mx.array) -> mx.array:
        state["items"].append(x.sum())  # type: ignore[attr-defined]
        state["n"] += 1  # type: ignore[operator]
        return mx.checkpoint(mx.sin)(x) * state["n"]

    compiled = mx.compile(step, inputs=state, outputs=state, shapeless=True)
    x = mx.arange(5, dtype=mx.float32)
    for n in range(1, 4):
        assert mx.array_equal(compiled(x), mx.sin(x) * n).item()
        assert state["n"] == n
        assert len(state["items"]) == n  # type: ignore[arg-type]
