"""Measures: accuracies and costs against slow, independent computations and figures worked out by hand."""

import copy
import importlib
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from labkit import store
from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.data import Split
from labkit.measure import (
    accuracy,
    accuracy_when_smaller,
    compare,
    counts,
    latency_ms,
    macs,
    measure,
    sensitivity,
    size_bytes,
)
from labkit.models import build, mlp
from labkit.significance import mcnemar, wilson
from tests.unlabelled import unlabelled


class Table(nn.Module):
    """A classifier that gives image i, whose one pixel is i, the class that its list says."""

    def __init__(self, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(int(max(classes)) + 1)[classes])

    def forward(self, x):
        return self.weight[x.flatten().long()]


def images(truth):
    return Split(torch.arange(len(truth)).float().view(-1, 1, 1, 1), torch.tensor(truth))


# accuracy


def test_accuracy_by_hand():
    measured = accuracy(Table([2, 0, 1, 1]), images([2, 0, 1, 0]))
    low, high = wilson(3, 4)
    assert measured == dict(accuracy=0.75, accuracy_low=low, accuracy_high=high, correct=3, images=4)


def test_accuracy_counts_every_image_of_a_split_longer_than_a_batch():
    truth = torch.randint(0, 7, (2_345,), generator=torch.Generator().manual_seed(0)).tolist()
    given = [t if i % 5 else (t + 1) % 7 for i, t in enumerate(truth)]
    assert accuracy(Table([6, *given[1:]]), images([6, *truth[1:]]))["correct"] == 2_345 - 469 + 1


def test_accuracy_is_measured_in_evaluation_mode(trained, digits):
    model = nn.Sequential(nn.Dropout(0.9), trained).train()
    assert accuracy(model, digits.test) == accuracy(trained, digits.test)
    assert model.training
    assert model[0].training


@pytest.mark.parametrize("ask", [accuracy, measure, lambda model, split: compare(mlp(64, 10), model, split)])
def test_a_network_of_one_logit_is_refused(ask, digits, refuses):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    said = "model Sequential returns the shape (250, 1); allowed: logits (250, classes) of two classes or more"
    refuses(ValueError, said, ask, model, digits.validation)


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel])
def test_a_wrapped_network_is_measured_like_the_one_inside(wrap, trained, digits):
    ours, expected = (measure(m, digits.validation) for m in (wrap(trained), trained))
    assert {k: v for k, v in ours.items() if k != "latency_ms"} == {
        k: v for k, v in expected.items() if k != "latency_ms"
    }
    assert sensitivity(wrap(trained), digits.validation, {"half": partial(prune, sparsity=0.5)}).equals(
        sensitivity(trained, digits.validation, {"half": partial(prune, sparsity=0.5)})
    )


def test_compare_counts_the_images_on_which_two_models_differ():
    truth = [0, 1, 2, 0, 1, 2, 0]
    before, after = Table([0, 1, 2, 0, 2, 2, 1]), Table([0, 2, 1, 1, 1, 2, 2])
    compared = compare(before, after, images(truth))
    assert compared == dict(lost=3, won=1, p=mcnemar(3, 1))
    assert compare(after, before, images(truth)) == dict(lost=1, won=3, p=mcnemar(3, 1))


# costs


HAND = {
    "lenet-300-100": 784 * 300 + 300 * 100 + 100 * 10,
    "lenet-5": 20 * 24 * 24 * 25 + 50 * 8 * 8 * 20 * 25 + 800 * 500 + 500 * 10,
}


@pytest.mark.parametrize("name", HAND)
def test_macs_of_the_lenets_by_hand(name):
    assert HAND == {"lenet-300-100": 266_200, "lenet-5": 2_293_000}
    assert macs(build(name), torch.zeros(1, 28, 28)) == HAND[name]


LAYERS = {
    "grouped": (nn.Conv2d(6, 12, 3, groups=3, padding=1), (6, 5, 7), 12 * 5 * 7 * 2 * 9),
    "depthwise, strided": (nn.Conv2d(8, 8, 3, groups=8, stride=2), (8, 9, 9), 8 * 4 * 4 * 9),
    "one-dimensional": (nn.Conv1d(2, 6, 3), (2, 9), 6 * 7 * 2 * 3),
    "linear over tokens": (nn.Linear(8, 3), (5, 8), 5 * 8 * 3),
    "no product": (nn.ReLU(), (4,), 0),
    # in 24 × 8, q kᵀ and its product with v, out 8 × 8, feed-forward to 16 and back
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), 5 * 192 + 2 * 200 + 5 * 64 + 10 * 128),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_macs_of_a_layer_by_hand(kind, training):
    layer, shape, expected = LAYERS[kind]
    layer.train(training)
    assert macs(layer, torch.zeros(shape)) == expected
    assert layer.training == training
    assert torch.backends.mha.get_fastpath_enabled()


