"""Answers that must look as asked for: by a JSON schema, a regular expression or a grammar.

The ``llguidance`` package says which tokens may come next; the choice is made among those. It is wanted at
the first constraint, not before.
"""

from __future__ import annotations

import importlib
import json
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import lamina.core as mx
from lamina._lazy import numpy as np
from lamina.lm.errors import ConstraintError
from lamina.lm.tokenizer import Tokenizer

# Keywords of JSON Schema that hold one schema, several by name, and several in a list; and all others.
_ONE = {"items", "additionalItems", "additionalProperties", "contains", "propertyNames", "not", "if", "then"}
_ONE |= {"else", "unevaluatedItems", "unevaluatedProperties", "contentSchema"}
_NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
_LISTED = {"allOf", "anyOf", "oneOf", "prefixItems"}
_OTHERS = {
    "$anchor", "$comment", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema", "$vocabulary", "const",
    "contentEncoding", "contentMediaType", "default", "dependentRequired", "deprecated", "description",
    "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "id", "maxContains", "maxItems",
    "maxLength", "maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties",
    "minimum", "multipleOf", "nullable", "pattern", "readOnly", "required", "title", "type", "uniqueItems",
    "writeOnly", "x-guidance",
}  # fmt: skip


class Allowed(Protocol):
    """What may come next in one answer."""

    @property
    def finished(self) -> bool:
        """Whether nothing may follow."""
        ...

    def mask(self) -> mx.array:
        """Return which tokens may come next, (V,) of booleans."""
        ...

    def accept(self, token: int) -> None:
        """Take the next token."""
        ...


class Constraint(Protocol):
    """What answers must look like."""

    def start(self) -> Allowed:
        """Return what may come in a new answer."""
        ...


class Grammar:
    """Texts that a JSON schema, a regular expression or a grammar describes.

    Made by :meth:`json_schema`, :meth:`regex` or :meth:`lark`, for one tokenizer; any number of answers can
    be held to it at once.

    Examples
    --------
    >>> from lamina.lm import demo_path, generate, load
    >>> model, tokenizer = load(demo_path())
    >>> number = Grammar.regex(r"[0-9]{3}", tokenizer, model.config.vocab_size)
    >>> generate(model, tokenizer, "x = ", 8, constraint=number).isdigit()
    True
    """

    def __init__(self, text: str, tokenizer: Tokenizer, vocab: int) -> None:
        guidance = _guidance()
        self._tokenizer = _wrapped(tokenizer, vocab)
        self._vocab = vocab
        wrong, messages = guidance.LLMatcher.validate_grammar_with_warnings(text, self._tokenizer)
        if wrong or messages:
            raise ConstraintError("; ".join(messages))
        self._matcher = guidance.LLMatcher(self._tokenizer, text, log_level=0)
        _check(self._matcher)

    @classmethod
    def json_schema(
        cls, schema: Mapping[str, Any] | str, tokenizer: Tokenizer, vocab: int, compact: bool = False
    ) -> Grammar:
        """Return what conforms to a JSON schema.

        Parameters
        ----------
        schema : Mapping or str
            The schema, or its JSON text.
        tokenizer : Tokenizer
            The model's tokenizer.
        vocab : int
            Number of the model's logits.
        compact : bool
            Whether to leave no whitespace between the parts of the answer.

        Raises
        ------
        ConstraintError
            The schema is none, has a keyword that is not supported, or nothing conforms to it.
        """
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except ValueError as error:
                raise ConstraintError(f"the schema is not JSON: {error}") from error
        if not isinstance(schema, (Mapping, bool)):
            raise ConstraintError(f"a schema is a JSON object, got {schema!r}")
        unknown = sorted(set(_unknown_keywords(schema)))
        if unknown:
            raise ConstraintError(f"the schema has keywords that are not known: {', '.join(unknown)}")
        options: Any = {"whitespace_flexible": not compact}
        text = _guidance().LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=options)
        return cls(text, tokenizer, vocab)

    @classmethod
    def regex(cls, pattern: str, tokenizer: Tokenizer, vocab: int) -> Grammar:
        """Return what a regular expression matches as a whole; without look-around and back-references.

        Raises
        ------
        ConstraintError
            The pattern is wrong or not supported.
        """
        return cls(_guidance().LLMatcher.grammar_from_regex(pattern), tokenizer, vocab)

    @classmethod
    def lark(cls, grammar: str, tokenizer: Tokenizer, vocab: int) -> Grammar:
        """Return what a context-free grammar in Lark's notation describes.

        Raises
        ------
        ConstraintError
            The grammar is wrong or not supported.
        """
        return cls(_guidance().LLMatcher.grammar_from_lark(grammar), tokenizer, vocab)

    def start(self) -> GrammarState:
        """Return what may come in a new answer."""
        return GrammarState(self._matcher.deep_copy(), self._vocab)


class GrammarState:
    """What may come next in one answer that a grammar describes."""

    def __init__(self, matcher: Any, vocab: int) -> None:
        self._matcher = matcher
        self._vocab = vocab

    @property
    def finished(self) -> bool:
        """Whether nothing may follow."""
        return self._matcher.is_stopped()

    def mask(self) -> mx.array:
        """Return which tokens may come next, (V,) of booleans.

        Raises
        ------
        ConstraintError
            The grammar is too complex to go on.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        _check(self._matcher)
        return mx.array(np.unpackbits(bits, bitorder="little")[: self._vocab].astype(bool))

    def accept(self, token: int) -> None:
        """Take the next token.

        Raises
        ------
        ConstraintError
            The token may not come here.
        """
        self._matcher.consume_token(token)
        _check(self._matcher)


_TOKENIZERS: weakref.WeakKeyDictionary[Tokenizer, dict[int, Any]] = weakref.WeakKeyDictionary()


def _wrapped(tokenizer: Tokenizer, vocab: int) -> Any:
    """Return the tokenizer as ``llguidance`` wants it, made once: it takes long for a large vocabulary."""
    made = _TOKENIZERS.setdefault(tokenizer, {})
    if vocab not in made:
        if not tokenizer.eos_ids:
            raise ConstraintError("a constrained answer wants an end token, and the tokenizer has none")
        eos = sorted(tokenizer.eos_ids)
        made[vocab] = _guidance().LLTokenizer(tokenizer.inner.to_str(), n_vocab=vocab, eos_token=eos)
    return made[vocab]


def _guidance() -> Any:
    try:
        return importlib.import_module("llguidance")
    except ImportError as error:
        raise ConstraintError(
            "constrained answers want the llguidance package: pip install lamina[constrain]"
        ) from error


def _check(matcher: Any) -> None:
    if matcher.is_error():
        raise ConstraintError(str(matcher.get_error()))


def _unknown_keywords(schema: Any) -> Iterator[str]:
    """Yield keywords that no version of JSON Schema has: a misspelt one would silently allow anything."""
    if not isinstance(schema, Mapping):
        return
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, Mapping):
            for part in value.values():
                yield from _unknown_keywords(part)
        elif key in _LISTED or (key == "items" and isinstance(value, list)):
            for part in value if isinstance(value, list) else []:
                yield from _unknown_keywords(part)
        elif key in _ONE:
            yield from _unknown_keywords(value)
        elif key not in _OTHERS and key not in _NAMED:
            yield key
