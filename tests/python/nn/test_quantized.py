"""Quantized layers: against the dequantized weights, and put into models."""

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn
from lamina.utils import tree_flatten
from nn.nn_reference import assert_close, draw, to_numpy

MODES = {"mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}


def dequantized(layer):
    biases = layer.biases if layer.mode == "affine" else None
    values = mx.dequantize(
        layer.weight, layer.scales, biases, layer.group_size, layer.bits, layer.mode, dtype=mx.float32
    )
    return to_numpy(values)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(bits, group_size, bias):
    linear = nn.Linear(256, 16, bias=bias)
    layer = linear.to_quantized(group_size, bits)
    assert isinstance(layer, nn.QuantizedLinear)
    assert layer.weight.dtype == mx.uint32
    assert layer.weight.shape == (16, 256 * bits // 32)
    assert layer.scales.shape == layer.biases.shape == (16, 256 // group_size)
    assert repr(layer) == (
        f"QuantizedLinear(input_dims=256, output_dims=16, bias={bias}, group_size={group_size}, bits={bits}, "
        "mode=affine)"
    )
    weight = dequantized(layer)
    # Round to nearest over 2**bits levels between a group's least and largest weight, at most 2 / 16 apart.
    step = (2 / 16) / (2**bits - 1)
    assert np.abs(weight - to_numpy(linear.weight)).max() <= step

    x = draw(3, 256)
    expected = x @ weight.T + (to_numpy(linear.bias) if bias else 0)
    assert_close(layer(mx.array(x)), expected, terms=256, magnitude=np.abs(x) @ np.abs(weight).T + 1)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_embedding(bits, shape):
    embedding = nn.Embedding(10, 64)
    layer = embedding.to_quantized(32, bits)
    assert repr(layer) == f"QuantizedEmbedding(10, 64, group_size=32, bits={bits}, mode=affine)"
    table = dequantized(layer)
    indices = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(np.int32)
    assert_close(layer(mx.array(indices)), table[indices])
    x = draw(2, 64)
    assert_close(layer.as_linear(mx.array(x)), x @ table.T, terms=64, magnitude=np.abs(x) @ np.abs(table).T)


@pytest.mark.parametrize("mode", MODES)
def test_floating_point_modes(mode):
    group_size, bits = MODES[mode]
    linear = nn.Linear(96, 16)
    layer = linear.to_quantized(mode=mode)
    assert (layer.group_size, layer.bits, layer.mode) == (group_size, bits, mode)
    assert repr(layer) == (
        f"QuantizedLinear(input_dims=96, output_dims=16, bias=True, group_size={group_size}, bits={bits}, "
        f"mode={mode})"
    )
    assert layer.scales.dtype == mx.uint8
    assert set(dict(tree_flatten(layer.parameters()))) == {"weight", "scales", "bias"}
    weight = dequantized(layer)
    # Half of the widest step is a third of a group's largest weight; its scale is off by a sixteenth at most.
    assert np.abs(weight - to_numpy(linear.weight)).max() <= np.abs(to_numpy(linear.weight)).max() * 0.4
    x = draw(3, 96)
    magnitude = np.abs(x) @ np.abs(weight).T + 1
    assert_close(layer(mx.array(x)), x @ weight.T + to_numpy(linear.bias), terms=96, magnitude=magnitude)

    embedding = nn.Embedding(10, 64).to_quantized(mode=mode)
    table = dequantized(embedding)
    got = embedding(mx.array([[1, 2], [9, 0]]))
    assert got.dtype == mx.bfloat16
    assert (
        np.abs(to_numpy(got.astype(mx.float32)) - table[[[1, 2], [9, 0]]]).max() <= np.abs(table).max() / 256
    )
    x = draw(2, 64)
    assert_close(
        embedding.as_linear(mx.array(x)), x @ table.T, terms=64, magnitude=np.abs(x) @ np.abs(table).T
    )


@pytest.mark.parametrize("mode", MODES)
def test_models_in_floating_point_modes(mode):
    m = model()
    nn.quantize(m, mode=mode)
    assert kinds(m) == ["QuantizedEmbedding", "QuantizedLinear", "ReLU", "QuantizedLinear", "RMSNorm"]
    assert m.layers[1].mode == mode
    assert m(mx.array([1, 2, 3])).shape == (3, 2)
    other = model()
    nn.quantize(other, mode=mode)
    other.update(m.parameters())
    assert mx.array_equal(m(mx.array([1])), other(mx.array([1]))).item()


def test_new_layers_are_frozen():
    assert nn.QuantizedLinear(64, 8).trainable_parameters() == {}
    assert nn.QuantizedEmbedding(10, 64).trainable_parameters() == {}
    layer = nn.QuantizedLinear.from_linear(nn.Linear(64, 8))
    assert list(layer.trainable_parameters()) == ["bias"]


def test_quantizing_uses_no_random_numbers():
    linear = nn.Linear(64, 8)
    mx.random.seed(3)
    expected = mx.random.uniform(shape=(4,)).tolist()
    mx.random.seed(3)
    linear.to_quantized()
    assert mx.random.uniform(shape=(4,)).tolist() == expected


def test_gradients_pass_through_to_the_input():
    layer = nn.QuantizedLinear(64, 8)
    weight = dequantized(layer)
    got = mx.grad(lambda x: layer(x).sum())(mx.array(draw(3, 64)))
    assert_close(got, np.broadcast_to(weight.sum(0), (3, 64)), terms=8, magnitude=np.abs(weight).sum(0).max())


def model():
    return nn.Sequential(nn.Embedding(10, 64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2), nn.RMSNorm(2))


def kinds(m):
    return [type(layer).__name__ for layer in m.layers]


def test_quantize_replaces_what_it_can():
    m = model()
    linear = m.layers[1]
    assert nn.quantize(m) is None
    assert kinds(m) == ["QuantizedEmbedding", "QuantizedLinear", "ReLU", "QuantizedLinear", "RMSNorm"]
    assert mx.array_equal(m.layers[1].weight, linear.to_quantized().weight).item()
    nn.quantize(m)
    assert kinds(m)[1] == "QuantizedLinear"


def test_quantize_by_predicate():
    m, paths = model(), []

    def predicate(path, layer):
        paths.append(path)
        if isinstance(layer, nn.Linear):
            return {"group_size": 32, "bits": 8} if path.endswith("1") else path.endswith("3")
        return False

    nn.quantize(m, bits=4, class_predicate=predicate)
    assert paths == [f"layers.{i}" for i in range(5)]
    assert kinds(m) == ["Embedding", "QuantizedLinear", "ReLU", "QuantizedLinear", "RMSNorm"]
    assert (m.layers[1].group_size, m.layers[1].bits) == (32, 8)
    assert (m.layers[3].group_size, m.layers[3].bits) == (64, 4)


def test_quantized_weights_file_round_trip(tmp_path):
    m, other = model(), model()
    nn.quantize(m)
    nn.quantize(other)
    path = str(tmp_path / "model.safetensors")
    m.save_weights(path)
    other.load_weights(path)
    tokens = mx.array([1, 2, 3])
    assert mx.array_equal(m(tokens), other(tokens)).item()
    assert "layers.1.scales" in [name for name, _ in tree_flatten(m.parameters())]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"class_predicate": lambda p, m: True},
            r"\[quantize\] 'layers.2' cannot be quantized: ReLU has no to_quan",
        ),
        ({"class_predicate": lambda p, m: 1.5}, r"must return a bool or a dict .* got float for 'layers.0'"),
        ({"mode": "gguf"}, "Invalid quantization mode 'gguf'. Valid modes are: affine"),
        ({"bits": 16}, r"\[quantize\] 'layers.0', Embedding\(10, 64\): .*16"),
        ({"group_size": 128}, r"\[quantize\] 'layers.0', Embedding\(10, 64\): .*128"),
    ],
)
def test_quantize_errors_leave_the_model_alone(options, text):
    m = model()
    with pytest.raises(ValueError, match=text):
        nn.quantize(m, **options)
    assert kinds(m) == ["Embedding", "Linear", "ReLU", "Linear", "RMSNorm"]


