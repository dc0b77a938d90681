"""Code in the documentation gives what it says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Pages with examples, which share names from block to block, and how many blocks they have at least.
EXECUTED = {
    "compile.md": 5,
    "evaluate.md": 1,
    "generate.md": 2,
    "nn.md": 14,
    "porting-numpy.md": 11,
    "profiling.md": 4,
    "pytorch.md": 2,
    "same-bits.md": 1,
    "serve-many.md": 3,
}


def blocks(page: str) -> list[tuple[int, str]]:
    """The first line's number and the text of each block of Python."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [(text[: m.start()].count("\n") + 1, m[1]) for m in BLOCK.finditer(text)]


@pytest.mark.parametrize("page", EXECUTED)
def test_examples(page: str) -> None:
    found = blocks(page)
    assert len(found) >= EXECUTED[page]
    names: dict[str, object] = {}
    failures: list[str] = []
    for line, text in found:
        assert ">>> " in text, f"{page}:{line} has no example"
        test = doctest.DocTestParser().get_doctest(text, names, page, str(DOCS / page), line)
        doctest.DocTestRunner(verbose=False).run(test, out=failures.append, clear_globs=False)
        names = test.globs
    assert not failures, "".join(failures)


def test_every_page_with_examples_is_executed() -> None:
    pages = [p.name for p in sorted(DOCS.glob("*.md")) if any(">>> " in text for _, text in blocks(p.name))]
    assert pages == sorted(EXECUTED)
