"""custom_function: what each rule gets and may return, where it stands for the function, and nesting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import assert_same
from core.table_rows import EPS, of, rng_of

X = np.array([0.5, 1.5], np.float32)
Y = np.array([3.0, -1.0], np.float32)


def xy() -> tuple[mx.array, mx.array]:
    return mx.array(X), mx.array(Y)


def custom(body: Callable[..., Any], **rules: Callable[..., Any]) -> Any:
    f = mx.custom_function(body)
    for name, rule in rules.items():
        assert getattr(f, name)(rule) is f
    return f


def odd() -> Any:
    """A product whose every rule is wrong by a factor of its own: a result tells which of them ran."""
    return custom(
        lambda x, y: x * y,
        vjp=lambda p, c, o: (c * p[1] * 3, c * p[0] * 3),
        jvp=lambda p, t: sum(a * b * 5 for a, b in zip(t, reversed(p), strict=True) if a is not None),
        vmap=lambda p, axes: (p[0] * p[1] * 7, 0),
    )


# ---- each rule in its transform


def test_each_rule_stands_for_the_function_in_its_transform() -> None:
    f, (x, y) = odd(), xy()
    assert_same(f(x, y), X * Y)
    assert_same(mx.grad(lambda a: f(a, y).sum())(x), 3 * Y)
    assert_same(mx.jvp(lambda a: f(a, y), [x], [mx.ones(2)])[1][0], 5 * Y)
    assert_same(mx.vmap(f)(x, y), 7 * X * Y)


@pytest.mark.parametrize("order", ["outside", "inside"])
def test_rules_in_nested_transforms(order: str) -> None:
    """Values of mapped calls are those of the rule for vmap; derivatives are those of the other two."""
    f, (x, y) = odd(), xy()

    def slope(g: Callable[..., mx.array], a: mx.array) -> mx.array:
        return mx.jvp(g, [a], [mx.ones(a.shape)])[1][0]

    if order == "outside":
        backward = mx.grad(lambda a: mx.vmap(f)(a, y).sum())(x)
        forward = slope(lambda a: mx.vmap(f)(a, y), x)
    else:
        backward = mx.vmap(mx.grad(f))(x, y)
        forward = mx.vmap(lambda a, b: slope(lambda c: f(c, b), a))(x, y)
    assert_same(backward, 3 * Y)
    assert_same(forward, 5 * Y)


def test_transforms_without_a_rule_go_through_the_function() -> None:
    x, y = xy()
    everything = {
        "vjp": lambda p, c, o: (c * 100, None),
        "jvp": lambda p, t: p[0] * 100,
        "vmap": lambda p, axes: (p[0] * 100, 0),
    }
    for one, rule in everything.items():
        f = custom(lambda a, b: a * b, **{one: rule})
        if one != "vjp":
            assert_same(mx.grad(lambda a, f=f: f(a, y).sum())(x), Y)
        if one != "jvp":
            assert_same(mx.jvp(lambda a, f=f: f(a, y), [x], [mx.ones(2)])[1][0], Y)
        if one != "vmap":
            assert_same(mx.vmap(f)(x, y), X * Y)


def test_captured_arrays() -> None:
    """Without a rule for vjp gradients reach them; with a rule for vmap they must not be mapped."""
    x, y = xy()
    assert_same(mx.grad(lambda b: custom(lambda a: a * b, jvp=lambda p, t: t)(x).sum())(y), X)
    assert_same(mx.grad(lambda b: custom(lambda a: a * b, vjp=lambda p, c, o: c)(x).sum())(y), 0 * X)
    with pytest.raises(ValueError, match="a mapped array must be an argument, not captured"):
        mx.vmap(lambda a, b: custom(lambda c: c * b, vmap=lambda p, axis: (p * b, axis))(a))(x, y)


# ---- the calling convention


def seen_by(rule: str, call: Callable[[Any], Any], body: Callable[..., Any], answer: Any) -> list[Any]:
    seen: list[Any] = []

    def record(*args: Any, **kwargs: Any) -> Any:
        seen.extend([args, kwargs])
        return answer(*args)

    call(custom(body, **{rule: record}))
    return seen


def test_one_argument_comes_bare() -> None:
    x, _ = xy()
    (p, c, o), _ = seen_by("vjp", lambda f: mx.grad(lambda a: f(a).sum())(x), mx.exp, lambda p, c, o: c)
    assert all(isinstance(a, mx.array) for a in (p, c, o))
    (p, t), _ = seen_by("jvp", lambda f: mx.jvp(f, [x], [x]), mx.exp, lambda p, t: t)
    assert isinstance(p, mx.array)
    assert isinstance(t, mx.array)
    (p, axes), _ = seen_by("vmap", lambda f: mx.vmap(f)(x), mx.exp, lambda p, a: (p, a))
    assert p.shape == (2,)
    assert axes == 0


def tree(d: dict[str, Any], n: int, s: mx.array) -> dict[str, Any]:
    return {"sum": d["a"] + d["b"][0] * n, "list": [d["a"] * s]}


def on_tree(f: Any) -> Callable[..., list[mx.array]]:
    def flat(a: mx.array, b: mx.array, s: mx.array) -> list[mx.array]:
        out = f({"a": a, "b": [b, "text"]}, 2, s)
        return [out["sum"], out["list"][0]]

    return flat


def test_trees_in_rules() -> None:
    x, y = xy()
    s = mx.array(4.0)

    def slope(f: Any) -> Any:
        return mx.vjp(on_tree(f), [x, y, s], [mx.ones(2), mx.zeros(2)])

    (p, c, o), _ = seen_by(
        "vjp", slope, tree, lambda p, c, o: ({"b": [c["sum"], None], "a": None}, None, p[2])
    )
    assert p[0]["b"][1] == "text"
    assert p[1] == 2
    assert list(c) == list(o) == ["sum", "list"]
    assert_same(c["sum"], np.ones(2, np.float32))
    assert_same(o["list"][0], 4 * X)
    (p, t), _ = seen_by(
        "jvp",
        lambda f: mx.jvp(lambda a: on_tree(f)(a, y, s), [x], [x]),
        tree,
        lambda p, t: {"list": None, "sum": t[0]["a"]},
    )
    assert t[0]["b"] == [None, None]
    assert t[1:] == (None, None)
    assert_same(t[0]["a"], X)
    (p, axes), _ = seen_by(
        "vmap",
        lambda f: mx.vmap(
            f, in_axes=({"a": 1, "b": [None, None]}, None, None), out_axes={"sum": 0, "list": 1}
        )({"a": mx.zeros((2, 3)), "b": [y, "text"]}, 2, s),
        tree,
        lambda p, axes: ({"list": [p[0]["a"].T], "sum": p[0]["a"]}, {"list": 1, "sum": 0}),
    )
    assert p[0]["a"].shape == (3, 2)
    assert axes == ({"a": 0, "b": [None, None]}, None, None)


def test_gradients_by_key_not_by_order() -> None:
    x, y = xy()
    f = custom(lambda d: d["a"] * d["b"], vjp=lambda p, c, o: {"b": c * 2, "a": c * 3})
    got = mx.grad(lambda a, b: f({"a": a, "b": b}).sum(), argnums=(0, 1))(x, y)
    assert [g.tolist() for g in got] == [[3, 3], [2, 2]]
    g = custom(lambda a: {"a": a, "b": a + 1}, vmap=lambda p, axis: ({"b": p.T, "a": p}, {"b": 1, "a": 0}))
    out = mx.vmap(g)(mx.arange(6).reshape(2, 3))
    assert out["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert out["b"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_keyword_arguments_reach_the_rules() -> None:
    x, _ = xy()
    f = custom(lambda a, k=1: a * k, vjp=lambda p, c, o, k=1: c * k * 10)
    assert_same(mx.grad(lambda a: f(a, k=2).sum())(x), np.full(2, 20, np.float32))
    with pytest.raises(TypeError, match="wants its arrays as positional arguments"):
        f(x, k=x)


def test_outputs_that_do_not_depend_on_mapped_arguments() -> None:
    f = custom(lambda a, b: (a + b, b * 2), vmap=lambda p, axes: ((p[0] + p[1], p[1] * 2), (axes[0], None)))
    x, y = xy()
    total, double = mx.vmap(f, in_axes=(0, None))(mx.array([1.0, 2.0, 3.0]), mx.array(1.0))
    assert total.tolist() == [2, 3, 4]
    assert double.tolist() == [2, 2, 2]
    assert mx.vmap(lambda a: f(a, y), in_axes=0)(mx.stack([x, x, x]))[1].tolist() == [[6, -2]] * 3


def wrong(rule: str, answer: Any) -> Callable[[], Any]:
    x, y = xy()
    f = custom(lambda a, b: a * b, **{rule: lambda *args: answer})
    return {
        "vjp": lambda: mx.grad(lambda a: f(a, y).sum())(x),
        "jvp": lambda: mx.jvp(f, [x, y], [x, y]),
        "vmap": lambda: mx.vmap(f)(x, y),
    }[rule]


X2 = mx.array([1.0, 2.0])


@pytest.mark.parametrize(
    ("rule", "answer", "text"),
    [
        ("vjp", (X2,), "vjp must give one gradient for each of 2 arrays, gave 1"),
        ("vjp", 3.0, "vjp must give one gradient for each of 2 arrays, gave 0"),
        ("vjp", (mx.zeros(3), X2), r"vjp must give gradient 0 the shape \(2,\), gave \(3,\)"),
        ("vjp", (X2, mx.array([1, 2])), "gradient 1 a dtype that converts to float32, gave int32"),
        ("vjp", (X2, X2 * 1j), "gradient 1 a dtype that converts to float32, gave complex64"),
        ("jvp", (X2, X2), "jvp must give one tangent for each of 1 arrays, gave 2"),
        ("jvp", mx.zeros(()), r"jvp must give tangent 0 the shape \(2,\), gave \(\)"),
        ("jvp", mx.array([1, 2]), "tangent 0 a dtype that converts to float32, gave int32"),
        ("vmap", X2, r"must return a pair \(outputs, axes\), returned lamina.core.array"),
        ("vmap", (X2, 0, 0), "returned 3 items"),
        ("vmap", (X2, 1), "axis that the rule for vmap returns, 1 is out of bounds"),
        ("vmap", (X2, "a"), "axes that the rule for vmap returns must be an int, None, or a tree"),
        ("vmap", (X2, None), r"output 0 the shape \(\) \(mapped axis -1\), gave \(2,\)"),
        ("vmap", (mx.zeros(3), 0), r"output 0 the shape \(2,\) \(mapped axis 0\), gave \(3,\)"),
        ("vmap", ((X2, X2), 0), "one output for each of 1 arrays, gave 2"),
        ("vmap", (mx.array([1, 2]), 0), "output 0 the dtype float32, gave int32"),
    ],
)
def test_wrong_answers(rule: str, answer: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        wrong(rule, answer)()


def test_exceptions_of_rules_pass_through() -> None:
    def refuse(*args: Any) -> Any:
        raise KeyError("mine")

    for rule in ("vjp", "jvp", "vmap"):
        f, (x, y) = custom(lambda a, b: a * b, **{rule: refuse}), xy()
        with pytest.raises(KeyError, match="mine"):
            {
                "vjp": lambda f=f, x=x, y=y: mx.grad(lambda a: f(a, y).sum())(x),
                "jvp": lambda f=f, x=x, y=y: mx.jvp(f, [x, y], [x, y]),
                "vmap": lambda f=f, x=x, y=y: mx.vmap(f)(x, y),
            }[rule]()
    with pytest.raises(TypeError, match=r"custom_function.jvp\(\): argument 'f' wants a callable, got int"):
        mx.custom_function(mx.exp).jvp(3)


# ---- nesting: rules that are right must change nothing


def softsign() -> Any:
    """x / (1 + |x|) with all rules; the one for vmap runs over all examples at once."""

    def body(x: mx.array, s: mx.array) -> mx.array:
        return s * x / (1 + mx.abs(x))

    def vjp(p: Any, c: mx.array, o: mx.array) -> Any:
        x, s = p
        return c * s / mx.square(1 + mx.abs(x)), (c * x / (1 + mx.abs(x))).sum()

    def jvp(p: Any, t: Any) -> mx.array:
        x, s = p
        out = mx.zeros(x.shape, x.dtype)
        if t[0] is not None:
            out = out + t[0] * s / mx.square(1 + mx.abs(x))
        return out if t[1] is None else out + t[1] * x / (1 + mx.abs(x))

    def vmap(p: Any, axes: Any) -> Any:
        x, s = p
        if axes[0] is None:
            x = mx.broadcast_to(x, (s.shape[0], *x.shape))
        if axes[1] is not None:
            s = s.reshape(-1, *[1] * (x.ndim - 1))
        return body(x, s), 0

    return body, custom(body, vjp=vjp, jvp=jvp, vmap=vmap)


def loss_of(f: Any) -> Callable[[mx.array, mx.array], mx.array]:
    return lambda x, s: mx.square(f(mx.sin(f(x, s)), s + 0.5)).sum()


def along(f: Callable[..., mx.array]) -> Callable[..., mx.array]:
    return lambda x, s: mx.jvp(f, [x, s], [mx.cos(x), mx.ones(s.shape, s.dtype)])[1][0]


def total(f: Callable[..., mx.array]) -> Callable[..., mx.array]:
    return lambda x, s: f(x, s).sum()


def twice(f: Callable[..., mx.array]) -> Callable[..., mx.array]:
    return lambda x, s: mx.grad(lambda a: f(a, s) + f(a * 2, s))(x)


NESTED: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "grad": lambda f: mx.grad(f, argnums=(0, 1)),
    "jvp": along,
    "grad of grad": lambda f: mx.grad(total(mx.grad(f)), argnums=(0, 1)),
    "jvp of grad": lambda f: along(mx.grad(f)),
    "grad of jvp": lambda f: mx.grad(along(f), argnums=(0, 1)),
    "jvp of jvp": lambda f: along(along(f)),
    "jvp of grad of jvp": lambda f: along(mx.grad(along(f))),
    "compile of grad": lambda f: mx.compile(mx.grad(f, argnums=(0, 1))),
    "grad of compile": lambda f: mx.grad(mx.compile(f), argnums=(0, 1)),
    "grad of compile twice": lambda f: twice(mx.compile(f)),
    "grad of grad of compile": lambda f: mx.grad(total(mx.grad(mx.compile(f)))),
    "jvp of compile": lambda f: along(mx.compile(f)),
    "grad of checkpoint": lambda f: mx.grad(mx.checkpoint(f), argnums=(0, 1)),
    "jvp of checkpoint": lambda f: along(mx.checkpoint(f)),
    "grad of grad of checkpoint": lambda f: mx.grad(total(mx.grad(mx.checkpoint(f)))),
}
AXES = [(0, None), (1, 0), (None, 0)]
MAPPED: dict[str, Callable[[Any, Any], Callable[..., Any]]] = {
    "vmap": lambda f, axes: mx.vmap(f, in_axes=axes),
    "vmap of compile": lambda f, axes: mx.vmap(mx.compile(f), in_axes=axes),
    "compile of vmap": lambda f, axes: mx.compile(mx.vmap(f, in_axes=axes)),
    "vmap of grad": lambda f, axes: mx.vmap(mx.grad(f, argnums=(0, 1)), in_axes=axes),
    "grad of vmap": lambda f, axes: mx.grad(total(mx.vmap(f, in_axes=axes)), argnums=(0, 1)),
    "vmap of jvp": lambda f, axes: mx.vmap(along(f), in_axes=axes),
    "jvp of vmap": lambda f, axes: along(mx.vmap(f, in_axes=axes)),
    "vmap of grad of grad": lambda f, axes: mx.vmap(mx.grad(total(mx.grad(f))), in_axes=axes),
    "grad of vmap of grad": lambda f, axes: mx.grad(total(mx.vmap(mx.grad(f), in_axes=axes)), argnums=(0, 1)),
    "vmap of jvp of grad": lambda f, axes: mx.vmap(along(mx.grad(f)), in_axes=axes),
    "jvp of vmap of grad": lambda f, axes: along(mx.vmap(mx.grad(f), in_axes=axes)),
    "vmap of checkpoint": lambda f, axes: mx.vmap(mx.grad(mx.checkpoint(f)), in_axes=axes),
    "checkpoint of vmap": lambda f, axes: mx.grad(
        mx.checkpoint(total(mx.vmap(f, in_axes=axes))), argnums=(0, 1)
    ),
}


def check_nested(make: Callable[[Any], Callable[..., Any]], *args: np.ndarray) -> None:
    """What a nesting of transforms gives for the function with rules, against the plain one."""
    body, f = softsign()
    plain, ruled = make(loss_of(body)), make(loss_of(f))
    for _ in range(2):  # compiled functions are traced by the first call
        want, got = plain(*map(of, args)), ruled(*map(of, args))
        if isinstance(want, mx.array):
            want, got = (want,), (got,)
        for w, g in zip(want, got, strict=True):
            assert g.shape == w.shape
            # Values below 100, from a few dozen operations.
            assert np.abs(np.asarray(g) - np.asarray(w)).max() <= 2**10 * EPS["float64"] * 100
            assert np.abs(np.asarray(w)).max() > 1e-3


POINT = rng_of("custom").uniform(-2, 2, (3, 3)), np.array([0.7, 1.1, 1.9])


@pytest.mark.parametrize("name", NESTED)
def test_nested(name: str) -> None:
    check_nested(NESTED[name], POINT[0][0], POINT[1][0])


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("name", MAPPED)
def test_nested_over_examples(name: str, axes: tuple[int | None, int | None]) -> None:
    x = POINT[0] if axes[0] is not None else POINT[0][0]
    check_nested(lambda f: MAPPED[name](f, axes), x, POINT[1] if axes[1] is not None else POINT[1][0])


def test_vmap_of_vmap() -> None:
    for inner, outer in (((None, 0), (0, None)), ((0, 0), (1, None)), ((0, None), (1, 0))):
        for make in (lambda f: f, mx.grad, lambda f: mx.grad(f, argnums=1)):
            check_nested(
                lambda f, m=make, i=inner, o=outer: mx.vmap(mx.vmap(m(f), in_axes=i), in_axes=o), *POINT
            )


def test_rules_of_custom_functions_inside_others() -> None:
    """A rule that calls another custom function goes through that one's rules."""
    inner = custom(mx.exp, vjp=lambda p, c, o: c * 2, jvp=lambda p, t: t * 3)
    outer = custom(lambda x: inner(x), vjp=lambda p, c, o: c * inner(p))
    x = mx.array(0.0)
    assert mx.grad(outer)(x).item() == 1
    assert mx.grad(mx.grad(outer))(x).item() == 2
    assert mx.jvp(mx.grad(outer), [x], [mx.array(1.0)])[1][0].item() == 3
    assert mx.jvp(outer, [x], [mx.array(1.0)])[1][0].item() == 3


