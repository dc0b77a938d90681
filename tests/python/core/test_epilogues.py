"""Elementwise ops that run on the tiles of a product: the bits of both apart, whatever the kernel's path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.table_rows import EPS
from lamina import nn

Product = Callable[[], mx.array]
FUSED = "kernel with epilogue"


def values(*shape: int, seed: int = 0, dtype: Any = None) -> mx.array:
    a = mx.array(np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32))
    a = a if dtype is None else a.astype(dtype)
    mx.eval(a)
    return a


def explained(*arrays: mx.array) -> mx.Explanation:
    """What evaluating these together would run."""
    return mx.explain(lambda _: list(arrays), mx.zeros(1))


def kinds(*arrays: mx.array) -> list[str]:
    return [s["kind"] for s in explained(*arrays).steps if s["kind"] != "view"]


def same(got: mx.array, want: mx.array) -> None:
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    a, b = np.asarray(got), np.asarray(want)
    np.testing.assert_array_equal(a, b)
    assert a.tobytes() == b.tobytes()


def matmul(a: tuple[int, ...], b: tuple[int, ...], turned: bool = False) -> Product:
    x = values(*a)
    w = mx.swapaxes(values(*b[:-2], b[-1], b[-2], seed=1), -1, -2) if turned else values(*b, seed=1)
    mx.eval(w)
    return lambda: x @ w


def quantized(rows: tuple[int, ...], activations: str = "float", **fmt: Any) -> Product:
    x, parts = values(*rows, 128), mx.quantize(values(96, 128, seed=1), **fmt)
    mx.eval(parts)
    return lambda: mx.quantized_matmul(x, *parts, **fmt, activations=activations)


def convolution(x: tuple[int, ...], w: tuple[int, ...], **options: Any) -> Product:
    image, weight = values(*x), values(*w, seed=1)
    return lambda: mx.conv_general(image, weight, **options)


PRODUCTS: dict[str, Product] = {
    "one-row": matmul((1, 70), (70, 1300)),
    "one-row-columns": matmul((1, 70), (70, 1300), turned=True),
    "few-rows": matmul((5, 70), (70, 200)),
    "few-columns": matmul((300, 70), (70, 3)),
    "one-column": matmul((300, 70), (70, 1)),
    "panels": matmul((150, 300), (300, 270)),
    "deep": matmul((40, 9000), (9000, 33)),
    "tall": matmul((1500, 33), (33, 40), turned=True),
    "no-depth": matmul((6, 0), (0, 9)),
    "batch": matmul((6, 3, 4), (6, 4, 5)),
    "folded": matmul((2, 7, 30), (30, 40)),
    "spread": matmul((2, 3, 4, 5), (3, 5, 6)),
    "affine-one": quantized((1,), bits=4, group_size=32),
    "affine-few": quantized((3,), bits=4, group_size=32),
    "affine-many": quantized((60,), bits=3, group_size=32),
    "affine-batch": quantized((2, 20), bits=8, group_size=64),
    "int8-one": quantized((1,), "int8", bits=4, group_size=32),
    "int8-many": quantized((20,), "int8", bits=4, group_size=32),
    "mxfp4": quantized((2,), mode="mxfp4"),
    "mxfp8": quantized((50,), mode="mxfp8"),
    "conv": convolution((2, 20, 18, 24), (40, 3, 3, 24), padding=1),
    "conv-few": convolution((2, 30, 20, 5), (7, 3, 3, 5), padding=1),
    "conv-groups": convolution((1, 9, 9, 40), (60, 3, 3, 20), groups=2),
    "conv-pointwise": convolution((2, 7, 9, 20), (32, 1, 1, 5), groups=4),
    "conv-depthwise": convolution((2, 30, 20, 24), (24, 3, 3, 1), padding=1, groups=24),
    "conv-signal": convolution((3, 700, 1), (1, 5, 1), padding=2),
    "conv-phases": convolution((1, 9, 8, 6), (20, 3, 3, 6), padding=2, input_dilation=2),
    "conv-gaps": convolution((1, 9, 8, 6), (20, 1, 1, 6), input_dilation=3),
}


def layouts(shape: tuple[int, ...]) -> dict[str, mx.array]:
    """Operands that broadcast to a shape, in every layout."""
    row, turned = shape[-1], values(*shape[::-1], seed=4)
    out = {
        "row": values(row, seed=2),
        "column": values(*shape[:-1], 1, seed=3),
        "scalar": mx.array(0.75),
        "one": values(*[1] * len(shape), seed=9),
        "full": values(*shape, seed=5),
        "turned": mx.transpose(turned),
        "reversed": values(*shape, seed=6)[..., ::-1],
        "steps": values(*shape[:-1], 3 * row, seed=7)[..., 1::3],
        "outer": values(*shape[1:], seed=8),
    }
    mx.eval(list(out.values()))
    return out


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize(
    "layout", ["row", "column", "scalar", "one", "full", "turned", "reversed", "steps", "outer"]
)
def test_operands_of_every_layout(name: str, layout: str) -> None:
    product = PRODUCTS[name]
    other = layouts(product().shape)[layout]

    def epilogue(h: mx.array) -> mx.array:
        return mx.tanh(h * 0.25 + other) - other * h

    assert kinds(epilogue(product())) == [FUSED]
    apart = product()
    mx.eval(apart)
    same(epilogue(product()), epilogue(apart))


@pytest.mark.parametrize("name", PRODUCTS)
def test_several_outputs_dtypes_and_donation(name: str) -> None:
    """A residual that nobody else reads gives its memory to the sum: a tile applied twice would show."""
    product = PRODUCTS[name]
    shape = product().shape

    def run(h: mx.array) -> list[mx.array]:
        residual = values(*shape, seed=5) * 2.0
        mx.eval(residual)
        total = residual + h
        del residual
        active, positive = nn.gelu(total), total > 0
        return [total, active, positive, mx.where(positive, active, h).astype(mx.bfloat16)]

    outputs = run(product())
    assert kinds(*outputs) == [FUSED]
    mx.eval(outputs)
    apart = product()
    mx.eval(apart)
    for got, want in zip(outputs, run(apart), strict=True):
        same(got, want)


def test_the_operands_of_the_kernel_are_not_donated() -> None:
    w = values(64, 64, seed=1)
    for _ in range(3):
        x, same_x = values(300, 64), values(300, 64)
        y = x + x @ w
        del x
        assert kinds(y) == [FUSED]
        product = same_x @ w
        mx.eval(product)
        same(y, same_x + product)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["few", "panels", "quantized"])
def test_short_floats_are_rounded_once(name: str, dtype: str) -> None:
    """Against the product of the same numbers in float32: nothing is rounded before the result."""
    t = getattr(mx, dtype)
    x, w, b = values(90, 64, dtype=t), values(64, 48, seed=1, dtype=t), values(48, seed=2, dtype=t)
    parts = mx.quantize(values(48, 64, seed=1), group_size=32)
    products: dict[str, Callable[[Callable[[mx.array], mx.array]], mx.array]] = {
        "few": lambda to: to(x[:3]) @ to(w),
        "panels": lambda to: to(x) @ to(w),
        "quantized": lambda to: mx.quantized_matmul(
            to(x), parts[0], to(parts[1]), to(parts[2]), group_size=32
        ),
    }
    if name == "quantized":
        parts = [parts[0], parts[1].astype(t), parts[2].astype(t)]
        mx.eval(parts)
    product = products[name]
    got = nn.relu(product(lambda a: a) * b)
    assert got.dtype == t
    assert kinds(got)[-1] == FUSED
    exact = product(lambda a: a.astype(mx.float32))
    mx.eval(exact)
    same(got, nn.relu(exact * b.astype(mx.float32)).astype(t))


def test_a_cast_of_the_product_rounds_nothing_before_it() -> None:
    x, w = values(40, 64, dtype=mx.bfloat16), values(64, 48, seed=1, dtype=mx.bfloat16)
    got = (x @ w).astype(mx.float32)
    assert kinds(got) == [FUSED]
    same(got, x.astype(mx.float32) @ w.astype(mx.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["few-rows", "panels", "few-columns", "int8-many", "conv-depthwise"])
def test_holding_the_product_changes_no_bits(name: str, dtype: str) -> None:
    t = getattr(mx, dtype)
    bias = values(PRODUCTS[name]().shape[-1], seed=5).astype(t)
    x, w = values(30, 64, dtype=t), values(64, 50, seed=1, dtype=t)
    product = PRODUCTS[name] if t == mx.float32 else lambda: x @ w
    bias = bias if t == mx.float32 else values(50, seed=5, dtype=t)

    def run(h: mx.array) -> mx.array:
        return mx.sigmoid(h) * h + bias

    h = product()
    held = run(h)
    assert kinds(held, h) == [FUSED]
    mx.eval(held)
    alone = product()
    mx.eval(alone)
    same(h, alone)
    same(held, run(product()))


def refusals(*arrays: mx.array) -> list[str]:
    return [u["reason"] for u in explained(*arrays).unfused]


def test_what_takes_no_epilogue_says_why() -> None:
    x, w, v = values(5, 6), values(6, 7, seed=1), values(6, 7, seed=2)
    assert (
        refusals(mx.softmax(x @ w, axis=-1))[0] == "producer is a kernel: matmul, and the tape works on rows"
    )
    gate = mx.sigmoid(x @ w) * (x @ v)
    assert refusals(gate) == ["producer is a kernel: matmul, and the tape runs with another one"]
    assert sorted(kinds(gate)) == ["kernel", FUSED]
    double = mx.exp(x.astype(mx.float64) @ w.astype(mx.float64))
    assert refusals(double)[-1] == "producer is a kernel: matmul of float64, which takes no epilogue"
    h = x @ w
    two = [mx.exp(h).sum(0), mx.sin(h)]
    del h
    assert "producer is a kernel: matmul, whose consumers are in different tapes" in refusals(*two)
    h = x @ w
    both = [mx.exp(h), h.T @ x]
    del h
    assert "producer is a kernel: matmul, and another consumer is a view: transpose" in refusals(*both)
    wide = (x[:1] @ w) + values(5, 7)
    assert refusals(wide) == ["producer is a kernel: matmul, and the tape has another shape: (5, 7)"]


def test_the_reference_backend_fuses_nothing() -> None:
    x, w = values(5, 6), values(6, 7, seed=1)
    mx._set_backend("reference")
    try:
        assert kinds(mx.exp(x @ w)) == ["kernel", "tape"]
    finally:
        mx._set_backend("cpu")


def mlp(x: mx.array, weights: list[mx.array]) -> mx.array:
    a, b, c, d = weights
    return nn.gelu(x @ a + b) @ c + d


def test_gradients_are_those_of_float64() -> None:
    x = values(30, 20)
    weights = [values(20, 50, seed=1), values(50, seed=2), values(50, 7, seed=3), values(7, seed=4)]

    def loss(weights: list[mx.array], x: mx.array) -> mx.array:
        return (mlp(x, weights) ** 2).mean()

    got = mx.grad(loss)(weights, x)
    want = mx.grad(loss)([w.astype(mx.float64) for w in weights], x.astype(mx.float64))
    for g, w in zip(got, want, strict=True):
        exact = np.asarray(w)
        bound = 64 * EPS["float32"] * np.sqrt(30 * 50) * np.abs(exact).max()
        assert np.abs(np.asarray(g, np.float64) - exact).max() <= bound


def test_the_result_of_the_kernel_takes_no_memory() -> None:
    """Peaks of matmul, bias and activation: one result, not two."""
    x, w, b = values(512, 64), values(64, 2048, seed=1), values(2048, seed=2)
    result = 512 * 2048 * 4

    def peak(*, held: bool) -> int:
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        h = x @ w
        y = nn.relu(h + b)
        kept = h if held else None
        del h
        mx.eval(y)
        del kept
        return mx.get_peak_memory() - before

    assert peak(held=True) >= 2 * result
    assert peak(held=False) < result + result // 4


def test_operands_are_given_back_before_later_work() -> None:
    """The kernel runs where its operands are ready, though the tape's root comes last among the nodes."""
    x, w = values(256, 256), values(256, 256, seed=1)
    a = mx.exp(x) @ w
    late = mx.sort(mx.sin(x), axis=0)
    y = a + late
    del a, late
    names = [s["ops"] for s in explained(y).steps]
    assert names[-1] == ["matmul", "add"]
    a = mx.exp(x) @ w * 3.0
    late = mx.sort(mx.sin(a), axis=0)
    y = late + mx.sort(a, axis=1)
    del a, late
    assert ["matmul", "multiply", "sin"] in [s["ops"] for s in explained(y).steps]


def test_profiles_tell_of_it() -> None:
    x, w, b = values(8, 16), values(16, 4, seed=1), values(4, seed=2)
    with mx.profile() as p:
        mx.eval(mx.exp(x @ w + b))
    (event,) = [e for e in p.events if e.kind == FUSED]
    assert event.name == "matmul+add+exp"
    assert event.flops == 2 * 8 * 16 * 4 + 2 * 8 * 4
    assert event.bytes_read == 4 * (8 * 16 + 16 * 4 + 4)
    assert event.bytes_written == 4 * 8 * 4
