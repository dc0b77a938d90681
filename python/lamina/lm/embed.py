"""Texts to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lamina.core as mx
from lamina.lm.config.encoder import load_encoder_config
from lamina.lm.errors import CheckpointError, PromptError
from lamina.lm.io import fit_weights, load_weights
from lamina.lm.models.bert import Encoder
from lamina.lm.tokenizer import Tokenizer, load_tokenizer


class Embedder:
    """An encoder and its tokenizer.

    Parameters
    ----------
    model : Encoder
        The encoder; its configuration says how vectors are pooled and where texts are cut.
    tokenizer : Tokenizer
        Its tokenizer, which is set to neither pad nor cut.
    """

    def __init__(self, model: Encoder, tokenizer: Tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer
        tokenizer.inner.no_padding()
        tokenizer.inner.enable_truncation(model.config.max_tokens)

    def embed(self, texts: Sequence[str], batch: int = 32) -> mx.array:
        """Return the vectors (N, E) of N texts, float32.

        Parameters
        ----------
        texts : sequence of str
            The texts; long ones are cut at the model's ``max_tokens``.
        batch : int
            Texts to run at once. Those of similar lengths share a batch.

        Raises
        ------
        PromptError
            There is no text, or one gives no tokens.
        """
        if isinstance(texts, str) or not texts:
            raise PromptError(f"wanted a list of at least one text, got {texts!r}")
        ids = self.tokenizer.encode_batch(texts, special=True)
        for text, row in zip(texts, ids, strict=True):
            if not row:
                raise PromptError(f"the text {text!r} gives no tokens")
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        parts = []
        for start in range(0, len(order), batch):
            rows = [ids[i] for i in order[start : start + batch]]
            longest = len(rows[-1])
            tokens = mx.array([r + [0] * (longest - len(r)) for r in rows])
            even = len(rows[0]) == longest
            parts.append(self.model.embed(tokens, None if even else mx.array([len(r) for r in rows])))
            mx.eval(parts[-1])
        places = sorted(range(len(order)), key=order.__getitem__)
        return mx.concatenate(parts)[mx.array(places)]


def load_embedder(path: str | Path, ignore_fields: tuple[str, ...] = ()) -> Embedder:
    """Load an encoder from a local directory.

    Parameters
    ----------
    path : str or Path
        Directory with ``config.json``, ``*.safetensors`` and ``tokenizer.json``, as sentence-transformers
        writes it.
    ignore_fields : tuple of str
        Config fields to ignore although they are not understood.

    Raises
    ------
    ConfigError, CheckpointError
        A file is missing, damaged, or asks for something that is not supported.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"no model at {path}: wanted a directory with config.json and *.safetensors")
    config = load_encoder_config(path, ignore_fields)
    tokenizer = load_tokenizer(path / "tokenizer.json")
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, "
            f"the model's vocabulary {config.vocab_size}"
        )
    model = Encoder(config)
    fit_weights(model, load_weights(path))
    model.eval()
    return Embedder(model, tokenizer)