def test_compiled_traces_keep_the_rules() -> None:
    calls = []

    def body(x: mx.array, y: mx.array) -> mx.array:
        calls.append("body")
        return x * y

    f, (x, y) = custom(body, vjp=lambda p, c, o: (c * 3, None), jvp=lambda p, t: p[0] * 5), xy()
    g = mx.compile(f)
    for scale in (1.0, 2.0):
        assert_same(g(x * scale, y), X * scale * Y)
        assert_same(mx.grad(lambda a: g(a, y).sum())(x * scale), np.full(2, 3, np.float32))
        assert_same(mx.jvp(lambda a: g(a, y), [x * scale], [x])[1][0], 5 * X * scale)
    assert calls == ["body"]


def test_exported_functions_drop_the_rules(tmp_path: Path) -> None:
    x, y = xy()
    mx.export_function(str(tmp_path / "f.lamina"), odd(), x, y)
    loaded = mx.import_function(str(tmp_path / "f.lamina"))
    assert_same(loaded(x, y)[0], X * Y)
    assert_same(mx.grad(lambda a: loaded(a, y)[0].sum())(x), Y)
    mx.export_function(str(tmp_path / "g.lamina"), mx.checkpoint(lambda a: a * mx.stop_gradient(a)), x)
    loaded = mx.import_function(str(tmp_path / "g.lamina"))
    assert_same(mx.grad(lambda a: loaded(a)[0].sum())(x), X)


