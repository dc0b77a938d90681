"""One row of the comparison: make inputs, check every peer's result, then time them in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from bench.compare import timing
from bench.compare.model import Expected, Job, Mismatch, Peer, Unsupported, check_outputs


@dataclass(frozen=True)
class Settings:
    """How rows are measured."""

    repeat: int = 7
    sample_seconds: float = timing.SAMPLE_SECONDS
    settle_seconds: float = timing.SETTLE_SECONDS


def measure(job: Job, peers: Sequence[Peer], settings: Settings) -> dict[str, Any]:
    """Measure one job.

    The first peer is the one the others are compared with. A peer without a way to do the job is left out of
    the row; a wrong result or an exception of any peer makes the row an error without times.

    Returns
    -------
    dict
        A row of the report: see ``bench/README.md``.
    """
    row: dict[str, Any] = {"job": job.name, "target": job.target, "bytes": job.bytes, "flops": job.flops}
    results: dict[str, dict[str, Any]] = {}
    try:
        runs = _checked_runs(job, peers, results)
    except _Failed as failure:
        return {**row, "status": "error", "error": str(failure), "results": {}, "ratios": {}}
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
    return {**row, "error": None, "results": results, "ratios": _ratios(peers[0].name, times)}


class _Failed(Exception):  # noqa: N818
    """The row cannot be measured; says which peer is why."""


def _checked_runs(
    job: Job, peers: Sequence[Peer], results: dict[str, dict[str, Any]]
) -> dict[str, Callable[[], Any]]:
    """The peers' runs whose results have been checked; notes in ``results`` who has none."""
    # One stream of numbers for each job, whichever jobs run.
    inputs = job.inputs(np.random.default_rng(crc32(job.name.encode())))
    expected = job.expected([i.values for i in inputs])
    runs = {}
    for peer in peers:
        try:
            run = peer.make(job, inputs)
            _check(peer, run(), expected)
        except Unsupported as reason:
            results[peer.name] = {"status": "unsupported", "message": str(reason)}
            continue
        except Mismatch as wrong:
            raise _Failed(f"{peer.name}: wrong result: {wrong}") from wrong
        except Exception as error:  # whatever a library raises is a finding of this row
            raise _Failed(f"{peer.name}: {type(error).__name__}: {error}") from error
        runs[peer.name] = run
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
