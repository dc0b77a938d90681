"""The page of results from JSON files: ``python -m bench.report --help``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.compare.report import milliseconds, wanted
from bench.summaries import OURS, Joined, by_family, join, shares

_EXAMPLES = """example: three runs, two of the switches, and the page
  for i in 1 2 3; do ./dev bench compare --json run$i.json; done
  LAMINA_SIMD=avx2 ./dev bench compare --json avx2.json
  for w in scaling contention memory invariance; do ./dev bench $w --json $w.json; done
  ./dev bench e2e --json e2e.json
  ./dev bench report run*.json avx2.json scaling.json contention.json memory.json invariance.json e2e.json"""


_ALL_SIZES = ("1k", "1m", "8m", "llc")
_TINY = "\n**Measured on shrunken work (`--tiny`): these numbers and verdicts say nothing.**"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and its figures; returns 0, or 2 for files that are none of ours."""
    p = argparse.ArgumentParser(
        prog="python -m bench.report",
        description="Write benchmarks.md and figures from what the other commands wrote with --json.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("files", nargs="+", type=Path, metavar="FILE.json", help="results, those of compare first")
    p.add_argument(
        "--out", type=Path, default=Path("docs"), metavar="FOLDER", help="where to write (default: docs)"
    )
    args = p.parse_args(arguments)
    runs, others = [], {}
    for path in args.files:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            kind = found.get("kind", "compare" if "peers" in found else None)
        except (OSError, ValueError, AttributeError) as error:
            p.error(f"cannot read {path}: {error}")
        if kind == "compare" and found["format"] == 2:
            runs.append(found)
        elif kind in _SECTIONS:
            others[kind] = found
        else:
            p.error(f"{path} is no result of compare (format 2) or of {', '.join(_SECTIONS)}")
    if not runs:
        p.error("wanted at least one result of compare")
    main_runs = [r for r in runs if r["machine"]["simd_target"] == runs[0]["machine"]["simd_target"]]
    forced = [r for r in runs if r not in main_runs]
    figures = args.out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    drawn = _draw(main_runs, figures, others.get("e2e"))
    text = "\n".join(page(main_runs, forced, others, drawn)) + "\n"
    target = args.out / "benchmarks.md"
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, target)
    print(f"wrote {target} and {', '.join(drawn) or 'no figures'}", file=sys.stderr)
    return 0


def _draw(runs: Sequence[dict[str, Any]], folder: Path, models: dict[str, Any] | None) -> list[str]:
    """Draws what there is to draw; the names of the figures."""
    from bench import figures

    drawn = []
    first, peaks = runs[0], runs[0]["machine"].get("peaks")
    figure_of: dict[str, Callable[[Path], None]] = {
        "targets": lambda path: figures.draw_targets(first, path),
        "families": lambda path: figures.draw_families(first, path),
        "roofline": lambda path: figures.draw_roofline(
            shares(join(runs), peaks) if peaks else [], first, path
        ),
    }
    if models is not None:
        figure_of["models"] = lambda path: figures.draw_models(models, path)
    for name, draw in figure_of.items():
        try:
            draw(folder / f"{name}.png")
            drawn.append(name)
        except ValueError as error:
            print(f"no figure of {name}: {error}", file=sys.stderr)
    return drawn


# --- the page --------------------------------------------------------------------------------------------


def page(
    runs: Sequence[dict[str, Any]],
    forced: Sequence[dict[str, Any]],
    others: dict[str, dict[str, Any]],
    drawn: Sequence[str],
) -> Iterator[str]:
    """The lines of benchmarks.md."""
    joined = join(runs)
    yield "# Benchmarks\n"
    yield (
        "Written by `./dev bench report` from results of the commands below; do not edit. Times are the best "
        "of all runs, in ms. Ratios are ours over the peer's: **below 1 we are faster**."
    )
    yield from _machine(runs, forced)
    yield from _targets(joined, runs, drawn)
    if forced:
        yield from _forced(joined, join(forced), forced[0]["machine"]["simd_target"])
    yield from _families(runs, drawn)
    yield from _short(joined)
    yield from _wrong(joined)
    if "roofline" in drawn:
        yield from _roofline()
    for kind, section in _SECTIONS.items():
        if kind in others:
            yield from section(others[kind])
            if others[kind]["settings"]["tiny"]:
                yield _TINY


