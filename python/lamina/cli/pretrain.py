"""``lamina pretrain``: train a small language model from text files."""

from __future__ import annotations

import argparse
import sys
from typing import Any

_EXAMPLES = """examples:
  lamina pretrain --data books/ --out run --steps 2000
  lamina pretrain --data a.txt b.txt --held-out c.txt --out run --width 128 --layers 4 --heads 2
  lamina pretrain --data books/ --out run --steps 2000 --resume
  lamina generate --model run/model "Once upon a time"
"""

# option, type, default, help; defaults repeated here so that --help imports nothing heavy (a test compares
# them).
MODEL_OPTIONS = (
    ("width", int, 256, "size of the hidden state"),
    ("layers", int, 6, "decoder layers"),
    ("heads", int, 4, "attention heads"),
    ("kv-heads", int, 0, "key-value heads; 0 for as many as heads"),
    ("hidden", int, 0, "size of the MLP's hidden layer; 0 for 8/3 of the width"),
    ("context", int, 256, "positions the model has"),
)
TRAIN_OPTIONS = (
    ("steps", int, 1000, "optimizer steps"),
    ("batch", int, 8, "windows in a forward pass"),
    ("length", int, 256, "tokens in a window"),
    ("accumulate", int, 1, "forward passes per step"),
    ("lr", float, 1e-3, "learning rate after the warm-up"),
    ("min-lr", float, 1e-4, "learning rate at the end"),
    ("warmup", int, 100, "steps of linear warm-up"),
    ("weight-decay", float, 0.1, "decoupled decay of the matrices"),
    ("clip", float, 1.0, "largest gradient norm; 0 for no clipping"),
    ("seed", int, 0, "seed of weights and data order"),
    ("validate-every", int, 200, "steps between validations; 0 for none"),
    ("checkpoint-every", int, 200, "steps between checkpoints"),
    ("log-every", int, 10, "steps between lines in the log"),
)


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "pretrain",
        help="train a small language model from text files",
        description="Train a Llama model from scratch. Ctrl-C saves a checkpoint; --resume goes on from it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="PATH", help="text files, or directories with them"
    )
    parser.add_argument("--held-out", nargs="+", default=[], metavar="PATH", help="text to validate on")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="directory for checkpoints, log, curve and model"
    )
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="tokenizer.json to use (default: train one on the data)"
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        default=4096,
        metavar="N",
        help="ids of the tokenizer to train (%(default)s)",
    )
    for title, options in (("model", MODEL_OPTIONS), ("training", TRAIN_OPTIONS)):
        group = parser.add_argument_group(title)
        for name, kind, default, text in options:
            group.add_argument(
                f"--{name}", type=kind, default=default, metavar="N", help=f"{text} (%(default)s)"
            )
    parser.add_argument("--no-compile", action="store_true", help="run the step without mx.compile")
    parser.add_argument("--no-png", action="store_true", help="do not draw the curve")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Train; 130 when Ctrl-C stopped the run."""
    from lamina.lm.train.config import TrainConfig
    from lamina.lm.train.pretrain import ModelSize, pretrain

    def chosen(options: tuple) -> dict[str, Any]:
        names = [name.replace("-", "_") for name, *_ in options]
        return {name: getattr(args, name) for name in names}

    train = TrainConfig(**chosen(TRAIN_OPTIONS), compile=not args.no_compile)
    result = pretrain(
        args.data,
        args.out,
        ModelSize(**chosen(MODEL_OPTIONS)),
        train,
        held_out=args.held_out,
        tokenizer_file=args.tokenizer,
        vocab_size=args.vocab_size,
        resume=args.resume,
        quiet=args.quiet,
        png=not args.no_png,
    )
    if result.interrupted:
        print(f"stopped at step {result.state.step}: --resume goes on from there", file=sys.stderr)
        return 130
    if not args.quiet:
        print(f"trained: lamina generate --model {args.out}/model PROMPT", file=sys.stderr)
    return 0
