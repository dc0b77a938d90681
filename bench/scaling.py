"""Speed-up of compute-bound jobs from one thread to two: ``python -m bench.scaling --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from bench import commands
from bench.compare.machine import usable_cpus
from bench.worker import Worker

TARGET = 1.85
JOBS = (
    "target/matmul/1024",
    "target/matmul/2048",
    "matmul/float64/1024",
    "target/causal_attention",
    "target/conv2d",
    "target/matmul_4bit/256",
    "target/matmul_4bit/int8/256",
    "extra/gelu_in_cache",
    "target/exp",
    "sort/line/8m",
    "sort/rows/8m",
    "fft/rows/1024",
    "random/normal/8m",
)


def measure(job: str, alone: Worker, together: Worker, rounds: int, seconds: float) -> dict[str, Any]:
    """One job's best times with one thread and with more, in turns."""
    for worker in (alone, together):
        checked = worker.check(job)
        if checked["status"] != "ok":
            status = "wrong" if checked["status"] != "unsupported" else "unsupported"
            return {"job": job, "status": status, "message": checked["message"], "met": None}
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for i, worker in enumerate((alone, together)):
            best[i] = min(best[i], *worker.seconds(job, seconds))
    speedup = best[0] / best[1]
    return {
        "job": job,
        "status": "ok",
        "one_s": best[0],
        "more_s": best[1],
        "speedup": speedup,
        "met": speedup >= TARGET,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 where a result is wrong."""
    p = commands.parser(
        "bench.scaling", f"Time jobs with one thread and with more; target: {TARGET}x for two."
    )
    p.add_argument("--peer", default="lamina", metavar="NAME", help="another library of bench/compare/peers")
    p.add_argument("--threads", type=int, default=2, metavar="N", help="how many are more (default: 2)")
    p.add_argument(
        "--jobs", default=",".join(JOBS), metavar="NAME,...", help="jobs of python -m bench.compare --list"
    )
    p.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each side (default: 5)")
    args = p.parse_args(arguments)
    if not 2 <= args.threads <= usable_cpus():
        p.error(f"argument --threads: wanted 2 to {usable_cpus()}, the processors to use, got {args.threads}")
    rows = []
    with ExitStack() as stack:
        counts = (1, args.threads)
        alone, together = (stack.enter_context(Worker(args.peer, n, tiny=args.tiny)) for n in counts)
        if alone.about["unavailable"]:
            p.error(f"argument --peer: {alone.about['unavailable']}")
        for job in filter(None, (j.strip() for j in args.jobs.split(","))):
            print(job, file=sys.stderr)
            rows.append(measure(job, alone, together, args.rounds, 0.0 if args.tiny else 0.3))
    print(f"{args.peer}, best times in ms")
    headings = ["job", "1 thread", f"{args.threads} threads", "speed-up", "target"]
    print(commands.table(headings, [_cells(r, args.threads) for r in rows]))
    return commands.finish("scaling", rows, args, peer=args.peer, threads=args.threads, target=TARGET)


def _cells(row: dict[str, Any], threads: int) -> list[str]:
    if row["status"] != "ok":
        return [row["job"], row["status"], "-", "-", "-"]
    times = [f"{1e3 * row[k]:.3f}" for k in ("one_s", "more_s")]
    return [
        row["job"],
        *times,
        f"{row['speedup']:.2f}",
        commands.verdict(row["met"] if threads == 2 else None),
    ]


if __name__ == "__main__":
    sys.exit(main())
