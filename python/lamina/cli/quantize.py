"""``lamina quantize``: store a model's weights in a few bits."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

_EXAMPLES = """examples:
  lamina quantize --model ./my-model --out ./my-model-4bit
  lamina quantize --model ./my-model --out ./my-model-8bit --bits 8 --group-size 32
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "quantize",
        help="quantize a model",
        description="Quantize the linear and embedding layers of a model: affine, in groups.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="model directory")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory for the quantized model")
    parser.add_argument("--bits", type=int, default=4, metavar="B", help="bits per weight (%(default)s)")
    parser.add_argument(
        "--group-size", type=int, default=64, metavar="G", help="weights that share a scale (%(default)s)"
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Quantize and say how large the weights were and are."""
    from lamina.lm import Quantization, convert

    convert(args.model, args.out, Quantization(args.group_size, args.bits))
    before, after = (weight_bytes(d) for d in (args.model, args.out))
    print(f"{args.out}: {after / 1e6:.2f} MB of weights, {before / 1e6:.2f} MB before", file=sys.stderr)
    return 0


def weight_bytes(directory: str) -> int:
    """Return the size of the safetensors files in ``directory``, in bytes."""
    return sum(p.stat().st_size for p in Path(directory).glob("*.safetensors"))
