"""Initializers: shapes, dtypes, moments, structure, errors."""

import lamina.core as mx
import numpy as np
import pytest
from lamina.nn import init

RANDOM = {
    "normal": (init.normal(1.0, 0.5), 1.0, 0.5),
    "uniform": (init.uniform(-1.0, 2.0), 0.5, 3 / np.sqrt(12)),
    "glorot_normal": (init.glorot_normal(), 0.0, np.sqrt(2 / (300 + 200))),
    "glorot_uniform": (init.glorot_uniform(), 0.0, np.sqrt(2 / (300 + 200))),
    "he_normal": (init.he_normal(), 0.0, np.sqrt(1 / 200)),
    "he_uniform": (init.he_uniform(), 0.0, np.sqrt(1 / 200)),
}


@pytest.mark.parametrize("name", RANDOM)
def test_moments(name):
    make, mean, std = RANDOM[name]
    mx.random.seed(7)
    x = np.array(make(mx.zeros((300, 200)))).astype(np.float64)
    assert x.shape == (300, 200)
    assert abs(x.mean() - mean) < 5 * std / np.sqrt(x.size)
    assert abs(x.std() / std - 1) < 5 / np.sqrt(2 * x.size)
    if "uniform" in name:
        assert np.abs(x - mean).max() <= std * np.sqrt(3) * (1 + 1e-6)


@pytest.mark.parametrize("name", ["glorot_normal", "glorot_uniform", "he_normal", "he_uniform"])
def test_fans_count_the_kernel_and_gain_multiplies(name):
    make = getattr(init, name)()
    mx.random.seed(7)
    x = np.array(make(mx.zeros((64, 3, 3, 20)), gain=2.0)).astype(np.float64)
    fan_in, fan_out = 20 * 9, 64 * 9
    std = 2 * (np.sqrt(2 / (fan_in + fan_out)) if "glorot" in name else np.sqrt(1 / fan_in))
    assert abs(x.std() / std - 1) < 5 / np.sqrt(2 * x.size)
    if "he" in name:
        x = np.array(make(mx.zeros((64, 3, 3, 20)), mode="fan_out")).astype(np.float64)
        assert abs(x.std() * np.sqrt(fan_out) - 1) < 5 / np.sqrt(2 * x.size)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_dtypes(dtype):
    for name in (
        "normal",
        "uniform",
        "identity",
        "glorot_normal",
        "glorot_uniform",
        "he_normal",
        "he_uniform",
    ):
        x = getattr(init, name)(dtype=dtype)(mx.zeros((4, 4), dtype=mx.float16))
        assert (x.dtype, x.shape) == (dtype, (4, 4)), name
    assert init.constant(2, dtype=dtype)(mx.zeros((3,))).tolist() == [2.0, 2.0, 2.0]
    assert init.sparse(0.5, dtype=dtype)(mx.zeros((4, 4))).dtype == dtype


def test_identity():
    assert init.identity()(mx.zeros((3, 3))).tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(("sparsity", "zeros"), [(0.0, 0), (0.25, 3), (0.5, 5), (1.0, 10)])
def test_sparse_rows(sparsity, zeros):
    mx.random.seed(7)
    x = np.array(init.sparse(sparsity, mean=3.0, std=0.1)(mx.zeros((50, 10))))
    assert ((x == 0).sum(axis=1) == zeros).all()
    if 0 < zeros < 10:
        assert len({tuple(row) for row in (x == 0).tolist()}) > 10
    assert zeros == 10 or abs(x[x != 0].mean() - 3) < 0.1


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (1, 5)])
def test_orthogonal(shape):
    mx.random.seed(7)
    x = np.array(init.orthogonal(2.0)(mx.zeros(shape))).astype(np.float64)
    assert x.shape == shape
    product = x @ x.T if shape[0] <= shape[1] else x.T @ x
    assert np.abs(product - 4 * np.eye(min(shape))).max() < 1e-5


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: init.identity()(mx.zeros((2, 3))), r"square matrix, got shape \(2, 3\)"),
        (lambda: init.glorot_normal()(mx.zeros((3,))), r"\[glorot_normal\] .*2 axes, got shape \(3,\)"),
        (lambda: init.he_uniform()(mx.zeros((3,))), r"\[he_uniform\] .*2 axes, got shape \(3,\)"),
        (lambda: init.he_normal()(mx.zeros((3, 3)), mode="fan"), "'fan_in' or 'fan_out', got 'fan'"),
        (lambda: init.sparse(0.5)(mx.zeros((3,))), r"\[sparse\] .*2 axes, got shape \(3,\)"),
        (lambda: init.sparse(1.5), r"\[sparse\] sparsity must be in \[0, 1\], got 1.5"),
        (lambda: init.orthogonal()(mx.zeros((3,))), r"\[orthogonal\] .*2 axes, got shape \(3,\)"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
