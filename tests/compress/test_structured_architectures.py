"""Units that leave a MobileNet and a vision transformer: which may, which are refused; nothing else changes."""

import pytest
import torch

from labkit import models
from labkit.compress.structured import prune_channels


def built(name):
    """A network whose BatchNorms have seen something, so that a mistake in them would show."""
    torch.manual_seed(0)
    model = models.build(name)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(part.bias)
    return model.eval()


def kept(weight, sparsity):
    """The rows with the largest L1 norms, in their order."""
    ranks = weight.detach().flatten(1).abs().sum(1).argsort()
    return ranks[round(sparsity * len(ranks)) :].sort().values


@torch.no_grad()
def test_hidden_channels_of_an_inverted_residual_leave_all_three_layers():
    model, x = built("mobilenet"), torch.randn(4, 3, 32, 32)
    small = prune_channels(model, 0.5, example=x[:2], layers=["blocks.1.expand"])
    block = small.blocks[1]
    stay = kept(model.blocks[1].expand.weight, 0.5)
    assert (block.expand.out_channels, block.depthwise.groups, block.project.in_channels) == (48, 48, 48)
    assert block.depthwise.weight.equal(model.blocks[1].depthwise.weight[stay])
    silent = torch.ones(96, dtype=torch.bool)
    silent[stay] = False
    model.blocks[1].project.weight[:, silent] = 0
    assert torch.allclose(small(x), model(x), atol=1e-4)


def test_every_width_of_a_mobilenet_may_shrink():
    model, x = built("mobilenet"), torch.randn(2, 3, 32, 32)
    small = prune_channels(model, 0.5, example=x, scope="layer")
    assert small(x).shape == (2, 10)
    assert [b.project.out_channels for b in small.blocks] == [12, 20, 20, 32, 32]
    assert sum(p.numel() for p in small.parameters()) < 0.3 * sum(p.numel() for p in model.parameters())


@torch.no_grad()
def test_hidden_neurons_of_a_transformer_leave_both_layers():
    model, x = built("vit"), torch.randn(4, 1, 28, 28)
    small = prune_channels(model, 0.5, example=x[:2], scope="layer", layers=[f"blocks.{i}.fc1" for i in range(4)])
    for block, whole in zip(small.blocks, model.blocks, strict=True):
        stay = kept(whole.fc1.weight, 0.5)
        assert block.fc1.weight.equal(whole.fc1.weight[stay])
        assert block.fc2.weight.equal(whole.fc2.weight[:, stay])
        silent = torch.ones(128, dtype=torch.bool)
        silent[stay] = False
        whole.fc2.weight[:, silent] = 0
    assert torch.allclose(small(x), model(x), atol=1e-5)


@torch.no_grad()
def test_hidden_neurons_of_a_network_of_text_leave_both_layers():
    model, x = built("char-transformer"), torch.randint(65, (4, 48))
    small = prune_channels(model, 0.5, example=x[:2], layers=["blocks.2.fc1"])
    stay = kept(model.blocks[2].fc1.weight, 0.5)
    assert small.blocks[2].fc1.weight.equal(model.blocks[2].fc1.weight[stay])
    silent = torch.ones(160, dtype=torch.bool)
    silent[stay] = False
    model.blocks[2].fc2.weight[:, silent] = 0
    assert torch.allclose(small(x), model(x), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "layer", "said"),
    [
        ("char-transformer", "characters", "reach layer_norm in blocks.0.norm1, which mixes them with one another"),
        ("char-transformer", "blocks.0.attention.q", "reach scaled_dot_product_attention in blocks.0.attention"),
        ("vit", "patches", "reach layer_norm in blocks.0.norm1, which mixes them with one another"),
        ("vit", "blocks.0.attention.proj", "add in blocks.0 joins them with values of fixed width"),
        ("vit", "blocks.3.attention.k", "reach scaled_dot_product_attention in blocks.3.attention"),
    ],
)
def test_the_stream_of_a_transformer_and_what_is_summed_over_is_held(name, layer, said):
    x = torch.randint(65, (2, 48)) if name == "char-transformer" else torch.randn(2, 1, 28, 28)
    with pytest.raises(ValueError, match=f"has no unit to prune in {layer}: .*{said}"):
        prune_channels(built(name), 0.5, example=x, layers=[layer])


@torch.no_grad()
def test_the_values_of_every_head_get_narrower_together():
    model, x = built("vit"), torch.randn(4, 1, 28, 28)
    small = prune_channels(model, 0.5, example=x[:2], layers=["blocks.0.attention.v"])
    attention, whole = small.blocks[0].attention, model.blocks[0].attention
    assert (attention.v.out_features, attention.proj.in_features, attention.q.out_features) == (32, 32, 64)
    kept = [i for i, bias in enumerate(whole.v.bias.tolist()) if bias in attention.v.bias.tolist()]
    assert kept == sorted(16 * head + i for head in range(4) for i in kept[:8])
    whole.proj.weight[:, [i for i in range(64) if i not in kept]] = 0
    assert torch.allclose(small(x), model(x), atol=1e-5)