def _rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(headings) + " |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else milliseconds(seconds)


def _verdict(met: bool | None) -> str:
    return "" if met is None else "met" if met else "**missed**"


def _machine(runs: Sequence[dict[str, Any]], forced: Sequence[dict[str, Any]]) -> Iterator[str]:
    m, settings = runs[0]["machine"], runs[0]["settings"]
    caches = ", ".join(f"{name} {size >> 10} KB" for name, size in m["cache_bytes"].items())
    peers = ", ".join(f"{p['name']} {p['version']} ({p['threads'] or '?'} threads)" for p in runs[0]["peers"])
    load = ", ".join(f"{r['machine']['load_average']:.2f}" for r in [*runs, *forced])
    rows = [
        ["processor", f"{m['cpu']}, {m['usable_cpus']} to use; {', '.join(m['instruction_sets'])}"],
        ["caches of a core", caches],
        ["system", f"{m['system']}, Python {m['python']}"],
        ["libraries", peers],
        ["SIMD target", str(m["simd_target"])],
        ["dates of the runs", ", ".join(r["created"][:16] for r in [*runs, *forced])],
        ["load averages at the start", load],
    ]
    if m.get("peaks"):
        p = m["peaks"]
        rows.insert(
            2,
            [
                "measured peaks",
                f"{p['flops'] / 1e9:.0f} GFLOP/s float32, {p['bandwidth'] / 1e9:.1f} GB/s read",
            ],
        )
    yield "\n## Machine and commands\n"
    yield from _rows(["", ""], rows)
    options = f"--repeat {settings['repeat']} --threads {settings['threads']}"
    if settings["jobs"] != "*":
        options += f" --jobs '{settings['jobs']}'"
    if settings["sizes"] != list(_ALL_SIZES):
        options += f" --sizes {','.join(settings['sizes'])}"
    yield f"\n```sh\n./dev bench compare {options} --json run1.json"
    yield "./dev bench scaling --json scaling.json  # likewise contention, memory, invariance, e2e"
    yield "./dev bench report run1.json scaling.json\n```"
    if any(not r["complete"] for r in [*runs, *forced]):
        yield "\nSome of the runs were stopped early."
    if any(r["settings"]["tiny"] for r in [*runs, *forced]):
        yield _TINY


def _targets(joined: Sequence[Joined], runs: Sequence[dict[str, Any]], drawn: Sequence[str]) -> Iterator[str]:
    others = [p["name"] for p in runs[0]["peers"] if p["name"] != OURS]
    judged = [j for j in joined if j.met is not None]
    met, times = sum(j.met is True for j in judged), f"{len(runs)} run{'s' * (len(runs) > 1)}"
    yield f"\n## Targets\n\n{met} of {len(judged)} met: within 5 % of the target in each of {times}."
    if "targets" in drawn:
        yield "\n![How many times faster, by job](figures/targets.png)"
    yield ""
    rows = []
    for j in joined:
        if not j.job.startswith("target/"):
            continue
        ratios = " ".join(f"{r:.2f}" for r in j.ratios) or "-"
        times = [_ms(j.best(p)) for p in (OURS, *others)]
        rows.append([j.job.removeprefix("target/"), *times, ratios, wanted(j.rows[0]), _verdict(j.met)])
    yield from _rows(["job", OURS, *others, "ratio to the best, by run", "target", ""], rows)


