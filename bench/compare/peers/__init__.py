"""The libraries that can be compared, by name."""

from __future__ import annotations

import importlib

from bench.compare.model import Peer

OURS = "lamina"

MODULES = {
    OURS: "bench.compare.peers.lamina",
    "numpy": "bench.compare.peers.numpy",
    "torch": "bench.compare.peers.torch",
    "jax": "bench.compare.peers.jax",
    "mlx": "bench.compare.peers.mlx",
}
"""Name of each peer and the module whose ``peer()`` makes it."""


def load(name: str) -> Peer:
    """Return the peer of that name; its library is imported by ``available()`` only."""
    return importlib.import_module(MODULES[name]).peer()
