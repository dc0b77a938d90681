"""Hugging Face's packed weights in the layout of ``mx.quantize``: AWQ, GPTQ, FP8 with block scales, mxfp4.

Each function takes the arrays of a checkpoint by name and returns them with the packed ones replaced. Codes
are moved, never changed; nothing is computed before it is used.

A module ``m`` of AWQ or GPTQ, whose weight is (out, in), has groups of g inputs:

- ``m.qweight``: codes in 32-bit words. GPTQ: (in * bits / 32, out), a word holds consecutive inputs, lowest
  bits first. AWQ: (in, out / 8), a word holds 8 outputs in the order 0, 2, 4, 6, 1, 3, 5, 7;
- ``m.qzeros``: (in / g, out * bits / 32), packed along the outputs, for GPTQ less one (but in its version 2);
- ``m.scales``: (in / g, out); the weight is ``scale * (code - zero)``;
- ``m.g_idx`` (GPTQ): the group of each input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lamina.core as mx
from lamina._lazy import numpy as np
from lamina.lm.errors import CheckpointError

Arrays = dict[str, mx.array]
# Where output c of 8 is in a word of AWQ.
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
_LARGEST_GROUP = 128
# What the mode "fp8" of mx.quantized_matmul has one scale for; blocks of other widths become bfloat16.
_FP8_GROUP = 128


def unpack_published(method: str, settings: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Replace packed weights of the Hugging Face ``method`` by the layout of ``mx.quantize``.

    Parameters
    ----------
    method : str
        ``quant_method`` of the configuration.
    settings : Mapping[str, Any]
        The configuration's ``quantization_config``.
    arrays : dict of array
        All tensors by name.

    Returns
    -------
    dict of array
        All tensors; packed modules have ``.weight``, ``.scales``, ``.biases`` and perhaps ``.order``, those
        of 8-bit floats ``.weight`` and ``.block_scales``.

    Raises
    ------
    CheckpointError
        The method or its variant is not supported, or the parts of a module do not fit together.
    """
    if method not in _METHODS:
        packed = next((n for n in arrays if not n.endswith((".weight", ".bias"))), next(iter(arrays), "none"))
        raise CheckpointError(
            f"quantization method {method!r} is not supported (tensor '{packed}'); "
            f"supported: {', '.join(_METHODS)}"
        )
    return _METHODS[method](settings, arrays)


def _take(arrays: Arrays, module: str, *parts: str) -> list[mx.array]:
    missing = [f"{module}.{p}" for p in parts if f"{module}.{p}" not in arrays]
    if missing:
        raise CheckpointError(f"'{module}' is packed, but the checkpoint lacks {', '.join(missing)}")
    return [arrays.pop(f"{module}.{p}") for p in parts]


def _modules(arrays: Arrays, part: str) -> list[str]:
    return [n.removesuffix(part) for n in arrays if n.endswith(part)]


def _words(name: str, array: mx.array) -> mx.array:
    if array.dtype not in (mx.int32, mx.uint32) or array.ndim != 2:
        raise CheckpointError(
            f"'{name}' must be a matrix of 32-bit words, got {array.dtype} of shape {tuple(array.shape)}"
        )
    return array.view(mx.uint32)


