"""JAX on the CPU, each job under ``jit``."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.compare.model import Input, Job, Unsupported
from bench.compare.peers.base import ArrayPeer, Ops


class JaxOps(Ops):
    """The functions of ``jax.numpy``, and those of ``jax`` that it lacks."""

    @property
    def _jax(self) -> Any:
        return importlib.import_module("jax")

    def contiguous(self, x: Any) -> Any:
        """``x`` itself: the results of compiled functions are row-major."""
        return x

    def rsqrt(self, x: Any) -> Any:
        """1 / sqrt(x)."""
        return self._jax.lax.rsqrt(x)

    def softmax(self, x: Any) -> Any:
        """The library's own softmax."""
        return self._jax.nn.softmax(x, axis=-1)

    def convolution(self, x: Any, weight: Any, stride: int, padding: int, groups: int) -> Any:
        """The library's own convolution."""
        rank = x.ndim - 2
        space = "DHW"[-rank:]
        return self._jax.lax.conv_general_dilated(
            x,
            weight,
            (stride,) * rank,
            [(padding, padding)] * rank,
            dimension_numbers=(f"N{space}C", f"O{space}I", f"N{space}C"),
            feature_group_count=groups,
        )

    def recorded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` of arrays, compiled."""
        return self._jax.jit(function)

    def cummax(self, x: Any, axis: int) -> Any:
        """The library's own running maximum."""
        return self._jax.lax.cummax(x, axis=axis)

    def topk(self, x: Any, k: int) -> Any:
        """The library's own selection."""
        return self._jax.lax.top_k(x, k)[0]

    def value_and_gradients(self, loss: Callable[..., Any], *parameters: Any) -> Any:
        """The loss and its gradients with respect to all parameters."""
        value, gradients = self._jax.value_and_grad(loss, argnums=range(len(parameters)))(*parameters)
        return (value, *gradients)

    def normal(self, n: int) -> Any:
        """Normally distributed numbers."""
        return self._jax.random.normal(self._jax.random.key(0), (n,))

    def integers(self, n: int, below: int) -> Any:
        """int32 numbers."""
        return self._jax.random.randint(self._jax.random.key(0), (n,), 0, below)

    def uniform(self, n: int) -> Any:
        """Uniform numbers."""
        return self._jax.random.uniform(self._jax.random.key(0), (n,))


class JaxPeer(ArrayPeer):
    """JAX; operands are arguments of the compiled function, so that nothing is computed ahead."""

    name = "jax"
    module_name = "jax.numpy"
    ops_type = JaxOps

    def available(self) -> str | None:
        """Import JAX with its CPU platform only."""
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        return super().available()

    def version(self) -> str:
        """The library's version."""
        return importlib.import_module("jax").__version__

    def array(self, source: Input) -> Any:
        """The operand; index arrays as int32."""
        if source.dtype == "float64":
            raise Unsupported("jax has no float64 as it is by default")
        return self.module.asarray(source.values, dtype="int32" if source.dtype == "index" else source.dtype)

    def make(self, job: Job, inputs: Sequence[Input]) -> Callable[[], Any]:
        """The job compiled, if it does the same each time."""
        jax, ops, arrays = importlib.import_module("jax"), self.ops, self.operands(job, inputs)

        def work(*operands: Any) -> Any:
            return job.run(ops, *operands)

        compiled, ready = (jax.jit(work) if job.traceable else work), jax.block_until_ready
        return lambda: ready(compiled(*arrays))

    def one_to_numpy(self, x: Any) -> np.ndarray:
        """One output; bfloat16 as float32."""
        return np.asarray(x.astype("float32") if str(x.dtype) == "bfloat16" else x)


def peer() -> JaxPeer:
    """The plug-in."""
    return JaxPeer()
