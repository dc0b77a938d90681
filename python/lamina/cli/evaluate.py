"""``lamina eval``: tasks of EleutherAI's lm-eval."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from lamina.cli import language

_EXAMPLES = """examples:
  lamina eval --model ./my-model --tasks hellaswag,arc_easy --limit 200
  lamina eval --model ./my-model-4bit --tasks gsm8k --fewshot 5 --chat --json
  lamina eval --model ./my-model --tasks my_task --folder ./my-tasks
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "eval",
        help="run evaluation tasks",
        description="Run tasks of EleutherAI's lm-eval: multiple choice, answers, texts to predict. "
        "Wants the extra: pip install lamina[eval].",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tasks", required=True, metavar="NAME,...", help="tasks, groups or tags of lm-eval")
    parser.add_argument(
        "--folder", action="append", default=[], metavar="DIR", help="definitions of further tasks"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N documents of each task (all)")
    parser.add_argument(
        "--fewshot", type=int, metavar="K", help="examples before each question (what the task says)"
    )
    parser.add_argument("--chat", action="store_true", help="ask in the form of the model's chat template")
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="tokens of an answer at most (what the task says)"
    )
    parser.add_argument(
        "--batch", type=int, default=16, metavar="N", help="texts in a step at most (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    language.add_model_options(parser)
    language.add_cache_options(parser)
    parser.set_defaults(execute=execute, parser=parser)


def execute(args: argparse.Namespace) -> int:
    """Run the tasks and print their metrics."""
    from lamina.lm.engine import EngineOptions
    from lamina.lm.eval_harness import harness_version, run_tasks

    for name in ("limit", "max_tokens", "batch"):
        value = getattr(args, name)
        if value is not None and value < 1:
            args.parser.error(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    version = harness_version()  # before the model is loaded
    options = EngineOptions(args.batch, prefill_tokens=512, cache=language.cache_options(args))
    model, tokenizer = language.load_model(args)
    results = run_tasks(
        model,
        tokenizer,
        [name.strip() for name in args.tasks.split(",") if name.strip()],
        limit=args.limit,
        fewshot=args.fewshot,
        folders=args.folder,
        chat=args.chat,
        options=options,
        max_tokens=args.max_tokens,
        progress=not args.json,
    )
    if args.json:
        record = {"lm_eval": version, "results": [dataclasses.asdict(r) for r in results]}
        print(json.dumps(record))
        return 0
    for result in results:
        documents = "" if result.documents is None else f", {result.documents} documents"
        print(f"{result.task}{documents}")
        for name, value in result.metrics.items():
            error = f" +- {result.errors[name]:.4f}" if name in result.errors else ""
            print(f"  {name:20} {value:.4f}{error}")
    return 0
