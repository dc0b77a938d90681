"""Functions compiled as a whole: the plain results, in one operation, from memory that is used again."""

from __future__ import annotations

import threading

import lamina.core as mx
import numpy as np
import pytest

RNG = np.random.default_rng(0)


def arrays(*shapes):
    return [mx.array(RNG.standard_normal(s).astype(np.float32)) for s in shapes]


def layers(x, w, pool, at):
    """Products, norms, views, an update in place, several results: what a step of a model has."""
    for _ in range(4):
        x = mx.fast.rms_norm(x @ w, None, 1e-5)
        pool = mx.slice_update(pool, x[None], at, (0,))
        x = x + mx.softmax(x, axis=-1) * 2
    return x, pool, pool[0], x.T, at


def operands():
    x, w, pool = arrays((3, 16), (16, 16), (5, 3, 16))
    return x, w, pool, mx.array([2])


def test_results_are_the_plain_ones_bit_for_bit():
    f = mx.compile(layers, whole=True)
    for _ in range(3):
        given = operands()
        want = [np.array(a) for a in layers(*given)]
        got = f(*given)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(np.array(a), b)
    assert "1 trace" in str(mx.explain(f))


def test_it_is_one_operation_of_what_it_is_part_of(tmp_path):
    f = mx.compile(layers, whole=True)
    given = operands()
    mx.eval(f(*given), given)
    explained = mx.explain(lambda *a: mx.exp(f(*a)[0]), *given)
    # A function that is looked at is traced, and has the nodes.
    assert "call" not in [op for step in explained.steps for op in step["ops"]]
    out = f(*given)
    mx.export_to_dot(str(tmp_path / "graph.dot"), out[0])
    assert "call" in (tmp_path / "graph.dot").read_text()
    np.testing.assert_array_equal(np.array(mx.exp(out[0])), np.array(mx.exp(layers(*given)[0])))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        lambda x: (x, x),
        lambda x: x.T,
        lambda x: x[1:, ::-1],
        lambda x: (x + 1)[0, 0],
        lambda x: mx.array(3.0),
        lambda x: (x, mx.zeros((2, 0)), x.reshape(-1) * 0),
        lambda x: [x.astype(mx.float16), {"a": x > 0}],
        lambda x: mx.split(x, 2, axis=1),
    ],
)
def test_results_that_are_inputs_views_and_constants(function):
    f = mx.compile(function, whole=True)
    (x,) = arrays((3, 4))
    want = [np.array(a) for a in _flat(function(x))]
    for _ in range(2):
        for a, b in zip(_flat(f(x)), want, strict=True):
            np.testing.assert_array_equal(np.array(a), b)
            assert a.dtype == mx.array(b).dtype
    np.testing.assert_array_equal(np.array(_flat(f(x + 0))[0]), want[0])


def _flat(tree):
    if isinstance(tree, dict):
        return [a for v in tree.values() for a in _flat(v)]
    return [a for v in tree for a in _flat(v)] if isinstance(tree, (list, tuple)) else [tree]


