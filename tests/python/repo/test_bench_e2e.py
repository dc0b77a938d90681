"""The bench of language models: its models, its checks, and one run of it on a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # the benchmarks are not part of the installed package

from bench.e2e import __main__ as e2e  # noqa: E402
from bench.e2e import checks, latency, models  # noqa: E402


def test_weights_of_a_shape() -> None:
    shape = models.SHAPES["tiny"]
    names = [name for name, *_ in (*shape.matrices, *shape.norms)]
    assert len(names) == len(set(names)) == 1 + 7 * shape.layers + 4 * shape.layers + 1
    assert shape.parameters == sum(rows * columns for _, rows, columns in shape.matrices)
    # 0.6 billion with the table counted once, as its name says.
    assert 0.55e9 < models.SHAPES["qwen3-0.6b"].parameters < 0.65e9


@pytest.mark.parametrize(("kind", "mode"), [("Q4_K", "q4_k"), ("Q6_K", "q6_k")])
def test_random_blocks_have_the_size_of_weights(kind: str, mode: str) -> None:
    rows, columns = 64, 1024
    name, blocks = models._k_blocks(kind, 3, rows, columns)
    assert name == kind
    w = np.asarray(mx.dequantize(mx.array(blocks), mode=mode))
    assert w.shape == (rows, columns)
    # A sample deviation of n numbers is off by 1 / sqrt(2 n); the units are float16.
    wanted = columns**-0.5
    assert abs(w.std() / wanted - 1) < 5 / np.sqrt(2 * w.size) + np.finfo(np.float16).eps
    assert abs(w.mean()) < wanted * 0.1


def test_divergence() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 5, 40)).astype(np.float32)
    a, b = (
        np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (p.astype(np.float64), q.astype(np.float64))
    )
    wanted = (a * np.log(a / b)).sum(-1).mean()
    assert abs(checks.divergence(p, q) - wanted) < 40 * np.finfo(np.float64).eps * 10
    assert checks.divergence(p, p + 3) < 1e-12


def test_a_run(tmp_path: Path) -> None:
    out = tmp_path / "e2e.json"
    command = [sys.executable, "-m", "bench.e2e", "--tiny", "--rows", "decode/4bit,batch/4bit/4,start,host"]
    done = subprocess.run(
        [*command, "--models", str(tmp_path / "models"), "--json", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["kind"] == "e2e"
    speeds, times = found["rows"][:3], found["rows"][3:]
    assert [r["row"] for r in speeds] == ["decode/4bit", "decode/4bit_exact", "batch/4bit/4"]
    assert [r["row"] for r in times] == list(latency.ROWS)
    assert all(r["status"] == "ok" for r in found["rows"])
    assert all(r["best_s"] > 0 for r in times)
    for row in speeds:
        assert row["rates"]["lamina"]["best"] > 0
    assert found["rows"][2]["against"] == "lamina, one sequence"


def test_rows_have_names_of_their_own() -> None:
    names = [r.name for r in e2e.ROWS]
    assert len(names) == len(set(names))
    for row in e2e.ROWS:
        assert row.kind in (*models.GGUF_TYPES, *models.MLX_BITS)
        assert row.against in models.GGUF_TYPES
