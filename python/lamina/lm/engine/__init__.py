"""Many texts at once, with shared steps, shared prefixes, and a budget for their memory."""

from __future__ import annotations

from lamina.lm.engine.batch import Completion, batch_generate
from lamina.lm.engine.engine import Engine, EngineOptions
from lamina.lm.engine.request import Event, Handle, Request
from lamina.lm.engine.score import Scored, Scorer

__all__ = [
    "Completion",
    "Engine",
    "EngineOptions",
    "Event",
    "Handle",
    "Request",
    "Scored",
    "Scorer",
    "batch_generate",
]
