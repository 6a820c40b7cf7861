"""Panel of notebook 07: the run is fit's own, the point follows the schedule, divergence is drawn and reported."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import explore, optim
from labkit.data import Data, take
from labkit.live.baseline import from_user, shipped
from labkit.live.score import Score
from labkit.live.training import GHOSTS, Moment, Run
from labkit.models import reinitialized
from labkit.topics.learning_rate import plots, runs
from labkit.topics.learning_rate.experiment import LOOKS_PER_EPOCH
from labkit.topics.learning_rate.panel import LearningRate
from labkit.topics.learning_rate.runs import ADAMW, EPOCHS, OPTIMIZERS, RATES, SCHEDULES, SGD, Settings
from labkit.train import lr_range_test, mean_loss, suggested_lrs
from tests.waiting import until

SETTINGS = dict(lr=0.1, schedule="cosine", warmup=0.0, optimizer=SGD, batch_size=64)


@pytest.fixture
def view(mine):
    return LearningRate(mine)


def trained(view, overtaken=lambda: False, **settings):
    shown = []
    view.train(SETTINGS | settings, shown.append, overtaken)
    return shown


def by_fit(conv, digits, schedule, optimizer=OPTIMIZERS[SGD], lr=0.1, **more):
    how = dict(epochs=EPOCHS, batch_size=64, progress=False, schedule=schedule, optimizer=optimizer, lr=lr)
    return lk.fit(reinitialized(conv, 0), digits.train, **how, **more)[0]


@pytest.mark.parametrize(
    ("settings", "schedule", "more"),
    [
        ({}, optim.cosine, {}),
        ({"schedule": "step", "warmup": 0.2}, optim.with_warmup(optim.step_decay, 0.2), {}),
        ({"optimizer": ADAMW, "lr": 0.01}, optim.cosine, {"optimizer": torch.optim.AdamW, "lr": 0.01}),
    ],
    ids=["cosine", "step after a warm-up", "AdamW"],
)
def test_the_run_is_fits_own(view, conv, digits, settings, schedule, more):
    last = trained(view, **settings)[-1]
    expected = by_fit(conv, digits, schedule, **more)
    assert last.run.score.correct == lk.accuracy(expected, digits.validation)["correct"]
    assert last.facts.path[-1] == (1.0, schedule(1.0))
    smaller = {"accuracy_at_0.9": lk.prune(expected, 0.9), "accuracy_3_bits": lk.quantize(expected, 3)}
    assert last.facts.after == {name: lk.accuracy(m, digits.validation)["accuracy"] for name, m in smaller.items()}
    assert view.summarize(last).cards[0][1] == f"{last.run.score.accuracy:.2%}"
    assert view.summarize(last).status.endswith("scored on all 300 validation images")


def test_plateau_is_fits_own_and_its_past_is_drawn(view, conv, digits):
    shown = trained(view, schedule="plateau", lr=0.3)
    plateau = optim.Plateau(lambda model: mean_loss(model, digits.validation), LOOKS_PER_EPOCH * EPOCHS)
    expected = by_fit(conv, digits, plateau, lr=0.3, after_step=plateau.look)
    assert shown[-1].run.score.correct == lk.accuracy(expected, digits.validation)["correct"]
    assert shown[-1].facts.path[-1][1] == plateau.multiple
    view.draw(shown[-1])
    x, y = view.line.get_data()
    assert list(x) == pytest.approx([100 * p for p, _ in shown[-1].facts.path])
    assert list(y) == [m for _, m in shown[-1].facts.path]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_is_drawn_before_the_run_begins(view, schedule):
    trial = next(view.results(**SETTINGS | dict(schedule=schedule, warmup=0.25)))
    view.draw(trial)
    x, y = view.line.get_data()
    f = optim.with_warmup(optim.SCHEDULES.get(schedule, optim.constant), 0.25)
    assert list(y) == pytest.approx([f(p / 100) for p in x])
    assert (x[0], x[-1]) == (0, 100)
    assert view.point.get_data() == ([0], [f(0)])
    assert view.now.get_text() == f"lr now {0.1 * f(0):.3g}, peak 0.1"
    assert [line.get_xdata()[0] for line in view.chosen] == [0.1, 0.1]


def test_the_point_moves_along_the_schedule(view, every_step):
    shown = [trial for trial in trained(view) if trial.run.moments]
    assert len(shown) > 20
    for trial in shown:
        progress, multiple = trial.facts.path[-1]
        assert multiple == optim.cosine(progress)
        view.draw(trial)
        assert view.point.get_data() == ([100 * progress], [multiple])
    assert [t.facts.path[-1][0] for t in shown] == sorted(t.facts.path[-1][0] for t in shown)


def test_a_run_that_diverges_is_drawn_at_the_edge_and_named(view):
    shown = trained(view, lr=10.0, schedule="constant", batch_size=32)
    words = view.summarize(shown[-1]).status
    assert "diverged" in words or "the loss rose to" in words
    assert max(m.loss for m in shown[-1].run.moments) > view.losses.get_ylim()[1] or shown[-1].run.diverged
    view.draw(shown[-1])
    drawn = view.curves._losses[0].get_ydata()
    assert max(drawn) == view.losses.get_ylim()[1]


def test_a_loss_no_better_than_guessing_is_said(view):
    last = trained(view, lr=1e-4, schedule="constant")[-1]
    assert last.run.moments[-1].loss > 2.25
    assert "it learns nothing: guessing has 2.30" in view.summarize(last).status
    assert "learns nothing" not in view.summarize(trained(view)[-1]).status


def test_earlier_runs_stay_and_the_same_setting_is_not_its_own_ghost(view):
    for lr in (0.01, 0.05, 0.1, 0.2, 0.02, 0.05):
        trained(view, lr=lr)
    trial = next(view.results(**SETTINGS | dict(lr=0.1)))
    assert [ghost.settings.lr for ghost in trial.ghosts] == [0.01, 0.05, 0.2, 0.02]
    assert len(trial.ghosts) <= GHOSTS
    view.draw(trial)
    x, y = view.dots.get_data()
    assert list(x) == [0.01, 0.05, 0.2, 0.02]
    assert list(y) == pytest.approx([float(g.run.score.accuracy) for g in trial.ghosts])


def test_labels_say_what_differs(view, mine):
    assert view.label(mine, Settings()) == "0.1 cosine"
    assert view.label(mine, Settings(1e-4, "step", 0.1, ADAMW, 32)) == "1e-4 step, warm 10%, AdamW, batch 32"
    assert len(view.label(mine, Settings(1e-4, "exponential", 0.1, ADAMW, 1_024))) == 40  # the key is no wider


def test_the_range_test_comes_first_by_itself_and_once(view, conv, digits):
    assert view.test_of(next(view.results(**SETTINGS))) is None
    first, *_, last = trained(view)
    assert not first.run.moments
    expected = lr_range_test(
        reinitialized(conv, 0), digits.train, lowest=1e-5, highest=10.0, batch_size=64, optimizer=OPTIMIZERS[SGD]
    )
    test = view.test_of(last)
    assert test.equals(expected)
    view.draw(last)
    raw, smoothed, dots = view.tested
    assert list(smoothed.get_xdata()) == expected["lr"].tolist()
    assert max(smoothed.get_ydata()) <= plots.HIGHEST
    assert [dot.get_xdata()[0] for dot in dots] == list(suggested_lrs(expected).values())
    label, value, note = view.summarize(last).cards[4]
    assert (label, value) == ("steepest at", f"{suggested_lrs(expected)['steepest']:.2g}")
    assert note.startswith(f"min ÷ 10: {suggested_lrs(expected)['tenth of minimum']:.2g} · ")
    assert "diverged at" in note
    assert view.test_of(trained(view, lr=0.5)[-1]) is test  # of every rate
    view.draw(next(view.results(**SETTINGS | dict(optimizer=ADAMW))))
    raw, smoothed, dots = view.tested
    assert [len(np.atleast_1d(line.get_xdata())) for line in (raw, smoothed, *dots)] == [0, 0, 0, 0]
    blank = next(view.results(**SETTINGS | dict(batch_size=32)))
    assert view.summarize(blank).cards[4][1] == "–"
    assert view.summarize(blank).status.startswith("range test: 100 steps, the learning rate from 1e-5 to 10")


@pytest.mark.parametrize("calls", [0, 3, 40, 150])
def test_an_overtaken_run_leaves_nothing(view, calls):
    asked = []

    def overtaken():
        asked.append(1)
        return len(asked) > calls

    trained(view, overtaken)
    assert (view.test_of(next(view.results(**SETTINGS))) is None) == (calls < 100)
    assert next(view.results(**SETTINGS | dict(lr=1.0))).ghosts == ()


def test_nothing_is_said_of_learning_before_the_end(view):
    shown = trained(view, lr=1e-4, schedule="constant")
    assert not any(
        "learns nothing" in view.summarize(t).status + view.summarize(t).title for t in shown if not t.run.ended
    )
    assert view.summarize(shown[-1]).title == "peak 1e-4, constant: it learns nothing"


def test_a_diverged_run_is_told_without_nan(view, digits):
    run = Run("0.1 cosine", (Moment(0.5, 7, float("nan"), 0.1, 0.1),), Score(torch.zeros(300), 30, 300, 300), True)
    words = view.summarize(replace(next(view.results(**SETTINGS)), run=run))
    assert words.title == "peak 0.1, cosine: diverged at step 7"
    assert words.cards[1][:2] == ("training loss", "diverged")
    assert "nan" not in words.alt + words.title


@pytest.mark.parametrize(
    "changes",
    [dict(warmup=0.2), dict(schedule="plateau", lr=0.3, warmup=0.1), dict(optimizer=ADAMW, lr=0.01, batch_size=32)],
)
def test_the_code_gives_the_panels_accuracy(view, mine, digits, changes):
    last = trained(view, **changes)[-1]
    lines, names = view.code(SETTINGS | changes).split("\n"), dict(model=mine.model, data=digits)
    exec("\n".join([*lines[:-1], f"accuracy = {lines[-1]}"]), names)  # noqa: S102
    assert names["accuracy"] == last.run.accuracy


def test_every_control_acts_at_every_setting(view):
    assert {name for schedule in SCHEDULES for name in view.idle(SETTINGS | dict(schedule=schedule))} == set()


def test_measured_points_say_what_the_sweep_says_and_lead_there():
    view = LearningRate()
    dense, controls = shipped(("lenet-300-100", "fashion-mnist")), view.controls()
    (trial,) = view.results(lr=0.03, warmup=0.1)
    view.draw(trial)
    means = dense.sweep("learning-rate").groupby(["schedule", "lr"])["accuracy"].mean()
    points = {words.split(":")[0]: (x, y, settings) for _, x, y, words, settings in view.live.points}
    assert len(points) == len(view.live.points) == len(view.live.hot()) == len(means)
    x, y, settings = points["warm-up, cosine, peak 0.03"]
    assert (x, y) == (0.03, pytest.approx(float(means["warm-up, cosine", 0.03])))
    assert settings == dict(lr=0.03, schedule="cosine", warmup=0.1, optimizer=SGD, batch_size=128)
    for _, _, settings in points.values():
        for name, value in settings.items():
            assert value in controls[name].values
    assert list(view.same.get_ydata()) == pytest.approx(means["warm-up, cosine"].tolist())
    view.draw(next(view.results(lr=0.03, optimizer=ADAMW)))
    assert len(view.same.get_ydata()) == 0
    assert {0.003, 0.03, 0.3} < set(RATES)


def test_a_small_set_offers_no_larger_batch(conv, digits):
    few = Data(**{**vars(digits), "train": take(digits.train, 100)})
    view = LearningRate(from_user(conv, few))
    assert view.controls()["batch_size"].values == [32, 64]
    assert next(view.results(batch_size=128)).settings.batch_size == 100


def test_the_panel_runs_by_itself_and_a_move_overtakes_within_a_step(conv, digits, monkeypatch):
    answers = []  # to each run, what it heard when it asked whether it was overtaken
    train = LearningRate.train

    def listened(view, settings, show, overtaken):
        answers.append([])

        def asks():
            answers[-1].append(overtaken())
            return answers[-1][-1]

        train(view, settings, show, asks)
        answers[-1].append("ended")

    monkeypatch.setattr(LearningRate, "train", listened)
    monkeypatch.setattr(runs, "EPOCHS", 4)
    panel = explore.learning_rate(conv, digits)
    assert set(panel.controls) == {"lr", "schedule", "warmup", "optimizer", "batch_size"}
    assert "scored on all 300" in panel.status
    assert "peak lr 0.1, cosine schedule" in panel.alt
    monkeypatch.setattr(runs, "EPOCHS", 500)

    panel.controls["lr"].value = 0.02
    until(lambda: panel.status.startswith("training:"))
    run = answers[-1]
    panel.controls["lr"].value = 0.03
    until(lambda: "ended" in run)
    assert 1 <= run.count(True) <= 3, "it went on after it had heard that it was overtaken"
    until(lambda: panel.status.startswith("training:"))
    assert "peak lr 0.03, cosine schedule" in panel.alt


def test_bad_input_is_refused_in_a_sentence(refuses, conv, digits):
    together = "model and data belong together: give both or neither"
    refuses(ValueError, together, explore.learning_rate, conv)
    refuses(TypeError, "model is a Data; allowed: a torch.nn.Module", explore.learning_rate, digits, conv)
