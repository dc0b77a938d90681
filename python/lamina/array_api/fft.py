"""The extension of the standard for Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import lamina.core as mx
from lamina.array_api._common import Array, Device, check_device

__all__ = [
    "fft",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfftn",
    "rfft",
    "rfftfreq",
    "rfftn",
]

Norm = Literal["backward", "ortho", "forward"]
_OTHER: dict[str, str] = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def fft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The Fourier transform along an axis.

    Parameters
    ----------
    x : array
        The signals.
    n : int, optional
        Length to cut or fill the axis to; its own by default.
    axis : int
        The axis.
    norm : {"backward", "ortho", "forward"}
        Which direction is divided by the length, or both by its root.

    Returns
    -------
    array
        The spectra, complex64.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.fft(xp.asarray([1.0, 0.0]))
    array([1+0j, 1+0j], dtype=complex64)
    """
    return mx.fft.fft(x, n, axis, norm)


def ifft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The inverse of :func:`fft`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.ifft(xp.asarray([2.0, 0.0]))
    array([1+0j, 1+0j], dtype=complex64)
    """
    return mx.fft.ifft(x, n, axis, norm)


def rfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The first half of the spectrum of real signals; arguments as for :func:`fft`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.rfft(xp.ones(8)).shape
    (5,)
    """
    return mx.fft.rfft(x, n, axis, norm)


def irfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The inverse of :func:`rfft`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.irfft(xp.ones(5)).shape
    (8,)
    """
    return mx.fft.irfft(x, n, axis, norm)


def fftn(
    x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
) -> Array:
    """The Fourier transform along several axes, or all.

    Parameters
    ----------
    x : array
        The signals.
    s : sequence of int, optional
        Lengths to cut or fill the axes to.
    axes : sequence of int, optional
        The axes; all by default, or the last as many as `s` names.
    norm
        As for :func:`fft`.

    Returns
    -------
    array
        The spectra, complex64.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.fftn(xp.ones((2, 2)))[0, 0]
    array(4+0j, dtype=complex64)
    """
    return mx.fft.fftn(x, s, axes, norm)


def ifftn(
    x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
) -> Array:
    """The inverse of :func:`fftn`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.ifftn(xp.ones((2, 2)))[0, 0]
    array(1+0j, dtype=complex64)
    """
    return mx.fft.ifftn(x, s, axes, norm)


def rfftn(
    x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
) -> Array:
    """:func:`fftn` of real signals: the first half along the last axis.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.rfftn(xp.ones((4, 4))).shape
    (4, 3)
    """
    return mx.fft.rfftn(x, s, axes, norm)


def irfftn(
    x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
) -> Array:
    """The inverse of :func:`rfftn`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.irfftn(xp.ones((4, 3))).shape
    (4, 4)
    """
    return mx.fft.irfftn(x, s, axes, norm)


def hfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The real spectrum of signals of which one half is given, the other being its conjugate.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.hfft(xp.asarray([1.0, 2.0, 3.0]))
    array([8, -2, 0, -2], dtype=float32)
    """
    return mx.fft.irfft(mx.conjugate(mx.astype(x, mx.complex64)), n, axis, _OTHER.get(norm, norm))


def ihfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The inverse of :func:`hfft`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.real(xp.fft.ihfft(xp.asarray([8.0, -2.0, 0.0, -2.0])))
    array([1, 2, 3], dtype=float32)
    """
    return mx.conjugate(mx.fft.rfft(x, n, axis, _OTHER.get(norm, norm)))


def fftfreq(
    n: int, /, *, d: float = 1.0, dtype: mx.Dtype | None = None, device: Device | None = None
) -> Array:
    """The frequencies of :func:`fft`'s results.

    Parameters
    ----------
    n : int
        Length of the signals.
    d : float
        Distance of their samples.
    dtype : Dtype, optional
        float32 by default.
    device : Device, optional
        Where to put them.

    Returns
    -------
    array, shape (n,)
        The frequencies.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.fftfreq(4)
    array([0, 0.25, -0.5, -0.25], dtype=float32)
    """
    check_device("fftfreq", device)
    if dtype is None:
        return mx.fft.fftfreq(n, d)
    k = mx.arange(n)
    return mx.where(k < (n + 1) // 2, k, k - n).astype(dtype) / (n * d)


def rfftfreq(
    n: int, /, *, d: float = 1.0, dtype: mx.Dtype | None = None, device: Device | None = None
) -> Array:
    """The frequencies of :func:`rfft`'s results; arguments as for :func:`fftfreq`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.rfftfreq(4)
    array([0, 0.25, 0.5], dtype=float32)
    """
    check_device("rfftfreq", device)
    return mx.fft.rfftfreq(n, d) if dtype is None else mx.arange(n // 2 + 1).astype(dtype) / (n * d)


def fftshift(x: Array, /, *, axes: int | Sequence[int] | None = None) -> Array:
    """Move frequency 0 to the middle of axes, or of all.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.fftshift(xp.arange(4))
    array([2, 3, 0, 1], dtype=int32)
    """
    return mx.fft.fftshift(x, [axes] if isinstance(axes, int) else axes)


def ifftshift(x: Array, /, *, axes: int | Sequence[int] | None = None) -> Array:
    """The inverse of :func:`fftshift`.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.fft.ifftshift(xp.arange(3))
    array([1, 2, 0], dtype=int32)
    """
    return mx.fft.ifftshift(x, [axes] if isinstance(axes, int) else axes)
