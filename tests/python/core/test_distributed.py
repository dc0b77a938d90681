"""Collectives in a group of one process, and kernels from source, which need a GPU."""

from __future__ import annotations

import lamina.core as mx
import pytest

COLLECTIVES = ["all_sum", "all_max", "all_min", "all_gather", "sum_scatter"]


def test_the_group_of_one():
    group = mx.distributed.init()
    assert (group.rank(), group.size()) == (0, 1)
    assert isinstance(group, mx.distributed.Group)
    assert not mx.distributed.is_available()
    assert mx.distributed.init(backend="ring").size() == 1


@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives_give_the_array(name):
    collective = getattr(mx.distributed, name)
    x = mx.arange(6).reshape(2, 3)
    assert mx.array_equal(collective(x), x)
    assert mx.array_equal(collective(x, group=mx.distributed.init()), x)
    gradient = mx.grad(lambda v: (collective(v) * 2).sum())(x.astype(mx.float32))
    assert mx.array_equal(gradient, mx.full((2, 3), 2.0))
    with pytest.raises(TypeError):
        collective(x, group=3)


def test_nobody_to_exchange_with():
    with pytest.raises(ValueError, match=r"\[send\] a group of one has nobody to .*, got rank 1"):
        mx.distributed.send(mx.ones(2), 1)
    with pytest.raises(ValueError, match=r"\[recv\] a group of one"):
        mx.distributed.recv((2,), mx.float32, 0)
    with pytest.raises(ValueError, match=r"\[recv_like\] a group of one"):
        mx.distributed.recv_like(mx.ones(2), 0)
    with pytest.raises(RuntimeError, match=r"\[split\] a group of one process cannot be split"):
        mx.distributed.init().split(0)


def test_backends():
    with pytest.raises(ValueError, match=r"\[init\] wanted backend 'any', .*, got 'foo'"):
        mx.distributed.init(backend="foo")
    with pytest.raises(RuntimeError, match=r"\[init\] this build has no distributed backend"):
        mx.distributed.init(strict=True)


def test_kernels_from_source_are_refused():
    with pytest.raises(NotImplementedError, match=r"\[metal_kernel\] .* not supported by the cpu backend"):
        mx.fast.metal_kernel("f", ["x"], ["y"], "")
    with pytest.raises(NotImplementedError, match=r"\[cuda_kernel\] .* wanted CUDA"):
        mx.fast.cuda_kernel(name="f", input_names=["x"], output_names=["y"], source="")
    with pytest.raises(NotImplementedError, match=r"\[precompiled_cuda_kernel\]"):
        mx.fast.precompiled_cuda_kernel(
            name="f",
            compiled_source=b"",
            inputs=[],
            output_shapes=[],
            output_dtypes=[],
            scalars=[],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
        )
