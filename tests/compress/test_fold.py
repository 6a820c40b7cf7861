"""Folding: the outputs stay, torch's own fusion agrees, and what cannot be folded is named."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from labkit._module import evaluating
from labkit.compress._weights import weights
from labkit.compress.codebook import share_weights
from labkit.compress.fold import fold_batchnorm
from labkit.compress.fold import folded as folded_where_possible
from labkit.compress.magnitude import masks_of, prune
from labkit.compress.parts import Quantized, parts
from labkit.compress.qat import prepare_qat
from labkit.compress.quantize import quantize
from labkit.models import build
from labkit.store import check_equal, decode, encode
from labkit.zoo import load_model


def lively(model, *shape):
    """BatchNorm with statistics, factors and offsets that are anything but 1 and 0."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.normal_(module.weight, 1, 0.5)
            nn.init.normal_(module.bias)
    for _ in range(5):
        model.train()(torch.randn(16, *shape))
    return model.eval()


def chain(norm=nn.BatchNorm2d, **how):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), norm(4, **how), nn.ReLU(), nn.Conv2d(4, 3, 2, bias=False), nn.BatchNorm2d(3)
    )


MODELS = {
    "resnet-20": (lambda: build("resnet-20"), (3, 32, 32)),
    "conv": (chain, (2, 8, 8)),
    "not affine": (lambda: chain(affine=False), (2, 8, 8)),
    "linear": (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, eps=0.1), nn.Tanh()), (6,)),
    "conv1d, groups": (lambda: nn.Sequential(nn.Conv1d(4, 8, 3, groups=2), nn.BatchNorm1d(8)), (4, 9)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2)), (1, 4, 4, 4)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_outputs_stay(kind):
    how, shape = MODELS[kind]
    model = lively(how(), *shape)
    before, x = copy.deepcopy(model.state_dict()), torch.randn(7, *shape)
    folded = fold_batchnorm(model.train())
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in folded.modules())
    assert type(folded) is type(model)
    assert not folded.training
    with torch.no_grad(), evaluating(model):
        assert torch.allclose(folded(x), model(x), atol=1e-5, rtol=1e-5)
    assert model.training
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())


def test_it_is_what_torch_fuses():
    model = lively(chain(), 2, 8, 8)
    folded = fold_batchnorm(model)
    for i in (0, 3):
        theirs = fuse_conv_bn_eval(model[i], model[i + 1])
        assert torch.allclose(folded[i].weight, theirs.weight, atol=1e-6)
        assert torch.allclose(folded[i].bias, theirs.bias, atol=1e-6)


GRIDS = {
    "tensor": dict(bits=4),
    "tensor, affine": dict(bits=3, symmetric=False),
    "channel": dict(bits=2, granularity="channel"),
    "group": dict(bits=8, granularity="group", group_size=2),
    "sign": dict(bits=1),
    "sign, affine": dict(bits=1, symmetric=False),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("signs", ["positive", "mixed", "zero"])
def test_integers_stay_and_the_scale_takes_the_factor(grid, kind, signs):
    how, shape = MODELS[kind]
    model, settings = lively(how(), *shape), GRIDS[grid]
    if any(len(w[0].flatten()) % settings.get("group_size", 1) for w in weights(model).values()):
        pytest.skip("rows that no group divides")
    for norm in (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine):
        factors = {"positive": norm.weight.abs() + 0.1, "mixed": norm.weight - 1, "zero": norm.weight * 0}
        norm.weight = nn.Parameter(factors[signs].detach())
    small = quantize(model, **settings)
    folded, x = fold_batchnorm(small), torch.randn(7, *shape)
    with torch.no_grad():
        assert torch.allclose(folded(x), small(x), atol=1e-4, rtol=1e-4)
    for name, part in parts(small).items():
        if isinstance(part, Quantized) and signs == "positive":
            assert parts(folded)[name].q.equal(part.q)
        if isinstance(part, Quantized):
            assert parts(folded)[name].grid.bits == part.grid.bits
    check_equal(decode(encode(folded), fold_batchnorm(model)), folded)


def test_folded_says_when_it_folds():
    model = lively(chain(), 2, 8, 8)
    assert type(folded_where_possible(model)[1]) is nn.Identity
    for left in (nn.Linear(2, 2), nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1)), prepare_qat(model, 4)):
        assert folded_where_possible(left) is left


def test_zeros_stay_zeros():
    model = prune(lively(chain(), 2, 8, 8), 0.5)
    masks = masks_of(model)
    assert all(mask.equal(masks[name]) for name, mask in masks_of(fold_batchnorm(model)).items())


