"""``lamina convert``: from any format that lamina reads to the layout of MLX or to GGUF."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lamina.cli import language

_EXAMPLES = """examples:
  lamina convert --model ./llama-hf --out ./llama-bf16 --dtype bfloat16
  lamina convert --model ./llama-hf --out ./llama-4bit --dtype float16 --bits 4
  lamina convert --model ./llama-hf --out llama-q4_k.gguf --format q4_k --head q6_k
  lamina convert --model model.gguf --out ./model-mlx
  lamina convert --model ./llama-hf --out ./llama-mixed --format 4 --wide 8 --bits-per-weight 5 \\
      --calibration book.txt --evaluation other.txt
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "convert",
        help="convert a model to another format or dtype, or quantize it",
        description=(
            "Read a model (a directory of Hugging Face, MLX, AWQ, GPTQ or FP8 weights, or a GGUF file) and\n"
            "write it as a directory in the layout of MLX, or as a GGUF file where --out ends in .gguf."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="PATH", help="model directory or GGUF file")
    parser.add_argument(
        "--out", required=True, metavar="PATH", help="a new directory, or a new file that ends in .gguf"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), help="dtype of floating-point weights"
    )
    parser.add_argument("--bits", type=int, metavar="B", help="quantize to B bits per weight, affine")
    add_recipe_options(parser)
    parser.set_defaults(execute=execute)


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how to quantize, and what to report."""
    parser.add_argument(
        "--group-size", type=int, default=None, metavar="G", help="weights that share a scale (64)"
    )
    parser.add_argument(
        "--format",
        metavar="F",
        help="store matrices as F: 2 to 8 (bits, affine), affine4g32, mxfp4, mxfp8, nvfp4, float16, "
        "bfloat16; for GGUF q2_k to q6_k, q4_0, q4_1, q5_0, q5_1, q8_0, f16, bf16",
    )
    parser.add_argument("--head", metavar="F", help="store the embedding and the output layer as F")
    parser.add_argument(
        "--wide",
        metavar="F",
        help="store the layers that matter most as F; wants --bits-per-weight and --calibration",
    )
    parser.add_argument(
        "--bits-per-weight", type=float, default=0.0, metavar="N", help="of all packed weights, with --wide"
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        metavar="PATH",
        help="text files or directories; scales are chosen by what the layers see of them",
    )
    parser.add_argument(
        "--evaluation",
        nargs="+",
        metavar="PATH",
        help="text files or directories; report perplexity and KL divergence from the source on them",
    )
    parser.add_argument(
        "--evaluation-limit", type=int, default=100_000, metavar="N", help="characters of it (%(default)s)"
    )
    parser.add_argument(
        "--requantize", action="store_true", help="quantize layers again that are in few bits already"
    )
    language.add_ignore_field(parser)
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def execute(args: argparse.Namespace) -> int:
    """Convert."""
    return run(args, None if args.bits is None else str(args.bits))


def run(args: argparse.Namespace, bits: str | None, dtype: str | None = None) -> int:
    """Convert as the arguments say, with affine codes of ``bits`` where they name no format."""
    from lamina.lm.errors import ConfigError
    from lamina.lm.evaluate import read_text
    from lamina.lm.io import convert
    from lamina.lm.quantization import Recipe, parse_format

    def format_of(text: str | None) -> Any:
        return None if text is None else parse_format(text, args.group_size)

    if args.format is not None and bits is not None:
        raise ConfigError("give --bits or --format, not both")
    base = format_of(args.format or bits)
    if base is None and any(v is not None for v in (args.wide, args.head, args.calibration)):
        raise ConfigError("--wide, --head and --calibration want --bits or --format")
    if (args.wide is None) != (args.bits_per_weight == 0):
        raise ConfigError("--wide and --bits-per-weight want each other")
    recipe = None
    if base is not None:
        recipe = Recipe(
            base,
            format_of(args.wide),
            args.bits_per_weight,
            format_of(args.head),
            calibrate=args.calibration is not None,
        )
    report = convert(
        args.model,
        args.out,
        dtype=dtype or getattr(args, "dtype", None),
        ignore_fields=tuple(args.ignore_field),
        recipe=recipe,
        requantize=args.requantize,
        calibration=read_text(args.calibration) if args.calibration else None,
        evaluation=read_text(args.evaluation)[: args.evaluation_limit] if args.evaluation else None,
        log=(lambda _: None) if args.quiet or args.json else progress,
    )
    if args.json:
        print(json.dumps(report.to_dict()))
    else:
        print("\n".join([f"wrote {args.out}", *report.lines()]), file=sys.stderr)
    return 0


def progress(line: str) -> None:
    """Show a line of progress, over the one before where stderr is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line[:100]}", end="", file=sys.stderr, flush=True)
