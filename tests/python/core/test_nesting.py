"""grad, jvp and vmap inside one another, any three deep: against loops and differences."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import assert_same
from core.table_rows import EPS, of

WIDE = np.longdouble
# Points lie on a grid, so that NumPy's counterpart of stop_gradient can be to round to it.
GRID = 8
STEP = 2.0**-8


class Theirs:
    """NumPy's side of a function: what NumPy lacks of ours."""

    stopped = staticmethod(lambda f, x: f(np.round(x * GRID) / GRID))
    kept = staticmethod(lambda f: f)
    ruled = staticmethod(lambda f, slope: f)

    @staticmethod
    def added(x: Any, index: list[int], y: Any) -> Any:
        out = x.copy()
        np.add.at(out, index, y)
        return out

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class Ours:
    """The same names in lamina."""

    stopped = staticmethod(lambda f, x: mx.stop_gradient(f(x)))
    kept = staticmethod(lambda f: mx.checkpoint(f))
    added = staticmethod(lambda x, index, y: x.at[mx.array(index)].add(y))

    @staticmethod
    def ruled(f: Any, slope: Any) -> Any:
        g = mx.custom_function(f)
        g.vjp(lambda x, c, y: c * slope(x))
        g.jvp(lambda x, t: t * slope(x))
        return g.vmap(lambda x, axis: (f(x), axis))

    def __getattr__(self, name: str) -> Any:
        return getattr(mx, name)


def closed(xp: Any, x: Any, s: Any) -> Any:
    """A function whose derivatives run something again, or a rule."""
    inner = xp.kept(lambda a, b: xp.tanh(a * b))
    return xp.sum(xp.ruled(xp.exp, xp.exp)(inner(x, s)) * xp.kept(xp.sin)(x))


FUNCTIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "elementwise": lambda xp, x, s: xp.sum(xp.sin(x) * xp.exp(s * x)) / (1 + s * s),
    "matrices": lambda xp, x, s: xp.sum(xp.matmul(xp.outer(x, xp.cos(x)), xp.exp(x) * s) ** 2),
    "orders": lambda xp, x, s: xp.sum(xp.cumsum(xp.sort(x * x * s)) ** 3) * xp.max(x),
    "branches": lambda xp, x, s: xp.sum(xp.where(x > 0.3, x**3 * s, xp.sin(s * x))),
    "indices": lambda xp, x, s: xp.sum(xp.added(x * s, [1, 0, 1], xp.take(x, xp.array([0, 1, 1])) ** 2) ** 2),
    "stopped": lambda xp, x, s: (
        xp.sum(x * x * s * xp.stopped(xp.exp, x)) + xp.stopped(xp.sin, s) * xp.sum(x**3)
    ),
    "closed": closed,
}


def theirs(nest: str, f: Any, h: float) -> Any:
    """The nest of transforms, outermost first, by loops and five-point differences with steps of h."""
    if not nest:
        return f
    g = theirs(nest[1:], f, h)

    def slope(line: Callable[[float], Any]) -> Any:
        return (8 * (line(h) - line(-h)) - (line(2 * h) - line(-2 * h))) / (12 * WIDE(h))

    def grad(x: Any, s: Any) -> Any:
        out = np.zeros(x.shape, WIDE)
        for at in np.ndindex(x.shape):

            def line(t: float, at: Any = at) -> Any:
                moved = x.copy()
                moved[at] += t
                return np.sum(g(moved, s))

            out[at] = slope(line)
        return out

    return {
        "G": grad,
        "J": lambda x, s: slope(lambda t: g(x + t * np.cos(x), s + t)),
        "V": lambda x, s: np.stack([g(one, s) for one in x]),
        "W": lambda x, s: np.stack([g(x, one) for one in s]),
        "B": lambda x, s: np.stack([g(x[..., i], s[i]) for i in range(len(s))], -1),
    }[nest[0]]


