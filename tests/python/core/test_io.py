"""save, savez, save_safetensors and load: round trips, mapping, file objects, errors."""

from __future__ import annotations

import gc
import io
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES, assert_same, sample


@pytest.mark.parametrize("name", [n for n in NUMPY_DTYPES if n != "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)], ids=str)
def test_npy(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = sample(name, shape)
    mx.save(tmp_path / "a.npy", mx.array(values, getattr(mx, name)))
    assert_same(mx.load(tmp_path / "a.npy"), values)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)
    np.save(tmp_path / "b.npy", values.copy(order="F"))
    assert_same(mx.load(str(tmp_path / "b.npy")), values)


def test_names_get_their_extension(tmp_path: Path) -> None:
    mx.save(tmp_path / "a", mx.array([1]))
    mx.savez(tmp_path / "b", mx.array([1]))
    mx.save_safetensors(tmp_path / "c", {"x": mx.array([1])})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "b.npz", "c.safetensors"]


@pytest.mark.parametrize("save", [mx.savez, mx.savez_compressed])
def test_npz(save, tmp_path: Path) -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([True, False])
    save(tmp_path / "a.npz", mx.array(a).T, flags=mx.array(b))
    loaded = mx.load(tmp_path / "a.npz")
    assert list(loaded) == ["arr_0", "flags"]
    assert_same(loaded["arr_0"], a.T)
    with np.load(tmp_path / "a.npz") as theirs:
        np.testing.assert_array_equal(theirs["flags"], b)
    np.savez(tmp_path / "b.npz", x=a)
    assert_same(mx.load(tmp_path / "b.npz")["x"], a)
    with pytest.raises(ValueError, match="'arr_0' is taken"):
        save(tmp_path / "c.npz", mx.array(1), arr_0=mx.array(2))


def test_safetensors(tmp_path: Path) -> None:
    arrays = {n: mx.array(sample(n), getattr(mx, n)) for n in NUMPY_DTYPES if n != "complex64"}
    path = tmp_path / "a.safetensors"
    mx.save_safetensors(path, arrays, metadata={"format": "mx", "note": "ü"})
    loaded, metadata = mx.load(path, return_metadata=True)
    assert metadata == {"format": "mx", "note": "ü"}
    assert set(loaded) == set(arrays)
    for name, a in loaded.items():
        assert_same(a, sample(name))
    assert set(mx.load(path)) == set(arrays)


def test_loaded_arrays_are_views_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    mx.save_safetensors(path, {"w": mx.ones((1 << 18,)), "b": mx.zeros(4)})
    mx.clear_cache()
    before = mx.get_active_memory()
    loaded = mx.load(path)
    assert mx.get_active_memory() - before < 1 << 12
    w = loaded["w"]
    assert not np.asarray(w).flags.writeable
    del loaded
    gc.collect()
    path.unlink()
    assert (w + 1).sum().item() == 2 * (1 << 18)
    w[0] = 5
    assert w[:2].tolist() == [5, 1]


def test_lazy_arrays_are_computed_and_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    mx.save(path, mx.arange(3) * 2)
    bad = mx.take(mx.arange(3), mx.array([9]))
    with pytest.raises(IndexError):
        mx.save(path, bad)
    assert mx.load(path).tolist() == [0, 2, 4]
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_file_objects() -> None:
    for save, kind in (
        (lambda f: mx.save(f, mx.array([1, 2])), "npy"),
        (lambda f: mx.savez(f, x=mx.array([1, 2])), "npz"),
        (lambda f: mx.save_safetensors(f, {"x": mx.array([1, 2])}), "safetensors"),
    ):
        f = io.BytesIO()
        save(f)
        f.seek(0)
        loaded = mx.load(f, format=kind)
        assert (loaded if kind == "npy" else loaded["x"]).tolist() == [1, 2]


def test_open_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with path.open("wb") as f:
        mx.savez(f, x=mx.array([1.5]))
    with path.open("rb") as f:
        assert mx.load(f)["x"].tolist() == [1.5]


def test_errors_of_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.npy"):
        mx.load(tmp_path / "none.npy")
    with pytest.raises(FileNotFoundError):
        mx.save(tmp_path / "no" / "a.npy", mx.array(1))
    with pytest.raises(OSError, match="directory"):
        mx.load(tmp_path, format="npy")
    with pytest.raises(ValueError, match="npy, npz, safetensors or gguf, got 'bin'"):
        mx.load(tmp_path / "a.bin")
    with pytest.raises(ValueError, match="metadata belong to safetensors"):
        mx.load(tmp_path / "a.npy", return_metadata=True)


@pytest.mark.parametrize("extension", ["npy", "npz", "safetensors"])
def test_corrupt_files(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{extension}"
    if extension == "npy":
        mx.save(path, mx.arange(100))
    elif extension == "npz":
        mx.savez(path, x=mx.arange(100))
    else:
        mx.save_safetensors(path, {"x": mx.arange(100)})
    good = path.read_bytes()
    for damaged in (b"", good[:5], good[: len(good) // 2], good[:-1], b"\xff" * len(good)):
        path.write_bytes(damaged)
        with pytest.raises((ValueError, OSError)):
            mx.load(path)
    path.write_bytes(good)
    mx.load(path)


def test_wrong_types(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="argument 'file' wants"):
        mx.save(3, mx.array(1))
    with pytest.raises(TypeError, match="argument 'file' wants"):
        mx.load(3)
    with pytest.raises(TypeError, match="argument 'arr' wants array, got str"):
        mx.save(tmp_path / "a", "x")
    with pytest.raises(TypeError, match="got str"):
        mx.savez(tmp_path / "a", x="y")
    for arrays in ([mx.array(1)], {"x": "y"}, {1: mx.array(1)}):
        with pytest.raises(TypeError, match="argument 'arrays' wants"):
            mx.save_safetensors(tmp_path / "a", arrays)
    with pytest.raises(TypeError, match="argument 'metadata' wants"):
        mx.save_safetensors(tmp_path / "a", {}, {"a": 1})
    assert list(tmp_path.iterdir()) == []
