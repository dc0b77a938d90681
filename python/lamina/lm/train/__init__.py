"""Training language models from text: data, step, loop, evaluation."""

from lamina.lm.train.config import TrainConfig
from lamina.lm.train.data import Cursor, PackedWindows, encode_documents, read_documents
from lamina.lm.train.evaluate import bits_per_byte
from lamina.lm.train.trainer import DivergenceError, Result, Trainer

__all__ = [
    "Cursor",
    "DivergenceError",
    "PackedWindows",
    "Result",
    "TrainConfig",
    "Trainer",
    "bits_per_byte",
    "encode_documents",
    "read_documents",
]
