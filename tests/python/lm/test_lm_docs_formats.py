"""Commands and examples of docs/models-and-formats.md run, in their order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from lamina.cli import main
from lamina.lm import convert
from lm.lm_helpers import TEXTS, TINY, write_model_dir

PAGE = Path(__file__).parents[3] / "docs" / "models-and-formats.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_the_page(tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    write_model_dir(tmp_path / "model", TINY, tokenizer)
    convert(tmp_path / "model", tmp_path / "model.gguf")
    for name in ("book.txt", "other.txt"):
        (tmp_path / name).write_text("".join(TEXTS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands, examples = 0, 0
    for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), {})
            examples += 1
            continue
        for line in text.strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "lamina"
            assert main(arguments) == 0, (line, capsys.readouterr().err)
            commands += 1
    assert (commands, examples) == (12, 1)


def test_the_page_names_every_format() -> None:
    from lamina.lm.io.gguf_names import ARCHITECTURES
    from lamina.lm.io.published import _METHODS
    from lamina.lm.quantization.blocks import WRITTEN

    text = PAGE.read_text(encoding="utf-8").lower()
    spoken = {f"q{n}_k" for n in (3, 4, 5)}  # within "q2_k to q6_k"
    for name in {*(a.name for a in ARCHITECTURES.values()), *_METHODS, *WRITTEN, "mxfp8", "nvfp4"} - spoken:
        assert name in text, name
