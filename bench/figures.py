"""Figures of the report: ratios by job and by family, and the roofline. Drawing imports matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.compare import chart
from bench.summaries import Share, by_family

_COMPUTE, _MEMORY = "#c8713c", "#3b6ea8"


def draw_targets(run: dict[str, Any], path: Path) -> None:
    """The jobs with targets, against each peer."""
    chart.draw({**run, "rows": [r for r in run["rows"] if r["job"].startswith("target/")]}, path)


def draw_families(run: dict[str, Any], path: Path) -> None:
    """Geometric means of the ratios of each family and size, against each peer."""
    rows = [
        {"job": f"{family}, {count} rows", "ratios": {peer: {"best": mean} for peer, mean in means.items()}}
        for family, count, means in by_family(run["rows"])
    ]
    chart.draw({**run, "rows": rows}, path)


def draw_models(found: dict[str, Any], path: Path) -> None:
    """How many times llama.cpp's tokens a second, by row.

    Raises
    ------
    ValueError
        Where no row has rates of both.
    """
    rows = []
    for row in found["rows"]:
        rates = row.get("rates", {})
        if "llama.cpp" in rates:
            ratios = {
                peer: {"best": rates[peer]["best"] / rates["lamina"]["best"]}
                for peer in ("llama.cpp", "mlx")
                if peer in rates
            }
            rows.append({"job": row["row"], "ratios": ratios})
    peers = [{"name": name} for name in ("lamina", "llama.cpp", "mlx")]
    chart.draw({**found, "rows": rows, "peers": peers}, path)


def draw_roofline(shares: Sequence[Share], run: dict[str, Any], path: Path) -> None:
    """A bar for each kernel: its share of the peak that bounds it.

    Raises
    ------
    ValueError
        Where no row has a share.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    if not shares:
        raise ValueError("no row has bytes or operations and a time: there is nothing to draw")
    figure, axes = plt.subplots(figsize=(9, 1.6 + 0.2 * len(shares)), layout="constrained")
    colors = [_COMPUTE if s.bound == "compute" else _MEMORY for s in shares]
    axes.barh(range(len(shares)), [100 * s.share for s in shares], 0.75, color=colors)
    axes.set_yticks(range(len(shares)), [s.job for s in shares], fontsize=7)
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.axvline(100, color="black", linewidth=1)
    axes.grid(axis="x", alpha=0.3)
    peaks = run["machine"]["peaks"]
    axes.set_xlabel(
        "% of the measured peak; beyond 100: operands in cache, integer dots, other work beside the probe"
    )
    labels = [
        f"multiply-adds, {peaks['flops'] / 1e9:.0f} GFLOP/s in float32",
        f"reads, {peaks['bandwidth'] / 1e9:.1f} GB/s",
    ]
    handles = [Patch(color=c, label=text) for c, text in zip((_COMPUTE, _MEMORY), labels, strict=True)]
    axes.legend(handles=handles, loc="lower right", fontsize=8)
    axes.set_title(f"{run['machine']['cpu']}, {run['settings']['threads']} threads", fontsize=10)
    chart.save(figure, path, 120)
