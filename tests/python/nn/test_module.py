"""Module: parameters, freezing, updates, weights files."""

import copy

import lamina.core as mx
import pytest
from lamina import nn
from lamina.utils import tree_flatten
from nn.nn_reference import draw


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.blocks = [nn.Linear(3, 3), {"act": nn.ReLU(), "out": nn.Linear(3, 1, bias=False)}]
        self.scale = mx.ones((2,))
        self.table = {"a": mx.zeros((1,)), "n": 3}
        self.count = 5
        self._hidden = mx.zeros((4,))

    def __call__(self, x):
        x = self.blocks[1]["act"](self.blocks[0](self.first(x * self.scale)))
        return self.blocks[1]["out"](x)


NAMES = [
    "first.weight",
    "first.bias",
    "blocks.0.weight",
    "blocks.0.bias",
    "blocks.1.out.weight",
    "scale",
    "table.a",
]


def names(tree):
    return [name for name, _ in tree_flatten(tree)]


def test_is_a_dict_of_arrays_and_containers():
    model = Nested()
    assert isinstance(model, dict)
    assert list(model) == ["first", "blocks", "scale", "table", "_hidden"]
    assert model["scale"] is model.scale
    model.scale = None
    assert "scale" not in model
    assert model.scale is None
    model.count = mx.array(1)
    assert "count" in model
    assert "count" not in vars(model)
    del model.count
    with pytest.raises(AttributeError, match="'Nested' object has no attribute 'count'"):
        _ = model.count
    with pytest.raises(AttributeError):
        del model.count


def test_parameters_form_a_tree():
    model = Nested()
    assert names(model.parameters()) == NAMES
    assert model.parameters()["blocks"][1]["act"] == {}
    assert model.parameters()["table"]["n"] == {}
    assert model.state is model


def test_repr_shows_the_modules_inside():
    assert repr(Nested()).splitlines() == [
        "Nested(",
        "  (first): Linear(input_dims=2, output_dims=3, bias=True)",
        "  (blocks.0): Linear(input_dims=3, output_dims=3, bias=True)",
        "  (blocks.1.act): ReLU()",
        "  (blocks.1.out): Linear(input_dims=3, output_dims=1, bias=False)",
        ")",
    ]


def test_walks_over_modules():
    model = Nested()
    paths = [path for path, _ in model.named_modules()]
    assert paths[0] == ""
    assert sorted(paths) == ["", "blocks.0", "blocks.1.act", "blocks.1.out", "first"]
    assert len(model.modules()) == 5
    assert model.modules()[0] is model
    assert model.children()["first"] is model.first
    assert model.leaf_modules()["blocks"][1]["act"] is model.blocks[1]["act"]
    seen = []
    assert model.apply_to_modules(lambda path, module: seen.append(path)) is model
    assert seen == paths
    outer = nn.Sequential(model)
    assert outer.leaf_modules()["layers"][0]["first"] is model.first


def test_filter_and_map():
    model = Nested()
    shapes = model.filter_and_map(lambda m, k, v: k in ("first", "weight"), lambda x: x.shape)
    assert shapes == {"first": {"weight": (3, 2)}}
    with pytest.raises(RuntimeError, match="'scale' of Nested is no leaf: array"):
        model.filter_and_map(lambda m, k, v: True, is_leaf_fn=lambda m, k, v: nn.Module.is_module(v))


def test_freeze_and_unfreeze_by_key_and_depth():
    model = Nested()
    assert model.freeze(keys="bias") is model
    assert names(model.trainable_parameters()) == [name for name in NAMES if "bias" not in name]
    model.freeze(recurse=False)
    assert "scale" not in names(model.trainable_parameters())
    assert "first.weight" in names(model.trainable_parameters())
    model.freeze()
    assert names(model.trainable_parameters()) == []
    model.unfreeze(keys=["weight"])
    assert names(model.trainable_parameters()) == [name for name in NAMES if "weight" in name]
    model.unfreeze(recurse=False)
    assert names(model.trainable_parameters()) == [name for name in NAMES if "bias" not in name]
    assert names(model.unfreeze().trainable_parameters()) == NAMES
    assert names(model.parameters()) == NAMES


@pytest.mark.parametrize("method", ["freeze", "unfreeze"])
def test_strict_freeze_wants_known_keys(method):
    model = Nested()
    getattr(model, method)(keys="bias", strict=True)
    getattr(model, method)(keys="nothing")
    with pytest.raises(KeyError, match="no member 'nothing'"):
        getattr(model, method)(keys=["bias", "nothing"], strict=True)
    with pytest.raises(KeyError, match="no member 'bias'"):
        getattr(model, method)(keys="bias", strict=True, recurse=False)


