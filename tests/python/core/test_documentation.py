"""Every public function is documented, inspectable, and its examples give what they say."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

import lamina.core as mx
import pytest

FUNCTIONS = {f"{scope}.{name}": (signature, doc) for scope, name, signature, doc, _ in mx._list_functions()}
PUBLIC = {n: v for n, v in FUNCTIONS.items() if not n.rpartition(".")[2].startswith("_")}


@pytest.mark.parametrize("name", PUBLIC)
def test_documentation(name: str) -> None:
    signature, doc = PUBLIC[name]
    lines = doc.strip().split("\n")
    assert lines[0].endswith(".")
    assert "Examples\n--------\n>>> " in doc
    inside = signature[
        signature.index("(") + 1 : signature.rindex(")") if "->" not in signature else signature.index(") ->")
    ]
    if inside not in {"", "self"}:
        assert "Parameters\n----------\n" in doc
        section = doc.partition("Parameters\n----------\n")[2].partition("\n\n")[0].split("\n")
        for number, line in enumerate(section):
            described = number + 1 < len(section) and section[number + 1].startswith("    ")
            assert line.startswith("    ") or described, f"{line} is not described"
    if not signature.endswith(")") and not signature.endswith("-> None"):
        assert "Returns\n-------\n" in doc


@pytest.mark.parametrize("name", PUBLIC)
def test_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = doctest.DocTestParser().get_doctest(PUBLIC[name][1], {"mx": mx}, name, None, 0)
    output: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=output.append)
    assert not output, "".join(output)


@pytest.mark.parametrize("name", [n for n in PUBLIC if n.startswith("lamina.core.")])
def test_signatures_can_be_inspected(name: str) -> None:
    value: Any = mx
    for part in name.removeprefix("lamina.core.").split("."):
        value = getattr(value, part)
    parameters = inspect.signature(value).parameters
    text = PUBLIC[name][0]
    assert all(p in text for p in parameters)


def test_methods_can_be_inspected() -> None:
    assert list(inspect.signature(mx.array.sum).parameters) == ["self", "axis", "keepdims", "stream"]
    assert list(inspect.signature(mx.array([1]).sum).parameters) == ["axis", "keepdims", "stream"]
    assert list(inspect.signature(mx.array).parameters) == ["val", "dtype"]


def stub_module() -> Any:
    """The stub generator, which is a program of the build."""
    path = Path(__file__).parents[3] / "cpp" / "bindings" / "make_stubs.py"
    spec = importlib.util.spec_from_file_location("make_stubs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_stub_names_everything() -> None:
    text = stub_module().stub(sys.modules["lamina.core"])
    compile(text, "core.pyi", "exec")
    for name in PUBLIC:
        last = name.rpartition(".")[2]
        assert f"def {last}(" in text
    for name in vars(mx):
        if not name.startswith("_"):
            assert any(f"{lead}{name}" in text for lead in ("def ", "class ", "\n")), name
