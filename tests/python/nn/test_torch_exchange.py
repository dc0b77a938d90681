"""Networks go to PyTorch and back by safetensors: files and logits of tests/golden/make_torch_exchange.py."""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import re
from pathlib import Path
from typing import Any

import lamina.core as mx
import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "tests" / "golden" / "exchange"
PAGE = (ROOT / "docs" / "pytorch.md").read_text(encoding="utf-8")
GOLDEN = json.loads((FOLDER / "logits.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the examples of docs/pytorch.md define."""
    names: dict[str, Any] = {}
    for text in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        test = doctest.DocTestParser().get_doctest(text, names, "pytorch.md", None, 0)
        with contextlib.redirect_stdout(io.StringIO()):
            doctest.DocTestRunner(verbose=False).run(test, clear_globs=False)
        names = test.globs
    return names


def test_the_pages_code_for_torch_is_what_ran() -> None:
    assert re.findall(r"^```py\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) == [GOLDEN["code"]]


@pytest.mark.parametrize("name", ["trained_here", "trained_there"])
def test_logits_are_torchs(page: dict[str, Any], name: str) -> None:
    model = page["load_from_torch"](page["Net"](), str(FOLDER / f"{name}.safetensors")).eval()
    wanted = np.array(GOLDEN["logits"][name])
    logits = np.array(model(mx.array(GOLDEN["images"], mx.float32)))
    # Three layers of sums of at most 128 products; logits and what they are made of are of one size.
    bound = 3 * np.sqrt(128) * 2.0**-24 * np.abs(wanted).max() * 4
    assert np.abs(logits - wanted).max() <= bound
    assert np.abs(wanted).max() > 1


def test_a_network_is_written_as_torch_read_it(page: dict[str, Any], tmp_path: Path) -> None:
    golden = FOLDER / "trained_here.safetensors"
    model = page["load_from_torch"](page["Net"](), str(golden))
    page["save_for_torch"](model, str(tmp_path / "again.safetensors"))
    assert (tmp_path / "again.safetensors").read_bytes() == golden.read_bytes()
