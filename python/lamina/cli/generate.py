"""``lamina generate``: continue a prompt, or many."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lamina.cli import language, profiling

_EXAMPLES = """examples:
  lamina generate "def read_lines(path):"
  lamina generate -p "import " --max-tokens 60 --temp 0
  lamina generate --model ./my-model --prompt - --json < prompt.txt
  lamina generate "numbers = " --regex "\\[[0-9]+(, [0-9]+){4}\\]"
  lamina generate --prompts prompts.txt --batch 8 --json
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "generate",
        help="continue a prompt with a language model",
        description="Continue a prompt. The text goes to stdout as it is made, the speed to stderr.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("text", nargs="?", metavar="PROMPT", help="the prompt; - reads it from stdin")
    parser.add_argument("-p", "--prompt", help="the prompt, as an option")
    parser.add_argument(
        "--prompts", metavar="FILE", help="a file of prompts, one a line (JSON strings too); all at once"
    )
    parser.add_argument(
        "--batch", type=int, default=8, metavar="N", help="prompts in work at once (%(default)s)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=200, metavar="N", help="stop after N tokens (%(default)s)"
    )
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="stop before TEXT; may be repeated"
    )
    parser.add_argument(
        "--chat", action="store_true", help="put the prompt as a question, by the chat template"
    )
    parser.add_argument("--system", metavar="TEXT", help="with --chat: who the model is to be")
    parser.add_argument("--echo", action="store_true", help="print the prompt before its continuation")
    parser.add_argument(
        "--json", action="store_true", help="print JSON instead of streaming: an object for each prompt"
    )
    parser.add_argument(
        "--logprobs", type=int, metavar="N", help="with --json: log-probabilities, also of the N best tokens"
    )
    language.add_model_options(parser)
    language.add_sampling_options(parser)
    language.add_cache_options(parser)
    _add_form_options(parser)
    profiling.add_option(parser)
    parser.set_defaults(execute=execute, parser=parser)


def _add_form_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("form of the answer")
    form = group.add_mutually_exclusive_group()
    form.add_argument("--json-schema", metavar="SCHEMA", help="a JSON schema, or a file with one")
    form.add_argument("--regex", metavar="PATTERN", help="a regular expression")
    form.add_argument("--grammar", metavar="FILE", help="a file with a grammar in Lark's notation")
    group = parser.add_argument_group("guessing several tokens at once")
    guess = group.add_mutually_exclusive_group()
    guess.add_argument("--draft-model", metavar="PATH", help="guess with a smaller model")
    guess.add_argument("--lookup", action="store_true", help="guess that the text repeats itself")
    group.add_argument("--draft-tokens", type=int, metavar="N", help="tokens to guess at once (4, or 6)")


def _prompt(args: argparse.Namespace) -> str:
    given = [p for p in (args.text, args.prompt, args.prompts) if p is not None]
    if len(given) > 1:
        args.parser.error("give the prompt once: as an argument or with --prompt or --prompts")
    if not given:
        return args.parser.error("no prompt: give one as an argument, with --prompt, or - for stdin")
    return language.read_text("-") if given[0] == "-" and args.prompts is None else given[0]


def execute(args: argparse.Namespace) -> int:
    """Load the model, stream the continuation, and report the speed."""
    language.check_counts(args, "batch", "draft_tokens")
    prompt = _prompt(args)
    if args.logprobs is not None and not args.json:
        args.parser.error("--logprobs wants --json")
    if args.prompts is not None and (args.draft_model or args.lookup or args.echo):
        args.parser.error("--prompts does not go with --echo, --lookup and --draft-model")
    with profiling.profiled(args.profile):
        return _many(args, prompt) if args.prompts is not None else _one(args, prompt)


def _ids(args: argparse.Namespace, tokenizer: Any, prompt: str) -> Any:
    """Return the prompt as the model wants it: the text, or the tokens of a conversation."""
    if not args.chat:
        return prompt
    from lamina.lm.chat import chat_ids

    system = [{"role": "system", "content": args.system}] if args.system else []
    return chat_ids(tokenizer, [*system, {"role": "user", "content": prompt}])


def _constraint(args: argparse.Namespace, model: Any, tokenizer: Any) -> Any:
    from lamina.lm.constrain import Grammar

    vocab = model.config.vocab_size
    if args.json_schema is not None:
        text = args.json_schema
        if not text.lstrip().startswith("{"):
            text = language.read_text(text)
        return Grammar.json_schema(text, tokenizer, vocab)
    if args.regex is not None:
        return Grammar.regex(args.regex, tokenizer, vocab)
    if args.grammar is not None:
        return Grammar.lark(language.read_text(args.grammar), tokenizer, vocab)
    return None


def _drafter(args: argparse.Namespace) -> Any:
    from lamina.lm.generate import DraftModel, PromptLookup

    if args.lookup:
        return PromptLookup(**({"tokens": args.draft_tokens} if args.draft_tokens else {}))
    if args.draft_model is not None:
        own = argparse.Namespace(**{**vars(args), "model": args.draft_model})
        model, _ = language.load_model(own)
        return DraftModel(model, **({"tokens": args.draft_tokens} if args.draft_tokens else {}))
    return None


