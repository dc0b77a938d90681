"""Normalization layers against their formulas in float64."""

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn
from nn.nn_reference import assert_close, check_layer, draw


def standardized(x, axes, eps):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def affine(p, y):
    return y * p.get("weight", 1) + p.get("bias", 0)


def varied(layer):
    """Give the parameters values other than the initial 1 and 0."""
    for name, value in layer.trainable_parameters().items():
        layer[name] = mx.array(draw(*value.shape, seed=len(name)))
    return layer


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6)])
def test_rms_norm(shape):
    def reference(p, x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * p["weight"]

    check_layer(varied(nn.RMSNorm(6, eps=1e-3)), reference, draw(*shape))


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6)])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"affine": False}])
def test_layer_norm(shape, options):
    layer = varied(nn.LayerNorm(6, eps=1e-3, **options))
    assert sorted(layer.parameters()) == {2: ["bias", "weight"], 1: ["weight"], 0: []}[len(layer)]
    check_layer(layer, lambda p, x: affine(p, standardized(x, -1, 1e-3)), draw(*shape))


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 3, 2, 4)])
@pytest.mark.parametrize("with_affine", [True, False])
def test_instance_norm(shape, with_affine):
    def reference(p, x):
        return affine(p, standardized(x, tuple(range(1, x.ndim - 1)), 1e-3))

    check_layer(varied(nn.InstanceNorm(4, eps=1e-3, affine=with_affine)), reference, draw(*shape))


@pytest.mark.parametrize("shape", [(3, 6), (2, 4, 6), (2, 2, 2, 6)])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("neighbours", [True, False])
def test_group_norm(shape, groups, neighbours):
    def reference(p, x):
        y = np.empty_like(x)
        for g in range(groups):
            channels = slice(g * 6 // groups, (g + 1) * 6 // groups) if neighbours else slice(g, None, groups)
            y[..., channels] = standardized(x[..., channels], tuple(range(1, x.ndim)), 1e-3)
        return affine(p, y)

    layer = nn.GroupNorm(groups, 6, eps=1e-3, pytorch_compatible=neighbours)
    check_layer(varied(layer), reference, draw(*shape), terms=32)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3), (2, 2, 3, 3)])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}])
def test_batch_norm_in_training(shape, options):
    def reference(p, x):
        return affine(p, standardized(x, tuple(range(x.ndim - 1)), 1e-3))

    check_layer(varied(nn.BatchNorm(3, eps=1e-3, **options)), reference, draw(*shape), terms=32)


def test_batch_norm_running_statistics():
    layer = nn.BatchNorm(3, momentum=0.2)
    mean, variance = np.zeros(3), np.ones(3)
    for seed in range(4):
        x = draw(4, 5, 3, seed=seed) * 2 + 1
        layer(mx.array(x))
        wide = x.astype(np.float64).reshape(-1, 3)
        mean = 0.8 * mean + 0.2 * wide.mean(0)
        variance = 0.8 * variance + 0.2 * wide.var(0, ddof=1)
    assert_close(layer.running_mean, mean, terms=20)
    assert_close(layer.running_var, variance, terms=20)

    layer.eval()
    x = draw(2, 3, seed=9)
    assert_close(layer(mx.array(x)), (x - mean) / np.sqrt(variance + 1e-5), terms=20)
    assert_close(layer.running_mean, mean, terms=20)
    assert sorted(layer.trainable_parameters()) == ["bias", "weight"]


def test_batch_norm_without_statistics_uses_the_batch_in_evaluation():
    layer = nn.BatchNorm(3, track_running_stats=False)
    assert sorted(layer.parameters()) == ["bias", "weight"]
    x = mx.array(draw(5, 3))
    in_training = layer(x)
    assert mx.array_equal(layer.eval()(x), in_training).item()


def test_statistics_follow_through_compile():
    layer, plain = nn.BatchNorm(3), nn.BatchNorm(3)
    call = mx.compile(lambda x: layer(x), inputs=layer.state, outputs=layer.state)
    for seed in range(3):
        x = mx.array(draw(4, 3, seed=seed))
        assert_close(call(x), np.array(plain(x)), terms=8)
    assert_close(layer.running_var, np.array(plain.running_var), terms=8)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.RMSNorm(0), r"\[RMSNorm\] dims must be at least 1, got 0"),
        (lambda: nn.RMSNorm(4)(mx.ones((2, 5))), "4|5"),
        (lambda: nn.LayerNorm(4)(mx.ones((2, 5))), "4|5"),
        (lambda: nn.LayerNorm(4, affine=False)(mx.ones((2, 5))), r"must have 4 entries, got shape \(2, 5\)"),
        (lambda: nn.InstanceNorm(4)(mx.ones((2, 4))), r"\[InstanceNorm\] .*at least 3 axes.*shape \(2, 4\)"),
        (lambda: nn.InstanceNorm(4)(mx.ones((2, 3, 1))), r"must have 4 entries, got shape \(2, 3, 1\)"),
        (lambda: nn.GroupNorm(3, 8), r"\[GroupNorm\] num_groups must divide dims, got 3 groups and 8 dims"),
        (lambda: nn.GroupNorm(2, 8)(mx.ones((8,))), r"\[GroupNorm\] .*at least 2 axes.*shape \(8,\)"),
        (lambda: nn.GroupNorm(2, 8)(mx.ones((2, 4))), r"must have 8 entries, got shape \(2, 4\)"),
        (lambda: nn.BatchNorm(4)(mx.ones((4,))), r"\[BatchNorm\] .*2, 3 or 4 axes, got shape \(4,\)"),
        (lambda: nn.BatchNorm(4)(mx.ones((2, 1))), r"must have 4 entries, got shape \(2, 1\)"),
        (lambda: nn.BatchNorm(4)(mx.ones((1, 4))), r"more than one value per channel, got shape \(1, 4\)"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        mx.eval(make())
