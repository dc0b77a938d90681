"""What the nn tests share: float64 comparison with derived bounds, and layers checked against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from lamina.utils import tree_flatten

EPS32 = float(np.finfo(np.float32).eps)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal float32 numbers, the same for the same shape and seed."""
    return rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def to_numpy(x: mx.array) -> np.ndarray:
    """A float64 copy of an array of any float dtype."""
    return np.array(x.astype(mx.float32) if x.dtype == mx.bfloat16 else x).astype(np.float64)


def needs(*names: str) -> pytest.MarkDecorator:
    """Run a test only where the core has the named functions."""
    missing = [name for name in names if not hasattr(mx, name)]
    return pytest.mark.skipif(bool(missing), reason=f"the core has no {', '.join(missing)}")


def assert_close(
    actual: Any, expected: np.ndarray, terms: int = 1, magnitude: Any = None, eps: float = EPS32
):
    """Compare with a float64 result computed from ``terms`` rounded terms of total size ``magnitude``.

    Each term and each of a few elementary functions may be off by about one eps of the magnitude, by
    default the largest entry expected.
    """
    got = to_numpy(actual) if isinstance(actual, mx.array) else np.asarray(actual, np.float64)
    want = np.asarray(expected, np.float64)
    assert got.shape == want.shape, f"shapes differ: {got.shape} and {want.shape}"
    if magnitude is None:
        finite = want[np.isfinite(want)]
        magnitude = np.abs(finite).max() if finite.size else 1.0
    bound = eps * (8 + 2 * terms) * np.asarray(magnitude) + np.finfo(np.float32).tiny
    wrong = ~((np.abs(got - want) <= bound) | (got == want) | (np.isnan(got) & np.isnan(want)))
    assert not wrong.any(), (
        f"off at {np.argwhere(wrong)[:3].tolist()}: {got[wrong][:3]} but {want[wrong][:3]}"
    )


def numeric_grad(fn: Callable[[np.ndarray], float], x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Central differences of a float64 function; the error is about h**2 relative."""
    x = x.astype(np.float64)
    grad = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = h
        grad[index] = (fn(x + step) - fn(x - step)) / (2 * h)
    return grad


def check_layer(
    layer: Any,
    reference: Callable[..., np.ndarray],
    *inputs: np.ndarray,
    terms: int = 16,
    grad_inputs: bool = True,
) -> None:
    """Compare a layer's output and gradients with those of ``reference(parameters, *inputs)`` in float64.

    ``parameters`` is a flat dict from path to array. The gradients are those of the output's sum with fixed
    weights, with respect to the trainable parameters and, if ``grad_inputs``, to the floating inputs.
    """
    arrays = [mx.array(x) for x in inputs]
    names = [name for name, _ in tree_flatten(layer.trainable_parameters())]
    values = {name: to_numpy(value) for name, value in tree_flatten(layer.parameters())}
    wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]

    expected = reference(values, *wide)
    assert_close(layer(*arrays), expected, terms)
    weights = draw(*expected.shape, seed=99)

    def loss(parameters, *xs):
        layer.update(parameters)
        return (layer(*xs) * mx.array(weights)).sum()

    floating = [i for i, x in enumerate(inputs) if grad_inputs and x.dtype.kind == "f"]
    parameters = layer.trainable_parameters()
    argnums = [0] * bool(names) + [i + 1 for i in floating]
    if not argnums:
        return
    if len(argnums) == 1:
        grads = [mx.grad(loss, argnums=argnums[0])(parameters, *arrays)]
    else:
        grads = list(mx.grad(loss, argnums=argnums)(parameters, *arrays))
    layer.update(parameters)

    def total(new_values, new_inputs):
        return float((reference(new_values, *new_inputs) * weights).sum())

    if names:
        found = tree_flatten(grads.pop(0), destination={})
        assert set(found) == set(names)
        for name in names:
            want = numeric_grad(lambda p, name=name: total({**values, name: p}, wide), values[name])
            assert_close(found[name], want, terms * 4, max(1.0, np.abs(want).max()))
    for i, grad in zip(floating, grads, strict=True):
        want = numeric_grad(lambda x, i=i: total(values, [*wide[:i], x, *wide[i + 1 :]]), wide[i])
        assert_close(grad, want, terms * 4, max(1.0, np.abs(want).max()))
