"""The comparison as JSON and as a table."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FORMAT = 2
"""Version of the JSON's structure."""

_COLUMNS = "{:<28} {:<7} {:>10} {:>10} {:>10} {:>10} {:>7} {:>7} {:>8}  {}"


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write the report; the file is whole at any time, since it takes its name last."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def milliseconds(seconds: float) -> str:
    """A time with four digits.

    Examples
    --------
    >>> milliseconds(0.0123456), milliseconds(0.0000012)
    ('12.35', '0.0012')
    """
    ms = 1e3 * seconds
    return f"{ms:.{max(0, min(4, 3 - math.floor(math.log10(ms))))}f}" if ms > 0 else "0"


def heading(ours: str) -> str:
    """The table's first line."""
    return _COLUMNS.format(
        "job (times in ms)",
        "peer",
        f"{ours[:6]} min",
        "median",
        "peer min",
        "median",
        "ratio",
        "median",
        "target",
        "best peer",
    )


def lines(row: dict[str, Any], ours: str) -> Iterator[str]:
    """A row's lines of the table: one for each other peer."""
    name, target = row["job"], wanted(row)
    if row["status"] == "error":
        yield f"{name:<28} ERROR {row['error']}"
        return
    mine = row["results"].get(ours, {"status": "unsupported", "message": f"{ours} was not asked"})
    own = _times(mine)
    others = [(peer, r) for peer, r in row["results"].items() if peer != ours]
    for peer, result in others:
        ratio = row["ratios"].get(peer)
        ratios = [f"{ratio[k]:.3f}" for k in ("best", "median")] if ratio else ["-", "-"]
        place = "best" if row["best_peer"] and row["best_peer"]["name"] == peer else ""
        yield _COLUMNS.format(name, peer, *own, *_times(result), *ratios, target, place).rstrip()
    if not others:
        yield _COLUMNS.format(name, "-", *own, "-", "-", "-", "-", target, "").rstrip()
    if row["met"] is not None:
        yield f"{'':<28} target {target} {'met' if row['met'] else 'MISSED'}"
    for result in row["results"].values():
        if result["status"] != "ok":
            mark = "" if result["status"] == "unsupported" else f"{result['status'].upper()} "
            yield f"{'':<28} ({mark}{result['message']})"


def wanted(row: dict[str, Any]) -> str:
    """What a row's target is, in a few characters.

    Examples
    --------
    >>> wanted({"target": 0.8, "limit": None})
    '0.8'
    >>> wanted({"target": None, "limit": {"seconds": 4e-6, "above": None}})
    '4us'
    """
    parts = [] if row["target"] is None else [f"{row['target']:g}"]
    if row["limit"]:
        parts.append(f"{'+' if row['limit']['above'] else ''}{1e6 * row['limit']['seconds']:g}us")
    return " ".join(parts)


def _times(result: dict[str, Any]) -> list[str]:
    if result["status"] != "ok":
        return ["-", "-"]
    return [milliseconds(result["best_s"]), milliseconds(result["median_s"])]


def summary(rows: Sequence[dict[str, Any]], ours: str) -> list[str]:
    """Lines that say how we stand against each peer, and how many rows failed."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row["ratios"]))
    out = [
        _standing(ours, peer, [row["ratios"][peer]["best"] for row in rows if peer in row["ratios"]])
        for peer in peers
    ]
    if len(peers) > 1:
        best = [row["best_peer"]["best"] for row in rows if row["best_peer"]]
        out.append(_standing(ours, "the best peer of each row", best))
    judged = [row for row in rows if row["met"] is not None]
    if judged:
        missed = [row["job"] for row in judged if not row["met"]]
        listed = f"; missed: {', '.join(missed)}" if missed else ""
        out.append(f"targets: {len(judged) - len(missed)} of {len(judged)} met{listed}")
    for status, what in (("wrong", "wrong results"), ("failed", "exceptions")):
        names = [p for row in rows for p, r in row["results"].items() if r["status"] == status]
        if names:
            counts = ", ".join(f"{p} in {names.count(p)}" for p in dict.fromkeys(names))
            out.append(f"{what}, left out of the ratios: {counts} of {len(rows)} rows")
    errors = sum(row["status"] == "error" for row in rows)
    if errors:
        out.append(f"{errors} of {len(rows)} rows are errors")
    return out


def _standing(ours: str, against: str, ratios: Sequence[float]) -> str:
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    slower = sum(r > 1.05 for r in ratios)
    return (
        f"{ours} against {against}: {len(ratios)} rows, slower by more than 5 % in {slower}, "
        f"geometric mean of the ratios {mean:.3f}"
    )