def test_memory_of_inputs_that_nobody_holds_is_used_again():
    size = 1 << 20
    f = mx.compile(lambda pool, row, at: mx.slice_update(pool, row, at, (0,)), whole=True)
    pool, row, at = mx.random.normal((64, size // 64)), mx.ones((1, size // 64)), mx.array([3])
    mx.eval(pool, row, at)
    for i in range(4):
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        pool = f(pool, row * i, at)
        mx.eval(pool)
        assert mx.get_peak_memory() < before + 4 * size
    held = pool
    pool = f(pool, row * 9, at)
    assert np.array(held)[3, 0] == 3
    assert np.array(pool)[3, 0] == 9
    twice = mx.compile(lambda a, b: (mx.slice_update(a, b[:1], at, (0,)), b), whole=True)
    a, b = twice(pool, pool)
    assert np.array(a)[3, 0] == np.array(b)[0, 0]
    assert np.array(b)[3, 0] == 9


def test_memory_of_results_that_were_not_asked_for_is_used_again():
    size = 1 << 20
    f = mx.compile(lambda pool, row: (row.sum(), mx.slice_update(pool, row, mx.array([3]), (0,))), whole=True)
    pool, row = mx.random.normal((64, size // 64)), mx.ones((1, size // 64))
    mx.eval(pool, row)
    for i in range(4):
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        total, pool = f(pool, row * i)
        mx.eval(total)
        assert mx.get_peak_memory() < before + 4 * size
    assert np.array(pool)[3, 0] == 3


def test_transforms_see_the_operations():
    def function(x, w):
        return mx.sum(mx.tanh(x @ w) ** 2)

    f = mx.compile(function, whole=True)
    x, w = arrays((3, 4), (4, 5))
    mx.eval(f(x, w))
    for transform in (
        lambda g: mx.grad(g, argnums=1)(x, w),
        lambda g: mx.vjp(g, [x, w], [mx.array(1.0)])[1][0],
        lambda g: mx.vmap(g, in_axes=(0, None))(x, w),
        lambda g: mx.compile(lambda a: g(a * 2, w) + 1)(x),
        lambda g: mx.compile(lambda a: g(mx.sin(a), w) + 1, whole=True)(x),
        lambda g: mx.grad(lambda a: g(mx.exp(a), w))(x),
        lambda g: mx.checkpoint(g)(x, w),
        lambda g: mx.grad(lambda a: mx.sum(mx.compile(lambda b: g(a, w) * b, whole=True)(x)))(x * 2),
    ):
        np.testing.assert_array_equal(np.array(transform(f)), np.array(transform(function)))


def test_calls_among_calls_and_from_many_threads():
    inner = mx.compile(lambda x: mx.cumsum(mx.sin(x)), whole=True)
    outer = mx.compile(lambda x: inner(x) + inner(x * 2), whole=True)
    xs = arrays(*[(50,)] * 8)
    want = [np.array(mx.cumsum(mx.sin(x)) + mx.cumsum(mx.sin(x * 2))) for x in xs]
    mx.eval(outer(xs[0]))
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(30):
            if not np.array_equal(np.array(outer(xs[i])), want[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    chained = xs[0]
    for _ in range(5):
        chained = inner(chained)
    plain = xs[0]
    for _ in range(5):
        plain = mx.cumsum(mx.sin(plain))
    np.testing.assert_array_equal(np.array(chained), np.array(plain))


def test_an_error_inside_leaves_everything_usable():
    f = mx.compile(lambda x, i: mx.take(x * 2, i, axis=0) + 1, whole=True)
    (x,) = arrays((4, 3))
    assert f(x, mx.array([1])).shape == (1, 3)
    bad = f(x, mx.array([9]))
    for _ in range(2):
        with pytest.raises(IndexError):
            mx.eval(bad)
    np.testing.assert_array_equal(np.array(f(x, mx.array([1]))), np.array(x)[1:2] * 2 + 1)


def test_other_shapes_are_other_traces():
    f = mx.compile(lambda x: mx.sum(x, axis=0), whole=True)
    for n in (3, 5, 3):
        (x,) = arrays((n, 2))
        np.testing.assert_array_equal(np.array(f(x)), np.array(mx.sum(x, axis=0)))


def test_a_profile_shows_what_is_inside():
    f = mx.compile(layers, whole=True)
    given = operands()
    mx.eval(f(*given))
    with mx.profile() as profile:
        mx.eval(f(*given))
    assert "matmul" in profile.table(20)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="wants shapeless or whole, not both"):
        mx.compile(lambda x: x, shapeless=True, whole=True)
    f = mx.compile(lambda x: x + 1, whole=True)
    y = f(mx.array([1.0]))
    with pytest.raises(RuntimeError, match="a graph that is evaluated as a whole"):
        mx.export_function("/dev/null", lambda x: x + f(y), mx.array([1.0]))
