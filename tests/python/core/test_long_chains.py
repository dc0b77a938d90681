"""Chains of up to 100,000 operations need no deeper stack than short ones (long_chains.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from core.long_chains import CASES, STACK_BYTES

SCRIPT = Path(__file__).with_name("long_chains.py")


@pytest.mark.parametrize("name", CASES)
def test_stack_does_not_grow(name: str) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_recursion_is_noticed() -> None:
    """The stack of the cases is too small for a recursion over a chain: even Python's own, in C."""
    body = f"""
import sys, threading
threading.stack_size({STACK_BYTES})
def deep():
    x = []
    for _ in range(100_000):
        x = [x]
    sys.setrecursionlimit(10**6)
    repr(x)
thread = threading.Thread(target=deep)
thread.start()
thread.join()
"""
    assert subprocess.run([sys.executable, "-c", body], capture_output=True).returncode < 0
