"""Models from disk, whatever the format of their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lamina.core as mx
from lamina.lm.config import parse_config
from lamina.lm.errors import CheckpointError, ConfigError
from lamina.lm.io.checkpoint import Checkpoint
from lamina.lm.io.fit import fit_weights
from lamina.lm.io.gguf import read_gguf
from lamina.lm.io.huggingface import read_directory
from lamina.lm.io.memory import check_memory, memory_needed
from lamina.lm.models import Llama, build_model
from lamina.lm.tokenizer import Tokenizer

DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


def read_checkpoint(
    path: str | Path, dtype: mx.Dtype | None = None, ignore_fields: tuple[str, ...] = ()
) -> Checkpoint:
    """Read the checkpoint at ``path``: a model directory, a GGUF file, or a directory with one.

    Parameters
    ----------
    path : str or Path
        Where it is.
    dtype : Dtype, optional
        What a GGUF file's activations are computed in.
    ignore_fields : tuple of str
        Config fields to ignore although they are not understood.

    Raises
    ------
    ConfigError, CheckpointError
        There is no model, or it is damaged or of a format that is not supported.
    """
    path = Path(path)
    if path.suffix == ".gguf":
        return read_gguf(path, dtype)
    if not path.is_dir():
        raise CheckpointError(
            f"no model at {path}: wanted a directory with config.json and *.safetensors, or a .gguf file"
        )
    if not (path / "config.json").is_file() and any(path.glob("*.gguf")):
        return read_gguf(path, dtype)
    return read_directory(path, ignore_fields)


def load(
    path: str | Path,
    ignore_fields: tuple[str, ...] = (),
    *,
    dtype: str | None = None,
    context: int | None = None,
    positions: int | None = None,
    memory_check: bool = True,
) -> tuple[Llama, Tokenizer]:
    """Load a model and its tokenizer from local files.

    Weights stay in the mapped files: what is not used is not read, and several processes share one copy.

    Parameters
    ----------
    path : str or Path
        A directory with ``config.json``, ``*.safetensors`` and a tokenizer, as Hugging Face and MLX tools
        write it (also packed: MLX's modes, AWQ, GPTQ, FP8 with block scales, mxfp4); or a GGUF file.
    ignore_fields : tuple of str
        Config fields to ignore although they are not understood.
    dtype : {"float32", "float16", "bfloat16"}, optional
        Convert floating-point weights, and so what activations are computed in; as stored by default, and
        bfloat16 for GGUF files whose matrices are all packed.
    context : int, optional
        Positions that the model will be run with at most; all that it has by default. LongRoPE's factors for
        short texts are used where this is no more than the length that the model was first trained with.
    positions : int, optional
        Length of the longest sequence that will be run, for the check of memory; 4096 by default.
    memory_check : bool
        Whether to raise where memory does not suffice, before anything is read.

    Returns
    -------
    tuple of Llama and Tokenizer
        The model, ready for inference, and its tokenizer.

    Raises
    ------
    ConfigError
        The configuration is missing, malformed or not supported.
    CheckpointError
        Weights or tokenizer are missing, corrupt, or do not fit the configuration.
    MemoryNeededError
        The model needs more memory than there is.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    checkpoint = read_checkpoint(path, None if dtype is None else DTYPES[dtype], ignore_fields)
    model = model_of(checkpoint, ignore_fields, context)
    tokenizer = checkpoint.tokenizer(model.config.eos_token_id)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, "
            f"the model's vocabulary {model.config.vocab_size}"
        )
    if dtype is not None:
        model.set_dtype(DTYPES[dtype])
    if memory_check:
        check_memory(memory_needed(model, checkpoint.mapped, positions), str(path))
    return model, tokenizer


def model_of(checkpoint: Checkpoint, ignore_fields: tuple[str, ...] = (), context: int | None = None) -> Any:
    """Return the model of a checkpoint, in evaluation mode.

    Raises
    ------
    ConfigError, CheckpointError
        As :func:`load`.
    """
    model = build_model(parse_config(checkpoint.config, ignore_fields, context))
    fit_weights(model, checkpoint.tensors, packed=checkpoint.kind not in ("plain", "mlx"))
    model.eval()
    return model
