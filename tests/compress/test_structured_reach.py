"""How far structured pruning reaches: networks of many families, and every operation of the table in docs/."""

# ruff: noqa: E501 - one network, or one operation, is read as one line

import copy
import functools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torch_pruning
from torch import nn
from torch.nn.utils import spectral_norm

from labkit.compress import _weights
from labkit.compress.structured import held, prune_channels
from tests.compress.architectures import NETWORKS, build

OUTPUTS, PAGE = (
    "they are outputs of the network, its logits",
    Path(__file__).parents[2] / "docs" / "structured_pruning.md",
)


def run(model, example):
    with torch.no_grad():
        return list(leaves(model(*example) if isinstance(example, tuple) else model(example)))


def leaves(value):
    if isinstance(value, torch.Tensor):
        yield value
    else:
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)


def columns_lost(weight, smaller, axis):
    """Which columns `smaller` lacks, found by looking its numbers up in `weight`: all of them are different."""
    places = {value: i for i, column in enumerate(weight.movedim(axis, 0)) for value in column.flatten().tolist()}
    kept = {places[value] for value in smaller.flatten().tolist()}
    assert len(kept) == smaller.shape[axis]
    return [i for i in range(weight.shape[axis]) if i not in kept]


def masked(model, small):
    """The whole model with zeros in the columns that readers in `small` lack: they hear 0 from the units that left."""
    model = _weights.plain(model)
    for name, layer in model.named_modules():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            axis = 0 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 1
            smaller = small.get_submodule(name).weight
            if smaller.shape[axis] < weight.shape[axis]:
                weight.data.index_fill_(axis, torch.tensor(columns_lost(weight, smaller, axis)), 0)
    return model


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@functools.cache
def tried(name, sparsity):
    """("works", …) or ("refused", the message)."""
    model, example = build(name)
    before = copy.deepcopy(model.state_dict())
    try:
        small = prune_channels(model, sparsity, example=example, scope="layer")
    except ValueError as error:
        return "refused", str(error)
    found, expected = run(small, example), run(masked(model, small), example)
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())
    assert type(small) is type(model)
    assert parameters(small) < parameters(model)
    assert [v.shape for v in found] == [v.shape for v in expected]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    whole = run(model, example)
    assert not all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, whole, strict=True))
    return "works", ""


REFUSED = {
    "GRU": "model Lambda has no unit to prune in parts.0: they reach gru in parts.0, which is not followed; "
    f"parts.1: {OUTPUTS}",
    "data-dependent branch": "1 (Branch) reads a value that depends on the input (__bool__); allowed: a forward that "
    "takes the same path for every input",
    "one linear layer": f"model Linear has no unit to prune in weight: {OUTPUTS}",
    "normalized embedding": "model Lambda has no unit to prune in parts.0: they reach normalize, which mixes "
    f"them with one another; parts.1: {OUTPUTS}",
    "divides by the root of its width": "model Lambda has no unit to prune in parts.0: without some of them the "
    f"network computes something else than with zeros in their place; parts.1: {OUTPUTS}",
}


@pytest.mark.parametrize("sparsity", [0.5, 0.3])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_what_the_masked_one_computes_or_is_refused_by_layer_and_cause(name, sparsity):
    assert tried(name, sparsity) == (("refused", REFUSED[name]) if name in REFUSED else ("works", ""))


def test_at_least_fifty_of_them_work():
    assert len(NETWORKS) - len(REFUSED) >= 50
    assert set(REFUSED) < set(NETWORKS)


HELD = {
    "tutorial CNN with a view of a fixed size": {
        "conv2": "without some of them the network does not run: mat1 and mat2 shapes cannot be multiplied "
        "(1x64 and 32x20)",
        "fc3": "they reach log_softmax, which mixes them with one another",
    },
    "ConvNeXt": {
        "0": "they reach layer_norm in 1.norm, which mixes them with one another",
        "1.pwconv2": "they reach layer_norm in 1.norm, which mixes them with one another",
        "2.pwconv2": "they reach layer_norm in 1.norm, which mixes them with one another",
        "3.2": OUTPUTS,
    },
    "LSTM with a head": {"rnn": "they reach lstm in rnn, which is not followed", "fc2": OUTPUTS},
    "CRNN": {
        "cnn.2.0": "they reach lstm in rnn, which is not followed",
        "rnn": "they reach lstm in rnn, which is not followed",
        "out": OUTPUTS,
    },
    "GPT": {
        "wte": "they reach embedding in wte, where wte.weight and head.weight are one tensor",
        "wpe": "add joins them with values of fixed width",
        "blocks.0.attn.qkv": "they reach matmul in blocks.0.attn, which sums over them",
        "blocks.0.attn.proj": "add in blocks.0 joins them with values of fixed width",
        "blocks.0.mlp.3": "add in blocks.0 joins them with values of fixed width",
    },
    "nn.MultiheadAttention": {
        "0": "they reach multi_head_attention_forward in 1.parts.0, which is not followed",
        "1.parts.0": "they reach multi_head_attention_forward in 1.parts.0, which is not followed",
        "1.parts.0.out_proj": "they reach multi_head_attention_forward in 1.parts.0, which is not followed",
        "4": OUTPUTS,
    },
    "ResNeXt": {"3.2": OUTPUTS},
}


