"""The include rule holds in this repository, and the tool that says so sees each way of breaking it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools/check/include_rule.py"


def run_tool(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the tool on a tree."""
    return subprocess.run([sys.executable, str(TOOL), str(root)], capture_output=True, text=True, check=False)


def write(root: Path, path: str, *lines: str) -> None:
    """Write one source file into a tree."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n")


def test_repository_keeps_the_rule() -> None:
    done = run_tool(ROOT)
    assert done.stdout == ""
    assert done.returncode == 0


ALLOWED = [
    ("cpp/include/lamina/array.h", '#include "lamina/dtype.h"'),
    ("cpp/include/lamina/array.h", "#include <string_view>"),
    ("cpp/include/lamina/array.h", "#include <stdint.h>"),
    ("cpp/include/lamina/ops.h", '#include "lamina/table/unary.def"'),
    ("cpp/src/core/a.cc", "#include <fmt/format.h>"),
    ("cpp/src/graph/a.cc", '#include "core/fail.h"'),
    ("cpp/src/fusion/a.cc", '#include "quant/affine.h"'),
    ("cpp/src/backend/backend.cc", '#include "backend/cpu/cpu.h"'),
    ("cpp/src/backend/cpu/a.cc", '#include "backend/reference/b.h"'),
    ("cpp/src/backend/cpu/a.cc", '#include "backend/backend.h"'),
    ("cpp/src/backend/cpu/a.cc", "#include <hwy/highway.h>"),
    ("cpp/bindings/a.cc", "#include <pybind11/pybind11.h>"),
    ("cpp/bindings/a.cc", '#include "ops/a.h"'),
    ("cpp/bindings/a.cc", '#include "convert.h"'),
]


@pytest.mark.parametrize(("path", "line"), ALLOWED)
def test_allowed_include_passes(tmp_path: Path, path: str, line: str) -> None:
    write(tmp_path, path, line)
    done = run_tool(tmp_path)
    assert (done.stdout, done.returncode) == ("", 0)


FORBIDDEN = [
    ("cpp/include/lamina/array.h", '#include "core/fail.h"', "a public header includes"),
    ("cpp/include/lamina/array.h", "#include <fmt/format.h>", "only the standard library"),
    ("cpp/include/lamina/array.h", "#include <Eigen/Dense>", "only the standard library"),
    ("cpp/include/lamina/array.h", "#  include <pybind11/pybind11.h>", "only the standard library"),
    ("cpp/src/core/a.cc", '#include "graph/node.h"', "core may see core"),
    ("cpp/src/memory/a.h", '#include "ops/a.h"', "memory may see core, memory"),
    ("cpp/src/quant/a.cc", '#include "io/gguf.h"', 'quant includes "io/gguf.h"'),
    ("cpp/src/autograd/a.cc", '#include "fusion/tape.h"', 'autograd includes "fusion/tape.h"'),
    ("cpp/src/fusion/a.cc", '#include "backend/backend.h"', 'fusion includes "backend/backend.h"'),
    ("cpp/src/backend/a.cc", '#include "bindings/convert.h"', 'backend includes "bindings/convert.h"'),
    ("cpp/src/backend/a.h", '#include "backend/cpu/cpu.h"', "shared and includes from cpu/"),
    (
        "cpp/src/backend/reference/a.cc",
        '#include "backend/cpu/cpu.h"',
        "backend/reference includes from backend/cpu",
    ),
    (
        "cpp/src/backend/null/a.cc",
        '#include "backend/reference/r.h"',
        "backend/null includes from backend/reference",
    ),
    ("cpp/src/ops/a.cc", '#include "../core/fail.h"', "climbs out of its folder"),
    ("cpp/src/ops/a.cc", '#include "extras/fail.h"', "begins with no layer"),
    ("cpp/src/ops/a.cc", "#include <pybind11/numpy.h>", "only bindings may"),
    ("cpp/src/io/a.cc", "#include <Python.h>", "only bindings may"),
    ("cpp/src/ops/kinds.def", '#include "backend/cpu/cpu.h"', 'ops includes "backend/cpu/cpu.h"'),
    ("cpp/src/extras/a.cc", "#include <vector>", "holds only layers"),
]


@pytest.mark.parametrize(("path", "line", "message"), FORBIDDEN)
def test_forbidden_include_is_named(tmp_path: Path, path: str, line: str, message: str) -> None:
    write(tmp_path, path, "#pragma once", line)
    done = run_tool(tmp_path)
    assert done.returncode == 1
    where = str(Path(path).parent) + ":1" if "extras/a" in path else f"{path}:2"
    assert done.stdout.startswith(where)
    assert message in done.stdout


def test_cmake_and_the_rule_name_the_same_layers() -> None:
    """cmake/LaminaLayers.cmake states the same rows as the tool, so neither can drift."""
    sys.path.insert(0, str(TOOL.parent))
    try:
        from include_rule import LAYERS
    finally:
        sys.path.pop(0)
    rows: dict[str, tuple[str, ...]] = {}
    for line in (ROOT / "cmake/LaminaLayers.cmake").read_text().splitlines():
        if line.startswith("lamina_layer("):
            name, *rest = line.removeprefix("lamina_layer(").rstrip(")").split()
            rest = rest[: rest.index("GENERATED")] if "GENERATED" in rest else rest
            rows[name] = tuple(word for word in rest if word not in ("UNITY", "DEPENDS"))
    assert rows == {layer: below for layer, below in LAYERS.items() if layer != "bindings"}
