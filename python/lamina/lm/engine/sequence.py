"""Texts whose positions a store keeps: one that is only read, and a request on its way through the engine."""

from __future__ import annotations

from lamina.lm.engine.radix import Node
from lamina.lm.engine.request import Handle
from lamina.lm.generate.answer import Answer
from lamina.lm.sample import Choice, Chooser


class Text:
    """Tokens, where their positions are kept, and how far the model is with them.

    Attributes
    ----------
    ids : list of int
        Tokens whose values are known.
    length : int
        Positions that steps took, also those under way.
    cached_tokens : int
        Positions that another text had before.
    tables : list of list of int
        Its blocks in each group; -1 where the window has left a block.
    slot : int
        Its place among the recurrent states.
    """

    def __init__(self, ids: list[int], groups: int) -> None:
        self.ids = ids
        self.prompt_tokens = len(ids)
        self.tables: list[list[int]] = [[] for _ in range(groups)]
        self.length = 0
        self.cached_tokens = 0
        self.slot = -1
        self.node: Node | None = None

    @property
    def most_positions(self) -> int:
        """Positions it will have at most."""
        return self.prompt_tokens

    @property
    def prompt_left(self) -> int:
        """Known tokens that no step took yet."""
        return len(self.ids) - self.length


class Sequence(Text):
    """A request: a prompt, and the answer so far.

    Attributes
    ----------
    choice : Choice or None
        The next token, perhaps not evaluated; None while the prompt is not through.
    through : bool
        Whether the model has taken the whole prompt.
    launched : int
        Tokens of the answer that were chosen, also those not known yet.
    """

    def __init__(
        self, handle: Handle, ids: list[int], chooser: Chooser, answer: Answer, budget: int, groups: int
    ) -> None:
        super().__init__(ids, groups)
        self.handle = handle
        self.chooser, self.answer, self.budget = chooser, answer, budget
        constraint = handle.request.constraint
        self.constraint = constraint.start() if constraint is not None else None
        self.choice: Choice | None = None
        self.through = False
        self.launched = 0

    @property
    def most_positions(self) -> int:
        """Positions it will have at most."""
        return self.prompt_tokens + self.budget - 1

    @property
    def prompt_left(self) -> int:
        """Tokens of the prompt that no step took yet."""
        return 0 if self.through else len(self.ids) - self.length

    def restart(self) -> None:
        """Begin anew with all known tokens as the prompt; nothing is kept of it any more."""
        self.tables = [[] for _ in self.tables]
        self.length, self.node, self.choice, self.through = 0, None, None, False
        self.launched = self.answer.count
        self.chooser.replay(self.ids[self.prompt_tokens :])
