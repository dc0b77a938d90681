"""Streams: order across them, bounded queues, and evaluation inside transforms."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable
from typing import Any

import lamina.core as mx
import pytest


def tree_of(seed: int, streams: list[mx.Stream], evaluate: bool) -> list[float]:
    """Sums of the nodes of a random graph over `streams`; where wanted, parts are evaluated in between."""
    draw = random.Random(seed)
    nodes = [mx.arange(400, dtype=mx.float32) * 0.002, mx.ones(400) * 0.5]
    for _ in range(40):
        s = streams[draw.randrange(3) % len(streams)]
        x, y = draw.choice(nodes), draw.choice(nodes)
        kind, after, which = draw.randrange(5), draw.randrange(6), draw.randrange(len(nodes))
        if kind == 0:
            made = mx.add(x, y, stream=s)
        elif kind == 1:
            made = mx.multiply(mx.sin(x, stream=s), y, stream=s)
        elif kind == 2:
            made = mx.sort(mx.subtract(x, y, stream=s), stream=s)
        elif kind == 3:
            square = mx.matmul(x.reshape(20, 20), y.reshape(20, 20), stream=s)
            made = mx.flatten(mx.tanh(square, stream=s), stream=s)
        else:
            made = mx.depends([x], [y])[0]
        nodes.append(mx.tanh(made, stream=s))
        if evaluate and after == 0:
            mx.async_eval(nodes[which], nodes[-1])
        if evaluate and after == 1:
            mx.eval(nodes[which])
        if evaluate and after == 2:
            nodes[which] = nodes[which] + 0.0  # the old node goes while others may still read it
    return [n.sum().item() for n in nodes]


def test_random_graphs_over_streams_and_threads() -> None:
    streams = [mx.new_stream(mx.cpu) for _ in range(3)]
    alone = [tree_of(seed, [mx.default_stream(mx.cpu)], False) for seed in range(24)]
    got: dict[int, list[float]] = {}
    errors: list[BaseException] = []

    def work(t: int) -> None:
        try:
            for seed in range(t, 24, 4):
                got[seed] = tree_of(seed, streams, True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert [got[seed] for seed in range(24)] == alone


def test_work_runs_on_the_stream_it_was_built_for() -> None:
    first, second = mx.new_stream(mx.cpu), mx.new_stream(mx.cpu)
    x = mx.arange(8, dtype=mx.float32)
    with mx.profile() as p:
        a = mx.exp(x, stream=first)
        b = mx.sin(x, stream=second)
        mx.eval(mx.add(a, b, stream=first))
    assert [(e.name, e.stream) for e in p.events if e.kind == "tape"] in (
        [("exp", first.index), ("sin", second.index), ("add", first.index)],
        [("sin", second.index), ("exp", first.index), ("add", first.index)],
    )


def test_a_compiled_function_keeps_its_streams() -> None:
    side = mx.new_stream(mx.cpu)
    fun = mx.compile(lambda x: mx.sin(mx.exp(x, stream=side)))
    x = mx.arange(8, dtype=mx.float32)
    mx.eval(fun(x))
    other = mx.new_stream(mx.cpu)
    with mx.profile() as p, mx.stream(other):
        mx.eval(fun(x))
    assert [(e.name, e.stream) for e in p.events if e.kind == "tape"] == [
        ("exp", side.index),
        ("sin", other.index),
    ]


def test_async_evaluations_are_bounded() -> None:
    """Each holds an input of its own: without a bound all of them would be in memory at once."""
    count, size = 400, 1 << 18
    stream = mx.new_stream(mx.cpu)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    totals = []
    for n in range(count):
        x = mx.zeros(size, dtype=mx.float32) + float(n)
        mx.eval(x)
        y = x
        for _ in range(4):
            y = mx.sort(mx.sin(y, stream=stream), stream=stream)
        totals.append(y.sum(stream=stream))
        mx.async_eval(totals[-1])
        del x, y
    mx.synchronize(stream)
    # 64 inputs wait at most; the running evaluation and the next one have a few arrays each.
    assert mx.get_peak_memory() - before < (64 + 12) * size * 4 * 9 // 8
    assert len({t.item() for t in totals}) > 1


def test_steps_that_follow_each_other_in_the_background_work_in_place() -> None:
    size, steps, n = 1 << 22, 12, 512
    pool = mx.arange(size, dtype=mx.float32) * 0
    x = mx.eye(n)
    mx.eval(pool, x)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    # Whatever comes next is planned while this keeps the stream busy.
    for _ in range(40):
        x = x @ x
    pool = pool + x[0, 0]
    mx.async_eval(pool)
    for _ in range(steps):
        pool = pool + 1.0
        mx.async_eval(pool)
    mx.eval(pool)
    assert pool[0].item() == pool[-1].item() == steps + 1
    # The products take four matrices at most; a copy of the pool would be 16 of them.
    assert mx.get_peak_memory() - before < 4 * n * n * 4


def test_depends_orders_across_streams() -> None:
    side = mx.new_stream(mx.cpu)
    first = mx.sort(mx.random.normal((50_000,), key=mx.random.key(1)), stream=side)
    second = mx.depends(mx.ones(3) * 2, first)
    mx.eval(second)
    with mx.profile() as p:
        mx.eval(first)
    assert p.events == []
    assert second.tolist() == [2, 2, 2]


def with_eval(x: mx.array) -> mx.array:
    y = mx.exp(x * mx.array([1.0, 2.0]))
    mx.eval(y)
    return (y * y).sum()


def with_async_eval(x: mx.array) -> mx.array:
    y = mx.exp(x * mx.array([1.0, 2.0]))
    mx.async_eval(y)
    z = (y * mx.array([3.0, 4.0])).sum()
    mx.async_eval(z)
    return z * z


def with_item(x: mx.array) -> mx.array:
    s = (x * x).sum()
    return s * x.sum() if s.item() > 0.1 else s


def with_print(x: mx.array) -> mx.array:
    s = mx.sort(x * mx.array([3.0, 1.0]))
    assert "array" in repr(s)
    return (s * mx.array([1.0, 2.0])).sum() * x[0]


def with_tolist(x: mx.array) -> mx.array:
    return (x ** (2 + len((x + 1).tolist()))).sum()


def with_two_results(x: mx.array) -> mx.array:
    q, r = mx.linalg.qr(mx.outer(x, x) + mx.eye(2) * 3)
    mx.eval(q)
    return (q @ r).sum() + r[0, 0]


@functools.cache
def side_stream() -> mx.Stream:
    """One for all: a process has 256 streams at most."""
    return mx.new_stream(mx.cpu)


def with_streams(x: mx.array) -> mx.array:
    y = mx.exp(x, stream=side_stream())
    mx.async_eval(y)
    return (mx.sin(y) * mx.array([1.0, 2.0])).sum()


def with_lazy_constant(x: mx.array) -> mx.array:
    table = mx.exp(mx.array([0.5, 1.5]) * mx.array([2.0, 1.0]))
    y = x * table
    del table
    mx.async_eval(y)
    z = y * y
    mx.async_eval(z)
    return z.sum()


EVALUATING: list[Callable[[mx.array], mx.array]] = [
    with_eval,
    with_async_eval,
    with_item,
    with_print,
    with_tolist,
    with_two_results,
    with_streams,
    with_lazy_constant,
]


def numeric_gradient(fun: Callable[[mx.array], mx.array], at: list[float]) -> list[float]:
    step = 1e-5
    out = []
    for i in range(len(at)):
        ends = []
        for sign in (1, -1):
            moved = [v + sign * step * (i == j) for j, v in enumerate(at)]
            ends.append(fun(mx.array(moved, dtype=mx.float64)).item())
        out.append((ends[0] - ends[1]) / (2 * step))
    return out


GRADIENTS: dict[str, Callable[[Any], Callable[[mx.array], mx.array]]] = {
    "grad": mx.grad,
    "value_and_grad": lambda f: lambda x: mx.value_and_grad(f)(x)[1],
    "vjp": lambda f: lambda x: mx.vjp(f, [x], [mx.array(1.0, dtype=mx.float64)])[1][0],
    "jvp": lambda f: (
        lambda x: mx.stack(
            [mx.jvp(f, [x], [mx.array(e, dtype=mx.float64)])[1][0] for e in ([1.0, 0.0], [0.0, 1.0])]
        )
    ),
    "checkpoint": lambda f: mx.grad(mx.checkpoint(f)),
    "grad of grad": lambda f: mx.grad(lambda x: f(x) + 0 * mx.grad(f)(x).sum()),
}


@pytest.mark.parametrize("transform", GRADIENTS)
@pytest.mark.parametrize("fun", EVALUATING, ids=lambda f: f.__name__)
def test_evaluation_inside_gradients(transform: str, fun: Callable[[mx.array], mx.array]) -> None:
    at = [0.5, 0.25]
    got = GRADIENTS[transform](fun)(mx.array(at, dtype=mx.float64))
    # Central differences: h^2 times the third derivative (below 2e4 here), and eps / h of values below 100.
    assert got.tolist() == pytest.approx(numeric_gradient(fun, at), abs=2e4 * 1e-10 + 100 * 2.3e-16 / 1e-5)


TRACING: dict[str, Callable[[Any], Callable[[mx.array], Any]]] = {
    "compile": mx.compile,
    "shapeless": lambda f: mx.compile(f, shapeless=True),
    "vmap": lambda f: lambda x: mx.vmap(f)(x[None]),
    "vmap of grad": lambda f: lambda x: mx.vmap(mx.grad(f))(x[None]),
    "compile of grad": lambda f: mx.compile(mx.grad(f)),
}


@pytest.mark.parametrize("transform", TRACING)
@pytest.mark.parametrize("fun", EVALUATING, ids=lambda f: f.__name__)
def test_evaluation_inside_traces(transform: str, fun: Callable[[mx.array], mx.array]) -> None:
    x = mx.array([0.5, 0.25])
    with pytest.raises(ValueError, match=r"\[eval\] an array inside a function being traced .* no value yet"):
        TRACING[transform](fun)(x)
    # Nothing is left behind: the same function works plainly, and so does the transform of another one.
    assert fun(x).item() == fun(x).item()
    mx.eval(TRACING[transform](lambda v: (v * v).sum())(x))


def test_constants_below_a_trace_may_be_evaluated() -> None:
    def fun(x: mx.array) -> mx.array:
        table = mx.arange(3) * 2
        mx.eval(table)
        return x * table[1].item()

    assert mx.compile(fun)(mx.array([1.0, 2.0])).tolist() == [2, 4]
    assert mx.vmap(fun)(mx.array([1.0, 2.0])).tolist() == [2, 4]


def test_a_constant_that_only_gradients_read_is_computed_once() -> None:
    at = [0.5, 0.25]
    with mx.profile() as p:
        got = mx.grad(with_lazy_constant)(mx.array(at, dtype=mx.float64))
        mx.eval(got)
    assert got.tolist() == pytest.approx(numeric_gradient(with_lazy_constant, at), abs=1e-8)
    assert sum("exp" in e.name for e in p.events if e.kind == "tape") == 1
    assert not [e for e in p.events if e.name == "eval inside an evaluation"]
