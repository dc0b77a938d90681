"""The smallest script that shows that lamina works here, as one JSON object; ``lamina doctor`` runs it."""

from __future__ import annotations

import json
import time
from typing import Any


def check() -> dict[str, Any]:
    """Add two arrays, multiply two matrices, take a gradient; return what came out and how long it took.

    Raises
    ------
    ArithmeticError
        A result is wrong.
    """
    began = time.perf_counter()
    import lamina.core as mx

    imported = time.perf_counter()
    a, b = mx.array([1.0, 2.0, 3.0]), mx.array([10.0, 20.0, 30.0])
    total = a + b
    matrix = mx.array([[1.0, 2.0], [3.0, 4.0]])
    product = matrix @ matrix
    gradient = mx.grad(lambda x: mx.sum(x * x))(a)
    results = [
        ("a + b", total, [11.0, 22.0, 33.0]),
        ("m @ m", product, [[7.0, 10.0], [15.0, 22.0]]),
        ("grad sum(a * a)", gradient, [2.0, 4.0, 6.0]),
    ]
    lines = []
    for name, got, wanted in results:
        if got.tolist() != wanted:
            raise ArithmeticError(f"{name}: wanted {wanted}, got {got.tolist()}")
        lines.append(f"{name} = {got.tolist()} ({got.dtype})")
    done = time.perf_counter()
    device = {k: v for k, v in mx.device_info().items() if isinstance(v, (str, int, float))}
    device["memory_limit_bytes"] = mx.get_memory_limit()
    with mx.profile() as profile:
        mx.eval(a * b)
    peaks = profile.to_dict()["machine"]
    return {
        "ok": True,
        "lines": lines,
        "import_ms": 1e3 * (imported - began),
        "run_ms": 1e3 * (done - imported),
        "device": device,
        "peaks": {"flops": peaks["flops"], "bandwidth": peaks["bandwidth"]},
        "kernels": mx._kernel_choices(),
    }


if __name__ == "__main__":
    print(json.dumps(check()))
