"""Text, character by character, with a long short-term memory.

The text is lamina's own Python sources unless --text names another one. Each window of it starts with an
empty memory; writing text afterwards passes the memory on from one character to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import lamina.core as mx
import lamina.nn as nn
import lamina.optimizers as optim
from lamina.examples._data import Batches, Text, load_text
from lamina.examples._options import Options, above_zero, read_options, text_options
from lamina.examples._run import Result, mean_loss, run, train

Memory = tuple[mx.array, mx.array]


class CharLSTM(nn.Module):
    """Characters (B, L) to logits (B, L, V) of the characters that follow, and the memory after the last."""

    def __init__(self, characters: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, 64)
        self.lstm = nn.LSTM(64, hidden)
        self.out = nn.Linear(hidden, characters)

    def __call__(self, ids: mx.array, memory: Memory | None = None) -> tuple[mx.array, Memory]:
        hidden, cell = self.lstm(self.embedding(ids), *(memory or ()))
        return self.out(hidden), (hidden[:, -1], cell[:, -1])


def loss_fn(model: CharLSTM, windows: mx.array) -> mx.array:
    """Return the mean cross entropy of predicting windows (B, L + 1), in nats per character."""
    logits, _ = model(windows[:, :-1])
    return nn.losses.cross_entropy(logits, windows[:, 1:], reduction="mean")


def write(model: CharLSTM, text: Text, start: str, characters: int, seed: int) -> str:
    """Return ``start`` and as many more characters, each drawn from the model's distribution."""
    ids = text.encode(start)
    logits, memory = model(mx.array([ids]))
    for key in mx.random.split(mx.random.key(seed), characters):
        following = mx.random.categorical(logits[:, -1], key=key)
        ids.append(int(following.item()))
        logits, memory = model(following[:, None], memory)
    return text.decode(ids)


def train_lstm(options: Options) -> Result:
    """Train on the text, measure the loss on the tenth held out, and write."""
    text = load_text(options.own["text"], options.own["length"], options.short)
    mx.random.seed(options.seed)
    model = CharLSTM(len(text.alphabet), hidden=192)
    optimizer = optim.Adam(options.rate)
    optimizer.init(model.trainable_parameters())
    state = [model.state, optimizer.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(windows: mx.array) -> mx.array:
        loss, gradients = nn.value_and_grad(model, loss_fn)(model, windows)
        gradients, _ = optim.clip_grad_norm(gradients, max_norm=options.own["clip"])
        optimizer.update(model, gradients)
        return loss

    def evaluate() -> dict[str, float]:
        return {"loss": mean_loss(partial(loss_fn, model), text.held_out, options.batch)}

    batches = Batches(text.train, size=options.batch, seed=options.seed)
    result = train(options, model, optimizer, step, batches, evaluate)
    result.extra["sample"] = write(model, text, text.decode(text.held_out[0, :8].tolist()), 200, options.seed)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; ``argv`` are its arguments, those of the process if not given."""
    own = {
        **text_options(length=64),
        "clip": {
            "type": above_zero,
            "default": 1.0,
            "metavar": "X",
            "help": "largest norm of the gradients (%(default)s)",
        },
    }
    options = read_options(argv, "lstm", __doc__, epochs=10, short_epochs=2, batch=32, rate=5e-3, own=own)
    return run(options, train_lstm)


if __name__ == "__main__":
    raise SystemExit(main())
