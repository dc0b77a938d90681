"""A variational autoencoder on digits, and a picture of digits that it makes up.

The encoder describes an image by a normal distribution over a few numbers; the decoder turns a draw from it
back into an image. The loss is what the image costs given the draw, and how far the distribution is from the
standard normal one, both in nats. So draws from the standard normal one decode to new digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

import lamina.core as mx
import lamina.nn as nn
import lamina.optimizers as optim
from lamina.examples._data import Batches, load_digits
from lamina.examples._options import Options, at_least, read_options
from lamina.examples._run import Result, draw_images, run, train


class VAE(nn.Module):
    """Encoder and decoder of images (B, 8, 8, 1) with Z latent numbers each."""

    def __init__(self, latent: int, hidden: int = 256) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, 64))

    def encode(self, images: mx.array) -> tuple[mx.array, mx.array]:
        """Return mean and log variance (B, Z) of each image's distribution."""
        mean, log_variance = mx.split(self.encoder(images.reshape(-1, 64)), 2, axis=-1)
        return mean, log_variance

    def decode(self, z: mx.array) -> mx.array:
        """Return logits (B, 64) of the pixels for latent numbers (B, Z)."""
        return self.decoder(z)


def loss_fn(model: VAE, images: mx.array) -> mx.array:
    """Return the negative evidence lower bound, the mean of a batch in nats per image."""
    mean, log_variance = model.encode(images)
    # The draw is a function of mean and deviation, so gradients reach both.
    z = mean + mx.exp(0.5 * log_variance) * mx.random.normal(mean.shape)
    pixels = nn.losses.binary_cross_entropy(model.decode(z), images.reshape(-1, 64), reduction="none")
    distance = 0.5 * (mx.square(mean) + mx.exp(log_variance) - 1 - log_variance)
    return (pixels.sum(axis=-1) + distance.sum(axis=-1)).mean()


def reconstruction(model: VAE, images: np.ndarray) -> np.ndarray:
    """Return images (N, 8, 8) decoded from the means of images (N, 8, 8, 1)."""
    mean, _ = model.encode(mx.array(images))
    return np.array(mx.sigmoid(model.decode(mean))).reshape(-1, 8, 8)


def draw(options: Options, model: VAE, images: np.ndarray, result: Result) -> None:
    """Write ``samples.png``: a row of images, a row of their reconstructions, eight rows of new digits."""
    z = mx.random.normal((8 * 16, options.own["latent"]), key=mx.random.key(options.seed))
    samples = np.array(mx.sigmoid(model.decode(z))).reshape(8, 16, 8, 8)
    path = options.out / "samples.png"
    draw_images(path, [images[:16, :, :, 0], reconstruction(model, images[:16]), *samples])
    result.files.append(path)


def train_vae(options: Options) -> Result:
    """Train on the digits, measure on those held out, and draw."""
    digits, held_out = load_digits()
    mx.random.seed(options.seed)
    model = VAE(options.own["latent"])
    optimizer = optim.Adam(options.rate)
    optimizer.init(model.trainable_parameters())
    state = [model.state, optimizer.state, mx.random.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(images: mx.array) -> mx.array:
        loss, gradients = nn.value_and_grad(model, loss_fn)(model, images)
        optimizer.update(model, gradients)
        return loss

    def evaluate() -> dict[str, float]:
        error = np.square(reconstruction(model, held_out.images) - held_out.images[..., 0]).mean()
        return {"reconstruction_error": float(error)}

    batches = Batches(digits.images, size=options.batch, seed=options.seed)
    result = train(options, model, optimizer, step, batches, evaluate)
    if options.plot:
        draw(options, model, held_out.images, result)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; ``argv`` are its arguments, those of the process if not given."""
    latent = {"type": at_least(1), "default": 8, "metavar": "Z", "help": "latent numbers (%(default)s)"}
    options = read_options(
        argv, "vae", __doc__, epochs=100, short_epochs=10, batch=64, rate=2e-3, own={"latent": latent}
    )
    return run(options, train_vae)


if __name__ == "__main__":
    raise SystemExit(main())
