"""lamina itself."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

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

    def recorded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` of arrays, compiled to one operation."""
        return self._module.compile(function, whole=True)

    def paged_attention(self, q: Any, keys: Any, values: Any, tables: Any, scale: float) -> Any:
        """The library's own attention over blocks."""
        mx = self._module
        count, columns = tables.shape
        lengths = mx.full((count,), columns * keys.shape[2], dtype=mx.int32)
        ends = mx.arange(1, count + 1, dtype=mx.int32)
        return mx.fast.paged_attention(q, keys, values, tables, ends, lengths, scale=scale)

    def conv_training(self, images: Any, labels: Any, weights: Sequence[Any], settings: Any) -> Any:
        """The example's own network, its step compiled."""
        mx: Any = self._module
        nn: Any = importlib.import_module("lamina.nn")
        optimizers: Any = importlib.import_module("lamina.optimizers")
        example: Any = importlib.import_module("lamina.examples.conv")
        model = example.ConvNet()
        layers = ("conv1", "conv2", "conv3", "out")
        model.update(
            {
                name: {"weight": w, "bias": b}
                for name, w, b in zip(layers, weights[::2], weights[1::2], strict=True)
            }
        )
        rate = optimizers.cosine_decay(settings.rate, settings.total_steps)
        optimizer = optimizers.AdamW(rate, weight_decay=settings.weight_decay, bias_correction=True)
        optimizer.init(model.trainable_parameters())
        state = [model.state, optimizer.state, mx.random.state]

        @partial(mx.compile, inputs=state, outputs=state)
        def step(x: Any, y: Any) -> Any:
            loss, gradients = nn.value_and_grad(model, example.loss_fn)(model, x, y)
            optimizer.update(model, gradients)
            return loss

        logits = model.eval()(images[: settings.batch])
        mx.eval(logits, state)
        model.train()
        return _Epochs(mx, step, state, logits, np.array(images), np.array(labels), settings.batch)


class _Epochs:
    """Trains for an epoch at each call; returns the first logits and the losses."""

    def __init__(
        self, mx: Any, step: Any, state: Any, logits: Any, images: np.ndarray, labels: np.ndarray, batch: int
    ) -> None:
        self._mx, self._step, self._state, self._logits = mx, step, state, logits
        self._images, self._labels, self._batch = images, labels, batch
        self._rng = np.random.default_rng(0)

    def __call__(self) -> tuple[Any, Any]:
        mx, batch, losses = self._mx, self._batch, []
        order = self._rng.permutation(len(self._images))
        for first in range(0, len(order) - batch + 1, batch):
            rows = order[first : first + batch]
            loss = self._step(mx.array(self._images[rows]), mx.array(self._labels[rows]))
            mx.eval(loss, self._state)
            losses.append(loss.item())
        return self._logits, mx.array(losses)


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
