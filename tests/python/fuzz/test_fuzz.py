"""Some hundred random programs of a fixed seed, the kept ones that once failed, and the fuzzer's own side."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.table_rows import BINARY, REDUCE, UNARY
from fuzz import instructions
from fuzz.__main__ import failing, still_fails
from fuzz.checks import CHECKS, Finding, Result, differs
from fuzz.instructions import KINDS
from fuzz.making import made
from fuzz.program import Leaf, Program, Step, described, live, parsed
from fuzz.shrink import shrunk

ROOT = Path(__file__).parents[3]
KEPT: list[dict[str, Any]] = json.loads(Path(__file__).with_name("kept.json").read_text(encoding="utf-8"))
PROGRAMS, PARTS, MOST = 240, 8, 60


@pytest.mark.parametrize("part", range(PARTS))
def test_programs_agree_in_every_way(part: int) -> None:
    for number in range(part, PROGRAMS, PARTS):
        program = made(1, number, MOST)
        found = failing(program, tuple(CHECKS))
        assert found is None, f"program {number} of seed 1 ({found}):\n{described(program)}\n{program.text()}"


@pytest.mark.parametrize("kept", KEPT, ids=[k["what"] for k in KEPT])
def test_programs_that_once_failed(kept: dict[str, Any]) -> None:
    program = parsed(json.dumps(kept["program"]))
    assert parsed(program.text()) == program
    found = failing(program, tuple(CHECKS))
    assert found is None, f"{found}:\n{described(program)}"


def test_every_elementwise_row_and_reduction_is_drawn() -> None:
    unary = {*instructions.EXACT, *instructions.ROUNDED}
    binary = {*instructions.BINARY_EXACT, *instructions.BINARY_ROUNDED}
    assert unary == {row.name for row in UNARY}
    assert binary == {row.name for row in BINARY}
    assert {"sum", "prod", "max", "min", "all", "any"} == {row.name for row in REDUCE}


def test_draws_are_the_same_every_time_and_reach_every_kind() -> None:
    once = [made(5, n) for n in range(90)]
    assert [p.text() for p in once[:20]] == [made(5, n).text() for n in range(20)]
    assert made(6, 0) != once[0]
    assert {s.kind for p in once for s in p.steps} == set(KINDS)
    assert max(len(p.steps) for p in once) > 150
    assert {p.profile for p in once} == set("abes")


def small(*steps: Step, profile: str = "b") -> Program:
    """A program over two leaves (4, 3) and (3,)."""
    sizes = ({"x": 4, "y": 3, "z": 2}, {"x": 2, "y": 5, "z": 2}, {"x": 1, "y": 1, "z": 1})
    leaves = (Leaf("xy", "float32"), Leaf("y", "float32"))
    return Program(profile, 7, sizes, leaves, steps, (len(leaves) + len(steps) - 1,), (0, None))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instruction that gives other numbers when it is traced, or evaluated for the second time."""
    count = [0]

    def apply(x: mx.array) -> mx.array:
        count[0] += 1
        return x + count[0]

    row = replace(KINDS["flatten"], name="broken", apply=apply)
    monkeypatch.setitem(KINDS, "broken", row)


@pytest.mark.parametrize("check", ["compiled", "exported", "stepwise", "vmapped", "compiled shapeless"])
def test_differences_are_found_and_made_small(broken: None, check: str) -> None:
    program = small(
        Step("rounded", (0,), ("tanh",)),
        Step("binary", (2, 1), ("add",)),
        Step("broken", (3,)),
        Step("transpose", (4,), ((1, 0),)),
        Step("binary", (5, 5), ("multiply",)),
    )
    found = failing(program, [check])
    assert found is not None
    assert found[0] == check
    smaller = shrunk(program, lambda p: still_fails(p, check))
    assert [s.kind for s in smaller.steps] == ["broken"]
    assert len(smaller.leaves) == 1


def test_bounds_allow_what_they_say() -> None:
    wrong = Result((np.array([1.0, 2.0], np.float32),))
    right = Result((np.array([1.0, 2.0 + 2.0**-20], np.float32),))
    assert differs("c", wrong, right, [2.0**-19]) is None
    assert isinstance(differs("c", wrong, right, [2.0**-21]), Finding)
    assert isinstance(differs("c", wrong, right), Finding)


@pytest.mark.parametrize(
    ("got", "want", "same"),
    [
        ([0.0], [-0.0], False),
        ([np.nan], [-np.nan], True),
        ([np.nan], [1.0], False),
        ([np.inf], [np.inf], True),
        ([1.0], [1.0, 1.0], False),
    ],
)
def test_what_counts_as_a_difference(got: list[float], want: list[float], same: bool) -> None:
    ours, theirs = (Result((np.array(v, np.float32),)) for v in (got, want))
    assert (differs("c", ours, theirs) is None) == same
    ours, theirs = (Result((np.array(v, np.complex64),)) for v in (got, want))
    assert (differs("c", ours, theirs) is None) == same
    assert differs("c", Result(error="ValueError: a"), Result(error="ValueError: b")) is None
    assert differs("c", Result(error="ValueError: a"), theirs) is not None


def test_what_nothing_reads_is_dropped() -> None:
    program = small(Step("unary", (0,), ("abs",)), Step("unary", (1,), ("negative",)))
    kept = live(program)
    assert len(kept.leaves) == 1
    assert [s.params for s in kept.steps] == [("negative",)]


def test_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.python.fuzz"]
    ran = [*command, "--programs", "4", "--seed", "3", "--jobs", "2", "--most", "10"]
    done = subprocess.run(ran, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 programs" in done.stdout
    assert "0 findings, 0 crashes" in done.stdout
    kept = tmp_path / "program.json"
    kept.write_text(made(3, 1, 10).text(), encoding="utf-8")
    for arguments in (["--replay", str(kept)], ["--seed", "3", "--only", "1", "--most", "10"]):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "no finding" in done.stdout
    done = subprocess.run([*command, "--checks", "none"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "got none" in done.stderr
