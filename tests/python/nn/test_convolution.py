"""Convolutions and transposed convolutions against loops in NumPy."""

import itertools

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn
from nn.nn_reference import check_layer, draw


def per_axis(value, axes):
    return value if isinstance(value, tuple) else (value,) * axes


def convolved(x, weight, stride, padding, dilation, groups):
    """Tap by tap: a kernel entry's contribution is a strided view times a matrix."""
    axes = x.ndim - 2
    stride, padding, dilation = (per_axis(v, axes) for v in (stride, padding, dilation))
    kernel = weight.shape[1:-1]
    x = np.pad(x, [(0, 0), *[(p, p) for p in padding], (0, 0)])
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[1:-1], kernel, stride, dilation, strict=True)
    ]
    y = np.zeros((x.shape[0], *sizes, weight.shape[0]))
    ins, outs = x.shape[-1] // groups, weight.shape[0] // groups
    for tap in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilation, sizes, stride, strict=True)
        )
        seen = x[(slice(None), *window)]
        for g in range(groups):
            part = seen[..., g * ins : (g + 1) * ins] @ weight[(slice(g * outs, (g + 1) * outs), *tap)].T
            y[..., g * outs : (g + 1) * outs] += part
    return y


def transposed(x, weight, stride, padding, dilation, output_padding):
    axes = x.ndim - 2
    stride, padding, dilation, output_padding = (
        per_axis(v, axes) for v in (stride, padding, dilation, output_padding)
    )
    kernel = weight.shape[1:-1]
    full = [
        (n - 1) * s + d * (k - 1) + 1
        for n, k, s, d in zip(x.shape[1:-1], kernel, stride, dilation, strict=True)
    ]
    y = np.zeros((x.shape[0], *[n + o for n, o in zip(full, output_padding, strict=True)], weight.shape[0]))
    for tap in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilation, x.shape[1:-1], stride, strict=True)
        )
        y[(slice(None), *window)] += x @ weight[(slice(None), *tap)].T
    crop = tuple(slice(p, n + o - p) for p, n, o in zip(padding, full, output_padding, strict=True))
    return y[(slice(None), *crop)]


INPUTS = {1: (2, 7, 4), 2: (2, 5, 6, 4), 3: (1, 4, 3, 4, 2)}
CONVOLUTIONS = [
    (1, {"kernel_size": 3}),
    (1, {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}),
    (1, {"kernel_size": 2, "groups": 2, "bias": False}),
    (1, {"kernel_size": 3, "groups": 4}),
    (2, {"kernel_size": 3}),
    (2, {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
    (2, {"kernel_size": 2, "groups": 2}),
    (3, {"kernel_size": 2}),
    (3, {"kernel_size": (2, 1, 3), "stride": 2, "padding": 1}),
]
TRANSPOSED = [
    (1, {"kernel_size": 3}),
    (1, {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "dilation": 2}),
    (2, {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 1), "bias": False}),
    (2, {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}),
    (3, {"kernel_size": 2, "stride": 2}),
]


def settings(options, *names):
    return [options.get(name, 0 if "padding" in name else 1) for name in names]


@pytest.mark.parametrize(("axes", "options"), CONVOLUTIONS)
def test_convolution(axes, options):
    shape = INPUTS[axes]
    layer = getattr(nn, f"Conv{axes}d")(shape[-1], 4, **options)

    def reference(p, x):
        how = settings(options, "stride", "padding", "dilation", "groups")
        return convolved(x, p["weight"], *how) + p.get("bias", 0)

    check_layer(layer, reference, draw(*shape), terms=128)


@pytest.mark.parametrize(("axes", "options"), TRANSPOSED)
def test_transposed_convolution(axes, options):
    shape = INPUTS[axes]
    layer = getattr(nn, f"ConvTranspose{axes}d")(shape[-1], 3, **options)

    def reference(p, x):
        how = settings(options, "stride", "padding", "dilation", "output_padding")
        return transposed(x, p["weight"], *how) + p.get("bias", 0)

    check_layer(layer, reference, draw(*shape), terms=128)


def test_initial_values_and_repr():
    layer = nn.Conv2d(8, 32, (3, 2), stride=(1, 2), padding=1, groups=4)
    assert layer.weight.shape == (32, 3, 2, 2)
    assert mx.max(mx.abs(layer.bias)).item() == 0
    bound = 1 / np.sqrt(3 * 2 * 2)
    largest = mx.max(mx.abs(layer.weight)).item()
    assert 0.9 * bound < largest <= bound
    assert repr(layer) == (
        "Conv2d(8, 32, kernel_size=(3, 2), stride=(1, 2), padding=(1, 1), dilation=1, groups=4, bias=True)"
    )
    assert repr(nn.ConvTranspose1d(2, 3, 4, stride=2, bias=False)) == (
        "ConvTranspose1d(2, 3, kernel_size=4, stride=2, padding=0, dilation=1, output_padding=0, bias=False)"
    )
    assert "bias" not in nn.Conv3d(2, 3, 2, bias=False)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Conv1d(4, 8, 3, groups=3), r"\[Conv1d\] groups must divide in_channels, got 3 and 4"),
        (lambda: nn.Conv1d(4, 6, 3, groups=4), r"\[Conv1d\] groups must divide out_channels, got 4 and 6"),
        (lambda: nn.Conv2d(4, 8, (3, 3, 3)), r"\[Conv2d\] kernel_size must be an integer or a tuple of 2"),
        (lambda: nn.Conv2d(4, 8, 3, stride=0), r"\[Conv2d\] stride must be at least 1, got \(0, 0\)"),
        (lambda: nn.Conv3d(4, 8, 3, padding=-1), r"\[Conv3d\] padding must be at least 0"),
        (lambda: nn.ConvTranspose2d(4, 8, 3, output_padding=(1,)), r"output_padding must be .* tuple of 2"),
        (lambda: nn.Conv1d(0, 8, 3), r"\[Conv1d\] in_channels must be at least 1, got 0"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Conv1d(4, 8, 3)(mx.ones((5, 4))), r"\[Conv1d\] .* 3 axes, got shape \(5, 4\)"),
        (
            lambda: nn.Conv2d(4, 8, 3)(mx.ones((1, 5, 5, 3))),
            r"\[Conv2d\] .*4 entries, got shape \(1, 5, 5, 3\)",
        ),
        (lambda: nn.Conv2d(4, 8, 3, groups=2)(mx.ones((1, 5, 5, 2))), r"4 entries, got shape \(1, 5, 5, 2\)"),
    ],
)
def test_errors_of_calls(make, text):
    with pytest.raises(ValueError, match=text):
        make()
