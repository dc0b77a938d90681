"""Constrained answers: they conform whatever the model would say, and what cannot be met is an error."""

from __future__ import annotations

import json
import re
import sys

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import ConstraintError, Engine, Request, Tokenizer, generate, stream_generate
from lamina.lm.constrain import Grammar
from lamina.lm.generate import PromptLookup
from lamina.lm.sample import Sampling
from lm.lm_toy import VOCAB, toy

pytest.importorskip("llguidance", reason="the package is not installed here")

PROMPT = np.random.default_rng(3).integers(1, 256, 30).tolist() * 2
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def batch_invariant():
    """A row's bits must not depend on how many rows go through a layer with it."""
    before = mx.set_batch_invariant(True)
    yield
    mx.set_batch_invariant(before)


@pytest.fixture(scope="module")
def ended(tokenizer) -> Tokenizer:
    """The tokenizer with its end token."""
    return Tokenizer(tokenizer.inner, [0])


def schema(value, tokenizer, **options) -> Grammar:
    return Grammar.json_schema(value, tokenizer, VOCAB, **options)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["attention", "mixed"])
def test_answers_conform(seed, kind, ended):
    sampler = Sampling(temperature=2.0, seed=seed, logit_bias={5: 2.0})
    grammar = schema(SCHEMA, ended, compact=True)
    answer = list(stream_generate(toy(kind, seed), ended, PROMPT, 200, sampler, constraint=grammar))
    data = json.loads("".join(p.text for p in answer))
    assert set(data) == {"name", "age", "tags"}
    assert len(data["name"]) <= 6
    assert 0 <= data["age"] <= 120
    assert set(data["tags"]) <= {"a", "b"}
    assert len(data["tags"]) <= 3
    assert answer[-1].finish_reason == "stop"


@pytest.mark.parametrize("pattern", [r"[a-f]{12}", r"(yes|no)", r"-?[0-9]+\.[0-9]{2}", r"é+🎉"])
def test_answers_match(pattern, ended):
    grammar = Grammar.regex(pattern, ended, VOCAB)
    for seed in range(4):
        model = toy("attention", seed)
        sampler = Sampling(temperature=1.5, seed=seed)
        pieces = list(stream_generate(model, ended, PROMPT, 60, sampler, constraint=grammar))
        text = "".join(p.text for p in pieces)
        if pieces[-1].finish_reason == "stop":
            assert re.fullmatch(pattern, text)
        else:
            assert len(pieces) == 60


def test_a_grammar(ended):
    grammar = Grammar.lark('start: "[" item ("," item)* "]"\nitem: /[0-9]/ | start', ended, VOCAB)
    sampler = Sampling(temperature=1.5, seed=3)
    text = generate(toy("attention"), ended, PROMPT, 200, sampler, constraint=grammar)
    assert isinstance(json.loads(text), list)


def test_batches_and_guesses_give_the_same(ended):
    model, grammar = toy("attention"), schema(SCHEMA, ended, compact=True)
    samplers = [Sampling(temperature=1.5, seed=s) for s in range(4)]

    def alone(sampler, **options):
        pieces = stream_generate(model, ended, PROMPT, 80, sampler, constraint=grammar, **options)
        return [p.token for p in pieces]

    want = [alone(s) for s in samplers]
    assert [alone(s, draft=PromptLookup()) for s in samplers] == want
    free = [p.token for p in stream_generate(model, ended, PROMPT, 30)]
    engine = Engine(model, ended)
    requests = [Request(PROMPT, 80, s, constraint=grammar) for s in samplers]
    handles = engine.run([*requests, Request(PROMPT, 30)])
    got = [[e.token for e in h.events] for h in handles]
    assert got == [*want, free]


def test_an_answer_that_is_whole_ends_without_an_end_token(ended):
    grammar = Grammar.regex("ab", ended, VOCAB)
    pieces = list(stream_generate(toy("attention"), ended, PROMPT, 50, constraint=grammar))
    assert "".join(p.text for p in pieces) == "ab"
    assert pieces[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum .5. is greater than maximum .3."),
        ({"enum": []}, "Unsatisfiable schema"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "blob"}, "Invalid type: blob"),
        ({"$ref": "#/$defs/x"}, "does not exist"),
        ({"type": "string", "minlength": 3}, "has keywords that are not known: minlength"),
        ({"properties": {"minlength": {"anyOf": [{"kind": "x"}]}}}, "not known: kind"),
        ({"items": {"maxlenght": 1}, "$defs": {"a": {"b": 1}}}, "not known: b, maxlenght"),
        ("{", "the schema is not JSON"),
        ([1], "a schema is a JSON object, got"),
    ],
)
def test_schemas_that_cannot_be_met(value, message, ended):
    with pytest.raises(ConstraintError, match=message):
        schema(value, ended)


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", "a{3,2}"])
def test_patterns_that_are_none(pattern, ended):
    with pytest.raises(ConstraintError, match="regex"):
        Grammar.regex(pattern, ended, VOCAB)


def test_other_errors(ended, monkeypatch):
    with pytest.raises(ConstraintError, match='unknown name: "foo"'):
        Grammar.lark("start: foo", ended, VOCAB)
    with pytest.raises(ConstraintError, match="wants an end token, and the tokenizer has none"):
        Grammar.regex("a", Tokenizer(ended.inner), VOCAB)
    state = Grammar.regex("a", ended, VOCAB).start()
    with pytest.raises(ConstraintError):
        state.accept(ended.token_id("b"))
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ConstraintError, match=r"pip install lamina\[constrain\]"):
        Grammar.regex("a", ended, VOCAB)
