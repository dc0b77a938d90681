"""Chains of up to 100,000 operations need no deeper stack than short ones (long_chains.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from core.long_chains import CASES

SCRIPT = Path(__file__).with_name("long_chains.py")


@pytest.mark.parametrize("name", CASES)
def test_stack_does_not_grow(name: str) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_recursion_is_noticed() -> None:
    """The stack of the cases is too small for a recursion over a chain: even Python's own, in C."""
    deep = "x = []\nfor _ in range(100_000): x = [x]\n"
    body = f"import threading\nthreading.stack_size({256 << 10})\ndef f():\n import sys\n sys.setrecursionlimit(10**6)\n"
    body += "".join(f" {line}\n" for line in deep.splitlines()) + " repr(x)\n"
    body += "t = threading.Thread(target=f)\nt.start()\nt.join()\n"
    assert subprocess.run([sys.executable, "-c", body], capture_output=True).returncode < 0
