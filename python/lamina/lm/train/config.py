"""Settings of a training run."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from lamina.lm.errors import ConfigError


@dataclass(frozen=True)
class TrainConfig:
    """What determines a pretraining run, beside the model and the text.

    Attributes
    ----------
    steps : int
        Optimizer steps in all.
    batch : int
        Windows in a forward pass.
    length : int
        Tokens that a window predicts.
    accumulate : int
        Forward passes whose gradients are averaged into one step.
    lr, min_lr : float
        Learning rate after the warm-up, and at the end of the cosine.
    warmup : int
        Steps over which the learning rate rises linearly from 0.
    weight_decay : float
        Decoupled decay of matrices (not of norm weights and biases).
    beta1, beta2, eps : float
        AdamW's constants.
    clip : float
        Largest global norm of the gradient; 0 switches clipping off.
    seed : int
        Seed of the initial weights and of the data order.
    validate_every, checkpoint_every, log_every : int
        Steps between validations, checkpoints and lines in the log; 0 for no validation.
    validate_chars : int
        Validate on at most this many characters during the run; 0 for all.
    compile : bool
        Trace the training step once with ``mx.compile``.
    """

    steps: int = 1000
    batch: int = 8
    length: int = 256
    accumulate: int = 1
    lr: float = 1e-3
    min_lr: float = 1e-4
    warmup: int = 100
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip: float = 1.0
    seed: int = 0
    validate_every: int = 200
    checkpoint_every: int = 200
    log_every: int = 10
    validate_chars: int = 65536
    compile: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "length", "accumulate", "checkpoint_every", "log_every"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("warmup", "validate_every", "validate_chars", "weight_decay", "clip", "min_lr", "seed"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("lr", "eps"):
            self._check(
                name, getattr(self, name) > 0 and math.isfinite(getattr(self, name)), "positive and finite"
            )
        for name in ("beta1", "beta2"):
            self._check(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        self._check("min_lr", self.min_lr <= self.lr, f"no larger than lr {self.lr}")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise ConfigError(f"training setting '{name}' must be {wanted}, got {getattr(self, name)!r}")

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step predicts."""
        return self.batch * self.length * self.accumulate

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that must be equal for a run to be resumed exactly."""
        free = ("validate_every", "checkpoint_every", "log_every", "validate_chars", "compile")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in free}

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step ``step`` (from 0): linear warm-up, then a cosine to ``min_lr``.

        Examples
        --------
        >>> c = TrainConfig(steps=110, warmup=10, lr=1.0, min_lr=0.0)
        >>> c.learning_rate(4), c.learning_rate(10), round(c.learning_rate(60), 6)
        (0.5, 1.0, 0.5)
        """
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.min_lr + 0.5 * (self.lr - self.min_lr) * (1 + math.cos(math.pi * progress))
