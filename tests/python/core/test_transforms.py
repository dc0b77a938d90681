"""grad, value_and_grad, vjp, jvp, vmap, checkpoint and custom_function over Python functions and trees."""

from __future__ import annotations

import gc
import weakref
from collections import namedtuple
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import assert_same

X = np.array([1.5, 2.5], np.float32)
Y = np.array([3.0, -1.0], np.float32)


def xy() -> tuple[mx.array, mx.array]:
    return mx.array(X), mx.array(Y)


def product(x: Any, y: Any) -> mx.array:
    return (x * y).sum()


def test_grad_of_the_first_argument() -> None:
    x, y = xy()
    assert_same(mx.grad(product)(x, y), Y)
    assert_same(mx.grad(lambda a: (a * a).sum())(x), 2 * X)


@pytest.mark.parametrize(
    ("options", "keywords", "want"),
    [
        ({"argnums": 1}, (), X),
        ({"argnums": [0, 1]}, (), (Y, X)),
        ({"argnums": (1,)}, (), X),
        ({"argnames": "y"}, ("y",), (None, {"y": X})),
        ({"argnames": ["x", "y"]}, ("x", "y"), (None, {"x": Y, "y": X})),
        ({"argnums": 0, "argnames": "y"}, ("y",), (Y, {"y": X})),
    ],
    ids=str,
)
def test_selected_arguments(options: dict[str, Any], keywords: tuple[str, ...], want: Any) -> None:
    arrays = dict(zip("xy", xy(), strict=True))
    args = [a for n, a in arrays.items() if n not in keywords]
    got = mx.grad(product, **options)(*args, **{n: arrays[n] for n in keywords})
    check_tree(got, want)
    value, gradients = mx.value_and_grad(product, **options)(*args, **{n: arrays[n] for n in keywords})
    assert value.item() == float((X * Y).sum())
    check_tree(gradients, want)


def check_tree(got: Any, want: Any) -> None:
    """Trees of arrays against trees of NumPy arrays."""
    if isinstance(want, np.ndarray):
        assert_same(got, want)
    elif isinstance(want, dict):
        assert list(got) == list(want)
        for key, part in want.items():
            check_tree(got[key], part)
    elif isinstance(want, (list, tuple)):
        assert type(got) is type(want)
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            check_tree(g, w)
    else:
        assert got is want


def test_trees_of_parameters() -> None:
    x, y = xy()
    point = namedtuple("point", "left right")
    parameters = {"a": x, "b": [y, (x,)], "p": point(x, y), "name": "layer", "none": None}

    def loss(p: dict[str, Any], scale: float) -> mx.array:
        assert p["name"] == "layer"
        return ((p["a"] * p["b"][0] + p["b"][1][0] * p["p"].right) * scale).sum()

    got = mx.grad(loss)(parameters, 2.0)
    check_tree(got["a"], 2 * Y)
    check_tree(got["b"], [2 * X, (2 * Y,)])
    assert isinstance(got["p"], point)
    check_tree(got["p"].left, np.zeros(2, np.float32))
    check_tree(got["p"].right, 2 * X)
    assert parameters["a"] is x


