"""GGUF: load and save_gguf, metadata, quantized tensors as affine triples and as blocks, errors."""

from __future__ import annotations

import io
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import assert_same, sample

GOLDEN = Path(__file__).parents[2] / "golden" / "io"
BLOCK_BYTES = {
    "q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34),
    "q2_k": (256, 84), "q3_k": (256, 110), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210),
    "iq4_nl": (32, 18), "iq4_xs": (256, 136),
}  # fmt: skip
AFFINE_BITS = {"q4_0": 4, "q4_1": 4, "q8_0": 8}
DTYPES = ["float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64"]


def ordinary_blocks(name: str, rows: int, blocks: int, seed: int) -> np.ndarray:
    """Random blocks whose float16 fields lie between 2**-7 and 2**1, of shape (rows, bytes of a row)."""
    pairs = dict.fromkeys(["q4_1", "q5_1", "q4_k", "q5_k"], (0, 2))
    fields = (pairs | {"q2_k": (80, 82), "q3_k": (108,), "q6_k": (208,)}).get(name, (0,))
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (rows, blocks, BLOCK_BYTES[name][1]), dtype=np.uint8)
    for place in fields:
        scale = rng.uniform(2**-7, 2, (rows, blocks)).astype(np.float16)
        data[:, :, place : place + 2] = scale[..., None].view(np.uint8)
    return data.reshape(rows, -1)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (3,), (2, 3, 4)], ids=str)
def test_arrays(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = sample(name, shape)
    mx.save_gguf(tmp_path / "a", {"x": mx.array(values, getattr(mx, name))})
    loaded = mx.load(tmp_path / "a.gguf")
    assert list(loaded) == ["x"]
    assert_same(loaded["x"], values)
    mx.save_gguf(str(tmp_path / "b.gguf"), {"t": mx.array(values, getattr(mx, name)).T})
    assert_same(mx.load(tmp_path / "b.gguf")["t"], values.T)


def test_metadata_of_the_reference_writer() -> None:
    arrays, metadata = mx.load(GOLDEN / "kinds.gguf", return_metadata=True)
    assert {"t.float32", "four", "vector"} < set(arrays)
    assert arrays["four"].shape == (2, 1, 3, 2)
    assert metadata["general.architecture"] == "test"
    assert metadata["text"] == 'café "quoted"\n'
    numbers = {"uint8": 200, "int8": -100, "uint64": 2**63 + 1, "int64": -(2**62), "float64": 0.1}
    for name, value in numbers.items():
        scalar = metadata[f"n.{name}"]
        assert (str(scalar.dtype).rpartition(".")[2], scalar.shape, scalar.item()) == (name, (), value)
    assert metadata["n.bool"].item() is True
    assert_same(metadata["list.int32"], np.array([1, -2, 3], np.int32))
    assert_same(metadata["list.bool"], np.array([True, False, True]))
    assert metadata["list.text"] == ["a", "", "世"]
    assert [a.tolist() for a in metadata["list.list"]] == [[1, 2], [3], [4, 5, 6]]


def test_metadata_round_trip(tmp_path: Path) -> None:
    metadata = {
        "text": "ünï",
        "bytes": "\udcff\udc80",
        "texts": ["a", "b\n"],
        "tuple": ("c",),
        "none": [],
        "nested": [mx.array([1, 2]), mx.array([0.5])],
        "deep": [[["x"], []]],
        "flags": mx.array([True, False]),
        "empty": mx.array([], mx.float32),
        "numpy": np.arange(3, dtype=np.uint16),
    }
    scalars = ["bool_", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)), "float32", "float64"]
    metadata |= {name: mx.array(1, getattr(mx, name)) for name in scalars}
    mx.save_gguf(tmp_path / "a.gguf", {"x": mx.ones(3)}, metadata)
    loaded = mx.load(tmp_path / "a.gguf", return_metadata=True)[1]
    assert list(loaded) == list(metadata)
    for name in ("text", "bytes", "texts", "none", "deep"):
        assert loaded[name] == metadata[name]
    assert loaded["tuple"] == ["c"]
    assert [a.tolist() for a in loaded["nested"]] == [[1, 2], [0.5]]
    assert_same(loaded["numpy"], np.arange(3, dtype=np.uint16))
    assert (loaded["empty"].shape, loaded["empty"].dtype) == ((0,), mx.float32)
    for name in scalars:
        assert (loaded[name].shape, loaded[name].dtype) == ((), getattr(mx, name))


