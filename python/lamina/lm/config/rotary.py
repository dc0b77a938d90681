"""Rotary position embeddings, as configurations describe them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lamina.lm.config.fields import Fields
from lamina.lm.errors import ConfigError

# What each kind reads besides 'factor'; the first tuple must be present.
_LENGTH = "original_max_position_embeddings"
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear": (("factor",), ()),
    "dynamic": (("factor",), (_LENGTH,)),
    "llama3": (("factor",), ("low_freq_factor", "high_freq_factor", _LENGTH)),
    "yarn": (
        ("factor",),
        ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate", _LENGTH),
    ),
    "longrope": (("short_factor", "long_factor"), ("factor", "attention_factor", _LENGTH)),
}
_ALIASES = {"su": "longrope"}


@dataclass(frozen=True)
class RopeScaling:
    """How rotary positions are stretched beyond the length a model was trained for.

    Attributes
    ----------
    kind : str
        ``"linear"``: positions divided by ``factor``. ``"llama3"``: low frequencies divided by ``factor``,
        high ones kept, those between blended. ``"yarn"``: the same idea with the bounds given as rotations
        within the original length, and a factor for the scores. ``"longrope"``: a divisor for each
        frequency. ``"dynamic"``: nothing within the original length, beyond which no position is run.
    factor : float
        New length over original length.
    original_max_position_embeddings : int
        The length that the model was trained for.
    low_freq_factor, high_freq_factor : float
        Of ``"llama3"``: bounds in rotations within the original length.
    beta_fast, beta_slow, truncate : float, float, bool
        Of ``"yarn"``: the same bounds, and whether they are rounded to whole dimensions.
    attention_factor, mscale, mscale_all_dim : float, optional
        Of ``"yarn"`` and ``"longrope"``: what the rotated features are multiplied by, or what that follows
        from.
    short_factor, long_factor : tuple of float
        Of ``"longrope"``: divisors of the frequencies within the original length, and beyond it.
    """

    kind: str
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", _LENGTH):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not value > 0:
                raise ConfigError(f"rope_scaling: {name} must be positive, got {value!r}")
        for name in ("attention_factor", "mscale", "mscale_all_dim"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, (int, float)):
                raise ConfigError(f"rope_scaling: {name} must be a number, got {value!r}")
        for name in ("short_factor", "long_factor"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(v, (int, float)) and v > 0 for v in value):
                raise ConfigError(f"rope_scaling: {name} must be a list of positive numbers, got {value!r}")
        if self.low_freq_factor >= self.high_freq_factor:
            raise ConfigError(
                f"rope_scaling: low_freq_factor {self.low_freq_factor} must be below "
                f"high_freq_factor {self.high_freq_factor}"
            )

    @property
    def magnitude(self) -> float:
        """What rotated features are multiplied by, so that attention keeps its sharpness at new lengths."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.kind == "yarn":
            if self.mscale and self.mscale_all_dim:
                return yarn_magnitude(self.factor, self.mscale) / yarn_magnitude(
                    self.factor, self.mscale_all_dim
                )
            return yarn_magnitude(self.factor)
        if self.kind == "longrope" and self.factor > 1:
            return math.sqrt(1 + math.log(self.factor) / math.log(self.original_max_position_embeddings))
        return 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that ``config.json`` stores under ``rope_scaling``."""
        required, optional = _KINDS[self.kind]
        out: dict[str, Any] = {"rope_type": self.kind, "factor": self.factor}
        for name in (*required, *optional):
            value = getattr(self, name)
            if value is not None:
                out[name] = list(value) if isinstance(value, tuple) else value
        return out


def yarn_magnitude(factor: float, mscale: float = 1.0) -> float:
    """Return YaRN's magnitude of rotated features for lengths ``factor`` times the original one."""
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0


@dataclass(frozen=True)
class RotaryConfig:
    """A rotary position embedding of the first ``dims`` features of each head.

    ``interleaved`` pairs neighbours rather than the two halves; ``context`` is the number of positions that
    the model is run with, at most.
    """

    dims: int
    theta: float = 10000.0
    interleaved: bool = False
    scaling: RopeScaling | None = None
    context: int = 0

    def __post_init__(self) -> None:
        if self.dims <= 0 or self.dims % 2:
            raise ConfigError(f"head_dim must be even for rotary positions, got {self.dims}")
        if self.scaling is not None and self.scaling.kind == "longrope":
            for name in ("short_factor", "long_factor"):
                given = len(getattr(self.scaling, name))
                if given != self.dims // 2:
                    raise ConfigError(
                        f"rope_scaling: {name} must have {self.dims // 2} entries, one for each frequency, "
                        f"got {given}"
                    )


@dataclass(frozen=True)
class RotaryFields:
    """What the rotary fields of a config say: the base, the part of each head that turns, the scaling."""

    theta: float
    part: float
    scaling: RopeScaling | None

    def config(self, head_dim: int, context: int, interleaved: bool = False) -> RotaryConfig:
        """Return the embedding for heads of ``head_dim`` features."""
        return RotaryConfig(int(head_dim * self.part), self.theta, interleaved, self.scaling, context)


