"""Checks of random numbers: moments and shares, each within six of its deviations."""

from __future__ import annotations

import numpy as np

from bench.compare.model import Check, Mismatch, Outputs

_DEVIATIONS = 6.0


def _require(what: str, found: float, want: float, deviation: float) -> None:
    if not abs(found - want) <= _DEVIATIONS * deviation:
        raise Mismatch(f"wanted {what} {want:.7g} within {_DEVIATIONS * deviation:.2g}, got {found:.7g}")


def _numbers(outputs: Outputs, count: int) -> np.ndarray:
    (x,) = outputs
    if x.shape != (count,) or x.dtype != np.float32:
        raise Mismatch(f"wanted float32 of shape {(count,)}, got {x.dtype} of {x.shape}")
    return x


def _share(count: int, probability: float) -> float:
    """Deviation of the share of ``count`` draws that hit something of that probability."""
    return (probability * (1 - probability) / count) ** 0.5


def normal_numbers(count: int) -> Check:
    """A check of ``count`` standard normal float32 numbers."""

    def check(outputs: Outputs) -> None:
        x = _numbers(outputs, count)
        _require("mean", float(x.mean(dtype=np.float64)), 0.0, count**-0.5)
        _require("variance", float(x.var(dtype=np.float64)), 1.0, (2 / count) ** 0.5)
        _require("share in (-1, 1)", float((np.abs(x) < 1).mean()), 0.6826895, _share(count, 0.6826895))

    return check


def uniform_numbers(count: int) -> Check:
    """A check of ``count`` uniform float32 numbers in [0, 1)."""

    def check(outputs: Outputs) -> None:
        x = _numbers(outputs, count)
        low, high = float(x.min()), float(x.max())
        if not (low >= 0 and high < 1):
            raise Mismatch(f"wanted numbers in [0, 1), got {low:.7g} to {high:.7g}")
        _require("mean", float(x.mean(dtype=np.float64)), 0.5, (12 * count) ** -0.5)
        _require("share below 0.1", float((x < 0.1).mean()), 0.1, _share(count, 0.1))

    return check


def uniform_integers(count: int, below: int) -> Check:
    """A check of ``count`` uniform int32 numbers in [0, below), a power of two."""

    def check(outputs: Outputs) -> None:
        (x,) = outputs
        if x.shape != (count,) or x.dtype != np.int32:
            raise Mismatch(f"wanted int32 of shape {(count,)}, got {x.dtype} of {x.shape}")
        low, high = int(x.min()), int(x.max())
        if not (low >= 0 and high < below):
            raise Mismatch(f"wanted numbers in [0, {below}), got {low} to {high}")
        for bit in range(below.bit_length() - 1):
            _require(f"share with bit {bit}", float((x >> bit & 1).mean()), 0.5, _share(count, 0.5))

    return check