def test_auxiliary_results() -> None:
    x, y = xy()
    value, gradient = mx.value_and_grad(lambda a, b: ((a * b).sum(), "note", {"twice": a * 2}))(x, y)
    assert value[0].item() == float((X * Y).sum())
    assert value[1] == "note"
    assert_same(value[2]["twice"], 2 * X)
    assert_same(gradient, Y)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: mx.grad(3), TypeError, "argument 'fun' wants a callable, got int"),
        (lambda: mx.grad(product, argnums=-1), ValueError, "must not be negative"),
        (lambda: mx.grad(product, argnums=[0, 0]), ValueError, "twice"),
        (lambda: mx.grad(product, argnums="x"), TypeError, "argnums"),
        (lambda: mx.grad(product, argnames=3), TypeError, "argnames"),
        (
            lambda: mx.grad(product, argnums=5)(*xy()),
            ValueError,
            "argument 5, but only 2 positional arguments",
        ),
        (lambda: mx.grad(product, argnames="z")(*xy()), ValueError, "'z', which is no keyword argument"),
        (lambda: mx.grad(lambda x: x)(xy()[0]), ValueError, r"must be a 0-d array, got \(2,\)"),
        (lambda: mx.grad(lambda x: 3)(xy()[0]), ValueError, "scalar array.*got int"),
        (
            lambda: mx.grad(lambda x: x.sum())(mx.array([1, 2])),
            ValueError,
            "floating arrays, got dtype int32",
        ),
        (lambda: mx.grad(product)(xy()[0]), TypeError, "missing 1 required positional argument"),
        (
            lambda: mx.vjp(lambda x: x, [xy()[0]], []),
            ValueError,
            "one cotangent for each of 1 outputs, got 0",
        ),
        (lambda: mx.vjp(lambda x: x, [xy()[0]], [mx.zeros(3)]), ValueError, "shape"),
        (lambda: mx.vjp(lambda x: "a", [xy()[0]], [xy()[0]]), ValueError, "sequence of arrays, got str"),
        (lambda: mx.jvp(lambda x: x, [xy()[0]], [mx.zeros(3)]), ValueError, "shape"),
        (lambda: mx.vmap(lambda x: x, in_axes=5)(xy()[0]), ValueError, "in_axes 5 is out of bounds"),
        (
            lambda: mx.vmap(lambda x, y: x)(mx.zeros(2), mx.zeros(3)),
            ValueError,
            "mapped axes must have one length",
        ),
        (lambda: mx.vmap(lambda x: x, in_axes="a")(xy()[0]), ValueError, "in_axes must be an int, None"),
        (
            lambda: mx.vmap(lambda x: x, out_axes=3)(mx.zeros((2, 2))),
            ValueError,
            "out_axes 3 is out of bounds",
        ),
        (lambda: mx.checkpoint(1), TypeError, "wants a callable"),
        (lambda: mx.compile(1), TypeError, "wants a callable"),
        (lambda: mx.custom_function(1), TypeError, "wants a callable"),
    ],
)
def test_errors(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        call()


class SpecialError(Exception):
    """An error of a user's function."""


@pytest.mark.parametrize(
    "transform", ["grad", "value_and_grad", "vmap", "checkpoint", "compile", "custom_function"]
)
def test_exceptions_of_the_function_pass_through(transform: str) -> None:
    def f(x: mx.array) -> mx.array:
        raise SpecialError("mine")

    with pytest.raises(SpecialError, match="mine") as info:
        getattr(mx, transform)(f)(mx.array([1.0]))
    assert info.traceback[-1].name == "f"
    assert_same(mx.grad(lambda a: a.sum())(mx.array(X)), np.ones(2, np.float32))


def test_functions_keep_their_names() -> None:
    def named(x: mx.array) -> mx.array:
        """What it does."""
        return x.sum()

    for transform in (mx.grad, mx.value_and_grad, mx.vmap, mx.checkpoint, mx.compile):
        f = transform(named)
        assert f.__name__ == "named"
        assert f.__doc__ == "What it does."


def test_methods() -> None:
    class Model:
        def __init__(self) -> None:
            self.scale = 3.0

        @mx.compile
        def compiled(self, x: mx.array) -> mx.array:
            return x * self.scale

        def loss(self, x: mx.array) -> mx.array:
            return (x * self.scale).sum()

    model = Model()
    assert_same(model.compiled(mx.array(X)), 3 * X)
    assert_same(mx.grad(model.loss)(mx.array(X)), np.full(2, 3, np.float32))


def test_transformed_functions_are_collected() -> None:
    class Holder:
        pass

    holder = Holder()
    holder.f = mx.compile(lambda x, h=holder: x * (2 if h else 1))
    holder.f(mx.array(1.0))
    holder.g = mx.grad(lambda x, h=holder: x * (2 if h else 1))
    alive = weakref.ref(holder)
    del holder
    gc.collect()
    assert alive() is None


def test_higher_derivatives() -> None:
    f = mx.grad(mx.grad(mx.grad(lambda x: x**4)))
    assert f(mx.array(2.0)).item() == 48
    nested = mx.grad(lambda x: x * mx.grad(lambda y: x * y * y)(mx.array(3.0)))
    assert nested(mx.array(2.0)).item() == 2 * 2 * 2 * 3


def test_evaluation_inside_a_gradient() -> None:
    def loss(x: mx.array) -> mx.array:
        y = x * x
        mx.eval(y)
        if y.sum().item() > 0:
            y = y * 2
        return y.sum()

    assert_same(mx.grad(loss)(mx.array(X)), 4 * X)


def test_updates_of_arrays_inside_a_gradient() -> None:
    def loss(x: mx.array) -> mx.array:
        y = x * 1
        y[0] = 5.0
        y[1] *= 3
        return (y * y).sum()

    assert_same(mx.grad(loss)(mx.array(X)), np.array([0, 18 * X[1]], np.float32))
    assert_same(
        mx.grad(lambda x: x.at[[0, 0]].add(x[1]).sum())(mx.array(X)),
        np.array([1, 3], np.float32),
    )


def test_vjp_and_jvp() -> None:
    x, y = xy()
    outs, grads = mx.vjp(lambda a, b: [a * b, a], (x, y), (x, y))
    assert isinstance(outs, list)
    check_tree(outs, [X * Y, X])
    check_tree(grads, [X * Y + Y, X * X])
    outs, tangents = mx.jvp(lambda a, b: (a * b, b), [x, y], [mx.ones(2), mx.zeros(2)])
    check_tree(outs, [X * Y, Y])
    check_tree(tangents, [Y, np.zeros(2, np.float32)])


@pytest.mark.parametrize(
    "op",
    [
        mx.any,
        mx.max,
        mx.sum,
        mx.sort,
        mx.cumsum,
        mx.cumprod,
        mx.softmax,
        mx.linalg.inv,
        lambda x: mx.linalg.qr(x, stream=mx.cpu)[1],
        lambda x: x @ x,
        lambda x: x[mx.array([1, 0])],
        lambda x: mx.concatenate([x, x]),
        lambda x: mx.divmod(x, 2)[1],
    ],
)
def test_jvp_is_zero_behind_a_step(op: Any) -> None:
    x = mx.array([[3.25, 1.5], [0.75, 2.125]])

    def steps(x: mx.array) -> mx.array:
        return op(mx.round(x)).astype(mx.float32)

    values, tangents = mx.jvp(steps, [x], [mx.ones_like(x)])
    assert_same(values[0], np.asarray(steps(x)))
    assert_same(tangents[0], np.zeros(values[0].shape, np.float32))


def test_vmap_axes() -> None:
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert_same(mx.vmap(lambda r: r.sum())(mx.array(a)), a.sum(1))
    assert_same(mx.vmap(lambda r: r.sum(), in_axes=-1)(mx.array(a)), a.sum(0))
    assert_same(mx.vmap(lambda r: r * 2, out_axes=1)(mx.array(a)), (a * 2).T)
    assert_same(mx.vmap(lambda r: r * 2, out_axes=-1)(mx.array(a)), (a * 2).T)
    assert_same(mx.vmap(lambda r, c: (r * c).sum(), in_axes=(0, None))(mx.array(a), mx.array(a[0])), a @ a[0])
    assert_same(
        mx.vmap(lambda r, c: r - c, in_axes=(0, 1))(mx.array(a), mx.array(a.T)), np.zeros((3, 4), np.float32)
    )
    out = mx.vmap(lambda r: {"sum": r.sum(), "rows": [r, r * 2]}, out_axes={"sum": 0, "rows": [1, 0]})(
        mx.array(a)
    )
    check_tree(out, {"sum": a.sum(1), "rows": [a.T, a * 2]})
    trees = mx.vmap(lambda d, s: d["x"] + d["y"] + s, in_axes=({"x": 0, "y": None}, None))
    assert_same(trees({"x": mx.array(a), "y": mx.array(a[0])}, mx.array(1.0)), a + a[0] + 1)


def test_vmap_nests_with_grad() -> None:
    a = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert_same(mx.vmap(mx.grad(lambda r: (r * r).sum()))(mx.array(a)), 2 * a)
    assert_same(mx.grad(lambda m: mx.vmap(lambda r: (r * r).sum())(m).sum())(mx.array(a)), 2 * a)
    pairs = mx.vmap(mx.vmap(lambda x, y: x * y, in_axes=(None, 0)), in_axes=(0, None))
    assert_same(pairs(mx.array(X), mx.array(Y)), np.outer(X, Y))


def test_checkpoint() -> None:
    calls = []

    def block(x: mx.array, scale: float = 1.0) -> mx.array:
        calls.append(1)
        return mx.sin(x) * scale

    f = mx.checkpoint(block)
    plain = mx.grad(lambda x: (mx.sin(mx.sin(x) * 2.0)).sum())(mx.array(X))
    got = mx.grad(lambda x: f(f(x, scale=2.0)).sum())(mx.array(X))
    assert_same(got, np.asarray(plain))
    assert calls


def test_custom_function() -> None:
    @mx.custom_function
    def f(x: mx.array, y: mx.array) -> mx.array:
        return x * y

    assert_same(f(*xy()), X * Y)
    assert_same(mx.grad(lambda a, b: f(a, b).sum())(*xy()), Y)

    @f.vjp
    def rule(primals: Any, cotangents: Any, outputs: Any) -> Any:
        assert len(primals) == 2
        return (cotangents * 10 + outputs * 0, cotangents * 100)

    check_tree(
        mx.grad(lambda a, b: f(a, b).sum(), argnums=(0, 1))(*xy()),
        (np.full(2, 10, np.float32), np.full(2, 100, np.float32)),
    )
    assert_same(mx.vmap(f)(*xy()), X * Y)

    @f.vjp
    def wrong(primals: Any, cotangents: Any, outputs: Any) -> Any:
        return (cotangents,)

    with pytest.raises(ValueError, match="one gradient for each of 2 arrays, gave 1"):
        mx.grad(lambda a, b: f(a, b).sum())(*xy())


def test_stop_gradient() -> None:
    assert_same(mx.grad(lambda x: (x * mx.stop_gradient(x)).sum())(mx.array(X)), X)