def read_rotary(
    f: Fields,
    context: int,
    layer_type: str | None = None,
    theta: float = 10000.0,
    part: float = 1.0,
    theta_names: tuple[str, ...] = ("rope_theta",),
    part_names: tuple[str, ...] = ("partial_rotary_factor",),
) -> RotaryFields:
    """Read ``rope_parameters``, or the older ``rope_scaling`` and the fields beside it.

    Parameters
    ----------
    f : Fields
        The configuration's fields.
    context : int
        Positions that the model is made for.
    layer_type : str, optional
        Read the entry of this name, where ``rope_parameters`` has one for each kind of layer.
    theta, part : float
        Defaults of the base and of the part of each head that is rotated.
    theta_names, part_names : tuple of str
        The names of those fields in older files.

    Raises
    ------
    ConfigError
        A value is wrong, or a kind or a field of a kind is not supported.
    """
    theta = f.number(*theta_names, default=theta)
    part = f.number(*part_names, default=part)
    older = f.value("rope_scaling")
    name, given = "rope_parameters", f.value("rope_parameters")
    if not given:
        name, given = "rope_scaling", older
    if not given:
        return RotaryFields(theta, part, None)
    if isinstance(given, Mapping) and layer_type is not None and isinstance(given.get(layer_type), Mapping):
        given = given[layer_type]
    if not isinstance(given, Mapping):
        raise ConfigError(f"config field '{name}' must be an object, got {given!r}")
    own = Fields({k: v for k, v in given.items() if k in ("rope_theta", "partial_rotary_factor")}, name)
    theta = own.number("rope_theta", default=theta)
    part = own.number("partial_rotary_factor", default=part)
    return RotaryFields(theta, part, _read_scaling(f, name, given, context))


def _read_scaling(f: Fields, name: str, given: Mapping[str, Any], context: int) -> RopeScaling | None:
    kind = given.get("rope_type", given.get("type", "default"))
    kind = _ALIASES.get(kind, kind)
    if kind != "default" and kind not in _KINDS:
        raise ConfigError(f"{name} type {kind!r} is not supported; supported: default, {', '.join(_KINDS)}")
    required, optional = _KINDS.get(kind, ((), ()))
    rest = {
        k: v
        for k, v in given.items()
        if v is not None and k not in ("rope_type", "type", "rope_theta", "partial_rotary_factor")
    }
    unknown = sorted(k for k in rest if rest[k] and k not in (*required, *optional))
    if unknown:
        raise ConfigError(
            f"{name} fields not understood for type {kind!r}: {', '.join(unknown)}; "
            f"supported: {', '.join((*required, *optional)) or 'none'}"
        )
    for wanted in required:
        if wanted not in rest:
            raise ConfigError(f"{name} of type {kind!r} lacks '{wanted}'")
    if kind == "default":
        return None
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in rest.items()}
    if kind in ("yarn", "longrope", "dynamic"):
        values.setdefault(_LENGTH, f.count(_LENGTH, default=context))
    if kind == "longrope":
        values.setdefault("factor", max(1.0, context / values[_LENGTH]))
    return RopeScaling(kind, **values)


def rotary_periods(config: RotaryConfig) -> list[float] | None:
    """Return the ``dims // 2`` rotary periods (positions per radian), or None where ``theta`` says it all."""
    scaling = config.scaling
    if scaling is None or scaling.kind == "dynamic":
        return None
    plain = [config.theta ** (i / config.dims) for i in range(0, config.dims, 2)]
    if scaling.kind == "linear":
        return [p * scaling.factor for p in plain]
    if scaling.kind == "longrope":
        longer = config.context > scaling.original_max_position_embeddings
        divisors = scaling.long_factor if longer else scaling.short_factor
        return [p * d for p, d in zip(plain, divisors, strict=True)]
    if scaling.kind == "llama3":
        return [_llama3_period(p, scaling) for p in plain]
    return _yarn_periods(config, scaling, plain)


def _llama3_period(period: float, scaling: RopeScaling) -> float:
    turns = scaling.original_max_position_embeddings / (2 * math.pi * period)
    if turns < scaling.low_freq_factor:
        return period * scaling.factor
    if turns > scaling.high_freq_factor:
        return period
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    return 1 / ((1 - kept) / (period * scaling.factor) + kept / period)


def _yarn_periods(config: RotaryConfig, scaling: RopeScaling, plain: list[float]) -> list[float]:
    """Blend kept and stretched frequencies along a ramp between two dimensions."""

    def dimension(rotations: float) -> float:
        # Where the embedding turns so often within the original length.
        period = scaling.original_max_position_embeddings / (2 * math.pi * rotations)
        return config.dims * math.log(period) / (2 * math.log(config.theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.dims - 1)
    span = high - low or 0.001
    periods = []
    for i, period in enumerate(plain):
        stretched = min(max((i - low) / span, 0.0), 1.0)
        periods.append(1 / (stretched / (period * scaling.factor) + (1 - stretched) / period))
    return periods
