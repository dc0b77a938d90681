"""Linear, Bilinear, Embedding, containers, dropout: values, gradients, initial values, errors."""

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn
from nn.nn_reference import assert_close, check_layer, draw, rng


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 4), (2, 3, 4)])
def test_linear(bias, shape):
    def reference(p, x):
        return x @ p["weight"].T + p.get("bias", 0)

    check_layer(nn.Linear(4, 5, bias=bias), reference, draw(*shape))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_bilinear(bias, shape):
    def reference(p, a, b):
        return np.einsum("...i,oji,...j->...o", a, p["weight"], b) + p.get("bias", 0)

    check_layer(nn.Bilinear(3, 4, 5, bias=bias), reference, draw(*shape, 3), draw(*shape, 4))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_embedding(shape):
    indices = rng(1).integers(0, 7, shape).astype(np.int32)
    layer = nn.Embedding(7, 4)
    check_layer(layer, lambda p, i: p["weight"][i], indices)
    x = draw(2, 4)
    assert_close(layer.as_linear(mx.array(x)), x @ np.array(layer.weight).astype(np.float64).T, terms=4)


def test_embedding_sums_the_gradients_of_repeated_rows():
    layer = nn.Embedding(3, 2)
    _, grads = nn.value_and_grad(layer, lambda i: layer(i).sum())(mx.array([1, 1, 1, 2]))
    assert grads["weight"].tolist() == [[0.0, 0.0], [3.0, 3.0], [1.0, 1.0]]


def test_initial_values_fill_their_range():
    linear = nn.Linear(100, 400)
    for values in (linear.weight, linear.bias):
        assert mx.max(mx.abs(values)).item() <= 0.1
        # A uniform variable on +-b has deviation b / sqrt(3); n draws estimate it to about 0.45 / sqrt(n).
        spread = np.array(values).std() / (0.1 / np.sqrt(3))
        assert abs(spread - 1) < 5 * 0.45 / np.sqrt(values.size)
    table = np.array(nn.Embedding(400, 100).weight)
    assert abs(table.std() * 10 - 1) < 5 / np.sqrt(2 * table.size)
    assert abs(table.mean() * 10) < 5 / np.sqrt(table.size)
    assert not mx.array_equal(nn.Linear(4, 4).weight, nn.Linear(4, 4).weight).item()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.Linear(0, 3), ValueError, r"\[Linear\] input_dims must be at least 1, got 0"),
        (lambda: nn.Linear(3, -1), ValueError, r"\[Linear\] output_dims must be at least 1, got -1"),
        (lambda: nn.Linear(3, 2.0), TypeError, r"\[Linear\] output_dims must be an integer, got float"),
        (lambda: nn.Bilinear(3, 0, 2), ValueError, r"\[Bilinear\] input2_dims must be at least 1, got 0"),
        (lambda: nn.Embedding(0, 2), ValueError, r"\[Embedding\] num_embeddings must be at least 1, got 0"),
        (lambda: nn.Linear(4, 3)(mx.ones((2, 5))), ValueError, "5"),
        (lambda: nn.Bilinear(3, 4, 5)(mx.ones((2, 4)), mx.ones((2, 4))), ValueError, "4"),
        (lambda: nn.Embedding(4, 3)(mx.array([0.0])), (ValueError, TypeError, IndexError), "integ|dtype"),
        (lambda: nn.Dropout(1.0), ValueError, r"\[Dropout\] the probability p must be in \[0, 1\), got 1.0"),
        (lambda: nn.Dropout2d(-0.1), ValueError, r"\[Dropout2d\] .* got -0.1"),
        (
            lambda: nn.Dropout2d(0.5)(mx.ones((3, 4))),
            ValueError,
            r"\[Dropout2d\] .* 3 or 4 .* shape \(3, 4\)",
        ),
        (
            lambda: nn.Dropout3d(0.5)(mx.ones((3, 4))),
            ValueError,
            r"\[Dropout3d\] .* 4 or 5 .* shape \(3, 4\)",
        ),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        mx.eval(make())


def test_identity_and_sequential():
    x = mx.ones((2, 3))
    assert nn.Identity(1, "a", b=2)(x) is x
    double = nn.Sequential(nn.Identity(), lambda y: y + y)
    assert double(x).tolist() == [[2.0] * 3] * 2
    assert nn.Sequential()(x) is x

    def reference(p, y):
        hidden = np.tanh(y @ p["layers.0.weight"].T + p["layers.0.bias"])
        return hidden @ p["layers.2.weight"].T + p["layers.2.bias"]

    check_layer(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), reference, draw(4, 3))


@pytest.mark.parametrize("p", [0.0, 0.25, 0.9])
def test_dropout_keeps_the_mean(p):
    mx.random.seed(3)
    n = 20000
    y = np.array(nn.Dropout(p)(mx.ones((n,))))
    kept = np.float32(1 / (1 - p))
    assert np.isin(y, [0, kept]).all()
    assert abs((y != 0).mean() - (1 - p)) <= 5 * np.sqrt(p * (1 - p) / n)


def test_dropout_is_off_in_evaluation():
    x = mx.ones((10,))
    assert nn.Dropout(0.5).eval()(x) is x
    assert nn.Dropout(0.0)(x) is x


def test_dropout_lets_no_infinity_through_dropped_places():
    mx.random.seed(4)
    y = np.array(nn.Dropout(0.5)(mx.full((100,), float("inf"))))
    assert np.isin(y, [0, np.inf]).all()
    assert (y == 0).any()
    assert nn.Dropout(0.5)(mx.ones((4,), dtype=mx.float16)).dtype == mx.float16


@pytest.mark.parametrize(
    ("layer", "shape", "fixed"),
    [
        (nn.Dropout2d(0.5), (4, 3, 5, 16), (1, 2)),
        (nn.Dropout2d(0.5), (3, 5, 64), (0, 1)),
        (nn.Dropout3d(0.5), (4, 2, 3, 5, 16), (1, 2, 3)),
        (nn.Dropout3d(0.5), (2, 3, 5, 64), (0, 1, 2)),
    ],
)
def test_channel_dropout_drops_whole_channels(layer, shape, fixed):
    mx.random.seed(5)
    y = np.array(layer(mx.ones(shape)))
    assert (y.min(axis=fixed) == y.max(axis=fixed)).all()
    channels = y.max(axis=fixed)
    assert set(np.unique(channels)) == {0.0, 2.0}
