"""Causal convolutions over positions, each feature by itself.

Shape letters: B batch, L new positions, C features, K taps.
"""

from __future__ import annotations

import lamina.core as mx
import lamina.nn as nn


class CausalConv(nn.Module):
    """A convolution of ``taps`` positions up to the present one, with ``weight`` (C, 1, K)."""

    def __init__(self, features: int, taps: int, bias: bool) -> None:
        super().__init__()
        self.weight = mx.zeros((features, 1, taps))
        if bias:
            self.bias = mx.zeros((features,))

    def __call__(self, x: mx.array, before: mx.array | None) -> tuple[mx.array, mx.array]:
        """Convolve (B, L, C) after the K - 1 positions ``before``, None for zeros; return the last too."""
        weight = self["weight"]
        batch, length, features = x.shape
        taps = weight.shape[-1]
        if before is None:
            before = mx.zeros((batch, taps - 1, features), dtype=x.dtype)
        whole = mx.concatenate([before, x], axis=1)
        y = whole[:, :length] * weight[:, 0, 0]
        for i in range(1, taps):
            y = y + whole[:, i : i + length] * weight[:, 0, i]
        return y + self["bias"] if "bias" in self else y, whole[:, length:]
