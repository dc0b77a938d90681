"""The tree of prefixes against a list of texts, and the count of every block's users."""

from __future__ import annotations

import random

import pytest
from lamina.lm import CapacityError
from lamina.lm.engine.blocks import Blocks
from lamina.lm.engine.radix import RadixTree

ROWS = 4


def blocks_for(blocks: Blocks, count: int) -> list[int]:
    return [blocks.take() for _ in range(-(-count // ROWS))]


def held(match) -> list[int]:
    nodes = [*match.nodes, *([match.tail] if match.tail else [])]
    return [node.blocks[0] for node in nodes]


@pytest.mark.parametrize("seed", range(6))
def test_the_longest_known_prefix_is_found_and_every_block_comes_back(seed):
    rng = random.Random(seed)
    blocks = Blocks(400)
    tree = RadixTree(ROWS, [blocks], [None])
    texts: list[tuple[int, ...]] = []
    contents: dict[int, tuple[int, ...]] = {}
    for _ in range(60):
        start = list(rng.choice(texts)) if texts and rng.random() < 0.7 else []
        more = [rng.randrange(3) for _ in range(rng.randrange(1, 14))]
        ids = (*start[: rng.randrange(len(start) + 1)], *more)
        match = tree.match(ids)
        # What counts is any text that was put in, also in the middle of a block.
        longest = max((sum(1 for _ in iter_common(t, ids[:-1])) for t in texts), default=0)
        assert match.length == longest
        assert match.length == ROWS * len(match.nodes) + match.partial
        for at, block in enumerate(held(match)):
            want = ids[at * ROWS : min((at + 1) * ROWS, match.length)]
            assert contents[block][: len(want)] == want
        own = blocks_for(blocks, len(ids))
        for at, block in enumerate(own):
            contents[block] = ids[at * ROWS : (at + 1) * ROWS]
        tree.insert(ids, [own])
        texts.append(ids)
        for block in own:
            blocks.drop(block)
    assert blocks.used == len(tree)
    while tree.evict():
        assert blocks.used == len(tree)
    assert (blocks.used, len(tree)) == (0, 0)


def iter_common(a, b):
    for x, y in zip(a, b, strict=False):
        if x != y:
            return
        yield x


def test_the_oldest_goes_first_and_what_is_in_use_last():
    blocks = Blocks(10)
    tree = RadixTree(ROWS, [blocks], [None])
    for first in (1, 2, 3):
        own = blocks_for(blocks, 4)
        tree.insert([first] * 4, [own])
        blocks.drop(own[0])
    assert tree.match([1, 1, 1, 1, 9]).length == 4
    node = tree.insert([2] * 4, [[blocks.take()]])
    tree.lock(node)
    order = []
    for _ in range(3):
        assert tree.evict()
        order.append([f for f in (1, 2, 3) if not tree.match([f] * 5).length])
    assert order == [[3], [1, 3], [1, 2, 3]]
    assert not tree.evict()


def test_windows_must_be_there():
    groups = [Blocks(10), Blocks(10)]
    tree = RadixTree(ROWS, groups, [None, 3])
    whole = blocks_for(groups[0], 12)
    last = groups[1].take()
    tree.insert(list(range(12)), [whole, [None, None, last]])
    # From 10 positions on a window of 3 begins in the third block.
    assert tree.match([*range(12), 99]).length == 12
    assert tree.match([*range(10), 99]).length == 10
    assert tree.match([*range(9), 99]).length == 0
    # A text that comes again with what was lost brings it back.
    tree.insert(list(range(8)), [whole[:2], [groups[1].take(), None]])
    assert tree.match([*range(4), 99]).length == 4
    assert tree.match([*range(9), 99]).length == 4


def test_states_must_be_there():
    blocks = Blocks(10)
    tree = RadixTree(ROWS, [blocks], [None], state_bytes=100)
    node = tree.insert(list(range(10)), [blocks_for(blocks, 10)])
    assert tree.match([*range(10), 99]).length == 0
    tree.keep_states(node, 9, "nine", 40)
    assert (tree.match([*range(10), 99]).length, tree.match([*range(10), 99]).states) == (9, "nine")
    tree.keep_states(node, 10, "ten", 40)
    assert tree.match([*range(10), 99]).states == "ten"
    assert tree.match([*range(9), 99]).states == "nine"
    other = tree.insert([7] * 4, [blocks_for(blocks, 4)])
    tree.keep_states(other, 4, "other", 40)
    # The oldest use gives way to the limit of 100 bytes.
    assert tree.match([*range(10), 99]).states == "nine"
    assert tree.match([7] * 5).states == "other"
    tree.keep_states(other, 3, "large", 101)
    assert tree.match([7, 7, 7, 8]).length == 0


def test_blocks_run_out():
    blocks = Blocks(2)
    first, _ = blocks.take(), blocks.take()
    with pytest.raises(CapacityError, match="all 2 blocks of the key-value pool are in use"):
        blocks.take()
    blocks.share(first)
    blocks.drop(first)
    assert blocks.free == 0
    blocks.drop(first)
    assert (blocks.free, blocks.take()) == (1, first)
