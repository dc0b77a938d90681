"""Text, character by character, with a small transformer: gradient accumulation and checkpointing.

Both save memory. A step's batch goes through the model in --accumulate parts whose gradients are added up,
so that the activations of one part are there at a time. And the backward pass computes the activations of
each layer again instead of keeping them from the forward pass (--keep-activations keeps them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import lamina.core as mx
import lamina.nn as nn
import lamina.optimizers as optim
from lamina.examples._data import Batches, Text, load_text
from lamina.examples._options import Options, at_least, read_options, text_options
from lamina.examples._run import Result, RunError, mean_loss, run, train
from lamina.nn.utils import checkpoint
from lamina.utils import tree_map

HEADS, WIDTH, LAYERS = 4, 128, 3


class CharTransformer(nn.Module):
    """Characters (B, L) to logits (B, L, V) of the characters that follow; L up to ``context``."""

    def __init__(self, characters: int, context: int, recompute: bool) -> None:
        super().__init__()
        self.context = context
        self.recompute = recompute
        self.embedding = nn.Embedding(characters, WIDTH)
        self.places = nn.Embedding(context, WIDTH)
        self.layers = [nn.TransformerEncoderLayer(WIDTH, HEADS, activation=nn.gelu) for _ in range(LAYERS)]
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, characters)

    def __call__(self, ids: mx.array) -> mx.array:
        x = self.embedding(ids) + self.places(mx.arange(ids.shape[1]))
        for layer in self.layers:
            # A layer sees the characters up to each place: "causal".
            x = (checkpoint(layer) if self.recompute else layer)(x, "causal")
        return self.out(self.norm(x))


def loss_fn(model: CharTransformer, windows: mx.array) -> mx.array:
    """Return the mean cross entropy of predicting windows (B, L + 1), in nats per character."""
    return nn.losses.cross_entropy(model(windows[:, :-1]), windows[:, 1:], reduction="mean")


def make_step(
    model: CharTransformer, optimizer: optim.Optimizer, parts: int
) -> Callable[[mx.array], mx.array]:
    """Return a step that adds up the gradients of ``parts`` parts of its windows before the one update."""
    state = [model.state, optimizer.state]

    # Two compiled functions, so that the loop can wait for a part's gradients before the next part begins.
    @partial(mx.compile, inputs=state, outputs=state)
    def gradient(windows: mx.array) -> tuple[mx.array, Any]:
        return nn.value_and_grad(model, loss_fn)(model, windows)

    @partial(mx.compile, inputs=state, outputs=state)
    def update(gradients: Any) -> None:
        gradients, _ = optim.clip_grad_norm(gradients, max_norm=1.0)
        optimizer.update(model, gradients)

    def step(windows: mx.array) -> mx.array:
        total, sums = mx.array(0.0), None
        for part in mx.split(windows, parts):
            loss, gradients = gradient(part)
            total = total + loss
            sums = gradients if sums is None else tree_map(mx.add, sums, gradients)
            mx.eval(total, sums)
        update(tree_map(lambda g: g / parts, sums))
        return total / parts

    return step


def write(model: CharTransformer, text: Text, start: str, characters: int, seed: int) -> str:
    """Return ``start`` and as many more characters, each drawn from the model's distribution."""
    ids = text.encode(start)
    for key in mx.random.split(mx.random.key(seed), characters):
        logits = model(mx.array([ids[-model.context :]]))
        ids.append(int(mx.random.categorical(logits[0, -1], key=key).item()))
    return text.decode(ids)


def train_transformer(options: Options) -> Result:
    """Train on the text, measure the loss on the tenth held out, and write."""
    length, parts = options.own["length"], options.own["accumulate"]
    if options.batch % parts:
        raise RunError(f"--accumulate wanted a number that divides the batch of {options.batch}, got {parts}")
    text = load_text(options.own["text"], length, options.short)
    batches = Batches(text.train, size=options.batch, seed=options.seed)
    mx.random.seed(options.seed)
    model = CharTransformer(len(text.alphabet), length, not options.own["keep-activations"])
    # The rate rises over the first 20 steps and then falls along a cosine to a tenth.
    rates = [
        optim.linear_schedule(options.rate / 20, options.rate, 20),
        optim.cosine_decay(options.rate, options.epochs * len(batches), options.rate / 10),
    ]
    optimizer = optim.AdamW(optim.join_schedules(rates, [20]), weight_decay=0.1)
    optimizer.init(model.trainable_parameters())
    step = make_step(model, optimizer, parts)

    def evaluate() -> dict[str, float]:
        return {"loss": mean_loss(partial(loss_fn, model), text.held_out, options.batch)}

    result = train(options, model, optimizer, step, batches, evaluate)
    result.extra["sample"] = write(model, text, text.decode(text.held_out[0, :8].tolist()), 200, options.seed)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; ``argv`` are its arguments, those of the process if not given."""
    own = {
        **text_options(length=96),
        "accumulate": {
            "type": at_least(1),
            "default": 2,
            "metavar": "N",
            "help": "parts of a batch (%(default)s)",
        },
        "keep-activations": {"action": "store_true", "help": "compute no activations twice"},
    }
    options = read_options(
        argv, "transformer", __doc__, epochs=10, short_epochs=2, batch=32, rate=2e-3, own=own
    )
    return run(options, train_transformer)


if __name__ == "__main__":
    raise SystemExit(main())
