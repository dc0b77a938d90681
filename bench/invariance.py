"""What batch-invariant products cost: ``python -m bench.invariance --help``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from bench import commands

JOBS = (
    "target/matmul/1024",
    "target/matmul/2048_bfloat16",
    "target/vector_x_4096x4096",
    "matmul/skinny/4",
    "matmul/skinny_transposed/1",
    "matmul/skinny_transposed/4",
    "matmul/skinny_transposed/16",
    "matmul/skinny_transposed/64",
    "matmul/matrix_x_vector",
    "matmul/batched/128",
    "target/matmul_4bit/1",
    "target/matmul_4bit/32",
    "target/matmul_4bit/256",
    "quantized/q4_k/32",
    "convolution/1x1",
    "convolution/3x3",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 where a result is wrong."""
    p = commands.parser(
        "bench.invariance", "Time products with the batch-invariant switch off and on, in turns."
    )
    p.add_argument(
        "--jobs", default=",".join(JOBS), metavar="NAME,...", help="jobs of python -m bench.compare --list"
    )
    p.add_argument("--repeat", type=int, default=7, metavar="N", help="samples of each side (default: 7)")
    args = p.parse_args(arguments)

    from bench.compare.jobs import all_jobs, select
    from bench.compare.machine import last_level_cache
    from bench.compare.model import Sizes
    from bench.compare.peers import load

    peer = load("lamina")
    reason = peer.available()
    if reason:
        p.error(reason)
    try:
        jobs = select(all_jobs(Sizes(last_level_cache(), tiny=args.tiny)), args.jobs.split(","))
    except ValueError as error:
        p.error(f"argument --jobs: {error}")
    rows = []
    for job in jobs:
        print(job.name, file=sys.stderr)
        rows.append(measure(job, peer, args.repeat))
    print("best times in ms")
    print(commands.table(["job", "off", "on", "on / off"], [_cells(r) for r in rows]))
    return commands.finish("invariance", rows, args)


def measure(job: Any, peer: Any, repeat: int) -> dict[str, Any]:
    """Best times of one job with the switch off and on; both results are checked."""
    import lamina.core as mx

    from bench.compare import runner, timing

    def switched(on: bool, run: Callable[[], Any]) -> Callable[[], Any]:
        def timed() -> Any:
            mx.set_batch_invariant(on)
            return run()

        return timed

    before = mx.get_batch_invariant()
    runs = {}
    try:
        for name, on in (("off", False), ("on", True)):
            mx.set_batch_invariant(on)
            runs[name] = switched(on, runner.checked_runs(job, [peer], {})[peer.name])
        times = timing.in_turns(runs, repeat)
    except runner.Failed as failure:
        return {"job": job.name, "status": "wrong", "message": str(failure)}
    finally:
        mx.set_batch_invariant(before)
    off, on = times["off"].best, times["on"].best
    return {"job": job.name, "status": "ok", "off_s": off, "on_s": on, "ratio": on / off}


def _cells(row: dict[str, Any]) -> list[str]:
    if row["status"] != "ok":
        return [row["job"], row["status"], "-", "-"]
    return [row["job"], f"{1e3 * row['off_s']:.3f}", f"{1e3 * row['on_s']:.3f}", f"{row['ratio']:.2f}"]


if __name__ == "__main__":
    sys.exit(main())
