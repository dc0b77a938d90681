"""Small models and tokenizers, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from lamina.lm import LlamaConfig, Tokenizer
from lamina.lm.train.bpe import train_tokenizer
from lm.lm_helpers import TEXTS, TINY, write_model_dir
from tokenizers import Tokenizer as HFTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A byte-level BPE of at most 320 ids; id 0 separates."""
    return train_tokenizer(TEXTS, 320)


@pytest.fixture(scope="session")
def words() -> Tokenizer:
    """A tokenizer of the words t0 to t63, as many as the golden models know."""
    inner = HFTokenizer(WordLevel({f"t{i}": i for i in range(64)}, unk_token="t0"))
    inner.pre_tokenizer = Whitespace()
    return Tokenizer(inner)


@pytest.fixture(scope="session")
def tiny() -> LlamaConfig:
    return TINY


@pytest.fixture
def model_dir(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A model directory as Hugging Face tools write it, with random weights."""
    return write_model_dir(tmp_path / "model", TINY, tokenizer)
