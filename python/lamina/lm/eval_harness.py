"""Models in EleutherAI's ``lm-eval``: what its tasks ask of a model, answered by the engine.

The package is wanted when tasks are run, not before.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lamina.lm.chat import chat_template
from lamina.lm.engine import Engine, EngineOptions, Request, Scorer
from lamina.lm.engine.score import SCORING
from lamina.lm.errors import DataError, LMError, PromptError
from lamina.lm.generate.step import LanguageModel
from lamina.lm.sample import Sampling
from lamina.lm.tokenizer import Tokenizer

# Tokens of an answer where a task does not say.
_ANSWER = 256
# What tasks call the same thing.
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# What is known here with one value only.
_FIXED = {"num_beams": 1, "num_return_sequences": 1}
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


class Instance(Protocol):
    """A request of ``lm-eval``: its arguments depend on what it asks for."""

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments."""
        ...


class HarnessModel:
    """A model as ``lm-eval`` asks it; :func:`harness_model` makes one that is an ``lm_eval.api.model.LM``.

    Parameters
    ----------
    model, tokenizer
        The model and its tokenizer.
    options : EngineOptions, optional
        Texts and tokens in a step, and memory.
    context : int, optional
        Tokens that texts may have; what the model has by default. Longer ones lose their beginning.
    max_tokens : int, optional
        Tokens that answers may have at most, where tasks want longer ones.
    progress : bool
        Whether to show a bar on stderr.

    Raises
    ------
    LMError
        The model has less context.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        options: EngineOptions | None = None,
        context: int | None = None,
        max_tokens: int | None = None,
        progress: bool = False,
    ) -> None:
        longest = model.config.max_position_embeddings
        if context is not None and not 2 <= context <= longest:
            raise LMError(f"the context must be from 2 to the model's {longest}, got {context}")
        self._model, self._tokenizer = model, tokenizer
        self._options = options or SCORING
        self._max_tokens, self._progress = max_tokens, progress
        self.max_length = context or longest
        self._begin = _begin(tokenizer)

    @property
    def prefix_token(self) -> int:
        """What texts without a context follow.

        Raises
        ------
        PromptError
            The tokenizer has neither a token that begins texts nor one that ends them.
        """
        bos = self._tokenizer.special_tokens.get("bos_token")
        ids = [*self._begin, self._tokenizer.token_id(bos) if bos is not None else None]
        ids += sorted(self._tokenizer.eos_ids)
        found = next((i for i in ids if i is not None), None)
        if found is None:
            raise PromptError("an empty context wants a token that begins or ends texts: there is none")
        return found

    def encode(self, text: str) -> list[int]:
        """Return the tokens of ``text`` behind those that begin every text, which are not doubled."""
        ids = self._tokenizer.encode(text, special=False)
        return ids if ids[: len(self._begin)] == self._begin else [*self._begin, *ids]

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the tokens of a context and of what follows it, divided as the whole text is.

        Spaces at the end of the context belong to what follows. Of a text that is too long the beginning is
        left out.

        Raises
        ------
        PromptError
            The continuation has no tokens, or alone is too long.
        """
        if context.rstrip() != context:
            bare = context.rstrip()
            context, continuation = bare, context[len(bare) :] + continuation
        if context:
            first, whole = self.encode(context), self.encode(context + continuation)
            ids, following = whole[: len(first)], whole[len(first) :]
        else:
            following = self._tokenizer.encode(continuation, special=False)
            ids = [self.prefix_token]
        if not following:
            raise PromptError(f"the continuation {continuation!r} has no tokens after its context")
        room = self.max_length + 1 - len(following)
        if room < 1:
            raise PromptError(
                f"a continuation has {len(following)} tokens, and the context holds {self.max_length}"
            )
        return ids[-room:], following

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return for each (context, continuation) its log-likelihood, and whether it is the likeliest."""
        pairs = [self.pair(*r.args) for r in requests]
        with self._bar("continuations", len(pairs)) as advance:
            scored = Scorer(self._model, self._options).score(pairs, advance)
        return [(s.logprob, s.greedy) for s in scored]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each text, all tokens of it, in windows of the context's length.

        The first token follows the one that begins or ends texts; the last window is a full one.
        """
        owners, pairs = [], []
        for number, request in enumerate(requests):
            ids = self._tokenizer.encode(request.args[0], special=False)
            for pair in rolling_windows(ids, self.prefix_token, self.max_length):
                owners.append(number)
                pairs.append(pair)
        with self._bar("windows of text", len(pairs)) as advance:
            scored = Scorer(self._model, self._options).score(pairs, advance)
        totals = [0.0] * len(requests)
        for number, one in zip(owners, scored, strict=True):
            totals[number] += one.logprob
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return for each (context, options) the text that follows, up to one of ``options["until"]``.

        Raises
        ------
        LMError
            An option is not known, or an answer failed.
        """
        engine = Engine(self._model, self._tokenizer, self._options)
        handles = [engine.submit(self._request(i, *r.args)) for i, r in enumerate(requests)]
        with self._bar("answers", len(handles)) as advance:
            while not engine.idle:
                advance(sum(event.finish_reason is not None for event in engine.step()))
        for handle in handles:
            if handle.error is not None:
                raise handle.error
        return ["".join(event.text for event in handle.events) for handle in handles]

    def _request(self, number: int, context: str, options: Mapping[str, Any]) -> Request:
        known = {"until", "do_sample", *_LENGTHS, *_SAMPLING}
        for name, value in options.items():
            if name not in known and (name not in _FIXED or value != _FIXED[name]):
                raise LMError(f"an answer cannot have the option {name}={value!r}; known are {sorted(known)}")
        until = options.get("until") or []
        stop = [until] if isinstance(until, str) else [s for s in until if s]
        budget = next((int(options[n]) for n in _LENGTHS if options.get(n) is not None), _ANSWER)
        budget = min(budget, self._max_tokens or budget)
        if not 1 <= budget < self.max_length:
            raise LMError(f"an answer of {budget} tokens leaves no room in a context of {self.max_length}")
        ids = self.encode(context) if context else [self.prefix_token]
        given = {name: options[name] for name in _SAMPLING if options.get(name) is not None}
        if options.get("do_sample", given.get("temperature", 0.0) > 0):
            given = {"temperature": 1.0, **given, "seed": given.get("seed", 0) + number}
        else:
            given["temperature"] = 0.0
        return Request(ids[budget - self.max_length :], budget, Sampling(**given), stop)

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as the model's template writes it."""
        template = chat_template(self._tokenizer)
        return template.render(chat_history, add_generation_prompt=add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the text of the model's chat template; empty where none is asked for."""
        return (self._tokenizer.chat_template or "") if chat_template else ""

    @property
    def tokenizer_name(self) -> str:
        """What cached requests are kept under."""
        return f"lamina-{self._tokenizer.vocab_size}"

    @contextlib.contextmanager
    def _bar(self, what: str, count: int) -> Iterator[Callable[[int], Any]]:
        from tqdm import tqdm

        with tqdm(total=count, desc=what, disable=not self._progress) as bar:
            yield bar.update


def _begin(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens that a tokenizer puts in front of every text."""
    bare, whole = (tokenizer.encode("a", special=s) for s in (False, True))
    at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return whole[:at]


def rolling_windows(ids: Sequence[int], prefix: int, length: int) -> Iterator[tuple[list[int], list[int]]]:
    """Cut ``ids`` into contexts and continuations, so that each id is predicted once.

    Windows are inputs of ``length`` ids; the last one begins earlier, to be as long as the others.

    Examples
    --------
    >>> list(rolling_windows([1, 2, 3, 4, 5, 6], 0, 4))
    [([0], [1, 2, 3, 4]), ([2, 3, 4], [5, 6])]
    """
    whole = [prefix, *ids]
    for start in range(0, len(ids), length):
        end = min(start + length, len(ids))
        # Predicting whole[start + 1] to whole[end] takes all before the last of them.
        yield whole[max(0, end - length) : start + 1], whole[start + 1 : end + 1]


def _lm_eval(module: str) -> Any:
    try:
        return importlib.import_module(f"lm_eval.{module}")
    except ImportError as error:
        raise LMError(f"tasks want the lm-eval package ({error}): pip install lamina[eval]") from error


def harness_version() -> str:
    """Return the version of ``lm-eval``.

    Raises
    ------
    LMError
        It is not installed.
    """
    _lm_eval("api.model")
    return importlib.metadata.version("lm_eval")


def harness_model(model: LanguageModel, tokenizer: Tokenizer, **options: Any) -> Any:
    """Return a :class:`HarnessModel` that is an ``lm_eval.api.model.LM``, for ``lm_eval.simple_evaluate``.

    Parameters are those of :class:`HarnessModel`.

    Raises
    ------
    LMError
        ``lm-eval`` is not installed.
    """
    base = _lm_eval("api.model").LM

    class LaminaLM(HarnessModel, base):
        def __init__(self) -> None:
            base.__init__(self)
            HarnessModel.__init__(self, model, tokenizer, **options)

    return LaminaLM()


@dataclass(frozen=True)
class TaskResult:
    """What came of a task or of a group of tasks.

    Attributes
    ----------
    task : str
        Its name.
    documents : int or None
        Documents asked about.
    metrics : Mapping of str to float
        By metric; with the name of the filter behind a comma where there is one.
    errors : Mapping of str to float
        Standard errors of metrics, where they are known.
    """

    task: str
    documents: int | None
    metrics: Mapping[str, float]
    errors: Mapping[str, float]


def run_tasks(
    model: LanguageModel,
    tokenizer: Tokenizer,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    fewshot: int | None = None,
    folders: Sequence[str | Path] = (),
    chat: bool = False,
    **options: Any,
) -> list[TaskResult]:
    """Run tasks of ``lm-eval``.

    Parameters
    ----------
    model, tokenizer
        The model and its tokenizer.
    tasks : sequence of str
        Names of tasks, groups or tags.
    limit : int, optional
        Documents of each task; all by default.
    fewshot : int, optional
        Examples in front of each question; what the task says by default.
    folders : sequence of path
        Folders with definitions of further tasks.
    chat : bool
        Ask in the form of the model's chat template.
    **options
        Those of :class:`HarnessModel`.

    Raises
    ------
    LMError
        ``lm-eval`` is not installed, or asks for something that is not supported.
    DataError
        There is no such task or folder, or its documents cannot be had.
    """
    lm = harness_model(model, tokenizer, **options)
    manager = _task_manager(tasks, folders)
    try:
        found = _lm_eval("evaluator").simple_evaluate(
            model=lm,
            tasks=list(tasks),
            num_fewshot=fewshot,
            limit=limit,
            apply_chat_template=chat,
            task_manager=manager,
            log_samples=False,
        )
    except OSError as error:
        raise DataError(f"a task's documents cannot be had: {error}") from error
    return [_result(name, values) for name, values in found["results"].items()]


def _task_manager(tasks: Sequence[str], folders: Sequence[str | Path]) -> Any:
    """Return what knows the definitions of ``tasks``: those of the folders alone where they suffice."""
    if missing := [str(f) for f in folders if not Path(f).is_dir()]:
        raise DataError(f"no such folder of tasks: {', '.join(missing)}")
    make, paths = _lm_eval("tasks").TaskManager, [str(f) for f in folders]
    if paths:
        # The package's own definitions are thousands of files: reading them takes longer than small tasks.
        own = make(include_path=paths, include_defaults=False)
        if set(tasks) <= set(own.all_subtasks):
            return own
    manager = make(include_path=paths or None)
    if unknown := [name for name in tasks if not manager.match_tasks([name])]:
        raise DataError(f"no such task: {', '.join(unknown)}")
    return manager


def _result(task: str, values: Mapping[str, Any]) -> TaskResult:
    """Sort out a task's numbers; their keys are ``metric,filter`` and ``metric_stderr,filter``."""
    metrics: dict[str, float] = {}
    errors: dict[str, float] = {}
    for key, value in values.items():
        name, comma, filter = key.partition(",")
        if not comma or not isinstance(value, (int, float)):
            continue
        target = errors if name.endswith("_stderr") else metrics
        target[name.removesuffix("_stderr") + (f",{filter}" if filter != "none" else "")] = float(value)
    return TaskResult(task, values.get("sample_len"), metrics, errors)
