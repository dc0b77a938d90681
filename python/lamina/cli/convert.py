"""``lamina convert``: change a model's dtype, merge its shards."""

from __future__ import annotations

import argparse
from typing import Any

_EXAMPLES = """examples:
  lamina convert --model ./llama-hf --out ./llama-bf16 --dtype bfloat16
  lamina convert --model ./llama-hf --out ./llama-4bit --dtype float16 --bits 4
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "convert",
        help="convert a model to another dtype, or quantize it",
        description="Read a Hugging Face style model directory, write it as one safetensors file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="model directory")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory for the converted model")
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), help="dtype of floating-point weights"
    )
    parser.add_argument("--bits", type=int, metavar="B", help="also quantize to B bits per weight")
    parser.add_argument(
        "--group-size", type=int, default=64, metavar="G", help="weights that share a scale (%(default)s)"
    )
    parser.add_argument(
        "--ignore-field",
        action="append",
        default=[],
        metavar="NAME",
        help="ignore a config field that is not understood",
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Convert."""
    from lamina.lm import Quantization, convert

    quantization = None if args.bits is None else Quantization(args.group_size, args.bits)
    convert(args.model, args.out, quantization, args.dtype, tuple(args.ignore_field))
    return 0
