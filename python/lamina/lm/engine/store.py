"""The arrays that an engine's sequences share: pools of blocks, and slots of recurrent states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import lamina.core as mx
from lamina.lm.cache import CacheOptions, HybridSpec, LayerSpec, StateSpec
from lamina.lm.cache.layout import narrower
from lamina.lm.cache.plain import BLOCK_ROWS
from lamina.lm.cache.pool import KVFormat, grown
from lamina.lm.cache.protocol import AttentionSpec, Rotation, StepFunction
from lamina.lm.engine.blocks import Blocks
from lamina.lm.engine.sequence import Text
from lamina.lm.errors import CapacityError
from lamina.lm.generate.step import LanguageModel

_FIRST_BLOCKS = 16
# Positions of an answer for which pools have room at once: growing copies what they hold.
_LIKELY_ANSWER = 256


@dataclass(frozen=True)
class LayerPlan:
    """What a layer keeps in the store.

    Attributes
    ----------
    spec : AttentionSpec or None
        Its keys and values, in blocks of group number ``group``.
    window : int or None
        Positions that a position sees at most.
    dtype : Dtype
        That of keys as they come.
    states : tuple of (shape, dtype)
        Its recurrent state, of one sequence.
    """

    spec: AttentionSpec | None = None
    window: int | None = None
    group: int = 0
    dtype: mx.Dtype = mx.float32
    states: tuple[tuple[tuple[int, ...], mx.Dtype], ...] = ()


class _Probe:
    """A cache that runs nothing: it sees what a layer would keep."""

    def __init__(self) -> None:
        self.dtype: mx.Dtype = mx.float32
        self.states: tuple[tuple[tuple[int, ...], mx.Dtype], ...] = ()

    @property
    def attention(self) -> _Probe:
        return self

    @property
    def state(self) -> _Probe:
        return self

    def positions(self, length: int) -> mx.array:
        return mx.arange(length, dtype=mx.int32)

    def rotate(self, rotation: Rotation, x: mx.array) -> mx.array:
        return rotation(x, 0)

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, **_: Any) -> mx.array:
        self.dtype = keys.dtype
        repeats = queries.shape[1] // values.shape[1]
        return mx.repeat(values, repeats, axis=1).astype(queries.dtype)

    def run(self, step: StepFunction, *inputs: mx.array) -> mx.array:
        out, state = step(None, *inputs)
        self.states = tuple((tuple(a.shape[1:]), a.dtype) for a in state)
        return out


def plan_layers(model: LanguageModel, options: CacheOptions) -> tuple[list[LayerPlan], list[int | None]]:
    """Return what each layer of ``model`` keeps, and the window of each group of layers.

    Nothing is evaluated: one token's graph tells the dtypes.
    """
    specs: Sequence[LayerSpec] = model.cache_specs()
    probes = [_Probe() for _ in specs]
    model.hidden(mx.array([[0]], dtype=mx.int32), probes)
    windows: list[int | None] = []
    plans = []
    for spec, probe in zip(specs, probes, strict=True):
        if isinstance(spec, StateSpec):
            plans.append(LayerPlan(states=probe.states))
            continue
        attention = spec.attention if isinstance(spec, HybridSpec) else spec
        KVFormat(options.bits).check(attention)
        window = narrower(attention.window, options.window)
        if window not in windows:
            windows.append(window)
        plans.append(LayerPlan(attention, window, windows.index(window), probe.dtype, probe.states))
    return plans, windows


@dataclass(frozen=True)
class Group:
    """Layers whose sequences share block tables.

    Attributes
    ----------
    window : int or None
        Positions that a position sees at most.
    block_bytes : int
        Bytes of one block in all layers of the group.
    blocks : Blocks
        Which blocks are free.
    """

    window: int | None
    block_bytes: int
    blocks: Blocks

    def most_blocks(self, positions: int, longest_step: int) -> int:
        """Return how many blocks a sequence of ``positions`` holds at once, at most."""
        whole = -(-positions // BLOCK_ROWS)
        if self.window is None:
            return whole
        return min(whole, -(-(self.window + longest_step) // BLOCK_ROWS) + 1)


class Store:
    """The pools and states of all layers.

    Parameters
    ----------
    model : LanguageModel
        The model.
    options : CacheOptions
        How positions are kept.
    max_sequences : int
        Sequences in work at once.
    budget_bytes : int
        Bytes that keys, values and states may take.
    longest_step : int
        Positions that a sequence gets in one step at most.

    Raises
    ------
    CapacityError
        The budget does not hold a block of each layer and the states.
    """

    def __init__(
        self,
        model: LanguageModel,
        options: CacheOptions,
        max_sequences: int,
        budget_bytes: int,
        longest_step: int,
    ) -> None:
        self.format = KVFormat(options.bits)
        self.plans, windows = plan_layers(model, options)
        self.longest_step = longest_step
        self.max_sequences = max_sequences
        self.budget_bytes = budget_bytes
        self.state_bytes = sum(
            dtype.size * _count(shape) for plan in self.plans for shape, dtype in plan.states
        )
        self.groups = self._make_groups(windows, budget_bytes - max_sequences * self.state_bytes)
        self.arrays: list[list[mx.array]] = []
        self.reset()

    def _make_groups(self, windows: Sequence[int | None], budget: int) -> list[Group]:
        sizes = [0] * len(windows)
        for plan in self.plans:
            if plan.spec is not None:
                sizes[plan.group] += self.format.block_bytes(BLOCK_ROWS, plan.spec, plan.dtype)
        if budget < sum(sizes):
            raise CapacityError(
                f"{self.budget_bytes} bytes for keys, values and states are too few: "
                f"{self.max_sequences} states take {self.max_sequences * self.state_bytes}, "
                f"a block in each layer {sum(sizes)}"
            )
        groups: list[Group] = []
        limits = [0] * len(windows)
        # Sliding windows never want more than their windows; what they leave is for whole sequences.
        order = sorted(range(len(windows)), key=lambda i: (windows[i] is None, windows[i] or 0))
        for rank, i in enumerate(order):
            share = budget // (len(order) - rank) // max(sizes[i], 1)
            window = windows[i]
            if window is not None:
                each = Group(window, sizes[i], Blocks(0)).most_blocks(1 << 40, self.longest_step)
                share = min(share, 2 * each * self.max_sequences)
            limits[i] = max(1, share)
            budget -= limits[i] * sizes[i]
        for window, size, limit in zip(windows, sizes, limits, strict=True):
            groups.append(Group(window, size, Blocks(limit)))
        return groups

    def reset(self) -> None:
        """Make everything anew, empty."""
        self.groups = [Group(g.window, g.block_bytes, Blocks(g.blocks.limit)) for g in self.groups]
        self.capacities = [0] * len(self.groups)
        self.expected = [0] * len(self.groups)
        self.arrays = [self._empty(plan) for plan in self.plans]

    def _empty(self, plan: LayerPlan) -> list[mx.array]:
        pool = [] if plan.spec is None else self.format.empty(0, BLOCK_ROWS, plan.spec, plan.dtype)
        return pool + [mx.zeros((self.max_sequences, *shape), dtype=dtype) for shape, dtype in plan.states]

    def most_blocks(self, lengths: Sequence[int]) -> list[int]:
        """Return how many blocks of each group sequences of so many positions hold at once, at most."""
        return [sum(g.most_blocks(n, self.longest_step) for n in lengths) for g in self.groups]

    def expect(self, texts: Iterable[Text]) -> None:
        """Let pools that must grow grow at once to what ``texts`` will probably need."""
        self.expected = self.most_blocks(
            [min(t.most_positions, t.prompt_tokens + _LIKELY_ANSWER) for t in texts]
        )

    def fit(self) -> None:
        """Make the pools hold every block that was handed out."""
        for i, group in enumerate(self.groups):
            need = group.blocks.high
            if need <= self.capacities[i]:
                continue
            wanted = max(need, 2 * self.capacities[i], self.expected[i], _FIRST_BLOCKS)
            size = min(group.blocks.limit, wanted)
            for layer, plan in enumerate(self.plans):
                if plan.spec is not None and plan.group == i:
                    count = self.pool_size
                    pool, rest = self.arrays[layer][:count], self.arrays[layer][count:]
                    self.arrays[layer] = [*grown(pool, size), *rest]
            self.capacities[i] = size

    @property
    def pool_size(self) -> int:
        """Arrays of a layer's pool."""
        return 2 if self.format.bits is None else 4

    def copy_block(self, group: int, source: int, target: int) -> None:
        """Copy a block in all layers of a group."""
        self.fit()
        for layer, plan in enumerate(self.plans):
            if plan.spec is None or plan.group != group:
                continue
            for i in range(self.pool_size):
                # By index arrays: a view of the pool would keep the write from being in place.
                pool = self.arrays[layer][i]
                pool[mx.array([target])] = mx.take(pool, mx.array([source]), axis=0)

    @property
    def all_arrays(self) -> list[mx.array]:
        """The arrays of all layers."""
        return [a for arrays in self.arrays for a in arrays]

    @property
    def state_arrays(self) -> list[mx.array]:
        """The recurrent states of all layers."""
        return [
            a
            for plan, arrays in zip(self.plans, self.arrays, strict=True)
            for a in arrays[self.pool_size if plan.spec is not None else 0 :]
        ]

    def states(self, slot: int) -> list[list[mx.array]]:
        """Return copies of the recurrent states in ``slot``, layer by layer."""
        first = self.pool_size
        index = mx.array([slot])
        return [
            [mx.take(a, index, axis=0) for a in arrays[first if plan.spec is not None else 0 :]]
            for plan, arrays in zip(self.plans, self.arrays, strict=True)
            if plan.states
        ]

    def put_states(self, slot: int, states: list[list[mx.array]]) -> None:
        """Put recurrent states, as :meth:`states` gives them, into ``slot``."""
        index, given = mx.array([slot]), iter(states)
        for plan, arrays in zip(self.plans, self.arrays, strict=True):
            if not plan.states:
                continue
            first = self.pool_size if plan.spec is not None else 0
            for i, new in enumerate(next(given)):
                arrays[first + i][index] = new

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in self.all_arrays)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
