"""Formats of matrices: encoders, exact moves between layouts, recipes, what layers see of a text."""

from __future__ import annotations

import lamina.core as mx
import lamina.nn as nn
import numpy as np
import pytest
from lamina.lm import ConfigError, DataError, LlamaConfig, build_model
from lamina.lm.layers import BlockLinear
from lamina.lm.models.switch import SwitchLinear
from lamina.lm.quantization import Format, Recipe, parse_format
from lamina.lm.quantization.affine import encode_affine, pack_codes
from lamina.lm.quantization.blocks import WRITTEN, encode_blocks
from lamina.lm.quantization.calibrate import cut_windows, input_squares, packable
from lamina.lm.quantization.exact import moved
from lamina.lm.quantization.layers import dense_weight, layer_in, stored_format
from lamina.lm.quantization.recipe import fitting, is_head, layer_costs, uniform_plan, widen

BITS = {"q4_0": 4, "q4_1": 4, "q5_0": 5, "q5_1": 5, "q8_0": 8} | {f"q{n}_k": n for n in (2, 3, 4, 5, 6)}
GROUP = {"q2_k": 16, "q3_k": 16, "q6_k": 16}
ROWS, COLUMNS = 16, 512


def weights(seed: int = 0, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, columns)) * rng.uniform(0.01, 1, (rows, 1))).astype(np.float32)


def decoded(w: np.ndarray, mode: str, importance: np.ndarray | None = None) -> np.ndarray:
    blocks = encode_blocks(mx.array(w), mode, None if importance is None else mx.array(importance))
    return np.asarray(mx.dequantize(blocks, mode=mode))


@pytest.mark.parametrize("mode", WRITTEN)
def test_blocks_are_near_the_weights(mode: str) -> None:
    w = weights()
    error = np.square(decoded(w, mode) - w)
    groups = w.reshape(ROWS, -1, GROUP.get(mode, 32))
    # Even steps over a group's range would be off by step / sqrt(12); fitted scales are better, and scales
    # that are rounded themselves, to 4 or 6 bits, worse.
    steps = (groups.max(axis=-1) - groups.min(axis=-1)) / ((1 << BITS[mode]) - 1)
    even = np.sqrt(np.mean(np.square(steps)) / 12)
    worse = {"q8_0": 2 * 128 / 127, "q2_k": 1.2}.get(mode, 1.05)
    assert np.sqrt(error.mean()) <= worse * even


def test_more_bits_are_nearer() -> None:
    w = weights(1)
    errors = [np.square(decoded(w, f"q{n}_k") - w).mean() for n in (2, 3, 4, 5, 6)]
    assert errors == sorted(errors, reverse=True)
    assert np.square(decoded(w, "q4_1") - w).mean() < np.square(decoded(w, "q4_0") - w).mean()


@pytest.mark.parametrize("mode", WRITTEN)
def test_rows_of_zeros_and_of_one_number(mode: str) -> None:
    w = np.zeros((3, 256), np.float32)
    assert not decoded(w, mode).any()
    w[1], w[2, 7] = -0.75, 1.5
    got = decoded(w, mode)
    step = 1.5 / ((1 << (BITS[mode] - 1)) - 1)
    assert np.abs(got - w).max() <= step
    assert not got[0].any()


def test_q8_0_rounds_as_the_reference() -> None:
    w = weights(2)
    blocks = np.asarray(encode_blocks(mx.array(w), "q8_0")).reshape(-1, 34)
    parts = w.reshape(-1, 32)
    scale = np.abs(parts).max(axis=1, keepdims=True) / np.float32(127)
    x = parts * (np.float32(1) / scale)
    wanted = np.where(x < 0, -1, 1) * np.floor(np.abs(x) + np.float32(0.5))
    np.testing.assert_array_equal(blocks[:, 2:].view(np.int8), wanted.astype(np.int8))
    np.testing.assert_array_equal(
        np.ascontiguousarray(blocks[:, :2]).view(np.float16), scale.astype(np.float16)
    )


