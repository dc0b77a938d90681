"""Loss functions against NumPy: values, gradients, reductions, errors."""

import lamina.core as mx
import numpy as np
import pytest
from lamina.nn import losses
from nn.nn_reference import assert_close, draw, numeric_grad, rng, to_numpy

A, B, C = draw(3, 4, seed=1), draw(3, 4, seed=2), draw(3, 4, seed=3)
CLASSES = rng(5).integers(0, 4, (3,))
SIGNS = np.sign(C)
PROBABILITIES = (1 / (1 + np.exp(-B))).astype(np.float32)


def log_softmax(x, axis=-1):
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def cross_entropy(x, targets, smoothing=0.0):
    if targets.ndim < x.ndim:
        targets = np.eye(x.shape[-1])[targets]
    targets = (1 - smoothing) * targets + smoothing / x.shape[-1]
    return -(targets * log_softmax(x)).sum(-1)


def norm(x, p=2.0, eps=0.0, axis=-1):
    return ((np.abs(x) ** p).sum(axis) + eps) ** (1 / p)


def huber(d, delta):
    d = np.abs(d)
    return np.where(d <= delta, d**2 / 2, delta * (d - delta / 2))


# Name: (function of the first argument and the others, reference, arguments).
CASES = {
    "cross_entropy": (losses.cross_entropy, cross_entropy, (A, CLASSES)),
    "cross_entropy smoothed": (
        lambda x, t, **k: losses.cross_entropy(x, t, label_smoothing=0.3, **k),
        lambda x, t: cross_entropy(x, t, 0.3),
        (A, CLASSES),
    ),
    "cross_entropy probabilities": (
        losses.cross_entropy,
        lambda x, t: -(t * log_softmax(x)).sum(-1),
        (A, (PROBABILITIES / PROBABILITIES.sum(-1, keepdims=True)).astype(np.float32)),
    ),
    "cross_entropy axis": (
        lambda x, t, **k: losses.cross_entropy(x, t, axis=0, **k),
        lambda x, t: cross_entropy(x.T, t),
        (A.T.copy(), CLASSES),
    ),
    "nll": (losses.nll_loss, lambda x, t: -np.take_along_axis(x, t[:, None], 1)[:, 0], (A, CLASSES)),
    "binary_cross_entropy": (
        losses.binary_cross_entropy,
        lambda x, t: np.logaddexp(0, x) - x * t,
        (A, PROBABILITIES),
    ),
    "binary_cross_entropy probabilities": (
        lambda x, t, **k: losses.binary_cross_entropy(x, t, with_logits=False, **k),
        lambda x, t: -(t * np.log(x) + (1 - t) * np.log1p(-x)),
        (PROBABILITIES, (A > 0).astype(np.float32)),
    ),
    "l1": (losses.l1_loss, lambda x, t: np.abs(x - t), (A, B)),
    "mse": (losses.mse_loss, lambda x, t: (x - t) ** 2, (A, B)),
    "gaussian_nll": (
        losses.gaussian_nll_loss,
        lambda x, t, v: (np.log(v) + (x - t) ** 2 / v) / 2,
        (A, B, PROBABILITIES + 0.5),
    ),
    "gaussian_nll full": (
        lambda x, t, v, **k: losses.gaussian_nll_loss(x, t, v, full=True, eps=0.7, **k),
        lambda x, t, v: (
            (np.log(np.maximum(v, 0.7)) + (x - t) ** 2 / np.maximum(v, 0.7) + np.log(2 * np.pi)) / 2
        ),
        (A, B, PROBABILITIES + 0.5),
    ),
    "kl_div": (losses.kl_div_loss, lambda x, t: (np.exp(t) * (t - x)).sum(-1), (A, B)),
    "kl_div axis": (
        lambda x, t, **k: losses.kl_div_loss(x, t, axis=0, **k),
        lambda x, t: (np.exp(t) * (t - x)).sum(0),
        (A, B),
    ),
    "smooth_l1": (losses.smooth_l1_loss, lambda x, t: huber(x - t, 1), (A, B)),
    "smooth_l1 beta": (
        lambda x, t, **k: losses.smooth_l1_loss(x, t, beta=0.4, **k),
        lambda x, t: huber(x - t, 0.4) / 0.4,
        (A, B),
    ),
    "smooth_l1 beta 0": (
        lambda x, t, **k: losses.smooth_l1_loss(x, t, beta=0, **k),
        lambda x, t: np.abs(x - t),
        (A, B),
    ),
    "triplet": (
        losses.triplet_loss,
        lambda a, p, n: np.maximum(norm(a - p, eps=1e-6) - norm(a - n, eps=1e-6) + 1, 0),
        (A, B, C),
    ),
    "triplet p": (
        lambda a, p, n, **k: losses.triplet_loss(a, p, n, axis=0, p=3, margin=0.5, eps=0.1, **k),
        lambda a, p, n: np.maximum(norm(a - p, 3, 0.1, 0) - norm(a - n, 3, 0.1, 0) + 0.5, 0),
        (A, B, C),
    ),
    "hinge": (losses.hinge_loss, lambda x, t: np.maximum(1 - x * t, 0), (A, SIGNS)),
    "huber": (losses.huber_loss, lambda x, t: huber(x - t, 1), (A, B)),
    "huber delta": (
        lambda x, t, **k: losses.huber_loss(x, t, delta=0.4, **k),
        lambda x, t: huber(x - t, 0.4),
        (A, B),
    ),
    "log_cosh": (losses.log_cosh_loss, lambda x, t: np.log(np.cosh(x - t)), (A, B)),
    "cosine_similarity": (
        losses.cosine_similarity_loss,
        lambda x, t: (x * t).sum(1) / (norm(x) * norm(t)),
        (A, B),
    ),
    "cosine_similarity axis": (
        lambda x, t, **k: losses.cosine_similarity_loss(x, t, axis=0, eps=3.0, **k),
        lambda x, t: (x * t).sum(0) / np.maximum(norm(x, axis=0) * norm(t, axis=0), 3.0),
        (A, B),
    ),
    "margin_ranking": (
        lambda x, y, t, **k: losses.margin_ranking_loss(x, y, t, margin=0.3, **k),
        lambda x, y, t: np.maximum(-t * (x - y) + 0.3, 0),
        (A, B, SIGNS),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case):
    fn, reference, arguments = CASES[case]
    arrays = [mx.array(a) for a in arguments]
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arguments]
    expected = reference(*wide)
    assert_close(fn(*arrays, reduction="none"), expected, terms=16)
    magnitude = np.abs(expected).sum()
    assert_close(fn(*arrays, reduction="sum"), expected.sum(), terms=16, magnitude=magnitude)
    assert_close(
        fn(*arrays, reduction="mean"), expected.mean(), terms=16, magnitude=magnitude / expected.size
    )

    for i, argument in enumerate(arguments):
        if argument.dtype.kind != "f" or argument is SIGNS:
            continue
        want = numeric_grad(lambda x, i=i: reference(*wide[:i], x, *wide[i + 1 :]).sum(), wide[i])
        got = mx.grad(lambda *a: fn(*a, reduction="sum"), argnums=i)(*arrays)
        assert_close(got, want, terms=64, magnitude=max(1, np.abs(want).max()))