def _forced(joined: Sequence[Joined], narrow: Sequence[Joined], simd: str) -> Iterator[str]:
    """With narrower vectors: within twice our own times, and five times ahead of MLX."""
    yield f"\n## With `LAMINA_SIMD={simd}`\n"
    by_job = {j.job: j for j in joined}
    rows = []
    for j in narrow:
        ours, wide = j.best(OURS), by_job[j.job].best(OURS) if j.job in by_job else None
        if not j.job.startswith("target/") or ours is None:
            continue
        mlx = j.best("mlx")
        times = [_ms(wide), _ms(ours), f"{ours / wide:.2f}" if wide else "-"]
        rows.append([j.job.removeprefix("target/"), *times, f"{mlx / ours:.1f}x" if mlx else "-"])
    yield from _rows(["job", "widest vectors", simd, "slower by", "ahead of mlx"], rows)


def _families(runs: Sequence[dict[str, Any]], drawn: Sequence[str]) -> Iterator[str]:
    others = [p["name"] for p in runs[0]["peers"] if p["name"] != OURS]
    rows = [
        [family, str(count), *(f"{means[p]:.2f}" if p in means else "-" for p in others)]
        for family, count, means in by_family(runs[0]["rows"])
    ]
    if not rows:
        return
    yield (
        "\n## Families of ops\n\nGeometric means of the ratios, by family and size (1K, 1M, 8M elements, "
        "twice the last-level cache)."
    )
    if "families" in drawn:
        yield "\n![Means by family](figures/families.png)"
    yield ""
    yield from _rows(["family", "rows", *others], rows)


def _short(joined: Sequence[Joined]) -> Iterator[str]:
    """Where some peer was faster by more than 5 % in every run."""
    found = [j for j in joined if j.ratios and min(j.ratios) > 1.05]
    yield (
        f"\n## Rows that fall short\n\nA peer is faster by more than 5 % in every run in {len(found)} of "
        f"{len(joined)} rows."
    )
    if not found:
        return
    yield ""
    rows = []
    for j in sorted(found, key=lambda j: -min(j.ratios)):
        name = min((n for row in j.rows for n in row["ratios"]), key=lambda n: j.best(n) or float("inf"))
        ratios = " ".join(f"{r:.2f}" for r in j.ratios)
        rows.append([j.job, _ms(j.best(OURS)), name, _ms(j.best(name)), ratios])
    yield from _rows(["job", OURS, "best peer", "its time", "ratio by run"], rows)


def _wrong(joined: Sequence[Joined]) -> Iterator[str]:
    problems = [(j.job, problem) for j in joined for problem in j.problems]
    if problems:
        yield "\n## Wrong results and exceptions\n\nLeft out of the ratios.\n"
        yield from _rows(["job", "what"], problems)


def _roofline() -> Iterator[str]:
    yield (
        "\n## Shares of the machine's peaks\n\nThe least time that a job's operations or its bytes (operands "
        "and results once) need at the measured peaks, over the time it took.\n\n"
        "![Shares of the peaks](figures/roofline.png)"
    )


# --- results of the other commands -----------------------------------------------------------------------


def _failed(row: dict[str, Any], width: int) -> list[str]:
    return [row.get("job") or row["case"], row["status"], *[""] * (width - 2)]


def _scaling(found: dict[str, Any]) -> Iterator[str]:
    s = found["settings"]
    yield f"\n## From 1 thread to {s['threads']}\n\nTarget: {s['target']}x for two threads.\n"
    rows = [
        [r["job"], _ms(r["one_s"]), _ms(r["more_s"]), f"{r['speedup']:.2f}x", _verdict(r["met"])]
        if r["status"] == "ok"
        else _failed(r, 5)
        for r in found["rows"]
    ]
    yield from _rows(["job", "1 thread", f"{s['threads']} threads", "speed-up", ""], rows)


