"""Random programs, run in every way: plain, compiled, at other lengths, exported, mapped, one by one.

    python -m tests.python.fuzz [--programs 10000] [--seed 0] [--first 0] [--jobs 1]
    python -m tests.python.fuzz --only NUMBER [--seed 0] | --replay FILE

A program that fails is made smaller and printed with the text that --replay and kept.json take.
Interrupted, it says with which --first to go on. Exit status: 0 without findings, 1 with some.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .checks import CHECKS, check
from .making import made
from .program import Program, described, parsed
from .shrink import shrunk

PACKAGE = __package__ or "fuzz"
ROOT = Path(__file__).parents[3]


def failing(program: Program, names: Sequence[str]) -> tuple[str, str] | None:
    """The check that fails and what differs. An error of the program itself is no finding of that check."""
    found = check(program, names)
    return (
        None
        if found is None
        else (found[0], f"{found[1].check}, output {found[1].output}: {found[1].message}")
    )


def still_fails(program: Program, name: str) -> bool:
    try:
        return failing(program, [name]) is not None
    except Exception:  # a smaller program may be none at all
        return False


def tried(program: Program, names: Sequence[str]) -> tuple[str, str] | None:
    """As `failing`; an exception of a kind that no check expects is a finding too."""
    try:
        return failing(program, names)
    except Exception as error:
        return "crash", f"{type(error).__name__}: {error}"


def work(seed: int, first: int, end: int, step: int, most: int, names: Sequence[str]) -> None:
    """Tries programs and says so, one line of JSON for each begin, end and finding."""

    def say(**what: Any) -> None:
        print(json.dumps(what), flush=True)

    for number in range(first, end, step):
        say(begin=number)
        program = made(seed, number, most)
        found = tried(program, names)
        if found:
            name = found[0]
            small = shrunk(program, lambda p, n=name: still_fails(p, n)) if name != "crash" else program
            say(finding=number, check=name, message=(tried(small, [name]) or found)[1], program=small.text())
        say(done=number, steps=len(program.steps), profile=program.profile)


class Run:
    """Counts what the workers say, and prints findings and progress."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.findings = 0
        self.crashed = 0
        self.counted: Counter[str] = Counter()
        self.at: dict[int, int] = {}
        self.lock = threading.Lock()
        self.started = self.told = time.monotonic()
        self.processes: dict[int, subprocess.Popen[str]] = {}
        self.stopping = False

    def hear(self, job: int, said: dict[str, Any]) -> None:
        with self.lock:
            if "begin" in said:
                self.at[job] = said["begin"]
            elif "finding" in said:
                self.findings += 1
                which = f"program {said['finding']} of seed {self.options.seed}"
                print(f"\n{which} fails '{said['check']}': {said['message']}")
                print(described(parsed(said["program"])))
                print(said["program"], flush=True)
            else:
                self.counted["programs"] += 1
                self.counted["instructions"] += said["steps"]
                self.counted["profile " + said["profile"]] += 1
            if time.monotonic() - self.told > 20:
                self.told = time.monotonic()
                print(self.progress(), flush=True)

    def progress(self) -> str:
        seconds = time.monotonic() - self.started
        counts = ", ".join(f"{n} {name}" for name, n in sorted(self.counted.items(), reverse=True))
        return f"{counts}, {self.findings} findings, {self.crashed} crashes, {seconds:.0f} s"

    def job(self, job: int) -> None:
        """One worker; where a program ends it, the next one goes on behind that program."""
        o = self.options
        first = o.first + job
        while first < o.first + o.programs and not self.stopping:
            command = [
                sys.executable,
                "-m",
                PACKAGE,
                "--worker",
                "--seed",
                str(o.seed),
                "--first",
                str(first),
            ]
            command += ["--programs", str(o.first + o.programs - first), "--jobs", str(o.jobs)]
            command += ["--most", str(o.most), "--checks", o.checks]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
                self.processes[job] = process
                assert process.stdout is not None
                for line in process.stdout:
                    self.hear(job, json.loads(line))
            if process.returncode == 0 or self.stopping:
                return
            with self.lock:
                self.crashed += 1
                at = self.at.get(job, first)
                status = process.returncode
                print(f"\nprogram {at} of seed {o.seed} ended the process with {status}: --only {at}")
            first = at + o.jobs

    def all(self) -> int:
        threads = [threading.Thread(target=self.job, args=(k,)) for k in range(self.options.jobs)]
        for t in threads:
            t.start()
        try:
            for t in threads:
                t.join()
        except KeyboardInterrupt:
            self.stopping = True
            for process in self.processes.values():
                process.terminate()
            print(f"\ninterrupted; go on with --first {min(self.at.values(), default=self.options.first)}")
        print(f"seed {self.options.seed}: {self.progress()}")
        return 1 if self.findings or self.crashed else 0


def replay(program: Program, names: Sequence[str]) -> int:
    """One program here, so that a debugger sees it."""
    print(described(program))
    found = failing(program, names)
    print(f"fails '{found[0]}': {found[1]}" if found else "no finding")
    return 1 if found else 0


def main() -> int:
    options = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}", description="Random programs, run in every way."
    )
    options.add_argument("--programs", type=int, default=10000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0, help="the number of the first program (default: 0)")
    options.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    options.add_argument("--most", type=int, default=300, help="instructions of a program (default: 300)")
    options.add_argument("--checks", default=",".join(CHECKS), help="comma-separated (default: all)")
    options.add_argument("--only", type=int, help="this program, in this process")
    options.add_argument("--replay", metavar="FILE", help="the program in this file; - is the standard input")
    options.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    names = chosen.checks.split(",")
    unknown = set(names) - set(CHECKS)
    if unknown:
        options.error(f"--checks wanted names among {', '.join(CHECKS)}; got {', '.join(sorted(unknown))}")
    if chosen.replay:
        text = sys.stdin.read() if chosen.replay == "-" else Path(chosen.replay).read_text(encoding="utf-8")
        return replay(parsed(text), names)
    if chosen.only is not None:
        return replay(made(chosen.seed, chosen.only, chosen.most), names)
    if chosen.worker:
        work(chosen.seed, chosen.first, chosen.first + chosen.programs, chosen.jobs, chosen.most, names)
        return 0
    return Run(chosen).all()


if __name__ == "__main__":
    raise SystemExit(main())
