"""PyTorch, eager, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.compare.model import Input, Job
from bench.compare.peers.base import ArrayPeer, Ops


class TorchOps(Ops):
    """PyTorch's functions under NumPy's names, its own fused ones where it has them."""

    @property
    def _nn(self) -> Any:
        return self._module.nn.functional

    def cast(self, x: Any, dtype: str) -> Any:
        """``x`` converted to the dtype of that name."""
        return x.to(getattr(self._module, dtype))

    def contiguous(self, x: Any) -> Any:
        """``x`` in row-major memory."""
        return x.contiguous()

    def rsqrt(self, x: Any) -> Any:
        """1 / sqrt(x)."""
        return self._module.rsqrt(x)

    def relu(self, x: Any) -> Any:
        """The larger of x and 0."""
        return self._module.relu(x)

    def max(self, x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
        """The largest elements, without their places."""
        return self._module.amax(x) if axis is None else self._module.amax(x, dim=axis, keepdim=keepdims)

    def var(self, x: Any, axis: int) -> Any:
        """Variance with NumPy's divisor."""
        return self._module.var(x, dim=axis, correction=0)

    def sort(self, x: Any, axis: int = -1) -> Any:
        """Sorted values, without their places."""
        return self._module.sort(x, dim=axis).values

    def argsort(self, x: Any, axis: int = -1) -> Any:
        """The sorting permutation."""
        return self._module.argsort(x, dim=axis)

    def transpose(self, x: Any, axes: tuple[int, ...]) -> Any:
        """``x`` with its axes permuted."""
        return self._module.permute(x, axes)

    def take(self, x: Any, indices: Any, axis: int) -> Any:
        """Slices at the indices."""
        return self._module.index_select(x, axis, indices)

    def take_along_axis(self, x: Any, indices: Any, axis: int) -> Any:
        """One element for each index."""
        return self._module.gather(x, axis, indices)

    def scatter_add(self, x: Any, indices: Any, updates: Any) -> Any:
        """A copy of ``x`` with the updates added to the rows at the indices."""
        return self._module.index_add(x, 0, indices, updates)

    def softmax(self, x: Any) -> Any:
        """The library's own softmax."""
        return self._module.softmax(x, dim=-1)

    def rms_norm(self, x: Any, weight: Any, eps: float) -> Any:
        """The library's own RMS norm."""
        return self._nn.rms_norm(x, (x.shape[-1],), weight, eps)

    def layer_norm(self, x: Any, weight: Any, bias: Any, eps: float) -> Any:
        """The library's own layer norm."""
        return self._nn.layer_norm(x, (x.shape[-1],), weight, bias, eps)

    def attention(self, q: Any, k: Any, v: Any, scale: float, causal: bool) -> Any:
        """The library's own attention."""
        return self._nn.scaled_dot_product_attention(
            q, k, v, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )

    def convolution(self, x: Any, weight: Any, stride: int, padding: int, groups: int) -> Any:
        """The library's own convolution; views move the axes: channels-last tensors."""
        rank = x.ndim - 2
        function = getattr(self._nn, f"conv{rank}d")
        moved = (a.movedim(-1, 1) for a in (x, weight))
        return function(*moved, stride=stride, padding=padding, groups=groups).movedim(1, -1)

    def cummax(self, x: Any, axis: int) -> Any:
        """The running maximum, without its places."""
        return self._module.cummax(x, axis).values

    def topk(self, x: Any, k: int) -> Any:
        """The library's own selection."""
        return self._module.topk(x, k, dim=-1, sorted=False).values

    def packed_4bit(self, words: Any, scales: Any, biases: Any) -> Any:
        """The weights as its kernel stores them; codes there are offset by 8, so biases differ."""
        torch = self._module
        shifts = torch.arange(0, 32, 4)
        codes = (words.to(torch.int64)[..., None] >> shifts & 15).reshape(len(words), -1).to(torch.int32)
        with_zeros = torch.stack([scales, biases + 8 * scales], -1).transpose(0, 1)
        return torch._convert_weight_to_int4pack_for_cpu(codes, 2), with_zeros.contiguous()

    def matmul_4bit(self, x: Any, packed: Any) -> Any:
        """x @ w.T with 4-bit weights in groups of 64."""
        return self._module._weight_int4pack_mm_for_cpu(x, packed[0], 64, packed[1])

    def value_and_gradients(self, loss: Callable[..., Any], *parameters: Any) -> Any:
        """The loss and its gradients with respect to all parameters."""
        with self._module.enable_grad():
            leaves = [p.detach().requires_grad_() for p in parameters]
            value = loss(*leaves)
            gradients = self._module.autograd.grad(value, leaves)
        return (value.detach(), *gradients)

    def adamw(self, parameters: Sequence[Any], gradients: Sequence[Any], settings: Any) -> Any:
        """Its fused AdamW."""
        s, held = settings, [p.clone().requires_grad_() for p in parameters]
        for p, g in zip(held, gradients, strict=True):
            p.grad = g
        optimizer = self._module.optim.AdamW(
            held, s.rate, (s.beta1, s.beta2), s.eps, s.weight_decay, fused=True
        )

        def step() -> list[Any]:
            optimizer.step()
            return [p.detach() for p in held]

        return step

    def conv_training(self, images: Any, labels: Any, weights: Sequence[Any], settings: Any) -> Any:
        """The same network of its own layers, with its fused AdamW."""
        torch, optim = self._module, self._module.optim
        model = _conv_net(torch, weights, settings.dropout)
        optimizer = optim.AdamW(
            model.parameters(), settings.rate, weight_decay=settings.weight_decay, fused=True
        )
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.total_steps)
        cross_entropy, batch, x = torch.nn.CrossEntropyLoss(), settings.batch, images.permute(0, 3, 1, 2)
        logits = model.eval()(x[:batch])
        model.train()
        rng = np.random.default_rng(0)

        def epoch() -> tuple[Any, Any]:
            losses, order = [], torch.from_numpy(rng.permutation(len(images)))
            with torch.enable_grad():
                for first in range(0, len(images) - batch + 1, batch):
                    rows = order[first : first + batch]
                    optimizer.zero_grad()
                    loss = cross_entropy(model(x[rows]), labels[rows])
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    losses.append(loss.item())
            return logits, torch.tensor(losses)

        return epoch

    def normal(self, n: int) -> Any:
        """Normally distributed numbers."""
        return self._module.randn(n)

    def integers(self, n: int, below: int) -> Any:
        """int32 numbers."""
        return self._module.randint(0, below, (n,), dtype=self._module.int32)

    def uniform(self, n: int) -> Any:
        """Uniform numbers."""
        return self._module.rand(n)


