"""A step is one pass over each parameter, in place, and asks the system for no memory."""

from __future__ import annotations

import resource
from collections.abc import Callable

import lamina.core as mx
import numpy as np
import pytest
from lamina import optimizers

OPTIMIZERS: dict[str, Callable[[], optimizers.Optimizer]] = {
    "SGD": lambda: optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01),
    "SGD nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda: optimizers.RMSprop(0.1),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "AdaDelta": lambda: optimizers.AdaDelta(1.0),
    "Adam": lambda: optimizers.Adam(0.1),
    "AdamW": lambda: optimizers.AdamW(0.1),
    "AdamW corrected": lambda: optimizers.AdamW(0.1, bias_correction=True),
    "Adamax": lambda: optimizers.Adamax(0.1),
    "Lion": lambda: optimizers.Lion(0.1, weight_decay=0.01),
}
SHAPES = [(512, 600), (600,), (300, 1024)]
COMPILED = pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])


class Training:
    """Steps with gradients that stay the same."""

    def __init__(self, optimizer: optimizers.Optimizer, dtype: mx.Dtype, compiled: bool) -> None:
        rng = np.random.default_rng(0)
        values = [rng.standard_normal((2, *shape)).astype(np.float32) for shape in SHAPES]
        self.parameters = {f"w{i}": mx.array(v[0]).astype(dtype) for i, v in enumerate(values)}
        self.gradients = {f"w{i}": mx.array(v[1]).astype(dtype) for i, v in enumerate(values)}
        self.optimizer = optimizer
        optimizer.init(self.parameters)
        state = [optimizer.state]
        self.apply = optimizer.apply_gradients
        if compiled:
            self.apply = mx.compile(optimizer.apply_gradients, inputs=state, outputs=state)

    def step(self) -> None:
        self.parameters = self.apply(self.gradients, self.parameters)
        mx.eval(self.parameters, self.optimizer.state)


@COMPILED
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_pass_over_each_parameter_in_place(name: str, compiled: bool) -> None:
    training = Training(OPTIMIZERS[name](), mx.float32, compiled)
    for _ in range(2):
        training.step()
    smallest = min(4 * np.prod(shape) for shape in SHAPES)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    with mx.profile() as profile:
        training.step()
    assert mx.get_peak_memory() - before < smallest
    events = [e for e in profile.to_dict()["events"] if e["bytes_written"] >= smallest]
    assert len(events) == len(SHAPES)


@COMPILED
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
def test_steps_ask_the_system_for_nothing(dtype: mx.Dtype, compiled: bool) -> None:
    training = Training(optimizers.AdamW(0.1, bias_correction=True), dtype, compiled)
    for _ in range(3):
        training.step()
    allocations = mx.get_system_allocation_count()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        training.step()
    assert mx.get_system_allocation_count() == allocations
    # Python may touch a new page now and then; fresh memory for one parameter would be 300 and more.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults < 100
