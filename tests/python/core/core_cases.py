"""What the tests of lamina.core share: dtypes, NumPy twins and layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lamina.core as mx
import ml_dtypes
import numpy as np

GOLDEN = Path(__file__).parents[2] / "golden"

# lamina's name of each dtype, and NumPy's counterpart.
NUMPY_DTYPES: dict[str, Any] = {
    "bool_": np.bool_,
    **{
        name: getattr(np, name)
        for name in [
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "int8",
            "int16",
            "int32",
            "int64",
            "float16",
            "float32",
            "float64",
            "complex64",
        ]
    },
    "bfloat16": ml_dtypes.bfloat16,
}
INTEGERS = [n for n in NUMPY_DTYPES if "int" in n]
FLOATS = ["float16", "float32", "float64", "bfloat16"]


def golden(name: str) -> Any:
    """The content of a golden JSON file."""
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def short(dtype: object) -> str:
    """'float32' of lamina.core.float32."""
    return str(dtype).rpartition(".")[2]


def sample(name: str, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    """Small numbers that every dtype holds exactly: 0, 1, 2, ...; alternating for bool."""
    values = np.arange(int(np.prod(shape))).reshape(shape)
    return (values % 2 == 1) if name == "bool_" else values.astype(NUMPY_DTYPES[name])


def layouts(values: np.ndarray) -> dict[str, tuple[mx.array, np.ndarray]]:
    """The same kind of matrix in five layouts, each with its NumPy twin."""
    a = mx.array(values)
    return {
        "contiguous": (a, values),
        "transposed": (a.T, values.T),
        "reversed": (a[::-1], values[::-1]),
        "broadcast": (mx.broadcast_to(a[:1], values.shape), np.broadcast_to(values[:1], values.shape)),
        "offset": (a[1:, 1:], values[1:, 1:]),
    }


def assert_same(got: mx.array, want: np.ndarray) -> None:
    """Equal shapes, dtypes and values; NaN equals NaN."""
    out = np.asarray(got)
    assert got.shape == want.shape
    assert out.dtype == want.dtype
    np.testing.assert_array_equal(out, want)
