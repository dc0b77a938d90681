"""Print the table of digests in affine_test.cc, made by a reference implementation of `quantize`.

Run with a Python that has the reference package:  python affine_golden.py
Each digest is FNV-1a (64 bits) over the bytes of codes, scales, biases and decoded weights, in that order.
"""

import mlx.core as mx
import numpy as np

ROWS, COLS = 6, 256
DTYPES = {"kFloat32": mx.float32, "kFloat16": mx.float16, "kBFloat16": mx.bfloat16}


def weights() -> np.ndarray:
    """Return float32 values of shape (ROWS, COLS): hashes; rows shifted; one zero and one constant row."""
    index = np.arange(ROWS * COLS, dtype=np.uint64)
    bits = (index * 2654435761 + 12345) % 2**32 // 256
    w = (bits.astype(np.float32) / np.float32(2**22) - np.float32(2)).reshape(ROWS, COLS)
    w += (np.arange(ROWS, dtype=np.float32)[:, None] % 3 - 1) * np.float32(1.5)
    w[4] = 0
    w[5] = -0.75
    return w


def digest(arrays: list[mx.array]) -> int:
    """Return FNV-1a over the arrays' bytes."""
    h = 0xCBF29CE484222325
    for a in arrays:
        for byte in np.array(a.view(mx.uint8)).tobytes():
            h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def main() -> None:
    """Print one initializer a line."""
    mx.set_default_device(mx.cpu)
    for name, dtype in DTYPES.items():
        w = mx.array(weights()).astype(dtype)
        for bits in (1, 2, 3, 4, 5, 6, 8):
            for group in (32, 64, 128):
                q = mx.quantize(w, group_size=group, bits=bits)
                d = mx.dequantize(*q, group_size=group, bits=bits)
                print(f"    {{Dtype::{name}, {bits}, {group}, 0x{digest([*q, d]):016x}}},")


if __name__ == "__main__":
    main()
