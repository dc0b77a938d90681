"""Every public name has documentation whose example runs."""

import doctest

import lamina.core as mx
import pytest
from lamina import nn, optimizers, utils

# What the example of a name needs from the core beyond the basics.
NEEDED = {
    "QQLinear": "qqmm",
    "checkpoint": "checkpoint",
}
MODULES = {
    "nn": nn,
    "nn.losses": nn.losses,
    "nn.init": nn.init,
    "nn.utils": nn.utils,
    "optimizers": optimizers,
    "utils": utils,
}
PUBLIC = [
    (f"{where}.{name}", getattr(module, name))
    for where, module in MODULES.items()
    for name in module.__all__
    if name not in ("init", "losses")
]
FUNCTIONS_OF_LAYERS = set(dir(nn.layers.activations))


def examples(name, value):
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(value, name, globs={}) if test.examples]


@pytest.mark.parametrize(("name", "value"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_example_runs(name, value):
    short = name.rsplit(".", 1)[-1]
    assert value.__doc__, name
    if short in NEEDED and not hasattr(mx, NEEDED[short]):
        pytest.skip(f"the core has no {NEEDED[short]}")
    found = examples(name, value)
    assert found or short in FUNCTIONS_OF_LAYERS, f"{name} has no example"
    for test in found:
        result = doctest.DocTestRunner(verbose=False).run(test)
        assert result.failed == 0, test.name


def test_all_lists_what_is_there():
    for where, module in MODULES.items():
        assert sorted(set(module.__all__)) == sorted(module.__all__), where
        assert all(hasattr(module, name) for name in module.__all__), where
