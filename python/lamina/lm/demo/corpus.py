"""The demo model's text: what every Python carries with it.

Documents are the sources of the standard library and the topics of its reference documentation
(``help("lambda")`` and the like). Left out are:

- ``site-packages`` and bundled wheels: other projects, other licences;
- test suites (``test``, ``idle_test``, ``tests``, ``__phello__``): fixtures and tables more than prose;
- the character tables of ``encodings`` (over a megabyte of numbers) and ``pydoc_data`` itself, whose topics
  are read as text;
- modules generated at build time (``_sysconfigdata*``, ``config-*``), which name the machine they were
  built on.

A *unit* is a top-level module or package. A unit is held out, whole, when the SHA-256 of its name falls
below a fixed bound, so that the choice can be checked, and stays the same from one Python to the next.
Large packages (over ``MAX_HELD_OUT_BYTES``) always train. Nothing else looks at the held-out units: neither
the tokenizer nor training.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sysconfig
import tokenize
from dataclasses import dataclass
from pathlib import Path

from lamina.lm.errors import DataError
from lamina.lm.io import replacing

EXCLUDED_PARTS = frozenset(
    [
        "site-packages",
        "dist-packages",
        "__pycache__",
        "lib-dynload",
        "_bundled",
        "test",
        "tests",
        "idle_test",
        "__phello__",
        "encodings",
        "pydoc_data",
    ]
)
EXCLUDED_PREFIXES = ("_sysconfigdata", "config-")
HELD_OUT_RULE = 'the first 4 bytes of sha256("lamina demo held-out: " + unit), over 2**32, are below 0.05'
HELD_OUT_SHARE = 0.05
MAX_HELD_OUT_BYTES = 120_000
LICENCE = (
    "Python Software Foundation License Version 2. "
    "Copyright (c) 2001-2023 Python Software Foundation; All Rights Reserved."
)


@dataclass(frozen=True)
class Corpus:
    """Documents by name, split by unit; ``held_out_units`` are the units held out, sorted."""

    train: dict[str, str]
    held_out: dict[str, str]
    held_out_units: tuple[str, ...]


def is_held_out(unit: str) -> bool:
    """Return whether the hash rule picks ``unit`` (a top-level module's name, without ``.py``).

    Examples
    --------
    >>> is_held_out("json")
    False
    """
    digest = hashlib.sha256(f"lamina demo held-out: {unit}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE


def library_sources(root: Path | None = None) -> dict[str, str]:
    """Return the library's sources by path relative to ``root`` (default: the running Python's), sorted.

    Raises
    ------
    DataError
        There are no sources (some systems ship compiled modules only).
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    sources = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if EXCLUDED_PARTS.intersection(parts) or any(p.startswith(EXCLUDED_PREFIXES) for p in parts):
            continue
        try:
            with tokenize.open(path) as f:
                text = f.read()
        except (SyntaxError, UnicodeDecodeError) as e:
            raise DataError(f"{path} is not readable Python source: {e}") from e
        if text.strip():
            sources["/".join(parts)] = text
    if not sources:
        raise DataError(f"no Python sources below {root}")
    return sources


def documentation_topics() -> dict[str, str]:
    """Return the topics of Python's reference documentation, as ``help()`` shows them, by name."""
    from pydoc_data.topics import topics

    return {f"topics/{name}": text for name, text in sorted(topics.items())}


def build_corpus(root: Path | None = None) -> Corpus:
    """Read all documents and split them; see the module's description for what is in and what is out."""
    sources = library_sources(root)
    sizes: dict[str, int] = {}
    for name, text in sources.items():
        sizes[unit_of(name)] = sizes.get(unit_of(name), 0) + len(text.encode("utf-8"))
    units = tuple(sorted(u for u, size in sizes.items() if is_held_out(u) and size <= MAX_HELD_OUT_BYTES))
    chosen = set(units)
    held_out = {n: t for n, t in sources.items() if unit_of(n) in chosen}
    train = {n: t for n, t in sources.items() if unit_of(n) not in chosen}
    return Corpus({**train, **documentation_topics()}, held_out, units)


def unit_of(name: str) -> str:
    """Return a document's unit: ``"json/decoder.py"`` belongs to ``"json"``, ``"ast.py"`` to ``"ast"``."""
    return name.split("/")[0].removesuffix(".py")


def save_held_out(path: str | Path, corpus: Corpus) -> None:
    """Write the held-out documents as xz-compressed JSON with their licence."""
    data = {
        "licence": LICENCE,
        "rule": HELD_OUT_RULE,
        "units": corpus.held_out_units,
        "documents": corpus.held_out,
    }
    raw = json.dumps(data, ensure_ascii=False, indent=0, sort_keys=True).encode("utf-8")
    with replacing(path) as tmp:
        tmp.write_bytes(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))


def load_held_out(path: str | Path) -> dict[str, str]:
    """Read what :func:`save_held_out` wrote; return the documents by name, sorted."""
    try:
        data = json.loads(lzma.decompress(Path(path).read_bytes()))
        return dict(sorted(data["documents"].items()))
    except (OSError, lzma.LZMAError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"{path} is not a file of held-out documents: {e!r}") from e


def xz_bits_per_byte(documents: dict[str, str]) -> float:
    """Return the bits per byte of ``xz -9e`` on the documents, concatenated in the order of their names."""
    raw = "".join(documents[name] for name in sorted(documents)).encode("utf-8")
    return 8 * len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)) / len(raw)
