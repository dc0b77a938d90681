"""Tokens a second of language models, lamina beside llama.cpp: ``python -m bench.e2e --help``."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import commands
from bench.compare.machine import usable_cpus
from bench.contention import busy_process
from bench.e2e import checks, latency, models
from bench.e2e.peers import NEEDS
from bench.e2e.worker import Worker

_EXAMPLES = """examples:
  ./dev bench e2e                                       # everything, the models are made first (3 GB)
  ./dev bench e2e --rows decode/4bit,prefill --rounds 5 --json e2e.json
"""

PROMPT, TOKENS = 128, 64


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes
    ----------
    kind : str
        What lamina loads.
    against : str
        What llama.cpp loads.
    target : float
        How many times llama.cpp's tokens a second are wanted; in ``busy`` rows, the idle rate's; in ``batch``
        rows, one sequence's.
    prompt, tokens, batch : int
        Tokens of the prompt, tokens decoded (0: the prefill is timed), sequences.
    mlx : bool
        Whether the MLX wheel runs the same files: once, with a prompt and an answer of a few tokens.
    """

    name: str
    kind: str
    against: str
    target: float | None
    prompt: int = PROMPT
    tokens: int = TOKENS
    batch: int = 1
    busy: bool = False
    arithmetic: str = "int8"
    mlx: bool = False


ROWS = (
    Row("decode/4bit", "4bit", "q4_0", 1.87, mlx=True),
    Row("decode/4bit_exact", "4bit", "q4_0", None, arithmetic="exact"),
    Row("decode/q4_0", "q4_0", "q4_0", 1.87),
    Row("decode/q4_k_m", "q4_k_m", "q4_k_m", 1.87),
    Row("decode/8bit", "8bit", "q8_0", 1.6),
    Row("decode/q8_0", "q8_0", "q8_0", 1.6),
    Row("decode/16bit", "bf16", "f16", 1.4),
    Row("prefill/4bit/128", "4bit", "q4_0", 3.0, 128, 0, mlx=True),
    Row("prefill/4bit/512", "4bit", "q4_0", 3.0, 512, 0),
    Row("prefill/q4_k_m/512", "q4_k_m", "q4_k_m", None, 512, 0),
    Row("prefill/8bit/512", "8bit", "q8_0", None, 512, 0),
    Row("prefill/16bit/512", "bf16", "f16", None, 512, 0),
    Row("batch/4bit/4", "4bit", "q4_0", 3.2, batch=4),
    Row("batch/4bit/8", "4bit", "q4_0", 4.5, batch=8),
    Row("busy/decode/4bit", "4bit", "q4_0", 0.5, tokens=32, busy=True),
)


class Pool:
    """Workers by what they run, started when first wanted."""

    def __init__(self, shape: models.Shape, folder: Path, threads: int) -> None:
        self._shape, self._folder, self._threads = shape, folder, threads
        self._workers: dict[tuple[str, str, str], Worker | str] = {}
        self.versions: dict[str, str] = {}
        self.wrong: dict[tuple[str, str, str], str | None] = {}

    def get(self, peer: str, kind: str, arithmetic: str = "int8") -> Worker | str:
        """The worker, or why there is none."""
        key = (peer, kind, arithmetic if peer == "lamina" else "")
        if key not in self._workers:
            missing = [m for m in NEEDS[peer] if importlib.util.find_spec(m) is None]
            if missing:
                return f"not installed: {', '.join(missing)}"
            print(f"{peer}: {kind}", file=sys.stderr)
            path = models.made(self._folder, self._shape, kind)
            worker = Worker(peer, path, self._threads, arithmetic)
            reason = worker.about["unavailable"]
            self._workers[key] = reason or worker
            if not reason:
                self.versions[peer] = worker.about["version"]
        return self._workers[key]

    def end(self, peer: str, kind: str, arithmetic: str) -> None:
        """End one of them, which is started again where it is wanted again."""
        worker = self._workers.pop((peer, kind, arithmetic), None)
        if isinstance(worker, Worker):
            worker.__exit__(None, None, None)

    def close(self) -> None:
        """End all of them."""
        for worker in self._workers.values():
            if isinstance(worker, Worker):
                worker.__exit__(None, None, None)
        self._workers.clear()


def rate(worker: Worker, row: Row, vocab: int, batch: int = 1) -> float:
    """Tokens a second, of the prefill or of all sequences together."""
    rng = np.random.default_rng(row.prompt)
    prompts = rng.integers(0, vocab, (batch, row.prompt)).tolist()
    if row.tokens == 0:
        return row.prompt / worker.prefill(prompts[0])
    return batch * row.tokens / worker.decode(prompts, row.tokens)