class Last(nn.Module):
    """A recurrent layer over (n, steps, 8), then a linear one on its last step."""

    def __init__(self, layer, width):
        super().__init__()
        self.layer, self.fc = layer, nn.Linear(width, 4)

    def forward(self, x):
        return self.fc(self.layer(x)[0][:, -1])


RECURRENT = {
    "LSTM": (nn.LSTM(8, 16, batch_first=True), 16, 5 * 4 * 16 * (8 + 16)),
    "two layers, both ways": (
        nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True), 32, 5 * 2 * 4 * 16 * (8 + 16 + 32 + 16)
    ),
    "projected": (nn.LSTM(8, 16, batch_first=True, proj_size=3), 3, 5 * (4 * 16 * (8 + 3) + 3 * 16)),
    "GRU": (nn.GRU(8, 16, batch_first=True), 16, 5 * 3 * 16 * (8 + 16)),
    "RNN": (nn.RNN(8, 16, batch_first=True), 16, 5 * 16 * (8 + 16)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("kind", RECURRENT)
def test_macs_of_recurrent_layers_by_hand(kind):
    layer, width, expected = RECURRENT[kind]
    assert RECURRENT["LSTM"][2] + 16 * 4 == 7_744
    assert macs(Last(layer, width), torch.zeros(5, 8)) == expected + width * 4


class Pair(nn.Module):
    """A bilinear layer, or what its formula says, of the first 3 and the last 4 numbers of x."""

    def __init__(self, written_out):
        super().__init__()
        self.layer, self.written_out = nn.Bilinear(3, 4, 5), written_out

    def forward(self, x):
        first, second = x[:, :3], x[:, 3:]
        if self.written_out:
            return torch.einsum("ni,oij,nj->no", first, self.layer.weight, second) + self.layer.bias
        return self.layer(first, second)


def test_macs_of_a_bilinear_layer_are_those_of_its_formula():
    one, other = Pair(True), Pair(False)
    other.load_state_dict(one.state_dict())
    x = torch.rand(1, 7)
    assert torch.allclose(one(x), other(x), atol=1e-6)
    assert macs(one, x[0]) == macs(other, x[0]) == 5 * 3 * 4 + 5 * 4


def test_macs_of_one_image_without_a_batch_axis():
    model = nn.Sequential(nn.Flatten(0), nn.Linear(6, 3))
    assert macs(model, torch.zeros(6)) == 18


def test_looking_up_costs_nothing():
    model = nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.Linear(40, 3))
    assert macs(model, torch.zeros(5, dtype=torch.int64)) == 120


class Prototypes(nn.Module):
    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.rand(6, 4))

    def forward(self, x):
        return torch.cdist(x, self.places)


def test_a_layer_whose_macs_are_not_known_is_named(refuses):
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Prototypes()))
    said = "layer '1.0' multiplies by aten._cdist_forward.default; allowed: operations whose MACs are known"
    refuses(ValueError, said, macs, model, torch.zeros(4))


@pytest.mark.filterwarnings("ignore")  # torch calls its own quantization deprecated
def test_a_layer_that_torch_has_quantized_is_named(refuses):
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), {nn.Linear})
    said = "layer '1' multiplies by quantized.linear_dynamic.default; allowed: operations whose MACs are known"
    refuses(ValueError, said, macs, model, torch.zeros(4))


class Query(nn.Module):
    """One learned query asks the rows of an image."""

    def __init__(self):
        super().__init__()
        self.query, self.fc = nn.Parameter(torch.rand(1, 1, 8)), nn.Linear(8, 10)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        x = x.flatten(1, 2)  # (n, 8 rows, 8)
        return self.fc(self.attention(self.query.expand(len(x), -1, -1), x, x)[0][:, 0])


def test_a_learned_query_is_measured(digits):
    record = measure(Query(), digits.validation)
    # q of one token, k and v of eight, q kᵀ and its product with v, out, the head
    assert record["macs"] == 64 + 2 * 8 * 64 + 2 * 8 * 8 + 64 + 80


def test_macs_leave_no_trace():
    class Keeps(nn.Linear):
        def forward(self, x):
            self.last = super().forward(x)
            return self.last

    model = Keeps(4, 3)
    assert macs(model, torch.zeros(4)) == 12
    assert not hasattr(model, "last")


def test_macs_of_the_residual_network_are_those_of_its_convolutions():
    sizes = {32: [(3, 16)] + [(16, 16)] * 6, 16: [(16, 32)] + [(32, 32)] * 5, 8: [(32, 64)] + [(64, 64)] * 5}
    expected = sum(9 * a * b * side * side for side, layers in sizes.items() for a, b in layers) + 640
    assert macs(build("resnet-20"), torch.zeros(3, 32, 32)) == expected


def test_zeros_and_integers_cost_as_many_macs_as_the_dense_network():
    image, x = torch.zeros(1, 28, 28), torch.rand(9, 1, 28, 28)
    for name, expected in HAND.items():
        model = build(name)
        assert macs(prune(model, 0.9), image) == expected
        assert macs(quantize(model, 4), image) == expected
        assert macs(quantize(model, 8, activation_bits=8, calibration=unlabelled(x)), image) == expected


