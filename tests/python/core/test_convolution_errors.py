"""What convolutions refuse: each error names what was wanted and what came."""

from __future__ import annotations

import lamina.core as mx
import pytest

X, W = mx.zeros((2, 10, 4)), mx.zeros((6, 3, 4))
ERRORS = [
    (
        "rank of input",
        lambda: mx.conv1d(mx.zeros((10, 4)), W),
        r"\[conv1d\] wants an input of 3 axes .* shape \(10, 4\)",
    ),
    ("rank of 2d", lambda: mx.conv2d(X, W), r"\[conv2d\] wants an input of 4 axes .* got shape \(2, 10, 4\)"),
    ("rank of 3d", lambda: mx.conv_transpose3d(X, W), r"\[conv_transpose3d\] wants an input of 5 axes"),
    (
        "rank of weight",
        lambda: mx.conv1d(X, mx.zeros((6, 4))),
        r"\[conv1d\] wants a weight of 3 axes .* \(6, 4\)",
    ),
    (
        "no spatial axis",
        lambda: mx.conv_general(mx.zeros((2, 4)), mx.zeros((6, 4))),
        r"1 to 3 spatial axes, got shape \(2, 4\)",
    ),
    (
        "four spatial axes",
        lambda: mx.conv_general(mx.zeros((1,) * 6), mx.zeros((1,) * 6)),
        r"1 to 3 spatial axes",
    ),
    (
        "channels",
        lambda: mx.conv1d(X, mx.zeros((6, 3, 2))),
        r"wants 4 input channels in the weight .* got weight \(6, 3, 2\)",
    ),
    (
        "groups and channels",
        lambda: mx.conv1d(X, mx.zeros((6, 3, 2)), groups=3),
        r"divide the 4 input and 6 output channels, got 3",
    ),
    (
        "groups and outputs",
        lambda: mx.conv1d(X, mx.zeros((5, 3, 2)), groups=2),
        r"divide the 4 input and 5 output channels, got 2",
    ),
    ("no groups", lambda: mx.conv1d(X, W, groups=0), r"wants groups of at least 1, got 0"),
    ("negative groups", lambda: mx.conv_transpose1d(X, W, groups=-1), r"wants groups of at least 1, got -1"),
    ("stride", lambda: mx.conv1d(X, W, stride=0), r"\[conv1d\] wants stride between 1 and \d+, got \(0,\)"),
    (
        "stride of one axis",
        lambda: mx.conv2d(X[None], W[None], stride=(1, -2)),
        r"wants stride between 1 and \d+, got \(1, -2\)",
    ),
    (
        "dilation",
        lambda: mx.conv1d(X, W, dilation=0),
        r"wants dilation of the kernel between 1 and \d+, got \(0,\)",
    ),
    (
        "input dilation",
        lambda: mx.conv_general(X, W, input_dilation=0),
        r"wants dilation of the input between 1 and",
    ),
    (
        "stride of a transposed one",
        lambda: mx.conv_transpose1d(X, W, stride=0),
        r"\[conv_transpose1d\] wants stride between 1",
    ),
    ("huge padding", lambda: mx.conv1d(X, W, padding=2**40), r"wants padding between -\d+ and \d+, got"),
    (
        "entries",
        lambda: mx.conv2d(X[None], W[None], stride=(1, 2, 3)),
        r"wants 1 or 2 entries in stride, got \(1, 2, 3\)",
    ),
    (
        "entries of padding",
        lambda: mx.conv_general(X, W, padding=([1, 2], [3])),
        r"wants 1 or 1 entries in padding",
    ),
    (
        "short input",
        lambda: mx.conv1d(mx.zeros((2, 2, 4)), W),
        r"spatial axis 0 of input \(2, 2, 4\) is 2 long .* \(6, 3, 4\) 3",
    ),
    ("cropped input", lambda: mx.conv1d(X, W, padding=-4), r"is 2 long with its padding"),
    (
        "long kernel",
        lambda: mx.conv1d(X, W, dilation=5),
        r"is 10 long with its padding, and the kernel of weight \(6, 3, 4\) 11",
    ),
    (
        "no weights",
        lambda: mx.conv1d(X, mx.zeros((6, 0, 4))),
        r"spatial axes of 1 to \d+ weights, got .* \(6, 0, 4\)",
    ),
    (
        "no output",
        lambda: mx.conv_transpose1d(X, W, padding=6),
        r"\[conv_transpose1d\] wants at least one output: .* leave 0",
    ),
    (
        "empty transposed input",
        lambda: mx.conv_transpose1d(mx.zeros((2, 0, 4)), W),
        r"wants inputs along every spatial axis, got input \(2, 0, 4\)",
    ),
    (
        "integers",
        lambda: mx.conv1d(X.astype(mx.int32), W),
        r"wants floating-point or complex arrays, got int32 and float32",
    ),
    ("bool weight", lambda: mx.conv1d(X, W.astype(mx.bool_)), r"got float32 and bool"),
    (
        "mode",
        lambda: mx.convolve(mx.ones(3), mx.ones(2), "most"),
        r"\[convolve\] wants mode 'full', 'same' or 'valid', got 'most'",
    ),
    (
        "matrix",
        lambda: mx.convolve(mx.ones((2, 3)), mx.ones(2)),
        r"\[convolve\] wants two sequences of one axis, got shapes \(2, 3\) and \(2,\)",
    ),
    (
        "empty sequence",
        lambda: mx.convolve(mx.ones(3), mx.ones(0)),
        r"\[convolve\] wants sequences that are not empty, got lengths 3 and 0",
    ),
    (
        "integers convolved",
        lambda: mx.convolve(mx.array([1]), mx.array([2])),
        r"\[convolve\] wants floating-point or complex",
    ),
]


@pytest.mark.parametrize(("call", "text"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_types():
    with pytest.raises(TypeError, match=r"conv1d\(\): argument 'stride' wants int, got"):
        mx.conv1d(X, W, stride=(2,))
    with pytest.raises(TypeError, match=r"conv_general\(\): argument 'padding' wants"):
        mx.conv_general(X, W, padding=([1], 2.5))
    with pytest.raises(TypeError, match=r"takes argument 'weight' by position only"):
        mx.conv1d(X, weight=W)