def test_the_shipped_resnet_folds_gets_shorter_and_rounds_well_by_channel():
    model, data = load_model("resnet-20", "cifar10"), torch.randn(4, 3, 32, 32)
    folded = fold_batchnorm(model)
    assert torch.allclose(folded(data), model(data), atol=1e-4)
    vectors = sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    saved = len(encode(model)) - len(encode(folded))
    assert (
        3 * 4 * vectors <= saved <= 3 * 4 * vectors + 1_500
    )  # three vectors of four a layer, counters and their names
    check_equal(folded, decode(encode(folded), fold_batchnorm(build("resnet-20"))))
    rounded = quantize(folded, 8, granularity="channel")
    assert torch.allclose(rounded(data), model(data), atol=0.5)
    assert not any("bn" in name for name in parts(rounded))


class Forked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class Branching(Forked):
    def forward(self, x):
        return self.bn(self.conv(x)) if x.sum() > 0 else x


class Again(Forked):
    def forward(self, x):
        return self.conv(self.bn(self.conv(x))[:, :1])


FIRST = "0.weight is tied, shared or trains for a grid: fold 1 before that"
ALONE = "cannot be folded: it needs a linear layer or convolution before it, of its own"


def tied():
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    net[2].weight = net[0].weight
    return net


REFUSED = {
    "none": (lambda: nn.Linear(2, 2), "model Linear has no BatchNorm; nothing to fold"),
    "in front": (lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1)), f"0 {ALONE}"),
    "behind a ReLU": (lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)), f"2 {ALONE}"),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 1), nn.BatchNorm2d(2)), f"1 {ALONE}"),
    "output used twice": (Forked, f"bn {ALONE}"),
    "layer used twice": (Again, f"bn {ALONE}"),
    "no statistics": (lambda: chain(track_running_stats=False), "1 cannot be folded: it keeps no running statistics"),
    "shared values": (lambda: share_weights(chain(), 2), FIRST),
    "trains for a grid": (lambda: prepare_qat(chain(), 4), FIRST),
    "tied": (tied, FIRST),
    "another axis": (
        lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(7)),
        "1 cannot be folded: its channels are not the outputs of 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_folded_is_named(refuses, kind):
    how, said = REFUSED[kind]
    refuses(ValueError, said, fold_batchnorm, how())


def test_a_model_that_cannot_be_traced_is_named():
    said = (
        "model Branching cannot be traced by torch.fx, since its forward branches on values or sizes \\(TraceError\\)"
    )
    with pytest.raises(ValueError, match=said):
        fold_batchnorm(Branching())
    with pytest.raises(TypeError, match="model is a int; allowed: a torch.nn.Module"):
        fold_batchnorm(3)


def test_another_axis_than_the_channels_is_refused_when_it_arrives(refuses):
    """(n, 8 tokens, 6) → 8 features → BatchNorm1d(8): the tokens are normalized, not the features."""
    model = lively(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)), 8, 6)
    folded = fold_batchnorm(model)
    said = "a folded Linear got an input of shape (2, 8, 6); allowed: 2 dimensions"
    refuses(ValueError, f"{said}, because its BatchNorm was along dimension 1", folded, torch.randn(2, 8, 6))


def test_frozen_weights_stay_frozen():
    model = lively(chain(), 2, 8, 8)
    model[0].requires_grad_(False)
    folded = fold_batchnorm(model)
    assert [p.requires_grad for p in folded.parameters()] == [False, False, True, True]


def test_a_weight_that_an_old_hook_computes_is_named(refuses):
    model = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(1, 2, 1)), nn.BatchNorm2d(2)).eval()
    refuses(ValueError, FIRST, fold_batchnorm, model)


class Tied(nn.Module):
    """An autoencoder whose decoder uses the encoder's tensors a second time, without calling the encoder."""

    def __init__(self, again: str):
        super().__init__()
        self.enc, self.bn, self.again = nn.Linear(8, 4), nn.BatchNorm1d(4), again

    def forward(self, x):
        h = torch.relu(self.bn(self.enc(x)))
        return F.linear(h, self.enc.weight.t()) if self.again == "weight" else h + self.enc.bias


@pytest.mark.parametrize("make", [lambda net: net, lambda net: quantize(net, 4)], ids=["floats", "integers"])
@pytest.mark.parametrize("again", ["weight", "bias"])
def test_a_layer_whose_tensors_are_read_again_is_refused(make, again):
    net = make(Tied(again)).eval()
    with pytest.raises(ValueError, match="bn cannot be folded: the model also reads tensors of enc itself"):
        fold_batchnorm(net)
    assert folded_where_possible(net) is net


def test_the_new_bias_of_a_quantized_layer_trains_as_its_weight_did():
    net = nn.Sequential(nn.Linear(8, 4, bias=False), nn.BatchNorm1d(4)).eval()
    assert fold_batchnorm(quantize(net, 4))[0].bias.requires_grad
    net.requires_grad_(False)
    assert not fold_batchnorm(quantize(net, 4))[0].bias.requires_grad
