"""Reading, encoding and packing text; the cursor; sliding windows."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamina.lm import ConfigError, DataError
from lamina.lm.evaluate import sliding_windows
from lamina.lm.train import Cursor, PackedWindows, TrainConfig, encode_documents, read_documents
from lamina.lm.train.evaluate import cut_documents


def numbered(sizes: list[int]) -> list[np.ndarray]:
    """Documents whose ids are all different: every id tells where it came from."""
    ends = np.cumsum(sizes)
    return [np.arange(e - n, e, dtype=np.int32) for n, e in zip(sizes, ends, strict=True)]


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=12),
    st.integers(1, 17),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_every_id_is_predicted_once_a_pass(sizes, length, seed, epoch):
    documents = numbered(sizes)
    total = sum(sizes)
    if total < 2 * length + 1:
        with pytest.raises(
            DataError,
            match=f"too short: {total} tokens, but windows of {length} want at least {2 * length + 1}",
        ):
            PackedWindows(documents, length, seed)
        return
    windows = PackedWindows(documents, length, seed).epoch(epoch)
    assert windows.shape[1] == length + 1
    assert windows.dtype == np.int32
    targets = Counter(windows[:, 1:].ravel().tolist())
    assert set(targets.values()) == {1}
    # At most a random start below `length`, the first id and a tail below `length` are left out.
    assert total - len(targets) <= 2 * length - 1
    follows = {int(a): int(b) for w in windows for a, b in pairwise(w)}
    inside = {int(d[i]): int(d[i + 1]) for d in documents for i in range(len(d) - 1)}
    for a, b in follows.items():
        assert inside.get(a, b) == b


def test_orders_depend_on_seed_and_pass_only():
    documents = numbered([50] * 8)
    one, other = PackedWindows(documents, 16, seed=1), PackedWindows(documents, 16, seed=1)
    other.epoch(3)
    np.testing.assert_array_equal(one.epoch(2), other.epoch(2))
    assert not np.array_equal(one.epoch(2)[:5], one.epoch(3)[:5])
    assert not np.array_equal(one.epoch(2)[:5], PackedWindows(documents, 16, seed=2).epoch(2)[:5])


@pytest.mark.parametrize("size", [1, 3, 7, 40])
def test_batches_walk_through_the_passes(size):
    data = PackedWindows(numbered([50] * 8), 16, seed=0)
    rows = np.concatenate([data.epoch(e) for e in range(6)])
    cursor, seen = Cursor(), []
    while sum(map(len, seen)) < 90:
        batch, cursor = data.batch(cursor, size)
        assert batch.shape == (size, 17)
        seen.append(batch)
    seen = np.concatenate(seen)
    np.testing.assert_array_equal(seen, rows[: len(seen)])


def test_a_cursor_goes_on_anywhere():
    data = PackedWindows(numbered([50] * 8), 16, seed=0)
    cursor, cursors, batches = Cursor(), [], []
    for _ in range(12):
        cursors.append(cursor)
        batch, cursor = data.batch(cursor, 5)
        batches.append(batch)
    assert cursors[-1].epoch >= 2
    for at in (11, 3, 7):
        fresh = PackedWindows(numbered([50] * 8), 16, seed=0)
        np.testing.assert_array_equal(fresh.batch(cursors[at], 5)[0], batches[at])


def test_documents_are_separated(tokenizer):
    got = encode_documents(tokenizer, ["ab", "", "日本"], separator=0)
    assert [d[0] for d in got] == [0, 0, 0]
    assert len(got[1]) == 1
    assert [tokenizer.decode(d.tolist()) for d in got] == ["ab", "", "日本"]


def test_reading(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "b.txt").write_text("bee")
    (tmp_path / "d" / "a.md").write_text("ay")
    (tmp_path / "d" / "x.bin").write_bytes(b"\xff")
    (tmp_path / "one.dat").write_text("é")
    (tmp_path / "empty.txt").write_text("")
    assert read_documents([tmp_path / "one.dat", tmp_path / "d", tmp_path / "empty.txt"]) == [
        "é",
        "ay",
        "bee",
    ]
    with pytest.raises(DataError, match=r"no such file or directory: .*gone"):
        read_documents([tmp_path / "gone"])
    with pytest.raises(DataError, match=r"no text found in .*empty\.txt"):
        read_documents([tmp_path / "empty.txt"])
    with pytest.raises(DataError, match=r"x\.bin is not UTF-8 text: .* at byte 0"):
        read_documents([tmp_path / "d" / "x.bin"])


@given(st.integers(2, 300), st.integers(1, 40), st.data())
def test_sliding_windows_score_every_id_once(count, context, data):
    stride = data.draw(st.integers(1, context))
    scored = Counter()
    for start, stop, first in sliding_windows(count, context, stride):
        assert 0 <= start < stop < count
        assert stop - start <= context
        assert start < first <= stop
        if start:
            assert stop - start == context
            assert first - start > context - stride
            assert stop - first < stride
        scored.update(range(first, stop + 1))
    assert scored == Counter(range(1, count))


def test_sliding_windows_errors():
    with pytest.raises(DataError, match="stride must be from 1 to the context 8, got 9"):
        list(sliding_windows(20, 8, 9))
    with pytest.raises(DataError, match="at least 2 ids to score, got 1"):
        list(sliding_windows(1, 8, 4))


def test_cutting_documents():
    assert cut_documents(["abc", "def"], 0) == ["abc", "def"]
    assert cut_documents(["abc", "def"], 3) == ["abc"]
    assert cut_documents(["abc", "def"], 4) == ["abc", "d"]
    assert cut_documents(["abc"], 10) == ["abc"]


def test_the_learning_rate():
    c = TrainConfig(steps=100, warmup=10, lr=1.0, min_lr=0.2)
    rates = [c.learning_rate(s) for s in range(101)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10, rtol=1e-12)
    progress = (np.arange(10, 101) - 10) / 90
    np.testing.assert_allclose(rates[10:], 0.2 + 0.8 * np.cos(np.pi * progress / 2) ** 2, rtol=1e-12)
    assert TrainConfig(warmup=0, lr=0.5, min_lr=0.1).learning_rate(0) == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "'steps' must be at least 1, got 0"),
        ({"batch": -1}, "'batch' must be at least 1, got -1"),
        ({"lr": 0.0}, "'lr' must be positive and finite, got 0.0"),
        ({"lr": 1e-3, "min_lr": 1e-2}, "'min_lr' must be no larger than lr 0.001, got 0.01"),
        ({"beta2": 1.0}, r"'beta2' must be in \[0, 1\), got 1.0"),
        ({"clip": -1.0}, "'clip' must be 0 or more, got -1.0"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**change)
