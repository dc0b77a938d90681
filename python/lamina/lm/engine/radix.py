"""Prefixes that the engine has already seen: a tree over token ids, one node for each block.

A node's block (one for each group of layers that share tables) holds the positions of its tokens. Nodes keep
their blocks alive; sequences that use them count as further users. A node without children can be evicted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lamina.lm.engine.blocks import Blocks

Tokens = tuple[int, ...]


@dataclass(eq=False)
class Node:
    """The tokens of one block behind the path to its parent.

    Attributes
    ----------
    blocks : list of int or None
        The block in each group; None where a sliding window had left it.
    states : dict
        Recurrent states by the number of the node's tokens that they follow.
    """

    tokens: Tokens
    parent: Node | None
    depth: int
    blocks: list[int | None]
    children: dict[Tokens, Node] = field(default_factory=dict)
    states: dict[int, Any] = field(default_factory=dict)
    locks: int = 0


@dataclass(frozen=True)
class Match:
    """A known prefix: whole nodes, then ``partial`` tokens of ``tail``, whose block is to be copied."""

    nodes: tuple[Node, ...] = ()
    tail: Node | None = None
    partial: int = 0
    states: Any = None
    length: int = 0


class RadixTree:
    """The tree.

    Parameters
    ----------
    rows : int
        Tokens of a block.
    groups : sequence of Blocks
        Where each group's blocks come from.
    windows : sequence of int or None
        The window of each group.
    state_bytes : int or None
        Bytes of recurrent states to keep at most, for models that have them: there a prefix can only be used
        where states were kept. None for models without.
    """

    def __init__(
        self,
        rows: int,
        groups: Sequence[Blocks],
        windows: Sequence[int | None],
        state_bytes: int | None = None,
    ) -> None:
        self._rows = rows
        self._groups = list(groups)
        self._windows = list(windows)
        self._state_bytes = state_bytes
        self._states: OrderedDict[tuple[Node, int], int] = OrderedDict()  # bytes, oldest use first
        self._root = Node((), None, 0, [])
        self._leaves: OrderedDict[Node, None] = OrderedDict()  # oldest use first

    def match(self, ids: Sequence[int]) -> Match:
        """Return the longest prefix of ``ids`` that can be used, all but one token at most."""
        ids = tuple(ids[:-1])
        nodes: list[Node] = []
        node, rows = self._root, self._rows
        while (child := node.children.get(ids[len(nodes) * rows : (len(nodes) + 1) * rows])) is not None:
            if len(child.tokens) < rows:
                break
            nodes.append(child)
            node = child
        rest = ids[len(nodes) * rows :]
        tail, partial = self._longest_overlap(node, rest)
        found = self._usable(nodes, tail, partial)
        if found.states is not None:
            last = found.tail or found.nodes[-1]
            self._states.move_to_end((last, found.length - (last.depth - 1) * rows))
        for used in (*found.nodes, *([found.tail] if found.tail else [])):
            if used in self._leaves:
                self._leaves.move_to_end(used)
        return found

    def _longest_overlap(self, node: Node, rest: Tokens) -> tuple[Node | None, int]:
        best, most = None, 0
        for child in node.children.values():
            common = 0
            for a, b in zip(child.tokens, rest, strict=False):
                if a != b:
                    break
                common += 1
            if common > most:
                best, most = child, common
        return best, most

    def _usable(self, nodes: list[Node], tail: Node | None, partial: int) -> Match:
        """Return the longest prefix of a path whose windows, and states if need be, are there."""
        path = [*nodes, *([tail] if tail is not None and partial else [])]
        for at in range(len(path), 0, -1):
            node = path[at - 1]
            most = partial if at > len(nodes) else self._rows
            lengths = sorted((n for n in node.states if n <= most), reverse=True)
            for count in [most] if self._state_bytes is None else lengths:
                length = (at - 1) * self._rows + count
                if self._windows_hold(path[:at], length):
                    whole = count == self._rows
                    return Match(
                        tuple(path[: at if whole else at - 1]),
                        None if whole else node,
                        0 if whole else count,
                        node.states.get(count),
                        length,
                    )
        return Match()

    def _windows_hold(self, path: list[Node], length: int) -> bool:
        for group, window in enumerate(self._windows):
            first = 0 if window is None else max(0, length - window + 1) // self._rows
            if any(node.blocks[group] is None for node in path[first:]):
                return False
        return True

    def insert(self, ids: Sequence[int], tables: Sequence[Sequence[int | None]]) -> Node | None:
        """Keep the blocks of ``ids``, and return the last node of its path; None where ``ids`` is empty.

        ``tables`` has each group's blocks, in order. Blocks of prefixes that are there already are not
        kept twice; those that a node had lost come back.
        """
        ids = tuple(ids)
        node, last = self._root, None
        for at in range(0, len(ids), self._rows):
            tokens = ids[at : at + self._rows]
            index = at // self._rows
            child = node.children.get(tokens)
            if child is None:
                child = self._add(node, tokens, [table[index] for table in tables])
            else:
                self._refill(child, [table[index] for table in tables])
            node = last = child
            if child in self._leaves:
                self._leaves.move_to_end(child)
        return last

    def _add(self, parent: Node, tokens: Tokens, blocks: list[int | None]) -> Node:
        for other in list(parent.children.values()):
            # A shorter beginning of the same block says nothing that the longer one does not.
            begins = len(other.tokens) < len(tokens) and other.tokens == tokens[: len(other.tokens)]
            if begins and not other.children and not other.locks and not other.states:
                self._remove(other)
        child = Node(tokens, parent, parent.depth + 1, list(blocks))
        for group, block in zip(self._groups, blocks, strict=True):
            if block is not None:
                group.share(block)
        parent.children[tokens] = child
        self._leaves.pop(parent, None)
        self._leaves[child] = None
        return child

    def _refill(self, node: Node, blocks: list[int | None]) -> None:
        for i, (own, new) in enumerate(zip(node.blocks, blocks, strict=True)):
            if own is None and new is not None:
                self._groups[i].share(new)
                node.blocks[i] = new

    def keep_states(self, node: Node, length: int, states: Any, nbytes: int) -> None:
        """Keep the recurrent states after the first ``length`` tokens of the path to ``node``."""
        count = length - (node.depth - 1) * self._rows
        limit = self._state_bytes or 0
        if not 0 < count <= len(node.tokens) or nbytes > limit or count in node.states:
            return
        node.states[count] = states
        self._states[node, count] = nbytes
        while sum(self._states.values()) > limit:
            (oldest, at), _ = self._states.popitem(last=False)
            oldest.states.pop(at, None)

    def lock(self, node: Node) -> None:
        """Keep ``node`` and the path to it from being evicted."""
        node.locks += 1

    def unlock(self, node: Node) -> None:
        """Undo one :meth:`lock`."""
        node.locks -= 1

    def evict(self) -> bool:
        """Forget the node that was not used for longest; return False where there is none.

        Those that sequences in work stand on go last: their blocks are not free before the sequences end,
        unless a window has left them.
        """
        oldest = next((n for n in self._leaves if not n.locks), next(iter(self._leaves), None))
        if oldest is not None:
            self._remove(oldest)
        return oldest is not None

    def _remove(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        del parent.children[node.tokens]
        self._leaves.pop(node, None)
        for group, block in zip(self._groups, node.blocks, strict=True):
            if block is not None:
                group.drop(block)
        for count in node.states:
            self._states.pop((node, count), None)
        node.states.clear()
        if parent is not self._root and not parent.children:
            # It was used no later than its children.
            self._leaves[parent] = None
            self._leaves.move_to_end(parent, last=False)

    def __len__(self) -> int:
        """Return the number of nodes."""
        count, stack = 0, [self._root]
        while stack:
            node = stack.pop()
            count += len(node.children)
            stack += node.children.values()
        return count
