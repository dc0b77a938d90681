"""Pooling against sliding windows in NumPy, and upsampling."""

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn
from nn.nn_reference import assert_close, check_layer, draw


def windows(x, kernel, stride, padding, outside):
    """Windows of the axes between the first and the last, moved behind all others."""
    axes = x.ndim - 2
    kernel, stride, padding = (v if isinstance(v, tuple) else (v,) * axes for v in (kernel, stride, padding))
    x = np.pad(x, [(0, 0), *[(p, p) for p in padding], (0, 0)], constant_values=outside)
    views = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=tuple(range(1, 1 + axes)))
    return views[(slice(None), *[slice(None, None, s) for s in stride])]


CASES = [
    (1, (2, 7, 3), {"kernel_size": 2}),
    (1, (2, 7, 3), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (1, (2, 7, 3), {"kernel_size": 3, "stride": 1}),
    (1, (2, 7, 3), {"kernel_size": 2, "stride": 4}),
    (1, (2, 7, 3), {"kernel_size": 7}),
    (1, (1, 9, 2), {"kernel_size": 8, "stride": 8}),
    (2, (2, 5, 6, 2), {"kernel_size": 2}),
    (2, (2, 5, 6, 2), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (2, (2, 5, 6, 2), {"kernel_size": (5, 2), "stride": (1, 3), "padding": (0, 1)}),
    (3, (1, 4, 3, 4, 2), {"kernel_size": 2}),
    (3, (1, 4, 3, 4, 2), {"kernel_size": (3, 2, 1), "stride": 1, "padding": (1, 0, 0)}),
]


@pytest.mark.parametrize(("axes", "shape", "options"), CASES)
@pytest.mark.parametrize("kind", ["Max", "Avg"])
def test_pooling(kind, axes, shape, options):
    layer = getattr(nn, f"{kind}Pool{axes}d")(**options)
    kernel = options["kernel_size"]
    how = kernel, options.get("stride", kernel), options.get("padding", 0)

    def reference(p, x):
        seen = windows(x, *how, outside=-np.inf if kind == "Max" else 0)
        over = tuple(range(-axes, 0))
        return seen.max(over) if kind == "Max" else seen.mean(over)

    check_layer(layer, reference, draw(*shape))


def test_pooling_of_other_dtypes():
    x = mx.arange(6).reshape(1, 6, 1)
    assert nn.MaxPool1d(2, padding=1)(x)[0, :, 0].tolist() == [0, 2, 4, 5]
    assert nn.MaxPool1d(2)(-x)[0, :, 0].tolist() == [0, -2, -4]
    assert nn.MaxPool1d(2)(x).dtype == x.dtype
    assert nn.AvgPool1d(2)(x.astype(mx.float16)).dtype == mx.float16
    y = nn.MaxPool1d(2)(mx.array([1.0, float("nan"), 3.0, 2.0]).reshape(1, 4, 1))
    assert np.isnan(y[0, 0, 0].item())
    assert y[0, 1, 0].item() == 3.0


def test_gradient_of_equal_entries_is_kept_once():
    grad = mx.grad(lambda x: nn.MaxPool1d(3, 1)(x).sum())(mx.ones((1, 7, 1)))
    assert mx.sum(grad).item() == 5.0


def test_repr():
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))"
    assert repr(nn.AvgPool1d(3, 1, 1)) == "AvgPool1d(kernel_size=(3,), stride=(1,), padding=(1,))"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.MaxPool2d((2, 2, 2)), r"\[MaxPool2d\] kernel_size must be an integer or a tuple of 2"),
        (lambda: nn.MaxPool2d(2.5), r"\[MaxPool2d\] kernel_size must be an integer .* got 2.5"),
        (lambda: nn.AvgPool1d(0), r"\[AvgPool1d\] kernel_size must be at least 1, got \(0,\)"),
        (lambda: nn.MaxPool1d(2, 0), r"\[MaxPool1d\] stride must be at least 1, got \(0,\)"),
        (lambda: nn.MaxPool1d(2, padding=-1), r"\[MaxPool1d\] padding must be at least 0, got \(-1,\)"),
        (lambda: nn.MaxPool1d(2)(mx.ones((5, 1))), r"\[MaxPool1d\] .*at least 3 axes, got shape \(5, 1\)"),
        (
            lambda: nn.MaxPool1d(7)(mx.ones((1, 5, 1))),
            r"kernel_size \(7,\) does not fit .* shape \(1, 5, 1\)",
        ),
    ],
)
def test_pooling_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def keys(d, a):
    d = np.abs(d)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def resize_matrix(size, scale, mode, align_corners, antialias):
    """The linear map along one axis, entry by entry."""
    out = int(scale * size)
    matrix = np.zeros((out, size))
    for i in range(out):
        if align_corners:
            at = i * (size - 1) / max(out - 1, 1)
        else:
            at = (i - (out - 1) / 2) / scale + (size - 1) / 2
        if antialias:
            shrink = min(scale, 1)
            distance = (np.arange(size) - at) * shrink
            row = np.maximum(1 - np.abs(distance), 0) if mode == "linear" else keys(distance, -0.5)
            matrix[i] = row / row.sum()
            continue
        if mode == "linear":
            at = min(max(at, 0), size - 1)
        for j in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            weight = max(1 - abs(j - at), 0) if mode == "linear" else float(keys(j - at, -0.75))
            matrix[i, min(max(j, 0), size - 1)] += weight
    return matrix


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize(("align_corners", "antialias"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("scale", [2, 1.5, 0.5, 0.4, (3, 0.7), (1, 2)])
def test_smooth_upsampling(mode, align_corners, antialias, scale):
    layer = nn.Upsample(scale, mode, align_corners, antialias)
    scales = scale if isinstance(scale, tuple) else (scale, scale)

    def reference(p, x):
        rows, columns = (
            np.eye(n) if s == 1 else resize_matrix(n, s, mode, align_corners, antialias)
            for n, s in zip(x.shape[1:3], scales, strict=True)
        )
        return np.einsum("ij,kl,njlc->nikc", rows, columns, x)

    check_layer(layer, reference, draw(2, 5, 6, 2), terms=64)


def test_nearest_upsampling():
    x = mx.arange(4).reshape(1, 4, 1)
    assert nn.Upsample(2)(x)[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert nn.Upsample(2.5)(x)[0, :, 0].tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert nn.Upsample(0.5)(x)[0, :, 0].tolist() == [0, 2]
    assert nn.Upsample(0.5)(mx.arange(5).reshape(1, 5, 1))[0, :, 0].tolist() == [0, 2]
    assert nn.Upsample(2)(x).dtype == x.dtype
    volume = draw(1, 2, 3, 2, 2)
    expected = volume.repeat(2, 1).repeat(3, 2)
    assert_close(nn.Upsample((2, 3, 1))(mx.array(volume)), expected)
    check_layer(nn.Upsample(2), lambda p, y: y.repeat(2, 1), draw(2, 3, 2))


def test_upsampling_keeps_the_dtype():
    x = mx.ones((1, 3, 1), dtype=mx.float16)
    assert nn.Upsample(2, "linear")(x).dtype == mx.float16
    assert nn.Upsample(2, "linear")(mx.arange(3).reshape(1, 3, 1)).dtype == mx.float32
    assert repr(nn.Upsample((2, 3), "cubic")) == (
        "Upsample(scale_factor=(2.0, 3.0), mode='cubic', align_corners=False)"
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Upsample(2, "bicubic"), "mode must be 'nearest', 'linear' or 'cubic', got 'bicubic'"),
        (lambda: nn.Upsample(0), "scale_factor must be positive, got 0"),
        (lambda: nn.Upsample((2, -1)), r"scale_factor must be positive, got \(2, -1\)"),
        (lambda: nn.Upsample(0.5, antialias=True), "antialias does not go with mode 'nearest'"),
        (lambda: nn.Upsample(0.5, "linear", True, True), "antialias does not go with align_corners"),
        (lambda: nn.Upsample(2)(mx.ones((2, 3))), r"at least 3 axes, got shape \(2, 3\)"),
        (
            lambda: nn.Upsample((2, 2))(mx.ones((1, 3, 1))),
            r"got \(2.0, 2.0\) for an input of shape \(1, 3, 1\)",
        ),
        (
            lambda: nn.Upsample(0.1)(mx.ones((1, 3, 1))),
            r"factor 0.1 leaves nothing of axis 1 of shape \(1, 3, 1\)",
        ),
    ],
)
def test_upsampling_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
