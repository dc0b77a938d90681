"""The size gate: this repository passes it, and a file over the limit does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools/check/file_sizes.py"


def run_tool(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the gate on a tree."""
    return subprocess.run([sys.executable, str(TOOL), str(root)], capture_output=True, text=True, check=False)


def test_repository_passes() -> None:
    done = run_tool(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name", ["a.cc", "a.h", "a.py", "a.def", "a.pyi", "a.cmake", "a.sh", "dev", "CMakeLists.txt"]
)
def test_limit_is_exact(tmp_path: Path, name: str) -> None:
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    path.write_text("x\n" * 1000)
    at_limit = run_tool(tmp_path)
    assert at_limit.returncode == 0
    assert at_limit.stdout.startswith(f"note: folder/{name}: 1000 lines")
    path.write_text("x\n" * 1001)
    over = run_tool(tmp_path)
    assert over.returncode == 1
    assert over.stdout == f"folder/{name}: 1001 lines; the limit is 1000\n"


@pytest.mark.parametrize(
    "path", ["data.json", "x.lock", "book.ipynb", "build/a.cc", ".venv/a.py", "build-x/a.cc"]
)
def test_other_files_are_free(tmp_path: Path, path: str) -> None:
    target = tmp_path / path
    target.parent.mkdir(exist_ok=True)
    target.write_text("x\n" * 5000)
    done = run_tool(tmp_path)
    assert (done.stdout, done.returncode) == ("", 0)
