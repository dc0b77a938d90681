"""Recurrent layers against loops in NumPy."""

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn
from nn.nn_reference import assert_close, check_layer, draw


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def run(step, x, *states):
    """Apply ``step`` along the second-last axis and stack the states after each."""
    seen = []
    for t in range(x.shape[-2]):
        states = step(x[..., t, :], *states)
        seen.append(states)
    return [np.stack(s, axis=-2) for s in zip(*seen, strict=True)]


def rnn(p, x, h, activation=np.tanh):
    def step(now, h):
        return (activation(now @ p["Wxh"].T + h @ p["Whh"].T + p.get("bias", 0)),)

    return run(step, x, h)[0]


def gru(p, x, h):
    def step(now, h):
        a = np.split(now @ p["Wx"].T + p.get("b", 0), 3, axis=-1)
        b = np.split(h @ p["Wh"].T, 3, axis=-1)
        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        n = np.tanh(a[2] + r * (b[2] + p.get("bhn", 0)))
        return ((1 - z) * n + z * h,)

    return run(step, x, h)[0]


def lstm(p, x, h, c):
    def step(now, h, c):
        i, f, g, o = np.split(now @ p["Wx"].T + h @ p["Wh"].T + p.get("bias", 0), 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    return run(step, x, h, c)


class Both(nn.Module):
    """An LSTM whose two outputs are one array."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def __call__(self, *x):
        return mx.concatenate(self.layer(*x), axis=-1)


SHAPES = [(3, 2), (2, 3, 2), (2, 2, 3, 2)]


def zeros(x, size=3):
    return np.zeros((*x.shape[:-2], size))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_rnn(bias, shape):
    layer = nn.RNN(2, 3, bias=bias)
    check_layer(layer, lambda p, x: rnn(p, x, zeros(x)), draw(*shape), terms=32)
    check_layer(layer, rnn, draw(*shape), draw(*shape[:-2], 3), terms=32)


def test_rnn_nonlinearity():
    layer = nn.RNN(2, 3, nonlinearity=nn.silu)
    check_layer(layer, lambda p, x: rnn(p, x, zeros(x), lambda y: y * sigmoid(y)), draw(2, 3, 2), terms=32)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_gru(bias, shape):
    layer = nn.GRU(2, 3, bias=bias)
    check_layer(layer, lambda p, x: gru(p, x, zeros(x)), draw(*shape), terms=32)
    check_layer(layer, gru, draw(*shape), draw(*shape[:-2], 3), terms=32)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_lstm(bias, shape):
    def reference(p, x, h, c):
        return np.concatenate(lstm({k.removeprefix("layer."): v for k, v in p.items()}, x, h, c), axis=-1)

    layer = Both(nn.LSTM(2, 3, bias=bias))
    state = draw(*shape[:-2], 3, seed=1), draw(*shape[:-2], 3, seed=2)
    check_layer(layer, lambda p, x: reference(p, x, zeros(x), zeros(x)), draw(*shape), terms=32)
    check_layer(layer, lambda p, x, h: reference(p, x, h, zeros(x)), draw(*shape), state[0], terms=32)
    check_layer(layer, reference, draw(*shape), *state, terms=32)


def test_lstm_continues_from_its_states():
    layer, x = nn.LSTM(2, 3), mx.array(draw(2, 6, 2))
    hidden, cell = layer(x)
    first = layer(x[:, :4])
    rest = layer(x[:, 4:], first[0][:, -1], first[1][:, -1])
    assert_close(rest[0], np.array(hidden)[:, 4:], terms=8)
    assert_close(rest[1], np.array(cell)[:, 4:], terms=8)
    only_cell = layer(x[:, :1], cell=cell[:, 0])[0]
    assert only_cell.shape == (2, 1, 3)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_shapes_and_initial_values(kind):
    layer = kind(2, 16)
    for name, value in layer.parameters().items():
        assert 0.15 < mx.max(mx.abs(value)).item() <= 0.25, name
    empty = layer(mx.zeros((3, 0, 2)))
    assert (empty[0] if kind is nn.LSTM else empty).shape == (3, 0, 16)
    assert repr(layer).startswith(f"{kind.__name__}(input_dims=2, hidden_size=16")
    half = layer(mx.zeros((3, 2, 2), dtype=mx.float32).astype(mx.float16))
    assert (half[0] if kind is nn.LSTM else half).shape == (3, 2, 16)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.RNN(2, 3, nonlinearity="tanh"), "nonlinearity must be callable, got 'tanh'"),
        (lambda: nn.GRU(0, 3), r"\[GRU\] input_size must be at least 1, got 0"),
        (lambda: nn.LSTM(3, 0), r"\[LSTM\] hidden_size must be at least 1, got 0"),
        (lambda: nn.GRU(2, 3)(mx.ones((4, 5))), r"\[GRU\] .*2 entries, got shape \(4, 5\)"),
        (lambda: nn.RNN(2, 3)(mx.ones((2,))), r"\[RNN\] .*at least 2 axes, got shape \(2,\)"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
