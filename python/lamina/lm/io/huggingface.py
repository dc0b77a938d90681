"""Model directories as Hugging Face and MLX tools write them: config.json, safetensors, a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamina.lm.config import parse_config
from lamina.lm.config.wrapper import text_config, text_name
from lamina.lm.errors import CheckpointError, ConfigError
from lamina.lm.io.checkpoint import Checkpoint, by_id
from lamina.lm.io.files import load_weights, read_json
from lamina.lm.io.published import unpack_published
from lamina.lm.vocabulary.files import read_tokenizer


def read_directory(path: str | Path, ignore_fields: tuple[str, ...] = ()) -> Checkpoint:
    """Read a model directory with ``config.json`` and ``*.safetensors``.

    Parameters
    ----------
    path : str or Path
        The directory.
    ignore_fields : tuple of str
        Config fields to ignore although they are not understood.

    Raises
    ------
    ConfigError
        ``config.json`` is missing, malformed or not supported; then no other file is opened.
    CheckpointError
        Weights are missing or damaged, or packed in a way that is not supported.
    """
    directory = Path(path)
    try:
        config = read_json(directory / "config.json")
    except CheckpointError as e:
        raise ConfigError(str(e)) from e
    whole, config = config, text_config(config, ignore_fields)
    settings = _method(config)
    if settings is not None:
        config = {k: v for k, v in config.items() if k != "quantization_config"}
    parse_config(config, ignore_fields)
    arrays = load_weights(directory)
    if config is not whole:
        arrays = {own: a for name, a in arrays.items() if (own := text_name(name)) is not None}
    mapped = by_id(arrays.values())
    kind = "plain" if settings is None else str(settings["quant_method"])
    if settings is not None:
        arrays = unpack_published(kind, settings, arrays)
        # Codes of 8-bit floats are the mapped bytes, seen as words.
        mapped |= by_id(v for n, v in arrays.items() if n.removesuffix("weight") + "block_scales" in arrays)
    elif config.get("quantization") or config.get("quantization_config"):
        kind = "mlx"
    return Checkpoint(
        directory,
        kind,
        config,
        arrays,
        lambda ends: read_tokenizer(directory, ends),
        mapped,
    )


def _method(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return Hugging Face's settings of a packing; None for none, or for MLX's own."""
    given = config.get("quantization_config")
    if config.get("quantization") or not isinstance(given, Mapping) or "quant_method" not in given:
        return None
    return given
