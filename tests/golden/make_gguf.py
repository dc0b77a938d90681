"""Writes the golden GGUF files of the readers' tests with the gguf package, and prints the digests of its decoders.

Run it as ``python tests/golden/make_gguf.py`` with a Python that has ``gguf``. Into ``tests/golden/io`` go

- ``kinds.gguf``: every type of metadata and every plain tensor type; elements follow ``make_io.py``;
- ``blocks.gguf``: one tensor of 2 rows for each block format, and ``blocks.npz`` with what the package decodes.

The printed table is that of ``tests/cpp/quant/gguf_blocks_test.cc``: FNV-1a (64 bits) over the bytes of the decoded
float32 values of 300 blocks. Byte ``i`` of the blocks is a hash of ``i``; no scale is infinite or NaN.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

OUT = Path(__file__).parent / "io"
# Each format with the places of the float16 fields in its blocks.
BLOCKS = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,),
}  # fmt: skip
PLAIN = ["float32", "float16", "int8", "int16", "int32", "int64", "float64"]


def block_bytes(name: str, count: int, seed: int) -> np.ndarray:
    """Blocks of shape (count, bytes): hashes, with finite float16 fields."""
    _, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    index = np.arange(count * size, dtype=np.uint64) + np.uint64(seed)
    data = (
        ((index * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(13))
        .astype(np.uint8)
        .reshape(count, size)
    )
    for place in BLOCKS[name]:
        data[:, place + 1] &= 0xBF
    return data


def decoded(name: str, data: np.ndarray) -> np.ndarray:
    """The package's float32 values of blocks."""
    return gguf.quants.dequantize(data, GGMLQuantizationType[name])


def digest(data: bytes) -> int:
    """FNV-1a with 64 bits."""
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def pattern(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The elements that ``make_io.py`` describes, for signed and floating dtypes."""
    i = np.arange(int(np.prod(shape))) - 2
    return (i if dtype.startswith("int") else i * 0.5).astype(dtype).reshape(shape)


def finish(writer: GGUFWriter) -> None:
    """Write everything that was added."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_kinds() -> None:
    """Write kinds.gguf."""
    writer = GGUFWriter(OUT / "kinds.gguf", "test")
    writer.add_uint8("n.uint8", 200)
    writer.add_int8("n.int8", -100)
    writer.add_uint16("n.uint16", 60000)
    writer.add_int16("n.int16", -30000)
    writer.add_uint32("n.uint32", 4000000000)
    writer.add_int32("n.int32", -2000000000)
    writer.add_uint64("n.uint64", 2**63 + 1)
    writer.add_int64("n.int64", -(2**62))
    writer.add_float32("n.float32", 0.25)
    writer.add_float64("n.float64", 0.1)
    writer.add_bool("n.bool", True)
    writer.add_string("text", 'caf\u00e9 "quoted"\n')
    writer.add_array("list.int32", [1, -2, 3])
    writer.add_array("list.float32", [0.5, -1.5])
    writer.add_array("list.bool", [True, False, True])
    writer.add_array("list.text", ["a", "", "\u4e16"])
    writer.add_array("list.list", [[1, 2], [3], [4, 5, 6]])
    for dtype in PLAIN:
        writer.add_tensor(f"t.{dtype}", pattern(dtype, (2, 3)))
    bfloat16 = pattern("float32", (2, 3)).astype(ml_dtypes.bfloat16).view(np.uint8)
    writer.add_tensor("t.bfloat16", bfloat16, raw_dtype=GGMLQuantizationType.BF16)
    writer.add_tensor("four", pattern("float32", (2, 1, 3, 2)))
    writer.add_tensor("vector", pattern("float32", (5,)))
    finish(writer)


def write_blocks() -> None:
    """Write blocks.gguf and blocks.npz."""
    writer = GGUFWriter(OUT / "blocks.gguf", "test")
    expected = {}
    for name in BLOCKS:
        elems, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        count = 2 * 256 // elems
        data = block_bytes(name, count, seed=7).reshape(2, -1)
        writer.add_tensor(name.lower(), data, raw_dtype=GGMLQuantizationType[name])
        expected[name.lower()] = decoded(name, data.reshape(count, size)).reshape(2, 256)
    finish(writer)
    np.savez_compressed(OUT / "blocks.npz", **expected)


def main() -> None:
    """Write the files and print one row of the table a format."""
    write_kinds()
    write_blocks()
    for name in BLOCKS:
        values = decoded(name, block_bytes(name, 300, seed=0))
        print(f'    {{"{name.lower()}", 0x{digest(values.astype("<f4").tobytes()):016x}}},')


if __name__ == "__main__":
    main()
