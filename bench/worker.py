"""A process that checks and times jobs for others: ``python -m bench.worker`` reads one request a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bench.compare.machine import THREAD_VARIABLES, last_level_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.compare.model import Job

ROOT = Path(__file__).resolve().parents[1]


class Worker:
    """The asking side: one process with a number of threads of its own.

    Parameters
    ----------
    peer : str
        Whose jobs it does, by its name in ``bench/compare/peers``.
    threads : int
        Threads of that library.
    tiny : bool
        Shrink every job, for tests.
    """

    def __init__(self, peer: str, threads: int, *, tiny: bool = False) -> None:
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])
        command = [sys.executable, "-m", "bench.worker", peer, str(threads), *(["--tiny"] if tiny else [])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about = self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def check(self, job: str) -> dict[str, Any]:
        """Do the job and check its result: ``status``, and a ``message`` where it is not ``ok``."""
        return self._ask({"check": job})

    def seconds(self, job: str, at_least: float = 0.05) -> list[float]:
        """Times of single calls of a job that was checked, going on for so many seconds."""
        return self._ask({"time": job, "at_least": at_least})["seconds"]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended early with status {self._process.wait()}")
        return json.loads(line)


def calls(run: Callable[[], Any], at_least: float) -> list[float]:
    """Seconds of single calls, three at least, until so many seconds are over."""
    seconds: list[float] = []
    begin = last = time.perf_counter()
    while len(seconds) < 3 or last - begin < at_least:
        run()
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
    return seconds


def _serve(name: str, threads: int, tiny: bool) -> None:
    from bench.compare import runner
    from bench.compare.jobs import all_jobs
    from bench.compare.model import Sizes
    from bench.compare.peers import load
    from bench.jobs import extra_jobs

    peer: Any = load(name)
    reason = peer.available()
    _print({"peer": name, "unavailable": reason, "version": None if reason else peer.version()})
    if reason:
        return
    if name == "torch":
        peer.module.set_num_threads(threads)
    sizes = Sizes(last_level_cache(), tiny=tiny)
    jobs: dict[str, Job] = {j.name: j for j in (*all_jobs(sizes), *extra_jobs(sizes))}
    runs: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "time" in request:
            _print({"seconds": calls(runs[request["time"]], request["at_least"])})
            continue
        results: dict[str, dict[str, Any]] = {}
        try:
            made = runner.checked_runs(jobs[request["check"]], [peer], results)
        except runner.Failed as failure:
            results[name] = {"status": "wrong", "message": str(failure)}
        else:
            if name in made:
                runs[request["check"]] = made[name]
        _print(results.get(name, {"status": "ok", "threads": peer.threads()}))


def _print(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), "--tiny" in sys.argv[3:])
