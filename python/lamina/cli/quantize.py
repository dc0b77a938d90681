"""``lamina quantize``: store a model's weights in a few bits."""

from __future__ import annotations

import argparse
from typing import Any

from lamina.cli.convert import add_recipe_options, run

_EXAMPLES = """examples:
  lamina quantize --model ./my-model --out ./my-model-4bit
  lamina quantize --model ./my-model --out ./my-model-8bit --bits 8 --group-size 32
  lamina quantize --model ./my-model --out ./my-model-3bit --bits 3 --calibration book.txt
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "quantize",
        help="quantize a model",
        description="Quantize the linear and embedding layers of a model, to 4 bits by default.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="PATH", help="model directory or GGUF file")
    parser.add_argument("--out", required=True, metavar="PATH", help="a new directory, or a new .gguf file")
    parser.add_argument("--bits", type=int, metavar="B", help="bits per weight (4)")
    add_recipe_options(parser)
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Quantize and say how large the weights were and are."""
    bits = args.bits if args.bits is not None or args.format is not None else 4
    return run(args, None if bits is None else str(bits))
