"""The worked example of cpp/README.md: three edits, made in a copy, add an elementwise op."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# "1. `file`, ... below `text`..." and the code block that belongs there.
EDIT = re.compile(
    r"^\d\. `(?P<file>[^`]+)`.*?(?P<where>below|above) `(?P<anchor>[^`]+)`.*?^   ```\n(?P<code>.*?)^   ```$",
    re.MULTILINE | re.DOTALL,
)

USES_IT = """
import sys
import lamina.core as mx
import numpy as np

backend, x = sys.argv[1], np.linspace(-50, 50, 2001, dtype=np.float32).reshape(3, 667)
mx._set_backend(backend)
truth = x / (1 + np.abs(x.astype(np.float64)))
slope = 1 / (1 + np.abs(x.astype(np.float64))) ** 2
eps = np.finfo(np.float32).eps
np.testing.assert_allclose(np.array(mx.softsign(mx.array(x))), truth, rtol=2 * eps)
np.testing.assert_allclose(np.array(mx.softsign(mx.array(x).T)), truth.T, rtol=2 * eps)
half = mx.softsign(mx.array(x).astype(mx.bfloat16)).astype(mx.float32)
np.testing.assert_allclose(np.array(half), truth, rtol=2**-7)
double = mx.softsign(mx.array(x.astype(np.float64), mx.float64))
np.testing.assert_allclose(np.array(double), truth, rtol=4 * np.finfo(np.float64).eps)
derivative = mx.grad(lambda a: mx.softsign(a).sum())(mx.array(x))
np.testing.assert_allclose(np.array(derivative), slope, rtol=8 * eps)
columns = mx.vmap(mx.softsign, in_axes=1)(mx.array(x))
np.testing.assert_allclose(np.array(columns), truth.T, rtol=2 * eps)
fused = mx.compile(lambda a: mx.softsign(a * 2) + 1)(mx.array(x))
assert mx.array_equal(fused, mx.softsign(mx.array(x) * 2) + 1)
assert mx.softsign(mx.array([1, 2])).dtype == mx.float32
try:
    mx.softsign(mx.array([1j]))
except ValueError as error:
    assert "softsign" in str(error) and "complex64" in str(error), error
else:
    raise AssertionError("complex numbers were taken")
assert "Softsign x / (1 + |x|)." in mx.softsign.__doc__
print("works on", backend)
"""


def run(*command: str | Path, **settings: str) -> str:
    """The output of a command that succeeds."""
    environment = {**os.environ, **settings}
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def apply_edits(cpp: Path, readme: str) -> list[str]:
    """Make each edit of the example in the copy; the names of the files."""
    files = []
    for edit in EDIT.finditer(readme):
        path = cpp / edit["file"]
        lines = path.read_text().splitlines(keepends=True)
        (at,) = [i for i, line in enumerate(lines) if edit["anchor"] in line]
        if edit["where"] == "below":
            at += 1
        lines[at:at] = [line[3:] for line in edit["code"].splitlines(keepends=True)]
        path.write_text("".join(lines))
        files.append(edit["file"])
    return files


@pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("ninja") is None,
    reason="wanted cmake and ninja to build a copy",
)
def test_an_elementwise_op_is_three_edits(tmp_path: Path) -> None:
    source, build = tmp_path / "source", tmp_path / "build"
    source.mkdir()
    for name in ("cpp", "cmake"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("CMakeLists.txt", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source / name)
    readme = (ROOT / "cpp" / "README.md").read_text()
    example = readme[readme.index("## Adding an elementwise op") :]
    files = apply_edits(source / "cpp", example[: example.index("\n## ", 1)])
    assert files == ["src/ops/unary.def", "src/backend/cpu/unary-inl.h", "src/autograd/rules_elementwise.cc"]

    # Unoptimized, and for AVX2 and the baseline only: what is tested is that it builds and is right.
    run(
        *("cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=None"),
        *("-DLAMINA_BUILD_PYTHON=ON", f"-DPython_EXECUTABLE={sys.executable}"),
        *("-DCMAKE_CXX_FLAGS=-O0", "-DLAMINA_SIMD_WITHOUT=HWY_SSSE3|HWY_SSE4|HWY_AVX3|HWY_AVX3_DL"),
    )
    run("cmake", "--build", build, "--parallel", str(os.cpu_count() or 1), "--target", "lamina_python")
    package = build / "python" / "lamina"
    shutil.copytree(
        ROOT / "python" / "lamina", package, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    for backend in ("cpu", "reference"):
        done = run(sys.executable, "-c", USES_IT, backend, PYTHONPATH=str(package.parent))
        assert done == f"works on {backend}\n"
    assert "def softsign(" in (build / "typings" / "lamina" / "core.pyi").read_text()
