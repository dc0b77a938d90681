"""Quantization, as configurations describe it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lamina.lm.config.fields import Fields
from lamina.lm.errors import ConfigError

# Mode: allowed group sizes, allowed bits; the first of each is the default.
_MODES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "affine": ((64, 32, 128), (4, 2, 3, 5, 6, 8)),
    "mxfp4": ((32,), (4,)),
    "mxfp8": ((32,), (8,)),
    "nvfp4": ((16,), (4,)),
}


@dataclass(frozen=True)
class Quantization:
    """Quantization in the MLX layout: ``bits`` per weight and a scale per ``group_size`` weights.

    ``mode`` is ``"affine"`` (a scale and a bias of each group), ``"mxfp4"``, ``"mxfp8"`` or ``"nvfp4"``.
    ``overrides`` maps a module path to its own ``{"group_size": ..., "bits": ..., "mode": ...}``, or to
    ``False`` where the module stays in floating point. An override without a mode is affine.
    """

    group_size: int
    bits: int
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mode: str = "affine"

    def __post_init__(self) -> None:
        _check("quantization", self.mode, self.group_size, self.bits)
        for path in self.overrides:
            own = self.for_module(path)
            if own is not None:
                _check(f"quantization of '{path}'", own["mode"], own["group_size"], own["bits"])

    def for_module(self, path: str) -> dict[str, Any] | None:
        """Return ``group_size``, ``bits`` and ``mode`` of the module at ``path``; None if unquantized."""
        own = self.overrides.get(path, True)
        if own is False:
            return None
        if own is True:
            return {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}
        mode = own.get("mode", "affine")
        sizes, bits = _MODES.get(mode, ((0,), (0,)))
        default = (self.group_size, self.bits) if mode == self.mode else (sizes[0], bits[0])
        return {
            "group_size": own.get("group_size", default[0]),
            "bits": own.get("bits", default[1]),
            "mode": mode,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that ``config.json`` stores under ``quantization``."""
        mode = {} if self.mode == "affine" else {"mode": self.mode}
        return {"group_size": self.group_size, "bits": self.bits, **mode, **self.overrides}


@dataclass(frozen=True)
class HFQuantization:
    """A ``quantization_config`` of Hugging Face: how the tensors of a checkpoint are packed.

    Attributes
    ----------
    method : str
        ``"awq"``, ``"gptq"``, ``"fp8"`` or ``"mxfp4"``.
    bits : int
        Bits of a weight.
    group_size : int
        Weights that share a scale along a row; 0 where that is not said here, -1 for a whole row.
    fmt : str
        The layout's name within the method: AWQ's ``version``, GPTQ's ``checkpoint_format``, FP8's ``fmt``.
    modules_to_not_convert : tuple of str
        Parts of the names of modules that are not quantized.
    extra : Mapping[str, Any]
        All other fields, as published.
    """

    method: str
    bits: int
    group_size: int
    fmt: str
    modules_to_not_convert: tuple[str, ...] = ()
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that ``config.json`` stores under ``quantization_config``."""
        method = _METHODS[self.method]
        out: dict[str, Any] = {"quant_method": self.method, **self.extra}
        if method.sized:
            out |= {"bits": self.bits, "group_size": self.group_size}
        if method.fmt:
            out[method.fmt] = self.fmt
        if self.modules_to_not_convert:
            out["modules_to_not_convert"] = list(self.modules_to_not_convert)
        return out


@dataclass(frozen=True)
class _Method:
    """Where a method keeps the name of its layout, the default, and whether it has bits and group size."""

    fmt: str
    default: str
    bits: int
    group_size: int
    sized: bool


_METHODS = {
    "awq": _Method("version", "gemm", 4, 128, True),
    "gptq": _Method("checkpoint_format", "gptq", 4, 128, True),
    "fp8": _Method("fmt", "e4m3", 8, 0, False),
    "mxfp4": _Method("", "", 4, 32, False),
}


def read_quantization(f: Fields) -> Quantization | HFQuantization | None:
    """Read ``quantization`` (the MLX layout) or ``quantization_config`` (either that or Hugging Face's).

    Raises
    ------
    ConfigError
        A value is wrong, or the method or mode is not supported.
    """
    hugging_face = f.value("quantization_config")
    name, given = "quantization", f.value("quantization")
    if not given:
        name, given = "quantization_config", hugging_face
    if not given:
        return None
    if isinstance(given, Mapping) and "quant_method" in given:
        return _read_hugging_face(name, given)
    if not isinstance(given, Mapping) or "group_size" not in given or "bits" not in given:
        raise ConfigError(
            f"config field '{name}' is not supported: wanted quantization as "
            f'{{"group_size": ..., "bits": ...}} or with a \'quant_method\', got {given!r}'
        )
    own = {k: v for k, v in given.items() if k not in ("group_size", "bits", "mode")}
    wrong = [k for k, v in own.items() if not isinstance(v, (bool, Mapping))]
    if wrong:
        raise ConfigError(f"config field '{name}' entries not understood: {', '.join(sorted(wrong))}")
    return Quantization(given["group_size"], given["bits"], own, given.get("mode", "affine"))


def _read_hugging_face(name: str, given: Mapping[str, Any]) -> HFQuantization:
    rest = {k: v for k, v in given.items() if k != "quant_method"}
    kind = given["quant_method"]
    method = _METHODS.get(kind)
    if method is None:
        raise ConfigError(
            f"config field '{name}' has quant_method {kind!r}, which is not supported; "
            f"supported: {', '.join(_METHODS)}"
        )
    bits, group_size = method.bits, method.group_size
    if method.sized:
        bits, group_size = rest.pop("bits", bits), rest.pop("group_size", group_size)
    fmt = rest.pop(method.fmt, None) or method.default
    kept = rest.pop("modules_to_not_convert", None) or ()
    if not isinstance(bits, int) or not isinstance(group_size, int):
        raise ConfigError(f"config field '{name}': bits and group_size must be whole numbers, got {given!r}")
    return HFQuantization(kind, bits, group_size, str(fmt), tuple(kept), rest)


def _check(name: str, mode: str, group_size: Any, bits: Any) -> None:
    if mode not in _MODES:
        raise ConfigError(f"{name} mode {mode!r} is not supported; supported: {', '.join(_MODES)}")
    for what, value, allowed in zip(("group_size", "bits"), (group_size, bits), _MODES[mode], strict=True):
        if value not in allowed:
            raise ConfigError(f"{name} {what} must be one of {tuple(sorted(allowed))}, got {value!r}")
