"""Fourier transforms against NumPy in float64: values, axes, norms, gradients, vmap, errors."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import layouts

EPS = 2.0**-24
LENGTHS = [*range(1, 34), 49, 64, 97, 100, 121, 128, 169, 211, 256, 257, 300, 509, 512, 1000, 1021, 4096]
ONE = ["fft", "ifft", "rfft", "irfft"]
MANY = ["fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn"]


def draw(seed: int, *shape: int, complex_: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if complex_ else a).astype(
        np.complex64 if complex_ else np.float32
    )


def assert_near(got: mx.array, want: np.ndarray, samples: int) -> None:
    """In the 2-norm, the rounding of log2(n) stages; primes take three transforms of twice the length."""
    out = np.asarray(got)
    assert out.shape == want.shape
    assert out.dtype == (np.complex64 if np.iscomplexobj(want) else np.float32)
    bound = 3 * (2 + np.log2(samples)) * EPS * np.linalg.norm(want)
    assert np.linalg.norm(out - want) <= bound + 1e-30


@pytest.mark.parametrize("name", ONE)
def test_lengths(name: str) -> None:
    for n in LENGTHS:
        have = n // 2 + 1 if name == "irfft" else n
        a = draw(n, 2, have, complex_=name != "rfft")
        length = n if name == "irfft" else None
        got = getattr(mx.fft, name)(mx.array(a), n=length)
        assert_near(
            got, getattr(np.fft, name)(a.astype(np.complex128 if name != "rfft" else float), n=length), 2 * n
        )


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
def test_axes_lengths_and_norms(name: str, norm: str) -> None:
    a = draw(1, 5, 6, 7, complex_=name != "rfft")
    for axis in (0, 1, -1):
        for n in (None, 1, 2, 4, 9):
            got = getattr(mx.fft, name)(mx.array(a), n, axis, norm)
            assert_near(got, getattr(np.fft, name)(a, n, axis, norm), 16)


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
def test_many_axes(name: str, norm: str) -> None:
    a = draw(2, 4, 5, 6, complex_=not name.startswith("rfft"))
    ours, theirs = getattr(mx.fft, name), getattr(np.fft, name)
    assert_near(ours(mx.array(a), norm=norm), theirs(a, norm=norm), 120)
    for s, axes in [
        ((3, 8), (0, 1)),
        ((3, 8), (-1, 0)),
        ((7,), (1,)),
        (None, (2, 0)),
        ((2, 3, 4), (0, 1, 2)),
    ]:
        assert_near(ours(mx.array(a), s, axes, norm), theirs(a, s, axes, norm), 120)


@pytest.mark.parametrize("dtype", ["bool_", "int32", "float16", "bfloat16", "float64", "complex64"])
def test_every_dtype_computes_in_complex64(dtype: str) -> None:
    a = mx.array([[0, 1, 1, 0, 1]]).astype(getattr(mx, dtype))
    for name in ONE:
        got = getattr(mx.fft, name)(a)
        assert got.dtype == (mx.float32 if name == "irfft" else mx.complex64)
        assert_near(got, getattr(np.fft, name)([[0, 1, 1, 0, 1]]), 8)
    z = draw(3, 6)
    assert_near(mx.fft.rfft(mx.array(z)), np.fft.rfft(z.real), 6)


def test_layouts() -> None:
    for name, (x, a) in layouts(draw(4, 6, 8, complex_=False)).items():
        for axis in (0, 1):
            assert_near(mx.fft.fft(x, axis=axis), np.fft.fft(a, axis=axis), 8)
            assert_near(mx.fft.rfft(x, axis=axis), np.fft.rfft(a, axis=axis), 8)
        assert mx.fft.fft2(x).shape == a.shape, name


def test_long_lines() -> None:
    for n in (1 << 15, 1 << 17, 3**10, 100003, 200000):
        a = draw(5, n)
        assert_near(mx.fft.fft(mx.array(a)), np.fft.fft(a.astype(np.complex128)), n)
        assert_near(mx.fft.ifft(mx.array(a)), np.fft.ifft(a.astype(np.complex128)), n)
        assert_near(mx.fft.rfft(mx.array(a.real)), np.fft.rfft(a.real.astype(np.float64)), n)
        assert_near(mx.fft.irfft(mx.array(a), n), np.fft.irfft(a.astype(np.complex128), n), n)
        x = a.real.copy()
        assert_near(mx.fft.irfft(mx.fft.rfft(mx.array(x)), n), x, n**2)


def test_a_constant_has_nothing_but_its_sum() -> None:
    for n in (2, 4, 16, 64, 1024):
        assert np.array_equal(np.asarray(mx.fft.fft(mx.ones(n))), [n] + [0] * (n - 1))
        assert np.array_equal(np.asarray(mx.fft.rfft(mx.ones(n))), [n] + [0] * (n // 2))
    # The ends of half a spectrum are real.
    for n in (6, 10, 74, 1000):
        ends = np.asarray(mx.fft.rfft(mx.array(draw(20, n, complex_=False))))[[0, -1]]
        assert not ends.imag.any()


def test_empty() -> None:
    assert mx.fft.fft(mx.zeros((0, 4))).shape == (0, 4)
    assert mx.fft.rfft(mx.zeros((0, 4))).shape == (0, 3)
    assert mx.fft.irfft(mx.zeros((0, 4))).shape == (0, 6)
    assert mx.fft.fftn(mx.ones((2, 2)), axes=[]).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("name", ONE)
def test_errors(name: str) -> None:
    f, many = getattr(mx.fft, name), getattr(mx.fft, name + "n")
    for arguments, error, message in [
        ({"n": 0}, ValueError, "at least one sample along axis 1, got length 0"),
        ({"n": -1}, ValueError, "got length -1"),
        ({"axis": 2}, IndexError, "axis 2 is out of bounds"),
        ({"norm": "both"}, ValueError, "'forward', got 'both'"),
        ({"norm": None}, TypeError, "norm"),
    ]:
        with pytest.raises(error, match=message):
            f(mx.ones((3, 4)), **arguments)
    with pytest.raises(ValueError, match="at least one sample"):
        f(mx.ones((3, 0)))
    with pytest.raises(IndexError, match="out of bounds"):
        f(mx.array(1.0))
    for arguments, message in [
        ({"s": (2, 3)}, "want axes"),
        ({"s": (2, 3), "axes": (0,)}, "one length for each axis"),
        ({"axes": (0, -2)}, "twice"),
    ]:
        with pytest.raises(ValueError, match=message):
            many(mx.ones((3, 4)), **arguments)
    with pytest.raises(ValueError, match="at least one sample along axis 0"):
        mx.fft.irfft(mx.ones(1))


def test_frequencies_and_shifts() -> None:
    for n in (1, 4, 5):
        for d in (1.0, 0.5, -2.0):
            assert np.array_equal(np.asarray(mx.fft.fftfreq(n, d)), np.fft.fftfreq(n, d).astype(np.float32))
            assert np.array_equal(np.asarray(mx.fft.rfftfreq(n, d)), np.fft.rfftfreq(n, d).astype(np.float32))
    for f in (mx.fft.fftfreq, mx.fft.rfftfreq):
        with pytest.raises(ValueError, match="n must be positive"):
            f(0)
        with pytest.raises(ValueError, match="d must not be zero"):
            f(3, 0.0)
    a = np.arange(30).reshape(5, 6)
    for axes in (None, 0, -1, (0, 1), [1], ()):
        for name in ("fftshift", "ifftshift"):
            want = getattr(np.fft, name)(a, axes)
            assert np.array_equal(np.asarray(getattr(mx.fft, name)(mx.array(a), axes)), want)
    with pytest.raises(IndexError, match="axis 3"):
        mx.fft.fftshift(mx.ones(4), axes=3)
    assert mx.fft.fftshift(mx.array(1)).item() == 1


# ---- short-time transforms ----


def frames_of(x: np.ndarray, n: int, hop: int, window: np.ndarray, mode: str | None) -> np.ndarray:
    """The definition: windowed frames of the padded signal."""
    if mode:
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(n // 2, n // 2)], mode=mode)  # type: ignore[call-overload]
    wide = np.zeros(n)
    left = (n - len(window)) // 2
    wide[left : left + len(window)] = window
    count = 1 + (x.shape[-1] - n) // hop
    return np.stack([x[..., i * hop : i * hop + n] * wide for i in range(count)], -1)


@pytest.mark.parametrize("mode", ["reflect", "constant", "edge", "symmetric", None])
@pytest.mark.parametrize(("n", "hop", "length"), [(16, 4, 16), (16, 5, 9), (15, 3, 8), (4, 1, 4)])
def test_stft(mode: str | None, n: int, hop: int, length: int) -> None:
    x = draw(6, 2, 40, complex_=False)
    window = np.hanning(length + 2)[1:-1].astype(np.float32)
    options: dict[str, Any] = {
        "center": mode is not None,
        "pad_mode": mode or "reflect",
        "window": mx.array(window),
    }
    got = mx.fft.stft(mx.array(x), n, hop, **options)
    frames = frames_of(x, n, hop, window, mode)
    assert_near(got, np.fft.rfft(frames, axis=-2), n)
    both = mx.fft.stft(mx.array(x), n, hop, onesided=False, norm="ortho", **options)
    assert_near(both, np.fft.fft(frames, axis=-2, norm="ortho"), n)
    z = draw(7, 40)
    assert_near(
        mx.fft.stft(mx.array(z), n, hop, **options),
        np.fft.fft(frames_of(z, n, hop, window, mode), axis=-2),
        n,
    )


def test_stft_defaults() -> None:
    x = draw(8, 100, complex_=False)
    assert_near(
        mx.fft.stft(mx.array(x), 16), np.fft.rfft(frames_of(x, 16, 4, np.ones(16), "reflect"), axis=-2), 16
    )
    short = mx.fft.stft(mx.array(x), 16, win_length=7)
    assert_near(short, np.fft.rfft(frames_of(x, 16, 4, np.ones(7), "reflect"), axis=-2), 16)
    assert mx.fft.stft(mx.ones(3000)).shape == (1025, 6)
    assert mx.fft.stft(mx.arange(100), 16).dtype == mx.complex64


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("onesided", [True, False])
@pytest.mark.parametrize("n", [16, 15])
def test_istft_inverts_stft(center: bool, norm: str, onesided: bool, n: int) -> None:
    x = draw(9, 3, 88, complex_=False)
    window = mx.array(np.hanning(n + 2)[1:-1].astype(np.float32))
    options: dict[str, Any] = {"window": window, "center": center, "norm": norm, "onesided": onesided}
    spectra = mx.fft.stft(mx.array(x), n, 4, **options)
    y = np.asarray(mx.fft.istft(spectra, n, 4, **options))
    assert y.dtype == np.float32
    samples = y.shape[-1]
    assert samples <= x.shape[-1]
    # Near an end without centering the squared windows sum to little, which magnifies rounding.
    inside = slice(0, samples) if center else slice(8, samples - 8)
    bound = 8 * np.log2(n) * 4 * EPS * np.abs(x).max()
    assert np.abs(y - x[:, :samples])[:, inside].max() <= bound * n
    cut = np.asarray(mx.fft.istft(spectra, n, 4, length=50, **options))
    assert np.array_equal(cut, y[:, :50])
    long = np.asarray(mx.fft.istft(spectra, n, 4, length=120, **options))
    # A longer signal goes on into the padding behind it, then there is nothing.
    assert np.array_equal(long[:, :samples], y)
    assert not long[:, samples + (n // 2 if center else 0) :].any()


def test_istft_where_no_window_reaches() -> None:
    window = mx.array(np.hanning(16).astype(np.float32))  # zero at both ends
    x = draw(10, 64, complex_=False)
    spectra = mx.fft.stft(mx.array(x), 16, 16, window=window, center=False)
    y = np.asarray(mx.fft.istft(spectra, hop_length=16, window=window, center=False))
    assert y[0] == y[15] == y[16] == 0
    assert np.abs(y[4:12] - x[4:12]).max() <= 64 * EPS * np.abs(x).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_fft": 0}, "n_fft must be positive, got 0"),
        ({"n_fft": 3}, "hop_length must be positive, got 0"),
        ({"n_fft": 8, "hop_length": -1}, "hop_length must be positive"),
        ({"n_fft": 8, "win_length": 9}, "at most n_fft = 8 samples, got 9"),
        ({"n_fft": 8, "window": mx.ones(9)}, "at most n_fft = 8 samples, got 9"),
        ({"n_fft": 8, "window": mx.ones((2, 4))}, "one axis"),
        ({"n_fft": 8, "pad_mode": "wrap"}, "pad_mode must be"),
        ({"n_fft": 8, "norm": "no"}, "norm must be"),
        ({"n_fft": 64, "center": False}, "at least n_fft = 64 samples, got 20"),
    ],
    ids=str,
)
def test_stft_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mx.fft.stft(mx.ones(20), **arguments)


def test_istft_errors() -> None:
    for x, arguments, message in [
        (mx.ones(5), {}, "frequencies and frames"),
        (mx.ones((5, 0)), {}, "at least one frame"),
        (mx.ones((1, 3)), {}, "n_fft must be positive"),
        (mx.ones((5, 3)), {"length": -1}, "length must not be negative"),
        (mx.ones((5, 3)), {"hop_length": 0}, "hop_length must be positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            mx.fft.istft(x, **arguments)
    with pytest.raises(ValueError, match="at least one axis"):
        mx.fft.stft(mx.array(1.0), 4)


# ---- transforms of functions ----


@pytest.mark.parametrize("n", [1, 4, 5, 6])
@pytest.mark.parametrize("name", ONE)
def test_gradients_are_the_adjoint_map(name: str, n: int) -> None:
    """Of Re sum(conj(w) y), with the map written out as a matrix over real and imaginary parts."""
    have = n // 2 + 1 if name == "irfft" else n
    x = draw(11, 2, have, complex_=name != "rfft")
    w = draw(12, 2, n // 2 + 1 if name == "rfft" else n, complex_=name != "irfft")
    ours, theirs = getattr(mx.fft, name), getattr(np.fft, name)
    grad = mx.grad(lambda a: mx.real(mx.sum(mx.conjugate(mx.array(w)) * ours(a, n, norm="ortho"))))(
        mx.array(x)
    )
    columns = theirs(np.eye(have), n, norm="ortho")
    want = w.conj() @ columns.T
    if name != "rfft":
        imaginary = theirs(1j * np.eye(have), n, norm="ortho")
        want = want.real + 1j * (w.conj() @ imaginary.T).real
    assert_near(grad, want if name != "rfft" else want.real, 8)
    tangent = draw(13, 2, have, complex_=name != "rfft")
    got = mx.jvp(lambda a: ours(a, n), [mx.array(x)], [mx.array(tangent)])[1][0]
    assert_near(got, theirs(tangent, n), 8)


def test_second_derivatives_of_a_power_spectrum() -> None:
    x = mx.array(draw(14, 8, complex_=False))

    def spectrum(a: mx.array) -> mx.array:
        z = mx.fft.rfft(a)
        return (mx.real(z) ** 2 + mx.imag(z) ** 2).sum()

    power = mx.grad(spectrum)
    direction = mx.array(draw(15, 8, complex_=False))
    got = mx.grad(lambda a: (power(a) * direction).sum())(x)
    # sum |X_k|^2 over half a spectrum is quadratic: its second derivative is the gradient at the direction.
    assert np.abs(np.asarray(got) - np.asarray(power(direction))).max() <= 64 * EPS * 8 * 8


@pytest.mark.parametrize("name", ONE)
def test_vmap_equals_a_loop(name: str) -> None:
    a = mx.array(draw(16, 3, 4, 6, complex_=name != "rfft"))
    f = getattr(mx.fft, name)
    for in_axis in (0, 1, 2):
        for axis in (0, -1):
            moved = mx.moveaxis(a, in_axis, 0)
            want = np.stack([np.asarray(f(m, axis=axis)) for m in moved])
            assert np.array_equal(np.asarray(mx.vmap(lambda m, axis=axis: f(m, axis=axis), in_axis)(a)), want)


def test_gradient_of_stft() -> None:
    x = draw(17, 30, complex_=False)
    grad = mx.grad(lambda a: mx.real(mx.fft.stft(a, 8, 2, center=False)[0]).sum())(mx.array(x))
    covered = np.zeros(30)
    for start in range(0, 23, 2):
        covered[start : start + 8] += 1
    assert np.abs(np.asarray(grad) - covered).max() <= 64 * EPS


def test_convolution_theorem_in_one_graph() -> None:
    a, b = draw(18, 2, 50, complex_=False), draw(19, 2, 50, complex_=False)
    f = mx.compile(lambda x, y: mx.fft.irfft(mx.fft.rfft(x, 128) * mx.fft.rfft(y, 128), 128)[..., :99])
    want = np.stack([np.convolve(p, q) for p, q in zip(a.astype(float), b.astype(float), strict=True)])
    assert np.abs(np.asarray(f(mx.array(a), mx.array(b))) - want).max() <= 64 * EPS * np.abs(want).max()
