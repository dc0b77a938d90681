"""Print the coefficients used by cpp/src/backend/cpu/math*-inl.h, as C++ hexadecimal literals.

Run ``python elementary.py [name ...]``; needs mpmath and NumPy. Each line ends with log2 of the largest relative
error that the model leaves before any rounding of its evaluation.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import mpmath as mp
import numpy as np

from minimax import Function, chebyshev_grid, fit, fit_rational, round_float32, round_float64


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


def quotient(name: str, f: Callable[[float], float], hi: float, p_degree: int, q_degree: int) -> None:
    """Fit f(x) = x P(x^2) / Q(x^2) on [0, hi]."""
    x2 = np.array([float(v) for v in chebyshev_grid(mp.mpf(0), mp.mpf(hi) ** 2, 3000)])
    x = np.sqrt(x2)
    target = np.array([f(v) / v for v in x])
    p, q, error = fit_rational(target, x2, p_degree, q_degree)
    show(f"{name} P", [float(np.float32(c)) for c in p], error)
    show(f"{name} Q", [float(np.float32(c)) for c in q], error)


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
    "sin": lambda: relative("sin", mp.sin, lambda x: x, powers(3, 4, 2), 1e-3, float(mp.pi / 2) + 1e-4),
    "tan": lambda: relative("tan", mp.tan, lambda x: x, powers(3, 6, 2), 1e-3, float(mp.pi / 4) + 1e-4),
    "asin": lambda: relative("asin", mp.asin, lambda x: x, powers(3, 5, 2), 1e-3, 0.5),
    "atan": lambda: relative("atan", mp.atan, lambda x: x, powers(3, 9, 2), 1e-3, 1.0),
    "sinh": lambda: relative("sinh", mp.sinh, lambda x: x, powers(3, 3, 2), 1e-3, 1.0),
    "tanh": lambda: quotient("tanh", math.tanh, 9.02, 5, 4),
    "erf": lambda: quotient("erf", math.erf, 3.92, 6, 5),
    "erfinv_mid": lambda: erfinv_fit("erfinv_mid", lambda t: t + mp.mpf(2.5), -2.5, 2.5, 10),
    "erfinv_tail": lambda: erfinv_fit("erfinv_tail", lambda t: (t + 3) ** 2, float(mp.sqrt(5)) - 3, 1.0, 9),
}


def main() -> None:
    for name in sys.argv[1:] or FITS:
        FITS[name]()


if __name__ == "__main__":
    main()
