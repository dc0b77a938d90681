"""One process of bench.memory: ``python -m bench.memory_cases CASE LIBRARY SIZE`` prints a line of JSON."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Measured = dict[str, Any]


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS")


def peak_bytes() -> int:
    """The most memory this process has had in use so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _rise(work: Callable[[], Any], before: int) -> tuple[Any, int]:
    """The work's result, and how far above `before` the process's memory rose."""
    result = work()
    return result, peak_bytes() - before


def _chain_truth(x: Any) -> Any:
    for i in range(10):
        x = x * 0.9 + 0.1 * (i % 3)
    return x


def chain(library: str, size: int) -> Measured:
    """Twenty element-wise ops, products and sums by turns, on an array of so many bytes."""
    return _on_one_array(library, size // 4096, _chain_truth, lambda module: _chain_truth, 1e-5)


def softmax(library: str, size: int) -> Measured:
    """Softmax of rows of 1024."""
    import numpy as np

    def truth(x: Any) -> Any:
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    return _on_one_array(library, size // 4096, truth, lambda m: lambda x: m.softmax(x, -1), 1e-6)


def _on_one_array(
    library: str,
    rows: int,
    truth: Callable[[Any], Any],
    function: Callable[[Any], Callable[[Any], Any]],
    off: float,
) -> Measured:
    """Peak while a function of one matrix runs, the matrix included, in arrays of its size."""
    import numpy as np

    head = np.random.default_rng(0).standard_normal((64, 1024), dtype=np.float32)
    if library == "torch":
        torch: Any = importlib.import_module("torch")
        torch.set_grad_enabled(False)
        function(torch)(torch.ones(64, 1024)).sum()
        before = resident_bytes()
        x = torch.ones(rows, 1024)
        x[:64] = torch.from_numpy(head)
        result, rise = _rise(lambda: function(torch)(x), before)
        got = result[:64].numpy()
    else:
        import lamina.core as mx

        mx.eval(function(mx)(mx.ones((64, 1024)) + 0))
        before = resident_bytes()
        x = mx.ones((rows, 1024))
        x[:64] = mx.array(head)
        mx.eval(x)

        def work() -> Any:
            y = function(mx)(x)
            mx.eval(y)
            return y

        result, rise = _rise(work, before)
        got = np.asarray(result)[:64]
    wrong = float(np.abs(got - truth(head.astype(np.float64))).max())
    return {"right": wrong <= off, "error": wrong, "peak_bytes": rise, "arrays": rise / (4 * 1024 * rows)}


# --- a training step -------------------------------------------------------------------------------------

_SHAPES = {
    "qkv": lambda e: (e, 3 * e),
    "out": lambda e: (e, e),
    "up": lambda e: (e, 4 * e),
    "down": lambda e: (4 * e, e),
}


def _numbers(batch: int, length: int, width: int) -> tuple[Any, Any, dict[str, Any]]:
    import numpy as np

    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, batch, length, width), dtype=np.float32)
    weights: dict[str, Any] = {
        name: rng.standard_normal(shape(width), dtype=np.float32) / np.float32(shape(width)[0] ** 0.5)
        for name, shape in _SHAPES.items()
    }
    for name in ("scale1", "scale2"):
        weights[name] = np.ones(width, np.float32)
    return x, y, weights


def _block(
    xp: Any, attention: Callable[..., Any], norm: Callable[..., Any], x: Any, w: dict[str, Any]
) -> Any:
    """Pre-norm attention and a gated-free MLP, each with its residual."""
    b, n, e = x.shape
    qkv = (norm(x, w["scale1"]) @ w["qkv"]).reshape(b, n, 3, e // 64, 64).swapaxes(1, 3)
    mixed = attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).swapaxes(1, 2).reshape(b, n, e)
    x = x + mixed @ w["out"]
    h = norm(x, w["scale2"]) @ w["up"]
    return x + (h * xp.sigmoid(1.702 * h)) @ w["down"]


def training(library: str, size: int) -> Measured:
    """Two steps of gradient descent of a transformer block of width 512 on so many tokens."""
    import numpy as np

    length = min(512, size)
    x, y, weights = _numbers(max(1, size // length), length, 512)
    step = (_torch_step if library == "torch" else _lamina_step)(weights)
    before = resident_bytes()
    losses = [step(x, y) for _ in range(2)]
    return {"right": losses[1] < losses[0] < np.inf, "losses": losses, "peak_bytes": peak_bytes() - before}


def _lamina_step(weights: dict[str, Any]) -> Callable[[Any, Any], float]:
    import lamina.core as mx

    w = {k: mx.array(v) for k, v in weights.items()}
    mx.eval(w)

    def loss(w: dict[str, Any], x: Any, y: Any) -> Any:
        out = _block(
            mx,
            lambda q, k, v: mx.fast.scaled_dot_product_attention(q, k, v, scale=0.125, mask="causal"),
            lambda a, scale: mx.fast.layer_norm(a, scale, None, 1e-5),
            x,
            w,
        )
        return mx.mean(mx.square(out - y))

    both = mx.value_and_grad(loss)

    def step(x: Any, y: Any) -> float:
        value, gradients = both(w, mx.array(x), mx.array(y))
        for name in w:
            w[name] = w[name] - 0.1 * gradients[name]
        mx.eval(value, w)
        return float(value.item())

    return step


def _torch_step(weights: dict[str, Any]) -> Callable[[Any, Any], float]:
    torch: Any = importlib.import_module("torch")
    functional = torch.nn.functional
    w = {k: torch.from_numpy(v).clone().requires_grad_() for k, v in weights.items()}

    def step(x: Any, y: Any) -> float:
        out = _block(
            torch,
            lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, scale=0.125, is_causal=True),
            lambda a, scale: functional.layer_norm(a, scale.shape, scale, None, 1e-5),
            torch.from_numpy(x),
            w,
        )
        value = torch.mean(torch.square(out - torch.from_numpy(y)))
        value.backward()
        with torch.no_grad():
            for parameter in w.values():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        return float(value.detach())

    return step


# --- imports ---------------------------------------------------------------------------------------------


def imports(library: str, size: int) -> Measured:
    """Time and memory that importing the library takes where NumPy is there already."""
    import numpy as np

    before, begin = resident_bytes(), time.perf_counter()
    __import__("torch" if library == "torch" else "lamina.core")
    seconds = time.perf_counter() - begin
    return {"right": bool(np.ones(1)[0] == 1), "seconds": seconds, "peak_bytes": resident_bytes() - before}


CASES = {"chain": chain, "softmax": softmax, "training": training, "imports": imports}


if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