@pytest.mark.parametrize("name", HELD)
def test_what_is_held_is_named_with_its_cause(name):
    assert held(*build(name)) == HELD[name]


@pytest.mark.parametrize(
    ("name", "ignored"),
    [("VGG", "11.0"), ("ResNet, basic blocks", "4.2"), ("MobileNet v1", "3.2"), ("UNet", "out"), ("DenseNet", "6.2"),
     ("GoogLeNet", "5.2"), ("ConvMixer", "5.2"), ("ResNeXt", "3.2")],
)  # fmt: skip
def test_layers_end_as_narrow_as_those_of_torch_pruning(name, ignored):
    """Half of everything in both: the shapes of all tensors agree."""
    model, example = build(name)
    logits = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    other, example = copy.deepcopy(model), example
    names = {layer: key for key, layer in model.named_modules()}
    last = other.get_submodule(names[logits])
    torch_pruning.pruner.MagnitudePruner(
        other, example, torch_pruning.importance.MagnitudeImportance(p=1), pruning_ratio=0.5, ignored_layers=[last]
    ).step()
    small = prune_channels(model, 0.5, example=example, scope="layer")
    assert {k: v.shape for k, v in small.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}


# every operation by itself


class Probe(nn.Module):
    """A convolution whose 8 channels reach an operation, and a layer that reads what comes out."""

    def __init__(self, operation, reader=None):
        super().__init__()
        self.made, self.operation = nn.Conv2d(3, 8, 3, padding=1), operation
        example = operation(self.made(IMAGES))
        lazy = {1: nn.LazyLinear, 2: nn.LazyLinear, 3: nn.LazyConv1d, 4: nn.LazyConv2d, 5: nn.LazyConv3d}
        kind = reader or lazy[example.ndim]
        self.read = kind(4) if kind is nn.LazyLinear else kind(4, 1)
        self.read(example)

    def forward(self, x):
        return self.read(self.operation(self.made(x)))


class Turn(nn.Module):
    """Tokens × channels for channels × tokens."""

    def forward(self, x):
        return x.transpose(1, 2)


class Up(nn.Module):
    def forward(self, x):
        return F.interpolate(x, size=x.shape[-1] + 1, mode="bilinear")


IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LINEAR = nn.LazyLinear
CONSTANT = torch.rand(8, 1, 1, generator=torch.Generator().manual_seed(0))
LSTM, GRU = nn.LSTM(8, 6, batch_first=True), nn.GRU(8, 6, batch_first=True)
ATTENTION = nn.MultiheadAttention(8, 2, batch_first=True)


def scaled(x):
    return x / x.shape[1] ** 0.5


def attended(x, heads):
    t = x.flatten(2).transpose(1, 2).unflatten(-1, heads).transpose(1, 2)
    return F.scaled_dot_product_attention(t, t, t).transpose(1, 2).flatten(2)


