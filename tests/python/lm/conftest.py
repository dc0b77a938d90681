"""Small models and tokenizers, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from lamina.lm import LlamaConfig, Tokenizer
from lamina.lm.train.bpe import train_tokenizer
from lm.lm_helpers import TEXTS, TINY, write_model_dir


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A byte-level BPE of at most 320 ids; id 0 separates."""
    return train_tokenizer(TEXTS, 320)


@pytest.fixture(scope="session")
def tiny() -> LlamaConfig:
    return TINY


@pytest.fixture
def model_dir(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A model directory as Hugging Face tools write it, with random weights."""
    return write_model_dir(tmp_path / "model", TINY, tokenizer)
