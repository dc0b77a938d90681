"""Perplexity and divergence against NumPy in float64."""

from __future__ import annotations

import json
import math

import lamina.core as mx
import numpy as np
import pytest
from lamina.cli import main
from lamina.lm import DataError, Quantization, load, quantize, save
from lamina.lm.evaluate import compare_models, encoded, score_text, sliding_windows, total_nats
from lm.lm_helpers import TEXTS, TINY

TEXT = "".join(TEXTS)[:600]


def log_probabilities(model, ids: np.ndarray) -> np.ndarray:
    """Float64 log-probabilities (n, V) after each of the ids."""
    logits = np.asarray(model(mx.array(ids[None])))[0].astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def wanted(models, ids: np.ndarray, context: int, stride: int, bos: int = 0) -> list[np.ndarray]:
    """Log-probabilities of each model for all predictions, in order, and the targets."""
    rows, targets = [[] for _ in models], []
    for start, stop, first in sliding_windows(len(ids), context, stride):
        fed = np.concatenate([[bos], ids[start + 1 : stop]]).astype(np.int32)
        for found, model in zip(rows, models, strict=True):
            found.append(log_probabilities(model, fed)[first - start - 1 :])
        targets.append(ids[first : stop + 1])
    return [*map(np.concatenate, rows), np.concatenate(targets)]


@pytest.mark.parametrize(("context", "stride"), [(64, None), (32, 32), (16, 5)])
def test_score(model_dir, context, stride) -> None:
    model, tokenizer = load(model_dir)
    score = score_text(model, tokenizer, TEXT, context, stride)
    ids, bos = encoded(tokenizer, TEXT)
    assert (bos, ids[0]) == (0, 0)
    own, targets = wanted([model], ids, context, stride or context // 2)
    nats = -own[np.arange(len(targets)), targets].sum()
    # Each of the terms has the error of float32 logits and of a sum over the vocabulary.
    assert abs(score.nats - nats) <= len(targets) * 2.0**-24 * 64
    assert (score.tokens, score.text_bytes) == (len(ids) - 1, len(TEXT.encode()))
    assert score.perplexity == math.exp(score.nats / score.tokens)
    assert score.bits_per_byte == score.nats / math.log(2) / score.text_bytes


def test_pieces_of_the_head_do_not_matter(model_dir, monkeypatch) -> None:
    model, tokenizer = load(model_dir)
    ids, _ = encoded(tokenizer, TEXT)
    whole = total_nats(model, ids, 32, 8, batch=3)
    monkeypatch.setattr("lamina.lm.evaluate.LOGITS_AT_ONCE", 5 * TINY.vocab_size)
    assert abs(total_nats(model, ids, 32, 8, batch=3) - whole) <= len(ids) * 2.0**-24 * 64


def test_windows_begin_with_the_bos(model_dir) -> None:
    model, tokenizer = load(model_dir)
    ids, _ = encoded(tokenizer, TEXT)
    for bos in (5, 9):
        ids[0] = bos
        got = total_nats(model, ids, 16, 16, bos=bos)
        own, targets = wanted([model], ids, 16, 16, bos)
        nats = -own[np.arange(len(targets)), targets].sum()
        assert abs(got - nats) <= len(ids) * 2.0**-24 * 64


def test_comparison(model_dir) -> None:
    reference, tokenizer = load(model_dir)
    model = quantize(load(model_dir)[0], Quantization(32, 4))
    seen: list[int] = []
    both = compare_models(model, reference, tokenizer, TEXT, 32, 16, seen.append)
    ids, _ = encoded(tokenizer, TEXT)
    own, other, targets = wanted([model, reference], ids, 32, 16)
    kl = (np.exp(other) * (other - own)).sum(axis=-1)
    eps = 2.0**-24 * 64
    assert abs(both.kl - kl.mean()) <= eps
    assert abs(both.kl_max - kl.max()) <= eps
    assert both.kl_99 <= both.kl_max
    assert both.same_top == (own.argmax(axis=-1) == other.argmax(axis=-1)).mean()
    assert abs(both.reference.nats + other[np.arange(len(targets)), targets].sum()) <= len(ids) * eps
    assert abs(both.score.nats + own[np.arange(len(targets)), targets].sum()) <= len(ids) * eps
    assert sum(seen) == len(ids) - 1
    same = compare_models(reference, reference, tokenizer, TEXT, 32)
    assert (same.kl, same.same_top, same.score) == (0.0, 1.0, same.reference)


def test_errors(model_dir) -> None:
    model, tokenizer = load(model_dir)
    with pytest.raises(DataError, match="the context must be from 1 to the model's 64, got 65"):
        score_text(model, tokenizer, TEXT, 65)
    with pytest.raises(DataError, match="the stride must be from 1 to the context 16, got 17"):
        score_text(model, tokenizer, TEXT, 16, 17)
    with pytest.raises(DataError, match="at least two tokens, got 1"):
        score_text(model, tokenizer, "")


def test_command(model_dir, tmp_path, capsys) -> None:
    model, tokenizer = load(model_dir)
    save(tmp_path / "q", quantize(model, Quantization(32, 4)), tokenizer)
    (tmp_path / "a.txt").write_text(TEXT)
    arguments = ["perplexity", "--model", str(tmp_path / "q"), "--text", str(tmp_path / "a.txt")]
    assert main([*arguments, "--json", "--reference", str(model_dir), "--context", "32"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["kl"] > 0
    assert record["reference"]["tokens"] == record["tokens"]
    assert main([*arguments, "--limit", "100"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("perplexity ")
    assert "bits per byte" in printed
    assert main(["perplexity", "--model", str(tmp_path / "q"), "--text", str(tmp_path / "none.txt")]) == 1
    assert "no such file or directory" in capsys.readouterr().err
