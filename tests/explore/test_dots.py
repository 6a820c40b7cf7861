"""Every dot of a live training is scored on the same images, 1,000 at least; the end on all of validation."""

import re
from dataclasses import replace

import pytest
import torch

from labkit import explore
from labkit.data import Split, take
from labkit.live import training as _training
from labkit.live.panel import Panel
from labkit.live.picture import LiveFigure
from labkit.live.training import Curves, Run, stream
from labkit.models import mlp
from labkit.optim import Step
from labkit.train import count_correct

DOT, ALL = 1_000, 3_000


def never():
    return False


@pytest.fixture(scope="module")
def larger(digits):
    """The digits with more validation images than a dot is scored on."""
    validation = Split(digits.train.x.repeat(3, 1, 1, 1)[:ALL], digits.train.y.repeat(3)[:ALL])
    assert len(validation) == ALL
    return replace(digits, train=take(digits.train, 400), validation=validation)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return mlp(64, 32, 10)


@pytest.fixture
def often(monkeypatch):
    """As many pictures as time allows."""
    monkeypatch.setattr(_training, "PACE", 0.0)
    monkeypatch.setattr(Panel, "_start", lambda panel: None)  # the test starts the run itself


def test_a_dot_is_the_accuracy_on_the_first_thousand_images(larger, net, often):
    seen = []

    def show(run, model):
        seen.append((run, *(count_correct(model, part) for part in (take(larger.validation, DOT), larger.validation))))

    stream(net, larger.train, larger.validation, "x", show, never, epochs=8, lr=1e-2, batch_size=32)
    assert len(seen) > 1
    assert [run.moments[-1].accuracy for run, _, _ in seen] == [first / DOT for _, first, _ in seen]
    assert {run.score.images for run, *_ in seen[:-1]} == {DOT}
    run, first, every = seen[-1]
    assert (run.ended, run.score.correct, run.score.images) == (True, every, ALL)
    assert run.moments[-1].accuracy != run.accuracy, "the two marks at the end cannot be told apart here"
    assert run.accuracy == every / ALL


STREAMED = ("learning_rate", "race", "regularization", "few_bits")


@pytest.mark.parametrize("name", [*STREAMED, "article_mlp"])
def test_dots_of_streamed_panels(larger, net, often, name):
    panel = explore.article_mlp(larger) if name == "article_mlp" else getattr(explore, name)(net, larger)
    view, shown = panel.view, []
    view.train(panel.settings(), shown.append, never)
    shown = [trial for trial in shown if trial.run.score]  # a range test comes before the first dot
    runs = [trial.run for trial in shown]
    assert {run.score.images for run in runs if not run.ended} == {DOT}
    assert {run.score.images for run in runs if run.ended} == {ALL}
    assert all(round(DOT * m.accuracy, 6).is_integer() for m in runs[-1].moments), "a share of other images"
    before, after = (view.summarize(next(t for t in shown if t.run.ended is ended)) for ended in (False, True))
    assert "each dot is scored on the first 1,000 validation images" in before.status
    assert "each dot is scored on the first 1,000 validation images" in before.alt
    said = "scored on all 3,000 validation images, each dot on the first 1,000"
    assert said in after.status
    assert said in after.alt


@pytest.mark.parametrize("name", ["pruning", "structured", "sharing", "deep_compression"])
def test_marks_that_move_while_a_panel_trains(larger, net, often, name):
    panel = getattr(explore, name)(net, larger)
    view, shown = panel.view, []
    view.train(panel.settings(), shown.append, never)
    images = [point.score.images for point in shown]
    assert images[-1] == ALL
    assert images == sorted(images)
    assert set(images) == {DOT, ALL}


@pytest.mark.parametrize("name", ["order", "distillation"])
def test_dots_that_are_scored_on_all_of_validation(larger, net, often, name):
    panel = getattr(explore, name)(net, larger)
    view, shown = panel.view, []
    view.train(panel.settings(), shown.append, never)
    points = shown if name == "order" else [student for lesson in shown for student in lesson.students]
    assert {p.score.images for p in points} == {ALL}
    assert "scored on all 3,000 validation images" in view.summarize(shown[-2]).status


def test_a_small_validation_split_is_scored_whole(digits, net, often):
    seen = []
    stream(net, digits.train, digits.validation, "x", lambda run, _: seen.append(run), never, epochs=1, lr=1e-2)
    assert {run.score.images for run in seen} == {300}
    assert {run.scored for run in seen} == {"; scored on all 300 validation images"}


def test_the_score_on_all_of_validation_is_a_mark_of_its_own(larger, net, often):
    figure, seen = LiveFigure(6, 3).figure, []
    loss, accuracy, key = (figure.add_axes((x, 0.2, 0.25, 0.7)) for x in (0.1, 0.4, 0.7))
    curves = Curves(loss, accuracy, key)
    stream(net, larger.train, larger.validation, "now", lambda run, _: seen.append(run), never, epochs=2, lr=1e-2)
    (mark,) = [line for line in accuracy.lines if line.get_marker() == "D"]
    (dots,) = [line for line in accuracy.lines if line.get_marker() == "o"]
    for run in seen:
        curves.show(run, [])
        assert list(mark.get_ydata()) == pytest.approx([run.score.correct / ALL] if run.ended else [])
        assert len(dots.get_ydata()) == len(run.moments)
        text = re.search(r"now: ([\d.]+)%", next(a for a in curves.artists if hasattr(a, "get_text")).get_text())
        assert float(text[1]) == pytest.approx(100 * run.score.accuracy, abs=0.05)
    assert mark in curves.artists
    assert Run("new").scored == ""


def test_a_slow_score_takes_half_of_the_time_at_most(monkeypatch):
    """With a fake clock: a step takes 1, a picture 10; the test counts the steps between two pictures."""
    now, shown, steps = [0.0], [], 0
    monkeypatch.setattr(_training.time, "perf_counter", lambda: now[0])

    def picture(model, progress):
        shown.append(steps)
        now[0] += 10

    look = _training.paced(picture, 3)
    for steps in range(1, 101):
        now[0] += 1
        look(None, Step(steps, 100, 1, False, 0.1))
    assert len(shown) > 5
    assert {b - a for a, b in zip(shown, shown[1:], strict=False)} == {11}
