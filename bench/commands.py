"""What the measuring commands share: arguments, a table, JSON with the machine, and verdicts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.compare import machine, report
from bench.compare.cli import new_file

FORMAT = 1
"""Version of the JSON's structure."""


def parser(module: str, description: str, examples: str = "") -> argparse.ArgumentParser:
    """Arguments of a command: ``--json`` and ``--tiny``."""
    p = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog=examples or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--json", type=new_file, metavar="FILE", help="write what was measured and the machine here"
    )
    p.add_argument(
        "--tiny",
        action="store_true",
        help="shrink the work, to try the command; its numbers say nothing then",
    )
    return p


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of columns as wide as their widest cell, numbers to the right.

    Examples
    --------
    >>> print(table(["job", "ms"], [["exp", "1.5"], ["sum", "10.25"]]))
    job     ms
    exp    1.5
    sum  10.25
    """
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (headings, *rows):
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def verdict(met: bool | None) -> str:
    """One word for a target that is met, missed, or none."""
    return "-" if met is None else "met" if met else "MISSED"


def finish(kind: str, rows: Sequence[dict[str, Any]], args: argparse.Namespace, **more: Any) -> int:
    """Write the JSON where asked for; returns the exit status: 1 where a result was wrong."""
    if args.json:
        result = {
            "format": FORMAT,
            "kind": kind,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine.describe(),
            "settings": {"tiny": args.tiny, **more},
            "rows": list(rows),
        }
        report.write_json(result, Path(args.json))
        print(f"wrote {args.json}", file=sys.stderr)
    return int(any(row.get("status") in ("wrong", "error") for row in rows))