def test_batch_norm_statistics_stay_frozen():
    model = nn.Sequential(nn.BatchNorm(2), nn.Sequential(nn.BatchNorm(2)))
    model.freeze()
    model.unfreeze()
    assert all("running" not in name for name in names(model.trainable_parameters()))
    assert len(names(model.trainable_parameters())) == 4


def test_update_replaces_some():
    model, weight = Nested(), mx.ones((3, 2))
    assert model.update({"first": {"weight": weight}, "blocks": [{}, {"out": {}}]}) is model
    assert model.first.weight is weight
    model.update({"blocks": [{}, {"act": {"nothing": mx.ones((1,))}}]}, strict=False)
    assert names(model.parameters()) == NAMES
    model.update({"scale": 3}, strict=False)
    assert model.scale.shape == (2,)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"first": {"wait": 1}}, 'parameter named "first.wait". It has: weight, bias'),
        ({"nothing": 1}, 'parameter named "nothing"'),
        ({"first": 3}, 'int for "first"'),
        ({"first": {"weight": None}}, 'NoneType for "first.weight"'),
        ({"scale": {"a": 1}}, 'dict for "scale", whose value is of type array'),
        ({"blocks": [{}, {}, {"weight": 1}]}, "List index 2 .* destination of length 2"),
    ],
)
def test_strict_update_names_what_does_not_fit(tree, text):
    with pytest.raises(ValueError, match=text):
        Nested().update(tree)


def test_update_in_a_frozen_list_leaves_the_others():
    class Arrays(nn.Module):
        def __init__(self):
            super().__init__()
            self.arrays = [mx.zeros((1,)), mx.ones((1,))]

    model = Arrays().freeze(keys="arrays.0")
    model.update(model.trainable_parameters())
    assert [x.item() for x in model.arrays] == [0.0, 1.0]


def test_update_modules():
    model, new = Nested(), nn.Linear(3, 3, bias=False)
    assert model.update_modules({"blocks": [new, {"act": nn.GELU()}]}) is model
    assert model.blocks[0] is new
    assert isinstance(model.blocks[1]["act"], nn.GELU)
    model.update_modules({"nothing": new}, strict=False)
    with pytest.raises(ValueError, match='sub-module named "nothing"'):
        model.update_modules({"nothing": new})
    with pytest.raises(ValueError, match='Linear for "scale"'):
        model.update_modules({"scale": new})
    with pytest.raises(ValueError, match='array for "first"'):
        model.update_modules({"first": mx.zeros((1,))})


def test_apply_and_set_dtype():
    model = Nested()
    model.apply(mx.zeros_like, lambda m, k, v: k == "bias" or isinstance(v, (dict, list)))
    assert mx.all(model.first.bias == 0).item()
    assert not mx.all(model.first.weight == 0).item()
    model.table["index"] = mx.array([1, 2])
    model.set_dtype(mx.float16)
    assert model.first.weight.dtype == mx.float16
    assert model.table["index"].dtype == mx.int32
    assert model._hidden.dtype == mx.float32
    model.set_dtype(mx.float32, None)
    assert model.table["index"].dtype == mx.float32
    model.set_dtype(mx.float16, lambda dtype: dtype == mx.int32)
    assert model.first.weight.dtype == mx.float32


def test_train_and_eval_reach_everything():
    model = Nested()
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    assert all(module.training for module in model.train().modules())
    with pytest.raises(AttributeError):
        model.training = False


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_weights_file_round_trip(tmp_path, ending):
    model, other = Nested(), Nested()
    model.first.set_dtype(mx.float16)
    other.first.set_dtype(mx.float16)
    path = tmp_path / f"weights.{ending}"
    model.save_weights(str(path))
    assert other.load_weights(path) is other
    for (name, a), (_, b) in zip(
        tree_flatten(model.parameters()), tree_flatten(other.parameters()), strict=True
    ):
        assert a.dtype == b.dtype, name
        assert mx.array_equal(a, b).item(), name


def test_save_wants_a_known_ending(tmp_path):
    with pytest.raises(ValueError, match=r"must end in .npz or .safetensors, got .*weights.bin"):
        Nested().save_weights(str(tmp_path / "weights.bin"))
    assert list(tmp_path.iterdir()) == []


