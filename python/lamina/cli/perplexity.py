"""``lamina perplexity``: how well a model predicts a text, and how far it is from another model."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from lamina.cli import language

_EXAMPLES = """examples:
  lamina perplexity --model ./my-model --text book.txt
  lamina perplexity --model ./my-model-4bit --reference ./my-model --text book.txt --json
  lamina perplexity --model ./my-model-4bit --reference ./my-model-4bit --text book.txt --arithmetic int8
  lamina perplexity --model model-q4_k.gguf --text src/ --context 1024 --limit 200000
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "perplexity",
        help="measure how well a model predicts a text",
        description="Perplexity and bits per byte of a text; with --reference also the KL divergence.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="PATH", help="model directory or GGUF file")
    parser.add_argument(
        "--text", nargs="+", required=True, metavar="PATH", help="text files, or directories with them"
    )
    parser.add_argument("--reference", metavar="PATH", help="model to compare with, of the same vocabulary")
    add_options(parser)
    parser.add_argument(
        "--arithmetic",
        choices=("int8", "exact"),
        default="exact",
        help="how --model multiplies by quantized weights; a reference does it exactly (%(default)s)",
    )
    language.add_ignore_field(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(execute=execute, parser=parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how a text is cut."""
    parser.add_argument(
        "--context", type=int, metavar="N", help="tokens in a window (512, or the model's context if shorter)"
    )
    parser.add_argument("--stride", type=int, metavar="N", help="tokens that a window adds (half of it)")
    parser.add_argument(
        "--limit",
        type=int,
        default=0,
        metavar="N",
        help="use the first N characters; 0 for all (%(default)s)",
    )
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="compute in this dtype")


def execute(args: argparse.Namespace) -> int:
    """Measure and print."""
    from tqdm import tqdm

    from lamina.lm import load
    from lamina.lm.arithmetic import set_arithmetic
    from lamina.lm.evaluate import compare_models, read_text, score_text

    language.check_counts(args, "context", "stride")
    if args.limit < 0:
        args.parser.error(f"--limit must be 0 or more, got {args.limit}")
    text, ignore = read_text(args.text), tuple(args.ignore_field)
    text = text[: args.limit] if args.limit else text
    model, tokenizer = load(args.model, ignore, dtype=args.dtype)
    set_arithmetic(model, args.arithmetic)
    reference = load(args.reference, ignore, dtype=args.dtype)[0] if args.reference is not None else None
    # On a terminal only: it is for who waits.
    with tqdm(desc="tokens", disable=None, leave=False) as bar:
        if reference is None:
            score = score_text(model, tokenizer, text, args.context, args.stride, bar.update)
            record: dict[str, Any] = score_record(score)
        else:
            both = compare_models(model, reference, tokenizer, text, args.context, args.stride, bar.update)
            record = comparison_record(both)
    if args.json:
        print(json.dumps(record))
    else:
        for line in lines(record):
            print(line)
    return 0


def score_record(score: Any) -> dict[str, Any]:
    """Return what is printed of a :class:`lamina.lm.evaluate.Score`."""
    return {
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
        **dataclasses.asdict(score),
    }


def comparison_record(both: Any) -> dict[str, Any]:
    """Return what is printed of a :class:`lamina.lm.evaluate.Comparison`."""
    return {
        **score_record(both.score),
        "reference": score_record(both.reference),
        **{k: getattr(both, k) for k in ("kl", "kl_99", "kl_max", "same_top")},
    }


def lines(record: dict[str, Any]) -> list[str]:
    """Return a record as lines of text."""
    out = [
        f"perplexity {record['perplexity']:.4f}, {record['bits_per_byte']:.4f} bits per byte, "
        f"{record['tokens']} tokens"
    ]
    if "reference" in record:
        out += [
            f"reference  {record['reference']['perplexity']:.4f}",
            f"KL         {record['kl']:.6f} nats (99 %: {record['kl_99']:.5f}, most: {record['kl_max']:.4f})",
            f"same top   {100 * record['same_top']:.2f} %",
        ]
    return out
