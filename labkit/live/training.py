"""Live training: a run that streams into the picture while the panel stays free, and earlier runs as its ghosts.

A view hands `Panel(..., run=job)` a job of its own, which calls `stream`; the panel starts it when a setting has rested
and tells it, through `overtaken`, when to stop: at the next move, at the re-run of the cell.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from torch import Tensor, nn

from labkit import drawing, losses
from labkit.data import Data, Split, take
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.controls import Control
from labkit.live.network import NetworkView
from labkit.live.score import SAMPLE, Score, sampled, scores
from labkit.live.view import Card, Summary
from labkit.optim import Hook, Hooks, Step
from labkit.train import count_correct, fit, hooks_of

PACE = 0.12  # seconds between two pictures of a run; with scoring and drawing, five a second
WATCHED = 500  # training images that are scored for a picture
GHOSTS = 4  # earlier runs that stay in sight
GHOST_COLOURS = (drawing.SKY, drawing.GREEN, drawing.PURPLE, drawing.GREY)
Stop = Callable[[], bool]  # whether a run has been overtaken: a newer setting waits


class Moment(NamedTuple):
    """Where a run stood: the share of it that was done, the mean loss since the moment before, and two accuracies.

    `accuracy` is always that on the first SAMPLE validation images, `train_accuracy` that on WATCHED training images.
    """

    progress: float
    step: int
    loss: float
    train_accuracy: float
    accuracy: float


@dataclass(frozen=True)
class Run:
    """A training run so far; `score` is on all of validation once it has ended, before that on its first SAMPLE."""

    label: str
    moments: tuple[Moment, ...] = ()
    score: Score | None = None
    ended: bool = False

    @property
    def progress(self) -> float:
        """The share of the training that is done."""
        return self.moments[-1].progress if self.moments else 0.0

    @property
    def accuracy(self) -> float:
        """Where it stands by its score."""
        return self.score.accuracy if self.score else math.nan

    @property
    def reached(self) -> str:
        """The same in words."""
        return "diverged" if self.diverged else f"{self.accuracy:.1%}"

    def of(self, figure: str) -> np.ndarray:
        """One figure of every moment."""
        return np.array([getattr(moment, figure) for moment in self.moments])

    @property
    def scored(self) -> str:
        """The images that were scored, in words; nothing before the first score."""
        if self.score is None:
            return ""
        if not self.ended and self.score.total > SAMPLE:
            return f"; each dot is scored on the first {SAMPLE:,} validation {self.score.what}"
        dots = f", each dot on the first {SAMPLE:,}" if self.score.total > SAMPLE else ""
        return f"; scored on all {self.score.total:,} validation {self.score.what}{dots}"

    @property
    def diverged(self) -> bool:
        """Whether its loss is no longer a number."""
        return bool(self.moments) and not math.isfinite(self.moments[-1].loss)

    @property
    def words(self) -> str:
        """Where it stands, in words."""
        if not self.moments:
            return "starting …"
        last = self.moments[-1]
        if self.diverged:
            return f"diverged: the loss is {last.loss} at step {last.step:,}; the run ended there"
        return f"trained: {last.step:,} steps" if self.ended else f"training: {last.progress:.0%} done"


def paced(picture: Callable[[nn.Module, float], None], seconds: float) -> Hook:
    """A hook for `fit`: `picture(model, progress)` every so many seconds, but for half of the time it trains.

    A network that is slow to score is shown less often, never scored on fewer images.
    """
    due = time.perf_counter()

    def after_step(model: nn.Module, step: Step) -> None:
        nonlocal due
        began = time.perf_counter()
        if began > due and step.progress < 1:
            picture(model, step.progress)
            now = time.perf_counter()
            due = now + max(seconds, now - began)

    return after_step


def stream(
    model: nn.Module,
    train: Split,
    validation: Split,
    label: str,
    show: Callable[[Run, nn.Module], None],
    overtaken: Stop,
    *,
    loss: losses.Loss = losses.cross_entropy,
    after_step: Hooks = (),
    made: Callable[[nn.Module], nn.Module] = lambda model: model,
    **settings: Any,
) -> tuple[nn.Module, Run] | None:
    """`fit`, with `show(run, model)` every PACE seconds and at the end; None if it was overtaken.

    The trained network is that of `fit` with the same settings, step for step. What is scored and shown is `made` of
    it, the network rounded, say. A run whose loss is not finite ends, and is shown as it is.
    """
    run = Run(label)
    now: Step  # the last one
    seen: list[float] = []  # the losses since the last picture
    watched = take(train, min(WATCHED, len(train)))

    def recorded(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        value = loss(model, x, y)
        seen.append(value.item())
        return value

    def frame(model: nn.Module, ended: bool = False) -> None:
        nonlocal run
        model = made(model) if math.isfinite(seen[-1]) else model
        right = count_correct(model, watched) / len(watched)
        (dot,) = sampled(model, validation)
        *_, score = scores(model, validation) if ended else [dot]
        moment = Moment(now.progress, now.number, float(np.mean(seen)), right, dot.accuracy)
        run = replace(run, moments=(*run.moments, moment), score=score, ended=ended)
        seen.clear()
        show(run, model)

    look = paced(lambda model, progress: frame(model), PACE)

    def watch(model: nn.Module, step: Step) -> None:
        nonlocal now
        now = step
        if math.isfinite(seen[-1]):
            look(model, step)

    def over() -> bool:
        return overtaken() or bool(seen and not math.isfinite(seen[-1]))

    model, _ = fit(
        model, train, loss=recorded, after_step=[*hooks_of(after_step), watch], cancel=over, progress=False, **settings
    )
    if overtaken():
        return None
    frame(model, ended=True)
    return model, run


def usual(menu: Control, other: Control, values: Mapping[Any, Any]) -> None:
    """Choosing an entry of a menu sets another control to the value that is usual with it, if there is one."""
    menu.observe(lambda change: setattr(other, "value", values.get(change["new"], other.value)), "value")


def training_set(data: Data, images: int) -> Split:
    """The first `images` training images, all of them if there are fewer."""
    return take(data.train, min(images, len(data.train)))


def batch_size(train: Split) -> int:
    """That of `fit`, where the set has so many."""
    return min(128, len(train))


@dataclass(frozen=True)
class Trained:
    """Settings and their run so far; `facts` is what else the picture needs; `ghosts`: earlier runs, oldest first."""

    dense: Baseline  # its architecture is trained, its data are used
    settings: Any
    run: Run
    facts: Any = None
    ghosts: tuple["Trained", ...] = ()

    @property
    def guessing(self) -> float:
        """The loss of guessing."""
        return math.log(len(self.dense.data.classes))

    @property
    def learns_nothing(self) -> bool:
        """Whether the run has ended with a loss no better than that of guessing."""
        run = self.run
        return run.ended and not run.diverged and run.moments[-1].loss > 0.98 * self.guessing


class TrainingView(NetworkView):
    """A view of trainings that start when the controls rest; each is kept, shown again, a ghost beside later ones."""

    runs = True
    facts: ClassVar[Any] = None  # those of a run that has not begun

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self.ended: list[Trained] = []

    def label(self, dense: Baseline, settings: Any) -> str:
        """What to call a run in the key."""
        raise NotImplementedError

    def settled(self, dense: Baseline, settings: Any) -> Any:
        """The settings as they are meant: what has no effect stands at one value, so that equal runs are one run."""
        return settings

    def training(self, trial: Trained, show: Callable[[Trained], None], overtaken: Stop) -> Trained | None:
        """Train; show where it stands. The trial at its end, or None if it was overtaken."""
        raise NotImplementedError

    def cards(self, trial: Trained) -> list[Card]:
        """The figures."""
        raise NotImplementedError

    def finding(self, trial: Trained) -> str:
        """What was found, in a line."""
        if not trial.run.score:
            return "the training starts when the controls rest"
        return f"{trial.run.label}: {trial.run.reached}"

    def status(self, trial: Trained) -> str:
        """Where the run stands."""
        return trial.run.words + trial.run.scored

    def measure(self, dense: Baseline, settings: Any) -> Iterator[Trained]:
        """The run of these settings, if it has ended before; else a blank one. Other runs are its ghosts."""
        settings = self.settled(dense, settings)
        known = {trial.settings: trial for trial in self.ended if trial.dense is dense}
        trial = known.pop(settings, None) or Trained(dense, settings, Run(self.label(dense, settings)), self.facts)
        yield replace(trial, ghosts=tuple(known.values())[-GHOSTS:])

    def train(self, settings: dict[str, Any], show: Callable[[Any], None], overtaken: Stop) -> None:
        """Train by the settings, unless that was done before."""
        trial: Trained = next(self.results(**settings))
        if not trial.run.ended and (ended := self.training(trial, show, overtaken)):
            self.keep(ended)
            show(ended)

    def keep(self, trial: Trained) -> None:
        """Remember a run that has ended; it takes the place of one with the same settings."""
        one = (trial.dense, trial.settings)
        self.ended = [other for other in self.ended if (other.dense, other.settings) != one] + [trial]

    def summarize(self, trial: Trained) -> Summary:
        """The trial in words."""
        cards, run = self.cards(trial), trial.run
        alt = words.sentence(words.setting(trial.dense, trial.settings, self), cards) + run.scored
        progress = run.progress if run.moments and not run.ended else None
        return Summary(cards, alt, self.status(trial), self.finding(trial), progress)


class Curves:
    """The loss and the validation accuracy of the present run and of its ghosts, and a key of them, as moving artists.

    The dots of a curve are scores on one subset; a diamond, once a run has ended, is that on all of validation.
    `key` is an empty Axes, 1 inch high or more, for five rows: a line's colour, its label, the accuracy it reached.
    Without a `loss`, accuracies alone are shown.
    """

    def __init__(self, loss: Axes | None, accuracy: Axes, key: Axes) -> None:
        drawing.run_accuracy_axis(accuracy)
        ghosts: list[dict[str, Any]] = [dict(ls="-", lw=1.3, color=colour, alpha=0.8) for colour in GHOST_COLOURS]
        looks = [dict(ls="-", marker="o", ms=3.5, lw=2, color=drawing.BLUE), *ghosts]
        self._accuracies = [accuracy.plot([], [], **look)[0] for look in looks]
        self._accuracies[0].set_label("validation")
        (self._train,) = accuracy.plot([], [], "--", lw=1.5, color=drawing.ORANGE, label="training")
        apart: dict[str, Any] = dict(color="white", mec="black", zorder=5, clip_on=False)
        (self._end,) = accuracy.plot([], [], "D", ms=7, label="all of it", **apart)
        drawing.legend_above(accuracy)
        if loss is not None:
            drawing.loss_axis(loss)
        self._losses = [] if loss is None else [loss.plot([], [], **look)[0] for look in looks]
        self._crosses = [] if loss is None else loss.plot([], [], "X", ms=13, color=drawing.RED, mec="black")
        self._dashes, self._rows = drawing.key_rows(key, [drawing.BLUE, *GHOST_COLOURS])

    @property
    def artists(self) -> list[Artist]:
        """What moves, in the order in which it is drawn: the present run last."""
        lines = [*self._losses[::-1], *self._accuracies[:0:-1], self._train, self._accuracies[0], self._end]
        return [*lines, *self._crosses, *self._dashes, *self._rows]

    def show(self, run: Run, ghosts: Sequence[Run]) -> None:
        """Move the lines; the newest ghosts come first, what is beyond an axis is drawn at its end."""
        runs = [run, *ghosts[::-1], *[Run("")] * GHOSTS][: 1 + GHOSTS]
        for line, dash, text, one in zip(self._accuracies, self._dashes, self._rows, runs, strict=True):
            line.set_data(100 * one.of("progress"), one.of("accuracy"))
            dash.set_visible(bool(one.label))
            text.set_text(f"{one.label}: {one.reached}" if one.moments else one.label)
        for line, one in zip(self._losses, runs, strict=False):
            line.set_data(100 * one.of("progress"), drawing.within(line, one.of("loss")))
        self._train.set_data(100 * run.of("progress"), run.of("train_accuracy"))
        drawing.set_points(self._end, [(100 * run.progress, run.accuracy)] * run.ended)
        for cross in self._crosses:
            drawing.set_points(cross, [(100 * run.progress, *drawing.within(cross, [math.inf]))])
            cross.set_visible(run.diverged)


def run_card(run: Run, note: str | None = None, wait: str = "the run starts when the controls rest") -> Card:
    """Where a run stands on validation, with its interval; a `note` replaces the number of images."""
    if run.score is None:
        return "accuracy", "–", wait
    (low, high), of = run.score.interval, f" of {run.score.images:,}" if note is None else note
    return "accuracy", f"{run.accuracy:.2%}", f"95 %: {low:.1%}–{high:.1%}{of}"


def means(records: pd.DataFrame, *by: str) -> list[tuple[Any, ...]]:
    """(*by, mean accuracy over the seeds) of every setting of a measured sweep; none of an empty one."""
    if records.empty:
        return []
    table = records.groupby(list(by))["accuracy"].mean().reset_index()
    return list(table.itertuples(index=False, name=None))
