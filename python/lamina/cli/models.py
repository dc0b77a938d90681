"""``lamina models``: which architectures are supported, and what a model's configuration says."""

from __future__ import annotations

import argparse
import json
from typing import Any

_EXAMPLES = """examples:
  lamina models
  lamina models --json
  lamina models ./my-model
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "models",
        help="list the supported architectures",
        description="List the supported architectures by their model_type, or say what a model's config.json "
        "describes and whether all of it is understood.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="DIR", help="a model directory, or its config.json")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Print the list, or the summary of one model."""
    rows = supported() if args.model is None else [summary(args.model)]
    if args.json:
        print(json.dumps(rows if args.model is None else rows[0], indent=2))
    elif args.model is None:
        wide = max(len(row["model_type"]) for row in rows)
        for row in rows:
            print(f"{row['model_type']:{wide}}  {row['description']}")
    else:
        for name, value in rows[0].items():
            print(f"{name}: {value}")
    return 0


def supported() -> list[dict[str, str]]:
    """Return type, kind and description of every supported architecture."""
    from lamina.lm.config import model_types
    from lamina.lm.config.families import encoder_types, reader
    from lamina.lm.config.wrapper import wrapper_types

    rows = [
        {"model_type": t, "kind": "decoder", "description": _first_line(reader(t).__doc__)}
        for t in model_types()
    ]
    rows += [
        {"model_type": t, "kind": "decoder", "description": "The text part of a model that also sees."}
        for t in wrapper_types()
    ]
    encoder = "Attention in both directions: texts to vectors."
    rows += [{"model_type": t, "kind": "encoder", "description": encoder} for t in encoder_types()]
    return sorted(rows, key=lambda row: row["model_type"])


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def summary(path: str) -> dict[str, Any]:
    """Return what the configuration at ``path`` says of the model's sizes."""
    from lamina.lm.config import load_config

    config = load_config(path)
    spec = config.spec
    kinds = [_kind(layer) for layer in spec.layers]
    parts = {k: kinds.count(k) for k in dict.fromkeys(kinds)}
    return {
        "model_type": config.model_type,
        "layers": ", ".join(f"{n} x {k}" for k, n in parts.items()),
        "width": spec.width,
        "vocabulary": spec.vocab,
        "context": spec.context,
        "quantization": None if config.quantization is None else config.quantization.to_dict(),
    }


def _kind(layer: Any) -> str:
    names = [layer.mixer] + [p for p in (layer.beside, layer.mlp) if p is not None]
    words = [type(part).__name__.removesuffix("Config") for part in names]
    window = getattr(layer.mixer, "window", None)
    return " + ".join(words) + (f" (window {window})" if window else "")
