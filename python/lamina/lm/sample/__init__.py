"""Choosing the next token.

:class:`Sampling` says how, as one frozen value; a :class:`Chooser` does it for one text. The parts are in
:mod:`lamina.lm.sample.filters`.
"""

from __future__ import annotations

from lamina.lm.sample.chooser import Choice, Chooser
from lamina.lm.sample.filters import (
    Filter,
    KeyedFilter,
    Sampler,
    categorical,
    chain,
    greedy,
    largest,
    likeliest,
    make_sampler,
    min_p,
    temperature,
    top_k,
    top_p,
    xtc,
)
from lamina.lm.sample.penalties import History, Penalties
from lamina.lm.sample.sampling import Sampling

__all__ = [
    "Choice",
    "Chooser",
    "Filter",
    "History",
    "KeyedFilter",
    "Penalties",
    "Sampler",
    "Sampling",
    "categorical",
    "chain",
    "greedy",
    "largest",
    "likeliest",
    "make_sampler",
    "min_p",
    "temperature",
    "top_k",
    "top_p",
    "xtc",
]
