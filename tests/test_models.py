"""Architectures: the published parameter counts, the shapes, and what each computes written out a second way."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import models

PUBLISHED = {
    "lenet-300-100": (266_610, (1, 28, 28)),
    "lenet-5": (431_080, (1, 28, 28)),
    "resnet-20": (269_722, (3, 32, 32)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_shapes(name):
    count, shape = PUBLISHED[name]
    model = models.build(name)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.eval()(torch.rand(5, *shape)).shape == (5, 10)


def test_lenet_300_100_is_three_products_with_relu_between():
    model, x = models.LeNet300100(), torch.rand(4, 1, 28, 28)
    hidden = (x.reshape(4, 784) @ model.fc1.weight.T + model.fc1.bias).clamp(min=0)
    hidden = (hidden @ model.fc2.weight.T + model.fc2.bias).clamp(min=0)
    assert torch.allclose(model(x), hidden @ model.fc3.weight.T + model.fc3.bias, atol=1e-6)


def test_lenet_300_100_fits_other_inputs():
    assert models.LeNet300100(inputs=64, classes=3)(torch.rand(2, 1, 8, 8)).shape == (2, 3)


def test_lenet_5_has_no_relu_behind_its_convolutions():
    model, x = models.LeNet5(), torch.rand(4, 1, 28, 28)
    pool = nn.MaxPool2d(2)
    same = nn.Sequential(model.conv1, pool, model.conv2, pool, nn.Flatten(), model.fc1, nn.ReLU(), model.fc2)
    assert model(x).equal(same(x))


def test_resnet_20_has_twenty_layers_at_three_resolutions():
    model = models.ResNet20().eval()
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == 20
    sizes = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    model(torch.rand(1, 3, 32, 32))
    assert sizes == [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


@pytest.mark.parametrize(("width", "stride"), [(4, 1), (8, 2)])
def test_a_residual_block_without_weights_is_its_shortcut(width, stride):
    block = models.ResidualBlock(4, width, stride).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 8, 8)
    expected = torch.zeros(2, width, 8 // stride, 8 // stride)
    expected[:, :4] = F.relu(x[:, :, ::stride, ::stride])
    assert block(x).equal(expected)


def test_the_seed_decides_the_weights():
    def weight(seed):
        torch.manual_seed(seed)
        return models.build("lenet-300-100").fc1.weight

    assert weight(0).equal(weight(0))
    assert not weight(0).equal(weight(1))


def test_unknown_architecture(refuses):
    allowed = ", ".join(repr(name) for name in models.ARCHITECTURES)
    refuses(ValueError, f"name is 'alexnet'; allowed: {allowed}", models.build, "alexnet")


def test_mlp_is_products_with_relu_between():
    model, x = models.mlp(784, 20, 30, 10), torch.rand(4, 1, 28, 28)
    assert [tuple(m.weight.shape) for m in model if isinstance(m, nn.Linear)] == [(20, 784), (30, 20), (10, 30)]
    hidden = x.flatten(1)
    for i in (1, 3):
        hidden = (hidden @ model[i].weight.T + model[i].bias).clamp(min=0)
    assert torch.allclose(model(x), hidden @ model[5].weight.T + model[5].bias, atol=1e-6)
    assert models.mlp(784, 10)(x).min() < 0  # no ReLU behind the last layer


def test_mlp_refuses(refuses):
    refuses(ValueError, "the number of widths is 1; allowed: a whole number from 2 to 1000", models.mlp, 784)
    refuses(ValueError, "widths is 0; allowed: a whole number from 1 to 10000000", models.mlp, 784, 0, 10)
