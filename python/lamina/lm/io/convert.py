"""From one format and precision to another."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.config import Quantization
from lamina.lm.errors import CheckpointError, ConfigError, DataError
from lamina.lm.evaluate import compare_models
from lamina.lm.io.checkpoint import Blocks, Value
from lamina.lm.io.files import new_directory, write_json
from lamina.lm.io.fit import quantize_modules
from lamina.lm.io.gguf import load_gguf, read_gguf
from lamina.lm.io.gguf_names import architecture_of
from lamina.lm.io.gguf_write import architecture_for, write_gguf
from lamina.lm.io.load import DTYPES, load, read_checkpoint
from lamina.lm.io.memory import MemoryNeed, check_memory
from lamina.lm.io.remake import Maker, target_lacks
from lamina.lm.io.report import Report, Size, size_of
from lamina.lm.io.save import config_to_save, write_weights
from lamina.lm.layers import BlockLayer
from lamina.lm.models import Llama
from lamina.lm.quantization.formats import Format
from lamina.lm.quantization.layers import columns_of, rows_of, stored_format
from lamina.lm.quantization.recipe import Recipe, is_router
from lamina.lm.tokenizer import Tokenizer
from lamina.lm.vocabulary.files import COMPANIONS, write_tokenizer
from lamina.utils import tree_flatten

Log = Callable[[str], None]


def quantize(model: Llama, quantization: Quantization) -> Llama:
    """Quantize ``model`` in place and record it in its configuration.

    Routers of experts stay as they are, unless ``quantization.overrides`` names them.

    Raises
    ------
    ConfigError
        The model is quantized already, or a layer does not divide into groups.
    """
    was = model.config.quantization
    if isinstance(was, Quantization):
        raise ConfigError(f"the model is quantized already ({was.bits} bits, groups of {was.group_size})")
    named = quantization.overrides
    paths = {p for p, m in model.named_modules() if hasattr(m, "to_quantized")}
    quantize_modules(model, quantization, {p for p in paths if p in named or not is_router(p)})
    model.config = dataclasses.replace(model.config, quantization=quantization)
    return model


def convert(
    source: str | Path,
    target: str | Path,
    quantization: Quantization | None = None,
    dtype: str | None = None,
    ignore_fields: tuple[str, ...] = (),
    *,
    recipe: Recipe | None = None,
    requantize: bool = False,
    calibration: str | None = None,
    evaluation: str | None = None,
    log: Log = lambda _: None,
) -> Report:
    """Read the model at ``source``, change dtype or quantize, and write it to ``target``.

    Parameters
    ----------
    source : str or Path
        A model of any format that :func:`lamina.lm.load` reads.
    target : str or Path
        A ``.gguf`` file, or a new or empty directory for the layout of MLX.
    quantization : Quantization, optional
        Quantize the linear and embedding layers so.
    dtype : {"float32", "float16", "bfloat16"}, optional
        Convert floating-point weights to this dtype first.
    ignore_fields : tuple of str
        Config fields to ignore although they are not understood.
    recipe : Recipe, optional
        How to quantize, instead of ``quantization``.
    requantize : bool
        Whether layers may be quantized that are in few bits already, with the loss of both.
    calibration : str, optional
        Text by which the recipe chooses scales or formats.
    evaluation : str, optional
        Text on which the report compares the result with the source.
    log : callable
        Takes lines of progress.

    Returns
    -------
    Report
        Sizes, bits for a weight, and the comparison if there was a text for it.

    Raises
    ------
    ConfigError, CheckpointError
        As :func:`lamina.lm.load`; the target exists; or its format cannot hold the model.
    DataError
        A text is missing or too short.
    """
    source, target = Path(source), Path(target)
    _check_request(source, target, quantization, dtype, recipe, calibration)
    kind = read_checkpoint(source, None, ignore_fields).kind
    if dtype is None and kind == "gguf" and target.suffix != ".gguf":
        dtype = "float16"  # what the scales of blocks are
    # A conversion goes through the files once: they need not fit into memory.
    model, tokenizer = load(source, ignore_fields, dtype=dtype, memory_check=False)
    if target.suffix == ".gguf":
        architecture_for(model.config)
    before = size_of(model)
    maker = Maker(model, tokenizer, calibration, log)
    plan = maker.plan(quantization, recipe)
    if not requantize:
        maker.check_first_time(plan)
    plan |= target_lacks(model, plan, target.suffix == ".gguf")
    check_memory(MemoryNeed(0, _bytes_held(maker.modules, plan, target), 0, 0), f"the conversion to {target}")
    maker.store(plan)
    after = size_of(model)
    made = _Made(
        model.config,
        None if target.suffix == ".gguf" else config_to_save(model),
        _values(model),
        tokenizer,
        kind == "gguf",
    )
    del model, maker
    log("writing")
    made.write(source, target)
    comparison = None
    if evaluation is not None:
        log("comparing with the source")
        result, reference = load(target, ignore_fields)[0], load(source, ignore_fields, dtype=dtype)[0]
        comparison = compare_models(result, reference, tokenizer, evaluation)
    return Report(before, after, kind, comparison)


def _bytes_held(modules: Mapping[str, nn.Module], plan: Mapping[str, Format], target: Path) -> int:
    """Return how much memory a conversion holds: layers stored anew, and a file that is written as one."""
    bits = {
        path: f.bits_per_weight * rows_of(modules[path]) * columns_of(modules[path])
        for path, f in plan.items()
    }
    rest = 0
    if target.suffix == ".gguf":
        others = [m for path, m in modules.items() if path not in plan and stored_format(m).is_float]
        rest = sum(m["weight"].nbytes for m in others)
    return int(sum(bits.values())) // 8 + rest


def _check_request(
    source: Path,
    target: Path,
    quantization: Quantization | None,
    dtype: str | None,
    recipe: Recipe | None,
    calibration: str | None,
) -> None:
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if source.resolve() == target.resolve():
        raise CheckpointError(f"source and target are the same directory or file: {source}")
    if target.suffix == ".gguf" and target.exists():
        raise CheckpointError(f"{target} exists already: wanted a new file to write to")
    if target.suffix != ".gguf" and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} exists already: wanted a new or empty directory to write to")
    if quantization is not None and recipe is not None:
        raise ConfigError("give a quantization or a recipe, not both")
    if recipe is None:
        return
    if recipe.needs_text and calibration is None:
        raise DataError("this recipe chooses by a calibration text, but none is given")
    formats = [f for f in (recipe.base, recipe.wide, recipe.head) if f is not None]
    for format in formats:
        if target.suffix == ".gguf" and not (format.is_block or format.is_float):
            raise ConfigError(f"GGUF files do not hold {format}; wanted a GGUF type such as q4_k")
        if target.suffix != ".gguf" and format.is_block:
            raise ConfigError(
                f"the layout of MLX does not hold {format}; wanted bits or a mode such as mxfp4"
            )


def _kept_in_float32(source: Path) -> dict[str, mx.array]:
    """Return what a GGUF file holds in float32 (vectors, routers), by the names of the model's parameters."""
    raw, metadata = load_gguf(source)
    a = architecture_of(metadata)
    names = {a.hugging_face(n) for n, v in raw.items() if isinstance(v, mx.array) and v.dtype == mx.float32}
    tensors = read_gguf(source, mx.float32).tensors
    return {n: v for n, v in tensors.items() if n in names and isinstance(v, mx.array)}


