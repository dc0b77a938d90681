"""How a matrix can be stored: in floating point, as ``mx.quantize`` packs, or as blocks of a GGUF file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lamina.core as mx
from lamina.lm.errors import ConfigError
from lamina.lm.io.checkpoint import BLOCK_SIZES
from lamina.lm.quantization.affine import encode_affine
from lamina.lm.quantization.blocks import WRITTEN, encode_blocks

_FLOATS = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
_ALIASES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
FP8 = "fp8"  # 8-bit floats with a scale for each 128, as published: read, not written
# Mode: group sizes and bits that it has, the default first.
_MODES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "affine": ((64, 32, 128), (4, 2, 3, 5, 6, 8)),
    "mxfp4": ((32,), (4,)),
    "mxfp8": ((32,), (8,)),
    "nvfp4": ((16,), (4,)),
}


@dataclass(frozen=True)
class Format:
    """One way to store a matrix.

    Attributes
    ----------
    mode : str
        A mode of ``mx.quantize``, a GGUF type such as ``"q4_k"``, or a floating dtype.
    bits, group_size : int
        Of the modes of ``mx.quantize``; 0 elsewhere.
    """

    mode: str
    bits: int = 0
    group_size: int = 0

    def __post_init__(self) -> None:
        if self.mode in _MODES:
            sizes, bits = _MODES[self.mode]
            if self.group_size not in sizes:
                raise ConfigError(
                    f"group_size of {self.mode} must be one of {tuple(sorted(sizes))}, got {self.group_size}"
                )
            if self.bits not in bits:
                raise ConfigError(
                    f"bits of {self.mode} must be one of {tuple(sorted(bits))}, got {self.bits}"
                )
        elif self.mode not in _FLOATS and self.mode not in BLOCK_SIZES and self.mode != FP8:
            known = ", ".join([*_MODES, *WRITTEN, *_FLOATS])
            raise ConfigError(f"format {self.mode!r} is not supported; supported: {known}")

    @property
    def is_float(self) -> bool:
        """Whether the matrix stays in floating point."""
        return self.mode in _FLOATS

    @property
    def is_block(self) -> bool:
        """Whether it is stored as blocks of a GGUF file."""
        return self.mode in BLOCK_SIZES

    @property
    def bits_per_weight(self) -> float:
        """Bits of memory for a weight, scales included.

        Examples
        --------
        >>> Format("affine", 4, 64).bits_per_weight, Format("q4_k").bits_per_weight
        (4.5, 4.5)
        """
        if self.is_float:
            return 8.0 * _FLOATS[self.mode].size
        if self.is_block:
            elems, size = BLOCK_SIZES[self.mode]
            return 8 * size / elems
        if self.mode == FP8:
            return 8.25
        return self.bits + (32 if self.mode == "affine" else 8) / self.group_size

    @property
    def columns(self) -> int:
        """What the length of a row must be a multiple of."""
        if self.is_float:
            return 1
        if self.mode == FP8:
            return 128
        return BLOCK_SIZES[self.mode][0] if self.is_block else self.group_size

    def __str__(self) -> str:
        if self.mode == "affine":
            return f"affine {self.bits} bits, groups of {self.group_size}"
        return self.mode

    def encode(self, weight: mx.array, importance: mx.array | None = None) -> dict[str, mx.array]:
        """Return the parameters of a layer whose weight is stored so.

        Parameters
        ----------
        weight : array (..., rows, columns)
            Weights of a floating dtype, which affine scales take over.
        importance : array (columns,), optional
            The mean square of each input. Scales are then chosen by it, but for the modes of small floats.

        Returns
        -------
        dict of array
            ``weight`` and, in the modes of ``mx.quantize``, ``scales`` and perhaps ``biases``.
        """
        if self.is_float:
            return {"weight": weight.astype(_FLOATS[self.mode])}
        if self.is_block:
            return {"weight": encode_blocks(weight, self.mode, importance)}
        if self.mode == FP8:
            raise ConfigError("the format 'fp8' is read from checkpoints and not written; mxfp8 is")
        if self.mode == "affine" and importance is not None:
            parts = encode_affine(weight, self.group_size, self.bits, importance)
        else:
            parts = mx.quantize(weight, self.group_size, self.bits, mode=self.mode)
        return dict(zip(("weight", "scales", "biases"), parts, strict=False))

    def decode(self, parts: Mapping[str, mx.array], dtype: mx.Dtype) -> mx.array:
        """Return the matrix that parameters of :meth:`encode` stand for."""
        if self.is_float:
            return parts["weight"].astype(dtype)
        if self.is_block:
            return mx.dequantize(parts["weight"], mode=self.mode, dtype=dtype)
        # In float32 all products and sums are exact enough to be rounded once, at the end.
        wide = {
            k: v.astype(mx.float32) if self.mode == "affine" else v for k, v in parts.items() if k != "weight"
        }
        own = {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}
        return mx.dequantize(
            parts["weight"], wide["scales"], wide.get("biases"), **own, dtype=mx.float32
        ).astype(dtype)

    def packing(self) -> dict[str, Any]:
        """Return ``group_size``, ``bits`` and ``mode`` as a ``config.json`` has them."""
        return {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}


def parse_format(text: str, group_size: int | None = None) -> Format:
    """Read a format: ``"4"`` (bits, affine), ``"affine4g32"``, ``"mxfp4"``, ``"q4_k"``, ``"bfloat16"``.

    Parameters
    ----------
    text : str
        What the user wrote.
    group_size : int, optional
        Of affine formats that do not say; 64 by default.

    Raises
    ------
    ConfigError
        There is no such format.

    Examples
    --------
    >>> parse_format("4"), parse_format("Q6_K"), parse_format("affine8g32").bits
    (Format(mode='affine', bits=4, group_size=64), Format(mode='q6_k', bits=0, group_size=0), 8)
    """
    name = text.lower().strip()
    name = _ALIASES.get(name, name)
    match = re.fullmatch(r"(?:affine)?(\d+)(?:g(\d+))?", name)
    if match:
        return Format("affine", int(match[1]), int(match[2] or group_size or 64))
    if name in _MODES:
        sizes, bits = _MODES[name]
        return Format(name, bits[0], group_size or sizes[0])
    return Format(name)
