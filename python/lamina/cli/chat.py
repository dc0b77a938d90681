"""``lamina chat``: a conversation in the terminal."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lamina.cli import language

_EXAMPLES = """examples:
  lamina chat --model ./my-model
  lamina chat --model model.gguf --system "Answer in one sentence." --temp 0.2
  printf 'Hello!\\nAnd in French?\\n' | lamina chat --model ./my-model --json
"""
_HELP = '''/help             this list
/exit             leave (also Ctrl-D)
/clear            forget the conversation
/undo             forget the last question and its answer
/retry            answer the last question again, with another seed
/system TEXT      say who the model is to be; without TEXT, nobody
/set NAME VALUE   change temp, top-p, top-k, min-p, seed or max-tokens; without, list them
/save FILE        write the conversation as JSON
/load FILE        go on with a saved conversation
/stats            tokens and speed of the last answer

A line that ends with \\ goes on in the next. """ begins and ends a text of several lines.
Ctrl-C stops an answer; what came of it is kept.'''
_SETTINGS = {
    "temp": ("temperature", float),
    "top-p": ("top_p", float),
    "top-k": ("top_k", int),
    "min-p": ("min_p", float),
    "seed": ("seed", int),
}


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "chat",
        help="talk with a language model",
        description="Talk with a model. On a terminal answers are shown as Markdown; /help lists commands.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--system", metavar="TEXT", help="who the model is to be")
    parser.add_argument("--load", metavar="FILE", help="go on with a conversation that /save wrote")
    parser.add_argument(
        "--max-tokens", type=int, default=2048, metavar="N", help="tokens of an answer at most (%(default)s)"
    )
    parser.add_argument(
        "--template", metavar="FILE", help="a chat template in Jinja (default: the model's own)"
    )
    parser.add_argument("--plain", action="store_true", help="print answers as they come, not as Markdown")
    parser.add_argument(
        "--json", action="store_true", help="read a question a line, print a JSON object for each answer"
    )
    parser.add_argument(
        "--no-history", action="store_true", help="do not keep the lines typed, for the arrow keys"
    )
    language.add_model_options(parser)
    language.add_sampling_options(parser)
    language.add_cache_options(parser)
    parser.set_defaults(execute=execute, parser=parser)


def execute(args: argparse.Namespace) -> int:
    """Load the model and hold the conversation."""
    from lamina.lm.chat import ChatTemplate, Conversation, chat_template
    from lamina.lm.errors import PromptError

    language.check_counts(args, "max_tokens")
    sampling = language.sampling(args)
    model, tokenizer = language.load_model(args)
    if args.template is not None:
        template = ChatTemplate(language.read_text(args.template), tokenizer.special_tokens)
    else:
        try:
            template = chat_template(tokenizer)
        except PromptError as error:
            template = None
            print(f"{error}; what you type is what it goes on from", file=sys.stderr)
    conversation = Conversation(
        model,
        tokenizer,
        sampler=sampling,
        max_tokens=args.max_tokens,
        template=template,
        cache_options=language.cache_options(args),
    )
    session = Session(conversation, args)
    if args.load is not None:
        session.load(args.load)
    if args.system:
        conversation.set_system(args.system)
    return session.run()


class Session:
    """The conversation and its commands."""

    def __init__(self, conversation: Any, args: argparse.Namespace) -> None:
        self.conversation = conversation
        self._json = args.json
        self._terminal = sys.stdin.isatty() and sys.stdout.isatty() and not args.json
        self._markdown = self._terminal and not args.plain
        self._history = self._terminal and not args.no_history
        self._last: Any = None
        self._interrupted = False
        self.commands: dict[str, Callable[[str], Any]] = {
            "/help": lambda _: print(_HELP),
            "/clear": lambda _: conversation.clear(),
            "/undo": self._undo,
            "/retry": lambda _: self.answer(conversation.again),
            "/system": conversation.set_system,
            "/set": self._set,
            "/save": self._save,
            "/load": self.load,
            "/stats": self._stats,
        }

    def run(self) -> int:
        """Take questions until there are no more; return the exit code."""
        with _TypedLines(self._history):
            for text in self._questions():
                if text.strip() in ("/exit", "/quit"):
                    break
                if text.strip():
                    self.take(text)
                if self._interrupted and not self._terminal:
                    return 130
        return 0

    def take(self, text: str) -> None:
        """Run a command, or put a question."""
        from lamina.lm.errors import LMError

        name, _, rest = text.strip().partition(" ")
        try:
            if name in self.commands:
                self.commands[name](rest.strip())
            elif name.startswith("/") and "\n" not in text:
                raise LMError(f"there is no command {name}: /help lists them")
            else:
                self.answer(lambda: self.conversation.say(text))
        except (LMError, OSError) as error:
            if self._json:
                print(json.dumps({"error": str(error)}, ensure_ascii=False), flush=True)
            else:
                print(f"error: {error}", file=sys.stderr)

    def answer(self, begin: Callable[[], Iterator[Any]]) -> None:
        """Print an answer as it comes."""
        show = _Printer(self._markdown, self._json)
        text, self._last, self._interrupted = "", None, False
        try:
            for piece in begin():
                text += piece.text
                show.add(piece.text)
                self._last = piece
        except KeyboardInterrupt:
            self._interrupted = True
        finally:
            show.finish()
        if self._json:
            reason = "interrupted" if self._interrupted else self._last.finish_reason
            record = {"text": text, "finish_reason": reason, **self._counts()}
            print(json.dumps(record, ensure_ascii=False), flush=True)

    def _questions(self) -> Iterator[str]:
        while True:
            try:
                yield self._question()
            except EOFError:
                if self._terminal:
                    print()
                return
            except KeyboardInterrupt:
                if not self._terminal:
                    raise
                print("\n(Ctrl-D or /exit leaves)")

    def _question(self) -> str:
        line = self._line(">>> ")
        if line.strip().startswith('"""'):
            lines, line = [], line.strip()[3:]
            while not line.rstrip().endswith('"""'):
                lines.append(line)
                line = self._line("... ")
            return "\n".join([*lines, line.rstrip()[:-3]]).strip("\n")
        lines = []
        while line.endswith("\\"):
            lines.append(line[:-1])
            line = self._line("... ")
        return "\n".join([*lines, line])

    def _line(self, prompt: str) -> str:
        if self._terminal:
            return input(prompt)
        from lamina.lm.errors import PromptError

        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise PromptError(f"stdin is not UTF-8 text: {error.reason}") from error
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def _undo(self, _: str) -> None:
        print("forgotten" if self.conversation.undo() else "there is nothing to forget", file=sys.stderr)

    def _set(self, text: str) -> None:
        from dataclasses import replace

        from lamina.lm.errors import LMError

        conversation = self.conversation
        name, _, value = text.partition(" ")
        if not name:
            for option, (attribute, _) in _SETTINGS.items():
                print(f"{option} {getattr(conversation.sampler, attribute)}")
            print(f"max-tokens {conversation.max_tokens}")
            return
        attribute, kind = _SETTINGS.get(name, ("max_tokens", int))
        if name not in (*_SETTINGS, "max-tokens"):
            raise LMError(f"there is no setting {name!r}: {', '.join(_SETTINGS)}, max-tokens")
        try:
            number = kind(value)
        except ValueError:
            raise LMError(f"{name} wants a number, got {value!r}") from None
        if name == "max-tokens":
            conversation.max_tokens = number
        else:
            conversation.sampler = replace(conversation.sampler, **{attribute: number})

    def _save(self, path: str) -> None:
        from lamina.lm.errors import LMError
        from lamina.lm.io import replacing

        if not path:
            raise LMError("/save wants a file's name")
        with replacing(path) as temporary:
            text = json.dumps({"messages": self.conversation.messages}, ensure_ascii=False, indent=1)
            temporary.write_text(text, encoding="utf-8")

    def load(self, path: str) -> None:
        """Go on with the conversation in a file.

        Raises
        ------
        PromptError
            It is none.
        """
        from lamina.lm.errors import PromptError

        text = language.read_text(path)
        try:
            messages = json.loads(text)["messages"]
            fine = all(isinstance(m["role"], str) and isinstance(m["content"], str) for m in messages)
        except ValueError as error:
            raise PromptError(f"{path} is not a saved conversation: {error}") from error
        except (KeyError, TypeError) as error:
            raise PromptError(f"{path} is not a saved conversation: it has no messages") from error
        if not fine:
            raise PromptError(f"{path} is not a saved conversation: a message has no role or content")
        self.conversation.messages = [dict(m) for m in messages]

    def _counts(self) -> dict[str, Any]:
        last = self._last
        if last is None:
            return {}
        names = ("prompt_tokens", "cached_tokens", "generated_tokens", "prompt_tps", "generation_tps")
        return {name: getattr(last, name) for name in names}

    def _stats(self, _: str) -> None:
        counts = self._counts()
        print("\n".join(f"{k} {v:.4g}" for k, v in counts.items()) or "nothing was answered yet")


class _Printer:
    """Shows an answer piece by piece: as Markdown, as it comes, or not at all."""

    def __init__(self, markdown: bool, silent: bool) -> None:
        self._silent = silent
        self._stream: Any = None
        if markdown:
            from rich.console import Console

            from lamina.cli.markdown import MarkdownStream

            self._stream = MarkdownStream(Console())

    def add(self, text: str) -> None:
        if self._stream is not None:
            self._stream.add(text)
        elif not self._silent:
            print(text, end="", flush=True)

    def finish(self) -> None:
        if self._stream is not None:
            self._stream.finish()
        elif not self._silent:
            print(flush=True)


class _TypedLines:
    """Lines typed before, for the arrow keys: read at the start and written at the end."""

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        self._file = Path(state) / "lamina" / "chat_history"

    def __enter__(self) -> None:
        if self._keep:
            import readline

            readline.set_history_length(1000)
            if self._file.is_file():
                readline.read_history_file(self._file)

    def __exit__(self, *_: object) -> None:
        if self._keep:
            import readline

            self._file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(self._file)
