"""Numbers of the report: runs of the comparison joined, families, and shares of the machine's peaks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "lamina"


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean.

    Examples
    --------
    >>> round(geometric_mean([0.5, 2.0]), 6)
    1.0
    """
    return math.exp(sum(map(math.log, values)) / len(values))


@dataclass(frozen=True)
class Joined:
    """One job in several runs."""

    job: str
    rows: Sequence[dict[str, Any]]

    def best(self, peer: str) -> float | None:
        """The best time of a peer in any run, in seconds."""
        times = [row["results"][peer]["best_s"] for row in self.rows if self._has(row, peer)]
        return min(times, default=None)

    @property
    def ratios(self) -> list[float]:
        """Our ratio to the best peer, run by run."""
        return [row["best_peer"]["best"] for row in self.rows if row["best_peer"]]

    @property
    def met(self) -> bool | None:
        """Whether the target is met in every run; None where no run can say."""
        verdicts = [row["met"] for row in self.rows if row["met"] is not None]
        return all(verdicts) if verdicts else None

    @property
    def problems(self) -> list[str]:
        """What was wrong, in any run."""
        found = [row["error"] for row in self.rows if row["error"]]
        found += [
            r["message"]
            for row in self.rows
            for r in row["results"].values()
            if r["status"] in ("wrong", "failed")
        ]
        return list(dict.fromkeys(found))

    @staticmethod
    def _has(row: dict[str, Any], peer: str) -> bool:
        return row["results"].get(peer, {}).get("status") == "ok"


def join(runs: Sequence[dict[str, Any]]) -> list[Joined]:
    """The jobs of all runs, in the order of the first."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for row in run["rows"]:
            rows.setdefault(row["job"], []).append(row)
    return [Joined(job, found) for job, found in rows.items()]


def family_of(job: str) -> str:
    """Family and size of a job: its first and, where it is a size, its last part.

    Examples
    --------
    >>> family_of("unary/exp/1m"), family_of("matmul/float64/512")
    ('unary 1m', 'matmul')
    """
    first, *_, last = job.split("/")
    return f"{first} {last}" if last in ("1k", "1m", "8m", "llc") else first


def by_family(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Families without those of targets: name, number of rows, and the mean ratio to each peer."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["ratios"] and not row["job"].startswith("target/"):
            groups.setdefault(family_of(row["job"]), []).append(row)
    for family, found in groups.items():
        peers = dict.fromkeys(peer for row in found for peer in row["ratios"])
        means = {
            p: geometric_mean([r["ratios"][p]["best"] for r in found if p in r["ratios"]]) for p in peers
        }
        yield family, len(found), means


@dataclass(frozen=True)
class Share:
    """How much of the peak that bounds it a kernel reaches."""

    job: str
    share: float
    bound: str


def shares(joined: Sequence[Joined], peaks: dict[str, float]) -> list[Share]:
    """The share of each job that says its bytes or operations, highest first.

    Families count at their largest size only: what fits the caches says nothing about memory.
    """
    found = []
    for one in joined:
        seconds, row = one.best(OURS), one.rows[0]
        if seconds is None or one.job.rpartition("/")[2] in ("1k", "1m", "8m"):
            continue
        compute, memory = row["flops"] / peaks["flops"], row["bytes"] / peaks["bandwidth"]
        if max(compute, memory) > 0:
            bound = "compute" if compute > memory else "memory"
            found.append(Share(one.job, max(compute, memory) / seconds, bound))
    return sorted(found, key=lambda s: (s.bound, -s.share))
