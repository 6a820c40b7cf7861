"""Every panel that accepts a user's own network: it works, or explains in one sentence why not."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from labkit import explore
from labkit.data import Data, Split
from labkit.live import words as _words
from labkit.live.baseline import from_user
from labkit.live.score import Score, scores
from labkit.topics.learning_rate import runs as learning_rate_runs
from labkit.topics.optimizers import race
from labkit.topics.regularization import runs as regularization_runs
from labkit.topics.start_here.panel import FLIPS, Overview

PANELS = (
    "architectures", "deep_compression", "distillation", "few_bits", "learning_rate", "order", "overview", "pruning",
    "quantization", "race", "regularization", "search", "sharing", "structured",
)  # fmt: skip
TRAINS = ("pruning", "sharing", "deep_compression")


class Head(nn.Module):
    """A hidden layer and a head; the output is `wrap` of the logits."""

    def __init__(self, wrap=lambda logits: logits):
        super().__init__()
        self.hidden, self.head, self.wrap = nn.Linear(64, 16), nn.Linear(16, 10), wrap

    def forward(self, x):
        return self.wrap(self.head(self.hidden(x.flatten(1)).relu()))


class Viewing(nn.Module):
    """A hard-coded view, as in the best-known tutorials: it cannot run on channels-last memory."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 10)

    def forward(self, x):
        return self.fc(self.conv(x).relu().view(-1, 4 * 36))


class Recurrent(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 10)

    def forward(self, x):
        return self.fc(self.lstm(x.squeeze(1))[0][:, -1])


def keep(module, inputs, output):
    module.last = output  # not a leaf of autograd's graph: copy.deepcopy refuses it


def keeping():
    model = Head()
    model.hidden.register_forward_hook(keep)
    model(torch.rand(2, 1, 8, 8))
    return model


def by_conv(conv, *rest):
    return nn.Sequential(conv, nn.ReLU(), *rest)


NETWORKS = {  # name -> (a network, the shape of an example)
    "volumes": (lambda: by_conv(nn.Conv3d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(1024, 10)), (1, 4, 8, 8)),
    "table": (lambda: by_conv(nn.Linear(12, 16), nn.Linear(16, 10)), (12,)),
    "signal": (
        lambda: by_conv(nn.Conv1d(2, 6, 5), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(24, 10)),
        (2, 32),
    ),
    "view": (Viewing, (1, 8, 8)),
    "LSTM": (Recurrent, (1, 8, 8)),
    "logits in a dict": (lambda: Head(lambda logits: {"logits": logits}), (1, 8, 8)),
    "logits in an object": (lambda: Head(lambda logits: SimpleNamespace(logits=logits)), (1, 8, 8)),
    "keeps its activations": (keeping, (1, 8, 8)),
    "wrapped": (lambda: nn.DataParallel(Head()), (1, 8, 8)),
}
SHAPED = ("volumes", "table", "signal", "view", "logits in a dict")  # those that every panel must bear
LOGITS = "allowed: a tensor of logits, or a dict or an object that names one logits"
REFUSED = {
    "regression": (
        lambda: by_conv(nn.Flatten(), nn.Linear(64, 1)), ValueError,
        "model Sequential returns the shape (2, 1); allowed: logits (2, classes) of two classes or more",
    ),
    "a tuple": (lambda: Head(lambda z: (z, z)), TypeError, f"model Head returns a tuple; {LOGITS}"),
    "other examples": (
        lambda: by_conv(nn.Flatten(), nn.Linear(63, 10)), ValueError,
        "x has the shape (2, 1, 8, 8) and the dtype torch.float32; model Sequential does not run on that: mat1 and "
        "mat2 shapes cannot be multiplied (2x64 and 63x10)",
    ),
    "more classes": (
        lambda: by_conv(nn.Flatten(), nn.Linear(64, 12)), ValueError,
        "data.classes names 10 classes; allowed: 12, as many as Sequential tells apart",
    ),
    "fewer classes": (
        lambda: by_conv(nn.Flatten(), nn.Linear(64, 7)), ValueError,
        "y holds the label 9; allowed: 0 to 6, the classes of model Sequential",
    ),
}  # fmt: skip