def _one(args: argparse.Namespace, prompt: str) -> int:
    from lamina.lm import stream_generate

    sampling = language.sampling(args)
    model, tokenizer = language.load_model(args)
    pieces = stream_generate(
        model,
        tokenizer,
        _ids(args, tokenizer, prompt),
        args.max_tokens,
        sampling,
        stop=args.stop,
        logprobs=args.logprobs,
        cache_options=language.cache_options(args),
        constraint=_constraint(args, model, tokenizer),
        draft=_drafter(args),
    )
    if args.echo and not args.json:
        print(prompt, end="", flush=True)
    got, interrupted = [], False
    try:
        for piece in pieces:
            got.append(piece)
            if not args.json:
                print(piece.text, end="", flush=True)
    except KeyboardInterrupt:
        interrupted = True
    if args.json:
        print(json.dumps(_record(args, tokenizer, prompt, got, interrupted), ensure_ascii=False))
    else:
        print()
        if got:
            print(_speed(got), file=sys.stderr)
    return 130 if interrupted else 0


def _speed(pieces: list[Any]) -> str:
    last, guessed = pieces[-1], sum(p.guessed for p in pieces)
    return (
        f"prompt {last.prompt_tokens} tokens, {last.prompt_tps:.1f} tokens/s; "
        f"generated {last.generated_tokens} tokens, {last.generation_tps:.1f} tokens/s"
        + (f"; {guessed} were guessed" if guessed else "")
    )


def _record(
    args: argparse.Namespace, tokenizer: Any, prompt: str, pieces: list[Any], interrupted: bool
) -> dict[str, Any]:
    record: dict[str, Any] = {"prompt": prompt, "text": "".join(p.text for p in pieces)}
    if pieces:
        last = pieces[-1]
        names = ("prompt_tokens", "generated_tokens", "prompt_tps", "generation_tps", "finish_reason")
        record |= {name: getattr(last, name) for name in (*names, "cached_tokens")}
        if args.draft_model or args.lookup:
            record["guessed_tokens"] = sum(p.guessed for p in pieces)
    if args.logprobs is not None:
        record["tokens"] = [
            {
                "id": p.token,
                "text": tokenizer.decode([p.token]),
                "logprob": p.logprob,
                "top": [{"id": i, "text": tokenizer.decode([i]), "logprob": x} for i, x in p.top_logprobs],
            }
            for p in pieces
        ]
    return {**record, "interrupted": interrupted}


def _read_prompts(path: str) -> list[str]:
    from lamina.lm.errors import PromptError

    prompts = []
    for number, line in enumerate(language.read_text(path).splitlines(), 1):
        if line.startswith('"'):
            try:
                line = json.loads(line)
            except ValueError as error:
                raise PromptError(f"{path}, line {number}: not a JSON string: {error}") from error
        if line:
            prompts.append(line)
    if not prompts:
        raise PromptError(f"{path} holds no prompt: wanted one a line")
    return prompts


def _many(args: argparse.Namespace, path: str) -> int:
    import time

    from lamina.lm import Engine, EngineOptions, Request

    prompts, sampling = _read_prompts(path), language.sampling(args)
    model, tokenizer = language.load_model(args)
    options = EngineOptions(args.batch, cache=language.cache_options(args))
    engine, constraint = Engine(model, tokenizer, options), _constraint(args, model, tokenizer)
    handles = [
        engine.submit(
            Request(
                _ids(args, tokenizer, prompt),
                args.max_tokens,
                sampling.with_seed(sampling.seed + i),
                args.stop,
                args.logprobs,
                constraint,
            )
        )
        for i, prompt in enumerate(prompts)
    ]
    began, printed, interrupted = time.perf_counter(), 0, False
    try:
        while printed < len(handles):
            engine.step()
            while printed < len(handles) and handles[printed].finished:
                _print_answer(args, prompts[printed], handles[printed])
                printed += 1
    except KeyboardInterrupt:
        interrupted = True
    seconds = time.perf_counter() - began
    count = sum(h.generated_tokens for h in handles)
    rate = count / max(seconds, 1e-9)
    print(
        f"{printed} of {len(prompts)} prompts, {count} tokens in {seconds:.1f} s, {rate:.1f} tokens/s",
        file=sys.stderr,
    )
    failed = any(h.error is not None for h in handles)
    return 130 if interrupted else int(failed)


def _print_answer(args: argparse.Namespace, prompt: str, handle: Any) -> None:
    text = "".join(e.text for e in handle.events)
    record = {
        "prompt": prompt,
        "text": text,
        "prompt_tokens": handle.prompt_tokens,
        "generated_tokens": handle.generated_tokens,
        "finish_reason": handle.finish_reason,
        "cached_tokens": handle.cached_tokens,
    }
    if handle.error is not None:
        record["error"] = str(handle.error)
    if args.logprobs is not None:
        record["tokens"] = [
            {"id": e.token, "logprob": e.logprob, "top": [{"id": i, "logprob": x} for i, x in e.top_logprobs]}
            for e in handle.events
            if e.token is not None
        ]
    if args.json:
        print(json.dumps(record, ensure_ascii=False), flush=True)
        return
    print(f"> {prompt}\n{text}\n", flush=True)
    if handle.error is not None:
        print(f"error: {handle.error}", file=sys.stderr)
