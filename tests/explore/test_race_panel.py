"""The second panel of notebook 08: the race's run is fit's own, and its texts match the measurements."""

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import explore
from labkit.live.baseline import shipped
from labkit.live.training import GHOSTS
from labkit.models import reinitialized
from labkit.optim import TORCHS
from labkit.topics.optimizers.experiment import BATCH, DEFAULT_LR, PASSES
from labkit.topics.optimizers.race import RATES, Race
from tests.waiting import until

RACE = dict(optimizer="momentum", lr=0.1, size="few images, 25 passes", seed=1)


def raced(view, overtaken=lambda: False, **settings):
    shown = []
    view.train(RACE | settings, shown.append, overtaken)
    return shown


@pytest.mark.parametrize("name", ["momentum", "AMSGrad"])
def test_a_race_is_fits_own_run(mine, conv, digits, name):
    view = Race(mine)
    last = raced(view, optimizer=name, lr=0.01)[-1]
    how = dict(epochs=PASSES, batch_size=BATCH, seed=1, progress=False)
    expected, _ = lk.fit(reinitialized(conv, 1), digits.train, lr=0.01, optimizer=TORCHS[name], **how)
    assert last.run.score.correct == lk.accuracy(expected, digits.validation)["correct"]
    assert last.facts["accuracy_at_0.9"] == lk.accuracy(lk.prune(expected, 0.9), digits.validation)["accuracy"]
    assert last.facts["accuracy_3_bits"] == lk.accuracy(lk.quantize(expected, 3), digits.validation)["accuracy"]
    view.draw(last)
    cards = dict((label, value) for label, value, _ in view.summarize(last).cards)
    assert cards["accuracy"] == f"{last.run.score.accuracy:.2%}"
    assert cards["at 90 % zeros"] == f"{last.facts['accuracy_at_0.9']:.1%}"
    assert view.summarize(last).status == "trained: 300 steps; scored on all 300 validation images"


def test_a_race_that_is_overtaken_leaves_no_ghost_and_ended_ones_stay(mine):
    view = Race(mine)
    raced(view, overtaken=lambda: True)
    assert not view.ended
    for seed in range(GHOSTS + 2):
        raced(view, seed=seed, size="all images, 1 pass")
    (racer,) = view.results(**RACE | dict(seed=0, size="all images, 1 pass"))
    assert racer.run.ended  # shown again, not trained again
    assert [ghost.run.label[-1] for ghost in racer.ghosts] == ["2", "3", "4", "5"]
    assert next(view.results(**RACE)).ghosts == ()  # on few images nothing has ended


def test_a_race_that_learns_nothing_or_diverges_says_so(mine):
    view = Race(mine)
    last = raced(view, optimizer="SGD", lr=1e-9, size="all images, 1 pass")[-1]
    assert "; it learns nothing: guessing has a loss of 2.30; scored on all 300" in view.summarize(last).status
    wild = raced(view, optimizer="momentum", lr=1e30)[-1]
    view.draw(wild)
    assert wild.run.diverged
    assert view.summarize(wild).status.startswith("diverged: the loss is ")
    assert view.summarize(wild).cards[2][1] == "–"


def test_torchs_default_learning_rates_are_what_we_say():
    for name, build in TORCHS.items():
        assert build([torch.zeros(1, requires_grad=True)]).defaults["lr"] == DEFAULT_LR[name]


def test_the_picture_and_the_title_follow_the_run(mine):
    view = Race(mine)
    first = raced(view, seed=0)[-1]
    blank = next(view.results(**RACE))
    view.draw(blank)
    assert len(view.star.star.get_xdata()) == 0
    assert np.array(view.dots.get_data()).ravel() == pytest.approx([0.1, first.run.accuracy])
    last = raced(view)[-1]
    view.draw(last)
    assert np.array(view.star.star.get_data()).ravel() == pytest.approx([0.1, last.run.accuracy])
    assert view.summarize(last).title == f"momentum, lr 0.1, seed 1: {last.run.accuracy:.1%}"
    assert "momentum, lr 0.1, few images, 25 passes, seed 1: accuracy " in view.summarize(last).alt
    rows = [artist.get_text() for artist in view.live.moving if hasattr(artist, "get_text")]
    assert rows[:2] == [f"momentum, lr 0.1, seed {i}: {one.run.accuracy:.1%}" for i, one in ((1, last), (0, first))]


def test_points_and_title_are_those_of_the_sweep():
    view = Race()
    trial = next(view.results(**RACE))
    view.draw(trial)
    table = shipped(("lenet-300-100", "fashion-mnist")).sweep("optimizers")
    means = table.groupby(["optimizer", "lr"])["accuracy"].mean()
    points = view.live.hot()
    assert len(points) == (means.index.get_level_values("lr") > 6e-5).sum()
    for *_, words, to in points:
        if to:
            assert to["lr"] in RATES
            assert words.startswith(f"{to['optimizer']}, lr ")
            assert f": {means[to['optimizer'], to['lr']]:.2%}\n" in words
    best = means["momentum"]
    ended = raced(Race(), lr=0.3)[-1]
    assert view.summarize(ended).title == (
        f"momentum, lr 0.3: {ended.run.accuracy:.1%}; best measured rate, {best.idxmax():g}: {best.max():.1%}"
    )
    view.draw(next(view.results(**RACE | dict(size="all images, 1 pass"))))
    assert view.live.hot() == []  # the sweep is of few images


@pytest.mark.parametrize("changes", [{}, dict(optimizer="Adam", lr=0.001, size="all images, 1 pass", seed=0)])
def test_the_code_gives_the_accuracy(mine, conv, digits, changes):
    view = Race(mine)
    last = raced(view, **changes)[-1]
    *lines, figure = view.code(RACE | changes).splitlines()
    scope = dict(model=conv, data=digits)
    exec("\n".join(lines), scope)  # noqa: S102 - our own
    assert eval(figure, scope) == last.run.score.accuracy  # noqa: S307
    assert lk.accuracy(scope["model"], digits.validation)["accuracy"] == last.run.score.accuracy


def test_no_control_of_the_panel_is_idle_and_a_move_trains_anew(conv, digits):
    panel = explore.race(conv, digits)
    assert not any(place["disabled"] for place in panel.frame["places"].values())
    assert panel.status.startswith("trained: ")
    panel.controls["seed"].value = 3
    until(lambda: "seed 3" in panel.alt and panel.status.startswith("trained: "))
    assert panel.title.startswith("Adam, lr 0.001, seed 3: ")
