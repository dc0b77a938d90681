"""Peak memory, import and installed size: ``python -m bench.memory --help``."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import commands

ROOT = Path(__file__).resolve().parents[1]
MB = 1 << 20
ARRAYS = 2.0
IMPORT_SECONDS = 0.060
IMPORT_BYTES = 40 * MB
INSTALLED_BYTES = 25 * MB
# Stacks, code pages and what Python itself allocates meanwhile.
SLACK_ARRAYS = 0.05


def run(case: str, library: str, size: int) -> dict[str, Any]:
    """What one fresh process measured."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])}
    command = [sys.executable, "-m", "bench.memory_cases", case, library, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        return {"status": "error", "message": done.stderr.strip().splitlines()[-1:]}
    found = json.loads(done.stdout)
    return {"status": "ok" if found.pop("right") else "wrong", **found}


def arrays_row(case: str, library: str, size: int) -> dict[str, Any]:
    """Peak of a function of one array, in arrays."""
    found = run(case, library, size)
    judged = library == "lamina" and found["status"] == "ok"
    met = found["arrays"] <= ARRAYS + SLACK_ARRAYS if judged else None
    return {"case": f"{case}, one array of {size // MB} MB", "library": library, **found, "met": met}


def training_rows(tokens: int, libraries: Sequence[str]) -> list[dict[str, Any]]:
    """A training step of each library; ours is judged against PyTorch's."""
    found = {library: run("training", library, tokens) for library in libraries}
    peaks = {library: f["peak_bytes"] for library, f in found.items() if f["status"] == "ok"}
    losses = [f["losses"] for f in found.values() if f["status"] == "ok"]
    # The same weights and operands: the losses of all agree to rounding.
    if losses and any(
        abs(a - b) > 1e-3 * abs(b) for each in losses for a, b in zip(each, losses[0], strict=True)
    ):
        for f in found.values():
            f["status"] = "wrong"
    met = peaks["lamina"] <= peaks["torch"] if {"lamina", "torch"} <= set(peaks) else None
    return [
        {
            "case": f"training step, {tokens} tokens",
            "library": library,
            **f,
            "met": met if library == "lamina" else None,
        }
        for library, f in found.items()
    ]


def import_row(library: str, repeat: int) -> dict[str, Any]:
    """The shortest of several imports beyond NumPy."""
    found = [run("imports", library, 0) for _ in range(repeat)]
    if any(f["status"] != "ok" for f in found):
        return {"case": "import beyond NumPy", "library": library, **found[0], "met": None}
    best = {k: min(f[k] for f in found) for k in ("seconds", "peak_bytes")}
    met = best["seconds"] <= IMPORT_SECONDS and best["peak_bytes"] <= IMPORT_BYTES
    row = {"case": "import beyond NumPy", "library": library, "status": "ok", **best}
    return {**row, "met": met if library == "lamina" else None}


def installed_row() -> dict[str, Any]:
    """Bytes of the files that the wheel installed."""
    files = [Path(str(f.locate())) for f in metadata.files("lamina") or [] if "__pycache__" not in str(f)]
    size = sum(f.stat().st_size for f in files if f.exists())
    row = {"case": "installed files", "library": "lamina", "status": "ok" if size else "error"}
    return {**row, "peak_bytes": size, "met": 0 < size <= INSTALLED_BYTES}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 where a result is wrong."""
    p = commands.parser(
        "bench.memory", "Peak memory of fresh processes, beyond what they had when the work began."
    )
    p.add_argument(
        "--repeat", type=int, default=10, metavar="N", help="imports to take the best of (default: 10)"
    )
    args = p.parse_args(arguments)
    libraries = ["lamina", *(["torch"] if importlib.util.find_spec("torch") else [])]
    size, tokens = (4 * MB, 64) if args.tiny else (256 * MB, 4096)
    rows: list[dict[str, Any]] = []
    for case in ("chain", "softmax"):
        rows += [arrays_row(case, library, size) for library in libraries]
    rows += training_rows(tokens, libraries)
    rows += [import_row(library, args.repeat) for library in libraries]
    rows.append(installed_row())
    print(commands.table(["case", "library", "MB", "arrays", "ms", "target"], [_cells(r) for r in rows]))
    return commands.finish("memory", rows, args)


def _cells(row: dict[str, Any]) -> list[str]:
    if row["status"] != "ok":
        return [row["case"], row["library"], row["status"], "-", "-", "-"]
    arrays = f"{row['arrays']:.2f}" if "arrays" in row else "-"
    ms = f"{1e3 * row['seconds']:.1f}" if "seconds" in row else "-"
    verdict = commands.verdict(row["met"])
    return [row["case"], row["library"], f"{row['peak_bytes'] / MB:.1f}", arrays, ms, verdict]


if __name__ == "__main__":
    sys.exit(main())
