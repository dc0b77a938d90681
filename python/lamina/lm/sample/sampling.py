"""How tokens are chosen, as one frozen value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lamina.lm.errors import LMError
from lamina.lm.sample.penalties import Penalties


@dataclass(frozen=True)
class Sampling:
    """Options of choosing tokens; the defaults take the most likely one.

    Logits pass, in this order, through: ``logit_bias``, the penalties, ``temperature``, ``top_k``, ``top_p``,
    ``min_p``, XTC, and a draw.

    Parameters
    ----------
    temperature : float
        0 takes the most likely token; below 1 sharpens the distribution, above flattens it.
    top_k : int
        Keep this many tokens; 0 for all.
    top_p : float
        Keep the most likely tokens that together have this probability; 1 for all.
    min_p : float
        Keep tokens this likely relative to the best; 0 for all.
    xtc_probability, xtc_threshold : float
        In this share of draws, tokens of at least the threshold give way to the least likely of them.
    repetition_penalty : float
        Divides the positive logits of tokens in prompt and answer, multiplies negative ones; 1 for none.
    frequency_penalty, presence_penalty : float
        Taken from the logits of tokens in the answer, for each time and once; 0 for none.
    penalty_window : int
        Penalties look at this many of the last tokens; 0 for all.
    logit_bias : Mapping[int, float]
        Added to the logits of tokens; ``-inf`` rules a token out.
    seed : int
        Seed of the draws: the same seed gives the same tokens, alone or in any batch.

    Raises
    ------
    LMError
        An option is out of its range.

    Examples
    --------
    >>> Sampling(temperature=0.7, top_p=0.9).greedy
    False
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_window: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        finite = math.isfinite
        for name, good, wanted in (
            ("temperature", lambda x: x >= 0 and finite(x), "0 or more and finite"),
            ("top_k", lambda x: x >= 0, "0 (off) or more"),
            ("top_p", lambda x: 0 < x <= 1, "in (0, 1]"),
            ("min_p", lambda x: 0 <= x <= 1, "in [0, 1]"),
            ("xtc_probability", lambda x: 0 <= x <= 1, "in [0, 1]"),
            ("xtc_threshold", lambda x: 0 <= x <= 0.5, "in [0, 0.5]"),
            ("repetition_penalty", lambda x: x > 0 and finite(x), "positive and finite"),
            ("frequency_penalty", finite, "finite"),
            ("presence_penalty", finite, "finite"),
            ("penalty_window", lambda x: x >= 0, "0 (the whole text) or more"),
            ("seed", lambda x: 0 <= x < 2**64, "in [0, 2**64)"),
        ):
            value = getattr(self, name)
            whole = name in ("top_k", "penalty_window", "seed")
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise LMError(f"{name} must be {'an integer' if whole else 'a number'}, got {value!r}")
            if not good(value):
                raise LMError(f"{name} must be {wanted}, got {value}")
        for token, bias in self.logit_bias.items():
            if not isinstance(token, int) or token < 0:
                raise LMError(f"logit_bias must map token ids to numbers, got the id {token!r}")
            if not isinstance(bias, (int, float)) or math.isnan(bias) or bias == math.inf:
                raise LMError(f"logit_bias of token {token} must be a number below infinity, got {bias!r}")

    @property
    def greedy(self) -> bool:
        """Whether the choice is the argmax of the model's own logits."""
        return self.temperature == 0 and not (
            self.logit_bias or self.xtc_probability or self.penalties is not None
        )

    @property
    def penalties(self) -> Penalties | None:
        """The penalties; None where all are off."""
        made = Penalties(
            self.repetition_penalty, self.frequency_penalty, self.presence_penalty, self.penalty_window
        )
        return None if made == Penalties(window=self.penalty_window) else made

    def with_seed(self, seed: int) -> Sampling:
        """Return the same options with another seed."""
        return dataclasses.replace(self, seed=seed)
