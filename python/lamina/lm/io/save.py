"""Models to disk: a directory of config, safetensors and tokenizer, as MLX tools write it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lamina.core as mx
from lamina.lm.config import Quantization
from lamina.lm.errors import CheckpointError
from lamina.lm.io.files import INDEX, listed, replacing, write_json
from lamina.lm.layers import BlockLayer, Fp8Linear
from lamina.lm.models import Llama
from lamina.lm.tokenizer import Tokenizer
from lamina.lm.vocabulary.files import write_tokenizer
from lamina.utils import tree_flatten

SHARD_BYTES = 5_000_000_000


def save(path: str | Path, model: Llama, tokenizer: Tokenizer, shard_bytes: int = SHARD_BYTES) -> None:
    """Write ``model`` and ``tokenizer`` to the directory ``path``, each file whole or not at all.

    Parameters
    ----------
    path : str or Path
        The directory; it is made where it is missing.
    model, tokenizer
        What to write.
    shard_bytes : int
        Weights of more bytes than this go to several files with an index.

    Raises
    ------
    CheckpointError
        A layer is packed in a way that the layout of MLX does not have (GGUF's blocks, say).
    """
    directory = Path(path)
    directory.mkdir(parents=True, exist_ok=True)
    config = config_to_save(model)
    write_weights(directory, dict(tree_flatten(model.parameters())), shard_bytes)
    write_tokenizer(directory, tokenizer)
    write_json(directory / "config.json", config)


def config_to_save(model: Any) -> dict[str, Any]:
    """Return the ``config.json`` of a model, with the quantization that its layers have.

    Raises
    ------
    CheckpointError
        A layer is packed in a way that the layout of MLX does not have.
    """
    strange = [path for path, module in model.named_modules() if not is_packed_for_mlx(module)]
    if strange:
        raise CheckpointError(
            f"these layers are not packed as MLX packs: {listed(strange)}; see lamina convert"
        )
    quantization = quantization_of(model)
    config = dataclasses.replace(model.config, quantization=quantization).to_dict()
    if quantization is not None:
        # Hugging Face's libraries look for this name.
        config["quantization_config"] = config["quantization"]
    return config


def quantization_of(model: Any) -> Quantization | None:
    """Return how the layers of a model are packed: the most frequent way, and the others by path.

    Examples
    --------
    >>> from lamina import nn
    >>> quantization_of(nn.Sequential(nn.QuantizedLinear(64, 8, bits=8)))
    Quantization(group_size=64, bits=8, overrides={}, mode='affine')
    """
    found = {
        path: (module.group_size, module.bits, module.mode)
        for path, module in model.named_modules()
        if "scales" in module
    }
    if not found:
        return None
    declared = getattr(getattr(model, "config", None), "quantization", None)
    usual = collections.Counter(found.values()).most_common(1)[0][0]
    if isinstance(declared, Quantization):
        usual = (declared.group_size, declared.bits, declared.mode)
    own = {
        path: dict(zip(("group_size", "bits", "mode"), packing, strict=True))
        for path, packing in found.items()
        if packing != usual
    }
    return Quantization(usual[0], usual[1], own, usual[2])


def _shards(weights: Mapping[str, mx.array], shard_bytes: int) -> Iterator[list[str]]:
    """Yield the names in each file, so that none holds more than ``shard_bytes`` if it holds several."""
    names: list[str] = []
    size = 0
    for name, array in weights.items():
        if names and size + array.nbytes > shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += array.nbytes
    yield names


def write_weights(directory: Path, weights: dict[str, mx.array], shard_bytes: int = SHARD_BYTES) -> None:
    """Write weights as safetensors and take them out of the dict; files of an older model are removed.

    The index is written before the removal: a reader finds either the old weights or the new ones.
    """
    total = sum(a.nbytes for a in weights.values())
    shards = list(_shards(weights, shard_bytes))
    count = len(shards)
    places: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
        with replacing(directory / file) as tmp:
            mx.save_safetensors(str(tmp), {n: weights.pop(n) for n in names}, {"format": "mlx"})
        places |= dict.fromkeys(names, file)
    if count > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        write_json(directory / INDEX, index)
    else:
        (directory / INDEX).unlink(missing_ok=True)
    for old in directory.glob("model*.safetensors"):
        if old.name not in places.values():
            old.unlink()


def is_packed_for_mlx(module: Any) -> bool:
    """Return whether a layer's weights are as MLX's tools read them."""
    return not isinstance(module, (*BlockLayer, Fp8Linear)) and "order" not in module
