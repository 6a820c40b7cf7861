"""The network of text goes through every routine as the networks of images do; its characters are never rounded."""

import functools

import pytest
import torch
from torch import nn

import labkit as lk
from labkit import store
from labkit.compress.grid import choose_grid, fake_quantize
from labkit.compress.quantize import quantize_inputs
from labkit.data import Data, take
from labkit.live import words as _words
from labkit.live.baseline import from_user
from labkit.losses import next_character
from labkit.measure import counts, macs, size_bytes
from labkit.topics.start_here.panel import Overview, flip_name


@pytest.fixture(scope="module")
def text():
    return lk.load_data("shakespeare")


@pytest.fixture(scope="module")
def few(text):
    return take(text.validation, 300)


@pytest.fixture(scope="module")
def model():
    return lk.load_model("char-transformer", "shakespeare")


ROUTES = {
    "pruned": functools.partial(lk.prune, sparsity=0.5),
    "4 bits": functools.partial(lk.quantize, bits=4),
    "3 bits a channel": functools.partial(lk.quantize, bits=3, granularity="channel"),
    "shared": functools.partial(lk.share_weights, bits=4),
    "pruned, 6 bits": lambda model: lk.quantize(lk.prune(model, 0.3), 6),
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_file_gives_back_every_weight_and_every_answer(model, few, tmp_path, route):
    small = ROUTES[route](model)
    lk.save(small, tmp_path / "small.lk")
    again = lk.load(tmp_path / "small.lk", into=lk.build("char-transformer"))
    store.check_equal(small, again)
    assert again(few.x).equal(small(few.x))
    assert lk.ledger(small)["bytes"].sum() == size_bytes(small) == (tmp_path / "small.lk").stat().st_size
    assert lk.accuracy(again, few) == lk.accuracy(small, few)


def test_characters_are_never_rounded_and_what_enters_a_linear_layer_is(model, few):
    small = quantize_inputs(model, 4, calibration=few)
    rounded = {name for name, part in small.named_modules() if hasattr(part, "input_quantizer")}
    assert rounded == {name for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    entered = []
    model.fc.register_forward_pre_hook(lambda layer, inputs: entered.append(inputs[0]))
    with torch.inference_mode():
        model(few.x)
        only = quantize_inputs(model, 4, calibration=few, layers=["characters", "position", "fc"])
        grid = choose_grid(entered[0], 4, symmetric=False)
        assert torch.allclose(only(few.x), model.fc(fake_quantize(entered[0], grid))[:, -1], atol=1e-4)
    model.fc._forward_pre_hooks.clear()


def test_rounded_activations_travel_through_the_file(model, few):
    small = lk.quantize(model, 6, activation_bits=6, calibration=few)
    assert lk.decode(lk.encode(small), into=model)(few.x).equal(small(few.x))


def test_an_embedding_is_a_weight_like_any_other(model):
    small = lk.prune(model, 0.5, scope="layer")
    assert (small.characters.weight == 0).float().mean() == pytest.approx(0.5, abs=1e-3)
    assert (small.position == 0).float().mean() == pytest.approx(0.5, abs=1e-3)
    assert lk.quantize(model, 2).characters.weight.unique().numel() <= 4


def test_costs_are_those_of_every_position_written_out(model, few):
    tokens, linear = 48, sum(w.numel() for k, w in model.named_parameters() if w.ndim == 2 and "." in k) - 65 * 80
    attention = 3 * 2 * tokens * tokens * 80  # three layers, queries by keys and shares by values
    assert macs(model, few.x[0]) == tokens * linear + attention
    row = lk.measure(model, few)
    assert (row["parameters"], row["images"], row["macs"]) == (170_705, 300, macs(model, few.x[0]))
    assert counts(lk.prune(model, 0.5))["sparsity"] == pytest.approx(0.5, abs=1e-4)


def test_a_scan_changes_one_layer_at_a_time(model, few):
    layers = {"embedding": ["characters"], "head": ["fc"]}
    table = lk.sensitivity(model, take(few, 100), {"2 bits": functools.partial(lk.quantize, bits=2)}, layers)
    assert table[["part", "kind", "weights"]].to_dict("split")["data"] == [
        ["embedding", "embedding", 65 * 80],
        ["head", "head", 65 * 80],
    ]


@pytest.mark.parametrize("how", ["fine-tuned", "QAT", "distilled"])
def test_what_was_squeezed_learns_again(model, text, how):
    thin, train = lk.prune(model, 0.5), take(text.train, 640)
    before = next_character(thin, train.x, train.y)
    settings = dict(epochs=1, lr=1e-3, batch_size=64, progress=False)
    if how == "distilled":
        better, _ = lk.distill(thin, train, teacher=model, after_step=lk.KeepZeros(thin), **settings)
    elif how == "QAT":
        better = lk.finish_qat(lk.fit(lk.prepare_qat(thin, 8), train, loss=next_character, **settings)[0])
    else:
        better, history = lk.fit(thin, train, loss=next_character, after_step=lk.KeepZeros(thin), **settings)
        assert history["train_accuracy"].between(0.2, 0.7).all()
    assert next_character(better, train.x, train.y) < before
    assert counts(better)["sparsity"] >= counts(thin)["sparsity"]


# panels


def test_the_overview_tells_a_flip_in_letters(model, text):
    data = Data("shakespeare", text.train, take(text.validation, 60), text.test, text.classes, text.mean, text.std)
    *_, point = Overview(from_user(model, data)).results(sparsity=0.9, bits=2)
    lost, _ = _words.flips_of(point.dense.score, point.score, data.validation.y)
    *context, truth = [text.classes[i] for i in (*data.validation.x[lost[0], -8:], data.validation.y[lost[0]])]
    taken = text.classes[lk.quantize(lk.prune(model, 0.9), 2)(data.validation.x[lost[:1]]).argmax()]
    told = ("".join(context) + "|" + f"{truth} → {taken}").replace("\n", "↵").replace(" ", "␣").replace("␣→␣", " → ")
    assert flip_name(point, lost[0]) == told.replace("|", "\n")
    assert _words.pictures(data, lost).min() == 1


def test_the_panel_of_distillation_refuses_text(refuses, model, text):
    said = "data is text; allowed: images, which the student reads as numbers"
    refuses(ValueError, said, lk.explore.distillation, model, text)