def _conv_net(torch: Any, weights: Sequence[Any], dropout: float) -> Any:
    """``lamina.examples.conv.ConvNet`` with these weights, channels last."""
    nn, layers = torch.nn, []
    for i in range(3):
        w, b = weights[2 * i : 2 * i + 2]
        conv = nn.Conv2d(w.shape[3], w.shape[0], 3, padding=1)
        conv.weight.copy_(w.permute(0, 3, 1, 2))
        conv.bias.copy_(b)
        layers += [conv, nn.BatchNorm2d(w.shape[0]), nn.ReLU(), *([nn.MaxPool2d(2)] if i else [])]
    w, b = weights[6:]
    out = nn.Linear(w.shape[1], w.shape[0])
    # There the features of an image come channel by channel.
    by_place = w.reshape(len(w), -1, weights[4].shape[0])
    out.weight.copy_(by_place.permute(0, 2, 1).reshape(w.shape))
    out.bias.copy_(b)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), out)


class TorchPeer(ArrayPeer):
    """PyTorch without gradients, except where a job asks for them."""

    name = "torch"
    module_name = "torch"
    ops_type = TorchOps

    def start(self) -> None:
        """As many threads as the run has, and no gradient bookkeeping."""
        self.module.set_num_threads(len(os.sched_getaffinity(0)))
        self.module.set_grad_enabled(False)

    def threads(self) -> int | None:
        """Threads of one operation."""
        return self.module.get_num_threads()

    def array(self, source: Input) -> Any:
        """The operand; index arrays as int64."""
        dtype = "int64" if source.dtype == "index" else source.dtype
        return self.module.from_numpy(np.ascontiguousarray(source.values)).to(getattr(self.module, dtype))

    def one_to_numpy(self, x: Any) -> np.ndarray:
        """One output; bfloat16 as float32."""
        return (x.float() if x.dtype == self.module.bfloat16 else x).numpy()

    def finished(self, run: Callable[[], Any], job: Job) -> Callable[[], Any]:
        """Results are in memory when the call returns."""
        return run


def peer() -> TorchPeer:
    """The plug-in."""
    return TorchPeer()
