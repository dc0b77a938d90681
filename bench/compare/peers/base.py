"""What peers share: the functions that jobs are written in, and the making of runs."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.compare.model import Input, Job, Outputs, Unsupported


class Ops:
    """The functions of one library that jobs use, with NumPy's names and arguments.

    What is not defined here or in a subclass is looked up in the library by its name; what is not there
    either raises :class:`Unsupported`.
    """

    def __init__(self, module: Any, name: str) -> None:
        self._module = module
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name, None)
        if found is None:
            raise Unsupported(f"{self._name} has no {name}")
        setattr(self, name, found)  # the next look-up is as short as that of a method
        return found

    def cast(self, x: Any, dtype: str) -> Any:
        """``x`` converted to the dtype of that name."""
        return x.astype(getattr(self, dtype))

    def recorded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` of arrays, compiled."""
        raise Unsupported(f"{self._name} records no functions")

    def contiguous(self, x: Any) -> Any:
        """``x`` in row-major memory."""
        return self.ascontiguousarray(x)

    def rsqrt(self, x: Any) -> Any:
        """1 / sqrt(x)."""
        return 1.0 / self.sqrt(x)

    def relu(self, x: Any) -> Any:
        """The larger of x and 0."""
        return self.maximum(x, 0.0)

    def softmax(self, x: Any) -> Any:
        """Softmax over the last axis."""
        e = self.exp(x - self.max(x, axis=-1, keepdims=True))
        return e / self.sum(e, axis=-1, keepdims=True)

    def rms_norm(self, x: Any, weight: Any, eps: float) -> Any:
        """x / sqrt(mean(x * x) + eps) * weight over the last axis."""
        return x * self.rsqrt(self.mean(x * x, axis=-1, keepdims=True) + eps) * weight

    def layer_norm(self, x: Any, weight: Any, bias: Any, eps: float) -> Any:
        """Layer normalization over the last axis."""
        d = x - self.mean(x, axis=-1, keepdims=True)
        return d * self.rsqrt(self.mean(d * d, axis=-1, keepdims=True) + eps) * weight + bias

    def attention(self, q: Any, k: Any, v: Any, scale: float, causal: bool) -> Any:
        """Attention of heads of shape (B, H, L, D); fewer heads of keys and values serve several each."""
        shared = q.shape[1] // k.shape[1]
        k, v = (self.repeat(x, shared, axis=1) for x in (k, v)) if shared > 1 else (k, v)
        scores = (q @ self.swapaxes(k, -1, -2)) * scale
        if causal:
            later = self.triu(self.ones((q.shape[2], k.shape[2]), dtype=self.bool_), 1)
            scores = self.where(later, self.float32(-1e30), scores)
        return self.softmax(scores) @ v

    def paged_attention(self, q: Any, keys: Any, values: Any, tables: Any, scale: float) -> Any:
        """Attention of each sequence's last position (B, H, D) to the whole blocks (K, S, D) of its table.

        By default the blocks of a sequence are copied together first.
        """
        pools = (self.swapaxes(pool[tables], 1, 2) for pool in (keys, values))
        k, v = (pool.reshape(*pool.shape[:2], -1, pool.shape[-1]) for pool in pools)
        return self.attention(q[:, :, None], k, v, scale, causal=False)[:, :, 0]

    def convolution(self, x: Any, weight: Any, stride: int, padding: int, groups: int) -> Any:
        """Cross-correlation of (N, ..., C) with weights (O, ..., C / groups), zeros around."""
        raise Unsupported(f"{self._name} has no convolution")

    def quantized(
        self, x: Any, weights: Sequence[Any], mode: str, group: int | None, bits: int | None
    ) -> Any:
        """x @ w.T with weights packed in a format of MLX or GGUF."""
        raise Unsupported(f"{self._name} has no product with {mode} weights")

    def experts(self, x: Any, weights: Any, picked: Any) -> Any:
        """Rows (T, K) by the matrices of (E, N, K) that each picks (T, P): (T, P, 1, N)."""
        return x[:, None, None] @ self.swapaxes(weights[picked], -1, -2)

    def cummax(self, x: Any, axis: int) -> Any:
        """The largest element so far along an axis."""
        return self.maximum.accumulate(x, axis=axis)

    def topk(self, x: Any, k: int) -> Any:
        """The k largest of each row, in any order."""
        return self.partition(x, -k, axis=-1)[..., -k:]

    def packed_4bit(self, words: Any, scales: Any, biases: Any) -> Any:
        """4-bit weights in groups of 64, laid out as the library wants them."""
        raise Unsupported(f"{self._name} has no product with 4-bit weights")

    def matmul_4bit_int8(self, x: Any, packed: Any) -> Any:
        """x @ w.T with 4-bit weights, where x may be rounded to 8 bits: by default as without that leave."""
        return self.matmul_4bit(x, packed)

    def adamw(self, parameters: Sequence[Any], gradients: Sequence[Any], settings: Any) -> Any:
        """A function that makes one step of AdamW and returns the parameters."""
        raise Unsupported(f"{self._name} has no AdamW")

    def conv_training(self, images: Any, labels: Any, weights: Sequence[Any], settings: Any) -> Any:
        """A function that trains the network of ``lamina.examples.conv`` for an epoch.

        It returns the untrained network's logits of the first batch and the losses of the epoch's steps.
        """
        raise Unsupported(f"{self._name} has no layers")

    def scatter_add(self, x: Any, indices: Any, updates: Any) -> Any:
        """A copy of ``x`` with the updates added to the rows at the indices."""
        return x.at[indices].add(updates)

    def normal(self, n: int) -> Any:
        """``n`` normally distributed float32 numbers."""
        return self.random.normal((n,))

    def integers(self, n: int, below: int) -> Any:
        """``n`` int32 numbers from [0, below)."""
        return self.random.randint(0, below, (n,))

    def uniform(self, n: int) -> Any:
        """``n`` float32 numbers from [0, 1)."""
        return self.random.uniform(shape=(n,))


