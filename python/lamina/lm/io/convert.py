"""From one format and precision to another."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.config import Quantization
from lamina.lm.errors import CheckpointError, ConfigError, DataError
from lamina.lm.evaluate import compare_models, encoded
from lamina.lm.io.checkpoint import Blocks, Value
from lamina.lm.io.files import new_directory, write_json
from lamina.lm.io.fit import quantize_modules, replace_modules
from lamina.lm.io.gguf import load_gguf, read_gguf
from lamina.lm.io.gguf_write import architecture_for, write_gguf
from lamina.lm.io.load import DTYPES, load, read_checkpoint
from lamina.lm.io.report import Report, Size, size_of
from lamina.lm.io.save import config_to_save, is_packed_for_mlx, write_weights
from lamina.lm.layers import BlockLayer
from lamina.lm.models import Llama
from lamina.lm.quantization.calibrate import cut_windows, input_squares, packable
from lamina.lm.quantization.exact import moved, same_in_affine, same_in_blocks
from lamina.lm.quantization.formats import Format
from lamina.lm.quantization.layers import columns_of, layer_in, rows_of, stored_format
from lamina.lm.quantization.recipe import Recipe, layer_costs, uniform_plan, widen
from lamina.lm.tokenizer import Tokenizer
from lamina.lm.vocabulary.files import COMPANIONS, write_tokenizer
from lamina.utils import tree_flatten

Log = Callable[[str], None]
# Text for calibration: windows of tokens, for input statistics and for the cost of each layer.
CALIBRATION = (16, 512)
SENSITIVITY = (4, 256)


def quantize(model: Llama, quantization: Quantization) -> Llama:
    """Quantize ``model`` in place and record it in its configuration.

    Raises
    ------
    ConfigError
        The model is quantized already, or a layer does not divide into groups.
    """
    was = model.config.quantization
    if isinstance(was, Quantization):
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
    model, tokenizer = load(source, ignore_fields, dtype=dtype)
    before = size_of(model)
    if target.suffix == ".gguf":
        architecture_for(model.config)
    maker = _Maker(model, tokenizer, calibration, log)
    plan = maker.plan(quantization, recipe)
    if not requantize:
        maker.check_first_time(plan)
    plan |= _what_the_target_lacks(model, plan, target)
    for number, (path, format) in enumerate(plan.items(), 1):
        log(f"layer {number}/{len(plan)}: {path} as {format}")
        replace_modules(model, {path: maker.layer(path, format)})
        del maker.modules[path]  # what was computed of the old weight goes with it
    after = size_of(model)
    _write(source, target, model, tokenizer, kind == "gguf")
    del model, maker
    comparison = None
    if evaluation is not None:
        log("comparing with the source")
        made = load(target, ignore_fields)[0]
        reference = load(source, ignore_fields, dtype=dtype)[0]
        comparison = compare_models(made, reference, tokenizer, evaluation)
    return Report(before, after, kind, comparison)


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


@dataclass
class _Maker:
    """Chooses formats for the layers of a model, and makes the layers."""

    model: Any
    tokenizer: Tokenizer
    calibration: str | None
    log: Log

    def __post_init__(self) -> None:
        self.modules = packable(self.model)
        self.dtype = activation_dtype(self.model)
        self.importance: dict[str, mx.array] = {}

    def plan(self, quantization: Quantization | None, recipe: Recipe | None) -> dict[str, Format]:
        """Return the layers to store anew, and how."""
        if quantization is not None:
            return _declared_plan(self.modules, quantization)
        if recipe is None:
            return {}
        plan = uniform_plan(self.modules, recipe)
        if recipe.calibrate:
            windows = self._windows(*CALIBRATION)
            self.log(f"calibrating on {windows.size} tokens")
            self.importance = input_squares(self.model, windows)
        if recipe.wide is not None:
            candidates = [path for path, format in plan.items() if format == recipe.base]
            costs = layer_costs(
                self.model, self._windows(*SENSITIVITY), plan, self.layer, candidates, self.log
            )
            sizes = {path: rows_of(m) * columns_of(m) for path, m in self.modules.items() if path in plan}
            plan = widen(plan, sizes, costs, recipe)
        return plan

    def check_first_time(self, plan: Mapping[str, Format]) -> None:
        """Raise where a layer of the plan is in few bits already and would lose again."""
        for path, format in plan.items():
            own = stored_format(self.modules[path])
            if own.is_float or format.is_float or own == format:
                continue
            if moved(self.modules[path], format, self.dtype) is None:
                raise ConfigError(f"the model is quantized already ({own}), and '{path}' would be again")

    def layer(self, path: str, format: Format) -> nn.Module:
        """Return the layer at ``path`` in a format, computed."""
        made = layer_in(self.modules[path], format, self.importance.get(path), self.dtype)
        mx.eval([a for _, a in tree_flatten(made.parameters())])
        return made

    def _windows(self, count: int, length: int) -> np.ndarray:
        assert self.calibration is not None
        ids, _ = encoded(self.tokenizer, self.calibration)
        return cut_windows(ids, min(length, self.model.config.max_position_embeddings), count)


def _declared_plan(modules: Mapping[str, nn.Module], quantization: Quantization) -> dict[str, Format]:
    plan = {}
    for path, module in modules.items():
        own = quantization.for_module(path)
        if own is None:
            continue
        format = Format(own["mode"], own["bits"], own["group_size"])
        if columns_of(module) % format.columns:
            raise ConfigError(
                f"'{path}' has rows of {columns_of(module)} weights, "
                f"not a multiple of group_size {format.columns}"
            )
        plan[path] = format
    return plan


def activation_dtype(model: Any) -> mx.Dtype:
    """Return the dtype of a model's vectors: what activations are computed in."""
    arrays = [a for _, a in tree_flatten(model.parameters()) if a.ndim == 1]
    return next((a.dtype for a in arrays if mx.issubdtype(a.dtype, mx.floating)), mx.float32)


