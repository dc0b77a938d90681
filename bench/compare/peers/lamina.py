"""lamina itself."""

from __future__ import annotations

import importlib

from bench.compare.peers.mlx_like import MlxLikePeer


class LaminaPeer(MlxLikePeer):
    """The installed lamina package."""

    name = "lamina"
    module_name = "lamina.core"

    def version(self) -> str:
        """The package's version."""
        return importlib.import_module("lamina").__version__

    def threads(self) -> int | None:
        """Threads that work on one operation."""
        return self.module.device_info()["threads"]

    def simd(self) -> str:
        """The SIMD target in use."""
        return self.module.device_info()["simd"]


def peer() -> LaminaPeer:
    """The plug-in."""
    return LaminaPeer()
