"""Live training: the streamed run is fit's own, the next move overtakes it, nothing leaks, divergence is reported."""

import functools
import gc
import math
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from labkit import drawing
from labkit.live import panel as live_panel
from labkit.live.controls import Control
from labkit.live.panel import Panel
from labkit.live.picture import LiveFigure
from labkit.live.score import Score
from labkit.live.training import GHOSTS, Curves, Moment, Run, stream, training_set
from labkit.live.view import Summary, View
from labkit.models import mlp
from labkit.train import count_correct, fit
from tests.waiting import PATIENCE, until

SGD = functools.partial(torch.optim.SGD, momentum=0.9)


def net():
    torch.manual_seed(0)
    return mlp(64, 32, 10)


def never():
    return False


@dataclass(frozen=True)
class Shown:
    lr: float
    run: Run = Run("")
    ghosts: tuple = ()


class Trains(View):
    """The smallest view that trains: its loss and accuracy, nothing else. It records its runs.

    `asked` holds, for each run, the learning rate and every answer to its question whether it is overtaken.
    """

    def __init__(self, data, epochs=3):
        self.live, self.data, self.epochs = LiveFigure(6, 3), data, epochs
        axes = [self.live.figure.add_axes((x, 0.2, 0.25, 0.7)) for x in (0.1, 0.4, 0.7)]
        self.curves, self.ghosts, self.drawn, self.asked, self.stopped = Curves(*axes), [], [], [], []
        self.live.move(self.curves.artists)

    def results(self, lr):
        yield Shown(lr, ghosts=tuple(self.ghosts))

    def draw(self, shown):
        self.curves.show(shown.run, shown.ghosts)
        self.drawn.append(shown)

    def summarize(self, shown):
        return Summary([("lr", f"{shown.lr:g}", shown.run.words)], shown.run.words, shown.run.words)

    def train(self, settings, show, overtaken):
        ghosts, answers = tuple(self.ghosts), []
        self.asked.append((settings["lr"], answers))

        def asks():
            answers.append(overtaken())
            return answers[-1]

        ended = stream(
            net(), self.data.train, self.data.validation, f"lr {settings['lr']:g}",
            lambda run, model: show(Shown(settings["lr"], run, ghosts)), asks,
            epochs=self.epochs, lr=settings["lr"], batch_size=32,
        )  # fmt: skip
        self.stopped.append(ended is None)
        if ended:
            self.ghosts.append(ended[1])


def opened(view):
    panel = Panel(
        "training test",
        view,
        {"lr": Control("slider", "lr", [("0.001", 0.001), ("1", 1.0)], 0.01, ".3f")},
        run=view.train,
    )
    return panel, panel.controls["lr"]


def stopped_at_once(view, number):
    """Whether a run asked before each of its steps, and took no step after it was told that it is overtaken."""
    lr, answers = view.asked[number]
    shown = max((s.run.moments[-1].step for s in view.drawn if s.run.moments and s.lr == lr), default=0)
    # fit hears it, and ends; `stream` asks once more, whether to show its end
    return answers.count(False) >= shown and answers[-2:] == [True, True] and answers.count(True) == 2


