"""Positional encodings, attention and the transformer."""

import math

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn
from lamina.utils import tree_flatten
from nn.nn_reference import assert_close, check_layer, draw, needs


def rotated(x, dims, traditional=False, base=10000.0, scale=1.0, offset=0):
    half = dims // 2
    frequency = base ** (-np.arange(half) / half)
    angle = (np.arange(x.shape[-2])[:, None] + offset) * scale * frequency
    first, second = (
        (slice(0, dims, 2), slice(1, dims, 2)) if traditional else (slice(half), slice(half, dims))
    )
    y = x.copy()
    y[..., first] = x[..., first] * np.cos(angle) - x[..., second] * np.sin(angle)
    y[..., second] = x[..., first] * np.sin(angle) + x[..., second] * np.cos(angle)
    return y


@pytest.mark.parametrize("traditional", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 8), (2, 2, 3, 8)])
@pytest.mark.parametrize("options", [{}, {"base": 100.0}, {"scale": 0.25}])
def test_rope(traditional, shape, options):
    layer = nn.RoPE(6, traditional=traditional, **options)
    check_layer(layer, lambda p, x: rotated(x, 6, traditional, **options), draw(*shape), terms=32)
    x = draw(*shape)
    expected = rotated(x.astype(np.float64), 6, traditional, offset=5, **options)
    assert_close(layer(mx.array(x), offset=5), expected, terms=64)
    assert layer.parameters() == {}


def test_rope_scores_depend_on_the_distance_only():
    q, k = mx.array(draw(1, 1, 16, seed=1)), mx.array(draw(1, 1, 16, seed=2))
    rope = nn.RoPE(16)
    near = (rope(q, offset=3) * rope(k, offset=1)).sum()
    far = (rope(q, offset=13) * rope(k, offset=11)).sum()
    assert_close(near, far.item(), terms=64, magnitude=16)


@pytest.mark.parametrize("cos_first", [False, True])
@pytest.mark.parametrize("full_turns", [False, True])
def test_sinusoidal_encoding(cos_first, full_turns):
    layer = nn.SinusoidalPositionalEncoding(8, 0.01, 0.5, cos_first=cos_first, full_turns=full_turns)
    frequency = 0.5 * (0.01 / 0.5) ** (np.arange(4) / 3) * (2 * math.pi if full_turns else 1)
    position = np.array([[0.0, 1.0, 5.0]])
    angle = position[..., None] * frequency
    halves = [np.cos(angle), np.sin(angle)] if cos_first else [np.sin(angle), np.cos(angle)]
    expected = np.concatenate(halves, -1) / 2
    got = layer(mx.array(position.astype(np.float32)))
    assert_close(got, expected, terms=4, magnitude=1 + np.abs(angle).max())
    assert layer.parameters() == {}
    assert_close((got * got).sum(-1), np.ones((1, 3)), terms=16)
    fixed = nn.SinusoidalPositionalEncoding(2, scale=1.0)(mx.array([2]))
    assert_close(fixed, [[math.sin(2), math.cos(2)]], terms=2)


@pytest.mark.parametrize("heads", [1, 4, 6, 12])
def test_alibi(heads):
    slopes = np.array(nn.ALiBi.create_alibi_slope(heads)).ravel()
    power = 2 ** int(math.log2(heads))
    expected = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    expected += [2 ** (-8 * (i + 1) / (2 * power)) for i in range(2 * power)][0::2][: heads - power]
    assert slopes.tolist() == pytest.approx(expected, rel=1e-6)
    scores, mask = draw(2, heads, 3, 5), draw(3, 5, seed=4)
    distance = np.abs(np.arange(2, 5)[:, None] - np.arange(5))
    want = scores - slopes[:, None, None].astype(np.float64) * distance + mask
    assert_close(nn.ALiBi()(mx.array(scores), offset=2, mask=mx.array(mask)), want, terms=2)
    assert nn.ALiBi()(mx.array(scores).astype(mx.float16)).dtype == mx.float16