@pytest.mark.parametrize("case", CASES)
def test_float16_stays(case):
    fn, reference, arguments = CASES[case]
    arrays = [mx.array(a.astype(np.float16) if a.dtype.kind == "f" else a) for a in arguments]
    y = fn(*arrays, reduction="none")
    assert y.dtype == mx.float16
    wide = [to_numpy(a) if mx.issubdtype(a.dtype, mx.floating) else np.array(a) for a in arrays]
    assert_close(y, reference(*wide), terms=8, eps=2**-10)


def test_default_reductions():
    a, b = mx.array(A), mx.array(B)
    assert (
        losses.mse_loss(a, b).shape == losses.l1_loss(a, b).shape == losses.smooth_l1_loss(a, b).shape == ()
    )
    assert losses.binary_cross_entropy(a, b).shape == losses.gaussian_nll_loss(a, b, b).shape == ()
    assert losses.cross_entropy(a, mx.array(CLASSES)).shape == (3,)
    assert losses.huber_loss(a, b).shape == (3, 4)


def test_weights_are_factors():
    weights = np.array([1.0, 2.0, 0.5], np.float32)
    plain = cross_entropy(A.astype(np.float64), CLASSES)
    arguments = (mx.array(A), mx.array(CLASSES), mx.array(weights))
    assert_close(losses.cross_entropy(*arguments), plain * weights, terms=8)
    assert_close(losses.cross_entropy(*arguments, reduction="mean"), (plain * weights).mean(), terms=8)
    binary = losses.binary_cross_entropy(mx.array(A), mx.array(PROBABILITIES), mx.array(B), reduction="none")
    assert_close(binary, (np.logaddexp(0, A.astype(np.float64)) - A * PROBABILITIES) * B, terms=8)


