"""The include rule: a C++ file includes from its own layer, from lower layers, and from the public headers.

Run without arguments it checks the repository; given a folder, the tree under that folder.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Each layer with those it may see directly; what they see it sees too. Siblings do not see each other.
LAYERS: dict[str, tuple[str, ...]] = {
    "core": (),
    "memory": ("core",),
    "graph": ("memory",),
    "quant": ("memory",),
    "io": ("memory", "quant"),
    "ops": ("graph", "quant"),
    "autograd": ("ops",),
    "export": ("autograd", "io"),
    "fusion": ("ops",),
    "backend": ("autograd", "fusion", "io"),
    "explain": ("backend",),
    "bindings": ("backend", "explain", "export"),
}

# Inside backend/: which implementation may look into which other one.
BACKENDS: dict[str, tuple[str, ...]] = {"reference": (), "null": (), "cpu": ("reference",)}

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"(?P<quoted>[^"]+)"|<(?P<angled>[^>]+)>)')
STANDARD = re.compile(r"^[a-z_0-9]+$|^std[a-z]+\.h$")
PYTHON_ONLY = re.compile(r"^(pybind11/|Python\.h$|numpy/)")


@dataclass(frozen=True)
class Violation:
    """One include that breaks the rule: where it stands, and what is wrong with it."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def visible(layer: str) -> set[str]:
    """The layers a file of `layer` may include from, its own among them."""
    seen = {layer}
    for below in LAYERS[layer]:
        seen |= visible(below)
    return seen


def includes(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield line number, target and whether it is quoted, for each include of a file."""
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = INCLUDE.match(text)
        if match:
            quoted = match["quoted"]
            yield number, quoted if quoted is not None else match["angled"], quoted is not None


def public_problem(target: str, quoted: bool) -> str | None:
    """What is wrong with an include of a public header, or None."""
    if quoted:
        if target.startswith("lamina/"):
            return None
        return (
            f'a public header includes "{target}"; it may include only "lamina/..." and the standard library'
        )
    if STANDARD.match(target):
        return None
    return f"a public header includes <{target}>; it may include only the standard library"


def backend_problem(source: Path, target: Path) -> str | None:
    """What is wrong with an include inside backend/, both paths relative to backend/, or None."""
    if len(target.parts) < 2 or target.parts[0] not in BACKENDS:
        return None
    other = target.parts[0]
    if len(source.parts) < 2:
        # backend/*.cc lists the implementations; the headers beside it stay free of them.
        return None if source.suffix == ".cc" else f"backend/{source} is shared and includes from {other}/"
    own = source.parts[0]
    if other == own or other in BACKENDS.get(own, ()):
        return None
    return f"backend/{own} includes from backend/{other}"


def source_problem(layer: str, source: Path, target: str, quoted: bool) -> str | None:
    """What is wrong with an include of a source file (path relative to its layer), or None."""
    if not quoted:
        if PYTHON_ONLY.match(target) and layer != "bindings":
            return f"{layer} includes <{target}>; only bindings may"
        return None
    path = Path(target)
    if ".." in path.parts:
        return f'"{target}" climbs out of its folder; write the path from cpp/src'
    if target.startswith("lamina/") or len(path.parts) == 1:
        return None
    other = path.parts[0]
    if other not in LAYERS:
        return f'"{target}" begins with no layer (wanted one of {", ".join(LAYERS)} or lamina)'
    if other not in visible(layer):
        return f'{layer} includes "{target}"; {layer} may see {", ".join(sorted(visible(layer)))}'
    if layer == other == "backend":
        return backend_problem(source, Path(*path.parts[1:]))
    return None


def cpp_files(folder: Path) -> list[Path]:
    """The C++ files under a folder, in a fixed order."""
    return sorted(
        path for path in folder.rglob("*") if path.suffix in {".h", ".cc", ".def"} and path.is_file()
    )


def violations(root: Path) -> list[Violation]:
    """All violations in the tree whose top level is `root`."""
    found: list[Violation] = []

    def check(path: Path, problem: str | None, line: int) -> None:
        if problem is not None:
            found.append(Violation(path.relative_to(root), line, problem))

    for path in cpp_files(root / "cpp/include"):
        for line, target, quoted in includes(path):
            check(path, public_problem(target, quoted), line)
    for layer in LAYERS:
        folder = root / "cpp/bindings" if layer == "bindings" else root / "cpp/src" / layer
        for path in cpp_files(folder):
            for line, target, quoted in includes(path):
                check(path, source_problem(layer, path.relative_to(folder), target, quoted), line)
    if (root / "cpp/src").is_dir():
        for path in sorted((root / "cpp/src").iterdir()):
            if path.name not in LAYERS:
                found.append(
                    Violation(path.relative_to(root), 1, f"cpp/src holds only layers: {', '.join(LAYERS)}")
                )
    return found


def main(arguments: list[str]) -> int:
    """Print every violation; the exit status is 1 if there was one."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    found = violations(root)
    for violation in found:
        print(violation)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
