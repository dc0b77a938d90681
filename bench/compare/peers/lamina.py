"""lamina itself."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import Any

from bench.compare.peers.mlx_like import MlxLikePeer, MlxOps

# A process measures them once.
_PEAKS = """
import json
import lamina.core as mx
with mx.profile() as profile:
    mx.eval(mx.ones((8,)) + 1)
print(json.dumps(profile.to_dict()["machine"]))
"""


class LaminaOps(MlxOps):
    """The functions of ``lamina.core``."""

    modes = (*MlxOps.modes, "q4_k")

    def matmul_4bit_int8(self, x: Any, packed: Any) -> Any:
        """x @ w.T with x rounded to 8 bits in each group."""
        return self.matmul_4bit(x, packed, activations="int8")

    def paged_attention(self, q: Any, keys: Any, values: Any, tables: Any, scale: float) -> Any:
        """The library's own attention over blocks."""
        mx = self._module
        count, columns = tables.shape
        lengths = mx.full((count,), columns * keys.shape[2], dtype=mx.int32)
        ends = mx.arange(1, count + 1, dtype=mx.int32)
        return mx.fast.paged_attention(q, keys, values, tables, ends, lengths, scale=scale)


class LaminaPeer(MlxLikePeer):
    """The installed lamina package."""

    name = "lamina"
    module_name = "lamina.core"
    ops_type = LaminaOps

    def version(self) -> str:
        """The package's version."""
        return importlib.import_module("lamina").__version__

    def threads(self) -> int | None:
        """Threads that work on one operation."""
        return self.module.device_info()["threads"]

    def simd(self) -> str:
        """The SIMD target in use."""
        return self.module.device_info()["simd"]

    def peaks(self) -> dict[str, float]:
        """Multiply-adds and reads in a second that the machine does at most: the best of three processes."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-c", _PEAKS]
        answers = [subprocess.check_output(command, env=environment, text=True) for _ in range(3)]
        found = [json.loads(a) for a in answers]
        return {what: max(f[what] for f in found) for what in ("flops", "bandwidth")}


def peer() -> LaminaPeer:
    """The plug-in."""
    return LaminaPeer()
