"""Sensitivity scans: one part changed and no other, scored and paired with the whole network; kinds of weights."""

import functools

import pytest
from torch import nn

from labkit import models
from labkit.compress import _weights
from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.measure import accuracy, accuracy_vs, compare, kinds, sensitivity
from labkit.train import correct_mask

CHANGES = {"half": functools.partial(prune, sparsity=0.5), "1 bit": functools.partial(quantize, bits=1)}


def test_a_row_is_what_accuracy_and_compare_say_of_the_same_change(trained, digits):
    table = sensitivity(trained, digits.validation, CHANGES)
    names = list(_weights.weights(trained))
    assert list(zip(table["part"], table["change"], strict=True)) == [(n, c) for n in names for c in CHANGES]
    for row in table.to_dict("records"):
        small = CHANGES[row["change"]](trained, layers=[row["part"]])
        told = accuracy(small, digits.validation) | compare(trained, small, digits.validation)
        assert {k: row[k] for k in told} == told
        assert row["weights"] == _weights.weights(trained)[row["part"]].numel()
    assert table["lost"].max() > 10


def test_a_part_of_several_layers_is_changed_at_once_and_nothing_else(trained, digits):
    seen = []

    def change(model, layers):
        seen.append(layers)
        return model

    names = list(_weights.weights(trained))
    table = sensitivity(trained, digits.validation, {"none": change}, {"both": names[:2], "last": names[-1:]})
    assert seen == [names[:2], names[-1:]]
    assert table["part"].tolist() == ["both", "last"]
    assert (table["lost"] + table["won"]).tolist() == [0, 0]
    assert table["weights"][0] == sum(_weights.weights(trained)[n].numel() for n in names[:2])


def test_a_scan_leaves_the_network_alone(trained, digits):
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    sensitivity(trained, digits.validation, CHANGES)
    assert all(v.equal(before[k]) for k, v in trained.state_dict().items())


def test_an_unknown_layer_is_refused(refuses, trained, digits):
    allowed = ", ".join(_weights.weights(trained))
    said = f"layers names 'fc9'; allowed: {allowed}"
    refuses(ValueError, said, sensitivity, trained, digits.validation, CHANGES, {"part": ["fc9"]})


def test_accuracy_vs_is_accuracy_and_compare(trained, digits):
    small, split = prune(trained, 0.9), digits.validation
    assert accuracy_vs(correct_mask(trained, split), small, split) == accuracy(small, split) | compare(
        trained, small, split
    )


# kinds


def counted(model):
    found = list(kinds(model).values())
    return {kind: found.count(kind) for kind in found}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet-300-100", {"linear": 2, "head": 1}),
        ("lenet-5", {"convolution": 2, "linear": 1, "head": 1}),
        ("resnet-20", {"convolution": 19, "head": 1}),
        ("mobilenet", {"convolution": 1, "pointwise": 10, "depthwise": 5, "head": 1}),
        ("vit", {"embedding": 1, "patches": 1, "attention": 16, "linear": 8, "head": 1}),
        ("char-transformer", {"embedding": 2, "attention": 12, "linear": 6, "head": 1}),
    ],
)
def test_kinds_of_the_shipped_architectures(name, expected):
    model = models.build(name)
    assert counted(model) == expected
    assert list(kinds(model)) == list(_weights.weights(model))


def test_kinds_of_a_network_from_elsewhere():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Embedding(10, 8)
            self.self_attn = nn.MultiheadAttention(8, 2)
            self.mix = nn.Conv1d(8, 8, 3, groups=2)
            self.head = nn.Linear(8, 3)

    assert list(kinds(Net()).values()) == ["embedding", "attention", "attention", "depthwise", "head"]


def test_a_quantized_network_has_the_kinds_it_had():
    model = models.build("vit")
    assert kinds(quantize(model, 4)) == kinds(model)
