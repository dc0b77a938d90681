"""Training a byte-level BPE tokenizer."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as HFTokenizer

from lamina.lm.errors import ConfigError
from lamina.lm.tokenizer import Tokenizer, byte_alphabet
from lamina.lm.vocabulary.pretokenizers import LAMINA

SEPARATOR = "<|endoftext|>"


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train byte-level BPE on ``documents``.

    All 256 bytes are tokens, so that any text can be encoded and nothing is unknown. Id 0 is
    ``<|endoftext|>``, which begins every encoded text, separates documents and ends a generation.

    Parameters
    ----------
    documents : iterable of str
        The text to learn merges from.
    vocab_size : int
        Number of ids, at most; at least 257.

    Returns
    -------
    Tokenizer
        With ``<|endoftext|>`` as its end token.

    Raises
    ------
    ConfigError
        ``vocab_size`` has no room for the bytes and the separator.
    """
    if vocab_size < 257:
        raise ConfigError(f"vocab_size must be at least 257 (256 bytes and {SEPARATOR}), got {vocab_size}")
    inner = HFTokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LAMINA), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(byte_alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(documents, trainer)
    separator = 0  # special tokens are numbered first
    inner.post_processor = processors.TemplateProcessing(
        single=f"{SEPARATOR} $A",
        pair=f"{SEPARATOR} $A {SEPARATOR} $B",
        special_tokens=[(SEPARATOR, separator)],
    )
    return Tokenizer(inner, [separator])
