"""Modules with MLX's interface: lamina's own and MLX's CPU wheel."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.compare.model import Input, Job, Unsupported
from bench.compare.peers.base import ArrayPeer, Ops


class MlxOps(Ops):
    """The functions of ``mx``."""

    modes: tuple[str, ...] = ("affine", "mxfp4", "mxfp8", "nvfp4")

    def contiguous(self, x: Any) -> Any:
        """``x`` in row-major memory."""
        return self._module.contiguous(x)

    def rsqrt(self, x: Any) -> Any:
        """1 / sqrt(x)."""
        return self._module.rsqrt(x)

    def softmax(self, x: Any) -> Any:
        """The library's own softmax."""
        return self._module.softmax(x, axis=-1)

    def rms_norm(self, x: Any, weight: Any, eps: float) -> Any:
        """The library's own RMS norm."""
        return self._module.fast.rms_norm(x, weight, eps)

    def layer_norm(self, x: Any, weight: Any, bias: Any, eps: float) -> Any:
        """The library's own layer norm."""
        return self._module.fast.layer_norm(x, weight, bias, eps)

    def attention(self, q: Any, k: Any, v: Any, scale: float, causal: bool) -> Any:
        """The library's own attention."""
        mask = "causal" if causal else None
        return self._module.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)

    def convolution(self, x: Any, weight: Any, stride: int, padding: int, groups: int) -> Any:
        """The library's own convolution."""
        return self._module.conv_general(x, weight, stride=stride, padding=padding, groups=groups)

    def quantized(
        self, x: Any, weights: Sequence[Any], mode: str, group: int | None, bits: int | None
    ) -> Any:
        """x @ w.T with packed weights."""
        if mode not in self.modes:
            raise Unsupported(f"{self._name} has no product with {mode} weights")
        return self._module.quantized_matmul(
            x, *weights, transpose=True, group_size=group, bits=bits, mode=mode
        )

    def experts(self, x: Any, weights: Any, picked: Any) -> Any:
        """The library's own product with picked matrices."""
        return self._module.gather_mm(x[:, None, None], weights.swapaxes(-1, -2), rhs_indices=picked)

    def cummax(self, x: Any, axis: int) -> Any:
        """The library's own running maximum."""
        return self._module.cummax(x, axis=axis)

    def topk(self, x: Any, k: int) -> Any:
        """The library's own selection."""
        return self._module.topk(x, k, axis=-1)

    def packed_4bit(self, words: Any, scales: Any, biases: Any) -> Any:
        """The layout of MLX: that of the operands."""
        return words, scales, biases

    def matmul_4bit(self, x: Any, packed: Any, **options: Any) -> Any:
        """x @ w.T with 4-bit weights in groups of 64."""
        return self._module.quantized_matmul(x, *packed, transpose=True, group_size=64, bits=4, **options)

    def recorded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` of arrays, compiled."""
        return self._module.compile(function)

    def adamw(self, parameters: Sequence[Any], gradients: Sequence[Any], settings: Any) -> Any:
        """The library's own AdamW; parameters and state are in memory when a step returns."""
        s, mx = settings, self._module
        adamw = importlib.import_module(mx.__name__.replace(".core", ".optimizers")).AdamW
        optimizer = adamw(s.rate, [s.beta1, s.beta2], s.eps, s.weight_decay, bias_correction=True)
        held = {"all": list(parameters)}
        optimizer.init(held)
        mx.eval(optimizer.state)

        def step() -> list[Any]:
            held.update(optimizer.apply_gradients({"all": list(gradients)}, held))
            mx.eval(held, optimizer.state)
            return held["all"]

        return step

    def value_and_gradients(self, loss: Callable[..., Any], *parameters: Any) -> Any:
        """The loss and its gradients with respect to all parameters."""
        value, gradients = self._module.value_and_grad(loss, argnums=list(range(len(parameters))))(
            *parameters
        )
        return (value, *gradients)


class MlxLikePeer(ArrayPeer):
    """A peer with MLX's interface."""

    ops_type = MlxOps

    def array(self, source: Input) -> Any:
        """The operand; index arrays as int32."""
        mx = self.module
        dtype = "int32" if source.dtype == "index" else source.dtype
        # MLX narrows float64 unless it is asked for.
        made = mx.array(source.values, dtype=mx.float64) if dtype == "float64" else mx.array(source.values)
        if source.values.dtype.name != dtype:
            made = made.astype(getattr(mx, dtype))
        mx.eval(made)
        return made

    def finished(self, run: Callable[[], Any], job: Job) -> Callable[[], Any]:
        """Evaluate the result."""
        evaluate = self.module.eval

        def run_and_evaluate() -> Any:
            result = run()
            evaluate(result)
            return result

        return run_and_evaluate

    def one_to_numpy(self, x: Any) -> np.ndarray:
        """One output; bfloat16 as float32."""
        if self.dtype_names(x) == ["bfloat16"]:
            x = x.astype(self.module.float32)
        return np.array(x)
