"""Sequential."""

from __future__ import annotations

from typing import Any

from lamina.nn.layers.base import Module

__all__ = ["Sequential"]


class Sequential(Module):
    """Call modules, or any functions, one after the other.

    Parameters
    ----------
    *modules : callable
        The steps; they are kept in the list ``layers``.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> model(mx.ones((3, 4))).shape
    (3, 2)
    """

    def __init__(self, *modules):
        super().__init__()
        self.layers = list(modules)

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x
