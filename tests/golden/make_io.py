"""Writes the golden files of the readers' tests with NumPy and the safetensors package.

Run it as ``python tests/golden/make_io.py``; the files go to ``tests/golden/io``. They also are the seeds of the fuzz
targets in ``tests/fuzz``. Element ``i`` (row-major) of a tensor is ``i`` for unsigned integers, ``i - 2`` for signed
ones, ``(i - 2) / 2`` for floats, ``i / 2 - i j`` for complex numbers, and ``i % 2 == 1`` for bool.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

OUT = Path(__file__).parent / "io"
DTYPES = [
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "float32", "float64", "bfloat16", "complex64",
]  # fmt: skip


def pattern(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor that the tests expect; see the module's docstring."""
    i = np.arange(int(np.prod(shape)))
    if dtype == "bool":
        values = i % 2 == 1
    elif dtype.startswith("uint"):
        values = i
    elif dtype.startswith("int"):
        values = i - 2
    elif dtype == "complex64":
        values = i * 0.5 - 1j * i
    else:
        values = (i - 2) * 0.5
    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).reshape(shape)


def write_npy() -> None:
    for dtype in DTYPES:
        np.save(OUT / f"{dtype}.npy", pattern(dtype, (2, 3)))
    np.save(OUT / "fortran.npy", np.asfortranarray(pattern("float32", (2, 3, 4))))
    np.save(OUT / "scalar.npy", pattern("int64", ()))
    np.save(OUT / "vector.npy", pattern("float64", (5,)))
    np.save(OUT / "empty.npy", pattern("float32", (0, 3)))
    for code in ["i2", "u4", "i8", "f4", "f8", "c8"]:
        name = np.dtype(code).name
        np.save(OUT / f"big_endian_{name}.npy", pattern(name, (2, 3)).astype(f">{code}"))
    for version in [(2, 0), (3, 0)]:
        with (OUT / f"version{version[0]}.npy").open("wb") as file:
            np.lib.format.write_array(file, pattern("float32", (2, 3)), version=version)


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zip64_archive(name: str, data: bytes) -> bytes:
    """An archive whose every length and place stands in a zip64 record, as one over 4 GiB has it."""
    full = 0xFFFFFFFF
    crc = zlib.crc32(data)
    encoded = name.encode()
    local_extra = struct.pack("<HHQQ", 1, 16, len(data), len(data))
    local = struct.pack(
        "<IHHHIIIIHH", 0x04034B50, 45, 0, 0, 0x210000, crc, full, full, len(encoded), len(local_extra)
    )
    body = local + encoded + local_extra + data
    extra = struct.pack("<HHQQQ", 1, 24, len(data), len(data), 0)
    directory = struct.pack(
        "<IHHHHIIIIHHHHHII",
        0x02014B50, 45, 45, 0, 0, 0x210000, crc, full, full, len(encoded), len(extra), 0, 0, 0, 0, full,
    )  # fmt: skip
    directory += encoded + extra
    end64 = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 1, 1, len(directory), len(body))
    locator = struct.pack("<IIQI", 0x07064B50, 0, len(body) + len(directory), 1)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, full, full, 0)
    return body + directory + end64 + locator + end


def write_npz() -> None:
    tensors = {"a": pattern("float32", (2, 3)), "b/c": pattern("int8", (7,)), "d": pattern("bool", ())}
    np.savez(OUT / "stored.npz", **tensors)
    np.savez_compressed(OUT / "deflated.npz", **tensors, zeros=np.zeros((64, 64), np.float32))
    (OUT / "zip64.npz").write_bytes(zip64_archive("a.npy", npy_bytes(tensors["a"])))
    with zipfile.ZipFile(OUT / "comment.npz", "w") as archive:
        archive.comment = b"PK\x05\x06 in a comment"
        archive.writestr(zipfile.ZipInfo("folder/"), b"")
        archive.writestr(zipfile.ZipInfo("\u00e9.npy"), npy_bytes(tensors["a"]))


def write_safetensors() -> None:
    tensors = {f"t.{dtype}": pattern(dtype, (2, 3)) for dtype in DTYPES}
    tensors["empty"] = pattern("float32", (0, 3))
    tensors["scalar"] = pattern("float32", ())
    tensors['\u00e9"\\'] = pattern("int8", (5,))
    save_file(tensors, OUT / "all.safetensors", metadata={"format": "np", "note": 'caf\u00e9 "quoted"\n'})
    save_file(
        {"b": pattern("float32", (3,)), "a": pattern("float32", (2, 2)), "c": pattern("uint8", (3,))},
        OUT / "small.safetensors",
        metadata={"k": "v"},
    )


def main() -> None:
    OUT.mkdir(exist_ok=True)
    write_npy()
    write_npz()
    write_safetensors()


if __name__ == "__main__":
    main()
