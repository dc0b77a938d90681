"""Reading a ``config.json`` field by field, so that nothing in it goes unnoticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.lm.errors import ConfigError

# Fields of published checkpoints that do not change what a model computes at inference.
_HARMLESS = frozenset(
    [
        "architectures", "attention_dropout", "attn_pdrop", "auto_map", "begin_suppress_tokens",
        "bos_token", "classifier_dropout", "cross_attention_hidden_size", "do_sample", "dtype",
        "early_stopping", "embd_pdrop", "embedding_dropout", "eos_token", "ep_size", "finetuning_task",
        "hidden_dropout", "hidden_dropout_prob", "id2label", "initializer_range",
        "keys_to_ignore_at_inference", "label2id", "language", "max_length", "mlp_dropout", "num_labels",
        "output_attentions", "output_hidden_states", "output_router_logits", "pad_token", "pad_token_id",
        "prefix", "pretraining_tp", "problem_type", "resid_pdrop", "residual_dropout", "return_dict",
        "router_aux_loss_coef", "router_jitter_noise", "sep_token_id", "summary_activation",
        "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
        "task_specific_params", "temperature", "tokenizer_class", "top_k", "top_p", "torch_dtype",
        "transformers_version", "unk_token_id", "unsloth_fixed", "unsloth_version", "use_bfloat16",
        "use_cache", "vocab_type",
    ]
)  # fmt: skip


class Fields:
    """The fields of one ``config.json``; what nothing has asked for at the end is refused.

    A field whose value is null counts as absent. The first of several names that is present is read, and
    all of them count as understood.

    Parameters
    ----------
    raw : Mapping[str, Any]
        The parsed JSON object.
    model_type : str
        What error messages call the model.

    Examples
    --------
    >>> f = Fields({"n_layer": 2, "act": "gelu"}, "mine")
    >>> f.count("num_hidden_layers", "n_layer"), f.flag("tied", default=True)
    (2, True)
    >>> f.finish()
    Traceback (most recent call last):
    lamina.lm.errors.ConfigError: config fields not understood for model type 'mine': act; \
supported: n_layer, num_hidden_layers, tied
    """

    def __init__(self, raw: Mapping[str, Any], model_type: str) -> None:
        self.model_type = model_type
        self._raw = {k: v for k, v in raw.items() if v is not None}
        self._nulls = raw.keys() - self._raw.keys()
        self._read: set[str] = set()

    def value(self, *names: str, default: Any = None) -> Any:
        """Return the value of the first of ``names`` that is present, whatever it is."""
        self._read.update(names)
        return next((self._raw[n] for n in names if n in self._raw), default)

    def has(self, name: str) -> bool:
        """Return whether a field is present; it does not count as read."""
        return name in self._raw

    def count(self, *names: str, default: int | None = None) -> int:
        """Return a positive whole number; without a default the field must be present."""
        value = self._required(names, default)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self._wrong(names, "must be a positive integer", value)
        return value

    def optional_count(self, *names: str, default: int | None = None) -> int | None:
        """Return a positive whole number, or None where the field is null, 0, or absent without default."""
        return self.count(*names, default=default) if self._optional(names, default) else None

    def whole(self, *names: str, default: int | None = None) -> int:
        """Return a whole number that is not negative."""
        value = self._required(names, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(names, "must be a whole number, not negative", value)
        return value

    def number(self, *names: str, default: float | None = None) -> float:
        """Return a positive number; without a default the field must be present."""
        value = self._required(names, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self._wrong(names, "must be a number", value)
        if not value > 0:
            raise self._wrong(names, "must be positive", value)
        return float(value)

    def optional_number(self, *names: str, default: float | None = None) -> float | None:
        """Return a positive number, or None where the field is null, 0, or absent without default."""
        return self.number(*names, default=default) if self._optional(names, default) else None

    def numbers(self, name: str, length: int) -> tuple[float, ...]:
        """Return ``length`` numbers; ones where the field is absent."""
        value = self.value(name, default=[1.0] * length)
        if not isinstance(value, (list, tuple)) or len(value) != length:
            raise self._wrong((name,), f"must be a list of {length} numbers", value)
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value):
            raise self._wrong((name,), f"must be a list of {length} numbers", value)
        return tuple(float(v) for v in value)

    def flag(self, *names: str, default: bool) -> bool:
        """Return true or false."""
        value = self.value(*names, default=default)
        if not isinstance(value, bool):
            raise self._wrong(names, "must be true or false", value)
        return value

    def word(self, *names: str, options: Mapping[str, Any], default: str) -> Any:
        """Return what ``options`` has for the field's text."""
        value = self.value(*names, default=default)
        if not isinstance(value, str) or value not in options:
            raise self._unsupported(names, value, options)
        return options[value]

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse the field where it has another value than those ``allowed`` (or null)."""
        value = self.value(name)
        same = [a for a in allowed if value == a and isinstance(value, bool) == isinstance(a, bool)]
        if value is not None and not same:
            raise self._unsupported((name,), value, [*map(str, allowed), "null"])

    def ignore(self, *names: str) -> None:
        """Count fields as understood that change nothing for this model."""
        self._read.update(names)

    def finish(self) -> None:
        """Refuse the fields that are present, not zero or empty, and that nothing has read.

        Raises
        ------
        ConfigError
            There are such fields; the message has their names and those understood.
        """
        rest = self._raw.keys() - self._read - _HARMLESS
        unknown = sorted(k for k in rest if self._raw[k] and not k.startswith("_"))
        if unknown:
            raise ConfigError(
                f"config fields not understood for model type '{self.model_type}': {', '.join(unknown)}; "
                f"supported: {', '.join(sorted(self._read))}"
            )

    def _optional(self, names: tuple[str, ...], default: Any) -> Any:
        null = not self._nulls.isdisjoint(names)
        return self.value(*names, default=None if null else default)

    def _required(self, names: tuple[str, ...], default: Any) -> Any:
        value = self.value(*names, default=default)
        if value is None:
            raise ConfigError(f"config for model type '{self.model_type}' lacks {' or '.join(names)}")
        return value

    def _wrong(self, names: tuple[str, ...], wanted: str, value: Any) -> ConfigError:
        return ConfigError(f"config field '{self._present(names)}' {wanted}, got {value!r}")

    def _unsupported(self, names: tuple[str, ...], value: Any, options: Any) -> ConfigError:
        return ConfigError(
            f"config field '{self._present(names)}' {value!r} is not supported; "
            f"supported: {', '.join(options)}"
        )

    def _present(self, names: tuple[str, ...]) -> str:
        return next((n for n in names if n in self._raw), names[0])
