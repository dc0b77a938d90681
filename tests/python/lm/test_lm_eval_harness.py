"""What lm-eval asks is answered as brute force answers it; tasks run where the package is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from lamina.cli import main
from lamina.lm import EngineOptions, Sampling, Tokenizer, demo_path, load, stream_generate
from lamina.lm.arithmetic import set_arithmetic
from lamina.lm.errors import LMError, PromptError
from lamina.lm.eval_harness import HarnessModel, run_tasks
from lm.lm_helpers import TEXTS, TINY, write_model_dir

PAGE = Path(__file__).parents[3] / "docs" / "evaluate.md"
BLOCK = re.compile(r"^```(sh|yaml|json)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LIMIT = TINY.max_position_embeddings


@dataclass
class Asked:
    """A request as lm-eval makes it."""

    args: tuple[Any, ...]


@pytest.fixture(scope="module")
def tiny(tokenizer: Tokenizer, tmp_path_factory) -> tuple[Any, Tokenizer]:
    return load(write_model_dir(tmp_path_factory.mktemp("eval") / "model", TINY, tokenizer))


@pytest.fixture(scope="module")
def demo() -> tuple[Any, Tokenizer]:
    model, tokenizer = load(demo_path())
    set_arithmetic(model, "int8")
    return model, tokenizer


def harness(pair: tuple[Any, Tokenizer], **options: Any) -> HarnessModel:
    return HarnessModel(*pair, EngineOptions(max_sequences=4, prefill_tokens=48), **options)


def logprobs(model: Any, ids: list[int]) -> np.ndarray:
    """The log-probabilities (n - 1, V) of what follows each of ``ids`` but the last, in float64."""
    logits = np.array(model(mx.array([ids[:-1]]))[0], dtype=np.float64)
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def total(model: Any, ids: list[int], count: int) -> float:
    """The log-probability of the last ``count`` of ``ids``."""
    table = logprobs(model, ids)
    return float(table[np.arange(len(table)), ids[1:]][-count:].sum())


def tolerance(count: int) -> float:
    """What ``count`` float32 log-probabilities of order 10, from sums of 64 + 64 + 128 terms, may be off."""
    return 8 * float(np.finfo(np.float32).eps) * 10 * 256**0.5 * count


class TestLoglikelihood:
    def test_as_brute_force(self, tiny):
        model, tokenizer = tiny
        asked = [
            (context, continuation)
            for context in ("def add(a, b):", "for i in", "The quick brown fox")
            for continuation in (" return", " range(10)", " a + b\n    print(i)")
        ]
        got = harness(tiny).loglikelihood([Asked(a) for a in asked])
        for (context, continuation), (value, greedy) in zip(asked, got, strict=True):
            first, whole = tokenizer.encode(context), tokenizer.encode(context + continuation)
            count = len(whole) - len(first)
            assert value == pytest.approx(total(model, whole, count), abs=tolerance(count))
            assert greedy == (logprobs(model, whole).argmax(axis=-1)[-count:] == whole[-count:]).all()

    def test_spaces_go_to_what_follows(self, tiny):
        own = harness(tiny)
        assert own.pair("for i in  ", "range") == own.pair("for i in", "  range")
        (spaced, _), (plain, _) = own.loglikelihood([Asked(("in ", "a")), Asked(("in", " a"))])
        assert spaced == plain

    def test_without_a_context(self, tiny):
        model, tokenizer = tiny
        following = tokenizer.encode("return a", special=False)
        for context in ("", "  "):
            own = harness(tiny)
            (value, _) = own.loglikelihood([Asked((context, context + "return a"))])[0]
            ids = own.pair(context, context + "return a")
            assert ids[0] == [own.prefix_token] == [0]
            assert value == pytest.approx(total(model, [*ids[0], *ids[1]], len(ids[1])), abs=tolerance(20))
        assert own.pair("", "return a")[1] == following

    def test_of_a_long_text_the_beginning_goes(self, tiny):
        model, tokenizer = tiny
        text = TEXTS[0].rstrip()
        ids = tokenizer.encode(text + " return")
        count = len(ids) - len(tokenizer.encode(text))
        assert len(ids) > LIMIT + 1
        ((value, _),) = harness(tiny).loglikelihood([Asked((text, " return"))])
        assert value == pytest.approx(total(model, ids[-LIMIT - 1 :], count), abs=tolerance(count))
        assert harness(tiny, context=10).pair(text, " return")[0] == ids[-11:-count]
        message = rf"a continuation has \d+ tokens, and the context holds {LIMIT}"
        with pytest.raises(PromptError, match=message):
            harness(tiny).loglikelihood([Asked(("x", text))])
        with pytest.raises(PromptError, match="'' has no tokens after its context"):
            harness(tiny).loglikelihood([Asked(("x", ""))])

    def test_the_likeliest_is_recognized(self, demo):
        answer = harness(demo).generate_until([Asked(("def read_lines(path):\n", {"max_gen_toks": 6}))])[0]
        got = harness(demo).loglikelihood(
            [Asked(("def read_lines(path):\n", t)) for t in (answer, answer[:-1] + "%")]
        )
        assert [greedy for _, greedy in got] == [True, False]


class TestRolling:
    def test_as_brute_force(self, tiny):
        model, tokenizer = tiny
        for text in ("ab", TEXTS[0], TEXTS[1], "x"):
            whole = [0, *tokenizer.encode(text, special=False)]
            want, done = 0.0, 1
            while done < len(whole):
                end = min(done + LIMIT, len(whole))
                want += total(model, whole[max(0, end - 1 - LIMIT) : end], end - done)
                done = end
            (got,) = harness(tiny).loglikelihood_rolling([Asked((text,))])
            assert got == pytest.approx(want, abs=tolerance(len(whole)))

    def test_several_texts(self, tiny):
        texts = [Asked((t,)) for t in (TEXTS[0], "", TEXTS[2])]
        together = harness(tiny).loglikelihood_rolling(texts)
        alone = [harness(tiny).loglikelihood_rolling([t])[0] for t in texts]
        assert together == pytest.approx(alone, abs=tolerance(200))
        assert together[1] == 0.0


class TestGenerate:
    def test_as_alone(self, demo):
        model, tokenizer = demo
        prompts = ["def f(", "import ", "class A:\n    def"]
        asked = [Asked((p, {"until": ["\n", ""], "max_gen_toks": 20})) for p in prompts]
        got = harness(demo).generate_until(asked)
        want = [
            "".join(
                p.text
                for p in stream_generate(model, tokenizer, t, 20, Sampling(temperature=0.0), stop=["\n"])
            )
            for t in prompts
        ]
        assert got == want
        assert not any("\n" in text for text in got)

    def test_options(self, demo):
        own = harness(demo, max_tokens=5)
        prompt = "def f("

        def answers(count: int = 1, **options: Any) -> list[str]:
            return own.generate_until([Asked((prompt, options))] * count)

        greedy = answers()
        assert answers(until="zzz", do_sample=False, temperature=1.0, num_beams=1) == greedy
        assert answers(temperature=0.0, do_sample=True) == greedy
        assert len(demo[1].encode(greedy[0], special=False)) <= 5
        drawn = answers(6, do_sample=True, temperature=2.0)
        assert len(set(drawn)) > 1  # repeats are draws of their own
        assert answers(6, do_sample=True, temperature=2.0) == drawn
        assert answers(6, temperature=2.0, seed=1) == [*drawn[1:], answers(7, temperature=2.0)[6]]
        with pytest.raises(LMError, match="an answer cannot have the option num_beams=4"):
            answers(num_beams=4)
        with pytest.raises(LMError, match="cannot have the option best_of=2; known are"):
            answers(best_of=2)

    def test_long_prompts_lose_their_beginning(self, tiny):
        prompt = TEXTS[0]
        (text,) = harness(tiny).generate_until([Asked((prompt, {"max_gen_toks": 8}))])
        ids = tiny[1].encode(prompt)[8 - LIMIT :]
        pieces = stream_generate(*tiny, ids, 8, Sampling(temperature=0.0))
        assert text == "".join(p.text for p in pieces)
        message = f"an answer of {LIMIT} tokens leaves no room in a context of {LIMIT}"
        with pytest.raises(LMError, match=message):
            harness(tiny).generate_until([Asked(("x", {"max_gen_toks": LIMIT}))])
        with pytest.raises(LMError, match=f"the context must be from 2 to the model's {LIMIT}, got 65"):
            harness(tiny, context=65)

    def test_a_conversation(self, demo):
        model, tokenizer = demo
        template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        template += "{% if add_generation_prompt %}<a>{% endif %}"
        own = HarnessModel(model, Tokenizer(tokenizer.inner, tokenizer.eos_ids, template))
        turns = [{"role": "user", "content": "x"}]
        assert own.apply_chat_template(turns) == "<user>x<a>"
        assert own.apply_chat_template(turns, add_generation_prompt=False) == "<user>x"
        assert own.chat_template(True) == template
        assert own.chat_template(False) == ""
        with pytest.raises(PromptError, match="no chat template"):
            harness(demo).apply_chat_template(turns)


def test_without_the_package(demo, monkeypatch, capsys):
    for name in [n for n in sys.modules if n.partition(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(LMError, match=r"tasks want the lm-eval package .*: pip install lamina\[eval\]"):
        run_tasks(*demo, ["hellaswag"])
    assert main(["eval", "--tasks", "hellaswag", "--model", "/nowhere"]) == 1
    assert "pip install lamina[eval]" in capsys.readouterr().err


def test_wrong_options(capsys):
    for option in ("--limit", "--max-tokens", "--batch"):
        with pytest.raises(SystemExit):
            main(["eval", "--tasks", "x", option, "0"])
        assert f"{option} must be at least 1, got 0" in capsys.readouterr().err


HAS_PACKAGE = importlib.util.find_spec("lm_eval") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the task of the page."""
    folder = tmp_path_factory.mktemp("tasks")
    for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind != "sh":
            (folder / {"yaml": "capitals.yaml", "json": "capitals.jsonl"}[kind]).write_text(text)
    return folder


