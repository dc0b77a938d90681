"""Print the coefficients used by cpp/src/backend/cpu/math*-inl.h, as C++ hexadecimal literals.

Run ``python elementary.py [name ...]``; needs mpmath and NumPy. Each line ends with log2 of the largest
relative error that the model leaves before any rounding of its evaluation.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import mpmath as mp  # pyright: ignore[reportMissingImports]
from minimax import Function, fit, round_float32, round_float64


def powers(first: int, count: int, step: int = 1) -> list[Function]:
    return [(lambda x, k=first + step * j: x**k) for j in range(count)]


def show(name: str, coefficients: list[float], error: float) -> None:
    values = ", ".join(float(c).hex().replace("0000000p", "p") for c in coefficients)
    print(f"{name}: {{{values}}}  2^{math.log2(error):.1f}", flush=True)


def relative(
    name: str, f: Function, known: Function, basis: list[Function], lo: float, hi: float, double: bool = False
) -> None:
    """Fit f(x) - known(x) by `basis` for the smallest error relative to f."""
    rounding = round_float64 if double else round_float32
    show(name, *fit(lambda x: f(x) - known(x), basis, lambda x: 1 / f(x), lo, hi, rounding))


def erfinv_fit(name: str, w_of_t: Function, lo: float, hi: float, count: int) -> None:
    """Fit erfinv(x) / x as a polynomial in t, where w_of_t gives w = -log(1 - x^2)."""

    def ratio(t: mp.mpf) -> mp.mpf:
        x = mp.sqrt(-mp.expm1(-w_of_t(t)))
        return mp.erfinv(x) / x

    show(name, *fit(ratio, powers(0, count), lambda t: 1 / ratio(t), lo, hi))


FITS: dict[str, Callable[[], None]] = {
    "exp": lambda: relative("exp", mp.exp, lambda r: 1 + r, powers(2, 5), -0.3467, 0.3467),
    "log": lambda: relative(
        "log", mp.log1p, lambda f: f - f * f / 2, powers(3, 8), float(mp.sqrt(0.5)) - 1, float(mp.sqrt(2)) - 1
    ),
    "sin": lambda: relative("sin", mp.sin, lambda x: x, powers(3, 4, 2), 1e-3, float(mp.pi / 2) + 0.004),
    "tan": lambda: relative("tan", mp.tan, lambda x: x, powers(3, 6, 2), 1e-3, float(mp.pi / 4) + 1e-4),
    "asin": lambda: relative("asin", mp.asin, lambda x: x, powers(3, 5, 2), 1e-3, 0.5),
    "atan": lambda: relative("atan", mp.atan, lambda x: x, powers(3, 9, 2), 1e-3, 1.0),
    "sinh": lambda: relative("sinh", mp.sinh, lambda x: x, powers(3, 3, 2), 1e-3, 1.0),
    # -log(erfc(x)) beyond its first term, weighted by what it does to erf(x) = 1 - exp(-model).
    "erf": lambda: show(
        "erf",
        *fit(
            lambda x: -mp.log(mp.erfc(x)) - 2 / mp.sqrt(mp.pi) * x,
            powers(2, 7),
            lambda x: mp.erfc(x) / mp.erf(x),
            1e-3,
            3.93,
        ),
    ),
    "exp64": lambda: relative("exp64", mp.exp, lambda r: 1 + r, powers(2, 10), -0.3467, 0.3467, double=True),
    "log64": lambda: relative(
        "log64", lambda s: 2 * mp.atanh(s), lambda s: 2 * s, powers(3, 7, 2), 1e-3, 0.1716, double=True
    ),
    "sin64": lambda: relative(
        "sin64", mp.sin, lambda x: x, powers(3, 8, 2), 1e-3, float(mp.pi / 2) + 1e-6, double=True
    ),
    # For float32 power, evaluated in double.
    "log2": lambda: relative(
        "log2",
        lambda s: 2 * mp.atanh(s) / mp.log(2),
        lambda s: mp.mpf(0),
        powers(1, 6, 2),
        1e-3,
        0.1716,
        double=True,
    ),
    "exp2": lambda: relative(
        "exp2", lambda f: mp.mpf(2) ** f, lambda f: mp.mpf(0), powers(0, 8), -0.5, 0.5, double=True
    ),
    "erfinv_mid": lambda: erfinv_fit("erfinv_mid", lambda t: t + mp.mpf(2.5), -2.5, 2.5, 10),
    "erfinv_tail": lambda: erfinv_fit("erfinv_tail", lambda t: (t + 3) ** 2, float(mp.sqrt(5)) - 3, 1.0, 9),
}


def main() -> None:
    for name in sys.argv[1:] or FITS:
        FITS[name]()


if __name__ == "__main__":
    main()
