"""The command line of the comparison."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.compare import chart, machine, report
from bench.compare.peers import MODULES, OURS, load

if TYPE_CHECKING:
    from bench.compare.model import Job, Peer

_EXAMPLES = """examples:
  python -m bench.compare                               every job, every library that is there
  python -m bench.compare --list                        the names of the jobs
  python -m bench.compare --jobs 'target,sort/*/1m'     the targets, and sorting of 1M elements
  python -m bench.compare --peers numpy,torch,mlx       these only
  python -m bench.compare --repeat 15 --json out.json --chart out.png
  python -m bench.compare --sizes 1k,1m                 op families at two sizes only
A ratio is lamina's time over the peer's: below 1, lamina is faster. Ctrl-C keeps what is measured so far."""

_SIZES = ("1k", "1m", "8m", "llc")


def _names(text: str, known: Sequence[str], what: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"unknown {what} {name!r}: wanted of {', '.join(known)}")
    if not names:
        raise argparse.ArgumentTypeError(f"wanted at least one {what} of {', '.join(known)}")
    return list(dict.fromkeys(names))


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1, got {text!r}")
    return int(text)


def new_file(text: str) -> Path:
    """A file name in a folder that can be written to."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file name in an existing folder")
    if not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"no right to write to the folder of {text!r}")
    return path


def _png(text: str) -> Path:
    path = new_file(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"wanted a name that ends in .png, got {text!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("a chart needs matplotlib, which is not installed")
    return path


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    p = argparse.ArgumentParser(
        prog="python -m bench.compare",
        description="Time lamina and other array libraries in turns on the same jobs, results checked first.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    others = [n for n in MODULES if n != OURS]
    p.add_argument(
        "--jobs", metavar="PATTERN", default="*", help="comma-separated names or wildcards of jobs"
    )
    p.add_argument(
        "--peers",
        type=lambda t: _names(t, others, "peer"),
        default=others,
        metavar="NAME,...",
        help=f"who to compare with, of {', '.join(others)} (default: all); missing ones are left out",
    )
    p.add_argument(
        "--repeat", type=_count, default=7, metavar="N", help="samples of each job and peer (default: 7)"
    )
    p.add_argument(
        "--threads", type=_count, metavar="N", help="threads of every peer (default: all processors)"
    )
    p.add_argument(
        "--sizes",
        type=lambda t: _names(t, _SIZES, "size"),
        default=list(_SIZES),
        metavar="SIZE,...",
        help="sizes of the op families: 1k, 1m, 8m elements, llc: twice the last-level cache",
    )
    p.add_argument("--json", type=new_file, metavar="FILE", help="write all samples and the machine here")
    p.add_argument("--chart", type=_png, metavar="FILE.png", help="draw the ratios here (needs matplotlib)")
    p.add_argument("--list", action="store_true", help="print the names of the jobs and stop")
    p.add_argument(
        "--tiny",
        action="store_true",
        help="shrink every job to a few thousand elements; the times say nothing then",
    )
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; returns 0, 1 where a row is an error, 130 where the user stopped it."""
    p = parser()
    args = p.parse_args(arguments)
    usable = machine.usable_cpus()
    threads = args.threads or usable
    if threads > usable:
        p.error(
            f"argument --threads: wanted at most {usable}, the processors there are to use, got {threads}"
        )
    machine.equalize_threads(threads)

    # Only now: these import NumPy, which reads the number of threads.
    from bench.compare.jobs import all_jobs, select
    from bench.compare.model import Sizes

    sizes = Sizes(machine.last_level_cache(), tuple(args.sizes), args.tiny)
    try:
        jobs = select(all_jobs(sizes), [part.strip() for part in args.jobs.split(",") if part.strip()])
    except ValueError as error:
        p.error(f"argument --jobs: {error}")
    if args.list:
        print("\n".join(job.name for job in jobs))
        return 0
    peers = _peers(p, args.peers)
    return compare(jobs, peers, args, threads)


def _peers(p: argparse.ArgumentParser, names: Sequence[str]) -> list[Peer]:
    """Ours and the available ones of those named."""
    found = []
    for name in (OURS, *names):
        peer = load(name)
        reason = peer.available()
        if reason is None:
            found.append(peer)
        elif name == OURS:
            p.error(f"lamina itself is needed, and {reason}; ./dev build installs it")
        else:
            print(f"left out {name}: {reason}", file=sys.stderr)
    return found


def compare(jobs: Sequence[Job], peers: Sequence[Peer], args: argparse.Namespace, threads: int) -> int:
    """Measure the jobs one by one, printing each row as it comes."""
    from bench.compare.runner import Settings, measure

    settings = Settings(args.repeat)
    result = _empty_report(peers, settings.repeat, threads, args)
    for peer in result["peers"]:
        print(f"{peer['name']} {peer['version']}, threads: {peer['threads'] or 'not told'}", file=sys.stderr)
    print(report.heading(OURS))
    try:
        for i, job in enumerate(jobs, start=1):
            print(f"[{i}/{len(jobs)}] {job.name}", file=sys.stderr)
            row = measure(job, peers, settings, result["rows"])
            result["rows"].append(row)
            for line in report.lines(row, OURS):
                print(line, flush=True)
        result["complete"] = True
    except KeyboardInterrupt:
        print(f"stopped after {len(result['rows'])} of {len(jobs)} jobs", file=sys.stderr)
    _write(result, args)
    for line in report.summary(result["rows"], OURS):
        print(line)
    if not result["complete"]:
        return 130
    return int(any(row["status"] == "error" for row in result["rows"]))


def _empty_report(
    peers: Sequence[Peer], repeat: int, threads: int, args: argparse.Namespace
) -> dict[str, Any]:
    described = machine.describe()
    simd = getattr(peers[0], "simd", None)
    described["simd_target"] = simd() if simd else None
    peaks = getattr(peers[0], "peaks", None)
    described["peaks"] = peaks() if peaks else None
    return {
        "format": report.FORMAT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "complete": False,
        "machine": described,
        "settings": {
            "repeat": repeat,
            "threads": threads,
            "jobs": args.jobs,
            "sizes": args.sizes,
            "tiny": args.tiny,
        },
        "peers": [{"name": p.name, "version": p.version(), "threads": p.threads()} for p in peers],
        "rows": [],
    }


def _write(result: dict[str, Any], args: argparse.Namespace) -> None:
    if args.json:
        report.write_json(result, args.json)
        print(f"wrote {args.json}", file=sys.stderr)
    if args.chart:
        try:
            chart.draw(result, args.chart)
            print(f"wrote {args.chart}", file=sys.stderr)
        except ValueError as error:
            print(f"no chart: {error}", file=sys.stderr)
