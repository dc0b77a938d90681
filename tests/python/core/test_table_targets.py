"""The table tests under every SIMD target of this CPU, the compiler's baseline among them.

Each target runs in a process of its own, where LAMINA_SIMD forces it, the tests of the elementwise rows, the
reductions and the structured rows: all their dtypes, layouts and corners. Gradients, vmap and error texts are
left out: they are graphs of the same kernels, or run none. The process that runs the whole suite has the best
target, so that one is not run again.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest

HERE = Path(__file__).parent
TARGETS = ["sse2", "avx2", "avx3", "avx3_dl"]
FILES = ["elementwise", "reduce", "structured", "kernels"]
# The order of a sum follows the width of the vectors: its last bits tell targets of different widths apart.
PROBE = """
import hashlib
import lamina.core as mx
import numpy as np
x = mx.array(np.random.default_rng(0).standard_normal((64, 1000)).astype(np.float32))
print(mx.device_info()["simd"], hashlib.sha256(np.asarray(x.sum(1)).tobytes()).hexdigest())
"""


def environment(target: str) -> dict[str, str]:
    return {**os.environ, "LAMINA_SIMD": target, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def run(target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in which the target is forced."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment(target),
        cwd=HERE.parents[2],
        check=False,
    )


def probe(target: str) -> list[str]:
    """The target in use and the digest of sums; skips where this CPU has no such target."""
    done = run(target, "-c", PROBE)
    if f"wanted '{target}', but this CPU supports only" in done.stderr:
        assert done.stderr.strip().splitlines()[-1].startswith("ValueError: [LAMINA_SIMD]")
        assert target != "sse2", "the baseline runs everywhere"
        pytest.skip(f"this CPU has no {target}")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("target", TARGETS)
def test_forcing_a_target(target: str) -> None:
    """The forced target is the one in use, and its vectors are of another width than the baseline's."""
    name, digest = probe(target)
    assert name == target
    x = mx.array(np.random.default_rng(0).standard_normal((64, 1000)).astype(np.float32))
    here = hashlib.sha256(np.asarray(x.sum(1)).tobytes()).hexdigest()
    if target == mx.device_info()["simd"]:
        assert digest == here
    if target != "sse2":
        assert digest != probe("sse2")[1]


def test_an_unknown_target_is_named_with_those_that_exist() -> None:
    done = run("fast", "-c", PROBE)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("ValueError: [LAMINA_SIMD] wanted one of ")
    assert "got 'fast'" in done.stderr
    assert "sse2" in done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_tables(target: str) -> None:
    probe(target)
    if target == mx.device_info()["simd"]:
        pytest.skip(f"{target} is what this process itself runs")
    files = [str(HERE / f"test_table_{name}.py") for name in FILES]
    done = run(target, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *files)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
