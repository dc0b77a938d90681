"""Who gets which blocks, and what is kept of texts that are done."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import lamina.core as mx
from lamina.lm.cache.plain import BLOCK_ROWS
from lamina.lm.engine.radix import Node, RadixTree
from lamina.lm.engine.sequence import Sequence, Text
from lamina.lm.engine.store import Store
from lamina.lm.errors import CapacityError

_STATE_SHARE = 4
"""Recurrent states of prefixes may take a quarter of the budget."""


class Memory:
    """The store, shared among sequences, and the tree of the prefixes that it still holds.

    Parameters
    ----------
    store : Store
        The arrays.
    prefixes : bool
        Whether positions of past texts are kept while nobody needs their blocks.
    """

    def __init__(self, store: Store, prefixes: bool) -> None:
        self.store = store
        self._prefixes = prefixes
        self.tree = self._new_tree()

    def _new_tree(self) -> RadixTree:
        groups = self.store.groups
        has_states = self.store.state_bytes > 0
        return RadixTree(
            BLOCK_ROWS,
            [g.blocks for g in groups],
            [g.window for g in groups],
            self.store.budget_bytes // _STATE_SHARE if has_states else None,
        )

    def reset(self) -> None:
        """Forget everything."""
        self.store.reset()
        self.tree = self._new_tree()

    def check_fits(self, sequence: Sequence) -> None:
        """Raise :class:`CapacityError` where the text of ``sequence`` would never fit."""
        for group in self.store.groups:
            need = group.most_blocks(sequence.most_positions, self.store.longest_step)
            if need > group.blocks.limit:
                raise CapacityError(
                    f"a prompt of {sequence.prompt_tokens} tokens with an answer of up to {sequence.budget} "
                    f"wants {need * group.block_bytes} bytes for keys and values, and there are "
                    f"{group.blocks.limit * group.block_bytes}"
                )

    def has_room(self, sequence: Text, others: SequenceOf[Text]) -> bool:
        """Return whether the whole text of ``sequence`` fits beside those of ``others``."""
        wanted = self.store.most_blocks([s.most_positions for s in (sequence, *others)])
        return all(most <= group.blocks.limit for most, group in zip(wanted, self.store.groups, strict=True))

    def reuse(self, sequence: Text) -> None:
        """Give ``sequence`` what is known of the beginning of its text."""
        match = self.tree.match(sequence.ids)
        if not match.length:
            return
        for i, group in enumerate(self.store.groups):
            for node in match.nodes:
                block = node.blocks[i]
                if block is not None:
                    group.blocks.share(block)
                sequence.tables[i].append(-1 if block is None else block)
        sequence.length = match.length
        sequence.cached_tokens = min(match.length, sequence.prompt_tokens)
        self._hold(sequence, match.tail or match.nodes[-1])
        if match.tail is not None:
            # Its block has other positions behind those that are alike: they go on in a copy.
            for i, source in enumerate(match.tail.blocks):
                self._take(sequence, i, match.length)
                if source is not None:
                    self.store.copy_block(i, source, sequence.tables[i][-1])
        if match.states is not None:
            self.store.put_states(sequence.slot, match.states)

    def make_room(self, sequence: Text, end: int) -> None:
        """Take blocks for the positions up to ``end``, and give back those that a window has left."""
        for i, group in enumerate(self.store.groups):
            if group.window is not None:
                first_seen = max(0, sequence.length - group.window + 1)
                self._drop(sequence, i, first_seen // BLOCK_ROWS)
            self._take(sequence, i, end)

    def remember(self, sequence: Text) -> list[mx.array]:
        """Keep the positions of ``sequence`` so far for others; return arrays that have to be evaluated."""
        known = min(sequence.length, len(sequence.ids))
        if not self._prefixes or not known:
            return []
        tables = [[None if b < 0 else b for b in table] for table in sequence.tables]
        node = self.tree.insert(sequence.ids[:known], tables)
        self._hold(sequence, node)
        if not self.store.state_bytes or node is None or known < sequence.length:
            return []
        states = self.store.states(sequence.slot)
        self.tree.keep_states(node, sequence.length, states, self.store.state_bytes)
        return [a for layer in states for a in layer]

    def release(self, sequence: Text) -> list[mx.array]:
        """Take everything back from ``sequence``, which has ended; return arrays to evaluate."""
        kept = self.remember(sequence)
        for i in range(len(self.store.groups)):
            self._drop(sequence, i, len(sequence.tables[i]))
            sequence.tables[i].clear()
        self._hold(sequence, None)
        return kept

    def _take(self, sequence: Text, group: int, end: int) -> None:
        blocks, table = self.store.groups[group].blocks, sequence.tables[group]
        while len(table) * BLOCK_ROWS < end:
            while not blocks.free and self.tree.evict():
                pass
            table.append(blocks.take())

    def _drop(self, sequence: Text, group: int, count: int) -> None:
        table = sequence.tables[group]
        for i in range(count):
            if table[i] >= 0:
                self.store.groups[group].blocks.drop(table[i])
                table[i] = -1

    def _hold(self, sequence: Text, node: Node | None) -> None:
        if sequence.node is not None:
            self.tree.unlock(sequence.node)
        if node is not None:
            self.tree.lock(node)
        sequence.node = node
