"""``lamina cache``: prompts whose positions are kept in a file."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from lamina.cli import language

_EXAMPLES = """examples:
  lamina cache build manual.safetensors --prompt - < manual.txt
  lamina cache inspect manual.safetensors
  lamina cache use manual.safetensors "In short: "
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "cache",
        help="keep a prompt's positions in a file",
        description="Run a long prompt once, keep what the model makes of it, and go on from there later.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, text: str, example: str) -> argparse.ArgumentParser:
        return actions.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    lines = _EXAMPLES.splitlines()
    build = add("build", "run a prompt and write the file", lines[1].strip())
    build.add_argument("file", metavar="FILE", help="the file to write")
    build.add_argument("text", nargs="?", metavar="PROMPT", help="the prompt; - reads it from stdin")
    build.add_argument("-p", "--prompt", help="the prompt, as an option")
    use = add("use", "go on from a file", lines[3].strip())
    use.add_argument("file", metavar="FILE", help="a file that build wrote")
    use.add_argument("text", nargs="?", metavar="TEXT", help="what follows the prompt; - reads it from stdin")
    use.add_argument("-p", "--prompt", help="what follows the prompt, as an option")
    use.add_argument(
        "--max-tokens", type=int, default=200, metavar="N", help="stop after N tokens (%(default)s)"
    )
    use.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="stop before TEXT; may be repeated"
    )
    inspect = add("inspect", "say what a file holds", lines[2].strip())
    inspect.add_argument("file", metavar="FILE", help="a file that build wrote")
    for each in (build, use):
        language.add_model_options(each)
    language.add_cache_options(build)
    language.add_sampling_options(use)
    for each, run in ((build, _build), (use, _use), (inspect, _inspect)):
        each.add_argument("--json", action="store_true", help="print one JSON object")
        each.set_defaults(execute=run, parser=each)


def _text(args: argparse.Namespace) -> str:
    if args.text is not None and args.prompt is not None:
        args.parser.error("give the text once: as an argument or with --prompt")
    text: str | None = args.text if args.prompt is None else args.prompt
    if text is None:
        return args.parser.error("no text: give one as an argument, with --prompt, or - for stdin")
    return language.read_text("-") if text == "-" else text


def _build(args: argparse.Namespace) -> int:
    import time

    from lamina.lm import PromptCache, save_prompt_cache
    from lamina.lm.generate import prefill, prompt_ids

    text = _text(args)
    if not Path(args.file).absolute().parent.is_dir():
        raise FileNotFoundError(2, "no such folder for the cache", str(Path(args.file).parent))
    model, tokenizer = language.load_model(args)
    ids = prompt_ids(model, tokenizer, text)
    cache = PromptCache(model.cache_specs(), language.cache_options(args))
    cache.begin(ids, len(ids))
    began = time.perf_counter()
    prefill(model, ids, cache.caches).tolist()
    cache.extend(ids)
    seconds = time.perf_counter() - began
    save_prompt_cache(args.file, cache, model)
    record = {"file": args.file, "tokens": len(ids), "bytes": cache.nbytes, "seconds": seconds}
    if args.json:
        print(json.dumps(record))
    else:
        print(f"{args.file}: {len(ids)} tokens in {seconds:.2f} s, {len(ids) / seconds:.1f} tokens/s")
    return 0


def _use(args: argparse.Namespace) -> int:
    from lamina.lm import load_prompt_cache, stream_generate

    text, sampling = _text(args), language.sampling(args)
    model, tokenizer = language.load_model(args)
    cache = load_prompt_cache(args.file, model)
    ids = [*cache.tokens, *tokenizer.encode(text, special=False)]
    got, interrupted = [], False
    try:
        for piece in stream_generate(
            model, tokenizer, ids, args.max_tokens, sampling, stop=args.stop, prompt_cache=cache
        ):
            got.append(piece)
            if not args.json:
                print(piece.text, end="", flush=True)
    except KeyboardInterrupt:
        interrupted = True
    if args.json:
        record: dict[str, Any] = {"prompt": text, "text": "".join(p.text for p in got)}
        if got:
            names = ("prompt_tokens", "cached_tokens", "generated_tokens", "generation_tps", "finish_reason")
            record |= {name: getattr(got[-1], name) for name in names}
        print(json.dumps({**record, "interrupted": interrupted}, ensure_ascii=False))
    else:
        print()
        if got:
            last = got[-1]
            print(
                f"{last.cached_tokens} of {last.prompt_tokens} tokens of the prompt were there; "
                f"generated {last.generated_tokens} tokens, {last.generation_tps:.1f} tokens/s",
                file=sys.stderr,
            )
    return 130 if interrupted else 0


def _inspect(args: argparse.Namespace) -> int:
    from lamina.lm.cache.files import inspect_prompt_cache

    info, tokens = inspect_prompt_cache(args.file)
    record = {**dataclasses.asdict(info), "first_tokens": tokens[:16]}
    if args.json:
        print(json.dumps(record))
        return 0
    kept = "as they come" if info.options.bits is None else f"in {info.options.bits} bits"
    window = "" if info.options.window is None else f", a window of {info.options.window}"
    print(
        f"{args.file}: {info.tokens} tokens, {info.layers} layers of {info.model_type} ({info.model}), "
        f"{info.nbytes} bytes, keys and values {kept}{window}"
    )
    return 0
