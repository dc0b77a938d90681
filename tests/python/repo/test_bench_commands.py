"""The measuring commands: they run, check results, say what is missed, and make the page of results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # the benchmarks are not part of the installed package

from bench import commands, contention, memory, scaling, summaries  # noqa: E402
from bench.compare import runner  # noqa: E402
from bench.compare.jobs import all_jobs  # noqa: E402
from bench.compare.jobs.blocks import FORMATS, Packed  # noqa: E402
from bench.compare.model import Sizes  # noqa: E402
from bench.compare.peers import load  # noqa: E402
from bench.jobs import extra_jobs  # noqa: E402
from bench.worker import Worker  # noqa: E402

TINY = Sizes(1 << 20, tiny=True)
NAMES = {j.name for j in (*all_jobs(TINY), *extra_jobs(TINY))}


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, from the repository's root."""
    return subprocess.run(
        [sys.executable, "-m", f"bench.{module}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize("module", ["scaling", "contention", "memory", "invariance", "report"])
def test_help(module: str) -> None:
    done = run(module, "--help")
    assert done.returncode == 0
    assert f"usage: python -m bench.{module}" in done.stdout


def test_jobs_that_commands_name_exist() -> None:
    from bench import invariance

    assert {*scaling.JOBS, *contention.JOBS, *invariance.JOBS} <= NAMES


@pytest.mark.parametrize("job", extra_jobs(TINY), ids=lambda j: j.name)
def test_extra_jobs_are_right_and_their_checks_can_fail(job: Any) -> None:
    peer = load("lamina")
    assert peer.available() is None
    quick = runner.Settings(repeat=1, sample_seconds=0.0, settle_seconds=0.0)
    assert runner.measure(job, [peer], quick)["status"] == "ok"
    honest = peer.to_numpy
    peer.to_numpy = lambda result: [x * np.float32(1.01) for x in honest(result)]
    assert ": wrong result: " in runner.measure(job, [peer], quick)["error"]


@pytest.mark.parametrize("packed", FORMATS, ids=lambda f: f.name)
def test_plain_decoders_are_laminas(packed: Packed) -> None:
    """The benchmark's own decoder of each format, against `dequantize`."""
    import lamina.core as mx

    parts = packed.draw(np.random.default_rng(3), 5, 512)
    peer = load("lamina")
    assert peer.available() is None
    arrays = [peer.array(i) for i in parts]
    got = mx.dequantize(
        *arrays, group_size=packed.group, bits=packed.bits, mode=packed.mode, dtype=mx.float32
    )
    want = packed.decode(*(i.values for i in parts))
    size = np.abs(want) + packed.offset_size(*(i.values for i in parts))
    assert (np.abs(np.asarray(got) - want) <= 4 * 2.0**-24 * size).all()


def test_worker_checks_and_times() -> None:
    with Worker("lamina", 2, tiny=True) as worker:
        assert worker.about["unavailable"] is None
        assert worker.check("target/exp") == {"status": "ok", "threads": 2}
        assert len(worker.seconds("target/exp", 0.0)) == 3
    with Worker("numpy", 1, tiny=True) as worker:
        assert worker.check("target/matmul_4bit/1")["status"] == "unsupported"


@pytest.mark.parametrize(
    ("module", "arguments", "keys"),
    [
        ("scaling", ["--rounds", "1", "--jobs", "target/exp"], {"one_s", "more_s", "speedup", "met"}),
        (
            "contention",
            ["--rounds", "1", "--jobs", "target/exp"],
            {"idle_per_s", "busy_per_s", "share", "met"},
        ),
        ("invariance", ["--repeat", "1", "--jobs", "target/matmul/1024"], {"off_s", "on_s", "ratio"}),
    ],
)
def test_commands_write_json(module: str, arguments: list[str], keys: set[str], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run(module, "--tiny", "--json", str(out), *arguments)
    if module == "scaling" and "the processors to use, got 2" in done.stderr:
        pytest.skip("one processor only")
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert (found["format"], found["kind"]) == (1, module)
    (row,) = found["rows"]
    assert (row["job"], row["status"]) == (arguments[-1], "ok")
    assert keys <= set(row)
    assert arguments[-1] in done.stdout


def test_memory_measures_what_arrays_take(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run("memory", "--tiny", "--repeat", "1", "--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["case"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert {row["status"] for row in rows.values()} == {"ok"}
    # The operand and the result at least; the process's own needs weigh more here than at full size.
    assert rows["chain, one array of 4 MB"]["arrays"] > 1.9
    assert rows["softmax, one array of 4 MB"]["arrays"] > 1.9
    assert rows["import beyond NumPy"]["seconds"] > 0
    assert rows["installed files"]["met"] is True


def test_losses_that_differ_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"lamina": [2.0, 1.5], "torch": [2.0, 1.6]}
    monkeypatch.setattr(
        memory,
        "run",
        lambda case, library, size: {"status": "ok", "losses": losses[library], "peak_bytes": 1},
    )
    assert [r["status"] for r in memory.training_rows(64, ["lamina", "torch"])] == ["wrong", "wrong"]
    losses["torch"] = [2.0, 1.5]
    rows = memory.training_rows(64, ["lamina", "torch"])
    assert [(r["status"], r["met"]) for r in rows] == [("ok", True), ("ok", None)]


def test_exit_status_tells_wrong_results() -> None:
    args = commands.parser("bench.x", "").parse_args([])
    assert commands.finish("x", [{"status": "ok"}], args) == 0
    assert commands.finish("x", [{"status": "ok"}, {"status": "wrong"}], args) == 1


# --- the page --------------------------------------------------------------------------------------------


def row(job: str, ours: float, target: float | None = None, **peers: float) -> dict[str, Any]:
    """A row of the comparison's JSON."""
    from bench.compare import verdict

    times = {"lamina": ours, **peers}
    made: dict[str, Any] = {"job": job, "target": target, "limit": None, "status": "ok", "error": None}
    made |= {"bytes": 1 << 20, "flops": 1 << 30}
    made["results"] = {n: {"status": "ok", "best_s": s, "median_s": s} for n, s in times.items()}
    made["ratios"] = {n: {"best": ours / s, "median": ours / s} for n, s in peers.items()}
    made["best_peer"] = verdict.best_peer(made)
    made["met"] = verdict.is_met(made, "lamina", [])
    return made


def result(*rows: dict[str, Any], simd: str = "avx3") -> dict[str, Any]:
    """A result of the comparison."""
    machine = {
        "cpu": "A processor", "usable_cpus": 2, "instruction_sets": ["avx2"], "cache_bytes": {"L2": 1 << 20},
        "system": "Linux", "python": "3.11", "simd_target": simd, "load_average": 0.1,
        "peaks": {"flops": 1e11, "bandwidth": 1e10},
    }  # fmt: skip
    peers = [{"name": n, "version": "1", "threads": 2} for n in ("lamina", "numpy", "mlx")]
    settings = {"repeat": 3, "threads": 2, "jobs": "unary", "sizes": ["1m"], "tiny": False}
    return {
        "format": 2, "created": "2026-01-02T03:04:05", "complete": True, "machine": machine,
        "settings": settings, "peers": peers, "rows": list(rows),
    }  # fmt: skip


def test_page_has_every_section(tmp_path: Path) -> None:
    wrong = row("target/exp", 1e-3, 1.0, numpy=2e-3)
    wrong["results"]["mlx"] = {"status": "wrong", "message": "mlx: wrong result: 1 of 2 elements off"}
    runs = [
        result(wrong, row("unary/abs/1m", 2e-3, numpy=1e-3)),
        result(row("target/exp", 1.2e-3, 1.0, numpy=1.1e-3), row("unary/abs/1m", 3e-3, numpy=1e-3)),
        result(row("target/exp", 2e-3, 1.0, numpy=2e-3, mlx=2e-2), simd="avx2"),
    ]
    paths = []
    for i, one in enumerate(runs):
        paths.append(tmp_path / f"run{i}.json")
        paths[-1].write_text(json.dumps(one), encoding="utf-8")
    paths.append(tmp_path / "memory.json")
    needs = {
        "case": "softmax",
        "library": "lamina",
        "status": "ok",
        "peak_bytes": 3 << 20,
        "arrays": 2,
        "met": True,
    }
    paths[-1].write_text(
        json.dumps({"format": 1, "kind": "memory", "settings": {"tiny": True}, "rows": [needs]}),
        encoding="utf-8",
    )
    paths.append(tmp_path / "e2e.json")
    rates = {n: {"best": r} for n, r in (("lamina", 30.0), ("llama.cpp", 15.0), ("mlx", 0.2))}
    models = [
        {"row": "decode", "status": "ok", "target": 1.8, "met": True, "rates": rates}
        | {"ratio": 2.0, "ratio_of_medians": 1.9},
        {"row": "prefill", "status": "unavailable", "message": "not installed"},
        {"row": "start", "status": "ok", "best_s": 0.5, "limit_s": 0.4, "met": False},
    ]
    settings = {"tiny": False, "threads": 2, "model": {"name": "a model"}, "versions": {"llama.cpp": "9"}}
    machine = {"cpu": "A processor", "load_average": 0.1}
    about = {"format": 1, "kind": "e2e", "created": "2026-01-02T03:04:05", "machine": machine}
    paths[-1].write_text(json.dumps({**about, "settings": settings, "rows": models}), encoding="utf-8")
    done = run("report", *map(str, paths), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "0 of 1 met: within 5 % of the target in each of 2 runs" in text
    assert "./dev bench compare --repeat 3 --threads 2 --jobs 'unary' --sizes 1m --json" in text
    assert "Memory, import" in text
    assert text.count("`--tiny`") == 1  # of the memory's numbers
    assert "| exp | 1.000 | 1.100 | - | 0.50 1.09 | 1 | **missed** |" in text
    assert "| exp | 1.000 | 2.000 | 2.00 | 10.0x |" in text
    assert "faster by more than 5 % in every run in 1 of 2 rows" in text
    assert "| unary/abs/1m | 2.000 | numpy | 1.000 | 2.00 3.00 |" in text
    assert "| target/exp | mlx: wrong result: 1 of 2 elements off |" in text
    assert "| unary 1m | 1 | 2.00 | - |" in text
    assert "| decode | 30.0 | 15.0 | 0.2 | 2.00 / 1.90 | 1.8 | met |" in text
    assert "| start | 500.00 | 400 | **missed** |" in text
    for name in ("targets", "families", "roofline", "models"):
        assert f"(figures/{name}.png)" in text
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_shares_are_of_the_peak_that_bounds() -> None:
    peaks = {"flops": float(1 << 31), "bandwidth": float(1 << 20)}
    joined = summaries.join([result(row("a", 1.0), row("b/1m", 1.0)), result(row("a", 2.0))])
    (share,) = summaries.shares(joined, peaks)
    assert (share.job, share.share, share.bound) == ("a", 1.0, "memory")
    joined[0].rows[0]["bytes"] = 0
    assert summaries.shares(joined, peaks)[0] == summaries.Share("a", 0.5, "compute")


@pytest.mark.parametrize("text", ["[]", "{", '{"kind": "other", "format": 1}', '{"peers": [], "format": 1}'])
def test_page_refuses_other_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    done = run("report", str(path), "--out", str(tmp_path))
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "benchmarks.md").exists()
