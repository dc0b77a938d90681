"""Conversations: the template that a model was trained with writes them, and a cache keeps what was said.

Templates are Jinja texts of whoever published the model. They run in a sandbox, with the extras that
published ones use: ``raise_exception``, ``strftime_now``, ``break`` and ``continue`` in loops, ``tojson``
that leaves letters alone, and ``generation`` blocks.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lamina.lm.cache import CacheOptions, PromptCache
from lamina.lm.errors import PromptError
from lamina.lm.generate.step import LanguageModel
from lamina.lm.generate.stream import Piece, stream_generate
from lamina.lm.sample import Sampler, Sampling, greedy
from lamina.lm.tokenizer import Tokenizer

Message = Mapping[str, Any]
"""One turn: ``role`` (``"system"``, ``"user"``, ``"assistant"``, ``"tool"``, ...) and ``content``, as
templates want them; an assistant's may have ``tool_calls``."""


class ChatTemplate:
    """A chat template, compiled.

    Parameters
    ----------
    text : str
        The Jinja text.
    special_tokens : Mapping[str, str], optional
        Spellings by role, ``"bos_token"`` and the like, which templates use by these names.

    Raises
    ------
    PromptError
        The text is not a template.

    Examples
    --------
    >>> template = ChatTemplate("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    >>> template.render([{"role": "user", "content": "hello"}])
    '<user>hello'
    """

    def __init__(self, text: str, special_tokens: Mapping[str, str] | None = None) -> None:
        import jinja2

        self._special_tokens = dict(special_tokens or {})
        try:
            self._template = _environment().from_string(text)
        except jinja2.TemplateError as error:
            raise PromptError(f"the chat template cannot be used: {error}") from error

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """Return the text of a conversation.

        Parameters
        ----------
        messages : sequence of Message
            The turns.
        tools : sequence of Mapping, optional
            Descriptions of functions that the model may call, as JSON schemas.
        add_generation_prompt : bool
            Whether to end with what begins the model's own turn.
        **variables
            Further variables of the template, such as ``enable_thinking``.

        Returns
        -------
        str

        Raises
        ------
        PromptError
            The messages are none, or the template refuses them.
        """
        import jinja2

        _check_messages(messages)
        try:
            return self._template.render(
                messages=list(messages),
                tools=list(tools) if tools else None,
                documents=variables.pop("documents", None),
                add_generation_prompt=add_generation_prompt,
                **{**self._special_tokens, **variables},
            )
        except (jinja2.TemplateError, TypeError, ValueError, OverflowError) as error:
            raise PromptError(f"the chat template refuses the conversation: {error}") from error


def chat_template(tokenizer: Tokenizer, tools: bool = False) -> ChatTemplate:
    """Return the template published with a tokenizer; that for tools where they are wanted and it is apart.

    Raises
    ------
    PromptError
        There is none.
    """
    named = tokenizer.chat_templates
    text = (named.get("tool_use") if tools else None) or tokenizer.chat_template or named.get("default")
    if text is None:
        raise PromptError(
            "the model has no chat template: it continues texts, and does not hold conversations"
        )
    return ChatTemplate(text, tokenizer.special_tokens)


def chat_ids(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
    template: ChatTemplate | None = None,
    **variables: Any,
) -> list[int]:
    """Return the tokens of a conversation, ready for the model's turn.

    Parameters are those of :meth:`ChatTemplate.render`; ``template`` stands in for the tokenizer's own.

    Raises
    ------
    PromptError
        There is no template, or it refuses the messages.
    """
    template = template or chat_template(tokenizer, bool(tools))
    # The template writes the special tokens itself.
    return tokenizer.encode(template.render(messages, tools, **variables), special=False)


@dataclass
class Conversation:
    """A conversation with a model, whose earlier turns need not be run again.

    Attributes
    ----------
    model : LanguageModel
        The model.
    tokenizer : Tokenizer
        Its tokenizer.
    messages : list of Message
        The turns so far.
    sampler : Sampler or Sampling
        How tokens are chosen.
    max_tokens : int
        Tokens of an answer at most.
    template : ChatTemplate or None
        Writes the conversation. None for a model that only continues texts: turns are put one below another.
    variables : dict
        Further variables of the template.
    options : dict
        Further options of :func:`lamina.lm.stream_generate`.
    cache_options : CacheOptions
        How positions are kept.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    messages: list[dict[str, Any]] = field(default_factory=list)
    sampler: Sampler | Sampling = greedy
    max_tokens: int = 1024
    template: ChatTemplate | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    cache_options: CacheOptions = field(default_factory=CacheOptions)

    def __post_init__(self) -> None:
        self._cache = PromptCache(self.model.cache_specs(), self.cache_options)

    def say(self, text: str) -> Iterator[Piece]:
        """Add a turn of the user's and yield the answer, which is added as far as it came.

        Raises
        ------
        PromptError, ContextError
            The conversation cannot be written, or is too long; it stays as it was. Raised by the call itself.
        """
        self.messages.append({"role": "user", "content": text})
        try:
            return self._answer()
        except Exception:
            self.messages.pop()
            raise

    def again(self) -> Iterator[Piece]:
        """Forget the last answer and yield another one, with the next seed.

        Raises
        ------
        PromptError
            Nobody said anything.
        """
        if self.messages and self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        if not self.messages or self.messages[-1]["role"] != "user":
            raise PromptError("there is no question to answer again")
        if isinstance(self.sampler, Sampling):
            self.sampler = self.sampler.with_seed(self.sampler.seed + 1)
        return self._answer()

    def undo(self) -> bool:
        """Forget the last question and its answer; return whether there was one."""
        at = [i for i, m in enumerate(self.messages) if m["role"] == "user"]
        if at:
            del self.messages[at[-1] :]
        return bool(at)

    def clear(self) -> None:
        """Forget all turns but those of the system."""
        self.messages = [m for m in self.messages if m["role"] == "system"]

    def set_system(self, text: str) -> None:
        """Say who the model is to be; an empty text says nothing."""
        rest = [m for m in self.messages if m["role"] != "system"]
        self.messages = ([{"role": "system", "content": text}] if text else []) + rest

    def prompt_ids(self) -> list[int]:
        """Return the tokens of the conversation, ready for the model's turn."""
        if self.template is not None:
            return chat_ids(self.tokenizer, self.messages, template=self.template, **self.variables)
        return self.tokenizer.encode("\n".join(str(m["content"]) for m in self.messages))

    def _answer(self) -> Iterator[Piece]:
        pieces = stream_generate(
            self.model,
            self.tokenizer,
            self.prompt_ids(),
            self.max_tokens,
            self.sampler,
            prompt_cache=self._cache,
            **self.options,
        )
        return self._kept(pieces)

    def _kept(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        message = {"role": "assistant", "content": ""}
        self.messages.append(message)
        for piece in pieces:
            message["content"] += piece.text
            yield piece


def _check_messages(messages: Sequence[Message]) -> None:
    if not messages:
        raise PromptError("a conversation wants at least one message")
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise PromptError(f"message {i} wants a role and a content, got {message!r}")
        parts = message.get("content")
        for part in parts if isinstance(parts, (list, tuple)) else ():
            if isinstance(part, Mapping) and part.get("type", "text") != "text":
                raise PromptError(f"message {i} has a part of type {part['type']!r}: models take text only")


@functools.cache
def _environment() -> Any:
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Blocks that mark what the model wrote; they print what they hold."""

        tags = {"generation"}  # noqa: RUF012 - jinja2 wants it so

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)

    def strftime_now(format: str) -> str:
        return datetime.datetime.now().strftime(format)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment
