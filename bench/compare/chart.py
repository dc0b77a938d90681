"""The ratios as a bar chart. matplotlib is imported when a chart is drawn, and only then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_COLORS = ("#3b6ea8", "#c8713c", "#5b9a68", "#8a6bb0")


def draw(report: dict[str, Any], path: Path) -> None:
    """Write a PNG with one bar for each job and peer: the peer's best time over ours, on a log scale.

    Raises
    ------
    ValueError
        Where no row has a ratio.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter

    rows = [row for row in report["rows"] if row["ratios"]]
    if not rows:
        raise ValueError("no row has times of two peers: there is nothing to draw")
    ours, *others = (p["name"] for p in report["peers"])
    others = [p for p in others if any(p in row["ratios"] for row in rows)]
    height = 0.8 / len(others)
    figure, axes = plt.subplots(
        figsize=(9, 1.6 + len(rows) * (0.12 + 0.1 * len(others))), layout="constrained"
    )
    for k, peer in enumerate(others):
        places = [
            i + (k - (len(others) - 1) / 2) * height for i, row in enumerate(rows) if peer in row["ratios"]
        ]
        faster = [1 / row["ratios"][peer]["best"] for row in rows if peer in row["ratios"]]
        color = _COLORS[k % len(_COLORS)]
        axes.barh(places, [f - 1 for f in faster], height, left=1, color=color, label=f"against {peer}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}x" if v >= 1 else f"1/{1 / v:g}x"))
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [row["job"] for row in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(f"{ours} is so many times faster (best times)")
    machine = report["machine"]
    axes.set_title(f"{machine['cpu']}, {report['settings']['threads']} threads", fontsize=10)
    axes.legend(loc="lower right", fontsize=8)
    save(figure, path, 150)


def save(figure: Any, path: Path, dpi: int) -> None:
    """Write a figure as a PNG that takes its name last, and close it."""
    from matplotlib import pyplot as plt

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(temporary, dpi=dpi, format="png")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        plt.close(figure)
