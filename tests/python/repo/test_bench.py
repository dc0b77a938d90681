"""The comparison with other libraries: every job's check passes, wrong results never become times."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # the benchmarks are not part of the installed package

from bench.compare import bounds, chart, report, runner, timing, verdict  # noqa: E402
from bench.compare.jobs import all_jobs, select  # noqa: E402
from bench.compare.jobs.random_checks import (  # noqa: E402
    normal_numbers,
    uniform_integers,
    uniform_numbers,
)
from bench.compare.model import (  # noqa: E402
    Expected,
    Input,
    Job,
    Mismatch,
    Sizes,
    Unsupported,
    check_outputs,
)
from bench.compare.peers import MODULES, load  # noqa: E402
from bench.compare.peers.base import ArrayPeer  # noqa: E402

QUICK = runner.Settings(repeat=1, sample_seconds=0.0, settle_seconds=0.0)
TINY = Sizes(1 << 20, ("1k", "llc"), tiny=True)


def run_compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line from the repository's root, as ``./dev bench compare`` does."""
    return subprocess.run(
        [sys.executable, "-m", "bench.compare", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def peers(*names: str) -> list[Any]:
    """These peers, imported."""
    found = [load(name) for name in names]
    assert [p.available() for p in found] == [None] * len(found)
    return found


# --- jobs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", all_jobs(TINY), ids=lambda j: j.name)
def test_every_job_is_right_for_lamina_and_numpy(job: Job) -> None:
    row = runner.measure(job, peers("lamina", "numpy"), QUICK)
    assert row["error"] is None
    assert set(row["results"]) == {"lamina", "numpy"}
    assert row["results"]["lamina"]["status"] == "ok"
    assert row["results"]["numpy"]["status"] in ("ok", "unsupported")


def spoiled(peer: Any) -> Any:
    """The peer with its first output's last element changed, by far more than rounding does."""
    honest = peer.to_numpy

    def to_numpy(result: Any) -> list[np.ndarray]:
        first, *rest = honest(result)
        wrong = np.array(first)
        wrong.flat[-1] = ~wrong.flat[-1] if wrong.dtype == np.bool_ else wrong.flat[-1] * 3 + 1
        return [wrong, *rest]

    peer.to_numpy = to_numpy
    return peer


@pytest.mark.parametrize("job", [j for j in all_jobs(TINY) if "random" not in j.name], ids=lambda j: j.name)
def test_every_jobs_check_can_fail(job: Job) -> None:
    rows = [runner.measure(job, [spoiled(p)], QUICK) for p in peers("lamina", "numpy")]
    tried = [row for row in rows if row["status"] != "unsupported"]
    if not tried:
        pytest.skip("neither lamina nor numpy can do this job")
    for row in tried:
        assert row["status"] == "error"
        assert ": wrong result: " in row["error"]


@pytest.mark.parametrize("check", [normal_numbers, uniform_numbers])
def test_checks_of_random_numbers_can_fail(
    check: Callable[[int], Callable[[Sequence[np.ndarray]], None]],
) -> None:
    n = 4096
    rng = np.random.default_rng(0)
    draw = rng.standard_normal if check is normal_numbers else rng.random
    good = draw(n, dtype=np.float32)
    check(n)([good])
    for wrong in (good * np.float32(1.2), good + np.float32(0.2), good[1:], good.astype(np.float64)):
        with pytest.raises(Mismatch, match="wanted"):
            check(n)([wrong])


def test_check_of_random_integers_can_fail() -> None:
    good = np.random.default_rng(0).integers(0, 64, 4096, dtype=np.int32)
    uniform_integers(4096, 64)([good])
    for wrong in (good + 1, good & ~np.int32(4), good[1:], good.astype(np.int64)):
        with pytest.raises(Mismatch, match="wanted"):
            uniform_integers(4096, 64)([wrong])


def test_names_are_unique_and_patterns_pick() -> None:
    jobs = all_jobs(TINY)
    names = [j.name for j in jobs]
    assert len(set(names)) == len(names)
    assert [j.name for j in select(jobs, ["sort/line"])] == ["sort/line/1k", "sort/line/llc"]
    found = [j.name for j in select(jobs, ["*/exp", "target/s*max"])]
    assert found == ["target/exp", "target/softmax", "unary/exp/1k", "unary/exp/llc"]
    with pytest.raises(ValueError, match="no job matches 'sort/lines'"):
        select(jobs, ["sort/line", "sort/lines"])


def test_largest_size_exceeds_the_cache() -> None:
    for cache in (1 << 20, 32 << 20, 260 << 20):
        ((_, count),) = Sizes(cache, ("llc",)).families()
        assert 4 * count >= 2 * cache


# --- checks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "dtype", "message"),
    [
        (np.zeros(3), "float32", "wanted shape (2,), got (3,)"),
        (np.zeros(2), "float64", "wanted dtype float32, got float64"),
        (np.array([0.0, np.nan]), "float32", "1 of 2 elements off; at (1,) wanted 0.0 within 0.5, got nan"),
        (np.array([0.75, 0.25]), "float32", "1 of 2 elements off; at (0,) wanted 0.0 within 0.5, got 0.75"),
        (np.array([np.inf, 0.0]), "float32", "1 of 2 elements off; at (0,) wanted 0.0 within 0.5, got inf"),
    ],
    ids=["shape", "dtype", "nan", "value", "infinity"],
)
def test_mismatch_says_what_was_wanted_and_what_came(got: np.ndarray, dtype: str, message: str) -> None:
    with pytest.raises(Mismatch) as caught:
        check_outputs([got], [dtype], [Expected(np.zeros(2), 0.5)])
    assert str(caught.value) == message


def test_infinities_and_nans_match_themselves() -> None:
    values = np.array([np.inf, -np.inf, np.nan])
    check_outputs([values], ["float32"], [Expected(values, 0.0)])
    with pytest.raises(Mismatch, match="wanted 2 outputs, got 1"):
        check_outputs([values], ["float32"], [Expected(values, 0.0)] * 2)


def test_bounds_hold_for_float32_sums_and_not_for_float16_ones() -> None:
    x = np.random.default_rng(1).random((64, 1000), dtype=np.float32)
    check_outputs([x.sum(1)], ["float32"], bounds.summed(x, 1))
    check_outputs([x.cumsum(1)], ["float32"], bounds.scanned(x, 1))
    with pytest.raises(Mismatch):
        check_outputs([x.astype(np.float16).sum(1).astype(np.float32)], ["float32"], bounds.summed(x, 1))
    with pytest.raises(Mismatch):
        check_outputs([x.cumsum(1)[:, ::-1]], ["float32"], bounds.scanned(x, 1))


# --- rows ------------------------------------------------------------------------------------------------


class _Peer(ArrayPeer):
    """A peer of its own name on NumPy's arrays; ``spoil`` changes what it computes."""

    def __init__(self, name: str, spoil: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> None:
        super().__init__()
        self.name = name
        self._spoil = spoil
        self.calls = 0

    def array(self, source: Input) -> np.ndarray:
        return source.values

    def finished(self, run: Callable[[], Any], job: Job) -> Callable[[], Any]:
        def counted() -> Any:
            self.calls += 1
            return self._spoil(run())

        return counted


def _raise(x: np.ndarray) -> np.ndarray:
    raise RuntimeError("out of tiles")


def _refuse(x: np.ndarray) -> np.ndarray:
    raise Unsupported("no such op here")


DOUBLE = Job(
    "test/double",
    lambda r: [Input(r.random(8, dtype=np.float32), "float32")],
    lambda xp, x: x + x,
    lambda i: bounds.exact(2 * i[0].astype(np.float64)),
    target=0.5,
)


def test_our_wrong_result_is_an_error_and_never_a_time() -> None:
    ours = _Peer("ours", lambda x: x + np.float32(0.5))
    row = runner.measure(DOUBLE, [ours, _Peer("theirs")], QUICK)
    assert (row["status"], row["met"]) == ("error", False)
    assert row["error"].startswith("ours: wrong result: 8 of 8 elements off; at ")
    assert row["results"] == row["ratios"] == {}
    assert ours.calls == 1
    (line,) = report.lines(row, "ours")
    assert line.split()[:2] == ["test/double", "ERROR"]
    assert report.summary([row], "ours") == [
        "targets: 0 of 1 met; missed: test/double",
        "1 of 1 rows are errors",
    ]


def test_our_exception_is_an_error_of_the_row() -> None:
    row = runner.measure(DOUBLE, [_Peer("ours", _raise), _Peer("theirs")], QUICK)
    assert (row["status"], row["error"]) == ("error", "ours: RuntimeError: out of tiles")


def test_peers_that_are_wrong_or_raise_are_named_and_left_out() -> None:
    wrong, fails = _Peer("wrong", lambda x: x + np.float32(0.5)), _Peer("fails", _raise)
    row = runner.measure(DOUBLE, [_Peer("ours"), wrong, fails, _Peer("theirs")], QUICK)
    assert (row["status"], list(row["ratios"]), row["best_peer"]["name"]) == ("ok", ["theirs"], "theirs")
    assert wrong.calls == fails.calls == 1
    assert row["results"]["wrong"]["status"] == "wrong"
    assert row["results"]["wrong"]["message"].startswith("wrong: wrong result: 8 of 8 elements off; at ")
    assert row["results"]["fails"] == {"status": "failed", "message": "fails: RuntimeError: out of tiles"}
    lines = [line.strip() for line in report.lines(row, "ours")]
    assert lines[-2].startswith("(WRONG wrong: wrong result: ")
    assert lines[-1] == "(FAILED fails: RuntimeError: out of tiles)"
    summary = "\n".join(report.summary([row], "ours"))
    assert "wrong results, left out of the ratios: wrong in 1 of 1 rows" in summary
    assert "exceptions, left out of the ratios: fails in 1 of 1 rows" in summary


# --- verdicts --------------------------------------------------------------------------------------------


def measured_row(
    job: str, ours: float, target: float | None, limit: dict[str, Any] | None, **peers: float
) -> Any:
    """A row with these best times in seconds."""
    times = {"ours": ours, **peers}
    row: dict[str, Any] = {"job": job, "target": target, "limit": limit, "status": "ok"}
    row["results"] = {name: {"status": "ok", "best_s": s, "median_s": s} for name, s in times.items()}
    row["ratios"] = {name: {"best": ours / s, "median": ours / s} for name, s in peers.items()}
    row["best_peer"] = verdict.best_peer(row)
    return row


def test_target_is_against_the_best_peer_within_5_percent() -> None:
    for ours, met in ((0.839, True), (0.841, False)):
        row = measured_row("a", ours, 0.8, None, slow=9.0, fast=1.0, middling=2.0)
        assert row["best_peer"]["name"] == "fast"
        assert verdict.is_met(row, "ours", []) is met
    assert verdict.is_met(measured_row("a", 1.0, 0.8, None), "ours", []) is None
    assert verdict.is_met(measured_row("a", 1.0, None, None, fast=0.1), "ours", []) is None


def test_limit_counts_from_nothing_or_from_another_rows_time() -> None:
    limit = {"seconds": 4e-6, "above": None}
    assert verdict.is_met(measured_row("a", 4.1e-6, None, limit), "ours", []) is True
    assert verdict.is_met(measured_row("a", 4.3e-6, None, limit), "ours", []) is False
    above = {"seconds": 1e-4, "above": "known"}
    known = measured_row("known", 5e-4, None, None)
    assert verdict.is_met(measured_row("fresh", 6e-4, None, above), "ours", [known]) is True
    assert verdict.is_met(measured_row("fresh", 7e-4, None, above), "ours", [known]) is False
    assert verdict.is_met(measured_row("fresh", 7e-4, None, above), "ours", []) is None


def test_row_that_is_judged_by_another_brings_it_along() -> None:
    chosen = [j.name for j in select(all_jobs(TINY), ["target/fresh_expression"])]
    assert chosen == ["target/known_expression", "target/fresh_expression"]


def test_summary_says_where_targets_are_missed() -> None:
    rows = [
        measured_row("a", 1.0, 1.0, None, x=2.0, y=0.5),
        measured_row("b", 1.0, 1.0, None, x=2.0, y=4.0),
        measured_row("c", 1.0, None, None, x=1.0),
    ]
    for row in rows:
        row["met"] = verdict.is_met(row, "ours", rows)
    assert report.summary(rows, "ours") == [
        "ours against x: 3 rows, slower by more than 5 % in 0, geometric mean of the ratios 0.630",
        "ours against y: 2 rows, slower by more than 5 % in 1, geometric mean of the ratios 0.707",
        "ours against the best peer of each row: 3 rows, slower by more than 5 % in 1, geometric mean of the "
        "ratios 1.000",
        "targets: 1 of 2 met; missed: a",
    ]
    assert "target 1 MISSED" in "\n".join(report.lines(rows[0], "ours"))
    assert "target 1 met" in "\n".join(report.lines(rows[1], "ours"))


def test_peer_without_the_op_is_left_out() -> None:
    row = runner.measure(DOUBLE, [_Peer("ours"), _Peer("poor", _refuse), _Peer("theirs")], QUICK)
    assert row["status"] == "ok"
    assert row["results"]["poor"] == {"status": "unsupported", "message": "no such op here"}
    assert list(row["ratios"]) == ["theirs"]
    assert runner.measure(DOUBLE, [_Peer("poor", _refuse)], QUICK)["status"] == "unsupported"


def test_ratio_is_ours_over_theirs() -> None:
    row = runner.measure(DOUBLE, [_Peer("ours"), _Peer("theirs")], runner.Settings(3, 0.0, 0.0))
    ours, theirs = row["results"]["ours"], row["results"]["theirs"]
    assert len(ours["samples_s"]) == len(theirs["samples_s"]) == 3
    assert ours["best_s"] == min(ours["samples_s"])
    assert ours["median_s"] == sorted(ours["samples_s"])[1]
    assert row["ratios"] == {
        "theirs": {
            "best": ours["best_s"] / theirs["best_s"],
            "median": ours["median_s"] / theirs["median_s"],
        }
    }


def test_turns_alternate_and_short_jobs_are_repeated() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    times = timing.in_turns(runs, 3, sample_seconds=1e-4, settle_seconds=0.0)
    assert all(t.loops > 1 and len(t.samples) == 3 for t in times.values())
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns == ["a", "b"] * 4  # finding the number of calls, then three turns


def test_slow_calls_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    calls = {"slow": 0}

    def slow() -> None:
        calls["slow"] += 1

    times = timing.in_turns({"slow": slow}, 5, settle_seconds=0.0)
    assert (times["slow"].samples, times["slow"].loops, calls["slow"]) == ((3.0,), 1, 1)


# --- command line ----------------------------------------------------------------------------------------


def test_report_has_the_documented_structure(tmp_path: Path) -> None:
    out, png = tmp_path / "out.json", tmp_path / "out.png"
    done = run_compare(
        "--tiny", "--repeat", "1", "--threads", "1", "--jobs", "target/exp,target/rfft_rows,unary/abs/1k",
        "--json", str(out), "--chart", str(png),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "out.png"]
    assert png.read_bytes().startswith(b"\x89PNG\r\n")
    found = json.loads(out.read_text(encoding="utf-8"))
    assert (found["format"], found["complete"]) == (2, True)
    assert found["settings"] == {
        "repeat": 1,
        "threads": 1,
        "jobs": "target/exp,target/rfft_rows,unary/abs/1k",
        "sizes": ["1k", "1m", "8m", "llc"],
        "tiny": True,
    }
    assert (found["peers"][0]["name"], found["peers"][0]["threads"]) == ("lamina", 1)
    assert found["peers"][1]["version"] == np.__version__
    assert {"cpu", "instruction_sets", "usable_cpus", "cache_bytes", "simd_target", "python"} <= set(
        found["machine"]
    )
    assert found["machine"]["usable_cpus"] == 1
    rows = {row["job"]: row for row in found["rows"]}
    assert list(rows) == ["target/exp", "target/rfft_rows", "unary/abs/1k"]
    assert {frozenset(row) for row in found["rows"]} == {
        frozenset(
            {"job", "target", "limit", "bytes", "flops", "status", "error", "results", "ratios"}
            | {"best_peer", "met"}
        )
    }
    result = rows["target/exp"]["results"]["numpy"]
    assert set(result) == {"status", "best_s", "median_s", "samples_s", "loops"}
    assert result["loops"] >= 1
    assert rows["target/exp"]["ratios"]["numpy"]["best"] > 0
    assert "[3/3] unary/abs/1k" in done.stderr
    assert "lamina against numpy: " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--jobs", "nothing/like/it"],
            "argument --jobs: no job matches 'nothing/like/it'; --list shows them all",
        ),
        (["--peers", "numpy,matlab"], "unknown peer 'matlab': wanted of numpy, torch, jax, mlx"),
        (["--peers", ""], "wanted at least one peer of numpy, torch, jax, mlx"),
        (["--repeat", "0"], "argument --repeat: wanted a whole number from 1, got '0'"),
        (["--repeat", "many"], "argument --repeat: wanted a whole number from 1, got 'many'"),
        (["--threads", "100000"], "argument --threads: wanted at most "),
        (["--sizes", "1k,2k"], "unknown size '2k': wanted of 1k, 1m, 8m, llc"),
        (
            ["--json", "no/such/folder/out.json"],
            "'no/such/folder/out.json' is not a file name in an existing folder",
        ),
        (["--chart", "out.svg"], "argument --chart: wanted a name that ends in .png, got 'out.svg'"),
        (["--color"], "unrecognized arguments: --color"),
    ],
    ids=lambda v: "_".join(v) if isinstance(v, list) else "",
)
def test_bad_arguments_are_named(arguments: list[str], message: str) -> None:
    done = run_compare(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_has_examples_and_list_has_the_jobs() -> None:
    done = run_compare("--help")
    assert done.returncode == 0
    assert "examples:\n  python -m bench.compare " in done.stdout
    listed = run_compare("--list", "--sizes", "1k")
    assert listed.stdout.splitlines() == [j.name for j in all_jobs(Sizes(1 << 20, ("1k",)))]


def test_missing_peer_is_left_out_with_a_note() -> None:
    # An empty module search path has no torch in it, whatever this environment holds.
    code = (
        "import sys; sys.modules['torch'] = None; from bench.compare.cli import main;"
        "sys.exit(main(['--tiny', '--repeat', '1', '--jobs', 'target/exp', '--peers', 'torch,numpy']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0
    assert "left out torch: cannot import torch" in done.stderr
    assert "target/exp                   numpy " in done.stdout


def test_interrupt_keeps_what_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "bench.compare", "--tiny", "--json", str(out), "--repeat", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("[2/"):
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert "stopped after " in stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["complete"] is False
    measured = [row["job"] for row in found["rows"]]
    names = [j.name for j in all_jobs(Sizes(1 << 20))]
    assert 1 <= len(measured) < len(names)
    assert measured == names[: len(measured)]


def test_failed_write_leaves_the_old_report(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    report.write_json({"rows": []}, path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.write_json({"rows": [float("nan")]}, path)
    assert json.loads(path.read_text(encoding="utf-8")) == {"rows": []}
    assert list(tmp_path.iterdir()) == [path]


def test_chart_without_ratios_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        chart.draw({"rows": [{"ratios": {}}]}, tmp_path / "out.png")


def test_every_peer_has_a_module() -> None:
    for name in MODULES:
        assert load(name).name == name
