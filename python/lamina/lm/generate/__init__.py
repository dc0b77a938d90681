"""Generation: prompts, steps, the ends of answers, and the stream of one text."""

from __future__ import annotations

from lamina.lm.generate.answer import Answer
from lamina.lm.generate.prompts import PREFILL_STEP, prefill, prompt_ids
from lamina.lm.generate.speculative import Drafter, DraftModel, PromptLookup
from lamina.lm.generate.step import Decoder, LanguageModel
from lamina.lm.generate.stops import StopStrings
from lamina.lm.generate.stream import Piece, generate, stream_generate

__all__ = [
    "PREFILL_STEP",
    "Answer",
    "Decoder",
    "DraftModel",
    "Drafter",
    "LanguageModel",
    "Piece",
    "PromptLookup",
    "StopStrings",
    "generate",
    "prefill",
    "prompt_ids",
    "stream_generate",
]
