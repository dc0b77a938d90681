"""``lamina generate``: continue a prompt."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

from lamina.cli import profiling

_EXAMPLES = """examples:
  lamina generate "def read_lines(path):"
  lamina generate -p "import " --max-tokens 60 --temp 0
  lamina generate --model ./my-model --prompt - --json < prompt.txt
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "generate",
        help="continue a prompt with a language model",
        description="Continue a prompt. The text goes to stdout as it is made, the speed to stderr.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("text", nargs="?", metavar="PROMPT", help="the prompt; - reads it from stdin")
    parser.add_argument("-p", "--prompt", help="the prompt, as an option")
    parser.add_argument(
        "--model", metavar="DIR", help="model directory (default: the demo model that ships with lamina)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=200, metavar="N", help="stop after N tokens (%(default)s)"
    )
    parser.add_argument(
        "--temp",
        type=float,
        default=0.6,
        metavar="T",
        help="temperature; 0 takes the likeliest token (%(default)s)",
    )
    parser.add_argument(
        "--top-p", type=float, default=0.95, metavar="P", help="keep this much probability (%(default)s)"
    )
    parser.add_argument(
        "--top-k",
        type=int,
        default=0,
        metavar="K",
        help="keep the K likeliest tokens; 0 for all (%(default)s)",
    )
    parser.add_argument(
        "--min-p",
        type=float,
        default=0.0,
        metavar="P",
        help="keep tokens P times as likely as the best (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the draws (%(default)s)")
    parser.add_argument("--echo", action="store_true", help="print the prompt before its continuation")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object at the end instead of streaming"
    )
    parser.add_argument(
        "--ignore-field",
        action="append",
        default=[],
        metavar="NAME",
        help="ignore a config field that is not understood",
    )
    profiling.add_option(parser)
    parser.set_defaults(execute=execute, parser=parser)


def _prompt(args: argparse.Namespace) -> str:
    if args.text is not None and args.prompt is not None:
        args.parser.error("give the prompt once: as an argument or with --prompt")
    prompt: str | None = args.text if args.prompt is None else args.prompt
    if prompt is None:
        return args.parser.error("no prompt: give one as an argument, with --prompt, or - for stdin")
    return sys.stdin.read() if prompt == "-" else prompt


def execute(args: argparse.Namespace) -> int:
    """Load the model, stream the continuation, and report the speed."""
    prompt = _prompt(args)
    with profiling.profiled(args.profile):
        return _generate(args, prompt)


def _generate(args: argparse.Namespace, prompt: str) -> int:
    from lamina.lm import demo_path, load, make_sampler, stream_generate
    from lamina.lm.errors import CheckpointError

    sampler = make_sampler(args.temp, args.top_k, args.top_p, args.min_p, args.seed)
    path = args.model or demo_path()
    if args.model is None and not (path / "config.json").is_file():
        raise CheckpointError(
            f"no demo model at {path}: give a model with --model, or build one with lamina.lm.demo.build"
        )
    model, tokenizer = load(path, tuple(args.ignore_field))
    pieces = stream_generate(model, tokenizer, prompt, args.max_tokens, sampler)
    if args.echo and not args.json:
        print(prompt, end="", flush=True)
    parts, last, interrupted = [], None, False
    try:
        for last in pieces:
            parts.append(last.text)
            if not args.json:
                print(last.text, end="", flush=True)
    except KeyboardInterrupt:
        interrupted = True
    if args.json:
        facts = (
            {k: v for k, v in dataclasses.asdict(last).items() if k not in ("text", "token")} if last else {}
        )
        record = {"prompt": prompt, "text": "".join(parts), **facts, "interrupted": interrupted}
        print(json.dumps(record, ensure_ascii=False))
    else:
        print()
        if last is not None:
            print(
                f"prompt {last.prompt_tokens} tokens, {last.prompt_tps:.1f} tokens/s; "
                f"generated {last.generated_tokens} tokens, {last.generation_tps:.1f} tokens/s",
                file=sys.stderr,
            )
    return 130 if interrupted else 0