def test_functions_that_run_again_draw_the_same_numbers() -> None:
    """The gradient of a checkpoint with dropout is that of the mask that its value had."""

    def noisy(x: mx.array) -> mx.array:
        return x * mx.random.uniform(shape=(4,)) + mx.random.normal((4,))

    x = mx.ones(4)
    for f in (
        mx.checkpoint(noisy),
        mx.checkpoint(mx.checkpoint(noisy)),
        custom(noisy, vmap=lambda p, a: (p, a)),
    ):
        mx.random.seed(5)
        value, slope = mx.vjp(f, [x], [x])
        after = mx.random.uniform()
        mx.random.seed(5)
        want, want_slope = mx.vjp(noisy, [x], [x])
        assert_same(value[0], np.asarray(want[0]))
        assert_same(slope[0], np.asarray(want_slope[0]))
        # The sequence goes on as if the function had run once.
        assert after.item() == mx.random.uniform().item()
    mx.random.seed(5)
    want = np.asarray(mx.jvp(noisy, [x], [x])[1][0])
    mx.random.seed(5)
    assert_same(mx.jvp(custom(noisy, vjp=lambda p, c, o: c), [x], [x])[1][0], want)


def test_checkpoints_of_functions_that_captured_arrays() -> None:
    """Gradients reach what was captured or given by name, in every transform and in compiled functions."""
    x, y = xy()

    def plain(a: mx.array, b: mx.array) -> mx.array:
        return (mx.sin(a) * b * b).sum()

    def captured(a: mx.array, b: mx.array) -> mx.array:
        return mx.checkpoint(lambda c: (mx.sin(c) * b * b).sum())(a)

    def named(a: mx.array, b: mx.array) -> mx.array:
        return mx.checkpoint(lambda c, by: (mx.sin(c) * by["b"] * by["b"]).sum())(a, by={"b": b})

    def nested(a: mx.array, b: mx.array) -> mx.array:
        return mx.checkpoint(lambda c: mx.checkpoint(lambda d: (mx.sin(d) * c * c).sum())(a))(b)

    want = [np.asarray(g) for g in mx.grad(plain, argnums=(0, 1))(x, y)]
    slope = np.asarray(mx.jvp(plain, [x, y], [y, x])[1][0])
    second = np.asarray(mx.grad(lambda b: mx.grad(plain)(x, b).sum())(y))
    rows = [mx.stack([x, y, x]), mx.stack([y, x, x])]
    mapped = [np.asarray(g) for g in mx.vmap(mx.grad(plain, argnums=(0, 1)))(*rows)]
    for f in (captured, named, nested):
        for g in (f, mx.compile(f)):
            for _ in range(2):
                check_equal(mx.grad(g, argnums=(0, 1))(x, y), want)
            check_equal([mx.jvp(g, [x, y], [y, x])[1][0]], [slope])
            check_equal([mx.grad(lambda b, g=g: mx.grad(g)(x, b).sum())(y)], [second])
            check_equal(mx.vmap(mx.grad(g, argnums=(0, 1)))(*rows), mapped)
            check_equal(mx.grad(lambda a, b, g=g: mx.vmap(g)(a, b).sum(), argnums=(0, 1))(*rows), mapped)


