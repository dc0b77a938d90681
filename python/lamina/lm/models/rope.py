"""Rotary position embeddings."""

from __future__ import annotations

import lamina.core as mx
from lamina.lm.config.rotary import RotaryConfig, rotary_periods


class Rope:
    """Rotary position embedding of (B, H, L, D), as a :class:`RotaryConfig` describes it.

    No module: it has nothing to train, and an empty branch in the tree of parameters would not survive a
    save. ``magnitude`` is what rotated features are to be multiplied by; that is left to the caller.
    """

    def __init__(self, config: RotaryConfig) -> None:
        self.dims = config.dims
        self.interleaved = config.interleaved
        self.magnitude = config.scaling.magnitude if config.scaling else 1.0
        periods = rotary_periods(config)
        self._base = config.theta if periods is None else None
        self._periods = None if periods is None else mx.array(periods, dtype=mx.float32)

    def __call__(self, x: mx.array, offset: int | mx.array) -> mx.array:
        """Rotate (B, H, L, D), whose first position is number ``offset`` (one, or one for each of B)."""
        return mx.fast.rope(
            x,
            self.dims,
            traditional=self.interleaved,
            base=self._base,
            scale=1.0,
            offset=offset,
            freqs=self._periods,
        )
