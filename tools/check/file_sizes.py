"""The size gate: a source file of more than 1,000 lines fails, one of more than 600 is named.

Run without arguments it checks the repository; given a folder, the tree under that folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT_LINES = 1000
WARN_LINES = 600
SUFFIXES = {".h", ".cc", ".def", ".cmake", ".py", ".pyi", ".sh"}
NAMES = {"CMakeLists.txt", "dev"}
SKIPPED_FOLDERS = {"build", "dist", "wheelhouse", "__pycache__"}


def source_files(root: Path) -> Iterator[Path]:
    """Yield the source files of a tree in a fixed order; hidden folders and build products are left out."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if name not in SKIPPED_FOLDERS and not name.startswith((".", "build-"))
        )
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix in SUFFIXES or name in NAMES:
                yield path


def long_files(root: Path, limit_lines: int) -> list[tuple[Path, int]]:
    """The source files of more than `limit_lines` lines, each with its number of lines."""
    found = []
    for path in source_files(root):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > limit_lines:
            found.append((path.relative_to(root), lines))
    return found


def main(arguments: list[str]) -> int:
    """Name every long file; the exit status is 1 if one is over the limit."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    failed = False
    for path, lines in long_files(root, WARN_LINES):
        if lines > LIMIT_LINES:
            failed = True
            print(f"{path}: {lines} lines; the limit is {LIMIT_LINES}")
        else:
            print(f"note: {path}: {lines} lines; split it before it reaches {LIMIT_LINES}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
