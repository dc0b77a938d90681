"""``lamina embed``: vectors of texts, and how similar they are."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lamina.cli import language

_EXAMPLES = """examples:
  lamina embed --model ./all-MiniLM-L6-v2 "a happy person" "a happy dog" --similarity
  lamina embed --model ./all-MiniLM-L6-v2 --file lines.txt --out vectors.npy
  lamina embed --model ./all-MiniLM-L6-v2 --json "one text"
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "embed",
        help="turn texts into vectors",
        description="Vectors of texts by an encoder (BERT), one line of numbers for each text.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts")
    parser.add_argument("--model", required=True, metavar="DIR", help="model directory")
    parser.add_argument("--file", metavar="FILE", help="one text a line, after those given; - for stdin")
    parser.add_argument("--out", metavar="FILE.npy", help="write the vectors there instead of printing them")
    parser.add_argument("--similarity", action="store_true", help="print the texts' cosine similarities")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(execute=execute, parser=parser)


def execute(args: argparse.Namespace) -> int:
    """Embed and print or write."""
    import lamina.core as mx
    from lamina.lm.embed import load_embedder
    from lamina.lm.io import replacing

    texts = args.texts + (_lines(args.file) if args.file else [])
    if not texts:
        args.parser.error("no text: give some as arguments, or a file of them with --file")
    vectors = load_embedder(args.model).embed(texts)
    if args.out:
        with replacing(args.out) as tmp:
            mx.save(str(tmp), vectors)
        print(f"{args.out}: {vectors.shape[0]} vectors of {vectors.shape[1]}", file=sys.stderr)
    units = vectors / mx.maximum(mx.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    similarity = units @ units.T if args.similarity else None
    if args.json:
        out: dict[str, Any] = {} if args.out else {"vectors": vectors.tolist()}
        if similarity is not None:
            out["similarity"] = similarity.tolist()
        print(json.dumps(out))
    elif similarity is not None:
        _print_rows(similarity)
    elif not args.out:
        _print_rows(vectors)
    return 0


def _lines(file: str) -> list[str]:
    return [line for line in language.read_text(file).splitlines() if line.strip()]


def _print_rows(rows: Any) -> None:
    for row in rows.tolist():
        print(" ".join(f"{v:.6g}" for v in row))
