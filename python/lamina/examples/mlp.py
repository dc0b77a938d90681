"""Digits with a multilayer perceptron, in bfloat16 with float32 master weights.

Half of the bytes move through memory when weights and activations are bfloat16, which keeps 8 bits of a
number. An update of a thousandth would be lost in them: so the optimizer works on float32 weights, the
masters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import lamina.core as mx
import lamina.nn as nn
import lamina.optimizers as optim
from lamina.examples._data import Batches, load_digits
from lamina.examples._options import Options, read_options
from lamina.examples._run import Result, accuracy, run, train
from lamina.utils import tree_map


class MLP(nn.Module):
    """Two hidden layers: images (B, 8, 8, 1) to logits (B, 10)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = [nn.Linear(64, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 10)]

    def __call__(self, x: mx.array) -> mx.array:
        x = x.reshape(-1, 64)
        for layer in self.layers[:-1]:
            x = nn.relu(layer(x))
        return self.layers[-1](x)


def train_mlp(options: Options) -> Result:
    """Train on the digits, and measure the accuracy on those held out."""
    digits, held_out = load_digits()
    dtype = {"bfloat16": mx.bfloat16, "float32": mx.float32}[options.own["dtype"]]
    mx.random.seed(options.seed)
    model = MLP(hidden=128)
    optimizer = optim.AdamW(options.rate, weight_decay=0.01)
    optimizer.init(model.trainable_parameters())

    def loss_fn(model: MLP, images: mx.array, labels: mx.array) -> mx.array:
        # The casts are part of what is differentiated, so the gradients come back in the masters' float32.
        masters = model.parameters()
        model.update(tree_map(lambda p: p.astype(dtype), masters))
        logits = model(images.astype(dtype))
        model.update(masters)
        return nn.losses.cross_entropy(logits.astype(mx.float32), labels, reduction="mean")

    # What a compiled step reads and changes: it is traced once, and later calls only run its kernels.
    state = [model.state, optimizer.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(images: mx.array, labels: mx.array) -> mx.array:
        loss, gradients = nn.value_and_grad(model, loss_fn)(model, images, labels)
        optimizer.update(model, gradients)
        return loss

    batches = Batches(*digits, size=options.batch, seed=options.seed)
    return train(options, model, optimizer, step, batches, lambda: {"accuracy": accuracy(model, *held_out)})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; ``argv`` are its arguments, those of the process if not given."""
    dtype = {
        "choices": ["bfloat16", "float32"],
        "default": "bfloat16",
        "help": "what steps compute in (%(default)s)",
    }
    options = read_options(
        argv, "mlp", __doc__, epochs=20, short_epochs=3, batch=32, rate=2e-3, own={"dtype": dtype}
    )
    return run(options, train_mlp)


if __name__ == "__main__":
    raise SystemExit(main())
