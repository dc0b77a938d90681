"""One row of the comparison: make inputs, check every peer's result, then time the right ones in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from zlib import crc32

import numpy as np

from bench.compare import timing, verdict
from bench.compare.model import Expected, Job, Mismatch, Peer, Unsupported, check_outputs


@dataclass(frozen=True)
class Settings:
    """How rows are measured."""

    repeat: int = 7
    sample_seconds: float = timing.SAMPLE_SECONDS
    settle_seconds: float = timing.SETTLE_SECONDS


def measure(
    job: Job, peers: Sequence[Peer], settings: Settings, before: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Measure one job.

    The first peer is the one the others are compared with: its wrong result or exception makes the row an
    error without times. Another peer without a way to do the job, with a wrong result or an exception is
    reported as such and has no time. ``before`` are the rows that are there already.

    Returns
    -------
    dict
        A row of the report: see ``bench/README.md``.
    """
    limit = asdict(job.limit) if job.limit else None
    row: dict[str, Any] = {"job": job.name, "target": job.target, "limit": limit}
    row |= {"bytes": job.bytes, "flops": job.flops}
    results: dict[str, dict[str, Any]] = {}
    try:
        runs = checked_runs(job, peers, results)
    except Failed as failure:
        row |= {"status": "error", "error": str(failure), "results": {}, "ratios": {}, "best_peer": None}
        return {**row, "met": verdict.is_met(row, peers[0].name, before)}
    times = timing.in_turns(runs, settings.repeat, settings.sample_seconds, settings.settle_seconds)
    for name, t in times.items():
        results[name] = {
            "status": "ok",
            "best_s": t.best,
            "median_s": t.median,
            "samples_s": list(t.samples),
            "loops": t.loops,
        }
    row["status"] = "ok" if times else "unsupported"
    row |= {"error": None, "results": results, "ratios": _ratios(peers[0].name, times)}
    row["best_peer"] = verdict.best_peer(row)
    return {**row, "met": verdict.is_met(row, peers[0].name, before)}


class Failed(Exception):  # noqa: N818
    """The row cannot be measured; says why."""


def checked_runs(
    job: Job, peers: Sequence[Peer], results: dict[str, dict[str, Any]]
) -> dict[str, Callable[[], Any]]:
    """The runs whose results are right; notes in ``results`` who has none, and what is wrong with it."""
    # One stream of numbers for each job, whichever jobs run.
    inputs = job.inputs(np.random.default_rng(crc32(job.name.encode())))
    expected = job.expected([i.values for i in inputs])
    runs = {}
    for peer in peers:
        found = None
        try:
            run = peer.make(job, inputs)
            _check(peer, run(), expected)
            runs[peer.name] = run
        except Unsupported as reason:
            found = {"status": "unsupported", "message": str(reason)}
        except Mismatch as wrong:
            found = {"status": "wrong", "message": f"{peer.name}: wrong result: {wrong}"}
        except Exception as error:  # whatever a library raises is a finding of this row
            found = {"status": "failed", "message": f"{peer.name}: {type(error).__name__}: {error}"}
        if found is None:
            continue
        if peer is peers[0] and found["status"] != "unsupported":
            raise Failed(found["message"])
        results[peer.name] = found
    return runs


def _check(peer: Peer, result: Any, expected: Sequence[Expected] | Callable[..., None]) -> None:
    outputs = peer.to_numpy(result)
    if callable(expected):
        expected(outputs)
    else:
        check_outputs(outputs, peer.dtype_names(result), expected)


def _ratios(ours: str, times: dict[str, timing.Times]) -> dict[str, dict[str, float]]:
    """Our best and median time over those of each other peer; below 1 we are faster."""
    if ours not in times:
        return {}
    return {
        name: {"best": times[ours].best / t.best, "median": times[ours].median / t.median}
        for name, t in times.items()
        if name != ours
    }
