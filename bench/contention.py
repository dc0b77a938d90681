"""Speed beside another busy process: ``python -m bench.contention --help``."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from bench import commands
from bench.compare.machine import usable_cpus
from bench.worker import Worker

TARGET = 0.5
JOBS = (
    "target/matmul/1024",
    "extra/decode_chain",
    "target/matmul_4bit/256",
    "target/softmax",
    "target/gelu_by_hand",
)
_SPIN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"


@contextlib.contextmanager
def busy_process(cpu: int) -> Iterator[None]:
    """Another process that keeps one processor busy all the time."""
    process = subprocess.Popen([sys.executable, "-c", _SPIN, str(cpu)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # it is spinning from here on
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def measure(job: str, worker: Worker, rounds: int, seconds: float) -> dict[str, Any]:
    """Calls in a second, idle and beside the busy process, in turns; medians of the rounds."""
    checked = worker.check(job)
    if checked["status"] != "ok":
        status = "wrong" if checked["status"] != "unsupported" else "unsupported"
        return {"job": job, "status": status, "message": checked["message"], "met": None}
    cpu = min(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {"idle": [], "busy": []}
    for _ in range(rounds):
        rates["idle"].append(_rate(worker.seconds(job, seconds)))
        with busy_process(cpu):
            worker.seconds(job, seconds / 10)
            rates["busy"].append(_rate(worker.seconds(job, seconds)))
    idle, busy = (statistics.median(rates[k]) for k in ("idle", "busy"))
    return {
        "job": job,
        "status": "ok",
        "idle_per_s": idle,
        "busy_per_s": busy,
        "share": busy / idle,
        "met": busy >= TARGET * idle,
    }


def _rate(seconds: Sequence[float]) -> float:
    return len(seconds) / sum(seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 where a result is wrong."""
    p = commands.parser(
        "bench.contention",
        f"Calls in a second beside a process that is always busy; target: {TARGET:.0%} of the idle rate.",
    )
    p.add_argument("--peer", default="lamina", metavar="NAME", help="another library of bench/compare/peers")
    p.add_argument(
        "--jobs", default=",".join(JOBS), metavar="NAME,...", help="jobs of python -m bench.compare --list"
    )
    p.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each kind (default: 5)")
    args = p.parse_args(arguments)
    threads = usable_cpus()
    with Worker(args.peer, threads, tiny=args.tiny) as worker:
        if worker.about["unavailable"]:
            p.error(f"argument --peer: {worker.about['unavailable']}")
        rows = []
        for job in filter(None, (j.strip() for j in args.jobs.split(","))):
            print(job, file=sys.stderr)
            rows.append(measure(job, worker, args.rounds, 0.01 if args.tiny else 1.0))
    print(f"{args.peer}, {threads} threads, calls in a second")
    print(commands.table(["job", "idle", "one busy", "share", "target"], [_cells(r) for r in rows]))
    return commands.finish("contention", rows, args, peer=args.peer, threads=threads, target=TARGET)


def _cells(row: dict[str, Any]) -> list[str]:
    if row["status"] != "ok":
        return [row["job"], row["status"], "-", "-", "-"]
    rates = [f"{row[k]:.1f}" for k in ("idle_per_s", "busy_per_s")]
    return [row["job"], *rates, f"{row['share']:.0%}", commands.verdict(row["met"])]


if __name__ == "__main__":
    sys.exit(main())
