import pytest
from torch import nn

import labkit as lk
from labkit.compress.integer import integer_only
from labkit.topics.ship_it import experiment
from labkit.topics.ship_it.panel import ShipIt

KEY = ("lenet-300-100", "mnist")


@pytest.fixture(scope="module")
def view():
    return ShipIt()


def first(view, **settings):
    return next(view.results(checkpoint=KEY, **settings))


def test_a_labkit_file_is_the_one_that_encode_writes(view):
    found = first(view, format="labkit, 4 bits")
    model, split = lk.load_model(*KEY), lk.load_data("mnist").validation
    small = lk.quantize(model, 4)
    assert view.file(found) == ("network.lk", lk.encode(small))
    assert found.chosen.correct == lk.accuracy(small, split)["correct"]
    lowest, median, highest = found.chosen.clock
    assert 0 < lowest <= median <= highest
    cards = {label: value for label, value, _ in view.cards(found)}
    assert cards["file"] == f"{len(lk.encode(small)):,} B"
    assert cards["accuracy"] == f"{found.chosen.correct / 5_000:.2%}"


@pytest.mark.slow
def test_an_onnx_file_is_scored_by_onnxruntime(view, tmp_path):
    name, raw = view.file(found := first(view, format="ONNX, weights 4 bits"))
    (tmp_path / name).write_bytes(raw)
    split = lk.load_data("mnist").validation
    outputs = lk.export.onnx_outputs(tmp_path / name, split.x)
    right = int((outputs.argmax(1) == split.y).sum())
    assert abs(found.chosen.correct - right) <= 2  # optimized kernels sum in another order
    assert any("DequantizeLinear" in line for line in view.first_lines(found.chosen))


def test_a_c_header_has_the_accuracy_of_the_integer_network(view):
    found = first(view, format="C, 4 bits")
    name, raw = view.file(found)
    assert name == "network.h"
    assert b"network_infer" in raw
    model, data = lk.load_model(*KEY), lk.load_data("mnist")
    whole = integer_only(experiment.rounded(model, data, 4, 8))
    assert found.chosen.correct == lk.accuracy(whole, data.validation)["correct"]
    assert found.chosen.size_bytes < len(raw)
    assert view.first_lines(found.chosen)[0].startswith("/*")


def test_what_a_format_refuses_is_told_in_words():
    found = next(ShipIt().results(checkpoint=("resnet-20", "cifar10"), format="C, 4 bits"))
    assert found.chosen.refused
    view = ShipIt()
    assert view.cards(found)[0][0] == "refused"
    with pytest.raises(ValueError, match="there is no file"):
        view.file(found)


def test_half_the_macs_are_really_gone():
    model, data = lk.load_model(*KEY), lk.load_data("mnist")
    small = experiment.half_the_macs(model, data)
    whole, left = (lk.measure(net, lk.data.take(data.validation, 50))["macs"] for net in (model, small))
    assert 0.25 * whole < left <= 0.5 * whole
    assert all(layer.weight.shape[0] % 8 == 0 for layer in [small.fc1, small.fc2])


def test_a_network_that_keeps_its_macs_is_refused():
    large, small = nn.Linear(784, 64), [nn.ReLU(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10)]
    net = nn.Sequential(nn.Flatten(), large, nn.LayerNorm(64), *small)  # whose normalization holds all 64 units
    with pytest.raises(ValueError, match=r"model Sequential keeps 50,\d+ of 50,472 MACs; allowed: half at most"):
        experiment.half_the_macs(net, lk.load_data("mnist"))