@pytest.mark.parametrize("mode", [m for m in WRITTEN if m != "q8_0"])
def test_importance_is_heeded(mode: str) -> None:
    w, h = weights(3), np.ones(COLUMNS, np.float32)
    h[::4] = 100
    plain, heeded = (np.square(decoded(w, mode, i) - w) for i in (None, h))
    assert (heeded * h).sum() < (plain * h).sum()


def test_blocks_errors() -> None:
    with pytest.raises(ConfigError, match=r"'iq4_nl' cannot be written; supported: q4_0, .*q6_k"):
        encode_blocks(mx.ones((2, 256)), "iq4_nl")
    with pytest.raises(ConfigError, match="q4_k wants rows of whole blocks of 256, got rows of 128 weights"):
        encode_blocks(mx.ones((2, 128)), "q4_k")


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_affine_codes_are_a_stream_of_bits(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (3, 2, 64)).astype(np.uint8)
    packed = pack_codes(mx.array(codes), bits)
    unit = mx.ones((3, 2, 1))
    got = mx.dequantize(packed, unit, mx.zeros_like(unit), group_size=64, bits=bits)
    np.testing.assert_array_equal(np.asarray(got), codes)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_affine_scales_by_importance_beat_the_range(bits: int) -> None:
    w = mx.array(weights(4))
    h = np.random.default_rng(5).uniform(0, 4, COLUMNS).astype(np.float32) ** 2
    h[3] = 0

    def error(parts: tuple[mx.array, ...]) -> float:
        got = mx.dequantize(*parts, group_size=64, bits=bits)
        return (mx.square(got - w) * mx.array(h)).sum().item()

    assert error(encode_affine(w, 64, bits, mx.array(h))) < error(mx.quantize(w, 64, bits))
    half = encode_affine(w.astype(mx.bfloat16), 64, bits, mx.array(h))
    assert {p.dtype for p in half[1:]} == {mx.bfloat16}


def test_formats() -> None:
    assert parse_format("4") == Format("affine", 4, 64)
    assert parse_format("affine6g128") == Format("affine", 6, 128)
    assert parse_format("3", 32) == Format("affine", 3, 32)
    assert parse_format("MXFP4") == Format("mxfp4", 4, 32)
    assert parse_format("bf16") == Format("bfloat16")
    assert [parse_format(t).bits_per_weight for t in ("4", "8g32", "nvfp4", "q6_k", "f16")] == [
        4.5, 9.0, 4.5, 6.5625, 16.0,
    ]  # fmt: skip
    for text, message in [
        ("7", "bits of affine must be one of"),
        ("4g16", "group_size of affine must be one of"),
        ("q9_k", "format 'q9_k' is not supported; supported: affine, mxfp4"),
        ("", "format '' is not supported"),
    ]:
        with pytest.raises(ConfigError, match=message):
            parse_format(text)


@pytest.mark.parametrize("text", ["4", "2g32", "mxfp4", "mxfp8", "nvfp4", "q4_k", "q8_0", "float16"])
@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_layers_in_every_format(text: str, kind: str) -> None:
    format = parse_format(text)
    source = nn.Linear(256, 6) if kind == "linear" else nn.Embedding(6, 256)
    layer = layer_in(source, format)
    assert stored_format(layer) == format
    dense = dense_weight(layer, mx.float32)
    wanted = format.decode(format.encode(source.weight), mx.float32)
    np.testing.assert_array_equal(np.asarray(dense), np.asarray(wanted))
    x = mx.array(np.random.default_rng(0).standard_normal((3, 256)).astype(np.float32))
    y = np.asarray(layer(x) if kind == "linear" else layer.as_linear(x)).astype(np.float64)
    product = np.asarray(x).astype(np.float64) @ np.asarray(dense).astype(np.float64).T
    if kind == "linear":
        product += np.asarray(source.bias)
    size = np.abs(np.asarray(x)) @ np.abs(np.asarray(dense)).T + 1
    assert (np.abs(y - product) <= 8 * 2.0**-24 * np.sqrt(256) * size).all()
    if kind == "embedding":
        rows = layer(mx.array([4, 1])).astype(mx.float32)
        np.testing.assert_array_equal(np.asarray(rows), np.asarray(dense)[[4, 1]])
    again = layer_in(layer, Format("float32"))
    np.testing.assert_array_equal(np.asarray(again.weight), np.asarray(dense))