def data_of(shape, n=600):
    y = torch.arange(n) % 10
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)) / 2 + y.view(-1, *[1] * len(shape)) / 20
    train, validation = Split(x[: n // 2], y[: n // 2]), Split(x[n // 2 :], y[n // 2 :])
    return Data("made up", train, validation, validation, tuple("abcdefghij"), torch.zeros(1), torch.ones(1))


@pytest.fixture
def short(monkeypatch):
    """Trainings of a few steps: the tests only check that they run."""
    monkeypatch.setattr(regularization_runs, "STEPS", 10)
    monkeypatch.setattr(learning_rate_runs, "EPOCHS", 1)
    monkeypatch.setattr(race, "SIZES", {name: (40, 2) for name in race.SIZES})


def opened(panel, network):
    torch.manual_seed(0)
    build, shape = NETWORKS[network]
    return getattr(explore, panel)(build(), data_of(shape))


@pytest.mark.parametrize("network", SHAPED)
@pytest.mark.parametrize("panel", [panel for panel in PANELS if panel != "structured"])
def test_every_panel_opens_on_it(short, panel, network):
    live, image = opened(panel, network), len(NETWORKS[network][1]) == 3
    said = "no trials yet" if panel == "search" else f"scored on all 300 validation {'images' if image else 'examples'}"
    assert said in live.status


@pytest.mark.parametrize("network", [name for name in NETWORKS if name not in SHAPED])
@pytest.mark.parametrize("panel", ["overview", "pruning", "learning_rate"])
def test_the_others_are_scored_pruned_and_trained(short, panel, network):
    opening = opened(panel, network)
    assert not opening.status.startswith("⚠"), opening.status
    assert "scored on all 300 validation images" in opening.status


@pytest.mark.parametrize("network", ["volumes", "table", "signal", "view", "LSTM"])
@pytest.mark.parametrize("panel", TRAINS)
def test_the_button_trains_it(panel, network):
    opening, shown = opened(panel, network), []
    opening.view.train(opening.settings(), shown.append, lambda: False)
    assert shown[-1].score.images == 300


@pytest.mark.parametrize("panel", [*TRAINS, "structured", "order", "few_bits", "learning_rate", "race", "distillation"])
def test_a_data_set_smaller_than_a_batch_is_trained_on(short, panel):
    opening, shown = getattr(explore, panel)(Head(), data_of((1, 8, 8), n=100)), []
    fresh = type(opening.view)(opening.view.own)  # the panel's own has trained already, and shows that again
    fresh.train(opening.settings(), shown.append, lambda: False)
    assert shown
    assert "⚠" not in opening.status


def test_data_too_small_for_a_panel_are_refused(refuses):
    small = data_of((1, 8, 8), n=30)
    refuses(
        ValueError, "data.validation has 15 examples; allowed here: at least 20", explore.distillation, Head(), small
    )
    refuses(ValueError, "data.train has 15 examples; allowed here: at least 256", explore.search, Head(), small)


@pytest.mark.parametrize("network", NETWORKS)
def test_units_leave_or_one_sentence_says_why_not(network):
    try:
        said = opened("structured", network).status
    except (TypeError, ValueError) as error:
        said = str(error)  # which one, the tests of prune_channels say
    assert said
    assert "\n" not in said
    assert not said.startswith("⚠")


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("panel", PANELS)
def test_what_no_panel_can_show_is_refused_at_the_call(refuses, panel, case):
    build, error, sentence = REFUSED[case]
    refuses(error, sentence, getattr(explore, panel), build(), data_of((1, 8, 8)))


def test_data_on_another_device_is_refused(refuses):
    data = data_of((1, 8, 8))
    elsewhere = replace(data, validation=Split(data.validation.x.to("meta"), data.validation.y))
    said = "data.validation.x is on the device meta; allowed: cpu, where panels work"
    refuses(ValueError, said, explore.overview, Head(), elsewhere)


@pytest.mark.parametrize("network", ["volumes", "view", "LSTM", "keeps its activations"])
def test_what_is_scored_is_what_the_network_says(network):
    build, shape = NETWORKS[network]
    torch.manual_seed(0)
    model, data = build().eval(), data_of(shape)
    *_, score = scores(from_user(model, data).model, data.validation)
    assert score.predicted.equal(model(data.validation.x).argmax(1))


# pictures


@pytest.mark.parametrize(
    ("channels", "words"), [(1, ""), (2, "mean of 2"), (3, ""), (4, "mean of 4"), (7, "mean of 7")]
)
def test_the_overview_shows_any_number_of_channels(channels, words):
    torch.manual_seed(0)
    model, data = by_conv(nn.Conv2d(channels, 6, 3), nn.Flatten(), nn.Linear(216, 10)), data_of((channels, 8, 8))
    data = replace(data, mean=torch.rand(channels, 1, 1) / 10, std=torch.rand(channels, 1, 1))
    pictures, x = _words.pictures(data, [3, 1]), data.validation.x[[3, 1]] * data.std + data.mean
    grey = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    expected = (x if channels == 3 else grey).clamp(0, 1).permute(0, 2, 3, 1)
    assert pictures == pytest.approx(expected.numpy(), abs=1e-6)
    live = explore.overview(model, data)
    assert not live.status.startswith("⚠")
    assert ("grey: mean of" in live.alt) is bool(words)
    assert words in live.alt
    view = Overview(from_user(model, data))
    view.draw(*[p for p in view.results(sparsity=0.0, bits=32) if p.read_back])
    assert view.strip.get_visible()
    assert words in view.strip_axes.get_title(loc="left")


@pytest.mark.parametrize("network", ["volumes", "table", "signal"])
def test_what_is_no_image_is_told_in_words(network):
    torch.manual_seed(0)
    build, shape = NETWORKS[network]
    view = Overview(from_user(build(), data_of(shape)))
    data, shown = view.own.data, Score(view.own.score.predicted.roll(1), 0, 300, 300, "examples")
    *_, point = view.results(sparsity=0.0, bits=32)
    truth = (
        view.own.score.predicted
    )  # the whole network is right, the small one says what belongs to the example before
    dense = replace(view.own, data=replace(data, validation=Split(data.validation.x, truth)))
    point = replace(point, dense=dense, score=shown)
    view.draw(point)
    assert not view.strip.get_visible()
    words, lost = view.summarize(point), torch.nonzero(truth != truth.roll(1)).flatten().tolist()
    assert "scored on all 300 validation examples" in words.status
    assert f"examples lost / won {len(lost)} / 0" in words.alt
    assert "image" not in words.alt + words.status + view.strip_axes.get_title(loc="left")
    named = [text.get_text().replace("\n", " ") for text in view.names]
    flips = [f"{data.classes[truth[i]]} → {data.classes[truth[i - 1]]}" for i in lost[:FLIPS]]
    assert named == flips + [""] * (FLIPS - len(flips))
