"""What can go wrong in ``lamina.lm``: each error names what was wanted and what came."""

from __future__ import annotations


class LMError(Exception):
    """Base of every error that ``lamina.lm`` raises about its inputs."""


class ConfigError(LMError, ValueError):
    """A model or training configuration is wrong, or asks for something not supported."""


class CheckpointError(LMError, ValueError):
    """A file of weights, a tokenizer or a training checkpoint is missing, corrupt or does not fit."""


class PromptError(LMError, ValueError):
    """A prompt cannot be used (it is empty, or not text)."""


class ContextError(PromptError):
    """A prompt leaves no room in the model's context.

    Attributes
    ----------
    prompt_tokens : int
        Length of the prompt in tokens.
    context : int
        Number of positions that the model has.
    """

    def __init__(self, prompt_tokens: int, context: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens, but the model's context holds {context}, "
            f"of which one must stay free for the answer: shorten the prompt to {context - 1} tokens or fewer"
        )
        self.prompt_tokens = prompt_tokens
        self.context = context


class DataError(LMError, ValueError):
    """Training or evaluation text is missing, empty or too short."""


class CapacityError(LMError, MemoryError):
    """A text, or the texts in work, want more memory for keys and values than there may be."""


class CacheError(LMError, ValueError):
    """A file of a prompt's cache is missing, corrupt, or of another model."""


class ConstraintError(LMError, ValueError):
    """What an answer shall look like cannot be said so, is not supported, or cannot be met."""


class MemoryNeededError(LMError, MemoryError):
    """A model needs more memory than there is; raised before it is loaded.

    Attributes
    ----------
    needed_bytes, available_bytes : int
        What it needs, and what can be had.
    """

    def __init__(self, message: str, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes
