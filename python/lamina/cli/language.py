"""Options that the commands of language models share, and what they make of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

_ARITHMETIC = ("int8", "exact")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which model runs, and how."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="PATH",
        help="model directory or GGUF file (default: the demo model that ships with lamina)",
    )
    group.add_argument(
        "--arithmetic",
        choices=_ARITHMETIC,
        default="int8",
        help="how to multiply by quantized weights: activations in 8 bits, or as they are (%(default)s)",
    )
    group.add_argument(
        "--context", type=int, metavar="N", help="run it with N positions at most (default: all that it has)"
    )
    add_ignore_field(group)


def add_ignore_field(parser: Any) -> None:
    """Add what lets a config field be that is not understood, to a parser or a group of options."""
    parser.add_argument(
        "--ignore-field",
        action="append",
        default=[],
        metavar="NAME",
        help="ignore a config field that is not understood",
    )


def add_sampling_options(parser: argparse.ArgumentParser, temperature: float = 0.6) -> None:
    """Add what says how tokens are chosen."""
    group = parser.add_argument_group("choice of tokens")
    for name, kind, default, letter, text in (
        ("--temp", float, temperature, "T", "temperature; 0 takes the likeliest token"),
        ("--top-p", float, 0.95, "P", "keep this much probability"),
        ("--top-k", int, 0, "K", "keep the K likeliest tokens; 0 for all"),
        ("--min-p", float, 0.0, "P", "keep tokens P times as likely as the best"),
        ("--xtc-probability", float, 0.0, "P", "in this share of draws, exclude the top choices"),
        ("--xtc-threshold", float, 0.1, "P", "what a top choice's probability is at least"),
        ("--repetition-penalty", float, 1.0, "R", "make tokens of the text less likely; 1 does not"),
        ("--frequency-penalty", float, 0.0, "F", "make tokens of the answer less likely, each time"),
        ("--presence-penalty", float, 0.0, "F", "make tokens of the answer less likely, once"),
        ("--penalty-window", int, 0, "N", "penalties look at the last N tokens; 0 for all"),
        ("--seed", int, 0, "S", "seed of the draws"),
    ):
        group.add_argument(name, type=kind, default=default, metavar=letter, help=f"{text} (%(default)s)")
    group.add_argument(
        "--logit-bias",
        action="append",
        default=[],
        metavar="ID:BIAS",
        help="add BIAS to a token's logit; -inf rules it out; may be repeated",
    )


def add_cache_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how positions are kept."""
    group = parser.add_argument_group("keys and values")
    group.add_argument(
        "--kv-bits", type=int, choices=(4, 8), help="keep them in 8 or 4 bits (default: as they come)"
    )
    group.add_argument(
        "--kv-window",
        type=int,
        metavar="N",
        help="let each position see the last N only, and keep no more",
    )


def read_text(path: str) -> str:
    """Return the text of a file, or of stdin where ``path`` is ``-``.

    Raises
    ------
    PromptError
        It is not text.
    """
    from lamina.lm.errors import PromptError

    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        name = "stdin" if path == "-" else path
        raise PromptError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def check_counts(args: argparse.Namespace, *names: str) -> None:
    """End with a usage error where one of these options is given and not positive."""
    for name in names:
        value = getattr(args, name)
        if value is not None and value < 1:
            args.parser.error(f"--{name.replace('_', '-')} must be at least 1, got {value}")


def sampling(args: argparse.Namespace) -> Any:
    """Return the :class:`lamina.lm.Sampling` that the options describe."""
    from lamina.lm import Sampling
    from lamina.lm.errors import LMError

    bias = {}
    for text in args.logit_bias:
        token, _, value = text.partition(":")
        try:
            bias[int(token)] = float(value)
        except ValueError:
            raise LMError(f"--logit-bias wants ID:BIAS, got {text!r}") from None
    return Sampling(
        args.temp,
        args.top_k,
        args.top_p,
        args.min_p,
        args.xtc_probability,
        args.xtc_threshold,
        args.repetition_penalty,
        args.frequency_penalty,
        args.presence_penalty,
        args.penalty_window,
        bias,
        args.seed,
    )


def cache_options(args: argparse.Namespace) -> Any:
    """Return the :class:`lamina.lm.CacheOptions` that the options describe."""
    from lamina.lm import CacheOptions

    return CacheOptions(args.kv_bits, args.kv_window)


def load_model(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the model and its tokenizer.

    Raises
    ------
    CheckpointError
        There is none, or it is damaged.
    """
    from lamina.lm import demo_path, load
    from lamina.lm.arithmetic import set_arithmetic
    from lamina.lm.errors import CheckpointError

    path = Path(args.model) if args.model else demo_path()
    if args.model is None and not (path / "config.json").is_file():
        raise CheckpointError(
            f"no demo model at {path}: give a model with --model, or build one with lamina.lm.demo.build"
        )
    model, tokenizer = load(path, tuple(args.ignore_field), context=args.context)
    set_arithmetic(model, args.arithmetic)
    return model, tokenizer
