"""docs/nn.md names everything, and its tables are right."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lamina.core as mx
import lamina.nn as nn
import lamina.optimizers as optim
import lamina.utils
import pytest
from lamina.utils import tree_flatten

PAGE = (Path(__file__).parents[3] / "docs" / "nn.md").read_text(encoding="utf-8")
# Different lengths for all letters, but where a rule ties them: I and C are multiples of g.
SIZES = {
    "B": 2, "L": 9, "S": 5, "N": 3, "H": 11, "W": 13, "Z": 8, "I": 6, "O": 4, "C": 10, "E": 64, "M": 24,
    "V": 17, "h": 8, "k": 3, "s": 2, "p": 1, "d": 2, "g": 2, "q": 1, "G": 32, "b": 4,
}  # fmt: skip
LEADING = (2, 7)
PROSE = re.sub(r"^```.*?^```", "", PAGE, flags=re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")


def window(n: int) -> int:
    z = SIZES
    return (n + 2 * z["p"] - z["d"] * (z["k"] - 1) - 1) // z["s"] + 1


def widened(n: int) -> int:
    z = SIZES
    return (n - 1) * z["s"] - 2 * z["p"] + z["d"] * (z["k"] - 1) + z["q"] + 1


def value(text: str, namespace: Any = nn) -> Any:
    """The text as Python, with the letters' sizes and a module's names."""
    return eval(text, {**vars(namespace), **SIZES, "out": window, "up": widened})


def shape(text: str) -> tuple[int, ...] | None:
    found = value("(...,)" if text == "(...)" else text)
    if found is None:
        return None
    return tuple(n for d in found for n in (LEADING if d is Ellipsis else (d,)))


def shapes(cell: str) -> list[tuple[int, ...] | None]:
    return [shape(text) for text in CODE.findall(cell)]


def rows(section: str) -> list[list[str]]:
    """The cells of the table's rows in a section."""
    text = PROSE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = [
        [c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "
    ]
    assert len(found) > 1, section
    return found[1:]


def operands(cell: str) -> list[mx.array | None]:
    """Arrays of the shapes in a cell; whole numbers where it says that the last one holds such."""
    made = [None if s is None else mx.random.normal(s) for s in shapes(cell)]
    if cell.endswith("integers"):
        made[-1] = mx.zeros(shapes(cell)[-1], mx.int32)
    return made


def named_shapes(cell: str) -> dict[str, tuple[int, ...]]:
    parts = (text.partition(" ") for text in CODE.findall(cell))
    return {name: shape(after) or () for name, _, after in parts}


LAYER_SECTIONS = [
    "Linear layers and embeddings",
    "Convolutions",
    "Pooling and resizing",
    "Norms and dropout",
    "Recurrent layers",
    "Transformers",
]


def layer_rows() -> list[Any]:
    return [pytest.param(*row, id=row[0].strip("`")) for s in LAYER_SECTIONS for row in rows(s)]


@pytest.mark.parametrize(("layer", "given", "result", "parameters"), layer_rows())
def test_layer(layer: str, given: str, result: str, parameters: str) -> None:
    made = value(CODE.findall(layer)[0])
    found = made(*operands(given))
    found = found if isinstance(found, tuple) else (found,)
    assert [x.shape for x in found] == shapes(result)
    # Layers made of layers say so in words.
    if parameters or not made.leaf_modules():
        assert {k: v.shape for k, v in tree_flatten(made.parameters())} == named_shapes(parameters)


def test_activations() -> None:
    x = mx.random.normal((3, SIZES["C"]))

    def wanted(name: str) -> tuple[int, ...]:
        return (3, SIZES["C"] // 2) if name in ("GLU()", "glu") else x.shape

    for layers, functions in rows("Activations"):
        for text in CODE.findall(layers):
            assert value(text)(x).shape == wanted(text), text
        for name in CODE.findall(functions):
            more = (mx.ones((1,)),) if name == "prelu" else ()
            assert getattr(nn, name)(x, *more).shape == wanted(name), name


@pytest.mark.parametrize("row", [pytest.param(r, id=r[0].strip("`")) for r in rows("Losses")])
def test_loss(row: list[str]) -> None:
    name, given, result, default = row
    loss: Callable[..., mx.array] = getattr(nn.losses, name.strip("`"))
    # Variances are positive, and log-probabilities of no harm.
    x = [a if a is None or a.dtype == mx.int32 else mx.abs(a) for a in operands(given)]
    (wanted,) = shapes(result)
    assert loss(*x, reduction="none").shape == wanted
    assert loss(*x, reduction="mean").shape == ()
    assert loss(*x).shape == (wanted if default == "none" else ())


def test_initializers() -> None:
    for initializers, cell in rows("Initializers"):
        for text in CODE.findall(initializers):
            for s in shapes(cell):
                assert value(text, nn.init)(mx.zeros(s)).shape == s, text


def test_optimizers() -> None:
    parameter = {"w": mx.zeros((SIZES["O"], SIZES["I"]))}
    for optimizers, state in rows("Optimizers"):
        for text in CODE.findall(optimizers):
            optimizer = value(text, optim)
            optimizer.init(parameter)
            found = {k: v.shape for k, v in tree_flatten(optimizer.state["w"])}
            assert found == named_shapes(state), text


@pytest.mark.parametrize("module", [nn, nn.losses, nn.init, optim, lamina.utils], ids=lambda m: m.__name__)
def test_every_public_name_is_on_the_page(module: Any) -> None:
    named = {n for text in CODE.findall(PROSE) for n in re.findall(r"\w+", text)}
    public = {n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n))}
    public = {n for n in public if getattr(vars(module)[n], "__module__", "").startswith("lamina.")}
    missing = (set(module.__all__) if hasattr(module, "__all__") else public) - named - {"init", "losses"}
    assert not missing


def test_every_public_method_of_module_is_on_the_page() -> None:
    named = {text for row in rows("Modules") for cell in row for text in CODE.findall(cell)}
    static = {"is_module", "valid_child_filter", "valid_parameter_filter", "trainable_parameter_filter"}
    assert {n for n in vars(nn.Module) if not n.startswith("_")} - static <= named


def test_sizes_tell_letters_apart() -> None:
    assert math.prod(LEADING) not in SIZES.values()
    axes = [SIZES[n] for n in "BLSNHWZIOCEMV"]
    assert len(set(axes)) == len(axes)
