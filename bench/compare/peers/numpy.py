"""NumPy, as its users write it."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np

from bench.compare.model import Input, Unsupported
from bench.compare.peers.base import ArrayPeer, Ops


class NumpyOps(Ops):
    """NumPy's functions; what it lacks is composed as users do."""

    def scatter_add(self, x: Any, indices: Any, updates: Any) -> Any:
        """A copy of ``x`` with the updates added to the rows at the indices."""
        out = x.copy()
        np.add.at(out, indices, updates)
        return out

    def normal(self, n: int) -> Any:
        """Normally distributed numbers of the default generator."""
        return self._generator().standard_normal(n, dtype=np.float32)

    def integers(self, n: int, below: int) -> Any:
        """int32 numbers of the default generator."""
        return self._generator().integers(0, below, n, dtype=np.int32)

    def uniform(self, n: int) -> Any:
        """Uniform numbers of the default generator."""
        return self._generator().random(n, dtype=np.float32)

    def _generator(self) -> np.random.Generator:
        return self.__dict__.setdefault("_rng", np.random.default_rng(0))


def _blas_threads() -> int | None:
    """Threads of the OpenBLAS in this process; None where another BLAS is in use."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError:
        return None
    for path in sorted(set(re.findall(r"/\S*openblas\S*\.so\S*", maps))):
        library = ctypes.CDLL(path)
        for prefix in ("scipy_", ""):
            for suffix in ("64_", ""):
                function = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
                if function is not None:
                    return int(function())
    return None


class NumpyPeer(ArrayPeer):
    """NumPy with the BLAS it came with; its element-wise functions run on one thread."""

    name = "numpy"
    module_name = "numpy"
    ops_type = NumpyOps

    def threads(self) -> int | None:
        """Threads of its matrix products."""
        return _blas_threads()

    def array(self, source: Input) -> np.ndarray:
        """The operand; index arrays as NumPy's own index dtype."""
        if source.dtype == "index":
            return source.values.astype(np.intp)
        if source.dtype == "bfloat16":
            raise Unsupported("numpy has no bfloat16")
        return source.values.astype(source.dtype)


def peer() -> NumpyPeer:
    """The plug-in."""
    return NumpyPeer()