def test_layer_errors():
    with pytest.raises(ValueError, match=r"\[QuantizedLinear\] output_dims must be at least 1, got 0"):
        nn.QuantizedLinear(64, 0)
    with pytest.raises(ValueError, match=r"63|64"):
        mx.eval(nn.QuantizedLinear(64, 8)(mx.ones((2, 63))))
    with pytest.raises(ValueError, match="Quantized input is not supported for Embedding"):
        nn.Embedding(10, 64).to_quantized(quantize_input=True)
    with pytest.raises(ValueError, match="'nvfp4' and 'mxfp8' modes, got 'affine'"):
        nn.Linear(64, 8).to_quantized(quantize_input=True)
    with pytest.raises(NotImplementedError, match="does not support bias"):
        nn.Linear(64, 8).to_quantized(mode="nvfp4", quantize_input=True)


@pytest.mark.parametrize("mode", ["nvfp4", "mxfp8"])
def test_qqlinear_rounds_weights_and_inputs(mode):
    layer = nn.Linear(64, 8, bias=False).to_quantized(mode=mode, quantize_input=True)
    x = mx.array(draw(3, 64))

    def rounded(a):
        return to_numpy(mx.dequantize(*mx.quantize(a, mode=mode), mode=mode, dtype=mx.float32))

    want = rounded(x) @ rounded(layer.weight).T
    magnitude = np.abs(rounded(x)) @ np.abs(rounded(layer.weight)).T
    in_training = layer(x)
    assert_close(in_training, want, terms=64, magnitude=magnitude)
    slope = nn.value_and_grad(layer, lambda x: layer(x).sum())(x)[1]["weight"]
    assert_close(
        slope, np.broadcast_to(rounded(x).sum(0), (8, 64)), terms=3, magnitude=np.abs(rounded(x)).sum(0)
    )
    assert mx.array_equal(layer.eval()(x), in_training).item()
    m = nn.Sequential(nn.Linear(64, 8, bias=False))
    nn.quantize(m, mode=mode, quantize_input=True)
    assert kinds(m) == ["QQLinear"]


def test_qqlinear_switches_with_the_mode():
    linear = nn.Linear(64, 8, bias=False)
    layer = linear.to_quantized(mode="nvfp4", quantize_input=True)
    assert repr(layer) == "QQLinear(input_dims=64, output_dims=8, group_size=16, bits=4, mode=nvfp4)"
    assert layer.weight is linear.weight
    assert list(layer.trainable_parameters()) == ["weight"]
    before = repr(layer)
    packed, scales = mx.quantize(linear.weight, 16, 4, mode="nvfp4")
    assert nn.Sequential(layer).eval()
    assert mx.array_equal(layer.weight, packed).item()
    assert mx.array_equal(layer.scales, scales).item()
    assert repr(layer) == before
    layer.train()
    assert "scales" not in layer
    assert layer.weight.dtype == mx.float32
    # The 4-bit grid has relative steps of at most a third, the scales of an eighth.
    bound = np.abs(np.array(linear.weight)).max() / 3
    assert np.abs(np.array(layer.weight) - np.array(linear.weight)).max() <= bound
