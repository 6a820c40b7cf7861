"""Architectures: their parameter counts (the first three as published), shapes, and a second way to compute each."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import models

PUBLISHED = {
    "lenet-300-100": (266_610, (1, 28, 28)),
    "lenet-5": (431_080, (1, 28, 28)),
    "resnet-20": (269_722, (3, 32, 32)),
    "mobilenet": (80_362, (3, 32, 32)),
    "vit": (138_890, (1, 28, 28)),
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


def test_mobilenet_widens_filters_each_channel_alone_and_narrows():
    model = models.MobileNet().eval()
    assert [(b.expand.out_channels, b.project.out_channels) for b in model.blocks] == [
        (32, 24), (96, 40), (160, 40), (160, 64), (256, 64)
    ]  # fmt: skip
    assert all(b.depthwise.weight.shape[1:] == (1, 3, 3) for b in model.blocks)
    assert model.blocks(torch.rand(1, 16, 16, 16)).shape == (1, 64, 8, 8)


@pytest.mark.parametrize(("width", "stride", "identity"), [(4, 1, True), (4, 2, False), (8, 1, False)])
def test_an_inverted_residual_without_weights_is_its_identity_or_nothing(width, stride, identity):
    block = models.InvertedResidual(4, width, stride, expansion=2).eval()
    nn.init.zeros_(block.project.weight)
    x = torch.randn(2, 4, 8, 8)
    assert block(x).equal(x if identity else torch.zeros(2, width, 8 // stride, 8 // stride))


def test_a_depthwise_filter_hears_its_own_channel_only():
    layer, x = models.InvertedResidual(4, 4, 1, expansion=2).depthwise, torch.randn(1, 8, 6, 6)
    changed = x.clone()
    changed[:, 3] += 1
    differs = (layer(changed) != layer(x)).flatten(2).any(2)[0]
    assert differs.tolist() == [i == 3 for i in range(8)]


def test_attention_is_torch_s_own():
    mine, x = models.Attention(12, heads=3), torch.randn(2, 5, 12)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight.data = torch.cat([layer.weight for layer in (mine.q, mine.k, mine.v)])
    theirs.in_proj_bias.data = torch.cat([layer.bias for layer in (mine.q, mine.k, mine.v)])
    theirs.out_proj.load_state_dict(mine.proj.state_dict())
    assert torch.allclose(mine(x), theirs(x, x, x)[0], atol=1e-6)


@pytest.mark.parametrize(("causal", "mask"), [(False, None), (True, nn.Transformer.generate_square_subsequent_mask(5))])
def test_a_transformer_block_is_torch_s_own(causal, mask):
    mine, x = models.TransformerBlock(12, heads=3, hidden=24, causal=causal), torch.randn(2, 5, 12)
    theirs = nn.TransformerEncoderLayer(12, 3, 24, 0.0, "gelu", batch_first=True, norm_first=True).train()
    theirs.self_attn.in_proj_weight.data = torch.cat([getattr(mine.attention, k).weight for k in "qkv"])
    theirs.self_attn.in_proj_bias.data = torch.cat([getattr(mine.attention, k).bias for k in "qkv"])
    theirs.self_attn.out_proj.load_state_dict(mine.attention.proj.state_dict())
    theirs.linear1.load_state_dict(mine.fc1.state_dict())
    theirs.linear2.load_state_dict(mine.fc2.state_dict())
    assert torch.allclose(mine(x), theirs(x, src_mask=mask), atol=1e-5)


def test_a_vit_without_positions_does_not_see_the_order_of_its_patches():
    model = models.ViT().eval()
    x = torch.rand(2, 1, 28, 28)
    moved = x.unflatten(2, (4, 7)).flip(2).flatten(2, 3)  # the four rows of patches in the other order
    with torch.no_grad():
        assert not torch.allclose(model(x), model(moved), atol=1e-4)
        model.position.zero_()
        assert torch.allclose(model(x), model(moved), atol=1e-5)


@pytest.fixture(scope="module")
def windows():
    return torch.randint(65, (3, 48), generator=torch.Generator().manual_seed(0))


def logits_at_every_position(model, x):
    seen = []
    model.fc.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        model.eval()(x)
    return seen[0]


def test_a_char_transformer_has_its_parameters_and_answers_for_the_end_of_a_window(windows):
    model = models.build("char-transformer")
    assert sum(p.numel() for p in model.parameters()) == 170_705
    assert model(windows).shape == (3, 65)
    assert model(windows).equal(logits_at_every_position(model, windows)[:, -1])


@pytest.mark.parametrize("place", [0, 1, 20, 47])
def test_a_later_character_changes_nothing_before_it(windows, place):
    model, changed = models.CharTransformer(), windows.clone()
    changed[:, place] = (changed[:, place] + 1) % 65
    before, after = (logits_at_every_position(model, x) for x in (windows, changed))
    assert before[:, :place].equal(after[:, :place])
    assert (before[:, place:] != after[:, place:]).any(2).all()  # and everything behind it hears of it


def test_every_position_answers_what_a_shorter_window_is_answered(windows):
    model = models.CharTransformer().eval()
    every = logits_at_every_position(model, windows)
    for length in (1, 7, 48):
        assert torch.allclose(model(windows[:, :length]), every[:, length - 1], atol=1e-5)


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
