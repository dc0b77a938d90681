"""Sharded layers in a group of one are the plain layers; larger groups are refused."""

import lamina.core as mx
import pytest
from lamina import nn
from lamina.nn.layers.distributed import shard_inplace, shard_linear, sum_gradients
from lamina.nn.utils import average_gradients
from lamina.utils import tree_flatten


class Pair:
    """What a group of two would look like."""

    def size(self):
        return 2

    def rank(self):
        return 0


PLAIN = [nn.AllToShardedLinear, nn.ShardedToAllLinear]
PACKED = [nn.QuantizedAllToShardedLinear, nn.QuantizedShardedToAllLinear]


def same(a, b):
    return mx.array_equal(a, b).item()


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("bias", [True, False])
def test_like_linear(kind, bias):
    mx.random.seed(3)
    plain = nn.Linear(6, 4, bias)
    mx.random.seed(3)
    layer = kind(6, 4, bias, mx.distributed.init())
    x = mx.random.normal((5, 6))
    assert same(layer(x), plain(x))
    assert repr(layer) == repr(plain).replace("Linear", kind.__name__)
    assert dict(tree_flatten(layer.parameters())).keys() == dict(tree_flatten(plain.parameters())).keys()
    assert layer.group.size() == 1
    taken = kind.from_linear(plain, segments=2)
    assert same(taken(x), plain(x))
    got = nn.value_and_grad(taken, lambda v: taken(v).square().sum())(x)[1]
    want = nn.value_and_grad(plain, lambda v: plain(v).square().sum())(x)[1]
    assert all(same(got[name], want[name]) for name in want)


@pytest.mark.parametrize("kind", PACKED)
def test_like_quantized_linear(kind):
    plain = nn.QuantizedLinear(64, 8, bits=8)
    layer = kind.from_quantized_linear(plain, segments=[0.5])
    x = mx.random.normal((3, 64))
    assert same(layer(x), plain(x))
    assert layer.bits == 8
    assert layer.trainable_parameters() == {}
    assert layer.unfreeze() is layer
    assert layer.trainable_parameters() == {}
    new = kind(64, 8, False, 32, 4)
    assert new(x).shape == (3, 8)
    assert repr(new) == (
        f"{kind.__name__}(input_dims=64, output_dims=8, bias=False, group_size=32, bits=4, mode=affine)"
    )


def test_segments():
    layer = nn.Linear(6, 4)
    for segments in (3, 0, [5], [3, 1], [1.5]):
        with pytest.raises(ValueError, match=r"AllToShardedLinear: .*segments"):
            nn.AllToShardedLinear.from_linear(layer, segments=segments)
    assert same(nn.ShardedToAllLinear.from_linear(layer, segments=3).weight, layer.weight)
    assert same(nn.AllToShardedLinear.from_linear(layer, segments=[1, 2]).weight, layer.weight)
    packed = nn.QuantizedLinear(64, 8)
    with pytest.raises(ValueError, match="3 segments do not divide an axis of length 64"):
        nn.QuantizedShardedToAllLinear.from_quantized_linear(packed, segments=3)


def test_other_layers_are_refused():
    with pytest.raises(TypeError, match="AllToShardedLinear: wants a linear layer, got ReLU"):
        nn.AllToShardedLinear.from_linear(nn.ReLU())
    with pytest.raises(TypeError, match="wants a QuantizedLinear, got Linear"):
        nn.QuantizedAllToShardedLinear.from_quantized_linear(nn.Linear(2, 2))
    for call in (nn.fully_shard, nn.FullyShardedModule, lambda m: shard_inplace(m, "all-to-sharded")):
        with pytest.raises(TypeError, match="wants a Module, got int"):
            call(3)


CALLS = {
    "linear": lambda g: nn.AllToShardedLinear(4, 2, group=g),
    "from_linear": lambda g: nn.ShardedToAllLinear.from_linear(nn.Linear(4, 2), group=g),
    "quantized": lambda g: nn.QuantizedShardedToAllLinear(64, 8, group=g),
    "module": lambda g: nn.FullyShardedModule(nn.Linear(4, 2), g),
    "fully": lambda g: nn.fully_shard(nn.Linear(4, 2), group=g),
    "gradients": lambda g: nn.average_gradients({}, g),
    "sums": sum_gradients,
    "inplace": lambda g: shard_inplace(nn.Linear(4, 2), "all-to-sharded", group=g),
}


@pytest.mark.parametrize("name", CALLS)
def test_groups(name):
    CALLS[name](mx.distributed.init())
    with pytest.raises(NotImplementedError, match="groups of one process, got a group of 2"):
        CALLS[name](Pair())
    with pytest.raises(TypeError, match=r"group must be a mx.distributed.Group or None, got int"):
        CALLS[name](3)


def test_shard_linear():
    layer, packed = nn.Linear(64, 8), nn.QuantizedLinear(64, 8)
    assert type(shard_linear(layer, "all-to-sharded")) is nn.AllToShardedLinear
    assert type(shard_linear(layer, "sharded-to-all")) is nn.ShardedToAllLinear
    assert type(shard_linear(packed, "all-to-sharded")) is nn.QuantizedAllToShardedLinear
    assert type(shard_linear(packed, "sharded-to-all")) is nn.QuantizedShardedToAllLinear
    for call in (shard_linear, shard_inplace):
        with pytest.raises(ValueError, match="all-to-sharded, sharded-to-all, got 'rows'"):
            call(layer, "rows")
    before = layer.weight
    assert shard_inplace(layer, lambda path, weight: 0) is None
    assert layer.weight is before


def test_fully_sharded_module():
    inner = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert nn.fully_shard(inner, compute_dtype=mx.float16) is inner
    whole = nn.FullyShardedModule(inner)
    x = mx.random.normal((5, 4))
    assert same(whole(x), inner(x))
    assert "num_sharded_params=4" in repr(whole)
    half = nn.FullyShardedModule(inner, compute_dtype=mx.float16)
    assert half(x.astype(mx.float16)).dtype == mx.float16
    assert inner.layers[0].weight.dtype == mx.float32
    grads = nn.value_and_grad(half, lambda v: half(v).sum())(x)[1]
    assert {g.dtype for _, g in tree_flatten(grads)} == {mx.float32}
    assert grads["module"]["layers"][0]["weight"].shape == (3, 4)
    with pytest.raises(ValueError, match="inner dimensions"):
        half(mx.zeros((2, 9)))
    assert inner.layers[0].weight.dtype == mx.float32


def test_average_gradients():
    gradients = {"a": mx.ones(3), "b": [mx.zeros(2)]}
    assert nn.average_gradients(gradients, all_reduce_size=0) is gradients
    assert average_gradients is nn.average_gradients


def test_sum_gradients():
    through = sum_gradients(mx.distributed.init())
    x = mx.array([1.0, -2.0])
    assert mx.grad(lambda v: through(v).square().sum())(x).tolist() == [2.0, -4.0]
