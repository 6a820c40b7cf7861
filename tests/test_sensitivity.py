"""Sensitivity scans: one part changed and no other, scored and paired with the whole network; kinds of weights."""

import functools
import math

import pytest
import torch
from torch import nn

from labkit import models
from labkit.compress import _weights
from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.measure import accuracy, accuracy_vs, compare, difference, kinds, sensitivity, with_difference
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


# the interval of a difference


def test_a_difference_by_hand():
    d, low, high = difference(lost=30, won=10, images=1_000)
    # half an image more in each of four counts; twice over, so that they are whole: 61 times 1, 21 times -1, the rest 0
    values = torch.tensor([1.0] * 61 + [-1.0] * 21 + [0.0] * 1_922, dtype=torch.float64)
    centre, error = float(values.mean()), float(values.std(correction=0)) / math.sqrt(1_002)
    assert (d, low, high) == pytest.approx((0.02, centre - 1.959964 * error, centre + 1.959964 * error))


def test_a_difference_of_nothing_still_has_an_interval_and_none_leaves_its_range():
    d, low, high = difference(lost=0, won=0, images=1_000)
    assert d == 0
    assert low == -high < 0
    assert difference(lost=50, won=0, images=50)[2] == 1
    assert difference(lost=0, won=50, images=50)[1] == -1


def test_a_difference_in_the_cells_of_a_table():
    # by hand: (68 - 41) / 10,000 lost; δ = 27 / 10,002, spread 1.96 · √(110 - 10,002 δ²) / 10,002 = 0.00205
    cells = with_difference(dict(lost=68, won=41, p=0.012403), 10_000)
    assert cells == dict(lost=68, won=41, points_lost="+0.27 (+0.06 to +0.48)", p="0.012")
    assert with_difference(dict(lost=0, won=90, p=1e-27), 10_000)["p"] == "< 0.001"


def test_a_difference_covers_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    draws = torch.multinomial(torch.tensor([0.06, 0.03, 0.91]), 400 * 500, True, generator=generator).view(400, 500)
    covered = [
        low <= 0.03 <= high
        for row in draws
        for _, low, high in [difference(int((row == 0).sum()), int((row == 1).sum()), 500)]
    ]
    assert 0.91 < sum(covered) / len(covered) < 0.98


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((11, 0, 10), "lost is 11; allowed: a whole number from 0 to 10"),
        ((6, 5, 10), "won is 5; allowed: a whole number from 0 to 4"),
        ((1, 1, 10, 1.0), "confidence is 1.0; allowed: a number in (0, 1)"),
    ],
)
def test_a_difference_refuses(refuses, arguments, said):
    refuses(ValueError, said, difference, *arguments)


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