# what it is, the operation on 8 channels along dimension 1, and the layer that reads its result if not a convolution
OPERATIONS = {
    "Activations, and what else works on each number by itself": {
        **{
            name: getattr(F, name)
            for name in [
                "relu",
                "relu6",
                "leaky_relu",
                "elu",
                "celu",
                "selu",
                "gelu",
                "silu",
                "mish",
                "hardswish",
                "hardsigmoid",
                "hardtanh",
                "softplus",
                "softsign",
                "tanhshrink",
                "softshrink",
                "hardshrink",
                "logsigmoid",
                "rrelu",
            ]
        },
        **{name: getattr(torch, name) for name in ["sigmoid", "tanh", "abs", "neg", "exp", "square", "floor", "round"]},
        "Dropout, Dropout2d, AlphaDropout": nn.Sequential(nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout()),
        "prelu, one slope": nn.PReLU(),
        "prelu, one for each channel": nn.PReLU(8),
        "+ - * / ** with numbers": lambda x: (2 * x + 1 - x / 3) ** 2,
        "x * x.sigmoid()": lambda x: x * x.sigmoid(),
        "clamp": lambda x: x.clamp(-1, 1),
        "where": lambda x: torch.where(x > 0, x, 0.1 * x),
        "masked_fill": lambda x: x.masked_fill(x < 0, 0.0),
        "maximum": lambda x: torch.maximum(x, -x),
        "float, double, to": lambda x: x.double().float().to(torch.float32),
        "clone, contiguous": lambda x: x.clone().contiguous(),
        "zeros_like": lambda x: x + torch.zeros_like(x),
        "* a constant for each channel": lambda x: x * CONSTANT,
    },
    "Normalization": {
        "BatchNorm2d": nn.BatchNorm2d(8).eval(),
        "InstanceNorm2d": nn.InstanceNorm2d(8, affine=True),
        "GroupNorm, 4 groups": nn.GroupNorm(4, 8),
        "GroupNorm, 1 group": nn.GroupNorm(1, 8),
        "LayerNorm over pixels": nn.LayerNorm(6),
        "LayerNorm over channels": (nn.Sequential(nn.Flatten(2), Turn(), nn.LayerNorm(8)), LINEAR),
        "RMSNorm over channels": (nn.Sequential(nn.Flatten(2), Turn(), nn.RMSNorm(8)), LINEAR),
        "BatchNorm1d over tokens": (nn.Sequential(nn.Flatten(2), Turn(), nn.BatchNorm1d(36).eval()), LINEAR),
        "local_response_norm": nn.LocalResponseNorm(3),
        "normalize over channels": F.normalize,
    },
    "Layers": {
        "Conv2d, 1 group": nn.Conv2d(8, 6, 3),
        "Conv2d, 2 groups": nn.Conv2d(8, 8, 1, groups=2),
        "Conv2d, depthwise": nn.Conv2d(8, 8, 3, groups=8),
        "Conv2d, depthwise, two filters each": nn.Conv2d(8, 16, 3, groups=8),
        "ConvTranspose2d": nn.ConvTranspose2d(8, 6, 2, 2),
        "ConvTranspose2d, 2 groups": nn.ConvTranspose2d(8, 8, 1, groups=2),
        "ConvTranspose2d, depthwise": nn.ConvTranspose2d(8, 8, 2, groups=8),
        "Linear over channels": (nn.Sequential(nn.Flatten(2), Turn(), nn.Linear(8, 6)), LINEAR),
        "Linear over pixels": nn.Linear(6, 5),
        "Conv1d over pixels": (nn.Sequential(nn.Flatten(2), Turn(), nn.Conv1d(36, 5, 3)), LINEAR),
        "spectral_norm of old": spectral_norm(nn.Conv2d(8, 6, 1)).eval(),
        "LSTM": (lambda x: LSTM(x.flatten(2).mT)[0], LINEAR),
        "GRU": (lambda x: GRU(x.flatten(2).mT)[0], LINEAR),
        "MultiheadAttention": (lambda x: ATTENTION(*3 * [x.flatten(2).mT])[0], LINEAR),
    },
    "Pooling and resizing": {
        "max_pool2d, avg_pool2d": nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2)),
        "adaptive_avg_pool2d, adaptive_max_pool2d": nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.AdaptiveAvgPool2d(1)),
        "max_pool3d": lambda x: F.max_pool3d(x.unsqueeze(2), (1, 2, 2)),
        "max_pool2d with indices, max_unpool2d": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
        "avg_pool1d over channels": (lambda x: F.avg_pool1d(x.flatten(2).mT, 2), LINEAR),
        "interpolate, Upsample": nn.Sequential(nn.Upsample(scale_factor=2), Up()),
        "grid_sample": lambda x: F.grid_sample(x, torch.zeros(2, 3, 3, 2), align_corners=False),
        "pad, of pixels": nn.Sequential(
            nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.CircularPad2d(1)
        ),
        "pad, zeros beside channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)),
        "pad, ones beside channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 1), value=1.0),
        "local windows (unfold)": (lambda x: F.unfold(x, 2), None),
    },
    "Shapes": {
        "flatten, view(n, -1), reshape(n, -1)": lambda x: x.flatten(1).view(len(x), -1).reshape(len(x), -1),
        "view of a fixed size": lambda x: x.view(-1, 288),
        "permute, movedim, transpose": lambda x: x.permute(0, 2, 3, 1).movedim(-1, 1).transpose(2, 3),
        "squeeze, unsqueeze": lambda x: x.unsqueeze(1).squeeze(1),
        "expand, repeat": lambda x: x[:, :, :1].expand(-1, -1, 3, -1).repeat(1, 2, 1, 1),
        "unflatten(1, (2, -1)) and back": lambda x: x.unflatten(1, (2, -1)).flatten(1, 2),
        "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
        "pixel_shuffle, pixel_unshuffle": nn.Sequential(nn.PixelShuffle(2), nn.PixelUnshuffle(2)),
        "flip": lambda x: x.flip(1),
        "roll of channels": lambda x: x.roll(1, 1),
        "roll of pixels": lambda x: x.roll(1, 2),
        "cat of channels": lambda x: torch.cat([x, -x], 1),
        "cat of pixels": lambda x: torch.cat([x, -x], 2),
        "stack": lambda x: torch.stack([x, -x], 1).sum(1),
    },
    "Pieces": {
        "chunk, in halves": lambda x: torch.mul(*x.chunk(2, 1)),
        "split, in halves": lambda x: torch.cat(x.split(x.shape[1] // 2, 1), 1),
        "split, of a fixed size": lambda x: torch.mul(*x.split(4, 1)),
        "split, 1 to 3": lambda x: torch.cat(x.split([x.shape[1] // 4, 3 * x.shape[1] // 4], 1), 1),
        "glu": lambda x: F.glu(x, 1),
        "slice of pixels": lambda x: x[:, :, ::2, 1:],
        "slice, first half": lambda x: x[:, : x.shape[1] // 2],
        "slice of a fixed size": lambda x: x[:, :2],
        "every other channel": lambda x: x[:, ::2],
        "one channel": lambda x: x[:, :1] * x[:, 0:1],
        "unbind": lambda x: torch.stack(x.unbind(1), 1),
        "index_select": lambda x: x.index_select(1, torch.tensor([0, 3])),
    },
    "Sums and products": {
        "mean, sum, amax, std over pixels": lambda x: x.mean((2, 3)) + x.sum((2, 3)) + x.amax((2, 3)) + x.std((2, 3)),
        "max over pixels": lambda x: x.max(2).values,
        "softmax over pixels": lambda x: x.softmax(-1),
        "softmax over channels": lambda x: x.softmax(1),
        "mean over channels": (lambda x: x.mean(1), LINEAR),
        "sum over channels": (lambda x: x.sum(1), LINEAR),
        "max over channels": (lambda x: x.max(1).values, LINEAR),
        "divided by the root of the width": scaled,
        "cumsum over channels": lambda x: x.cumsum(1),
        "matmul, summed over channels": (lambda x: x.flatten(2).mT @ x.flatten(2), LINEAR),
        "matmul, summed over pixels": (lambda x: x.flatten(2) @ torch.ones(36, 5), nn.LazyConv1d),
        "attention, whole heads leave": (lambda x: attended(x, (-1, 2)), LINEAR),
        "attention, heads get narrower": (lambda x: attended(x, (4, -1)), LINEAR),
        "einsum": (lambda x: torch.einsum("nchw,nchw->nhw", x, x), LINEAR),
    },
    "Values read by Python": {
        "if x.sum() > 0": lambda x: x if x.sum() > 0 else -x,
        "x.max().item()": lambda x: x / x.max().item(),
        "for loops over a size": lambda x: sum(x[:, :, i] for i in range(x.shape[2])),
        "numpy": lambda x: x + float(x.numpy().max()),
    },
}


def outcome(operation, reader=None):
    """What `held` says of the channels; what is followed is compared with the masked network too."""
    torch.manual_seed(0)
    with torch.no_grad():
        model = Probe(operation, reader).eval()
    try:
        cause = held(model, IMAGES, ["made"]).get("made")
    except ValueError as error:
        return f"refused: {error}"
    if cause:
        return f"held: {cause}"
    small = prune_channels(model, 0.5, example=IMAGES, layers=["made"])
    assert small.made.out_channels < 8
    torch.testing.assert_close(run(small, IMAGES), run(masked(model, small), IMAGES), atol=1e-5, rtol=1e-5)
    return "followed"


def page():
    """The text of docs/structured_pruning.md."""
    head = PAGE.read_text().partition("<!-- made by a test -->")[0] if PAGE.exists() else ""
    lines = [head + "<!-- made by a test -->"]
    for title, operations in OPERATIONS.items():
        lines += ["", f"## {title}", "", "| operation | the channels that reach it are |", "|---|---|"]
        for name, operation in operations.items():
            said = outcome(*(operation if isinstance(operation, tuple) else (operation,)))
            lines.append(f"| {name.replace('|', ',')} | {said} |")
    return "\n".join(lines) + "\n"


def test_the_page_in_docs_says_what_becomes_of_every_operation():
    """To write it anew: python -c "from tests.compress.test_structured_reach import *; PAGE.write_text(page())"."""
    assert PAGE.read_text() == page()
