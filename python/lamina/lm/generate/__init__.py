"""Generation: one text as a stream, many texts at once."""

from __future__ import annotations

from lamina.lm.generate.answer import Answer
from lamina.lm.generate.prompts import PREFILL_STEP, prefill, prompt_ids
from lamina.lm.generate.step import Decoder, LanguageModel
from lamina.lm.generate.stops import StopStrings
from lamina.lm.generate.stream import Piece, generate, stream_generate

__all__ = [
    "PREFILL_STEP",
    "Answer",
    "Decoder",
    "LanguageModel",
    "Piece",
    "StopStrings",
    "generate",
    "prefill",
    "prompt_ids",
    "stream_generate",
]
