"""What each elementwise row computes, in NumPy, for operands in a dtype wider than the one under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Oracle = Callable[..., np.ndarray]
PI = np.longdouble("3.14159265358979323846264338327950288")


def is_whole(x: np.ndarray) -> bool:
    return x.dtype.kind in "iub"


def of_whole(f: Oracle) -> Oracle:
    """f for floats; integers and booleans stay as they are."""
    return lambda x: x if is_whole(x) else f(x)


def of_complex(f: Oracle, real: Oracle) -> Oracle:
    return lambda *xs: f(*xs) if xs[0].dtype.kind == "c" else real(*xs)


def of_bool(f: Oracle, other: Oracle) -> Oracle:
    return lambda *xs: f(*xs) if xs[0].dtype == np.bool_ else other(*xs)


def erf_series(x: np.ndarray) -> np.ndarray:
    """erf for |x| <= 3 from a series of positive terms: no cancellation."""
    term = 2 / np.sqrt(PI) * x * np.exp(-x * x)
    total = term.copy()
    for n in range(1, 90):
        term = term * 2 * x * x / (2 * n + 1)
        total += term
    return total


def erfc_fraction(x: np.ndarray) -> np.ndarray:
    """erfc for x >= 2 from its continued fraction, evaluated from the inside."""
    tail = np.zeros_like(x)
    for n in range(200, 0, -1):
        tail = (n / np.longdouble(2)) / (x + tail)
    return np.exp(-x * x) / np.sqrt(PI) / (x + tail)


def erf(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.longdouble)
    m = np.abs(x)
    near = erf_series(np.minimum(m, 3))
    far = 1 - erfc_fraction(np.clip(m, 3, 20))
    # NaN fails both comparisons and passes through the series.
    return np.copysign(np.where(m > 3, far, near), x)


def erfc_positive(y: np.ndarray) -> np.ndarray:
    return np.where(y > 2, erfc_fraction(np.maximum(y, 2)), 1 - erf_series(np.minimum(y, 2)))


def erfinv(x: np.ndarray) -> np.ndarray:
    """Halley's method on erf below one half and on erfc above, from a rough start."""
    x = x.astype(np.longdouble)
    m = np.minimum(np.abs(x), 1 - np.longdouble(2) ** -60)
    w = -np.log((1 - m) * (1 + m))
    a = np.longdouble("4.33074675") - w / 2
    y = np.where(m < 1e-4, m * np.sqrt(PI) / 2, np.sqrt(np.sqrt(a * a + w * np.longdouble("6.80272109")) - a))
    for _ in range(6):
        miss = np.where(m < 0.5, erf_series(np.minimum(y, 3)) - m, (1 - m) - erfc_positive(y))
        newton = miss * np.sqrt(PI) / 2 * np.exp(y * y)
        y = y - newton / (1 + y * newton)
    y = np.where(np.abs(x) == 1, np.inf, np.where(np.abs(x) > 1, np.nan, y))
    return np.copysign(y, x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(np.signbit(x), e, 1) / (1 + e)


def log_add_exp_complex(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """On the branch of the larger operand: its imaginary part is not wrapped."""
    high, low = np.maximum(x, y), np.minimum(x, y)
    return high + np.log1p(np.exp(low - high))


def divide_floor(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x & y) if x.dtype == np.bool_ else np.floor_divide(x, y)


def power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype == np.bool_:
        return x | ~y
    if not is_whole(x):
        return np.power(x, y)
    # A negative power truncates 1 / x^-y towards zero: only 1 and -1 leave anything.
    below = y < 0
    even = (y & 1) == 0
    negative = np.where(x == 1, 1, np.where(x == -1, np.where(even, 1, -1), 0)).astype(x.dtype)
    return np.where(below, negative, np.power(x, np.where(below, 0, y).astype(x.dtype)))


UNARY: dict[str, Oracle] = {
    "negative": np.negative,
    "abs": np.abs,
    "sign": of_bool(lambda x: x, np.sign),
    "square": lambda x: x * x,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "arcsin": np.arcsin,
    "arccos": np.arccos,
    "arctan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "arcsinh": np.arcsinh,
    "arccosh": np.arccosh,
    "arctanh": np.arctanh,
    "erf": erf,
    "erfinv": erfinv,
    "sigmoid": sigmoid,
    "floor": of_whole(np.floor),
    "ceil": of_whole(np.ceil),
    "trunc": of_whole(np.trunc),
    "round": of_whole(np.rint),
    "logical_not": np.logical_not,
    "bitwise_invert": np.invert,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "isposinf": of_complex(lambda x: x == complex(np.inf, 0), lambda x: x == np.inf),
    "isneginf": of_complex(lambda x: x == complex(-np.inf, 0), lambda x: x == -np.inf),
    "conjugate": of_complex(np.conjugate, lambda x: x),
    "real": np.real,
    "imag": np.imag,
}

BINARY: dict[str, Oracle] = {
    "add": np.add,
    "subtract": of_bool(np.logical_xor, np.subtract),
    "multiply": np.multiply,
    "divide": np.divide,
    "floor_divide": divide_floor,
    "remainder": of_bool(lambda x, y: np.zeros_like(x & y), np.remainder),
    "power": power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "logaddexp": of_complex(log_add_exp_complex, np.logaddexp),
    "arctan2": np.arctan2,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "left_shift": np.left_shift,
    "right_shift": np.right_shift,
}

TERNARY: dict[str, Oracle] = {"select": np.where}


def truth(oracle: Oracle, xs: list[np.ndarray], exact: bool) -> Any:
    """The oracle's result in a dtype wide enough to judge one in the operands' dtype."""
    wide = {"f": np.float64, "c": np.complex128}.get(xs[0].dtype.kind)
    if xs[0].dtype == np.float64 and not exact:
        wide = np.longdouble
    with np.errstate(all="ignore"):
        return oracle(*[x if wide is None else x.astype(wide) for x in xs])
