"""Write exchange/: networks trained by lamina and by PyTorch, each loaded by the other, and PyTorch's logits.

Run with an interpreter that has ``torch``, ``safetensors`` and lamina: ``python tests/golden/make_torch_exchange.py``.
Both networks, and how they are saved and loaded, are the code of docs/pytorch.md.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import re
from pathlib import Path
from typing import Any

import lamina.core as mx
import lamina.nn as nn
import lamina.optimizers as optim
import numpy as np
import safetensors.torch
import torch

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "golden" / "exchange"
PAGE = (ROOT / "docs" / "pytorch.md").read_text(encoding="utf-8")
STEPS = 20


def page_code() -> tuple[dict[str, Any], dict[str, Any], str]:
    """What the page's blocks define here and in PyTorch, and the text of the latter."""
    here: dict[str, Any] = {}
    for text in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        test = doctest.DocTestParser().get_doctest(text, here, "page", None, 0)
        with contextlib.redirect_stdout(io.StringIO()):
            doctest.DocTestRunner(verbose=False).run(test, clear_globs=False)
        here = test.globs
    (text,) = re.findall(r"^```py\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    there: dict[str, Any] = {"torch": torch, "safetensors": safetensors}
    exec(text, there)
    return here, there, text


def data(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 8, 8, 1), noisy copies of ten, and which they are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    prototypes = np.random.default_rng(0).random((10, 8, 8, 1), dtype=np.float32)
    return (prototypes[labels] + rng.random((count, 8, 8, 1), dtype=np.float32)) / 2, labels


def train_here(net: Any) -> Any:
    mx.random.seed(1)
    model, optimizer = net(), optim.AdamW(1e-2)
    step = nn.value_and_grad(model, lambda m, x, y: nn.losses.cross_entropy(m(x), y, reduction="mean"))
    for i in range(STEPS):
        images, labels = data(i, 64)
        loss, gradients = step(model, mx.array(images), mx.array(labels))
        optimizer.update(model, gradients)
        mx.eval(loss, model, optimizer.state)
    print("lamina", loss.item())
    return model.eval()


def train_there(net: Any) -> Any:
    torch.manual_seed(1)
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for i in range(STEPS):
        images, labels = data(i, 64)
        loss = torch.nn.functional.cross_entropy(channels_first(images, model), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("torch", loss.item())
    return model.eval()


def channels_first(images: np.ndarray, model: Any) -> Any:
    return model(torch.from_numpy(images).permute(0, 3, 1, 2))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    here, there, text = page_code()
    images, _ = data(1000, 4)
    first, second = FOLDER / "trained_here.safetensors", FOLDER / "trained_there.safetensors"
    here["save_for_torch"](train_here(here["Net"]), str(first))
    loaded = there["TorchNet"]()
    there["load_from_lamina"](loaded, str(first))
    trained = train_there(there["TorchNet"])
    there["save_for_lamina"](trained, str(second))
    with torch.no_grad():
        logits = {
            path.stem: channels_first(images, model.eval()).tolist()
            for path, model in ((first, loaded), (second, trained))
        }
    written = {"torch": torch.__version__, "code": text, "images": images.tolist(), "logits": logits}
    (FOLDER / "logits.json").write_text(json.dumps(written) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
