"""Long chains of operations, in a thread whose stack holds no recursion over them: `long_chains.py CASE`.

A program of its own, since a stack that overflows ends the process (test_long_chains.py runs it).
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest

# 100,000 frames of the smallest recursion, 48 bytes, are twenty times as much.
STACK_BYTES = 256 << 10
LONG, LAYERS, WIDTH = 100_000, 500, 8
GROWTH = 1 + 1e-5

CASES: dict[str, Callable[[], None]] = {}


def case(f: Callable[[], None]) -> Callable[[], None]:
    CASES[f.__name__] = f
    return f


def near(got: mx.array, want: np.ndarray | float, roundings: int) -> None:
    """Within that many roundings, each of half a unit in the last place of the largest number."""
    want = np.asarray(want, np.float64)
    bound = roundings * float(mx.finfo(got.dtype).eps) * np.abs(want).max()
    off = np.abs(np.asarray(got, np.float64) - want).max()
    assert got.shape == want.shape, (got.shape, want.shape)
    assert off <= bound, (off, bound)


def growing(x: mx.array, steps: int = LONG) -> mx.array:
    for _ in range(steps):
        x = x * GROWTH
    return x


def start(*shape: int) -> mx.array:
    return mx.array(np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape), mx.float64)


def grown(steps: int = LONG) -> float:
    # The factor is a float32, as Python's numbers are beside arrays that are not float64: here it is float64.
    return GROWTH**steps


@case
def evaluation() -> None:
    x = start(3)
    near(growing(x), np.asarray(x) * grown(), 2 * LONG)


@case
def one_evaluation_after_another() -> None:
    x = start(3)
    for _ in range(100):
        x = growing(x, LONG // 100)
        mx.eval(x)
    near(x, np.asarray(start(3)) * grown(), 2 * LONG)


@case
def gradient() -> None:
    x = start(3)
    near(mx.grad(lambda a: growing(a).sum())(x), np.full(3, grown()), 2 * LONG)


@case
def gradient_of_layers() -> None:
    """500 layers of a matrix product and a tanh, against backpropagation in NumPy."""
    rng = np.random.default_rng(0)
    # Orthogonal: no layer makes a number, its derivative or an error larger.
    w, _ = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    x = rng.standard_normal((2, WIDTH))

    def f(x: mx.array, w: mx.array) -> mx.array:
        for _ in range(LAYERS):
            x = mx.tanh(x @ w)
        return x.sum()

    dx, dw = mx.grad(f, argnums=(0, 1))(mx.array(x, mx.float64), mx.array(w, mx.float64))
    states = [x]
    for _ in range(LAYERS):
        states.append(np.tanh(states[-1] @ w))
    back, total = np.ones((2, WIDTH)), np.zeros((WIDTH, WIDTH))
    for before, after in zip(states[-2::-1], states[:0:-1], strict=True):
        back = back * (1 - after**2)
        total += before.T @ back
        back = back @ w.T
    # Of each layer: two sums of WIDTH products, a tanh and its derivative, forth and back.
    near(dw, total, LAYERS * (4 * WIDTH + 16))
    near(dx, back, LAYERS * (4 * WIDTH + 16))


@case
def forward_derivative() -> None:
    x = start(3)
    out, tangent = mx.jvp(growing, [x], [mx.ones(3, mx.float64)])
    near(out[0], np.asarray(x) * grown(), 2 * LONG)
    near(tangent[0], np.full(3, grown()), 2 * LONG)


@case
def second_derivative() -> None:
    def f(a: mx.array) -> mx.array:
        for _ in range(LAYERS):
            a = a * GROWTH
        return a * a

    near(mx.grad(mx.grad(f))(mx.array(0.5, mx.float64)), 2 * GROWTH ** (2 * LAYERS), 8 * LAYERS)


@case
def mapped() -> None:
    x = start(4, 3)
    near(mx.vmap(growing, in_axes=1, out_axes=1)(x), np.asarray(x) * grown(), 2 * LONG)


@case
def compiled() -> None:
    x = start(3)
    f = mx.compile(growing)
    for y in (x, x + 1, start(5)):
        near(f(y), np.asarray(y) * grown(), 2 * LONG)


@case
def compiled_gradient() -> None:
    x = start(3)
    f = mx.compile(mx.grad(lambda a: growing(a).sum()))
    for _ in range(2):
        near(f(x), np.full(3, grown()), 2 * LONG)


@case
def shapeless() -> None:
    steps = LONG // 10
    f = mx.compile(lambda a: growing(a, steps), shapeless=True)
    for n in (3, 5, 3):
        near(f(start(n)), np.asarray(start(n)) * grown(steps), 2 * steps)


@case
def exported() -> None:
    steps = LONG // 5
    x = start(3)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "chain.lamina")
        mx.export_function(path, lambda a: growing(a, steps), x)
        near(mx.import_function(path)(x)[0], np.asarray(x) * grown(steps), 2 * steps)


@case
def drawn() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.dot"
        mx.export_to_dot(path, growing(start(3), LONG // 5))
        assert path.read_text(encoding="utf-8").count("multiply") == LONG // 5


@case
def checkpoints() -> None:
    x = start(3)

    def f(a: mx.array) -> mx.array:
        for _ in range(LAYERS):
            a = mx.checkpoint(lambda b: mx.sin(b * GROWTH) + b)(a)
        return a.sum()

    def plainly(a: mx.array) -> mx.array:
        for _ in range(LAYERS):
            a = mx.sin(a * GROWTH) + a
        return a.sum()

    near(mx.grad(f)(x), np.asarray(mx.grad(plainly)(x)), 0)


@case
def custom_functions() -> None:
    @mx.custom_function
    def half(a: mx.array) -> mx.array:
        return a * 0.999

    @half.vjp
    def rule(primals: object, cotangent: mx.array, output: object) -> mx.array:
        return cotangent * GROWTH

    def f(a: mx.array) -> mx.array:
        for _ in range(LONG // 20):
            a = half(a)
        return a.sum()

    near(mx.grad(f)(start(3)), np.full(3, grown(LONG // 20)), 2 * LONG // 20)


@case
def views() -> None:
    x = start(2, 3)
    y = x
    for _ in range(LONG // 2):
        y = y.T[::-1].T[:, ::-1].reshape(2, 3)
    near(y, np.asarray(x), 0)


@case
def dependencies() -> None:
    x = start(3)
    y = x
    for _ in range(LONG // 2):
        y = mx.depends(x, y)
    near(y, np.asarray(x), 0)


@case
def concatenations() -> None:
    x = start(1)
    y = x
    for _ in range(LONG // 50):
        y = mx.concatenate([y[-1:], x])
    near(y, np.full(2, 0.5), 0)


@case
def never_evaluated() -> None:
    """Chains and fans are freed without a frame for each node."""
    for _ in range(2):
        x = growing(start(3))
        y = mx.grad(lambda a: growing(a).sum())(start(3))
        del x, y
    x = start(3)
    for _ in range(LONG):
        x = x + x
    del x


@case
def failed() -> None:
    """The same behind an evaluation that fails at its first instruction."""
    x = mx.linalg.cholesky(-mx.eye(2, dtype=mx.float64))
    y = growing(x)
    with pytest.raises(RuntimeError, match="cholesky"):
        mx.eval(y)
    del x, y


def main(name: str) -> int:
    """Runs a case in a small thread; its exception is this program's."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            CASES[name]()
        except BaseException as error:
            errors.append(error)

    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
