"""Write quant.json: codes, scales and values (their SHA-256) of the floating-point block formats as MLX makes them.

Run with an interpreter that has the ``mlx`` wheel: ``python tests/golden/make_quant.py``. The file is part of
the repository, so that the tests need no ``mlx``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import mlx.core as mx
import numpy as np

FOLDER = Path(__file__).parent
MODES = {"mxfp4": 32, "mxfp8": 32, "nvfp4": 16}
LARGEST = {"mxfp4": 6.0, "mxfp8": 448.0, "nvfp4": 6.0}
DTYPES = ["float32", "float16", "bfloat16"]
ROWS, COLS = 16, 64


def weights(mode: str, dtype: str) -> np.ndarray:
    """Values of shape (ROWS, COLS): hashes of many sizes, ties, edges of powers of two, zeros."""
    index = np.arange(ROWS * COLS, dtype=np.uint64)
    bits = (index * 2654435761 + 12345) % 2**32 // 256
    w = (bits.astype(np.float32) / np.float32(2**22) - np.float32(2)).reshape(ROWS, COLS)
    w *= np.exp2(np.arange(ROWS, dtype=np.float32) % 5 * 3 - 8)[:, None]
    # Row 6: every quarter up to the largest E2M1, ties among them. Row 7: zero, then negative zeros.
    w[6] = (np.arange(COLS) % 32 - 12).astype(np.float32) / 4
    w[6, ::16] = 6.0
    w[7] = np.where(np.arange(COLS) < 32, np.float32(0), np.float32(-0.0))
    # Rows 8 to 11: the largest size at, just below and just above a power of two times the largest code.
    step = {"float32": 2.0**-22, "float16": 2.0**-8, "bfloat16": 2.0**-5}[dtype]
    for row, factor in zip(range(8, 12), (1.0, 1.0 - step, 1.0 + step, 1.0 + 3 * step), strict=True):
        w[row] = np.clip(w[row], -1, 1)
        w[row, ::16] = LARGEST[mode] * factor * 2.0 ** (row - 10)
    # Row 12: sizes so small that nvfp4's scales become subnormal or zero.
    w[12] *= np.float32(2.0**-6) * np.exp2(-(np.arange(COLS) // 16).astype(np.float32) * 3)
    return w


def hexed(a: mx.array) -> str:
    """The bytes of an array, in hexadecimal."""
    return np.array(mx.contiguous(a).view(mx.uint8)).tobytes().hex()


def case(mode: str, dtype: str, global_scale: float | None) -> dict[str, object]:
    """One matrix, quantized and dequantized."""
    w = mx.array(weights(mode, dtype)).astype(getattr(mx, dtype))
    scale = {} if global_scale is None else {"global_scale": mx.array(global_scale)}
    codes, scales = mx.quantize(w, mode=mode, **scale)
    values = mx.dequantize(codes, scales, mode=mode, **scale, dtype=mx.float32)
    assert values.dtype == mx.float32
    return {
        "mode": mode,
        "dtype": dtype,
        "global_scale": global_scale,
        "w": hexed(w),
        "codes": hexed(codes),
        "scales": hexed(scales),
        "values": hashlib.sha256(bytes.fromhex(hexed(values))).hexdigest(),
    }


def tables() -> dict[str, str]:
    """Values of every code of every scale where that is one number: float32, in hexadecimal."""
    every = mx.arange(256).astype(mx.uint8)
    one = {"mxfp4": 0x22222222, "nvfp4": 0x22222222, "mxfp8": 0x38383838}
    out = {}
    for mode, group in MODES.items():
        words = group * (8 if mode == "mxfp8" else 4) // 32
        w = mx.full((256, words), one[mode], dtype=mx.uint32)
        values = mx.dequantize(w, every[:, None], mode=mode, dtype=mx.float32)
        out[f"{mode} scales"] = hexed(values[:, 0])
    sizes = mx.dequantize(every.view(mx.uint32).reshape(8, 8), mx.full((8, 1), 127, mx.uint8), mode="mxfp8")
    out["e4m3"] = hexed(sizes.astype(mx.float32))
    nibbles = mx.array([[0x76543210, 0xFEDCBA98, 0x76543210, 0xFEDCBA98]], dtype=mx.uint32)
    sizes = mx.dequantize(nibbles, mx.full((1, 1), 127, mx.uint8), mode="mxfp4")
    out["e2m1"] = hexed(sizes.astype(mx.float32))
    return out


def main() -> None:
    """Write the file."""
    mx.set_default_device(mx.cpu)
    cases = [case(mode, dtype, None) for mode in MODES for dtype in DTYPES]
    cases += [case("nvfp4", dtype, scale) for dtype, scale in zip(DTYPES, (3.7, 17.1, 800.0), strict=True)]
    content = {"rows": ROWS, "cols": COLS, "cases": cases, "tables": tables()}
    (FOLDER / "quant.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