class ArrayPeer:
    """A peer whose arrays come from one module. Subclasses say how arrays get in, out and finished."""

    name = ""
    module_name = ""
    ops_type: type[Ops] = Ops

    def __init__(self) -> None:
        self.module: Any = None
        self.ops: Any = None

    def available(self) -> str | None:
        """Import the library; None, or why it cannot be imported."""
        try:
            self.module = importlib.import_module(self.module_name)
        except ImportError as error:
            return f"cannot import {self.module_name}: {error}"
        self.ops = self.ops_type(self.module, self.name)
        self.start()
        return None

    def start(self) -> None:
        """Settings to make once after the import."""

    def version(self) -> str:
        """The library's version."""
        return str(self.module.__version__)

    def threads(self) -> int | None:
        """The threads its kernels use; None where the library does not tell."""
        return None

    def array(self, source: Input) -> Any:
        """The operand as the library's array, in memory."""
        raise NotImplementedError

    def operands(self, job: Job, inputs: Sequence[Input]) -> Sequence[Any]:
        """What the job's work gets."""
        arrays = [self.array(i) for i in inputs]
        return job.prepare(self.ops, *arrays) if job.prepare else arrays

    def make(self, job: Job, inputs: Sequence[Input]) -> Callable[[], Any]:
        """A function that does the job on these operands."""
        arrays = self.operands(job, inputs)
        return self.finished(functools.partial(job.run, self.ops, *arrays), job)

    def finished(self, run: Callable[[], Any], job: Job) -> Callable[[], Any]:
        """``run`` with whatever it takes until its result is in memory."""
        return run

    def one_to_numpy(self, x: Any) -> np.ndarray:
        """One output as a NumPy array."""
        return np.asarray(x)

    def to_numpy(self, result: Any) -> Outputs:
        """All outputs as NumPy arrays."""
        return [self.one_to_numpy(x) for x in self.outputs(result)]

    def dtype_names(self, result: Any) -> Sequence[str]:
        """The dtypes' names of all outputs."""
        return [str(x.dtype).rpartition(".")[2] for x in self.outputs(result)]

    @staticmethod
    def outputs(result: Any) -> Sequence[Any]:
        """The outputs as a sequence, also where there is one."""
        return result if isinstance(result, (tuple, list)) else (result,)
