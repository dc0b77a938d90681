"""Many Python threads at once, defaults of each thread, and processes made by fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import lamina.core as mx
import numpy as np
import pytest


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with the same module search path; newer ones warn of any fork beside threads."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Results of work(0), work(1), ..., all begun together; the first error is raised."""
    results: list[Any] = [None] * count
    errors: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(n: int) -> None:
        try:
            gate.wait()
            results[n] = work(n)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return results


def test_graphs_are_built_and_evaluated_at_once() -> None:
    shared = mx.array(np.arange(1000, dtype=np.float32))

    def work(n: int) -> list[float]:
        out = []
        for i in range(40):
            x = mx.sqrt(shared * (n + 1)) + mx.full(1000, float(i))
            y = (x.reshape(10, 100) @ mx.ones((100, 3 + i % 5))).sum()
            out.append(y.item())
        return out

    alone = [work(n) for n in range(8)]
    assert in_threads(8, work) == alone


def test_one_lazy_graph_is_evaluated_by_all() -> None:
    for _ in range(20):
        x = mx.arange(2000).astype(mx.float32)
        for k in range(30):
            x = x * 0.5 + k
        total = x.sum()
        got = in_threads(8, lambda n, x=x, t=total: (t.item(), x[n].item(), float(np.asarray(x)[7])))
        assert len({g[0] for g in got}) == 1
        assert len({g[2] for g in got}) == 1


def test_transforms_in_threads() -> None:
    def loss(w: mx.array, x: mx.array) -> mx.array:
        return (mx.tanh(x @ w) ** 2).mean()

    step = mx.compile(mx.value_and_grad(loss))
    xs = [mx.array(np.random.default_rng(n).standard_normal((5, 4)).astype(np.float32)) for n in range(8)]
    w = mx.ones((4, 3)) * 0.1

    def work(n: int) -> tuple[float, list[float]]:
        value, grad = step(w, xs[n])
        rows = mx.vmap(lambda r: loss(w, r[None]))(xs[n])
        return value.item(), [*grad.flatten().tolist(), *rows.tolist()]

    alone = [work(n) for n in range(8)]
    assert in_threads(8, work) == alone


def test_errors_stay_in_their_thread() -> None:
    def work(n: int) -> str:
        if n % 2:
            try:
                mx.eval(mx.take(mx.arange(3), mx.array([n + 5])))
            except IndexError as error:
                return str(error)
            return "no error"
        return str((mx.arange(100) + n).sum().item())

    got = in_threads(8, work)
    assert got[::2] == [str(4950 + 100 * n) for n in (0, 2, 4, 6)]
    assert all(f"index {n + 5} is out of bounds" in g for n, g in zip((1, 3, 5, 7), got[1::2], strict=True))


def test_defaults_belong_to_the_thread() -> None:
    mine = mx.default_stream(mx.cpu)

    def work(_: int) -> tuple[Any, Any, Any]:
        first = mx.default_stream(mx.cpu)
        new = mx.new_stream(mx.cpu)
        mx.set_default_stream(new)
        with mx.stream(mx.cpu):
            value = (mx.ones(100) * 2).sum().item()
        return first, mx.default_stream(mx.cpu) == new, value

    assert in_threads(4, work) == [(mine, True, 200.0)] * 4
    assert mx.default_stream(mx.cpu) == mine
    other = mx.new_stream(mx.cpu)
    with mx.stream(other):
        assert in_threads(2, lambda _: mx.default_stream(mx.cpu)) == [mine, mine]
        assert mx.default_stream(mx.cpu) == other


def test_a_thread_local_stream_is_another_one_in_each_thread() -> None:
    local = mx.new_thread_local_stream(mx.cpu)

    def work(n: int) -> tuple[int, float]:
        with mx.stream(local):
            return mx.default_stream(mx.cpu).index, (mx.ones(10) * n).sum().item()

    got = in_threads(4, work)
    assert len({index for index, _ in got}) == 4
    assert [value for _, value in got] == [0.0, 10.0, 20.0, 30.0]


