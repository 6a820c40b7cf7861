"""Parts: what a file must hold, and that a model built from it computes the same, bit for bit."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from labkit.compress.magnitude import prune
from labkit.compress.parts import Plain, Quantized, assemble, parts
from labkit.compress.quantize import quantize
from labkit.models import build
from tests.unlabelled import unlabelled


def convnet(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


def used(model):
    """The same after some training steps, so that BatchNorm's buffers differ from a fresh model's."""
    model.train()(torch.rand(16, 1, 8, 8))
    return model.eval()


def outputs(model):
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    return model.eval()(x).detach()


IMAGES = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))
VARIANTS = {
    "plain": lambda model: model,
    "pruned": lambda model: prune(model, 0.8),
    "8 bits": lambda model: quantize(model, 8),
    "1 bit": lambda model: quantize(model, 1),
    "3 bits affine by channel": lambda model: quantize(model, 3, symmetric=False, granularity="channel"),
    "3 bits affine by group": lambda model: quantize(model, 3, symmetric=False, granularity="group", group_size=3),
    "one layer": lambda model: quantize(model, 4, layers=["4"]),
    "activations": lambda model: quantize(model, 4, activation_bits=5, calibration=unlabelled(IMAGES)),
    "pruned after quantizing": lambda model: prune(quantize(model, 4), 0.5),
    "quantized twice": lambda model: quantize(quantize(model, 8), 2),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_comes_back_bit_for_bit(variant):
    model = VARIANTS[variant](used(convnet()))
    target = convnet(seed=1)
    before = copy.deepcopy(target.state_dict())
    again = assemble(target, parts(model))
    assert outputs(again).equal(outputs(model))
    assert all(v.equal(before[k]) for k, v in target.state_dict().items())
    assert_equal_parts(parts(again), parts(model))


def assert_equal_parts(ours, theirs):
    assert sorted(ours) == sorted(theirs)
    for name, part in ours.items():
        other = theirs[name]
        assert type(part) is type(other)
        assert part.settings == other.settings
        for ours_, theirs_ in zip(part.tensors().values(), other.tensors().values(), strict=True):
            assert ours_.equal(theirs_)
            assert ours_.dtype == theirs_.dtype


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_compressed_model_serves_as_the_architecture_too(variant):
    model = used(convnet())
    again = assemble(VARIANTS[variant](convnet(seed=1)), parts(model))
    assert outputs(again).equal(outputs(model))
    assert_equal_parts(parts(again), parts(model))


def test_parts_of_a_plain_model_are_its_state(mlp):
    found = parts(mlp)
    assert list(found) == list(mlp.state_dict())
    assert all(part.values.equal(mlp.state_dict()[name]) for name, part in found.items())
    assert not any(part.values.requires_grad for part in found.values())
    assert list(parts(build("resnet-20"))) == list(build("resnet-20").state_dict())


def test_a_quantized_weight_is_one_part():
    found = parts(quantize(convnet(), 4, granularity="channel"))
    assert sorted(found) == sorted(convnet().state_dict())
    weight = found["0.weight"]
    assert isinstance(weight, Quantized)
    assert weight.q.dtype == torch.int8
    assert weight.q.abs().max() <= 8
    assert weight.grid.bits == 4
    assert weight.grid.scale.shape == (4, 1, 1, 1)
    assert weight.shape == (4, 1, 3, 3)
    assert isinstance(found["1.running_mean"], Plain)


def test_the_parts_stored_are_not_shared_with_the_model_built():
    model = quantize(convnet(), 4)
    stored = parts(model)
    again = assemble(convnet(), stored)
    again[0].bias.data.zero_()
    again[0].parametrizations.weight.original.data.zero_()
    assert stored["0.bias"].values.any()
    assert stored["0.weight"].q.any()


def test_a_shared_tensor_is_stored_once_and_stays_shared():
    def tied(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
        model[2].weight = model[0].weight
        return model

    for model in (tied(0), quantize(tied(0), 3), prune(quantize(tied(0), 3), 0.5)):
        found = parts(model)
        assert sorted(found) == ["0.bias", "0.weight", "2.bias"]
        again = assemble(tied(1), found)
        x = torch.rand(4, 6)
        assert again(x).equal(model(x))
        assert sorted(parts(again)) == sorted(found)


def test_a_buffer_that_is_not_persistent_is_a_part_and_may_be_missing():
    model, into = nn.Linear(2, 2), nn.Linear(2, 2)
    model.register_buffer("scratch", torch.zeros(3), persistent=False)
    model.register_buffer("kept", torch.ones(1))
    assert sorted(parts(model)) == ["bias", "kept", "scratch", "weight"]
    into.register_buffer("scratch", torch.ones(3), persistent=False)
    into.register_buffer("kept", torch.zeros(1))
    assert assemble(into, parts(model)).scratch.tolist() == [0, 0, 0]
    older = {name: part for name, part in parts(model).items() if name != "scratch"}
    assert assemble(into, older).scratch.tolist() == [1, 1, 1]


def test_a_bare_layer_with_its_activations():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 2), torch.rand(9, 6)
    model = quantize(layer, 4, activation_bits=4, calibration=unlabelled(x))
    again = assemble(nn.Linear(6, 2), parts(model))
    assert again(x).equal(model(x))


def test_what_does_not_fit_is_refused(refuses):
    found = parts(convnet())
    fit = "give the model it was saved from"
    short = {k: v for k, v in found.items() if k != "4.bias"}
    refuses(ValueError, f"the file has no 4.bias, which Sequential needs; {fit}", assemble, convnet(), short)
    extra = found | {"9.weight": Plain(torch.zeros(1))}
    refuses(ValueError, f"the file holds 9.weight, which Sequential lacks; {fit}", assemble, convnet(), extra)
    other = found | {"4.bias": Plain(torch.zeros(11))}
    said = "4.bias has shape (11,) in the file and (10,) in `into`"
    refuses(ValueError, said, assemble, convnet(), other)
    stray = found | {"7.input_quantizer.scale": Plain(torch.ones(()))}
    said = f"the file holds 7.input_quantizer.scale, which Sequential lacks; {fit}"
    refuses(ValueError, said, assemble, convnet(), stray)


def test_of_a_parametrization_of_others_the_values_are_stored():
    model = nn.Sequential(parametrizations.orthogonal(nn.Linear(3, 3)))
    assert list(parts(model)) == ["0.bias", "0.weight"]
    assert parts(model)["0.weight"].values.equal(model[0].weight)
    again = assemble(model, parts(model))
    assert type(again[0]) is nn.Linear
    assert again(torch.eye(3)).equal(model(torch.eye(3)))
