"""Functions written to files and read again: arguments, several graphs, errors, whole models."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lamina.core as mx
import lamina.nn as nn
import numpy as np
import pytest


def weighted(x: mx.array, y: mx.array) -> tuple[mx.array, mx.array]:
    return mx.exp(x) * y + 1, x.sum()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "f.lamina")


X, Y = mx.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]), mx.array([1.0, 2.0, 3.0])


def same(a: Any, b: Any) -> bool:
    return [np.asarray(v).tobytes() for v in a] == [np.asarray(v).tobytes() for v in b]


def test_inputs_in_every_form(path: str) -> None:
    want = weighted(X, Y)
    mx.export_function(path, weighted, X, Y)
    f = mx.import_function(path)
    for got in (f(X, Y), f((X, Y)), f([X, Y]), f((X, Y), {})):
        assert isinstance(got, tuple)
        assert same(got, want)
    mx.export_function(path, weighted, (X,), {"y": Y})
    f = mx.import_function(path)
    for got in (f(X, y=Y), f((X,), {"y": Y})):
        assert same(got, want)
    mx.export_function(path, weighted, x=X, y=Y)
    assert same(mx.import_function(path)({"y": Y, "x": X}), want)


@pytest.mark.parametrize(
    "call",
    [lambda f: f(X), lambda f: f(X[:, :2], Y), lambda f: f(X, z=Y), lambda f: f(X.astype(mx.int32), Y)],
    ids=["one", "shape", "name", "dtype"],
)
def test_other_inputs_are_refused(path: str, call: Any) -> None:
    mx.export_function(path, weighted, X, Y)
    wanted = r"no function of \(.*\); wanted \(float32 \(2, 3\), float32 \(3,\)\)"
    with pytest.raises(ValueError, match=wanted):
        call(mx.import_function(path))


def test_bad_arguments(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"inputs are positional and keyword arrays.*got float"):
        mx.export_function(path, mx.exp, 3.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must return an array or a sequence of arrays, got int"):
        mx.export_function(path, lambda x: 3, X)
    with pytest.raises(TypeError, match="'fun' wants a callable, got int"):
        mx.export_function(path, 3, X)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="metadata is for files"):
        mx.export_function(lambda event: None, mx.exp, X, metadata="text")
    with pytest.raises(FileNotFoundError):
        mx.import_function(str(tmp_path / "none"))
    (tmp_path / "junk").write_bytes(b"junk" * 10)
    with pytest.raises(ValueError, match="not a safetensors file"):
        mx.import_function(str(tmp_path / "junk"))
    with pytest.raises(FileNotFoundError):
        mx.export_function(str(tmp_path / "no" / "folder"), mx.exp, X)
    assert not Path(path).exists()


def test_an_exception_of_the_function_passes_through(path: str) -> None:
    def fails(x: mx.array) -> mx.array:
        raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        mx.export_function(path, fails, X)
    with pytest.raises(ValueError, match=r"compile|traced|transform"):
        mx.export_function(path, lambda x: x * x.item(), mx.array(1.0))


def test_exporter_collects_and_writes_on_leaving(path: str) -> None:
    with mx.exporter(path, lambda *a: sum(a[1:], a[0]), metadata="sums") as exporter:
        exporter(mx.array(1))
        exporter(mx.array(1), mx.array(2))
        assert not Path(path).exists()
        with pytest.raises(ValueError, match=r"already has a function of \(int32 \(\)\)"):
            exporter(mx.array(3))
    with pytest.raises(ValueError, match="has been closed"):
        exporter(mx.array(1), mx.array(2), mx.array(3))
    exporter.close()
    f, text = mx.import_function(path, return_metadata=True)
    assert text == "sums"
    assert f(mx.array(1), mx.array(5))[0].item() == 6


def test_nothing_is_written_after_an_exception(path: str) -> None:
    def run() -> None:
        with mx.exporter(path, mx.exp) as exporter:
            exporter(X)
            raise LookupError

    with pytest.raises(LookupError):
        run()
    assert not Path(path).exists()


def test_callback_gets_the_parts(path: str) -> None:
    events: list[dict[str, Any]] = []
    held = mx.array([1.0, 2.0, 3.0])
    mx.export_function(events.append, lambda x, y: mx.exp(x) * y + held, X, y=Y)
    kinds = [e["type"] for e in events]
    assert kinds == ["inputs", "keyword_inputs", "outputs", "constants", *["primitive"] * 3]
    assert events[0]["inputs"] == [("A", (2, 3), mx.float32), ("B", (3,), mx.float32)]
    assert events[1]["keywords"] == [("y", "B")]
    assert events[2]["outputs"] == [("C", (2, 3), mx.float32)]
    assert [e["name"] for e in events[4:]] == ["exp", "multiply", "add"]
    assert events[-1]["outputs"] == events[2]["outputs"]


def test_transforms_of_an_imported_function(path: str) -> None:
    def loss(w: mx.array, x: mx.array) -> mx.array:
        return mx.mean(mx.square(mx.tanh(x @ w)))

    w, x = mx.random.normal((6, 3), key=mx.random.key(1)), mx.random.normal((5, 6), key=mx.random.key(2))
    mx.export_function(path, loss, w, x)
    f = mx.import_function(path)
    assert same([mx.grad(lambda a: f(a, x)[0])(w)], [mx.grad(loss)(w, x)])
    assert same([mx.compile(lambda a: f(a, x)[0])(w)], [loss(w, x)])
    many = mx.random.normal((4, 6, 3), key=mx.random.key(3))
    mapped = mx.vmap(lambda a: f(a, x)[0])(many)
    np.testing.assert_allclose(mapped, [loss(m, x).item() for m in many], rtol=1e-5)


def test_a_whole_model_and_its_training_step(path: str) -> None:
    mx.random.seed(3)
    model = nn.TransformerEncoder(2, 16, 4, 32)
    x = mx.random.normal((2, 5, 16))
    mx.export_function(path, lambda a: model(a, None), x)
    assert same(mx.import_function(path)(x), [model(x, None)])

    def step(params: list[mx.array], a: mx.array) -> list[mx.array]:
        def loss(p: list[mx.array]) -> mx.array:
            return mx.sum(mx.square(mx.fast.rms_norm(a @ p[0], p[1], 1e-5)))

        return [p - 0.1 * g for p, g in zip(params, mx.grad(loss)(params), strict=True)]

    params = [mx.random.normal((16, 8)), mx.ones(8)]
    mx.export_function(path, lambda p, q, a: step([p, q], a), *params, x)
    assert same(mx.import_function(path)(*params, x), step(params, x))


def test_dot_of_paths_and_streams(tmp_path: Path) -> None:
    x = mx.array(1.0)
    text = io.StringIO()
    mx.export_to_dot(text, mx.exp(x) + 1, x=x)
    assert text.getvalue().startswith("digraph")
    assert 'label="x\\nfloat32 ()"' in text.getvalue()
    mx.export_to_dot(tmp_path / "g.dot", mx.exp(x) + 1, x=x)
    assert (tmp_path / "g.dot").read_text() == text.getvalue()
    with pytest.raises(TypeError, match="'file'"):
        mx.export_to_dot(3, x)


# ---- other lengths ----


def lengths(*shapes: tuple[int, ...]) -> list[mx.array]:
    return [mx.random.normal(s, key=mx.random.key(i)) for i, s in enumerate(shapes)]


def softmax_by_hand(x: mx.array) -> mx.array:
    e = mx.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    b, length, d = q.shape
    q, k, v = (a.reshape(b, -1, 2, d // 2).transpose(0, 2, 1, 3) for a in (q, k, v))
    scores = q @ k.swapaxes(-1, -2) / (d // 2) ** 0.5
    return (softmax_by_hand(scores) @ v).transpose(0, 2, 1, 3).reshape(b, length, d)


def windows(x: mx.array) -> mx.array:
    n = x.shape[0]
    return mx.as_strided(x, (n - 2, 3), (1, 1)) * mx.arange(n - 2)[:, None] / n


def shifted(x: mx.array) -> mx.array:
    return mx.concatenate([x[1:], mx.zeros((1, x.shape[1]))]) * (1 / x.shape[1]) + x.shape[0] ** -0.5


GENERIC = [
    (softmax_by_hand, ((3, 5),), [((7, 5),), ((1, 5),), ((4, 9),), ((0, 5),)]),
    (attention, ((2, 5, 8), (2, 6, 8), (2, 6, 8)), [((3, 4, 8), (3, 9, 8), (3, 9, 8))]),
    (windows, ((9,),), [((4,),), ((30,),)]),
    (shifted, ((4, 6),), [((9, 6),), ((2, 11),)]),
    (lambda x: mx.mean(x, axis=0) + mx.var(x), ((4, 6),), [((9, 3),)]),
    (lambda x: x.flatten()[::-1], ((4, 6),), [((2, 5),), ((7, 7),)]),
    (lambda x: mx.tril(x) + mx.eye(x.shape[0]), ((4, 4),), [((6, 6),), ((1, 1),)]),
    (lambda x: mx.outer(x, x).reshape(x.shape[0] ** 2), ((4,),), [((9,),)]),
    (lambda x, i: mx.take(x, i, axis=0), ((6, 3), ()), [((9, 3), ()), ((6, 4), ())]),
    (mx.linalg.inv, ((3, 3),), [((5, 5),)]),
    (lambda x: mx.split(x, 2, axis=1)[1] + mx.pad(x, 1)[1:-1, 1:4], ((2, 6),), [((5, 6),)]),
    (lambda x: mx.cumsum(mx.sort(x, axis=-1), axis=0).T, ((4, 6),), [((5, 3),)]),
]


@pytest.mark.parametrize(("f", "shapes", "others"), GENERIC, ids=[str(i) for i in range(len(GENERIC))])
def test_other_lengths(path: str, f: Any, shapes: Any, others: Any) -> None:
    def inputs(shapes: Any) -> list[mx.array]:
        return [a if a.ndim else mx.array(1) for a in lengths(*shapes)]

    mx.export_function(path, f, *inputs(shapes), shapeless=True)
    imported = mx.import_function(path)
    calls = 0

    def counted(*args: mx.array) -> mx.array:
        nonlocal calls
        calls += 1
        return f(*args)

    compiled = mx.compile(counted, shapeless=True)
    compiled(*inputs(shapes))
    calls = 0
    for trial in (shapes, *others):
        xs = inputs(trial)
        assert same(imported(*xs), [f(*xs)]), trial
        assert same([compiled(*xs)], [f(*xs)]), trial
    assert calls == 0


@pytest.mark.parametrize("mode", ["affine", "mxfp4", "mxfp8", "nvfp4"])
def test_quantized_functions_in_every_mode(path: str, mode: str) -> None:
    w, x = lengths((12, 64), (3, 64))

    def f(w: mx.array, x: mx.array) -> list[mx.array]:
        parts = mx.quantize(w, mode=mode)
        return [*parts, mx.dequantize(*parts, mode=mode), mx.quantized_matmul(x, *parts, mode=mode)]

    mx.export_function(path, f, w, x, shapeless=True)
    g = mx.import_function(path)
    for rows in (3, 8):
        y = mx.random.normal((rows, 64), key=mx.random.key(rows))
        assert same(g(w, y), f(w, y))


def test_lengths_that_the_function_needs_stay(path: str) -> None:
    weights = mx.random.normal((6, 3), key=mx.random.key(0))
    mx.export_function(path, lambda x: x.reshape(-1, 2, 3) @ weights[:3], mx.ones((4, 6)), shapeless=True)
    f = mx.import_function(path)
    assert f(mx.ones((9, 6)))[0].shape == (9, 2, 3)
    with pytest.raises(
        ValueError, match=r"no function of \(float32 \(4, 12\)\); wanted \(float32 \(a, 6\)\)"
    ):
        f(mx.ones((4, 12)))
    with pytest.raises(ValueError, match=r"wanted \(float32 \(a, 6\)\)"):
        f(mx.ones((4, 6), mx.float16))


def test_numbers_that_are_no_polynomials_keep_their_lengths(path: str) -> None:
    def halves(x: mx.array) -> mx.array:
        return x[: x.shape[0] // 2] * (1.0 if x.shape[0] > 100 else 2.0)

    mx.export_function(path, halves, mx.ones((8, 5)), shapeless=True)
    f = mx.import_function(path)
    assert same(f(mx.ones((8, 7))), [halves(mx.ones((8, 7)))])
    with pytest.raises(ValueError, match=r"wanted \(float32 \(8, a\)\)"):
        f(mx.ones((10, 5)))
    compiled = mx.compile(halves, shapeless=True)
    for n in (8, 9, 10, 300, 8):
        assert same([compiled(mx.ones((n, 5)))], [halves(mx.ones((n, 5)))])


ENDS = [
    # Function, recorded shapes, those that its graph takes, those that need another: a slice of all is none.
    (lambda x: x[:5], ((8,),), [((6,),), ((900,),)], [((5,),), ((4,),), ((1,),)]),
    (lambda x: x[:100], ((8,),), [((7,),), ((100,),)], [((101,),), ((900,),)]),
    (lambda x: x[-1:5], ((6,),), [((9,),), ((6,),)], [((5,),), ((1,),)]),
    (lambda x: x[-3:], ((6,),), [((4,),), ((30,),)], [((3,),), ((1,),)]),
    (lambda x: x[1:, -1:-1], ((4, 6),), [((2, 1),)], []),
    (lambda x: mx.diagonal(x, 1), ((3, 9),), [((3, 12),), ((3, 4),)], [((3, 3),), ((3, 2),)]),
    (lambda x: mx.roll(x, 3), ((8,),), [((4,),), ((9,),)], [((3,),), ((2,),)]),
    (lambda x, y: mx.concatenate([x, y])[:9], ((8,), (7,)), [((9,), (30,))], [((2,), (2,))]),
    (lambda x: x * (1.0 if x.shape[0] > 20 else 2.0), ((8,),), [((20,),), ((1,),)], [((21,),)]),
]


@pytest.mark.parametrize(("f", "shapes", "inside", "outside"), ENDS, ids=[str(i) for i in range(len(ENDS))])
def test_lengths_at_which_a_graph_ends(path: str, f: Any, shapes: Any, inside: Any, outside: Any) -> None:
    """Compiled functions are recorded again there, files refuse; neither gives another result."""
    calls = 0

    def counted(*args: mx.array) -> mx.array:
        nonlocal calls
        calls += 1
        return f(*args)

    mx.export_function(path, f, *lengths(*shapes), shapeless=True)
    imported = mx.import_function(path)
    compiled = mx.compile(counted, shapeless=True)
    compiled(*lengths(*shapes))
    calls = 0
    for trial in inside:
        xs = lengths(*trial)
        assert same(imported(*xs), [f(*xs)]), trial
        assert same([compiled(*xs)], [f(*xs)]), trial
        assert calls == 0, trial
    for trial in outside:
        xs = lengths(*trial)
        with pytest.raises(ValueError, match=r"no function of .*; wanted .* (from|up to) \d+|wants a box"):
            imported(*xs)
        for _ in range(2):
            assert same([compiled(*xs)], [f(*xs)]), trial


def test_shapeless_state_and_custom_gradients() -> None:
    state = {"n": mx.array(0.0)}

    def step(x: mx.array) -> mx.array:
        state["n"] = state["n"] + x.shape[0]
        return x * state["n"]

    compiled = mx.compile(step, inputs=state, outputs=state, shapeless=True)
    for n in (4, 7, 4):
        compiled(mx.ones(n))
    assert state["n"].item() == 15

    @mx.custom_function
    def doubled(x: mx.array) -> mx.array:
        return x * 1.0

    @doubled.vjp
    def rule(primals: Any, cotangent: mx.array, output: Any) -> mx.array:
        return cotangent * 2

    total = mx.compile(lambda x: doubled(x).sum(), shapeless=True)
    for n in (3, 5):
        assert mx.grad(total)(mx.ones(n)).tolist() == [2.0] * n


def test_interrupts_pass_through_a_search_for_lengths() -> None:
    def stops(x: mx.array) -> mx.array:
        if x.shape[0] != 4:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        mx.compile(stops, shapeless=True)(mx.ones(4))