@pytest.mark.parametrize("text", ["4", "mxfp4", "q4_k", "q8_0", "bfloat16"])
def test_experts_in_every_format(text: str) -> None:
    format = parse_format(text)
    source = SwitchLinear(3, 256, 5, bias=True)
    layer = layer_in(source, format)
    assert stored_format(layer) == format
    dense = np.asarray(dense_weight(layer, mx.float32)).astype(np.float64)
    x = np.random.default_rng(0).standard_normal((4, 1, 256)).astype(np.float32)
    experts = np.array([2, 0, 0, 1])
    y = np.asarray(layer(mx.array(x), mx.array(experts)).astype(mx.float32))
    want = x.astype(np.float64) @ dense[experts].swapaxes(-1, -2)
    size = np.abs(x) @ np.abs(dense[experts]).swapaxes(-1, -2) + 1
    assert (np.abs(y - want) <= 8 * 2.0**-24 * np.sqrt(256) * size).all()
    again = layer_in(layer, Format("float32"))
    assert type(again) is SwitchLinear
    np.testing.assert_array_equal(np.asarray(again.weight), dense)


@pytest.mark.parametrize("mode", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_simple_blocks_and_affine_codes_are_one(mode: str) -> None:
    blocks = BlockLinear(encode_blocks(mx.array(weights(6)), mode), mode)
    affine = layer_in(blocks, Format("affine", BITS[mode], 32), dtype=mx.float16)
    assert type(affine) is nn.QuantizedLinear
    wanted = np.asarray(mx.dequantize(blocks.weight, mode=mode))
    np.testing.assert_array_equal(np.asarray(dense_weight(affine, mx.float32)), wanted)
    back = moved(affine, Format(mode), mx.float32)
    assert back is not None
    np.testing.assert_array_equal(np.asarray(back["weight"]), np.asarray(blocks.weight))
    # bfloat16 cannot hold these scales.
    assert moved(blocks, Format("affine", BITS[mode], 32), mx.bfloat16) is None


def test_moves_that_would_change_numbers_are_none() -> None:
    affine = nn.QuantizedLinear(64, 4, bits=4, group_size=64)
    assert moved(affine, Format("q4_0"), mx.float32) is None  # biases are not -8 scales
    assert moved(affine, Format("q4_1"), mx.float32) is None  # nor are scales float16
    affine.set_dtype(mx.float16)
    found = moved(affine, Format("q4_1"), mx.float32)
    assert found is not None
    wide = dense_weight(affine, mx.float32)
    got = mx.dequantize(found["weight"], mode="q4_1")
    np.testing.assert_array_equal(np.asarray(got), np.asarray(wide))
    assert moved(affine, Format("affine", 4, 32), mx.float32) is None
    assert moved(nn.Linear(64, 4), Format("q4_1"), mx.float32) is None


def test_rows_that_do_not_divide() -> None:
    assert fitting(Format("q4_k"), 512) == Format("q4_k")
    assert fitting(Format("q4_k"), 96) == Format("q5_0")
    assert fitting(Format("q2_k"), 96) == Format("q4_0")
    assert fitting(Format("q4_k"), 80) == Format("bfloat16")
    assert fitting(Format("affine", 4, 64), 96) == Format("bfloat16")


def test_recipes_are_checked() -> None:
    low, high = parse_format("4"), parse_format("8")
    with pytest.raises(ConfigError, match=r"affine 4 bits.* \(4.5 bits\) must be wider than .* \(8.5\)"):
        Recipe(high, low, 6)
    with pytest.raises(ConfigError, match=r"bits per weight must be from 4\.5 .* to 8\.5 .*, got 9"):
        Recipe(low, high, 9)
    assert Recipe(low, high, 5).needs_text
    assert not Recipe(low).needs_text


def test_the_wide_format_goes_where_it_buys_most() -> None:
    low, high = parse_format("4"), parse_format("8")
    plan = dict.fromkeys("abcd", low) | {"head": high}
    sizes = {"a": 100, "b": 100, "c": 100, "d": 100, "head": 100}
    costs = {"a": 0.1, "b": 0.5, "c": 0.3, "d": 0.0}
    got = widen(plan, sizes, costs, Recipe(low, high, 4.5 + 0.8 + 1.6))
    assert {p for p, f in got.items() if f == high} == {"b", "c", "head"}
    assert widen(plan, sizes, costs, Recipe(low, high, 4.5)) == plan
    # A small layer is cheap.
    sizes["a"] = 10
    got = widen(plan, sizes, costs, Recipe(low, high, 4.5 + 1.2))
    assert got["a"] == high


def tiny() -> nn.Module:
    config = LlamaConfig(64, 2, 4, 128, 50, tie_word_embeddings=True, max_position_embeddings=32)
    return build_model(config)


def test_what_layers_see() -> None:
    model = tiny()
    windows = np.random.default_rng(0).integers(0, 50, (3, 8)).astype(np.int32)
    seen: list[int] = []
    squares = input_squares(model, windows, seen.append)
    assert squares.keys() == packable(model).keys()
    assert len(squares) == 15
    assert seen == [8, 8, 8]
    layer = model.model.layers[0]
    x = np.asarray(layer.input_layernorm(model.model.embed_tokens(mx.array(windows)))).astype(np.float64)
    want = np.square(x).mean(axis=(0, 1))
    np.testing.assert_allclose(np.asarray(squares["model.layers.0.self_attn.q_proj"]), want, rtol=2.0**-18)
    # The tied embedding is seen as the head that it is.
    hidden = np.asarray(model.hidden(mx.array(windows))).astype(np.float64)
    want = np.square(hidden).mean(axis=(0, 1))
    np.testing.assert_allclose(np.asarray(squares["model.embed_tokens"]), want, rtol=2.0**-18)
    assert type(layer.self_attn.q_proj) is nn.Linear
    assert type(model.model.embed_tokens) is nn.Embedding


def test_layers_are_as_before_after_an_error() -> None:
    model = tiny()
    mx.eval(model.parameters())
    with pytest.raises(IndexError, match="index 99 is out of bounds for axis 0 of length 50"):
        input_squares(model, np.array([[1, 99]], np.int32))
    assert type(model.model.layers[0].self_attn.q_proj) is nn.Linear
    with pytest.raises(DataError, match="no text to calibrate on"):
        input_squares(model, np.zeros((0, 4), np.int32))


def test_windows() -> None:
    ids = np.arange(100)
    assert cut_windows(ids, 32, 8).shape == (3, 32)
    assert cut_windows(ids, 512, 8).shape == (1, 100)
    assert cut_windows(ids, 10, 2)[:, 0].tolist() == [0, 90]
    with pytest.raises(DataError, match="at least two tokens, got 1"):
        cut_windows(ids[:1], 10, 2)


def test_costs_of_layers() -> None:
    model = tiny()
    windows = np.random.default_rng(1).integers(0, 50, (2, 8)).astype(np.int32)
    modules = packable(model)
    recipe = Recipe(parse_format("2g32"), head=parse_format("8g32"))
    plan = uniform_plan(modules, recipe)
    assert plan["model.embed_tokens"] == parse_format("8g32")
    before = np.asarray(model(mx.array(windows)))
    lines: list[str] = []
    costs = layer_costs(model, windows, plan, lambda p, f: layer_in(modules[p], f), list(plan), lines.append)
    assert costs.keys() == plan.keys()
    assert len(lines) == len(plan)
    assert min(costs.values()) >= 0
    assert max(costs.values()) > 0
    # The model is as it was.
    np.testing.assert_array_equal(np.asarray(model(mx.array(windows))), before)
    assert is_head("model.embed_tokens")
    assert not is_head("model.layers.0.mlp.up_proj")
