"""The Llama model against the NumPy float64 oracle."""

from __future__ import annotations

import dataclasses

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import KVCache, LlamaConfig, LMError, Quantization, build_model, quantize
from lamina.lm.config import RopeScaling
from lamina.lm.generate import prefill
from lamina.lm.io import fit_weights
from lamina.utils import tree_flatten
from lm.llama_reference import dequantize, forward, logit_tolerance, random_weights

BASE = LlamaConfig(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=128,
    vocab_size=97,
    max_position_embeddings=512,
    tie_word_embeddings=True,
)
VARIANTS = {
    "tied, grouped": BASE,
    "untied": dataclasses.replace(BASE, tie_word_embeddings=False),
    "one kv head": dataclasses.replace(BASE, num_key_value_heads=1),
    "as many kv heads": dataclasses.replace(BASE, num_key_value_heads=4),
    "own head_dim": dataclasses.replace(BASE, head_dim=32),
    "biases, other constants": dataclasses.replace(
        BASE, attention_bias=True, rms_norm_eps=1e-3, rope_theta=500.0
    ),
    "linear rope": dataclasses.replace(BASE, rope_scaling=RopeScaling("linear", 4.0)),
    "llama3 rope": dataclasses.replace(BASE, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 64)),
}


def make(config: LlamaConfig, seed: int = 0):
    weights = random_weights(config, seed)
    model = build_model(config)
    fit_weights(model, {k: mx.array(v) for k, v in weights.items()})
    return model, weights


def tokens_for(config: LlamaConfig, batch: int, length: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, config.vocab_size, (batch, length))


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_equal_the_reference(name):
    config = VARIANTS[name]
    model, weights = make(config)
    tokens = tokens_for(config, 2, 70)
    wanted, hidden = forward(config, weights, tokens)
    got = np.array(model(mx.array(tokens)))
    assert got.shape == (2, 70, config.vocab_size)
    assert np.abs(got - wanted).max() <= logit_tolerance(config, weights, hidden, 70)


def test_the_tolerance_sees_a_small_mistake():
    config = BASE
    model, weights = make(config)
    tokens = tokens_for(config, 1, 40)
    _, hidden = forward(config, weights, tokens)
    wrong, _ = forward(dataclasses.replace(config, rope_theta=10050.0), weights, tokens)
    assert np.abs(np.array(model(mx.array(tokens))) - wrong).max() > logit_tolerance(
        config, weights, hidden, 40
    )


@pytest.mark.parametrize("name", ["tied, grouped", "llama3 rope", "one kv head"])
def test_decoding_one_by_one_equals_the_whole(name):
    config = VARIANTS[name]
    model, weights = make(config)
    tokens = tokens_for(config, 2, 20)
    wanted, hidden = forward(config, weights, tokens)
    cache = model.make_cache()
    rows = [np.array(model(mx.array(tokens[:, i : i + 1]), cache)) for i in range(20)]
    got = np.concatenate(rows, axis=1)
    assert np.abs(got - wanted).max() <= logit_tolerance(config, weights, hidden, 20)


@pytest.mark.parametrize("step", [1, 7, 16, 50, 64])
def test_prefill_in_chunks_equals_the_whole(step):
    model, weights = make(BASE)
    tokens = tokens_for(BASE, 1, 50)
    wanted, hidden = forward(BASE, weights, tokens)
    cache = model.make_cache()
    got = np.array(prefill(model, tokens[0].tolist(), cache, step))
    assert got.shape == (1, BASE.vocab_size)
    assert np.abs(got - wanted[:, -1]).max() <= logit_tolerance(BASE, weights, hidden, 50)
    assert all(c.offset == 50 for c in cache)


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 64), (8, 64)])
@pytest.mark.parametrize("tied", [True, False])
def test_quantized_logits_equal_the_dequantized_reference(bits, group, tied):
    config = dataclasses.replace(BASE, tie_word_embeddings=tied)
    model, _ = make(config)
    quantize(model, Quantization(group, bits))
    stored = {k: np.array(v) for k, v in tree_flatten(model.parameters())}
    weights = {}
    for name, value in stored.items():
        if name.endswith(".weight") and name[:-7] + ".scales" in stored:
            base = name[:-7]
            weights[name] = dequantize(value, stored[base + ".scales"], stored[base + ".biases"], bits)
        elif name.endswith("norm.weight"):
            weights[name] = value
    tokens = tokens_for(config, 2, 24)
    wanted, hidden = forward(config, weights, tokens)
    got = np.array(model(mx.array(tokens)))
    assert np.abs(got - wanted).max() <= logit_tolerance(config, weights, hidden, 24)
    assert model.config.quantization == Quantization(group, bits)


def test_parameter_names_are_those_of_hugging_face():
    for config in VARIANTS.values():
        model = build_model(config)
        ours = {k: tuple(v.shape) for k, v in tree_flatten(model.parameters())}
        assert ours == {k: v.shape for k, v in random_weights(config, 0).items()}


class TestCache:
    def test_grows_in_steps_and_keeps_what_it_holds(self):
        rng = np.random.default_rng(0)
        cache, seen, sizes = KVCache(step=8), [], []
        for length in (3, 5, 1, 1, 9, 8, 20):
            new = rng.standard_normal((1, 2, length, 4)).astype(np.float32)
            seen.append(new)
            keys, values = cache.update(mx.array(new), mx.array(-new))
            wanted = np.concatenate(seen, axis=2)
            np.testing.assert_array_equal(np.array(keys), wanted)
            np.testing.assert_array_equal(np.array(values), -wanted)
            sizes.append(cache.capacity)
        assert sizes == [8, 8, 16, 16, 24, 32, 48]
        assert cache.offset == 47

    def test_capacity_is_there_from_the_start(self):
        cache = KVCache(capacity=100, step=64)
        assert cache.capacity == 0
        assert cache.state == []
        for _ in range(100):
            cache.update(mx.ones((1, 1, 1, 2)), mx.ones((1, 1, 1, 2)))
            assert cache.capacity == 128
        assert [a.shape for a in cache.state] == [(1, 1, 128, 2)] * 2

    def test_other_shapes_are_refused(self):
        cache = KVCache()
        cache.update(mx.ones((1, 2, 3, 4)), mx.ones((1, 2, 3, 4)))
        with pytest.raises(LMError, match=r"wanted keys of shape \(1, 2, L, 4\), got \(2, 2, 1, 4\)"):
            cache.update(mx.ones((2, 2, 1, 4)), mx.ones((2, 2, 1, 4)))
        assert cache.offset == 3
        with pytest.raises(LMError, match="step must be positive"):
            KVCache(step=0)