def _affine(module: str, arrays: Arrays, scales: mx.array, zeros: mx.array | int, group: int) -> None:
    """Add scales and biases (out, groups) of ``scale * (code - zero)``; both arguments are (groups, out).

    A power of two times a scale is a float16 again; other products are kept in float32, so that no weight
    changes.
    """
    if isinstance(zeros, int) and zeros.bit_count() == 1:
        scales = scales.T
        biases = scales * -float(zeros)
    else:
        scales = scales.T.astype(mx.float32)
        biases = -scales * (zeros if isinstance(zeros, int) else zeros.T.astype(mx.float32))
    repeats = max(1, group // _LARGEST_GROUP)
    arrays[f"{module}.scales"] = mx.repeat(scales, repeats, axis=1) if repeats > 1 else scales
    arrays[f"{module}.biases"] = mx.repeat(biases, repeats, axis=1) if repeats > 1 else biases


def _check_group(module: str, inputs: int, groups: int) -> int:
    group = inputs // groups if groups and inputs % groups == 0 else 0
    if group not in (32, 64) and (group == 0 or group % _LARGEST_GROUP):
        raise CheckpointError(
            f"'{module}' has {groups} groups for {inputs} inputs; "
            "wanted groups of 32, 64 or a multiple of 128"
        )
    return group


def _check_shape(name: str, array: mx.array, wanted: tuple[int, ...]) -> None:
    if tuple(array.shape) != wanted:
        raise CheckpointError(f"'{name}' has shape {tuple(array.shape)}, its module wants {wanted}")


def _nibbles(words: mx.array) -> mx.array:
    """Return (rows, 8 n) uint8 codes of (rows, n) words of eight, lowest bits first."""
    data = words.view(mx.uint8)
    pairs = mx.stack([mx.bitwise_and(data, 15), mx.right_shift(data, 4)], axis=-1)
    return pairs.reshape(words.shape[0], -1)


def _packed_nibbles(codes: mx.array) -> mx.array:
    """Return the words of (rows, 8 n) uint8 codes: the reverse of :func:`_nibbles`."""
    pairs = codes.reshape(codes.shape[0], -1, 2)
    data = mx.bitwise_or(pairs[..., 0], mx.left_shift(pairs[..., 1], 4))
    return data.view(mx.uint32)


def _awq_codes(words: mx.array) -> mx.array:
    """Return (rows, out) uint8 codes of AWQ's words (rows, out / 8)."""
    rows = words.shape[0]
    return _nibbles(words).reshape(rows, -1, 8)[:, :, mx.array(_AWQ_PLACES)].reshape(rows, -1)


def _awq(settings: Mapping[str, Any], arrays: Arrays) -> Arrays:
    version, bits = str(settings.get("version", "gemm")).lower(), settings.get("bits", 4)
    arrays = dict(arrays)
    modules = _modules(arrays, ".qweight")
    if version != "gemm" or bits != 4:
        where = f" (tensor '{modules[0]}.qweight')" if modules else ""
        raise CheckpointError(
            f"AWQ version {version!r} with {bits} bits is not supported{where}; supported: 'gemm' with 4"
        )
    for module in modules:
        codes, zeros, scales = _take(arrays, module, "qweight", "qzeros", "scales")
        words = _words(f"{module}.qweight", codes)
        inputs, outputs = words.shape[0], words.shape[1] * 8
        groups = scales.shape[0]
        group = _check_group(module, inputs, groups)
        _check_shape(f"{module}.qzeros", zeros, (groups, outputs // 8))
        _check_shape(f"{module}.scales", scales, (groups, outputs))
        arrays[f"{module}.weight"] = _packed_nibbles(_awq_codes(words).T)
        _affine(module, arrays, scales, _awq_codes(_words(f"{module}.qzeros", zeros)), group)
    return arrays


def _gptq(settings: Mapping[str, Any], arrays: Arrays) -> Arrays:
    bits, form = settings.get("bits", 4), str(settings.get("checkpoint_format") or "gptq")
    arrays = dict(arrays)
    modules = _modules(arrays, ".qweight")
    if form not in ("gptq", "gptq_v2") or bits not in (2, 3, 4, 8) or settings.get("is_marlin_format"):
        where = f" (tensor '{modules[0]}.qweight')" if modules else ""
        raise CheckpointError(
            f"GPTQ layout {form!r} with {bits} bits is not supported{where}; "
            "supported: 'gptq' and 'gptq_v2' with 2, 3, 4 or 8"
        )
    for module in modules:
        codes, zeros, scales = _take(arrays, module, "qweight", "qzeros", "scales")
        words = _words(f"{module}.qweight", codes)
        inputs, outputs = words.shape[0] * 32 // bits, words.shape[1]
        groups = scales.shape[0]
        group = _check_group(module, inputs, groups)
        _check_shape(f"{module}.qzeros", zeros, (groups, outputs * bits // 32))
        _check_shape(f"{module}.scales", scales, (groups, outputs))
        order = _input_order(module, arrays.pop(f"{module}.g_idx", None), inputs, group)
        arrays[f"{module}.weight"] = _gptq_weight(module, words, bits, order)
        if order is not None:
            arrays[f"{module}.order"] = mx.array(order)
        points = _gptq_zeros(_words(f"{module}.qzeros", zeros), bits, outputs, form)
        _affine(module, arrays, scales, points, group)
    return arrays


def _gptq_weight(module: str, words: mx.array, bits: int, order: np.ndarray | None) -> mx.array:
    """Return words (out, in * bits / 32): both layouts are the same stream of bits along the inputs."""
    if order is None:
        return mx.contiguous(words.T)
    if bits != 4:
        raise CheckpointError(f"'{module}.g_idx' reorders inputs, which is supported with 4 bits, not {bits}")
    return _packed_nibbles(_nibbles(words.T)[:, mx.array(order)])


def _gptq_zeros(words: mx.array, bits: int, outputs: int, form: str) -> mx.array | int:
    """Return the zero points (groups, out), uint8; the one number where all are the middle code."""
    middle, less = 1 << (bits - 1), int(form == "gptq")
    if bits != 3:
        same = sum((middle - less) << at for at in range(0, 32, bits))
        if bool((words == same).all().item()):
            return middle
        codes = mx.right_shift(words[..., None], mx.arange(0, 32, bits, dtype=mx.uint32))
    else:  # 32 codes in three words: through single bits
        ones = mx.bitwise_and(mx.right_shift(words[..., None], mx.arange(32, dtype=mx.uint32)), 1)
        triples = ones.reshape(words.shape[0], outputs, 3)
        codes = (triples * mx.array([1, 2, 4], dtype=mx.uint32)).sum(axis=-1)
    codes = codes.reshape(words.shape[0], outputs) + less
    return mx.bitwise_and(codes, (1 << bits) - 1).astype(mx.uint8)


def _input_order(module: str, groups: mx.array | None, inputs: int, group: int) -> np.ndarray | None:
    """Return the order of inputs that makes their groups consecutive; None where they are so already."""
    if groups is None:
        return None
    _check_shape(f"{module}.g_idx", groups, (inputs,))
    index = np.asarray(groups)
    if np.array_equal(index, np.arange(inputs) // group):
        return None
    order = np.argsort(index, kind="stable").astype(np.int32)
    if not np.array_equal(index[order], np.arange(inputs) // group):
        raise CheckpointError(f"'{module}.g_idx' does not put {group} inputs into each group")
    return order


def _fp8(settings: Mapping[str, Any], arrays: Arrays) -> Arrays:
    block, form = settings.get("weight_block_size"), settings.get("fmt", "e4m3")
    arrays = dict(arrays)
    modules = _modules(arrays, ".weight_scale_inv")
    if form != "e4m3" or not (isinstance(block, (list, tuple)) and len(block) == 2):
        where = f" (tensor '{modules[0]}.weight')" if modules else ""
        raise CheckpointError(
            f"FP8 of {form!r} with blocks {block!r} is not supported{where}; "
            "supported: 'e4m3' with a 'weight_block_size' of two numbers"
        )
    for module in modules:
        codes, scales = _take(arrays, module, "weight", "weight_scale_inv")
        if codes.dtype != mx.uint8 or codes.ndim != 2:
            raise CheckpointError(
                f"'{module}.weight' must be a matrix of 8-bit floats, got {codes.dtype} "
                f"of shape {tuple(codes.shape)}"
            )
        blocks = tuple(-(-n // b) for n, b in zip(codes.shape, block, strict=True))
        _check_shape(f"{module}.weight_scale_inv", scales, blocks)
        if block[1] % _FP8_GROUP == 0 and codes.shape[1] % _FP8_GROUP == 0:
            arrays[f"{module}.weight"] = codes.view(mx.uint32)
            arrays[f"{module}.block_scales"] = _row_scales(codes, scales, (block[0], block[1]))
        else:
            arrays[f"{module}.weight"] = scaled_fp8(codes, scales, (block[0], block[1]))
    return arrays


def _row_scales(codes: mx.array, scales: mx.array, block: tuple[int, int]) -> mx.array:
    """Return the bytes of a float32 scale for each group of each row."""
    rows, groups = codes.shape[0], codes.shape[1] // _FP8_GROUP
    wide = mx.repeat(scales.astype(mx.float32), block[1] // _FP8_GROUP, axis=1)[:, :groups]
    return mx.contiguous(mx.repeat(wide, block[0], axis=0)[:rows]).view(mx.uint8)


def scaled_fp8(codes: mx.array, scales: mx.array, block: tuple[int, int]) -> mx.array:
    """Return E4M3 numbers (out, in) times the scale of their block, rounded to bfloat16."""
    rows, columns = codes.shape
    scales = scales.astype(mx.float32)
    values = mx.from_fp8(codes, mx.float32)
    if rows % block[0] == 0 and columns % block[1] == 0:
        tiles = values.reshape(rows // block[0], block[0], columns // block[1], block[1])
        values = (tiles * scales[:, None, :, None]).reshape(rows, columns)
    else:
        places = mx.arange(rows) // block[0]
        values = values * mx.repeat(scales, block[1], axis=1)[:, :columns][places]
    return values.astype(mx.bfloat16)


def _mxfp4(settings: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """GPT-OSS: ``X_blocks`` (experts, out, in / 32, 16) bytes and ``X_scales`` (experts, out, in / 32).

    They are the layout of ``mx.quantize`` in other words; the model's ``sanitize`` gives them its names.
    """
    for module in _modules(arrays, "_blocks"):
        blocks, name = arrays[f"{module}_blocks"], f"{module}_scales"
        if name not in arrays:
            raise CheckpointError(f"'{module}_blocks' is packed, but the checkpoint lacks {name}")
        if blocks.dtype != mx.uint8 or blocks.ndim < 2 or blocks.shape[-1] != 16:
            raise CheckpointError(
                f"'{module}_blocks' must be uint8 of shape (..., 16), got {blocks.dtype} "
                f"of shape {tuple(blocks.shape)}"
            )
        _check_shape(name, arrays[name], tuple(blocks.shape[:-1]))
    return arrays


_METHODS: dict[str, Callable[[Mapping[str, Any], Arrays], Arrays]] = {
    "awq": _awq,
    "gptq": _gptq,
    "fp8": _fp8,
    "mxfp4": _mxfp4,
}
