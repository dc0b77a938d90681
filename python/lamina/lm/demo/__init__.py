"""The demo model that ships with the package, and the scripts that make it."""

from __future__ import annotations

from pathlib import Path


def demo_path() -> Path:
    """Return the directory of the shipped demo model (``config.json``, weights, tokenizer, card)."""
    return Path(__file__).parent / "model"