def ours(nest: str, f: Any) -> Any:
    """The same by lamina's transforms."""
    if not nest:
        return f
    g = ours(nest[1:], f)
    return {
        "G": mx.grad(lambda x, s: mx.sum(g(x, s))),
        "J": lambda x, s: mx.jvp(g, [x, s], [mx.cos(x), mx.ones(s.shape, s.dtype)])[1][0],
        "V": mx.vmap(g, in_axes=(0, None)),
        "W": mx.vmap(g, in_axes=(None, 0)),
        "B": mx.vmap(g, in_axes=(-1, 0), out_axes=-1),
    }[nest[0]]


def point(nest: str) -> tuple[np.ndarray, np.ndarray]:
    """Arguments with an axis for each vmap over them: distinct sizes on the grid, away from 0.3."""
    x_shape: list[int] = [2]
    s_shape: list[int] = []
    for t in reversed(nest):
        if t == "V":
            x_shape.insert(0, 2)
        if t in "WB":
            s_shape.insert(0, 2)
        if t == "B":
            x_shape.append(2)
    rng = np.random.default_rng(len(nest))
    pool = np.array([-16, -14, -12, -9, -7, -5, -2, 3, 4, 6, 8, 10, 11, 13, 15, -17]) / GRID
    x = rng.permutation(pool)[: int(np.prod(x_shape))].reshape(x_shape)
    return x, rng.permutation(pool[7:15])[: int(np.prod(s_shape))].reshape(s_shape)


NESTS = ["".join(n) for k in (1, 2, 3) for n in itertools.product("GJVWB", repeat=k)]
DEEP = ["GVGV", "VGVG", "JVGV", "VJVG", "GJVW", "WVGJ", "BGVG", "GBJV", "VWBG", "GGVW", "JGBW", "WGJB"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_three_deep(name: str) -> None:
    check(name, NESTS)


@pytest.mark.parametrize("name", ["elementwise", "closed"])
def test_four_deep(name: str) -> None:
    check(name, DEEP)


def check(name: str, nests: list[str]) -> None:
    f = FUNCTIONS[name]
    for nest in nests:
        x, s = point(nest)
        near, far = (
            theirs(nest, functools.partial(f, Theirs()), h)(x.astype(WIDE), s.astype(WIDE))
            for h in (STEP, 2 * STEP)
        )
        g = ours(nest, functools.partial(f, Ours()))
        # Some hundred operations in float64, and the truncation and rounding of the differences.
        order = sum(t in "GJ" for t in nest)
        rounding = 2**9 * EPS["float64"] + 2**9 * float(np.finfo(WIDE).eps) / STEP**order
        bound = np.abs(near - far).max() + rounding * (1 + np.abs(near).max())
        for run in (g, mx.compile(g)):
            got = np.asarray(run(of(x), of(s)))
            assert got.shape == near.shape, nest
            assert (np.abs(got - near) <= bound).all(), (nest, got, near, bound)


# ---- trees, chosen arguments, auxiliary results

TREE = {"w": [np.array([0.5, -1.0]), (np.array([[2.0, 0.25]]),)], "name": "layer", "b": np.array(0.75)}


def tree() -> dict[str, Any]:
    return {"w": [of(TREE["w"][0]), (of(TREE["w"][1][0]),)], "name": "layer", "b": of(TREE["b"])}


def model(p: dict[str, Any], x: mx.array, *, scale: Any = 1.0) -> tuple[mx.array, dict[str, mx.array]]:
    y = mx.sin(p["w"][0] * x).sum() * p["b"] + (p["w"][1][0] * x**2).sum()
    return y * scale, {"x": x, "twice": [y * 2]}


def test_value_and_grad_of_trees_over_examples() -> None:
    """Trees of parameters and of auxiliary results, chosen by position and by name, under vmap."""
    xs = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.25]])
    scale = of(np.array(1.5))
    step = mx.value_and_grad(model, argnums=(0, 1), argnames="scale")
    axes = ({"w": [None, (None,)], "name": None, "b": None}, 0)
    out_axes = ((0, {"x": 1, "twice": [0]}), (({"w": [1, (2,)], "name": None, "b": 0}, 0), {"scale": 0}))
    together = mx.vmap(lambda p, x: step(p, x, scale=scale), in_axes=axes, out_axes=out_axes)(tree(), of(xs))
    (value, aux), ((dp, dx), named) = together
    assert dp["name"] == "layer"
    assert aux["x"].shape == (2, 3)
    assert dp["w"][0].shape == (2, 3)
    assert dp["w"][1][0].shape == (1, 2, 3)
    for i, x in enumerate(xs):
        (one, one_aux), ((p, d), n) = step(tree(), of(x), scale=scale)
        assert_same(value[i], np.asarray(one))
        assert_same(aux["x"][:, i], x)
        assert_same(aux["twice"][0][i], np.asarray(one_aux["twice"][0]))
        assert_same(dp["w"][0][:, i], np.asarray(p["w"][0]))
        assert_same(dp["w"][1][0][..., i], np.asarray(p["w"][1][0]))
        assert_same(dp["b"][i], np.asarray(p["b"]))
        assert_same(dx[i], np.asarray(d))
        assert_same(named["scale"][i], np.asarray(n["scale"]))


