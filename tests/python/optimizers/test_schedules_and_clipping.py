"""Schedules, gradient clipping and MultiOptimizer."""

import math

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn, optimizers
from lamina.utils import tree_flatten

CASES = {
    "exponential": (optimizers.exponential_decay(0.5, 0.75), lambda t: 0.5 * 0.75**t),
    "step": (optimizers.step_decay(0.5, 0.75, 4), lambda t: 0.5 * 0.75 ** (t // 4)),
    "cosine": (optimizers.cosine_decay(0.5, 8), lambda t: 0.25 * (1 + math.cos(math.pi * min(t, 8) / 8))),
    "cosine end": (
        optimizers.cosine_decay(0.5, 8, 0.125),
        lambda t: 0.125 + 0.375 * 0.5 * (1 + math.cos(math.pi * min(t, 8) / 8)),
    ),
    "linear": (optimizers.linear_schedule(0.25, 0.75, 8), lambda t: 0.25 + 0.5 * min(t, 8) / 8),
    "joined": (
        optimizers.join_schedules(
            [
                optimizers.linear_schedule(0.0, 0.5, 4),
                optimizers.cosine_decay(0.5, 4),
                optimizers.exponential_decay(0.25, 0.5),
            ],
            [4, 8],
        ),
        lambda t: (
            t / 8
            if t < 4
            else 0.25 * (1 + math.cos(math.pi * (t - 4) / 4))
            if t < 8
            else 0.25 * 0.5 ** (t - 8)
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "number", [int, mx.array, lambda t: mx.array(t, mx.uint64)], ids=["int", "int32", "uint64"]
)
def test_schedules(case, number):
    schedule, reference = CASES[case]
    for t in range(13):
        value = schedule(number(t))
        value = value.item() if isinstance(value, mx.array) else value
        assert value == pytest.approx(reference(t), rel=1e-5, abs=1e-7), t


@pytest.mark.parametrize("case", CASES)
def test_schedules_drive_an_optimizer(case):
    schedule, reference = CASES[case]
    optimizer, w = optimizers.SGD(schedule), mx.array([0.0])
    for t in range(10):
        w = optimizer.apply_gradients({"w": mx.array([1.0])}, {"w": w})["w"]
        assert optimizer.learning_rate.item() == pytest.approx(reference(t), rel=1e-5, abs=1e-7)
    assert w.item() == pytest.approx(-sum(reference(t) for t in range(10)), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: optimizers.linear_schedule(0, 1, 0),
            r"\[linear_schedule\] steps must be greater than 0, got 0",
        ),
        (
            lambda: optimizers.cosine_decay(1, -1),
            r"\[cosine_decay\] decay_steps must be greater than 0, got -1",
        ),
        (lambda: optimizers.step_decay(1, 0.5, 0), r"\[step_decay\] step_size must be greater than 0, got 0"),
        (lambda: optimizers.join_schedules([], []), "at least one schedule is needed, got none"),
        (lambda: optimizers.join_schedules([math.sin], [3]), "1 schedules need 0 boundaries, got 1"),
        (
            lambda: optimizers.clip_grad_norm({}, -1.0),
            r"\[clip_grad_norm\] max_norm must be at least 0, got -1.0",
        ),
        (lambda: optimizers.clip_grad_norm({}, float("nan")), "max_norm must be at least 0, got nan"),
        (lambda: optimizers.MultiOptimizer([optimizers.SGD(1)], [len]), "got 1 optimizers and 1 filters"),
        (lambda: optimizers.MultiOptimizer([]), "got 0 optimizers and 0 filters"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_clipping():
    grads = {"a": mx.array([3.0, 4.0]), "b": [mx.array([[12.0]]), {}]}
    clipped, norm = optimizers.clip_grad_norm(grads, 6.5)
    assert norm.item() == 13.0
    assert clipped["a"].tolist() == pytest.approx([1.5, 2.0], rel=1e-6)
    assert clipped["b"][0].item() == pytest.approx(6.0, rel=1e-6)
    assert clipped["b"][1] == {}
    untouched, norm = optimizers.clip_grad_norm(grads, 20.0)
    assert untouched["a"].tolist() == [3.0, 4.0]
    assert norm.item() == 13.0
    assert optimizers.clip_grad_norm({}, 1.0)[1].item() == 0.0
    zero, norm = optimizers.clip_grad_norm({"a": mx.zeros((2,))}, 0.0)
    assert zero["a"].tolist() == [0.0, 0.0]
    assert norm.item() == 0.0


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_clipping_in_16_bits_does_not_overflow(dtype):
    clipped, norm = optimizers.clip_grad_norm({"a": mx.array([3072.0, 4096.0]).astype(dtype)}, 5.0)
    assert norm.dtype == mx.float32
    assert norm.item() == 5120.0
    assert clipped["a"].dtype == dtype
    assert clipped["a"].tolist() == pytest.approx([3.0, 4.0], rel=2**-8)


def model():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def gradients(m, seed=0):
    generator = np.random.default_rng(seed)
    draw = lambda x: mx.array(generator.standard_normal(x.shape).astype(np.float32))  # noqa: E731
    return m.filter_and_map(nn.Module.trainable_parameter_filter, draw)


def test_multi_optimizer_gives_each_its_part():
    m, twin = model(), model()
    twin.update(m.parameters())
    matrices, biases = optimizers.Adam(0.1), optimizers.SGD(0.5, momentum=0.9)
    both = optimizers.MultiOptimizer([matrices, biases], [lambda path, x: x.ndim == 2])
    alone = optimizers.Adam(0.1), optimizers.SGD(0.5, momentum=0.9)
    for seed in range(3):
        grads = gradients(m, seed)
        both.update(m, grads)
        for optimizer, name in zip(alone, ("weight", "bias"), strict=True):
            part = {"layers": [{name: g[name]} if g else {} for g in grads["layers"]]}
            optimizer.update(twin, part)
    for (path, a), (_, b) in zip(tree_flatten(m.parameters()), tree_flatten(twin.parameters()), strict=True):
        assert mx.array_equal(a, b).item(), path
    assert sorted(matrices.state["layers"][0]) == ["weight"]
    assert sorted(biases.state["layers"][2]) == ["bias"]
    assert both.step.item() == 3


def test_multi_optimizer_paths_rates_and_state():
    m, paths = model(), []
    both = optimizers.MultiOptimizer(
        [optimizers.Adam(0.1), optimizers.Lion(0.2), optimizers.SGD(0.3)],
        [lambda path, x: paths.append(path) or path.endswith("bias"), lambda path, x: "layers.0" in path],
    )
    both.init(m.trainable_parameters())
    assert paths == [path for path, _ in tree_flatten(m.trainable_parameters())]
    assert [sorted(set(s) - {"step", "learning_rate"}) for s in both.state["states"]] == [["layers"]] * 3
    assert both.learning_rate.item() == pytest.approx(0.1)
    both.learning_rate = 0.5
    assert [o.learning_rate.item() for o in both.optimizers] == [0.5] * 3

    saved = both.state
    other = optimizers.MultiOptimizer(
        [optimizers.Adam(0.1), optimizers.Lion(0.2), optimizers.SGD(0.3)], both.filters[:2]
    )
    other.state = saved
    assert all(o.state is s for o, s in zip(other.optimizers, saved["states"], strict=True))
    for wrong in ({}, {"states": saved["states"][:2]}):
        with pytest.raises(ValueError, match="must hold 3 'states'"):
            other.state = wrong


def test_multi_optimizer_with_nothing_for_one():
    m = model()
    both = optimizers.MultiOptimizer([optimizers.Adam(0.1), optimizers.SGD(0.1)], [lambda path, x: False])
    before = m.layers[0].weight
    both.update(m, gradients(m))
    assert not mx.array_equal(m.layers[0].weight, before).item()