def check_equal(got: Any, want: list[np.ndarray]) -> None:
    for g, w in zip(got, want, strict=True):
        # A few products of numbers below 10.
        assert np.abs(np.asarray(g) - w).max() <= 64 * EPS["float32"] * 10


@pytest.mark.parametrize("wrap", ["argument", "captured"])
def test_checkpoints_keep_nothing_but_their_inputs(wrap: str) -> None:
    """The peak of a gradient through n blocks of m sorts: n inputs, and one block's values."""
    n, m, size = 8, 8, 1 << 16
    x, w = (mx.array(rng_of("memory", i).standard_normal(size).astype(np.float32)) for i in range(2))

    def block(a: mx.array) -> mx.array:
        for _ in range(m):
            a = mx.sin(mx.sort(a) + 1)
        return a * mx.sort(w * 2) if wrap == "captured" else a

    def peak(f: Callable[[mx.array], mx.array]) -> float:
        def loss(a: mx.array) -> mx.array:
            for _ in range(n):
                a = f(a)
            return a.sum()

        mx.eval(x, w)
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(mx.grad(loss)(x))
        return (mx.get_peak_memory() - before) / (4 * size)

    # A sort keeps its operand and its result or order; a handful more is in work.
    assert peak(mx.checkpoint(block)) <= n + 2 * m + 8
    assert peak(block) >= 2 * n * (m - 1)