def _what_the_target_lacks(model: Any, plan: Mapping[str, Format], target: Path) -> dict[str, Format]:
    """Return a format for each layer outside of the plan that the target's files cannot hold as it is.

    That is one that holds the same numbers, or else a floating dtype.
    """
    dtype = activation_dtype(model)
    plain = Format(str(dtype).rpartition(".")[2])
    found: dict[str, Format] = {}
    for path, module in packable(model).items():
        own = stored_format(module)
        to_gguf = target.suffix == ".gguf"
        held = own.is_float or own.is_block if to_gguf else is_packed_for_mlx(module)
        if path in plan or held:
            continue
        options = same_in_blocks(own.bits) if to_gguf else same_in_affine(own.mode)
        same = (f for f in options if moved(module, f, dtype) is not None)
        found[path] = next(same, plain)
    return found


def _vectors(source: Path) -> dict[str, mx.array]:
    """Return the vectors of a GGUF file as it holds them, in float32."""
    tensors = read_gguf(source, mx.float32).tensors
    return {n: v for n, v in tensors.items() if isinstance(v, mx.array) and v.ndim == 1}


def _write(source: Path, target: Path, model: Any, tokenizer: Tokenizer, source_is_gguf: bool) -> None:
    if target.suffix == ".gguf":
        target.parent.mkdir(parents=True, exist_ok=True)
        values, vocabulary = _values(model), None
        if source_is_gguf:
            values |= _vectors(source)
            vocabulary = {k: v for k, v in load_gguf(source)[1].items() if k.startswith("tokenizer.")}
        write_gguf(target, model.config, values, tokenizer, source.stem, vocabulary)
        return
    with new_directory(target) as folder:
        write_json(folder / "config.json", config_to_save(model))
        write_tokenizer(folder, tokenizer)
        if source.is_dir():
            for name in COMPANIONS:
                if (source / name).is_file():
                    shutil.copyfile(source / name, folder / name)
        if not (folder / "generation_config.json").is_file() and len(tokenizer.eos_ids) > 1:
            write_json(folder / "generation_config.json", {"eos_token_id": sorted(tokenizer.eos_ids)})
        write_weights(folder, dict(tree_flatten(model.parameters())))


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
