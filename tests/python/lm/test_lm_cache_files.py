"""Prompt caches in files: what is read back goes on as what was written; what is wrong is an error."""

from __future__ import annotations

import json
import random

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import CacheError, Tokenizer, stream_generate
from lamina.lm.cache import CacheOptions, PromptCache
from lamina.lm.cache.files import _checksum, inspect_prompt_cache, load_prompt_cache, save_prompt_cache
from lm.lm_toy import KINDS, toy

PROMPT = np.random.default_rng(0).integers(1, 256, 90).tolist()
OPTIONS = [{}, {"bits": 8}, {"bits": 4}, {"window": 30}]


@pytest.fixture
def endless(tokenizer) -> Tokenizer:
    """The tokenizer without an end token."""
    return Tokenizer(tokenizer.inner)


def tokens(model, tokenizer, prompt, cache, count=12) -> list[int]:
    return [p.token for p in stream_generate(model, tokenizer, prompt, count, prompt_cache=cache)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_a_file_goes_on_where_the_cache_was(kind, option, endless, tmp_path):
    model = toy(kind)
    cache = PromptCache(model.cache_specs(), CacheOptions(**option))
    first = tokens(model, endless, PROMPT, cache)
    file = tmp_path / "prompt.safetensors"
    save_prompt_cache(file, cache, model)
    read = load_prompt_cache(file, model)
    assert (read.tokens, read.options) == (cache.tokens, cache.options)
    more = [*PROMPT, *first, 4, 5]
    assert tokens(model, endless, more, read, 80) == tokens(model, endless, more, cache, 80)
    info, text = inspect_prompt_cache(file)
    assert (info.tokens, info.layers, info.options) == (101, len(cache.caches), cache.options)
    assert text[:90] == PROMPT
    assert [f.name for f in tmp_path.iterdir()] == ["prompt.safetensors"]


@pytest.fixture
def saved(endless, tmp_path):
    model = toy("mixed")
    cache = PromptCache(model.cache_specs())
    tokens(model, endless, PROMPT, cache)
    file = tmp_path / "prompt.safetensors"
    save_prompt_cache(file, cache, model)
    return model, file


def test_other_models_and_other_weights_are_refused(saved):
    model, file = saved
    with pytest.raises(CacheError, match="was made by another model"):
        load_prompt_cache(file, toy("mixed", seed=1))
    with pytest.raises(CacheError, match="was made by another model"):
        load_prompt_cache(file, toy("attention"))
    model.layers[0].q.weight = model.layers[0].q.weight * 2
    with pytest.raises(CacheError, match="was made by another model"):
        load_prompt_cache(file, model)


def test_every_damage_is_an_error(saved):
    """Bytes changed and files cut: no crash, no other exception, and never another cache."""
    model, file = saved
    whole, rng = file.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(150):
        damaged = bytearray(whole)
        if rng.random() < 0.3:
            damaged = damaged[: rng.randrange(len(whole))]
        else:
            for _ in range(rng.randrange(1, 4)):
                damaged[rng.randrange(rng.choice([header, len(whole)]))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(CacheError, match=file.name):
            load_prompt_cache(file, model)
    file.write_bytes(whole[:-1])
    with pytest.raises(CacheError, match="is truncated or corrupt"):
        load_prompt_cache(file, model)


def rewritten(file, change, **metadata) -> None:
    arrays, old = mx.load(str(file), return_metadata=True)
    arrays = {k: mx.array(np.array(v)) for k, v in arrays.items()}
    change(arrays)
    facts = {**old, **metadata}
    facts["checksum"] = str(_checksum(arrays, facts))
    mx.save_safetensors(str(file), arrays, facts)


@pytest.mark.parametrize(
    ("change", "metadata", "message"),
    [
        (lambda a: None, {"format": "x"}, "is not the cache of a prompt"),
        (lambda a: None, {"version": "2"}, "has version '2' of the format, wanted 1"),
        (lambda a: None, {"options": "{}{"}, "has metadata that cannot be used"),
        (lambda a: None, {"options": json.dumps({"bits": 3})}, "has metadata that cannot be used"),
        (lambda a: None, {"layers": "9"}, "has 9 layers, the model has 3"),
        (lambda a: a.pop("tokens"), {}, "has no text"),
        (lambda a: a.update(tokens=a["tokens"][:-1]), {}, "layer 1: a cache of 100 positions wants buffers"),
        (lambda a: a.update(tokens=a["tokens"] + 300), {}, "outside a vocabulary of 320"),
        (lambda a: a.pop("layers.1.1"), {}, "layer 1: a cache of 101 positions wants buffers"),
        (lambda a: a.pop("layers.0.0"), {}, "layer 0: a state wants arrays of shapes"),
        (lambda a: a.update({"layers.2.0": a["layers.2.0"][:1]}), {}, "layer 2: a cache of 101 positions"),
    ],
)
def test_what_does_not_fit_is_named(change, metadata, message, saved):
    model, file = saved
    rewritten(file, change, **metadata)
    with pytest.raises(CacheError, match=message):
        load_prompt_cache(file, model)


def test_missing_and_empty(tmp_path):
    model = toy("attention")
    with pytest.raises(CacheError, match=r"cannot read .*absent"):
        load_prompt_cache(tmp_path / "absent", model)
    with pytest.raises(CacheError, match="an empty prompt cache was to be saved"):
        save_prompt_cache(tmp_path / "x.safetensors", PromptCache(model.cache_specs()), model)
    assert list(tmp_path.iterdir()) == []