@pytest.mark.skipif(not HAS_PACKAGE, reason="lm-eval is not installed here")
class TestPackage:
    def run(self, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
        command = [sys.executable, "-m", "lamina", *args]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    def test_the_page(self, folder):
        blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
        lines = [line for kind, text in blocks if kind == "sh" for line in text.splitlines()]
        assert len(lines) == 2
        for line in lines:
            done = self.run(folder, *line.split()[1:])
            assert done.returncode == 0, done.stderr
            assert "capitals" in done.stdout

    def test_metrics_are_those_of_the_answers(self, folder, demo):
        done = self.run(folder, "eval", "--tasks", "capitals", "--folder", ".", "--json")
        (result,) = json.loads(done.stdout)["results"]
        right = 0
        for line in (folder / "capitals.jsonl").read_text().splitlines():
            document = json.loads(line)
            context = f"The capital of {document['country']} is"
            asked = [Asked((context, f" {city}")) for city in document["cities"]]
            right += np.argmax([value for value, _ in harness(demo).loglikelihood(asked)]) == 0
        assert result == {
            "task": "capitals",
            "documents": 2,
            "metrics": {"acc": right / 2},
            "errors": {"acc": pytest.approx(0.5 if right == 1 else 0.0)},
        }

    def test_errors_are_one_line(self, folder):
        text = (folder / "capitals.yaml").read_text().replace("capitals", "lost")
        (folder / "lost.yaml").write_text(text)
        for args, message in (
            (["--tasks", "capitols"], "no such task: capitols"),
            (["--tasks", "capitals", "--folder", "x"], "no such folder of tasks: x"),
            (["--tasks", "lost", "--folder", "."], "a task's documents cannot be had: "),
        ):
            done = self.run(folder, "eval", *args)
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1].startswith(f"lamina eval: error: {message}"), done.stderr
            assert "Traceback" not in done.stderr
