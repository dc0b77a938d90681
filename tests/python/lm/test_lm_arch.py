"""Every architecture gives the logits of transformers: at once, token by token, and in ragged batches."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm.config import model_types, parse_config
from lamina.utils import tree_flatten
from lm.lm_cases import CASES
from lm.lm_golden import FOLDER, golden, ragged_logits


def test_every_case_has_its_file_and_every_type_a_case():
    assert sorted(p.stem for p in FOLDER.glob("*.safetensors")) == sorted(CASES)
    assert sorted({model_type for model_type, _ in CASES.values()}) == list(model_types())


@pytest.mark.parametrize("name", CASES)
def test_whole_sequences(name):
    case = golden(name)
    model = case.model()
    got = np.concatenate([np.array(model(mx.array([s]))[0]) for s in case.sequences])
    assert np.abs(got - case.logits).max() <= case.tolerance()


@pytest.mark.parametrize("name", CASES)
def test_token_by_token(name):
    case = golden(name)
    model = case.model()
    sequence = case.sequences[0]
    cache = model.make_cache()
    got = np.concatenate([np.array(model(mx.array([[t]]), cache)[0]) for t in sequence])
    assert np.abs(got - case.logits[: len(sequence)]).max() <= case.tolerance()


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_sequences_of_different_lengths(name):
    case = golden(name)
    model = case.model()
    # Lengths 13, 7, 10: two whole prefills and a part, the rest of it beside single tokens, single tokens.
    steps = [[10, 5, 4], [1, 1, 4], [2, 1, 2]]
    got = ragged_logits(model, case.sequences, steps)
    assert np.abs(got - case.logits).max() <= case.tolerance()


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_is_as_exact_as_that_of_transformers(name):
    case = golden(name)
    model = case.model(mx.bfloat16)
    parts = [model(mx.array([s]))[0] for s in case.sequences]
    assert all(p.dtype == mx.bfloat16 for p in parts)
    got = np.concatenate([np.array(p.astype(mx.float32)) for p in parts])
    # Two draws of rounding errors of the same size: one may be the larger by chance. The median is blind to
    # the few positions where a rounding made another expert the better one.
    error = np.median(np.sqrt(np.square(got - case.logits).mean(axis=-1)))
    assert error <= 1.25 * case.bfloat16_error


@pytest.mark.parametrize("name", CASES)
def test_names_of_saved_weights_are_loaded_as_they_are(name):
    case = golden(name)
    model = case.model()
    saved = dict(tree_flatten(model.parameters()))
    again = model.sanitize(saved)
    assert again.keys() == saved.keys()
    assert all(again[k].shape == saved[k].shape for k in saved)


@pytest.mark.parametrize("name", CASES)
def test_config_round_trip(name):
    config = parse_config(golden(name).config)
    assert parse_config(config.to_dict()).spec == config.spec