def test_alignment(tmp_path: Path) -> None:
    arrays = {"a": mx.ones(3), "b": mx.zeros(5)}
    mx.save_gguf(tmp_path / "a.gguf", arrays, {"general.alignment": mx.array(4096, mx.uint32)})
    assert (tmp_path / "a.gguf").stat().st_size == 3 * 4096
    assert mx.load(tmp_path / "a.gguf")["b"].tolist() == [0] * 5
    with pytest.raises(ValueError, match="alignment must be a uint32, a power of two"):
        mx.save_gguf(tmp_path / "b.gguf", arrays, {"general.alignment": mx.array(4096)})


@pytest.mark.parametrize("name", sorted(AFFINE_BITS))
def test_simple_blocks_become_affine(name: str, tmp_path: Path) -> None:
    data = ordinary_blocks(name, 6, 4, seed=1).reshape(2, 3, -1)
    arrays = {"a.weight": mx.array(data), "b": mx.array(data[0]), "c.weight": mx.array(data[0, 0])}
    types = dict.fromkeys(arrays, name)
    mx.save_gguf(tmp_path / "a.gguf", arrays, {"lamina.tensor_types": types})
    loaded, metadata = mx.load(tmp_path / "a.gguf", return_metadata=True)
    assert metadata == {}
    bits = AFFINE_BITS[name]
    assert {n: (a.shape, a.dtype) for n, a in loaded.items()} == {
        "a.weight": ((2, 3, 4 * bits), mx.uint32),
        "a.scales": ((2, 3, 4), mx.float16),
        "a.biases": ((2, 3, 4), mx.float16),
        "b": ((3, 4 * bits), mx.uint32),
        "b.scales": ((3, 4), mx.float16),
        "b.biases": ((3, 4), mx.float16),
        "c.weight": ((4 * bits,), mx.uint32),
        "c.scales": ((4,), mx.float16),
        "c.biases": ((4,), mx.float16),
    }
    # In float32 the triple is exactly what the blocks say.
    parts = [loaded["a.weight"], *(loaded[f"a.{p}"].astype(mx.float32) for p in ("scales", "biases"))]
    decoded = mx.dequantize(*parts, group_size=32, bits=bits)
    np.testing.assert_array_equal(np.asarray(decoded), block_values(name, data))


def block_values(name: str, data: np.ndarray) -> np.ndarray:
    """The elements of q4_0, q4_1 and q8_0 blocks in float32, written down from their description."""
    blocks = data.reshape(*data.shape[:-1], -1, BLOCK_BYTES[name][1])
    scale = np.ascontiguousarray(blocks[..., :2]).view(np.float16).astype(np.float32)
    if name == "q8_0":
        values = scale * np.ascontiguousarray(blocks[..., 2:]).view(np.int8).astype(np.float32)
    else:
        start = 4 if name == "q4_1" else 2
        nibbles = np.concatenate([blocks[..., start:] & 15, blocks[..., start:] >> 4], axis=-1)
        codes = nibbles.astype(np.float32)
        minimum = np.ascontiguousarray(blocks[..., 2:4]).view(np.float16).astype(np.float32)
        values = scale * codes + minimum if name == "q4_1" else scale * (codes - 8)
    return values.reshape(*data.shape[:-1], -1)


