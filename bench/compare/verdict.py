"""How a row stands against the best of the peers, and whether it meets its target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TOLERANCE = 1.05
"""A target is met within 5 % of it."""


def best_peer(row: dict[str, Any]) -> dict[str, Any] | None:
    """The fastest of the other peers whose result is right, with our ratios to it; None without one."""
    if not row["ratios"]:
        return None
    name = max(row["ratios"], key=lambda peer: row["ratios"][peer]["best"])
    return {"name": name, **row["ratios"][name]}


def is_met(row: dict[str, Any], ours: str, rows: Sequence[dict[str, Any]]) -> bool | None:
    """Whether the row meets its target; None where it has none, or what it is judged against is missing.

    Parameters
    ----------
    row : dict
        A measured row with its ``best_peer``.
    ours : str
        Who is judged.
    rows : sequence of dict
        The rows before it: a limit may be one over another row's time.

    Examples
    --------
    >>> row = {"target": 0.5, "limit": None, "status": "ok", "results": {"a": {"status": "ok"}},
    ...        "best_peer": {"name": "b", "best": 0.52}}
    >>> is_met(row, "a", []), is_met({**row, "target": None}, "a", [])
    (True, None)
    """
    target, limit = row["target"], row["limit"]
    if target is None and limit is None:
        return None
    if row["status"] == "error" or row["results"].get(ours, {}).get("status") != "ok":
        return False
    verdicts = []
    if target is not None and row["best_peer"] is not None:
        verdicts.append(row["best_peer"]["best"] <= TOLERANCE * target)
    if limit is not None:
        verdicts.append(_within(row, limit, ours, rows))
    known = [v for v in verdicts if v is not None]
    return all(known) if known else None


def _within(
    row: dict[str, Any], limit: dict[str, Any], ours: str, rows: Sequence[dict[str, Any]]
) -> bool | None:
    base: float | None = 0.0
    if limit["above"] is not None:
        base = next((_seconds(r, ours) for r in rows if r["job"] == limit["above"]), None)
    own = _seconds(row, ours)
    return None if base is None or own is None else own - base <= TOLERANCE * limit["seconds"]


def _seconds(row: dict[str, Any], ours: str) -> float | None:
    return row["results"].get(ours, {}).get("best_s")
