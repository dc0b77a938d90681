"""The MLX wheel, on its CPU backend."""

from __future__ import annotations

from importlib import metadata

from bench.compare.peers.mlx_like import MlxLikePeer


class MlxPeer(MlxLikePeer):
    """MLX on the CPU, whatever other devices it knows."""

    name = "mlx"
    module_name = "mlx.core"

    def start(self) -> None:
        """Compute on the CPU."""
        self.module.set_default_device(self.module.cpu)

    def version(self) -> str:
        """The wheel's version."""
        return metadata.version("mlx")


def peer() -> MlxPeer:
    """The plug-in."""
    return MlxPeer()
