"""Pretraining a small model from text files: what ``lamina pretrain`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamina.lm.config import LlamaConfig
from lamina.lm.errors import ConfigError
from lamina.lm.io import replacing, save
from lamina.lm.models import build_model
from lamina.lm.tokenizer import load_tokenizer
from lamina.lm.train.bpe import SEPARATOR, train_tokenizer
from lamina.lm.train.config import TrainConfig
from lamina.lm.train.data import encode_documents, read_documents
from lamina.lm.train.report import write_curve
from lamina.lm.train.trainer import Result, Trainer


@dataclass(frozen=True)
class ModelSize:
    """The sizes of a new Llama model; ``hidden`` 0 means 8/3 of the width, rounded up to a multiple of 64."""

    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 0
    hidden: int = 0
    context: int = 256

    def config(self, vocab_size: int, separator: int) -> LlamaConfig:
        """Return the model's configuration; ``separator`` begins and ends every text."""
        return LlamaConfig(
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads or self.heads,
            intermediate_size=self.hidden or -(-8 * self.width // (3 * 64)) * 64,
            vocab_size=vocab_size,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            bos_token_id=separator,
            eos_token_id=(separator,),
        )


def pretrain(
    data: Sequence[str | Path],
    out: str | Path,
    size: ModelSize,
    train: TrainConfig,
    held_out: Sequence[str | Path] = (),
    tokenizer_file: str | Path | None = None,
    vocab_size: int = 4096,
    resume: bool = False,
    quiet: bool = False,
    png: bool = True,
) -> Result:
    """Train a new model on text files.

    Parameters
    ----------
    data : sequence of path
        Text files, or directories with them.
    out : path
        Receives ``model/`` at the end, and checkpoints, ``train.log``, ``tokenizer.json``, ``curve.json``
        and ``curve.png``.
    size : ModelSize
        The model.
    train : TrainConfig
        The training run.
    held_out : sequence of path
        Text to validate on.
    tokenizer_file : path, optional
        A ``tokenizer.json`` that has ``<|endoftext|>``; by default one of ``vocab_size`` is trained on
        ``data``.
    vocab_size : int
        Vocabulary of the tokenizer to train.
    resume, quiet : bool
        As for :class:`~lamina.lm.train.trainer.Trainer`.
    png : bool
        Draw the curve (wants matplotlib).

    Returns
    -------
    Result
        How the run ended.

    Raises
    ------
    ConfigError
        A setting is wrong, or windows are longer than the context.
    DataError
        The text is missing or too short.
    CheckpointError
        ``out`` holds another run, or the tokenizer cannot be used.
    """
    if train.length > size.context:
        raise ConfigError(f"windows of {train.length} tokens do not fit the context of {size.context}")
    out = Path(out)
    documents = read_documents(data)
    tokenizer = load_tokenizer(tokenizer_file) if tokenizer_file else train_tokenizer(documents, vocab_size)
    separator = tokenizer.token_id(SEPARATOR)
    if separator is None:
        raise ConfigError(f"{tokenizer_file} has no {SEPARATOR} token to separate documents with")
    tokenizer.eos_ids = frozenset([separator])
    validation = read_documents(held_out) if held_out else []
    model = build_model(size.config(tokenizer.vocab_size, separator))
    ids = encode_documents(tokenizer, documents, separator)
    trainer = Trainer(model, tokenizer, ids, train, out, validation, separator, quiet)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "tokenizer.json") as tmp:
        tokenizer.save(tmp)
    result = trainer.run(resume)
    write_curve(out, result.state.history, train, png=png)
    if not result.interrupted:
        save(out / "model", model, tokenizer)
    return result
