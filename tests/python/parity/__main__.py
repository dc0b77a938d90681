"""Makes the same random calls in lamina and in another package of the same shape, and reports what differs.

    python -m tests.python.parity --peer /path/to/python [--count 5000] [--seed 0] [--only REGEX]

The peer is an interpreter that has `mlx.core`; this one has lamina. Exit status: 0 without unlisted
differences, 1 with some, 2 without a peer. A difference that is meant has a row in accepted.json and a
section of docs/differences.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter

from . import surface_composed, surface_more  # noqa: F401 - add their rows
from .calls import Call
from .compare import Accepted, Difference, accepted, difference
from .drawing import Draw
from .surface import SPECS, Spec
from .worker import Worker


def drawn(seed: int, number: int, names: list[str]) -> tuple[Spec, Call]:
    """Call `number` of a seed: the functions in turn, so that each gets its share."""
    spec = SPECS[names[number % len(names)]]
    return spec, spec.call(Draw([seed, number]))


def differences(peer: str, module: str, seed: int, count: int, names: list[str]) -> list[Difference]:
    """All differences of `count` calls, the accepted ones too."""
    found = []
    with Worker(sys.executable, "lamina.core") as ours, Worker(peer, module) as theirs:
        for number in range(count):
            spec, call = drawn(seed, number, names)
            one = difference(spec, call, ours.ask(call), theirs.ask(call))
            if one:
                found.append(one)
    return found


def report(found: list[Difference], rows: list[Accepted], count: int) -> int:
    """Prints the differences that no row covers, and how often each reason covered one."""
    reasons: Counter[str] = Counter()
    open_ones = []
    for one in found:
        row = next((r for r in rows if r.covers(one)), None)
        if row:
            reasons[row.reason] += 1
        else:
            open_ones.append(one)
    for one in open_ones:
        print(one)
    for reason, times in sorted(reasons.items()):
        print(f"meant    {times:6} {reason}")
    print(f"{count} calls, {len(found) - len(open_ones)} meant differences, {len(open_ones)} others")
    return 1 if open_ones else 0


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m parity", description="Random calls, compared.")
    options.add_argument("--peer", metavar="PYTHON", help="an interpreter with the package to compare with")
    options.add_argument("--module", default="mlx.core", help="its module (default: %(default)s)")
    options.add_argument("--count", type=int, default=5000, help="calls to make (default: %(default)s)")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="", help="only functions whose name holds this regular expression")
    chosen = options.parse_args()
    if not chosen.peer:
        print("nothing compared: --peer PYTHON names an interpreter that has mlx.core", file=sys.stderr)
        return 2
    if subprocess.run([chosen.peer, "-c", f"import {chosen.module}"], capture_output=True).returncode:
        print(f"nothing compared: {chosen.peer} cannot import {chosen.module}", file=sys.stderr)
        return 2
    names = [n for n in SPECS if re.search(chosen.only, n)]
    if not names:
        print(f"nothing compared: no function matches {chosen.only!r}", file=sys.stderr)
        return 2
    found = differences(chosen.peer, chosen.module, chosen.seed, chosen.count, names)
    return report(found, accepted(), chosen.count)


if __name__ == "__main__":
    raise SystemExit(main())