def test_a_streamed_run_is_fits_own(digits):
    seen = []
    how = dict(epochs=3, lr=0.05, batch_size=32, optimizer=SGD, seed=4)
    model, run = stream(net(), digits.train, digits.validation, "x", lambda run, _: seen.append(run), never, **how)
    alone, _ = fit(net(), digits.train, progress=False, **how)
    for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert run.score.settled
    assert run.score.correct == count_correct(alone, digits.validation)
    steps = 3 * -(-len(digits.train) // 32)
    assert seen[-1] == run
    assert run.ended
    assert (run.moments[-1].progress, run.moments[-1].step) == (1, steps)
    assert run.words == f"trained: {steps:,} steps"


def test_the_losses_of_a_run_cover_every_step_once(digits):
    losses, seen = [], []

    def loss(model, x, y):
        value = torch.nn.functional.cross_entropy(model(x), y)
        losses.append(value.item())
        return value

    _, run = stream(
        net(),
        digits.train,
        digits.validation,
        "x",
        lambda run, _: seen.append(run),
        never,
        loss=loss,
        epochs=4,
        lr=0.01,
    )
    steps = [0, *(m.step for m in run.moments)]
    means = [sum(losses[a:b]) / (b - a) for a, b in zip(steps, steps[1:], strict=False)]
    assert [m.loss for m in run.moments] == pytest.approx(means)
    assert len(losses) == steps[-1]


def test_a_run_that_diverges_ends_and_says_so(digits):
    sgd = functools.partial(torch.optim.SGD)
    how = dict(epochs=50, lr=1e30, batch_size=32, optimizer=sgd, schedule=lambda progress: 1.0)
    model, run = stream(net(), digits.train, digits.validation, "x", lambda *_: None, never, **how)
    last = run.moments[-1]
    assert run.diverged
    assert run.ended
    assert last.step < 10
    assert last.progress == pytest.approx(last.step / (50 * -(-len(digits.train) // 32)), abs=1e-3)
    assert f"the loss is nan at step {last.step}" in run.words or f"the loss is inf at step {last.step}" in run.words


def test_an_overtaken_run_returns_nothing_and_shows_nothing_more(digits):
    shown = []
    over = threading.Event()

    def show(run, model):
        shown.append(run)
        over.set()

    assert stream(net(), digits.train, digits.validation, "x", show, over.is_set, epochs=500, lr=0.01) is None
    assert len(shown) == 1


def test_the_panel_trains_at_first_and_behind_each_move(digits):
    view = Trains(digits)
    panel, lr = opened(view)
    assert panel.status.startswith("trained")
    assert len(view.ghosts) == 1
    lr.value = 0.02
    until(lambda: len(view.ghosts) == 2)
    until(lambda: panel.status.startswith("trained"))
    assert view.drawn[-1].run.label == "lr 0.02"
    assert [run.label for run in view.drawn[-1].ghosts] == ["lr 0.01"]
    expected, _ = fit(net(), digits.train, epochs=3, lr=0.02, batch_size=32, progress=False)
    assert view.drawn[-1].run.score.correct == count_correct(expected, digits.validation)


def test_a_drag_starts_one_run(digits, monkeypatch):
    rested, resting = threading.Event(), threading.Event()

    def rest(seconds):
        resting.set()
        assert rested.wait(PATIENCE)

    view = Trains(digits)
    _, lr = opened(view)
    monkeypatch.setattr(
        live_panel, "time", SimpleNamespace(sleep=rest, perf_counter=time.perf_counter)
    )  # the controls rest when the test says so
    lr.value = 0.1
    until(resting.is_set)
    for i in range(1, 5):
        lr.value = 0.1 + i / 100
    rested.set()
    until(lambda: len(view.stopped) == 2)
    assert [lr for lr, _ in view.asked] == [0.01, 0.14]
    assert view.stopped == [False, False]


def test_a_run_streams_until_the_next_move_stops_it_within_a_step(digits):
    view = Trains(digits)
    panel, lr = opened(view)
    view.epochs = 5_000
    lr.value = 0.14
    until(lambda: len([s for s in view.drawn if s.run.moments and s.lr == 0.14]) >= 4)
    assert panel.status.startswith("training")
    view.epochs = 1
    lr.value = 0.5
    until(lambda: len(view.stopped) == 2)
    assert view.stopped == [False, True], "it was not overtaken but ended"
    assert stopped_at_once(view, 1)
    until(lambda: view.drawn[-1].run.ended)
    shown = [s.lr for s in view.drawn]
    assert set(shown[shown.index(0.5) :]) == {0.5}, "an overtaken run was drawn again"


def test_a_hundred_starts_and_cancels_leave_nothing_behind(digits):
    view = Trains(digits)
    panel, lr = opened(view)
    view.epochs = 5_000

    def cycle(i):
        drawn = len(view.drawn)
        lr.value = 0.1 + i / 1000
        until(lambda: any(s.run.moments and s.lr == lr.value for s in view.drawn[drawn:]))
        del view.drawn[:-1], view.stopped[:], view.asked[:-1]

    def held():
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()), threading.active_count()

    for i in range(10):
        cycle(i)
    tensors, threads = held()
    for i in range(10, 110):
        cycle(i)
    after = held()
    assert after[1] <= threads
    assert after[0] <= tensors + 20


def test_what_a_browser_sends_twice_is_one_move(digits):
    """It resends a move that no picture has answered yet: the same setting would be trained a second time."""
    view = Trains(digits)
    panel, lr = opened(view)
    move = {"moves": {"lr": [1, "0.02"]}}
    panel.asked = move
    drawn = len(view.drawn)
    panel.asked = move | {"again": True}
    panel.asked = {"moves": {"lr": [2, "0.02"]}}  # it is there already
    until(lambda: len(view.stopped) == 2)
    assert [lr for lr, _ in view.asked] == [0.01, 0.02]
    assert len([s for s in view.drawn[:drawn] if s.lr == 0.02]) == 1  # a move is drawn before it returns


def test_the_rerun_of_the_cell_ends_the_run(digits):
    first = Trains(digits)
    panel, lr = opened(first)
    first.epochs = 5_000
    lr.value = 0.2
    until(lambda: panel.status.startswith("training"))
    opened(Trains(digits, epochs=1))
    until(lambda: len(first.stopped) == 2)
    assert first.stopped == [False, True]
    assert stopped_at_once(first, 1)


def test_an_error_in_a_run_is_shown_in_words(digits):
    view = Trains(digits)
    panel, lr = opened(view)
    view.epochs = -1
    lr.value = 0.3
    until(lambda: panel.status.startswith("⚠"))
    assert "epochs" in panel.status


def test_curves_keep_the_newest_ghosts_and_draw_divergence_at_the_edge():
    figure = LiveFigure(6, 3).figure
    loss, accuracy, key = (figure.add_axes((x, 0.2, 0.25, 0.7)) for x in (0.1, 0.4, 0.7))
    curves = Curves(loss, accuracy, key)
    moments = (Moment(0.5, 10, 1.0, 0.5, 0.5), Moment(1.0, 20, 0.5, 0.6, 0.6))
    score = Score(torch.zeros(10), 6, 10, 10)
    old = [Run(f"run {i}", moments, score) for i in range(GHOSTS + 2)]
    now = Run("now", (Moment(0.25, 5, 900.0, 0.1, 0.1), Moment(0.3, 6, float("nan"), 0.1, 0.1)))
    curves.show(now, old)
    texts = [a.get_text() for a in curves.artists if hasattr(a, "get_text")]
    assert texts[0] == "now: diverged"
    assert texts[1:] == [f"run {i}: 60.0%" for i in (5, 4, 3, 2)]
    top = loss.get_ylim()[1]
    blue = next(a for a in curves.artists if getattr(a, "get_color", str)() == drawing.BLUE and a.axes is loss)
    assert list(blue.get_ydata()) == [top, top]
    assert list(blue.get_xdata()) == [25, 30]
    cross = next(a for a in curves.artists if getattr(a, "get_marker", str)() == "X")
    assert cross.get_visible()
    curves.show(old[0], [])
    assert not cross.get_visible()
    assert [line.get_visible() for line in key.lines] == [True] + [False] * GHOSTS


def test_a_small_training_set_is_the_first_images(digits):
    assert torch.equal(training_set(digits, 100).x, digits.train.x[:100])
    assert len(training_set(digits, 10**6)) == len(digits.train)


def test_curves_are_legible_and_can_do_without_a_loss():
    figure = LiveFigure(6, 3).figure
    accuracy, key = (figure.add_axes((x, 0.2, 0.25, 0.7)) for x in (0.1, 0.6))
    curves = Curves(None, accuracy, key)
    curves.show(Run("now", (Moment(1.0, 10, math.nan, 0.4, 0.3),)), [])
    assert {artist.axes for artist in curves.artists} == {accuracy, key}
    line = next(a for a in curves.artists if getattr(a, "get_color", str)() == drawing.BLUE and a.axes is accuracy)
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([100], [0.3])
    texts = [*accuracy.get_legend().get_texts(), *key.texts]
    assert min(text.get_fontsize() for text in texts) >= 10
