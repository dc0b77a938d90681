"""The demo model's card: facts as ``metrics.json``, and ``README.md`` written from them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lamina.lm.demo.corpus import HELD_OUT_RULE, LICENCE, MAX_HELD_OUT_BYTES
from lamina.lm.io import replacing


@dataclass(frozen=True)
class Metrics:
    """What was measured at the build. Sizes are in bytes, bits per byte are of the held-out documents."""

    bits_per_byte: float
    bits_per_byte_float: float
    bits_per_byte_xz: float
    held_out_units: tuple[str, ...]
    held_out_bytes: int
    held_out_sha256: str
    train_bytes: int
    train_documents: int
    train_tokens: int
    steps: int
    tokens_seen: int
    train_seconds: float
    threads: int
    parameters: int
    model_bytes: int
    bits: int
    group_size: int
    context: int
    vocab_size: int
    python: str
    lamina: str


def write_card(directory: Path, metrics: Metrics, prompt: str, continuation: str) -> None:
    """Write ``metrics.json`` and ``README.md`` to ``directory``."""
    with replacing(directory / "metrics.json") as tmp:
        tmp.write_text(json.dumps(asdict(metrics), indent=2) + "\n", encoding="utf-8")
    with replacing(directory / "README.md") as tmp:
        tmp.write_text(_card(metrics, prompt, continuation), encoding="utf-8")


def _card(m: Metrics, prompt: str, continuation: str) -> str:
    megabytes, seen, minutes = m.train_bytes / 1e6, m.tokens_seen / 1e6, m.train_seconds / 60
    units = ", ".join(f"`{u}`" for u in m.held_out_units)
    shown = "\n".join(f"    {line}".rstrip() for line in (prompt + continuation).splitlines())
    return f"""---
license: psf-2.0
library_name: lamina
language: [en]
tags: [python, code, demo]
---

# The lamina demo model

A language model of {m.parameters / 1e6:.1f} million parameters that continues Python code and
documentation. It shows that lamina trains, quantizes and runs models on a plain CPU; it is
not meant to write correct programs.

| | |
|---|---|
| architecture | Llama, tied embeddings, context {m.context}, byte-level BPE of {m.vocab_size} tokens |
| weights | {m.bits} bits, groups of {m.group_size}; {m.model_bytes / 1e6:.2f} MB with tokenizer |
| training text | {m.train_documents} documents, {megabytes:.2f} MB, {m.train_tokens / 1e6:.2f} M tokens |
| training | {m.steps} steps, {seen:.1f} M tokens seen, {minutes:.0f} minutes on {m.threads} CPU threads |
| held-out text | {m.held_out_bytes} bytes |
| **bits per byte, as shipped** | **{m.bits_per_byte:.4f}** |
| bits per byte before quantization | {m.bits_per_byte_float:.4f} |
| bits per byte of `xz -9e` on the same text | {m.bits_per_byte_xz:.4f} |

## Data

The sources of the standard library of Python {m.python} and the topics of its reference documentation.
Left out: test suites, character tables (`encodings`), generated modules and bundled projects;
`lamina/lm/demo/corpus.py` is exact.

## Held-out text

Whole top-level modules, which neither the tokenizer nor the training saw: {units}.
The rule: {HELD_OUT_RULE}, and the unit has at most {MAX_HELD_OUT_BYTES} bytes.
Concatenated in the order of their paths the documents have SHA-256 `{m.held_out_sha256}`.

Bits per byte: the sum of `-log2 p` over all tokens, divided by the bytes of UTF-8 text.
Windows of {m.context} tokens advance by half a window, so that every token is predicted once.
The separators between documents count as bits, not as bytes.

## Training curve

![loss and bits per byte](curve.png)

The numbers are in `curve.json`.

## What it writes

{shown}

## How to make it again

    python -m lamina.lm.demo.build --out build-demo

## Licence

The text is under the {LICENCE}
The weights are derived from it by training and are distributed under the same terms; `LICENSE` has them.
"""