def test_work_crosses_streams_and_threads() -> None:
    streams = [mx.new_stream(mx.cpu) for _ in range(4)]

    def work(n: int) -> mx.array:
        x = mx.full(1000, float(n), mx.float32)
        for i in range(20):
            x = mx.add(x, 1.0, stream=streams[(n + i) % 4])
        mx.async_eval(x)
        return x

    for n, x in enumerate(in_threads(4, work)):
        assert x.tolist() == [n + 20.0] * 1000


def test_random_state_is_drawn_from_by_all() -> None:
    """One sequence of keys, each drawn once; a draw waits for the one before, whichever thread made it."""

    def draw(_: int) -> list[tuple[int, ...]]:
        return [tuple(mx.random.randint(-(2**31), 2**31 - 1, (2,)).tolist()) for _ in range(200)]

    mx.random.seed(7)
    drawn = [v for part in in_threads(4, draw) for v in part]
    mx.random.seed(7)
    alone = [v for n in range(4) for v in draw(n)]
    assert sorted(drawn) == sorted(alone)


FORKS = {
    "before the first use": "",
    "after work": "mx.eval(mx.ones((300, 300)) @ mx.ones((300, 300)))",
    "with work under way": "pending = mx.ones((600, 600)) @ mx.ones((600, 600)); mx.async_eval(pending)",
    "with its own stream": "mx.set_default_stream(mx.new_stream(mx.cpu)); mx.async_eval(mx.ones(10) + 1)",
    "with a lazy graph": "pending = mx.ones((600, 600)) @ mx.ones((600, 600))",
    "beside threads that evaluate": """
import threading
def spin():
    x = mx.ones((50, 50))
    while True:
        mx.eval(mx.random.normal((30,)), x @ x, mx.fft.fft(mx.ones(37)))
for _ in range(3):
    threading.Thread(target=spin, daemon=True).start()
""",
    "beside threads that fill their queues": """
import threading
def spin(s):
    x = mx.ones((50, 50))
    while True:
        x = mx.tanh(mx.matmul(x, x, stream=s) + 0.5)
        mx.async_eval(x)
for s in (mx.default_stream(mx.cpu), mx.new_stream(mx.cpu)):
    threading.Thread(target=spin, args=(s,), daemon=True).start()
""",
    "while a profile records": """
profile = mx.profile(max_events=1000)
profile.__enter__()
mx.eval(mx.ones(10) + 1)
""",
}


@pytest.mark.parametrize("state", FORKS)
def test_fork(state: str) -> None:
    code = f"""
import os, sys
import lamina.core as mx
pending = None
{FORKS[state]}
def check():
    assert (mx.ones(200000) * 2).sum().item() == 400000, "sum"
    assert (mx.ones((200, 200)) @ mx.ones((200, 200)))[5, 5].item() == 200, "matmul"
    assert abs(mx.fft.fft(mx.ones(37))[0].item() - 37) < 1e-3, "fft"
    assert abs(mx.random.normal((1000,)).mean().item()) < 0.3, "random"
    y = mx.ones(1000) + 1
    mx.async_eval(y)
    assert y.sum().item() == 2000, "async"
    if pending is not None:
        assert pending[3, 4].item() == 600, "pending"
    assert mx.grad(lambda v: (v * v).sum())(mx.ones(3)).tolist() == [2, 2, 2], "grad"
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        try:
            check()
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
check()
os._exit(0)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_multiprocessing_by_fork() -> None:
    code = """
import multiprocessing
import lamina.core as mx
weights = mx.arange(10, dtype=mx.float32)
mx.eval(weights + 1)
def work(x):
    return (x * weights).sum(), mx.default_stream(mx.cpu), x.dtype
def main():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for n, (total, stream, dtype) in enumerate(pool.map(work, [mx.full(10, float(n)) for n in range(6)])):
            assert total.item() == 45.0 * n
            assert stream == mx.default_stream(mx.cpu)
            assert dtype == mx.float32
main()
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_grandchildren() -> None:
    code = """
import os
import lamina.core as mx
mx.eval(mx.ones(100000) + 1)
def generation(n):
    if n == 0:
        return (mx.ones(100000) * 3).sum().item() == 300000
    pid = os.fork()
    if pid == 0:
        os._exit(0 if generation(n - 1) else 1)
    return os.waitpid(pid, 0)[1] == 0 and (mx.ones(100000) * 3).sum().item() == 300000
assert generation(3)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