def test_counts_of_a_lenet():
    model = build("lenet-300-100")
    assert counts(model) == dict(parameters=266_610, nonzeros=266_610, sparsity=0)
    pruned = counts(prune(model, 0.9))
    assert pruned == dict(parameters=266_610, nonzeros=26_620 + 410, sparsity=pytest.approx(0.9))
    assert counts(build("lenet-5"))["parameters"] == 431_080
    assert counts(build("resnet-20"))["parameters"] == 269_722


def test_counts_of_a_quantized_network_are_those_of_the_values_it_computes_with(trained):
    model = quantize(prune(trained, 0.5), 2)
    zeros = sum(int((model[i].weight == 0).sum()) for i in (1, 3))
    assert counts(model) == dict(parameters=2_410, nonzeros=2_410 - zeros, sparsity=zeros / 2_368)
    assert zeros > 1_184


def test_buffers_are_not_parameters():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    counted = counts(model)
    assert counted["parameters"] == 4 * 9 + 4 + 4 + 4
    assert counted["nonzeros"] == 4 * 9 + 4 + 4  # the shifts of a new BatchNorm are zero
    assert counts(nn.BatchNorm1d(4)) == dict(parameters=8, nonzeros=4, sparsity=0)


@pytest.mark.parametrize("squeeze", [lambda m: m, lambda m: quantize(prune(m, 0.8), 3)], ids=["dense", "small"])
def test_size_is_the_length_of_the_file_that_save_writes(trained, tmp_path, squeeze):
    model = squeeze(trained)
    assert size_bytes(model) == store.save(model, tmp_path / "model.lk").stat().st_size


class Recorder(nn.Module):
    """Notes in what mode, and on how many images, it is called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x):
        self.calls.append((self.training, torch.is_grad_enabled(), len(x)))
        return x


def test_latency_is_positive_and_leaves_the_mode_alone():
    model = nn.Sequential(Recorder(), nn.Dropout()).train()
    model[1].eval()
    assert latency_ms(model, torch.zeros(3, 1), repeats=5) > 0
    assert model[0].calls == [(False, False, 3)] * 7  # two passes to warm up
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_latency_is_a_median(monkeypatch):
    clock = iter([0, 9, 9, 18, *(t for i, ms in enumerate([5, 1, 100, 2, 4]) for t in (100 * i, 100 * i + ms / 1e3))])
    stopwatch = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr(importlib.import_module("labkit.measure"), "time", stopwatch)
    assert latency_ms(nn.Identity(), torch.zeros(1, 1), repeats=5) == pytest.approx(4)


def test_latency_refuses(refuses):
    said = "repeats is 0; allowed: a whole number from 1 to 100000"
    refuses(ValueError, said, latency_ms, nn.Identity(), torch.zeros(1), 0)


# the record


def test_measure_is_one_flat_record_of_numbers(trained, digits):
    record = measure(trained, digits.validation, latency_batch=16)
    assert list(record) == [
        *("accuracy", "accuracy_low", "accuracy_high", "correct", "images"),
        *("parameters", "nonzeros", "sparsity"),
        *("size_bytes", "macs", "latency_ms", "latency_batch", "threads"),
    ]
    assert all(type(v) in (int, float) and math.isfinite(v) for v in record.values())
    assert accuracy(trained, digits.validation).items() <= record.items()
    assert counts(trained).items() <= record.items()
    assert (record["size_bytes"], record["macs"]) == (size_bytes(trained), 64 * 32 + 32 * 10)
    assert (record["latency_batch"], record["threads"]) == (16, torch.get_num_threads())


def test_measure_refuses(refuses, trained, digits):
    refuses(TypeError, "model is a Data; allowed: a torch.nn.Module", measure, digits, digits.validation)
    said = "latency_batch is 301; allowed: a whole number from 1 to 300"
    refuses(ValueError, said, measure, trained, digits.validation, latency_batch=301)


def test_accuracy_when_smaller_is_that_of_the_pruned_and_the_rounded_network(trained, digits):
    found = accuracy_when_smaller(trained, digits.validation, sparsities=(0.5, 0.95), bits=(2,))
    small = {"accuracy_at_0.5": prune(trained, 0.5), "accuracy_at_0.95": prune(trained, 0.95)}
    small["accuracy_2_bits"] = quantize(trained, 2)
    assert found == {name: accuracy(model, digits.validation)["accuracy"] for name, model in small.items()}
    assert list(accuracy_when_smaller(trained, digits.validation)) == [
        "accuracy_at_0.8", "accuracy_at_0.9", "accuracy_4_bits", "accuracy_3_bits"
    ]  # fmt: skip


def test_a_network_that_diverged_has_no_accuracy_when_smaller(trained, digits):
    broken = copy.deepcopy(trained)
    broken[1].weight.data[0] = float("nan")
    assert all(math.isnan(value) for value in accuracy_when_smaller(broken, digits.validation).values())
