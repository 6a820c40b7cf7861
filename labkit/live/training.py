"""Live training: a run that streams into the picture while the panel stays free, and earlier runs as its ghosts.

A view hands `Panel(..., run=job)` a job of its own, which calls `stream`; the panel starts it when a setting has rested
and tells it, through `overtaken`, when to stop: at the next move, at the re-run of the cell.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor, nn

from labkit import drawing, losses
from labkit.data import Data, Split, take
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.network import NetworkView
from labkit.live.score import SAMPLE, Score, sampled, scores
from labkit.live.view import Card, Summary
from labkit.optim import Hook, Hooks, Step
from labkit.train import count_correct, fit, hooks_of

FRAME = 0.12  # seconds between two pictures of a run; with scoring and drawing, five a second
WATCHED = 500  # training images that are scored for a picture
GHOSTS = 4  # earlier runs that stay in sight
GHOST_COLOURS = (drawing.SKY, drawing.GREEN, drawing.PURPLE, drawing.GREY)


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
    overtaken: Callable[[], bool],
    *,
    loss: losses.Loss = losses.cross_entropy,
    after_step: Hooks = (),
    made: Callable[[nn.Module], nn.Module] = lambda model: model,
    **settings: Any,
) -> tuple[nn.Module, Run] | None:
    """`fit`, with `show(run, model)` every FRAME seconds and at the end; None if it was overtaken.

    The trained network is that of `fit` with the same settings, step for step. What is scored and shown is `made` of
    it, the network rounded, say. A run whose loss is not finite ends, and is shown as it is.
    """
    run, step, done = Run(label), 0, 0.0
    seen: list[float] = []  # the losses since the last picture
    watched = take(train, min(WATCHED, len(train)))

    def recorded(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        value = loss(model, x, y)
        seen.append(value.item())
        return value

    def frame(model: nn.Module, ended: bool = False) -> None:
        nonlocal run
        right = count_correct(model, watched) / len(watched)
        (dot,) = sampled(model, validation)
        *_, score = scores(model, validation) if ended else [dot]
        moment = Moment(done, step, float(np.mean(seen)), right, dot.accuracy)
        run = replace(run, moments=(*run.moments, moment), score=score, ended=ended)
        seen.clear()
        show(run, model)

    look = paced(lambda model, progress: frame(made(model)), FRAME)

    def watch(model: nn.Module, now: Step) -> None:
        nonlocal step, done
        step, done = now.number, now.progress
        if math.isfinite(seen[-1]):
            look(model, now)

    def over() -> bool:
        return overtaken() or bool(seen and not math.isfinite(seen[-1]))

    model, _ = fit(
        model, train, loss=recorded, after_step=[*hooks_of(after_step), watch], cancel=over, progress=False, **settings
    )
    if overtaken():
        return None
    frame(made(model) if math.isfinite(seen[-1]) else model, ended=True)
    return model, run


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


class TrainingView(NetworkView):
    """A view of trainings that start when the controls rest; each is kept, shown again, a ghost beside later ones."""

    runs = True

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self.ended: list[Trained] = []

    def label(self, dense: Baseline, settings: Any) -> str:
        """What to call a run in the key."""
        raise NotImplementedError

    def settled(self, dense: Baseline, settings: Any) -> Any:
        """The settings as they are meant: what has no effect stands at one value, so that equal runs are one run."""
        return settings

    def training(
        self, trial: Trained, show: Callable[[Trained], None], overtaken: Callable[[], bool]
    ) -> Trained | None:
        """Train; show where it stands. The trial at its end, or None if it was overtaken."""
        raise NotImplementedError

    def cards(self, trial: Trained) -> list[Card]:
        """The figures."""
        raise NotImplementedError

    def finding(self, trial: Trained) -> str:
        """What was found, in a line."""
        if not trial.run.score:
            return "the training starts when the controls rest"
        return f"{trial.run.label}: {'diverged' if trial.run.diverged else f'{trial.run.accuracy:.1%}'}"

    def status(self, trial: Trained) -> str:
        """Where the run stands."""
        return trial.run.words + trial.run.scored

    def measure(self, dense: Baseline, settings: Any) -> Iterator[Trained]:
        """The run of these settings, if it has ended before; else a blank one. Other runs are its ghosts."""
        settings = self.settled(dense, settings)
        mine = [trial for trial in self.ended if trial.dense is dense]
        ghosts = tuple(trial for trial in mine if trial.settings != settings)[-GHOSTS:]
        known = [trial for trial in mine if trial.settings == settings]
        trial = known[0] if known else Trained(dense, settings, Run(self.label(dense, settings)))
        yield replace(trial, ghosts=ghosts)

    def train(
        self, settings: dict[str, Any], show: Callable[[Trained], None], overtaken: Callable[[], bool]
    ) -> None:  # fmt: skip
        """Train by the settings, unless that was done before."""
        trial: Trained = next(self.results(**settings))
        if trial.run.ended:
            return
        ended = self.training(trial, show, overtaken)
        if ended:
            self.keep(ended)
            show(ended)

    def keep(self, trial: Trained) -> None:
        """Remember a run that has ended; it takes the place of one with the same settings."""
        one = (trial.dense, trial.settings)
        self.ended = [other for other in self.ended if (other.dense, other.settings) != one] + [trial]

    def still_for(self, trial: Trained) -> Any:
        """The still part changes with the network."""
        return trial.dense

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
        self.loss, self.accuracy = loss, accuracy
        drawing.run_accuracy_axis(accuracy)
        ghosts: list[dict[str, Any]] = [dict(ls="-", lw=1.3, color=colour, alpha=0.8) for colour in GHOST_COLOURS]
        looks = [dict(ls="-", marker="o", ms=3.5, lw=2, color=drawing.BLUE), *ghosts]
        self._accuracies = [accuracy.plot([], [], **look)[0] for look in looks]
        self._accuracies[0].set_label("validation")
        (self._train,) = accuracy.plot([], [], "--", lw=1.5, color=drawing.ORANGE, label="training")
        apart: dict[str, Any] = dict(color="white", mec="black", zorder=5, clip_on=False)
        (self._end,) = accuracy.plot([], [], "D", ms=7, label="all of it", **apart)
        accuracy.legend(loc="lower right", fontsize=10, framealpha=0.9, handlelength=1.4, labelspacing=0.3)
        self._losses, self._crosses = list[Line2D](), list[Line2D]()
        if loss is not None:
            drawing.loss_axis(loss)
            self._losses = [loss.plot([], [], **look)[0] for look in looks]
            self._crosses = loss.plot([], [], "X", ms=13, color=drawing.RED, mec="black")
        self._dashes, self._rows = drawing.key_rows(key, [drawing.BLUE, *GHOST_COLOURS])

    @property
    def artists(self) -> list[Artist]:
        """What moves, in the order in which it is drawn: the present run last."""
        lines = [*self._losses[::-1], *self._accuracies[:0:-1], self._train, self._accuracies[0], self._end]
        return [*lines, *self._crosses, *self._dashes, *self._rows]

    def show(self, run: Run, ghosts: Sequence[Run]) -> None:
        """Move the lines; the newest ghosts come first, what is beyond an axis is drawn at its end."""
        shown = list(ghosts)[::-1][:GHOSTS]
        runs = [run, *shown, *[Run("")] * (GHOSTS - len(shown))]
        for line, dash, text, one in zip(self._accuracies, self._dashes, self._rows, runs, strict=True):
            line.set_data(_percent(one), np.array([m.accuracy for m in one.moments]))
            dash.set_visible(bool(one.label))
            text.set_text(caption(one))
        for line, one in zip(self._losses, runs, strict=False):
            line.set_data(_percent(one), within(line, [m.loss for m in one.moments]))
        self._train.set_data(_percent(run), np.array([m.train_accuracy for m in run.moments]))
        ends = [run.accuracy] if run.ended else []
        self._end.set_data([100 * run.progress] * len(ends), np.array(ends))
        for cross in self._crosses:
            cross.set_data([100 * run.progress], within(cross, [math.inf]))
            cross.set_visible(run.diverged)


def within(line: Line2D, losses: Sequence[float]) -> np.ndarray:
    """Losses, those beyond the axis of their line at its end."""
    low, high = line.axes.get_ylim()  # type: ignore[union-attr]
    return np.clip(np.nan_to_num(losses, nan=high, posinf=high), low, high)


def run_card(run: Run) -> Card:
    """Where a run stands on validation, with its interval."""
    if run.score is None:
        return "accuracy", "–", "the run starts when the controls rest"
    low, high = run.score.interval
    return "accuracy", f"{run.accuracy:.2%}", f"95 %: {low:.1%}–{high:.1%} of {run.score.images:,}"


def caption(run: Run) -> str:
    """A run's row in the key: its label, and the accuracy it stands at."""
    if not run.moments:
        return run.label
    return f"{run.label}: " + ("diverged" if run.diverged else f"{run.accuracy:.1%}")


def _percent(run: Run) -> np.ndarray:
    return 100 * np.array([m.progress for m in run.moments])
