"""Norms that are not in ``nn``, and the choice among all."""

from __future__ import annotations

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.config import NormConfig


class OffsetRMSNorm(nn.Module):
    """RMS norm whose weight is kept minus ``offset``: ``x / rms(x) * (offset + weight)``."""

    def __init__(self, dims: int, eps: float, offset: float) -> None:
        super().__init__()
        self.weight = mx.zeros((dims,))
        self.eps, self.offset = eps, offset

    def __call__(self, x: mx.array) -> mx.array:
        """Norm (..., E)."""
        # The sum is exact enough in float32 only.
        weight = self["weight"].astype(mx.float32) + self.offset
        return mx.fast.rms_norm(x.astype(mx.float32), weight, self.eps).astype(x.dtype)


class HeadNorm(nn.Module):
    """Layer norm of (..., H, D) over D, with weights (H, D) and no bias."""

    def __init__(self, heads: int, dims: int, eps: float) -> None:
        super().__init__()
        self.weight = mx.ones((heads, dims))
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        """Norm (..., H, D)."""
        return mx.fast.layer_norm(x, None, None, self.eps) * self["weight"]


def make_norm(config: NormConfig, dims: int, heads: int = 1) -> nn.Module:
    """Return a norm over ``dims`` features (of ``heads`` heads)."""
    if config.by_head:
        return HeadNorm(heads, dims, config.eps)
    if config.kind == "layer":
        return nn.LayerNorm(dims, config.eps, bias=config.bias)
    if config.offset:
        return OffsetRMSNorm(dims, config.eps, config.offset)
    return nn.RMSNorm(dims, eps=config.eps)