@dataclass
class _Made:
    """What is to be written; the weights are let go of as they are."""

    config: Any
    json: dict[str, Any] | None
    values: dict[str, Value]
    tokenizer: Tokenizer
    from_gguf: bool

    def write(self, source: Path, target: Path) -> None:
        """Write the target, whole or not at all."""
        if target.suffix == ".gguf":
            self._write_gguf(source, target)
            return
        with new_directory(target) as folder:
            assert self.json is not None
            write_json(folder / "config.json", self.json)
            write_tokenizer(folder, self.tokenizer)
            if source.is_dir():
                for name in COMPANIONS:
                    if (source / name).is_file():
                        shutil.copyfile(source / name, folder / name)
            ends = sorted(self.tokenizer.eos_ids)
            if not (folder / "generation_config.json").is_file() and len(ends) > 1:
                write_json(folder / "generation_config.json", {"eos_token_id": ends})
            weights, self.values = self.values, {}
            write_weights(folder, cast(dict[str, mx.array], weights))

    def _write_gguf(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        vocabulary = None
        if self.from_gguf:
            self.values |= _kept_in_float32(source)
            vocabulary = {k: v for k, v in load_gguf(source)[1].items() if k.startswith("tokenizer.")}
        write_gguf(target, self.config, self.values, self.tokenizer, source.stem, vocabulary)


def _values(model: Any) -> dict[str, Value]:
    """Return a model's parameters by name, those of block layers as blocks."""
    modules = dict(model.named_modules())
    out: dict[str, Value] = {}
    for name, array in tree_flatten(model.parameters()):
        owner = modules.get(name.removesuffix(".weight"))
        block = isinstance(owner, BlockLayer)
        out[name] = Blocks(array, owner.mode) if block else array
    return out


__all__ = ["Report", "Size", "convert", "quantize"]
