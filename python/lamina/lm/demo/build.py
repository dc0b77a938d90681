"""Builds the demo model: corpus, tokenizer, training, quantization, measurement, card.

Run as ``python -m lamina.lm.demo.build --out DIR``. ``DIR/model`` receives what ships (weights, config,
tokenizer, card, curve), ``DIR/float`` the model before quantization, ``DIR/run`` checkpoints, ``train.log``
and the held-out text. Ctrl-C saves a checkpoint; ``--resume`` goes on from the newest one.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import lamina
from lamina.lm.demo.card import Metrics, write_card
from lamina.lm.demo.corpus import Corpus, build_corpus, save_held_out, xz_bits_per_byte
from lamina.lm.demo.recipe import Recipe
from lamina.lm.errors import LMError
from lamina.lm.generate import generate
from lamina.lm.io import load, quantize, replacing, save
from lamina.lm.models import build_model
from lamina.lm.sample import make_sampler
from lamina.lm.tokenizer import Tokenizer
from lamina.lm.train.bpe import train_tokenizer
from lamina.lm.train.data import encode_documents
from lamina.lm.train.evaluate import bits_per_byte
from lamina.lm.train.report import write_curve
from lamina.lm.train.trainer import Trainer
from lamina.utils import tree_flatten

_DESCRIPTION = "Build the demo model: corpus, tokenizer, training, quantization, measurement, card."
SHIPPED = ("config.json", "model.safetensors", "tokenizer.json")


@dataclasses.dataclass(frozen=True)
class Material:
    """The text of a build, and the tokenizer trained on it."""

    corpus: Corpus
    train: list[str]
    held_out: list[str]
    tokenizer: Tokenizer
    separator: int


def prepare(recipe: Recipe, corpus: Corpus | None = None) -> Material:
    """Collect the text (or take ``corpus``) and train the tokenizer; nothing here is random."""
    corpus = corpus or build_corpus()
    train = [corpus.train[name] for name in sorted(corpus.train)]
    if recipe.max_documents:
        train = train[:: max(1, len(train) // recipe.max_documents)][: recipe.max_documents]
    tokenizer = train_tokenizer(train, recipe.vocab_size)
    (separator,) = tokenizer.eos_ids
    held_out = [corpus.held_out[name] for name in sorted(corpus.held_out)]
    return Material(corpus, train, held_out, tokenizer, separator)


def build(
    recipe: Recipe, out: str | Path, resume: bool = False, quiet: bool = False, corpus: Corpus | None = None
) -> Metrics | None:
    """Build everything into ``out``.

    Parameters
    ----------
    recipe : Recipe
        Sizes and settings.
    out : str or Path
        Directory for ``model``, ``float`` and ``run``.
    resume : bool
        Go on from the newest checkpoint in ``out/run``.
    quiet : bool
        Show no progress; ``out/run/train.log`` is written all the same.
    corpus : Corpus, optional
        The text; by default the running Python's.

    Returns
    -------
    Metrics or None
        What was measured; None where Ctrl-C stopped the training.
    """
    out = Path(out)
    run = out / "run"
    run.mkdir(parents=True, exist_ok=True)
    material = prepare(recipe, corpus)
    save_held_out(run / "heldout.json.xz", material.corpus)
    with replacing(run / "tokenizer.json") as tmp:
        material.tokenizer.save(tmp)
    documents = encode_documents(material.tokenizer, material.train, material.separator)
    model = build_model(recipe.model_config(material.separator))
    trainer = Trainer(
        model, material.tokenizer, documents, recipe.train, run, material.held_out, material.separator, quiet
    )
    result = trainer.run(resume)
    if result.interrupted:
        return None
    save(out / "float", model, material.tokenizer)
    bits_float = _measure(model, material)
    quantize(model, recipe.quantization())
    save(out / "model", model, material.tokenizer)
    write_curve(out / "model", result.state.history, recipe.train)
    shutil.copyfile(Path(__file__).with_name("LICENSE-PSF.txt"), out / "model" / "LICENSE")
    # Everything below is about what ships: the files as written, not the arrays they came from.
    model, tokenizer = load(out / "model")
    metrics = _metrics(
        recipe,
        material,
        out / "model",
        trainer,
        result.state.history.seconds,
        bits_float,
        _measure(model, material),
    )
    sampler = make_sampler(temp=0.6, top_p_mass=0.95, seed=0)
    write_card(out / "model", metrics, recipe.prompt, generate(model, tokenizer, recipe.prompt, 120, sampler))
    return metrics


def _measure(model, material: Material) -> float:
    return bits_per_byte(model, material.tokenizer, material.held_out, material.separator)


def _metrics(
    recipe: Recipe,
    material: Material,
    directory: Path,
    trainer: Trainer,
    seconds: float,
    bits_float: float,
    bits: float,
) -> Metrics:
    held_out = "".join(material.held_out).encode("utf-8")
    config = recipe.train
    return Metrics(
        bits_per_byte=round(bits, 4),
        bits_per_byte_float=round(bits_float, 4),
        bits_per_byte_xz=round(xz_bits_per_byte(material.corpus.held_out), 4),
        held_out_units=material.corpus.held_out_units,
        held_out_bytes=len(held_out),
        held_out_sha256=hashlib.sha256(held_out).hexdigest(),
        train_bytes=sum(len(d.encode("utf-8")) for d in material.train),
        train_documents=len(material.train),
        train_tokens=trainer.windows.tokens,
        steps=config.steps,
        tokens_seen=config.steps * config.tokens_per_step,
        train_seconds=round(seconds, 1),
        threads=len(os.sched_getaffinity(0)),
        parameters=count_parameters(recipe, material.separator),
        model_bytes=sum((directory / name).stat().st_size for name in SHIPPED),
        bits=recipe.bits,
        group_size=recipe.group_size,
        context=recipe.context,
        vocab_size=material.tokenizer.vocab_size,
        python=platform.python_version(),
        lamina=lamina.__version__,
    )


def count_parameters(recipe: Recipe, separator: int = 0) -> int:
    """Return the number of parameters of the recipe's model before quantization."""
    return sum(v.size for _, v in tree_flatten(build_model(recipe.model_config(separator)).parameters()))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m lamina.lm.demo.build``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lamina.lm.demo.build", description=_DESCRIPTION)
    parser.add_argument("--out", required=True, metavar="DIR", help="where model/, float/ and run/ go")
    parser.add_argument("--steps", type=int, metavar="N", help="optimizer steps (default: the recipe's)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in DIR/run")
    parser.add_argument("--no-compile", action="store_true", help="run the training step without mx.compile")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of weights and data order")
    args = parser.parse_args(argv)
    recipe = Recipe()
    changes = {"steps": args.steps, "seed": args.seed, "compile": False if args.no_compile else None}
    train = dataclasses.replace(recipe.train, **{k: v for k, v in changes.items() if v is not None})
    recipe = dataclasses.replace(recipe, train=train)
    print(
        f"{count_parameters(recipe):,} parameters, {train.steps} steps of {train.tokens_per_step} tokens",
        file=sys.stderr,
    )
    try:
        metrics = build(recipe, args.out, args.resume)
    except LMError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    if metrics is None:
        return 130
    for name, value in dataclasses.asdict(metrics).items():
        print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
