"""Rows of calls in several steps: transforms of functions, and files."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from . import surface_more
from .calls import Operand
from .drawing import Draw
from .surface import DTYPES, SPECS, Arguments, Spec, add

assert surface_more.SIDES  # its rows come first

# Functions to transform: at least one of each family of gradient and batching rules.
SMOOTH = [
    "abs",
    "negative",
    "square",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "sigmoid",
    "arctan",
    "arcsinh",
    "erf",
    "add",
    "subtract",
    "multiply",
    "divide",
    "maximum",
    "minimum",
    "logaddexp",
    "power",
    "arctan2",
    "where",
    "clip",
    "sum",
    "mean",
    "prod",
    "max",
    "min",
    "logsumexp",
    "softmax",
    "var",
    "std",
    "median",
    "sort",
    "cumsum",
    "cumprod",
    "cummax",
    "logcumsumexp",
    "reshape",
    "squeeze",
    "expand_dims",
    "swapaxes",
    "moveaxis",
    "flatten",
    "transpose",
    "concatenate",
    "stack",
    "pad",
    "split",
    "roll",
    "repeat",
    "tile",
    "broadcast_to",
    "diagonal",
    "tril",
    "triu",
    "diag",
    "trace",
    "flip",
    "matmul",
    "addmm",
    "inner",
    "outer",
    "kron",
    "tensordot",
    "einsum",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_general",
    "hadamard_transform",
    "take",
    "take_along_axis",
    "put_along_axis",
    "array.__getitem__",
    "at.add",
    "slice",
    "slice_update",
    "linalg.inv",
    "linalg.cholesky",
    "linalg.solve",
    "linalg.norm",
    "linalg.cross",
    "linalg.tri_inv",
    "fft.fft",
    "fft.ifft",
    "fft.rfft",
    "fft.irfft",
    "fft.fft2",
    "fft.rfft2",
    "fast.rms_norm",
    "fast.layer_norm",
    "fast.scaled_dot_product_attention",
    "fast.rope",
    "fast.cross_entropy",
    "gather_mm",
    "segmented_mm",
    "block_masked_mm",
    "quantized_matmul",
    "dequantize",
]
TRANSFORMS = ["vjp", "jvp", "vmap", "grad", "compile", "checkpoint"]


def tame(d: Draw, value: Any, keep: bool = False) -> Any:
    """Arguments for which derivatives are defined: float32 numbers of one sign each, all different."""
    if isinstance(value, (list, tuple)):
        return type(value)(tame(d, v, keep) for v in value)
    if not isinstance(value, Operand) or value.values.dtype.kind not in "fc" or value.dtype == "complex64":
        return value
    if keep:
        return Operand(value.values.astype(np.float32), "float32", value.view)
    n = value.values.size
    spread = (0.3 + (d.rng.permutation(n) + d.rng.random()) / max(n, 1)).astype(np.float32)
    return Operand(
        spread.reshape(value.values.shape), "float32", "plain" if value.view == "broadcast" else value.view
    )


def of_floats(inner: Spec, d: Draw) -> Arguments:
    """A call of the function with floating operands, as its own row draws them."""
    for _ in range(20):
        args, kwargs = inner.draw(d)
        kinds = {x.dtype for x in operands_of(args)}
        if kinds & {"float32", "float16", "bfloat16", "float64"} and not kinds & {"complex64"}:
            break
    # Matrices that have an inverse or a factor are no longer such with other numbers.
    keep = inner.name.startswith("linalg.") and inner.name not in ("linalg.norm", "linalg.cross")
    return [tame(d, a, keep) for a in args], kwargs


def operands_of(args: Any) -> list[Operand]:
    if isinstance(args, Operand):
        return [args]
    return [x for a in args for x in operands_of(a)] if isinstance(args, (list, tuple)) else []


def row(how: str, name: str) -> None:
    inner = SPECS[name]
    add(f"{how}:{name}", lambda d: of_floats(inner, d), "norm", 64)


for transform in TRANSFORMS:
    for function in SMOOTH:
        row(transform, function)

# ---- files


def some(d: Draw, dtypes: list[str]) -> Arguments:
    names = ["a", *d.of([[], ["b"], ["layer.0.weight", "x_1"]])]
    return [], {n: d.array(dtypes=dtypes) for n in names}


def npy(a: np.ndarray, version: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, a, version=version)
    return out.getvalue()


NUMPY_TYPES = [t for t in DTYPES if t not in ("bfloat16", "float64")]


def numpy_array(d: Draw) -> np.ndarray:
    values = d.array(dtypes=NUMPY_TYPES).values
    return np.asfortranarray(values) if d.chance(0.3) else values


def numpy_file(d: Draw) -> Arguments:
    content = npy(numpy_array(d), d.of([(1, 0), (2, 0)]))
    return [content[: d.number(0, len(content))] if d.fault() else content], {}


def zipped_file(d: Draw) -> Arguments:
    out = io.BytesIO()
    d.of([np.savez, np.savez_compressed])(out, **{n: numpy_array(d) for n in ("a", "b")})
    content = out.getvalue()
    return [content[: d.number(0, len(content))] if d.fault() else content], {}


KINDS = {
    "float32": "F32",
    "float16": "F16",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "bool_": "BOOL",
}


def safetensors_file(d: Draw) -> Arguments:
    header: dict[str, Any] = {"__metadata__": {"format": "x"}} if d.chance(0.5) else {}
    body = b""
    for name in d.of([["a"], ["a", "b.c"], []]):
        x = d.array(dtypes=list(KINDS))
        part = np.ascontiguousarray(x.values).tobytes()
        kind = KINDS[x.dtype] if not d.fault() else "NO"
        header[name] = {
            "dtype": kind,
            "shape": x.values.shape,
            "data_offsets": [len(body), len(body) + len(part)],
        }
        body += part
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + body
    return [content[: d.number(0, len(content))] if d.fault() else content], {}


add("file:npy", lambda d: ([], {"a": d.array(dtypes=NUMPY_TYPES)}), "exact")
add("file:npz file:npz_compressed", lambda d: some(d, NUMPY_TYPES), "exact")
add("file:safetensors", lambda d: some(d, [t for t in DTYPES if t != "complex64"]), "exact")
add("file:gguf", lambda d: some(d, ["float32", "float16", "bfloat16", "int8", "int16", "int32"]), "exact")
add("load:npy", numpy_file, "exact")
add("load:npz", zipped_file, "exact")
add("load:safetensors", safetensors_file, "exact")