def _contention(found: dict[str, Any]) -> Iterator[str]:
    s = found["settings"]
    yield (
        "\n## Beside another busy process\n\nCalls in a second while another process keeps one processor "
        f"busy; target: {s['target']:.0%} of the idle rate.\n"
    )
    rows = [
        [
            r["job"],
            f"{r['idle_per_s']:.1f}",
            f"{r['busy_per_s']:.1f}",
            f"{r['share']:.0%}",
            _verdict(r["met"]),
        ]
        if r["status"] == "ok"
        else _failed(r, 5)
        for r in found["rows"]
    ]
    yield from _rows(["job", "idle", "one busy", "share", ""], rows)


def _memory(found: dict[str, Any]) -> Iterator[str]:
    yield (
        "\n## Memory, import and size\n\nWhat a fresh process needs at most beyond what it had before, its "
        "operands included.\n"
    )
    rows = []
    for r in found["rows"]:
        if r["status"] != "ok":
            rows.append(_failed(r, 6))
            continue
        arrays = f"{r['arrays']:.2f}" if "arrays" in r else ""
        ms = f"{1e3 * r['seconds']:.1f}" if "seconds" in r else ""
        rows.append(
            [r["case"], r["library"], f"{r['peak_bytes'] / (1 << 20):.1f}", arrays, ms, _verdict(r["met"])]
        )
    yield from _rows(["what", "library", "MB", "arrays", "ms", ""], rows)


def _invariance(found: dict[str, Any]) -> Iterator[str]:
    yield (
        "\n## Batch-invariant products\n\nWhat `mx.set_batch_invariant(True)` costs "
        "([same-bits.md](same-bits.md)).\n"
    )
    rows = [
        [r["job"], _ms(r["off_s"]), _ms(r["on_s"]), f"{r['ratio']:.2f}"]
        if r["status"] == "ok"
        else _failed(r, 4)
        for r in found["rows"]
    ]
    yield from _rows(["job", "off", "on", "on / off"], rows)


def _models(found: dict[str, Any]) -> Iterator[str]:
    s = found["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in s["versions"].items())
    yield (
        f"\n## Language models\n\nThe shapes of {s['model']['name']}, random weights, {s['threads']} "
        f"threads; tokens a second, **more is better**. {versions}; {found['created'][:16]}, load average "
        f"{found['machine']['load_average']:.2f}. Rows are held against llama.cpp, `batch` rows against one "
        "sequence, `busy` rows against the idle rate. MLX gets 4 tokens and answers with 2, once."
    )
    if any("llama.cpp" in r.get("rates", {}) for r in found["rows"]):
        yield "\n![Tokens a second over llama.cpp's](figures/models.png)"
    yield ""
    rows, times = [], []
    for r in found["rows"]:
        if r["status"] != "ok":
            rows.append([r["row"], r["status"], *[""] * 5])
        elif "best_s" in r:
            times.append(
                [r["row"], f"{1e3 * r['best_s']:.2f}", f"{1e3 * r['limit_s']:g}", _verdict(r["met"])]
            )
        else:
            rates = [f"{r['rates'][n]['best']:.1f}" if n in r["rates"] else "-" for n in _MODEL_PEERS]
            ratio = f"{r['ratio']:.2f} / {r['ratio_of_medians']:.2f}" if "ratio" in r else "-"
            target = "" if r["target"] is None else f"{r['target']:g}"
            rows.append([r["row"], *rates, ratio, target, _verdict(r["met"])])
    yield from _rows(["row", *_MODEL_PEERS, "ratio, best / median", "target", ""], rows)
    if times:
        yield ""
        yield from _rows(["", "ms", "at most", ""], times)


_MODEL_PEERS = ("lamina", "llama.cpp", "mlx")
_SECTIONS = {
    "scaling": _scaling,
    "contention": _contention,
    "memory": _memory,
    "invariance": _invariance,
    "e2e": _models,
}


if __name__ == "__main__":
    sys.exit(main())
