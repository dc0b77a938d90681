"""Optimizers, learning-rate schedules and gradient clipping."""

from lamina.optimizers.adafactor import Adafactor
from lamina.optimizers.adaptive import AdaDelta, Adagrad, Adam, Adamax, AdamW, RMSprop
from lamina.optimizers.base import MultiOptimizer, Optimizer
from lamina.optimizers.clipping import clip_grad_norm
from lamina.optimizers.momentum import SGD, Lion, Muon
from lamina.optimizers.schedulers import (
    cosine_decay,
    exponential_decay,
    join_schedules,
    linear_schedule,
    step_decay,
)

__all__ = [
    "SGD",
    "AdaDelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "MultiOptimizer",
    "Muon",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm",
    "cosine_decay",
    "exponential_decay",
    "join_schedules",
    "linear_schedule",
    "step_decay",
]