def test_strict_load_checks_names_and_shapes_first():
    model = Nested()
    before = dict(tree_flatten(model.parameters()))
    weights = [(name, mx.full(value.shape, 7.0)) for name, value in before.items()]
    with pytest.raises(ValueError, match=r"Missing 2 parameters: \nfirst.weight,\nscale\."):
        model.load_weights([w for w in weights if w[0] not in ("scale", "first.weight")])
    with pytest.raises(ValueError, match=r"Received 1 parameters not in model: \nfirst.wait\."):
        model.load_weights([*weights, ("first.wait", mx.zeros((1,)))])
    wrong = [(name, mx.zeros((4, 4)) if name == "table.a" else value) for name, value in weights]
    with pytest.raises(
        ValueError, match=r"Expected shape \(1,\) but received shape \(4, 4\) for parameter table.a"
    ):
        model.load_weights(wrong)
    wrong = [(name, draw(1) if name == "table.a" else value) for name, value in weights]
    with pytest.raises(ValueError, match=r"Expected mx.array but received .*ndarray.* for parameter table.a"):
        model.load_weights(wrong)
    assert all(value is before[name] for name, value in tree_flatten(model.parameters()))
    model.load_weights(weights)
    assert all(mx.all(value == 7).item() for _, value in tree_flatten(model.parameters()))


def test_loose_load_takes_what_it_knows():
    model = Nested()
    hidden = mx.ones((4,))
    model.load_weights(
        [
            ("first.weight", mx.zeros((5, 2))),
            ("blocks.1.out.weight", mx.ones((1, 3))),
            ("blocks.99999999999.weight", mx.ones((1,))),
            ("nothing.at.all", mx.ones((1,))),
            ("first", mx.ones((1,))),
            ("_hidden", hidden),
        ],
        strict=False,
    )
    with pytest.raises(ValueError, match=r"Expected mx.array but received .*int.* for parameter scale"):
        model.load_weights([("scale", 3)], strict=False)
    assert model.first.weight.shape == (5, 2)
    assert isinstance(model.first, nn.Linear)
    assert model.blocks[1]["out"].weight.tolist() == [[1.0, 1.0, 1.0]]
    assert model._hidden is hidden
    assert names(model.parameters()) == NAMES


def test_damaged_file_is_an_error_and_changes_nothing(tmp_path):
    model = Nested()
    path = tmp_path / "weights.safetensors"
    model.save_weights(str(path))
    path.write_bytes(path.read_bytes()[:-7])
    weight = model.first.weight
    with pytest.raises((ValueError, RuntimeError)):
        model.load_weights(str(path))
    assert model.first.weight is weight


def test_deepcopy_is_independent():
    model = Nested()
    model.freeze(keys="bias")
    twin = copy.deepcopy(model)
    twin.first.weight = mx.zeros((3, 2))
    twin.unfreeze()
    assert not mx.all(model.first.weight == 0).item()
    assert "first.bias" not in names(model.trainable_parameters())
    assert "first.bias" in names(twin.trainable_parameters())


def test_value_and_grad_covers_trainable_parameters_only():
    model = Nested()
    model.freeze(keys="bias")
    x = mx.array(draw(4, 2))

    def loss(x, power):
        return (model(x) ** power).sum(), model.count

    before = model.trainable_parameters()
    (value, aux), grads = nn.value_and_grad(model, loss)(x, power=2)
    assert names(grads) == names(before)
    assert aux == 5
    assert value.item() == pytest.approx((model(x) ** 2).sum().item(), rel=1e-6)
    step = 1e-2
    for (name, old), (_, grad) in zip(tree_flatten(before), tree_flatten(grads), strict=True):
        if name == "table.a":
            assert grad.item() == 0
            continue
        model.load_weights([(name, old - step * grad)], strict=False)
        assert loss(x, 2)[0].item() < value.item(), name
        model.load_weights([(name, old)], strict=False)


def test_value_and_grad_leaves_the_model_as_it_was():
    model = nn.Linear(2, 2)
    weight = model.weight
    nn.value_and_grad(model, lambda x: model(x).sum())(mx.ones((1, 2)))
    assert model.weight is weight

    def fails(x):
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        nn.value_and_grad(model, fails)(mx.ones((1, 2)))
    assert model.weight is weight
    with pytest.raises(TypeError, match="must be a Module, got int"):
        nn.value_and_grad(3, fails)
