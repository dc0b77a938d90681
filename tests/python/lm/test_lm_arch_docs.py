"""What docs/add-an-architecture.md says, done in a copy of the package and of these tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lamina.core
import pytest
from lm.lm_golden import read_golden

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "add-an-architecture.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    c
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for c in block.splitlines()
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The Python package, these tests and the golden files."""
    skip = shutil.ignore_patterns("__pycache__", "*.so", "published", "core.pyi", "io", "tokenizers")
    shutil.copytree(ROOT / "tests" / "python" / "lm", tmp_path / "tests" / "python" / "lm", ignore=skip)
    shutil.copytree(ROOT / "tests" / "golden" / "lm", tmp_path / "tests" / "golden" / "lm")
    package = Path(lamina.__file__).parent
    shutil.copytree(
        package, tmp_path / "python" / "lamina", ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    # The compiled module is the one that is in use, with what it loads beside itself.
    compiled = Path(lamina.core.__file__)
    (tmp_path / "python" / "lamina" / compiled.name).symlink_to(compiled)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["tests/python"]\n')
    return tmp_path


def test_the_page(copy: Path) -> None:
    reader, row, case = CODE
    families = copy / "python" / "lamina" / "lm" / "config" / "families"
    (families / "glm.py").write_text(reader)
    table = families / "__init__.py"
    text = table.read_text()
    table.write_text(text.replace("_MODULES = {\n", "_MODULES = {\n" + row, 1))
    with (copy / "tests" / "python" / "lm" / "lm_cases.py").open("a") as cases:
        cases.write(case)
    kept = ROOT / "tests" / "golden" / "lm_docs" / "glm.safetensors"
    assert sum(text.count("\n") for text in CODE) < 60
    outputs = [run(copy, command, kept) for command in COMMANDS]
    assert len(outputs) == 4
    assert "\nglm " in outputs[0]
    assert outputs[1].startswith("model_type: glm\nlayers: 2 x Attention + MLP\n")
    passed = re.search(r"^(\d+) passed", outputs[3], re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= 8


def run(copy: Path, command: str, kept: Path) -> str:
    """The output of a command of the page in the copy."""
    if "make_lm.py" in command:
        # It needs transformers; what it wrote is kept.
        shutil.copy(kept, copy / "tests" / "golden" / "lm")
        return ""
    if command.endswith(" checkpoint"):
        (copy / "checkpoint").mkdir()
        (copy / "checkpoint" / "config.json").write_text(json.dumps(read_golden(kept).config))
    environment = {**os.environ, "PYTHONPATH": str(copy / "python")}
    words = [sys.executable, *command.split()[1:]]
    done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