def test_names_of_parts_must_be_free(tmp_path: Path) -> None:
    data = mx.array(ordinary_blocks("q8_0", 2, 1, seed=2))
    types = {"lamina.tensor_types": {"a.weight": "q8_0"}}
    mx.save_gguf(tmp_path / "a.gguf", {"a.weight": data, "a.scales": mx.ones(3)}, types)
    with pytest.raises(ValueError, match=r"the name 'a\.scales' repeats"):
        mx.load(tmp_path / "a.gguf")
    assert set(mx.load(tmp_path / "a.gguf", format="gguf_blocks")) == {"a.weight", "a.scales"}


def test_blocks_load_as_they_are() -> None:
    arrays, metadata = mx.load(GOLDEN / "blocks.gguf", format="gguf_blocks", return_metadata=True)
    assert metadata["lamina.tensor_types"] == {name: name for name in BLOCK_BYTES}
    for name, (elems, size) in BLOCK_BYTES.items():
        assert (arrays[name].shape, arrays[name].dtype) == ((2, 256 // elems * size), mx.uint8)
        assert not np.asarray(arrays[name]).flags.writeable, name
    arrays, metadata = mx.load(GOLDEN / "blocks.gguf", return_metadata=True)
    assert metadata["lamina.tensor_types"] == {n: n for n in BLOCK_BYTES if n not in AFFINE_BITS}
    assert arrays["q4_k"].dtype == mx.uint8
    assert arrays["q4_0"].dtype == mx.uint32


def test_blocks_round_trip(tmp_path: Path) -> None:
    arrays, metadata = mx.load(GOLDEN / "blocks.gguf", format="gguf_blocks", return_metadata=True)
    mx.save_gguf(tmp_path / "a.gguf", arrays, metadata)
    assert (tmp_path / "a.gguf").read_bytes() == (GOLDEN / "blocks.gguf").read_bytes()
    with pytest.raises(ValueError, match="names the tensor 'iq4_nl', which is not there"):
        mx.save_gguf(tmp_path / "b", {"x": mx.ones(3)}, metadata)
    with pytest.raises(ValueError, match="tensor 'x' has the unknown type 'q9'"):
        mx.save_gguf(tmp_path / "b", {"x": mx.ones(3)}, {"lamina.tensor_types": {"x": "q9"}})
    with pytest.raises(ValueError, match="wants uint8 rows of whole blocks of 144 bytes"):
        mx.save_gguf(tmp_path / "b", {"x": mx.ones(144)}, {"lamina.tensor_types": {"x": "q4_k"}})
    for types in ("q4_k", {"x": 3}):
        with pytest.raises(TypeError, match=r"wants dict\[str, str\]"):
            mx.save_gguf(tmp_path / "b", {"x": mx.ones(3)}, {"lamina.tensor_types": types})
    assert [p.name for p in tmp_path.iterdir()] == ["a.gguf"]


def test_loading_maps_the_file(tmp_path: Path) -> None:
    data = ordinary_blocks("q8_0", 64, 128, seed=3)
    arrays = {"a.weight": mx.array(data), "x": mx.ones(1 << 16)}
    mx.save_gguf(tmp_path / "a.gguf", arrays, {"lamina.tensor_types": {"a.weight": "q8_0"}})
    mx.clear_cache()
    before = mx.get_active_memory()
    blocks = mx.load(tmp_path / "a.gguf", format="gguf_blocks")
    triple = mx.load(tmp_path / "a.gguf")
    assert mx.get_active_memory() - before < 1 << 14
    (tmp_path / "a.gguf").unlink()
    np.testing.assert_array_equal(np.asarray(blocks["a.weight"]), data)
    assert triple["x"].sum().item() == 1 << 16
    parts = [triple[f"a.{p}"] for p in ("weight", "scales", "biases")]
    decoded = mx.dequantize(*parts, group_size=32, bits=8)
    assert decoded.shape == (64, 4096)


@pytest.mark.parametrize("kind", ["npy", "safetensors", "gguf"])
def test_saving_over_a_mapped_file_leaves_its_arrays(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    save = {
        "npy": mx.save,
        "safetensors": lambda p, a: mx.save_safetensors(p, {"x": a}),
        "gguf": lambda p, a: mx.save_gguf(p, {"x": a}),
    }[kind]

    def load() -> mx.array:
        loaded = mx.load(path)
        return loaded if isinstance(loaded, mx.array) else loaded["x"]

    save(path, mx.arange(1000))
    old = load()
    save(path, old[:10] * 2)
    assert old.tolist() == list(range(1000))
    assert load().tolist() == list(range(0, 20, 2))


def test_file_objects(tmp_path: Path) -> None:
    f = io.BytesIO()
    mx.save_gguf(f, {"x": mx.array([1, 2])}, {"k": "v"})
    f.seek(0)
    arrays, metadata = mx.load(f, format="gguf", return_metadata=True)
    assert (arrays["x"].tolist(), metadata) == ([1, 2], {"k": "v"})
    (tmp_path / "a.gguf").write_bytes(f.getvalue())
    with (tmp_path / "a.gguf").open("rb") as opened:
        copy = mx.load(opened)
    (tmp_path / "a.gguf").write_bytes(b"")
    assert copy["x"].tolist() == [1, 2]


def test_errors(tmp_path: Path) -> None:
    target = tmp_path / "a.gguf"
    x = {"x": mx.ones(3)}
    for name in ("bool_", "uint8", "uint16", "uint32", "uint64", "complex64"):
        with pytest.raises(ValueError, match="GGUF has float16, bfloat16, float32"):
            mx.save_gguf(target, {"x": mx.ones(3).astype(getattr(mx, name))})
    with pytest.raises(ValueError, match="more than 8 axes"):
        mx.save_gguf(target, {"x": mx.ones((1,) * 9)})
    with pytest.raises(ValueError, match=r"at most one axis, got shape \(2, 2\)"):
        mx.save_gguf(target, x, {"k": mx.ones((2, 2))})
    with pytest.raises(ValueError, match="wants bool, integers, float32 or float64, got float16"):
        mx.save_gguf(target, x, {"k": mx.array(1, mx.float16)})
    with pytest.raises(ValueError, match="a list of texts or a list of lists"):
        mx.save_gguf(target, x, {"k": ["a", ["b"]]})
    for value in (3, 1.5, True, None, {"a": "b"}, [1, 2]):
        with pytest.raises(TypeError, match="metadata 'k' wants array, str or list"):
            mx.save_gguf(target, x, {"k": value})
    for arrays in ([mx.ones(3)], {1: mx.ones(3)}, {"x": "y"}):
        with pytest.raises(TypeError, match="argument 'arrays' wants"):
            mx.save_gguf(target, arrays)
    for metadata in ("x", {1: "x"}):
        with pytest.raises(TypeError, match="argument 'metadata' wants"):
            mx.save_gguf(target, x, metadata)
    with pytest.raises(TypeError, match="argument 'file' wants"):
        mx.save_gguf(3, x)
    with pytest.raises(FileNotFoundError):
        mx.load(target)
    assert list(tmp_path.iterdir()) == []


def test_corrupt_files(tmp_path: Path) -> None:
    good = (GOLDEN / "kinds.gguf").read_bytes()
    path = tmp_path / "a.gguf"
    cases = {
        b"": "the start at 0 needs 4 bytes",
        b"GGML" + good[4:]: "does not start with GGUF",
        good[:4] + b"\1\0\0\0" + good[8:]: "GGUF version 1, known are 2 and 3",
        good[:4] + b"\0\0\0\3" + good[8:]: "a big-endian file",
        good[:8] + b"\xff" * 8 + good[16:]: "18446744073709551615 tensors need at least",
        good[: len(good) // 2]: "10 tensors need at least 24 bytes each, 140 are left",
        good[:-40]: "bytes at",
    }
    for damaged, message in cases.items():
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message) as caught:
            mx.load(path)
        assert str(path) in str(caught.value)