def test_cross_entropy_keeps_digits_of_large_logits():
    x = draw(3, 4) + np.float32(4096)
    assert_close(
        losses.cross_entropy(mx.array(x), mx.array(CLASSES)), cross_entropy(x.astype("d"), CLASSES), terms=8
    )


def test_extreme_inputs_stay_finite():
    logits = mx.array([[1e4, -1e4], [0.0, 1e4]])
    assert losses.cross_entropy(logits, mx.array([1, 1])).tolist() == [2e4, 0.0]
    binary = losses.binary_cross_entropy(mx.array([1e4, -1e4]), mx.array([0.0, 0.0]), reduction="none")
    assert binary.tolist() == [1e4, 0.0]
    certain = losses.binary_cross_entropy(
        mx.array([0.0, 1.0, 0.0]), mx.array([0.0, 1.0, 1.0]), with_logits=False, reduction="none"
    )
    assert certain.tolist() == [0.0, 0.0, 100.0]
    assert losses.log_cosh_loss(mx.array([1e4]), mx.array([0.0])).item() == pytest.approx(1e4, rel=1e-4)
    assert losses.cosine_similarity_loss(mx.zeros((1, 2)), mx.ones((1, 2))).tolist() == [0.0]
    same = mx.ones((1, 2))
    grad = mx.grad(lambda a: losses.triplet_loss(a, same, same).sum())(same)
    assert np.isfinite(np.array(grad)).all()


a, b = mx.array(A), mx.array(B)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: losses.mse_loss(a, b, reduction="average"),
            "Invalid reduction 'average'.*'none', 'mean' and 'sum'",
        ),
        (
            lambda: losses.cross_entropy(a, mx.array([0, 1])),
            r"targets of shape \(2,\) .* logits of shape \(3, 4\)",
        ),
        (lambda: losses.cross_entropy(a, b[:2]), r"targets of shape \(2, 4\) .* logits of shape \(3, 4\)"),
        (lambda: losses.cross_entropy(a, mx.array([0.0, 1.0, 2.0])), "integer dtype, got .*float32"),
        (lambda: losses.cross_entropy(a, mx.array([0, 1, 2]), label_smoothing=1.0), r"in \[0, 1\), got 1.0"),
        (lambda: losses.cross_entropy(a, mx.array([0, 1, 2]), weights=b), r"losses, \(3,\), got \(3, 4\)"),
        (lambda: losses.binary_cross_entropy(a, b[:1]), r"inputs and targets .* \(3, 4\) and \(1, 4\)"),
        (lambda: losses.binary_cross_entropy(a, b, b[:1]), r"losses, \(3, 4\), got \(1, 4\)"),
        (lambda: losses.l1_loss(a, b[:1]), r"\[l1_loss\] .*predictions and targets .* \(3, 4\) and \(1, 4\)"),
        (lambda: losses.mse_loss(a, b[:1]), r"\[mse_loss\] .* \(3, 4\) and \(1, 4\)"),
        (lambda: losses.smooth_l1_loss(a, b[:1]), r"\[smooth_l1_loss\] .* \(3, 4\) and \(1, 4\)"),
        (lambda: losses.smooth_l1_loss(a, b, beta=-1), "beta must be at least 0, got -1"),
        (lambda: losses.nll_loss(a, mx.array([0])), r"targets of shape \(1,\) .* inputs of shape \(3, 4\)"),
        (lambda: losses.gaussian_nll_loss(a, b, b[:1]), r"inputs and vars .* \(3, 4\) and \(1, 4\)"),
        (lambda: losses.margin_ranking_loss(a, b, b[:1]), r"inputs1 and targets .* \(3, 4\) and \(1, 4\)"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