def test_random_numbers_in_compiled_checkpoints() -> None:
    f = mx.checkpoint(lambda x: x * mx.random.uniform(shape=(4,)))
    state = mx.random.state
    step = mx.compile(lambda x: mx.vjp(f, [x], [mx.ones(4)]), inputs=state, outputs=state)
    mx.random.seed(1)
    seen = []
    for _ in range(3):
        value, slope = step(mx.ones(4))
        assert_same(slope[0], np.asarray(value[0]))
        seen.append(value[0].tolist())
    assert seen[0] != seen[1] != seen[2]


def test_names_and_wrapping() -> None:
    def named(x: mx.array) -> mx.array:
        """What it does."""
        return x

    f = mx.custom_function(mx.custom_function(named).vjp(lambda p, c, o: c * 4))
    assert f.__name__ == "named"
    assert f.__doc__ == "What it does."
    assert mx.grad(f)(mx.array(1.0)).item() == 4


def test_captured_arrays_have_no_part_in_other_derivatives() -> None:
    """A captured array whose derivative is infinite, or which has none, is a constant."""
    zero, one = mx.array(0.0), mx.array(1.0)
    _, (tangent,) = mx.jvp(mx.checkpoint(lambda x: x + mx.sqrt(zero)), [one], [one])
    assert tangent.item() == 1.0
    matrix = mx.array([[2.0, 1.0], [0.0, 3.0]])
    wanted = float(np.linalg.eigvals(np.asarray(matrix)).real.sum())
    gradient = mx.grad(mx.checkpoint(lambda x: (x * mx.linalg.eigvals(matrix).real).sum()))(one)
    assert abs(gradient.item() - wanted) <= 1e-5 * abs(wanted)


def test_a_gradient_of_an_unknown_name_raises() -> None:
    f = mx.custom_function(lambda p: (p["weight"] ** 2).sum())
    f.vjp(lambda primals, cotangents, outputs: {"wieght": cotangents})
    with pytest.raises(ValueError, match=r"gave the key 'wieght', wanted keys of .*'weight'"):
        mx.grad(f)({"weight": mx.ones(2)})


def test_checkpoints_of_arrays_that_a_stream_is_computing() -> None:
    x = mx.ones((8, 8))
    for _ in range(300):
        w = mx.ones((8, 8))
        for _ in range(20):
            w = mx.tanh(w @ x) + 1
        mx.async_eval(w)
        y = mx.checkpoint(lambda a, w=w: (a @ w).sum())(x)
        z = mx.compile(lambda a, w=w: (a + w).sum())(x)
        assert np.isfinite((y + z).item())
