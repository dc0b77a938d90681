"""Attention of float64, a graph of plain ops, has the kernels' rules for rows and keys that are not seen."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest

RNG = np.random.default_rng(9)
Q, K, V = (RNG.standard_normal(s) for s in ((2, 4, 5, 8), (2, 2, 3, 8), (2, 2, 3, 6)))
SOME = RNG.random((5, 3)) < 0.6
SOME[2] = False  # a row that sees nothing
ADDED = RNG.standard_normal((2, 1, 5, 3))
ADDED[:, :, 3] = -np.inf
SINKS = RNG.standard_normal(4)

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal, more queries than keys": {"mask": "causal"},
    "hidden row": {"mask": SOME},
    "hidden row, sinks": {"mask": SOME, "sinks": SINKS},
    "row of -inf": {"mask": ADDED},
    "row of -inf, sinks": {"mask": ADDED, "sinks": SINKS},
}


def attended(dtype: mx.Dtype, options: dict[str, Any], keys: int = 3) -> np.ndarray:
    q, k, v = (mx.array(x, dtype) for x in (Q, K[:, :, :keys], V[:, :, :keys]))
    given = {
        n: x if isinstance(x, str) else mx.array(x, mx.bool_ if x.dtype == np.bool_ else dtype)
        for n, x in options.items()
    }
    return np.asarray(mx.fast.scaled_dot_product_attention(q, k, v, scale=0.4, **given))


@pytest.mark.parametrize("name", CASES)
def test_rules_of_the_kernels(name: str) -> None:
    want, got = (attended(t, CASES[name]) for t in (mx.float32, mx.float64))
    assert got.dtype == np.float64
    # A weighted mean of 3 values with weights from scores of 8 products each, in float32.
    bound = 64 * 2.0**-23 * np.abs(V).max() * (1 + np.abs(Q).max() * np.abs(K).max())
    assert (np.isnan(got) == np.isnan(want)).all()
    assert np.isnan(want).any() == (name == "row of -inf")
    assert np.nanmax(np.abs(got - want)) <= bound


def test_no_keys() -> None:
    for dtype in (mx.float32, mx.float64):
        assert (attended(dtype, {}, keys=0) == 0).all()
