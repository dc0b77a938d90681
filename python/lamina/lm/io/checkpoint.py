"""A checkpoint as it was read: a configuration, named tensors, a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lamina.core as mx
from lamina.lm.tokenizer import Tokenizer

# Elements and bytes of a block, by the mode of ``mx.quantized_matmul``.
BLOCK_SIZES = {
    "q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34),
    "q2_k": (256, 84), "q3_k": (256, 110), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210),
    "iq4_nl": (32, 18), "iq4_xs": (256, 136),
}  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """Matrices as the blocks of a GGUF file.

    Attributes
    ----------
    data : array
        The bytes, uint8 of shape (..., rows, bytes of a row).
    mode : str
        Their type, a mode of ``mx.quantized_matmul`` such as ``"q4_k"``.

    Examples
    --------
    >>> import lamina.core as mx
    >>> Blocks(mx.zeros((2, 144), mx.uint8), "q4_k").shape
    (2, 256)
    """

    data: mx.array
    mode: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in elements."""
        elems, size = BLOCK_SIZES[self.mode]
        *rows, row_bytes = self.data.shape
        return (*rows, row_bytes // size * elems)

    def dequantize(self, dtype: mx.Dtype = mx.float32) -> mx.array:
        """Return the elements, as the ``gguf`` package computes them, rounded to ``dtype``."""
        return mx.dequantize(self.data, mode=self.mode, dtype=dtype)


Value = mx.array | Blocks


def by_id(values: Iterable[Value]) -> dict[int, mx.array]:
    """Return arrays, and the arrays of blocks, by their ``id``."""
    arrays = [v.data if isinstance(v, Blocks) else v for v in values]
    return {id(a): a for a in arrays}


@dataclass(frozen=True)
class Checkpoint:
    """What a model's files hold, whatever their format.

    Attributes
    ----------
    origin : Path
        The directory or file.
    kind : str
        ``"mlx"``, ``"gguf"``, or the Hugging Face method: ``"plain"``, ``"awq"``, ``"gptq"``, ``"fp8"``,
        ``"mxfp4"``.
    config : Mapping[str, Any]
        What a ``config.json`` of this model holds.
    tensors : Mapping[str, Value]
        Arrays and blocks by name. Names are those of the model's parameters, or those that the model's
        ``sanitize`` knows; a module packed as ``mx.quantize`` packs has ``.weight``, ``.scales`` and, in
        affine mode, ``.biases``, and perhaps the order of its inputs, ``.order``.
    tokenizer : callable
        Reads the tokenizer; it takes the ids that end a text by the configuration.
    mapped : Mapping[int, array]
        The arrays that are views of mapped files, by their ``id``, which no other array gets while they live.
    """

    origin: Path
    kind: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Value]
    tokenizer: Callable[[tuple[int, ...]], Tokenizer]
    mapped: Mapping[int, mx.array] = field(default_factory=dict)
