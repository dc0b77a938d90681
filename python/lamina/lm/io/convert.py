"""From one format and precision to another."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import lamina.core as mx
from lamina.lm.config import Quantization
from lamina.lm.errors import CheckpointError, ConfigError
from lamina.lm.io.fit import quantize_modules
from lamina.lm.io.load import load
from lamina.lm.io.save import save
from lamina.lm.models import Llama


def quantize(model: Llama, quantization: Quantization) -> Llama:
    """Quantize ``model`` in place and record it in its configuration.

    Raises
    ------
    ConfigError
        The model is quantized already, or a layer does not divide into groups.
    """
    if model.config.quantization is not None:
        was = model.config.quantization
        raise ConfigError(f"the model is quantized already ({was.bits} bits, groups of {was.group_size})")
    quantize_modules(model, quantization)
    model.config = dataclasses.replace(model.config, quantization=quantization)
    return model


def convert(
    source: str | Path,
    target: str | Path,
    quantization: Quantization | None = None,
    dtype: str | None = None,
    ignore_fields: tuple[str, ...] = (),
) -> Llama:
    """Read the model at ``source``, change dtype or quantize, and write it to ``target``.

    Parameters
    ----------
    source, target : str or Path
        Model directories; they must differ.
    quantization : Quantization, optional
        Quantize the linear and embedding layers so.
    dtype : {"float32", "float16", "bfloat16"}, optional
        Convert floating-point weights to this dtype first.
    ignore_fields : tuple of str
        Config fields to ignore although they are not understood.

    Returns
    -------
    Llama
        The converted model.

    Raises
    ------
    ConfigError, CheckpointError
        As :func:`load` and :func:`quantize`; or ``source`` and ``target`` are the same directory.
    """
    dtypes = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
    if dtype is not None and dtype not in dtypes:
        raise ConfigError(f"dtype must be one of {', '.join(dtypes)}, got {dtype!r}")
    if Path(source).resolve() == Path(target).resolve():
        raise CheckpointError(f"source and target are the same directory: {source}")
    model, tokenizer = load(source, ignore_fields)
    if dtype is not None:
        model.set_dtype(dtypes[dtype])
    if quantization is not None:
        quantize(model, quantization)
    save(target, model, tokenizer)
    return model
