"""The task runner's surface: help, unknown tasks, and what a user without rights is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run_dev(*arguments: str, path: str | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run ./dev with these arguments, on a search path of its own if one is given."""
    environment = {**os.environ, **settings}
    if path is not None:
        environment["PATH"] = path
    return subprocess.run(
        [str(ROOT / "dev"), *arguments], capture_output=True, text=True, check=False, env=environment, cwd="/"
    )


@pytest.mark.parametrize("word", [(), ("help",), ("-h",), ("--help",)])
def test_help_lists_the_tasks(word: tuple[str, ...]) -> None:
    done = run_dev(*word)
    assert done.returncode == 0
    tasks = ["demo", "test", "bench", "check", "format", "docs", "build", "sanitize", "fuzz", "lock", "clean"]
    for task in tasks:
        assert f"\n  {task}" in done.stdout
    assert done.stderr == ""


def test_unknown_task_fails() -> None:
    done = run_dev("polish")
    assert done.returncode == 1
    assert done.stderr.endswith("[dev] unknown task 'polish'\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["everything"],
            "bench: wanted micro, compare, e2e, scaling, contention, memory, invariance or report, "
            "got 'everything'",
        ),
        (["all", "--tiny"], "bench: arguments belong to one of the programs: name it"),
    ],
    ids=["unknown", "ambiguous"],
)
def test_bench_says_what_it_takes(arguments: list[str], message: str) -> None:
    done = run_dev("bench", *arguments)
    assert done.returncode == 1
    assert done.stderr == f"[dev] {message}\n"


def test_fuzz_says_what_it_takes() -> None:
    done = run_dev("fuzz", "zip")
    assert done.returncode == 1
    assert done.stderr == "[dev] fuzz: wanted json, npy, npz, safetensors or gguf, got 'zip'\n"


def fake_tools(folder: Path, **scripts: str) -> str:
    """A search path with the given shell scripts in it and the few real tools ./dev needs to get that far."""
    for name, body in scripts.items():
        tool = folder / name.replace("_", "-")
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)
    for name in ("sh", "dirname", "cat", "grep"):
        real = shutil.which(name)
        assert real is not None
        if not (folder / name).exists():
            (folder / name).symlink_to(real)
    return str(folder)


def test_without_rights_the_missing_packages_are_named(tmp_path: Path) -> None:
    path = fake_tools(
        tmp_path, dpkg_query='case "$*" in *cmake*|*g++*) echo installed ;; *) exit 1 ;; esac', id="echo 1000"
    )
    done = run_dev("build", path=path)
    assert done.returncode == 1
    assert "As root: apt-get install ninja-build libhwy-dev" in done.stderr
    assert " cmake" not in done.stderr


def test_too_old_python_is_refused(tmp_path: Path) -> None:
    old = 'case "$*" in *base_prefix*) echo /opt/old ;; -V) echo Python 3.8.1 ;; *) exit 1 ;; esac'
    path = fake_tools(tmp_path, dpkg_query="echo installed", oldpython=old)
    done = run_dev("build", path=path, LAMINA_PYTHON="oldpython")
    assert done.returncode == 1
    assert done.stderr == "[dev] oldpython is Python 3.8.1; lamina needs Python 3.10 or newer\n"
