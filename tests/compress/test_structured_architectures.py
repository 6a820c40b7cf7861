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
    small = prune_channels(model, x[:2], 0.5, layers=["blocks.1.expand"])
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
    small = prune_channels(model, x, 0.5)
    assert small(x).shape == (2, 10)
    assert [b.project.out_channels for b in small.blocks] == [12, 20, 20, 32, 32]
    assert sum(p.numel() for p in small.parameters()) < 0.3 * sum(p.numel() for p in model.parameters())


@torch.no_grad()
def test_hidden_neurons_of_a_transformer_leave_both_layers():
    model, x = built("vit"), torch.randn(4, 1, 28, 28)
    small = prune_channels(model, x[:2], 0.5, layers=[f"blocks.{i}.fc1" for i in range(4)])
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
    small = prune_channels(model, x[:2], 0.5, layers=["blocks.2.fc1"])
    stay = kept(model.blocks[2].fc1.weight, 0.5)
    assert small.blocks[2].fc1.weight.equal(model.blocks[2].fc1.weight[stay])
    silent = torch.ones(160, dtype=torch.bool)
    silent[stay] = False
    model.blocks[2].fc2.weight[:, silent] = 0
    assert torch.allclose(small(x), model(x), atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (None, "channels cannot be followed through unflatten"),
        (["blocks.0.attention.v"], "channels cannot be followed through unflatten .*blocks_0_attention_v"),
        (["characters"], "model CharTransformer has no unit that may leave"),
    ],
    ids=["everything", "a head's values", "the embedding"],
)
def test_the_rest_of_a_network_of_text_is_refused(layers, said):
    with pytest.raises(ValueError, match=said):
        prune_channels(built("char-transformer"), torch.randint(65, (2, 48)), 0.5, layers=layers)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (None, "channels cannot be followed through transpose"),
        (["blocks.0.attention.v"], "channels cannot be followed through unflatten"),
        (["blocks.0.attention.proj"], "model ViT has no unit that may leave"),
    ],
    ids=["the stream", "a head's values", "what is added to the stream"],
)
def test_the_rest_of_a_transformer_is_refused_by_the_name_of_the_operation(layers, said):
    with pytest.raises(ValueError, match=said):
        prune_channels(built("vit"), torch.randn(2, 1, 28, 28), 0.5, layers=layers)
