"""The commands of language models, in the test's own process where nothing else is needed."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lamina.cli import main
from lamina.cli.markdown import whole_blocks

PROMPT = "def read_lines(path):"


def run(capsys, *args: str, code: int = 0) -> tuple[str, str]:
    assert main(list(args)) == code
    return capsys.readouterr()


def generated(capsys, *args: str) -> dict:
    out, _ = run(capsys, "generate", PROMPT, "--max-tokens", "12", "--temp", "0", "--json", *args)
    return json.loads(out)


class TestGenerate:
    def test_options_reach_the_choice_of_tokens(self, capsys):
        plain = generated(capsys)
        assert plain["generated_tokens"] == 12
        assert "guessed_tokens" not in plain
        assert "tokens" not in plain
        assert generated(capsys, "--arithmetic", "exact")["prompt_tokens"] == plain["prompt_tokens"]
        others = (
            ["--repetition-penalty", "3"],
            ["--temp", "2", "--xtc-probability", "1", "--xtc-threshold", "0.01", "--seed", "3"],
            ["--kv-window", "2"],
        )
        for options in others:
            assert generated(capsys, *options)["text"] != plain["text"], options

    def test_a_banned_token_does_not_come(self, capsys):
        record = generated(capsys, "--logprobs", "2")
        assert [len(t["top"]) for t in record["tokens"]] == [2] * 12
        assert all(t["logprob"] == t["top"][0]["logprob"] for t in record["tokens"])
        first = record["tokens"][0]["id"]
        other = generated(capsys, "--logprobs", "1", "--logit-bias", f"{first}:-inf")
        assert first not in [t["id"] for t in other["tokens"]]

    def test_stop_texts(self, capsys):
        text = generated(capsys)["text"]
        record = generated(capsys, "--stop", text[7:12], "--stop", "never")
        assert (record["text"], record["finish_reason"]) == (text[: text.find(text[7:12])], "stop")

    def test_forms(self, capsys, tmp_path):
        pytest.importorskip("llguidance", reason="the package is not installed here")
        schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9, "minimum": 0}},
                  "required": ["a"], "additionalProperties": False}  # fmt: skip
        file = tmp_path / "schema.json"
        file.write_text(json.dumps(schema))
        for given in (json.dumps(schema), str(file)):
            record = generated(capsys, "--json-schema", given, "--max-tokens", "60")
            assert set(json.loads(record["text"])) == {"a"}
        assert re.fullmatch("[xy]{3}", generated(capsys, "--regex", "[xy]{3}")["text"])
        file.write_text('start: "a" | "b"')
        assert generated(capsys, "--grammar", str(file))["text"] in ("a", "b")
        _, err = run(capsys, "generate", "x", "--json-schema", '{"type": "blob"}', code=1)
        assert err == "lamina generate: error: Invalid type: blob\n"

    def test_guesses_change_nothing(self, capsys):
        from lamina.lm import demo_path

        options = ("--max-tokens", "60", "--arithmetic", "int8")
        plain = generated(capsys, *options)
        looked_up = generated(capsys, *options, "--lookup")
        drafted = generated(capsys, *options, "--draft-model", str(demo_path()), "--draft-tokens", "3")
        assert looked_up["text"] == drafted["text"] == plain["text"]
        assert looked_up["guessed_tokens"] >= 0

    def test_many_prompts(self, capsys, tmp_path):
        file = tmp_path / "prompts.txt"
        file.write_text('import \n\n"def f(\\n"\nclass A\n', encoding="utf-8")
        args = ("generate", "--prompts", str(file), "--max-tokens", "6", "--temp", "0")
        out, err = run(capsys, *args, "--batch", "2", "--json")
        records = [json.loads(line) for line in out.splitlines()]
        assert [r["prompt"] for r in records] == ["import ", "def f(\n", "class A"]
        assert [r["generated_tokens"] for r in records] == [6] * 3
        assert "3 of 3 prompts, 18 tokens" in err
        for record in records:
            alone, _ = run(capsys, "generate", record["prompt"], "--max-tokens", "6", "--temp", "0", "--json")
            assert json.loads(alone)["text"] == record["text"]
        out, _ = run(capsys, *args)
        assert out.startswith(f"> import \n{records[0]['text']}\n")

    def test_a_question_in_a_chat(self, capsys):
        _, err = run(capsys, "generate", "x", "--chat", code=1)
        assert "the model has no chat template" in err

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["x", "--logit-bias", "3"], "--logit-bias wants ID:BIAS, got '3'"),
            (["x", "--logit-bias", "99999:1"], "logit_bias has token 99999"),
            (["x", "--temp", "-1"], "temperature must be 0 or more and finite, got -1.0"),
            (["x", "--kv-window", "0"], "the window of a cache must be positive, got 0"),
            (["x", "--stop", ""], "a stop text must not be empty"),
        ],
    )
    def test_errors(self, capsys, args, message):
        out, err = run(capsys, "generate", *args, code=1)
        assert message in err
        assert out == ""

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["x", "--logprobs", "2"], "--logprobs wants --json"),
            (["--prompts", "f", "--lookup"], "--prompts does not go with --echo, --lookup and --draft-model"),
            (["x", "--prompts", "f"], "give the prompt once"),
            (["x", "--regex", "a", "--grammar", "b"], "not allowed with argument"),
        ],
    )
    def test_usage_errors(self, capsys, args, message):
        with pytest.raises(SystemExit):
            main(["generate", *args])
        assert message in capsys.readouterr().err


class TestCache:
    def test_build_inspect_use(self, capsys, tmp_path):
        file = str(tmp_path / "prompt.safetensors")
        out, _ = run(capsys, "cache", "build", file, PROMPT, "--kv-bits", "8", "--json")
        built = json.loads(out)
        info = json.loads(run(capsys, "cache", "inspect", file, "--json")[0])
        assert info["tokens"] == built["tokens"]
        assert info["options"] == {"bits": 8, "window": None}
        assert "keys and values in 8 bits" in run(capsys, "cache", "inspect", file)[0]
        more = "\n    return"
        out, _ = run(capsys, "cache", "use", file, more, "--temp", "0", "--max-tokens", "8", "--json")
        used = json.loads(out)
        assert used["cached_tokens"] == built["tokens"]
        whole = json.loads(
            run(
                capsys,
                "generate",
                PROMPT + more,
                "--temp",
                "0",
                "--max-tokens",
                "8",
                "--kv-bits",
                "8",
                "--json",
            )[0]
        )
        assert used["text"] == whole["text"]
        out, err = run(capsys, "cache", "use", file, more, "--temp", "0", "--max-tokens", "8")
        assert out == used["text"] + "\n"
        assert f"{built['tokens']} of {used['prompt_tokens']} tokens of the prompt were there" in err

    def test_errors(self, capsys, tmp_path):
        file = tmp_path / "x.safetensors"
        assert "cannot read" in run(capsys, "cache", "inspect", str(file), code=1)[1]
        file.write_bytes(b"x" * 100)
        assert "is not a whole safetensors file" in run(capsys, "cache", "use", str(file), "x", code=1)[1]
        with pytest.raises(SystemExit):
            main(["cache", "build", str(file)])
        assert "no text: give one" in capsys.readouterr().err


@pytest.fixture
def chat(capsys, monkeypatch, tmp_path):
    """Run `lamina chat` over some lines; return what it printed."""
    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ")

    def talk(text: str, *args: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        options = ("--template", str(template), "--temp", "0", "--max-tokens", "6")
        return run(capsys, "chat", *options, *args, code=code)

    return talk


class TestChat:
    def test_turns_and_commands(self, chat, tmp_path):
        file = tmp_path / "talk.json"
        out, err = chat(
            "/system Be brief.\nHi\n/stats\n/retry\n/set temp 0.5\n/set\n"
            f"/save {file}\n/undo\n/undo\n/clear\n/help\n/exit\nnever read\n"
        )
        assert "prompt_tokens" in out
        assert "temp 0.5" in out
        assert "/retry" in out
        assert err.splitlines() == ["forgotten", "there is nothing to forget"]
        saved = json.loads(file.read_text())["messages"]
        assert [m["role"] for m in saved] == ["system", "user", "assistant"]
        assert saved[0]["content"] == "Be brief."
        assert out.startswith(saved[2]["content"])
        out, _ = chat("And?\n", "--load", str(file), "--json")
        assert json.loads(out)["prompt_tokens"] > 20

    def test_json_answers_and_texts_of_several_lines(self, chat):
        out, _ = chat('one\\\ntwo\n"""\nthree\n\nfour\n"""\n/undo no\n/nope\n', "--json")
        answers = [json.loads(line) for line in out.splitlines()]
        assert [a.get("finish_reason") for a in answers] == ["length", "length", None]
        assert answers[1]["cached_tokens"] > answers[0]["prompt_tokens"] // 2
        assert answers[2] == {"error": "there is no command /nope: /help lists them"}

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("/set heat 3", "there is no setting 'heat': temp, top-p"),
            ("/set temp warm", "temp wants a number, got 'warm'"),
            ("/set temp -1", "temperature must be 0 or more"),
            ("/load {}/none", "No such file"),
            ("/load {}/bad", "is not a saved conversation"),
            ("/save", "/save wants a file's name"),
            ("/retry", "there is no question to answer again"),
        ],
    )
    def test_errors_do_not_end_it(self, chat, tmp_path, line, message):
        (tmp_path / "bad").write_text('{"messages": [{"role": "user"}]}')
        out, err = chat(line.format(tmp_path) + "\nHi\n")
        assert message in err
        assert out.strip()

    def test_ctrl_c_stops_an_answer(self, chat, monkeypatch):
        import lamina.lm.chat

        stream = lamina.lm.chat.stream_generate

        def interrupted(*args, **options):
            for count, piece in enumerate(stream(*args, **options), 1):
                yield piece
                if count == 3:
                    signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(lamina.lm.chat, "stream_generate", interrupted)
        out, err = chat("Hi\nmore\n", "--json", code=130)
        assert json.loads(out)["finish_reason"] == "interrupted"
        assert json.loads(out)["generated_tokens"] == 3
        assert "Traceback" not in err

    def test_a_model_without_a_template_says_so(self, capsys, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.StringIO("def f(\n"))
        out, err = run(capsys, "chat", "--max-tokens", "4", "--temp", "0")
        assert "what you type is what it goes on from" in err
        assert out.strip()

    def test_a_terminal(self, tmp_path):
        """Typed at a terminal: Markdown, the lines typed before, Ctrl-C at the prompt, Ctrl-D."""
        template = tmp_path / "template.jinja"
        template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        command = [sys.executable, "-m", "lamina", "chat", "--template", str(template), "--max-tokens", "4"]
        main_end, their_end = pty.openpty()
        environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm"}
        process = subprocess.Popen(
            command,
            stdin=their_end,
            stdout=their_end,
            stderr=their_end,
            env=environment,
            start_new_session=True,
        )
        os.close(their_end)
        seen = ""

        def until(text: str) -> None:
            nonlocal seen
            deadline = time.monotonic() + 60
            while text not in seen and time.monotonic() < deadline:
                if select.select([main_end], [], [], 1)[0]:
                    try:
                        seen += os.read(main_end, 4096).decode(errors="replace")
                    except OSError:
                        break
            assert text in seen
            seen = seen.split(text, 1)[1]

        def until_it_reads() -> None:
            # Between writing the prompt and waiting for keys, readline notices a signal at the next key only.
            stat = Path(f"/proc/{process.pid}/stat")
            deadline = time.monotonic() + 60
            while stat.read_text().rpartition(")")[2].split()[0] != "S" and time.monotonic() < deadline:
                time.sleep(0.01)

        try:
            until(">>> ")
            os.write(main_end, b"x = 1\n")
            until(">>> ")
            until_it_reads()
            process.send_signal(signal.SIGINT)
            until("/exit leaves")
            until(">>> ")
            os.write(main_end, b"\x04")
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            os.close(main_end)
        assert (tmp_path / "lamina" / "chat_history").read_text() == "x = 1\n"


def test_blocks_of_markdown_that_are_done():
    text = "# Title\n\nwords\nmore\n\n```python\na\n\nb\n```\n\n- item"
    assert text[: whole_blocks(text)] == text[: text.index("- item")]
    for cut in range(len(text)):
        done = whole_blocks(text[:cut])
        assert text[:done].count("```") % 2 == 0
        assert done == 0 or text[:done].endswith("\n\n")
    assert whole_blocks("~~~\n\n```\n\n") == 0


def test_help_of_every_command(capsys):
    for name in ("generate", "chat", "cache"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert "examples:" in capsys.readouterr().out