def attend(p, q, k, v, heads, mask=0.0, prefix=""):
    def project(name, x):
        return x @ p[f"{prefix}{name}.weight"].T + p.get(f"{prefix}{name}.bias", 0)

    def split(x):
        return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)

    q, k, v = split(project("query_proj", q)), split(project("key_proj", k)), split(project("value_proj", v))
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]) + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    y = (weights / weights.sum(-1, keepdims=True)) @ v
    return project("out_proj", y.swapaxes(1, 2).reshape(*y.shape[:1], y.shape[2], -1))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": True},
        {"key_input_dims": 3, "value_input_dims": 5, "value_dims": 6, "value_output_dims": 7},
    ],
)
def test_multi_head_attention(heads, options):
    layer = nn.MultiHeadAttention(4, heads, **options)
    k_dims = options.get("key_input_dims", 4)
    inputs = draw(2, 3, 4, seed=1), draw(2, 2, k_dims, seed=2), draw(2, 2, options.get("value_input_dims", 4))
    check_layer(layer, lambda p, *x: attend(p, *x, heads), *inputs, terms=32)


def test_attention_masks():
    layer, x = nn.MultiHeadAttention(4, 2), mx.array(draw(2, 5, 4))
    additive = layer.create_additive_causal_mask(5)
    assert additive.dtype == mx.float32
    assert (np.array(additive)[np.tril_indices(5)] == 0).all()
    assert (np.array(additive)[np.triu_indices(5, 1)] == np.finfo(np.float32).min).all()
    assert layer.create_additive_causal_mask(2, mx.float16)[0, 1].item() == np.finfo(np.float16).min
    masked = layer(x, x, x, additive)
    for mask in ("causal", mx.tril(mx.ones((5, 5))) > 0):
        assert_close(layer(x, x, x, mask), np.array(masked), terms=16)
    # Under a causal mask, what comes later changes nothing before.
    shorter = layer(x[:, :3], x[:, :3], x[:, :3], additive[:3, :3])
    assert_close(shorter, np.array(masked)[:, :3], terms=16)


