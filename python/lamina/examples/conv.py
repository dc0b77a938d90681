"""Digits with a convolutional network, batch norms and dropout.

The random numbers of dropout and the running averages of the norms are state like the weights: a compiled
step names all of it, and a checkpoint keeps all of it.
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


class ConvNet(nn.Module):
    """Three convolutions: images (B, 8, 8, 1) to logits (B, 10). Channels are the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3, padding=1)
        self.norm1 = nn.BatchNorm(32)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm(64)
        self.conv3 = nn.Conv2d(64, 64, kernel_size=3, padding=1)
        self.norm3 = nn.BatchNorm(64)
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear(2 * 2 * 64, 10)

    def __call__(self, x: mx.array) -> mx.array:
        x = nn.relu(self.norm1(self.conv1(x)))  # (B, 8, 8, 32)
        x = self.pool(nn.relu(self.norm2(self.conv2(x))))  # (B, 4, 4, 64)
        x = self.pool(nn.relu(self.norm3(self.conv3(x))))  # (B, 2, 2, 64)
        return self.out(self.dropout(x.flatten(1)))


def loss_fn(model: ConvNet, images: mx.array, labels: mx.array) -> mx.array:
    """Return the mean cross entropy in nats."""
    return nn.losses.cross_entropy(model(images), labels, reduction="mean")


def train_conv(options: Options) -> Result:
    """Train on the digits, and measure the accuracy on those held out."""
    digits, held_out = load_digits()
    batches = Batches(*digits, size=options.batch, seed=options.seed)
    mx.random.seed(options.seed)
    model = ConvNet()
    # The rate falls along a cosine to 0 at the last step.
    rate = optim.cosine_decay(options.rate, options.epochs * len(batches))
    optimizer = optim.AdamW(rate, weight_decay=0.01)
    optimizer.init(model.trainable_parameters())
    state = [model.state, optimizer.state, mx.random.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(images: mx.array, labels: mx.array) -> mx.array:
        loss, gradients = nn.value_and_grad(model, loss_fn)(model, images, labels)
        optimizer.update(model, gradients)
        return loss

    return train(options, model, optimizer, step, batches, lambda: {"accuracy": accuracy(model, *held_out)})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; ``argv`` are its arguments, those of the process if not given."""
    options = read_options(argv, "conv", __doc__, epochs=20, short_epochs=3, batch=32, rate=3e-3)
    return run(options, train_conv)


if __name__ == "__main__":
    raise SystemExit(main())