def measured(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Rates of several ways in turns, after one turn that is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            found = way()
            if turn:
                rates[name].append(found)
    return rates


@contextlib.contextmanager
def _beside(busy: bool) -> Iterator[None]:
    if not busy:
        yield
        return
    with busy_process(min(os.sched_getaffinity(0))):
        yield


def ways_of(row: Row, ours: Worker, theirs: Worker | str, vocab: int) -> dict[str, Callable[[], float]]:
    """What a row measures, by name; the first is what it is about, the second what that is held against."""

    def run(worker: Worker, batch: int, busy: bool) -> Callable[[], float]:
        def once() -> float:
            with _beside(busy):
                return rate(worker, row, vocab, batch)

        return once

    ways = {"lamina": run(ours, row.batch, row.busy)}
    if row.batch > 1:
        ways["lamina, one sequence"] = run(ours, 1, False)
    if row.busy:
        ways["lamina, idle"] = run(ours, 1, False)
    if isinstance(theirs, Worker):
        ways["llama.cpp"] = run(theirs, row.batch, row.busy)
    return ways


def measure(row: Row, pool: Pool, vocab: int, rounds: int) -> dict[str, Any]:
    """One row: checked, then timed."""
    out: dict[str, Any] = {"row": row.name, "target": row.target, "met": None, "rates": {}}
    ours, theirs = pool.get("lamina", row.kind, row.arithmetic), pool.get("llama.cpp", row.against)
    if isinstance(ours, str):
        return {**out, "status": "unavailable", "message": ours}
    key = (row.kind, row.against, row.arithmetic)
    if key not in pool.wrong:
        pool.wrong[key] = checks.wrong(pool, *key, vocab)
    if pool.wrong[key]:
        return {**out, "status": "wrong", "message": pool.wrong[key]}
    rates = measured(ways_of(row, ours, theirs, vocab), rounds)
    mlx = pool.get("mlx", row.kind) if row.mlx else "not wanted"
    if isinstance(mlx, Worker):
        # It takes seconds for a token: a few give its rate.
        rates["mlx"] = [rate(mlx, replace(row, prompt=4, tokens=2 if row.tokens else 0), vocab)]
    out["rates"] = {n: {"best": max(r), "median": statistics.median(r), "all": r} for n, r in rates.items()}
    against = next((n for n in rates if n not in ("lamina", "mlx")), None)
    if against is not None:
        out["against"] = against
        out["ratio"] = max(rates["lamina"]) / max(rates[against])
        out["ratio_of_medians"] = statistics.median(rates["lamina"]) / statistics.median(rates[against])
        if row.target is not None:
            out["met"] = out["ratio"] >= row.target * 0.95
    return {**out, "status": "ok"}


def _cells(row: dict[str, Any]) -> list[str]:
    if row["status"] != "ok":
        return [row["row"], row["status"], "-", "-", "-", "-"]
    rates = row["rates"]
    against = row.get("against")
    return [
        row["row"],
        f"{rates['lamina']['best']:.1f}",
        f"{rates[against]['best']:.1f} ({against})" if against else "-",
        f"{rates['llama.cpp']['best']:.1f}" if "llama.cpp" in rates else "-",
        f"{row['ratio']:.2f}" if against else "-",
        "-" if row["target"] is None else f"{row['target']:g} {commands.verdict(row['met'])}",
    ]


def _latency(named: Sequence[str], args: Any, shape: models.Shape) -> list[dict[str, Any]]:
    if not any(name in named for name in latency.ROWS):
        return []
    model, rounds = models.made(args.models, shape, "4bit"), 1 if args.tiny else args.rounds
    return [r for r in latency.measure(args.models, model, shape, args.threads, rounds) if r["row"] in named]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 where a result is wrong."""
    p = commands.parser("bench.e2e", "Tokens a second of language models of random weights.", _EXAMPLES)
    p.add_argument("--rows", default="", metavar="NAME,...", help="rows by name or beginning; all by default")
    p.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each library (default: 3)")
    p.add_argument("--threads", type=int, default=usable_cpus(), metavar="N", help="threads (default: all)")
    p.add_argument(
        "--models", type=Path, default=Path("build/models"), metavar="DIR", help="where models are kept"
    )
    args = p.parse_args(arguments)
    wanted = [w.strip() for w in args.rows.split(",") if w.strip()]
    names = [*(r.name for r in ROWS), *latency.ROWS]
    named = [n for n in names if not wanted or any(n.startswith(w) for w in wanted)]
    if not named:
        p.error(f"argument --rows: wanted some of {', '.join(names)}, got {args.rows!r}")
    chosen = [r for r in ROWS if r.name in named]
    shape = models.SHAPES["tiny" if args.tiny else "qwen3-0.6b"]
    pool = Pool(shape, args.models, args.threads)
    rows = []
    try:
        for row in chosen:
            print(row.name, file=sys.stderr)
            rows.append(measure(row, pool, shape.vocab, 1 if args.tiny else args.rounds))
    finally:
        pool.close()
    times = _latency(named, args, shape)
    print(f"{shape.name}, {args.threads} threads, tokens a second, best of {args.rounds}")
    headings = ["row", "lamina", "held against", "llama.cpp", "ratio", "target"]
    print(commands.table(headings, [_cells(r) for r in rows]))
    for row in rows:
        if row["status"] != "ok":
            print(f"{row['row']}: {row['message']}")
    if times:
        cells = [
            [t["row"], f"{1e3 * t['best_s']:.2f}", f"{1e3 * t['limit_s']:g} {commands.verdict(t['met'])}"]
            for t in times
        ]
        print(commands.table(["row", "ms", "target"], cells))
    return commands.finish(
        "e2e",
        [*rows, *times],
        args,
        threads=args.threads,
        model=models.describe(shape),
        versions=pool.versions,
    )


if __name__ == "__main__":
    sys.exit(main())
