import math

import pytest
import torch
from torch import nn

import labkit as lk
from labkit.budget import loss_of, sample
from labkit.topics.under_a_budget.panel import UnderABudget

FIRST = "uniform", "linear program"


@pytest.fixture(scope="module")
def view():
    return UnderABudget()


@pytest.fixture(scope="module")
def dense(view):
    return view.dense()


def settled(view, **settings):
    *_, point = view.results(**settings)
    return point


def known(shown):
    """The plans of a search that were measured; on a busy machine a picture of the first may come before."""
    return [point.facts for point in shown if not math.isnan(point.facts.rises["swaps"][1])]


def searched(view, **settings):
    shown = []
    view.train(settings, shown.append, lambda: False)
    return shown


@pytest.mark.parametrize("budget", [16_384, 65_536])
def test_the_file_and_the_figures_are_those_of_the_network_itself(view, dense, budget):
    point = searched(view, budget=budget)[-1]
    assert point.size_bytes == len(lk.encode(point.model)) <= budget
    assert point.score.accuracy == lk.accuracy(point.model, dense.data.validation)["accuracy"]
    few = sample(dense.data.train, 500, 0)
    rise = loss_of(point.model, few) - loss_of(dense.model, few)
    assert point.facts.rises["swaps"][1] == pytest.approx(rise, abs=1e-6)
    cards = {label: (value, note) for label, value, note in view.cards(point)}
    assert cards["file"][0] == f"{point.size_bytes:,} B"
    assert f"{budget:,}" in cards["file"][1]
    assert cards["rise of the loss"][0] == f"{rise:.3g}"
    for row in point.facts.settings.itertuples():
        weight = dict(lk.compress._weights.weights(point.model))[row.part]
        assert float((weight == 0).float().mean()) >= row.sparsity - 1e-3


def test_the_search_lowers_the_loss_and_keeps_the_budget(view):
    shown = searched(view, budget=13_777)
    first, last = known(shown)[0], known(shown)[-1]
    assert last.searched == 1
    assert last.rises["swaps"][1] < first.rises["swaps"][1] <= min(first.rises[way][1] for way in FIRST)
    assert all(point.size_bytes <= 13_777 for point in shown)
    assert searched(view, budget=13_777) == []  # the search is kept, and not made twice


def test_the_first_answer_comes_from_the_table_alone(view, monkeypatch):
    dense = view.dense()
    view.parts(dense)
    monkeypatch.setattr(view, "rise", None)  # nothing is measured on the whole network
    point = settled(view, budget=27_554)
    assert point.size_bytes <= 27_554
    table, rises = view.parts(dense).table, point.facts.rises
    assert rises["swaps"][0] == rises["linear program"][0] == table.predicted(point.facts.allocation)
    assert [card for card in view.cards(point) if card[0] == "rise of the loss"][0][1] == "…"
    view.draw(point)


def test_a_budget_that_nothing_meets_shows_the_cheapest_network_and_says_so(view):
    point = settled(view, budget=4_096)
    cards = {label: (value, note) for label, value, note in view.cards(point)}
    assert point.size_bytes > 4_096
    assert cards["file"] == (f"{point.size_bytes:,} B", "no setting is as cheap as 4,096 B")
    table = view.parts(point.dense).table
    assert table.paid(point.facts.allocation) == table.price.min(1).sum()
    view.draw(point)
    assert searched(view, budget=4_096) == []  # there is nothing to swap


def test_batchnorm_is_folded_into_the_file(view):
    key = ("resnet-20", "cifar10")
    point = next(view.results(checkpoint=key, budget=65_536))
    assert point.size_bytes <= 65_536
    assert not [m for m in point.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(lk.encode(point.model)) == point.size_bytes
    assert [row.part for row in point.facts.settings.itertuples()] == view.parts(point.dense).table.choices.parts
    start = view.start(point.dense, 65_536, point.facts)
    assert start.rises["linear program"][1] < start.rises["uniform"][1]


def test_the_search_does_not_go_on_beside_a_preview_of_a_few_images(view):
    shown = []
    settings = dict(checkpoint=("mobilenet", "cifar10"), budget=32_768)
    view.train(settings, shown.append, lambda: len(shown) > 1)
    assert shown[0].score.images >= 1_000


def test_a_search_that_is_overtaken_ends(view):
    shown = []
    view.train(dict(budget=11_585), shown.append, lambda: True)
    assert shown == []


def test_a_search_that_is_taken_up_again_keeps_what_it_measured(view):
    first, second, settings = [], [], dict(budget=19_484)
    view.train(settings, first.append, lambda: len({plan.allocation for plan in known(first)}) > 1)
    view.train(settings, second.append, lambda: False)
    plans = known(first)[0], known(first)[-1], second[-1].facts
    for way in FIRST:
        assert plans[0].rises[way] == plans[1].rises[way] == plans[2].rises[way]
    best = [plan.rises["swaps"][1] for plan in plans]
    assert best[0] > best[1] >= best[2]


def test_the_picture_shows_the_numbers(view):
    point = settled(view, budget=16_384)
    view.draw(point)
    assert [bar.get_width() for bar in view.widths] == point.facts.settings["bits"].tolist()
    assert [bar.get_width() for bar in view.zeros] == point.facts.settings["sparsity"].tolist()
    assert view.limit.get_xdata()[0] == 16_384
    assert "16.4 KB" in view.summarize(point).alt


def test_a_network_of_your_own_is_measured():
    data = lk.load_data("digits")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    net, _ = lk.fit(net, data.train, epochs=3, lr=0.01, progress=False)
    own = lk.explore.budget(net, data)
    own.set(budget=8_192)
    assert "⚠" not in own.status
    *_, point = own.view.results(budget=8_192)
    assert point.size_bytes <= 8_192
    own.close_all()


def test_the_code_gives_a_network_within_the_budget(view):
    lines = view.code(dict(checkpoint=("lenet-300-100", "mnist"), budget=16_384)).splitlines()
    assert "lk.fit_budget(model, data, 16384" in lines[2]
