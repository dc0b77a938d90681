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
    with pytest.raises(ValueError, match="inputs are positional and keyword arrays.*got float"):
        mx.export_function(path, mx.exp, 3.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must return an array or a sequence of arrays, got int"):
        mx.export_function(path, lambda x: 3, X)
    with pytest.raises(TypeError, match="'fun' wants a callable, got int"):
        mx.export_function(path, 3, X)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="shapeless=True is not supported"):
        mx.export_function(path, mx.exp, X, shapeless=True)
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
    with pytest.raises(ValueError, match="compile|traced|transform"):
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
    with pytest.raises(LookupError), mx.exporter(path, mx.exp) as exporter:
        exporter(X)
        raise LookupError
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
