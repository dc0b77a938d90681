"""Activation functions and layers against NumPy, values and gradients."""

import math

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn
from nn.nn_reference import assert_close, check_layer, draw, to_numpy

erf = np.vectorize(math.erf)


def np_sigmoid(x):
    return np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))


def np_softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def np_softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def np_elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def np_gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# Function, layer, reference.
CASES = {
    "sigmoid": (nn.sigmoid, nn.Sigmoid(), np_sigmoid),
    "tanh": (nn.tanh, nn.Tanh(), np.tanh),
    "relu": (nn.relu, nn.ReLU(), lambda x: np.maximum(x, 0)),
    "relu2": (nn.relu2, nn.ReLU2(), lambda x: np.maximum(x, 0) ** 2),
    "relu6": (nn.relu6, nn.ReLU6(), lambda x: np.clip(x, 0, 6)),
    "leaky_relu": (nn.leaky_relu, nn.LeakyReLU(), lambda x: np.where(x > 0, x, 0.01 * x)),
    "leaky_relu slope": (
        lambda x: nn.leaky_relu(x, 0.3),
        nn.LeakyReLU(0.3),
        lambda x: np.where(x > 0, x, 0.3 * x),
    ),
    "elu": (nn.elu, nn.ELU(), np_elu),
    "elu alpha": (lambda x: nn.elu(x, 0.5), nn.ELU(0.5), lambda x: np_elu(x, 0.5)),
    "celu": (nn.celu, nn.CELU(), np_elu),
    "celu alpha": (
        lambda x: nn.celu(x, 0.5),
        nn.CELU(0.5),
        lambda x: np.where(x > 0, x, 0.5 * np.expm1(x / 0.5)),
    ),
    "selu": (nn.selu, nn.SELU(), lambda x: 1.0507009873554805 * np_elu(x, 1.6732632423543772)),
    "silu": (nn.silu, nn.SiLU(), lambda x: x * np_sigmoid(x)),
    "gelu": (nn.gelu, nn.GELU(), lambda x: x * (1 + erf(x / math.sqrt(2))) / 2),
    "gelu_approx": (nn.gelu_approx, nn.GELU("tanh"), np_gelu_tanh),
    "gelu precise": (nn.gelu_approx, nn.GELU("precise"), np_gelu_tanh),
    "gelu_fast_approx": (nn.gelu_fast_approx, nn.GELU("fast"), lambda x: x * np_sigmoid(1.702 * x)),
    "mish": (nn.mish, nn.Mish(), lambda x: x * np.tanh(np_softplus(x))),
    "hardswish": (nn.hardswish, nn.Hardswish(), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "hard_tanh": (nn.hard_tanh, nn.HardTanh(), lambda x: np.clip(x, -1, 1)),
    "hard_shrink": (nn.hard_shrink, nn.HardShrink(), lambda x: np.where(np.abs(x) > 0.5, x, 0)),
    "hard_shrink l": (
        lambda x: nn.hard_shrink(x, 1),
        nn.HardShrink(1),
        lambda x: np.where(np.abs(x) > 1, x, 0),
    ),
    "softshrink": (nn.softshrink, nn.Softshrink(), lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)),
    "softplus": (nn.softplus, nn.Softplus(), np_softplus),
    "softsign": (nn.softsign, nn.Softsign(), lambda x: x / (1 + np.abs(x))),
    "softmax": (nn.softmax, nn.Softmax(), np_softmax),
    "softmin": (nn.softmin, nn.Softmin(), lambda x: np_softmax(-x)),
    "log_softmax": (nn.log_softmax, nn.LogSoftmax(), lambda x: np.log(np_softmax(x))),
    "log_sigmoid": (nn.log_sigmoid, nn.LogSigmoid(), lambda x: -np_softplus(-x)),
    "glu": (nn.glu, nn.GLU(), lambda x: x[..., : x.shape[-1] // 2] * np_sigmoid(x[..., x.shape[-1] // 2 :])),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case):
    fn, layer, reference = CASES[case]
    x = draw(3, 8) * 3
    check_layer(layer, lambda p, y: reference(y), x, terms=16)
    assert mx.array_equal(fn(mx.array(x)), layer(mx.array(x))).item()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_dtypes_stay(case, dtype):
    fn, _, reference = CASES[case]
    kind = getattr(mx, dtype)
    x = mx.array(draw(3, 8)).astype(kind)
    y = fn(x)
    assert y.dtype == kind
    eps = 2**-10 if dtype == "float16" else 2**-7
    assert_close(y, reference(to_numpy(x)), terms=4, eps=eps)


@pytest.mark.parametrize("case", sorted(set(CASES) - {"softmax", "softmin", "log_softmax", "glu"}))
def test_large_inputs_overflow_nowhere(case):
    fn, _, reference = CASES[case]
    x = np.array([-1e4, -100.0, -30.0, 0.0, 30.0, 100.0, 1e4], np.float32)
    with np.errstate(over="ignore"):
        expected = reference(x.astype(np.float64))
    got = np.array(fn(mx.array(x)))
    assert np.isfinite(got).all()
    assert (np.abs(got - expected) <= 1e-5 * (1e-3 + np.abs(expected))).all()
    grads = np.array(mx.grad(lambda y: fn(y).sum())(mx.array(x)))
    assert np.isfinite(grads).all()


@pytest.mark.parametrize("case", CASES)
def test_nan_spreads(case):
    fn, _, _ = CASES[case]
    assert np.isnan(np.array(fn(mx.array([float("nan"), 1.0])))[0])


def test_axes():
    x = draw(4, 3)
    assert_close(nn.softmax(mx.array(x), axis=0), np_softmax(x.T.astype(np.float64)).T, terms=4)
    assert_close(nn.softmin(mx.array(x), axis=0), np_softmax(-x.T.astype(np.float64)).T, terms=4)
    assert_close(nn.log_softmax(mx.array(x), axis=0), np.log(np_softmax(x.T.astype(np.float64))).T, terms=4)
    assert_close(nn.GLU(axis=0)(mx.array(x)), x[:2] * np_sigmoid(x[2:].astype(np.float64)), terms=4)


def test_step_counts_the_threshold_as_above():
    x = mx.array([-1.0, 0.0, 0.5, 0.7])
    assert nn.step(x).tolist() == [0, 1, 1, 1]
    assert nn.step(x, 0.5).tolist() == nn.Step(0.5)(x).tolist() == [0, 0, 1, 1]
    assert nn.step(x).dtype == mx.int32


def test_hard_tanh_bounds():
    assert nn.hard_tanh(mx.array([-3.0, 0.5, 3.0]), -2.0, 1.5).tolist() == [-2.0, 0.5, 1.5]


def test_integers_stay_where_they_can():
    x = mx.array([-1, 2])
    assert nn.relu(x).dtype == mx.int32
    assert nn.relu2(x).tolist() == [0, 4]
    assert nn.gelu(x).dtype == mx.float32


@pytest.mark.parametrize("count", [1, 4])
def test_prelu(count):
    layer = nn.PReLU(count, init=0.4)
    assert layer.weight.tolist() == pytest.approx([0.4] * count)
    check_layer(layer, lambda p, x: np.maximum(x, 0) + p["weight"] * np.minimum(x, 0), draw(3, 4))


def test_slopes_at_zero_come_from_the_left():
    zero = mx.array([0.0])
    assert mx.grad(lambda x: nn.elu(x, 0.5).sum())(zero).item() == 0.5
    assert mx.grad(lambda x: nn.celu(x, 0.5).sum())(zero).item() == 1.0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.GELU("exact"), r"\[GELU\] approx must be one of \['none', .*\], got 'exact'"),
        (lambda: nn.PReLU(0), r"\[PReLU\] num_parameters must be at least 1, got 0"),
        (lambda: nn.PReLU(3)(mx.ones((2, 4))), r"\[PReLU\] .* 3 entries, got shape \(2, 4\)"),
        (lambda: nn.glu(mx.ones((3,))), "3"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_layers_are_classes_with_documentation():
    layers = [c for c in vars(nn).values() if isinstance(c, type) and issubclass(c, nn.Module)]
    assert len({layer.__name__ for layer in layers}) == len(layers) > 60
    for layer in layers:
        assert "Examples" in (layer.__doc__ or ""), layer.__name__
    assert repr(nn.ReLU()) == "ReLU()"
    assert type(nn.ReLU()) is nn.ReLU


def test_layers_take_their_input_by_name() -> None:
    assert nn.ReLU()(x=mx.array([-1.0, 2.0])).tolist() == [0, 2]
    assert nn.Softplus.__call__.__name__ == "__call__"