def test_gradients_of_gradients_of_trees() -> None:
    """The Hessian of a tree times a tree, forward over backward and backward over backward."""
    x, p = of(np.array([1.0, 2.0])), tree()
    leaves = [p["w"][0], p["w"][1][0], p["b"]]

    def flat(w: mx.array, v: mx.array, b: mx.array) -> list[mx.array]:
        g = mx.grad(lambda q: model(q, x)[0])({"w": [w, (v,)], "name": "layer", "b": b})
        return [g["w"][0], g["w"][1][0], g["b"]]

    direction = [mx.cos(a) for a in leaves]
    forward = mx.jvp(flat, leaves, direction)[1]
    backward = mx.vjp(flat, leaves, direction)[1]
    h = 2.0**-17
    ends = [flat(*[a + side * h * d for a, d in zip(leaves, direction, strict=True)]) for side in (1, -1)]
    for f, b, up, down in zip(forward, backward, *ends, strict=True):
        slope = (np.asarray(up) - np.asarray(down)) / (2 * h)
        assert np.abs(np.asarray(f) - np.asarray(b)).max() <= 2**7 * EPS["float64"]
        # Third derivatives and numbers below 10.
        assert np.abs(np.asarray(f) - slope).max() <= 10 * h * h + 64 * EPS["float64"] / h


@pytest.mark.parametrize(
    "axes", [(0, 1), ((0,), 1), ([0], 1), ({"a": 0}, 1), ({"a": 0, "b": None}, 1)], ids=str
)
def test_in_axes_that_fit_or_not(axes: Any) -> None:
    a, b = of(np.arange(6.0).reshape(2, 3)), of(np.arange(6.0).reshape(3, 2))
    first: Any = a
    if isinstance(axes[0], tuple):
        first = (a,)
    elif isinstance(axes[0], list):
        first = [a]
    elif isinstance(axes[0], dict):
        first = {"a": a} if len(axes[0]) == 1 else {"a": a, "b": mx.ones(3, mx.float64)}

    def f(x: Any, y: mx.array) -> mx.array:
        parts = list(x.values()) if isinstance(x, dict) else list(x) if isinstance(x, (list, tuple)) else [x]
        return sum(parts) * y

    extra = np.ones(3) if isinstance(first, dict) and len(first) == 2 else 0
    assert_same(mx.vmap(f, in_axes=axes)(first, b), (np.asarray(a) + extra) * np.asarray(b).T)
    with pytest.raises(ValueError, match="in_axes must be an int, None, or a tree that fits"):
        mx.vmap(f, in_axes=([0, 0, 0], 1))(first, b)
