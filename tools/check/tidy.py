"""clang-tidy over the project's own translation units, in parallel, skipping what passed before unchanged.

Sources that the build compiles in batches are checked in batches. A unit's result depends on its text, the
headers of the repository it reaches, its compile command and .clang-tidy; a unit whose hash over these passed
once is not run again. The library and the bindings are checked; `--all` checks tests and benchmarks too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from include_rule import includes

ROOT = Path(__file__).resolve().parents[2]
# Warnings only the other compiler knows, and options it warns about.
EXTRA_ARGUMENTS = ["--extra-arg=-Wno-unknown-warning-option", "--extra-arg=-Wno-unused-command-line-argument"]


@dataclass(frozen=True)
class Unit:
    """One translation unit: its file, the hash its result is remembered under, the bytes of its sources, and
    whether those are of the library or the bindings."""

    file: Path
    key: str
    source_bytes: int
    library: bool


def reached(source: Path, roots: list[Path]) -> list[Path]:
    """The repository's files a source reaches through its includes, itself first."""
    seen: dict[Path, None] = {}
    pending = [source]
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen[path] = None
        for _, target, _ in includes(path):
            for root in [path.parent, *roots]:
                candidate = root / target
                if candidate.is_file():
                    pending.append(candidate.resolve())
                    break
    return list(seen)


def units(build: Path) -> list[Unit]:
    """The units of the project's own sources in a build tree's compilation database."""
    database = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    roots = [ROOT / "cpp/src", ROOT / "cpp/include", ROOT / "cpp", ROOT / "tests/cpp", build / "include"]
    config = (ROOT / ".clang-tidy").read_bytes()
    found: dict[Path, Unit] = {}
    for entry in database:
        file = Path(entry["file"]).resolve()
        batch = file.parent.name == "Unity"
        generated = file.is_relative_to(build.resolve()) and not batch
        if file in found or generated or not file.is_relative_to(ROOT):
            continue
        digest = hashlib.sha256(config + entry["command"].encode())
        sources = reached(file, roots)
        for path in sources:
            digest.update(path.read_bytes())
        own = sum(path.stat().st_size for path in sources if path.suffix == ".cc")
        library = any(path.is_relative_to(ROOT / "cpp") for path in sources if path.suffix == ".cc")
        found[file] = Unit(file, digest.hexdigest(), own, library)
    return sorted(found.values(), key=lambda unit: -unit.source_bytes)


def run(tool: str, build: Path, unit: Unit) -> tuple[Unit, int, str]:
    """Run clang-tidy on one unit; give back its exit status and what it said."""
    command = [tool, "-p", str(build), "--quiet", *EXTRA_ARGUMENTS, str(unit.file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # Standard error holds counts of suppressed warnings, and the message when the tool itself failed.
    return unit, done.returncode, done.stdout + (done.stderr if done.returncode and not done.stdout else "")


def main() -> int:
    """Check all units that changed since they passed; the exit status is 1 if one fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, required=True, help="build tree with compile_commands.json")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--all", action="store_true", help="tests and benchmarks as well")
    options = parser.parse_args()
    tool = shutil.which("clang-tidy-14")
    if tool is None:
        print("wanted clang-tidy 14, found none", file=sys.stderr)
        return 1
    passed_file = options.build / "tidy-passed.json"
    passed = set(json.loads(passed_file.read_text()) if passed_file.exists() else [])
    everything = units(options.build)
    chosen = [unit for unit in everything if options.all or unit.library]
    pending = [unit for unit in chosen if unit.key not in passed]
    failures = 0
    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        for unit, status, text in pool.map(lambda unit: run(tool, options.build, unit), pending):
            if status == 0:
                passed.add(unit.key)
            else:
                failures += 1
                print(text)
    passed_file.write_text(json.dumps(sorted(passed & {unit.key for unit in everything})))
    print(f"clang-tidy: {len(pending)} of {len(chosen)} units run, {failures} with findings")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