def norm(p, name, x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p[
        f"{name}.weight"
    ] + p[f"{name}.bias"]


def feed_forward(p, prefix, x):
    # A smooth activation: finite differences across the kink of the default one would be wrong.
    hidden = np.tanh(x @ p[f"{prefix}linear1.weight"].T + p[f"{prefix}linear1.bias"])
    return hidden @ p[f"{prefix}linear2.weight"].T + p[f"{prefix}linear2.bias"]


def encoder_layer(p, prefix, x, norm_first, mask=0.0):
    if norm_first:
        y = norm(p, f"{prefix}ln1", x)
        x = x + attend(p, y, y, y, 2, mask, f"{prefix}attention.")
        return x + feed_forward(p, prefix, norm(p, f"{prefix}ln2", x))
    x = norm(p, f"{prefix}ln1", x + attend(p, x, x, x, 2, mask, f"{prefix}attention."))
    return norm(p, f"{prefix}ln2", x + feed_forward(p, prefix, x))


def decoder_layer(p, prefix, x, memory, norm_first, mask=0.0):
    if norm_first:
        y = norm(p, f"{prefix}ln1", x)
        x = x + attend(p, y, y, y, 2, mask, f"{prefix}self_attention.")
        y = norm(p, f"{prefix}ln2", x)
        x = x + attend(p, y, memory, memory, 2, 0.0, f"{prefix}cross_attention.")
        return x + feed_forward(p, prefix, norm(p, f"{prefix}ln3", x))
    x = norm(p, f"{prefix}ln1", x + attend(p, x, x, x, 2, mask, f"{prefix}self_attention."))
    x = norm(p, f"{prefix}ln2", x + attend(p, x, memory, memory, 2, 0.0, f"{prefix}cross_attention."))
    return norm(p, f"{prefix}ln3", x + feed_forward(p, prefix, x))


class Masked(nn.Module):
    """Calls a model with fixed masks, which take part in no gradient."""

    def __init__(self, model, *masks):
        super().__init__()
        self.model = model
        self.call = lambda *x: self.model(*x, *masks)

    def __call__(self, *x):
        return self.call(*x)


def without_prefix(reference):
    return lambda p, *x: reference({name.removeprefix("model."): value for name, value in p.items()}, *x)


CAUSAL = np.triu(np.full((3, 3), -1e9), 1)


@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_encoder(norm_first):
    model = nn.TransformerEncoder(2, 4, 2, mlp_dims=5, activation=nn.tanh, norm_first=norm_first)

    def reference(p, x):
        for i in range(2):
            x = encoder_layer(p, f"layers.{i}.", x, norm_first, CAUSAL)
        return norm(p, "ln", x)

    masked = Masked(model, model.layers[0].attention.create_additive_causal_mask(3))
    check_layer(masked, without_prefix(reference), draw(2, 3, 4), terms=256)


@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer(norm_first):
    model = nn.Transformer(4, 2, 1, 1, mlp_dims=5, activation=nn.tanh, norm_first=norm_first)

    def reference(p, source, target):
        memory = norm(p, "encoder.ln", encoder_layer(p, "encoder.layers.0.", source, norm_first))
        y = decoder_layer(p, "decoder.layers.0.", target, memory, norm_first, CAUSAL)
        return norm(p, "decoder.ln", y)

    masked = Masked(model, None, mx.array(CAUSAL.astype(np.float32)), None)
    check_layer(masked, without_prefix(reference), draw(2, 2, 4, seed=1), draw(2, 3, 4), terms=512)


def test_transformer_options():
    encoder = nn.Identity()
    model = nn.Transformer(
        4, 2, 1, 1, custom_encoder=lambda x, mask: encoder(x), custom_decoder=nn.Identity()
    )
    assert isinstance(model.decoder, nn.Identity)
    layer = nn.TransformerEncoderLayer(4, 2, activation=nn.gelu, dropout=0.5)
    assert layer.linear1.weight.shape == (16, 4)
    assert layer.activation is nn.gelu
    x = mx.array(draw(2, 3, 4))
    assert not mx.array_equal(layer(x, None), layer(x, None)).item()
    layer.eval()
    assert mx.array_equal(layer(x, None), layer(x, None)).item()


@needs("checkpoint")
def test_recomputed_layers_give_the_same_gradients():
    plain = nn.TransformerEncoder(2, 4, 2, mlp_dims=5)
    recomputed = nn.TransformerEncoder(2, 4, 2, mlp_dims=5, checkpoint=True)
    recomputed.update(plain.parameters())
    x = mx.array(draw(2, 3, 4))
    results = [nn.value_and_grad(m, lambda y, m=m: m(y, None).sum())(x) for m in (plain, recomputed)]
    assert_close(results[1][0], results[0][0].item(), magnitude=24)
    for (name, a), (_, b) in zip(tree_flatten(results[0][1]), tree_flatten(results[1][1]), strict=True):
        assert_close(b, np.array(a), terms=8, magnitude=1 + np.abs(np.array(a)).max()), name


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.RoPE(5), r"\[RoPE\] dims must be even, got 5"),
        (lambda: nn.RoPE(16)(mx.ones((1, 3, 8))), "16"),
        (lambda: nn.SinusoidalPositionalEncoding(7), "dims must be even, got 7"),
        (lambda: nn.MultiHeadAttention(10, 3), "num_heads must divide dims, got 3 and 10"),
        (lambda: nn.MultiHeadAttention(8, 2, value_dims=5), "num_heads must divide value_dims, got 2 and 5"),
        (
            lambda: nn.MultiHeadAttention(8, 2)(*[mx.ones((3, 8))] * 3),
            r"queries must have 3 axes, got shape \(3, 8\)",
        ),
        (
            lambda: nn.MultiHeadAttention(8, 2)(mx.ones((1, 3, 8)), mx.ones((1, 4, 8)), mx.ones((1, 3, 8))),
            r"keys and values must agree .* \(1, 4, 8\) and \(1, 3, 8\)",
        ),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        mx.eval(make())
