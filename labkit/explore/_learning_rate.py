"""Panel of notebook 07: a peak learning rate, a schedule, and the run that they make, beside earlier ones."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from labkit import optim, plots
from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.data import Data, Split
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.explore._start import Dense, Key, shipped, start
from labkit.explore._training import GHOSTS, Curves, Run, stream, training_set
from labkit.measure import accuracy
from labkit.sweep import fresh
from labkit.sweep.learning_rate import IMAGES, LOOKS_PER_EPOCH, TRAINING
from labkit.train import lr_range_test, mean_loss, suggested_lrs

NETWORKS = (("lenet-300-100", "fashion-mnist"), ("lenet-300-100", "mnist"), ("lenet-5", "fashion-mnist"))
EPOCHS = TRAINING["epochs"]
LOWEST, HIGHEST = 1e-4, 10.0
RATES = tuple(m * 10.0**e for e in range(-4, 1) for m in (1, 2, 3, 5)) + (HIGHEST,)
OPTIMIZERS = {"SGD, momentum 0.9": TRAINING["optimizer"], "AdamW": torch.optim.AdamW}
SCHEDULES = [*optim.SCHEDULES, "plateau"]


@dataclass(frozen=True)
class Trial:
    """A setting of the controls and its run so far; `after` is what the trained network keeps when it is made smaller.

    `path` holds (progress, multiple of the peak) of every step that was taken.
    """

    dense: Dense  # its architecture is trained anew, its data are used
    lr: float
    schedule: str
    warmup: float
    optimizer: str
    batch_size: int
    run: Run
    path: tuple[tuple[float, float], ...] = ()
    after: tuple[float, float] | None = None
    test: pd.DataFrame | None = None
    ghosts: tuple["Trial", ...] = ()
    doing: str = ""

    @property
    def train(self) -> Split:
        """The images it is trained on."""
        return training_set(self.dense.data, IMAGES)

    @property
    def classes(self) -> int:
        """How many classes there are to guess among."""
        return len(self.dense.data.classes)


def label_of(lr: float, schedule: str, warmup: float, optimizer: str, batch_size: int) -> str:
    """What to call a run: its peak and its schedule, then what is not as it was at first."""
    more = f", warm-up {warmup:.0%}" if warmup else ""
    more += "" if optimizer.startswith("SGD") else f", {optimizer}"
    return f"{plots.lr_text(lr)} {schedule}{more}" + ("" if batch_size == 128 else f", batch {batch_size}")


def schedule_of(name: str, warmup: float, plateau: optim.Schedule = optim.constant) -> optim.Schedule:
    """The schedule that a menu's entry means; `plateau` stands for the one that is not a function of progress."""
    return optim.with_warmup(optim.SCHEDULES.get(name, plateau), warmup)


def made_smaller(model: nn.Module, split: Split) -> tuple[float, float] | None:
    """Accuracy with 90 % of the weights zero, and with 3 bits a weight; None for a network of infinite weights."""
    if not all(p.isfinite().all() for p in model.parameters()):
        return None
    pruned, rounded = (accuracy(small, split)["accuracy"] for small in (prune(model, 0.9), quantize(model, 3)))
    return pruned, rounded


class LearningRate:
    """The view: the schedule with the point of progress, loss and accuracy; range test, accuracy against the peak."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 5.6), own
        self._shown: Dense | None = None
        self._ended: list[Trial] = []
        self._tests: dict[tuple[Dense, str, int], pd.DataFrame] = {}
        add = self.live.figure.add_axes
        self.schedules, self.losses, self.accuracies = (add((x, 0.595, 0.255, 0.355)) for x in (0.06, 0.4, 0.735))
        self.ranges, self.rates = (add((x, 0.095, 0.255, 0.345)) for x in (0.06, 0.4))
        self.key = add((0.69, 0.095, 0.3, 0.3))

    def results(
        self, lr: float, schedule: str, warmup: float, optimizer: str, batch_size: int, checkpoint: Key | None = None
    ) -> Iterator[Trial]:
        """A setting before its run; the run that it had, if it had one, is not among the ghosts."""
        dense: Dense = shipped(checkpoint) if checkpoint else self._own  # type: ignore[assignment]
        batch_size = min(batch_size, len(training_set(dense.data, IMAGES)))
        label = label_of(lr, schedule, warmup, optimizer, batch_size)
        others = [t for t in self._ended if t.dense is dense and t.run.label != label]
        test = self._tests.get((dense, optimizer, batch_size))
        yield Trial(
            dense, lr, schedule, warmup, optimizer, batch_size, Run(label), test=test, ghosts=tuple(others[-GHOSTS:])
        )

    def train(self, settings: dict[str, Any], show: Callable[[Trial], None], overtaken: Callable[[], bool]) -> None:
        """Train the architecture from new weights; show where it stands, and at the end what can be made of it."""
        trial = next(self.results(**settings))
        train, validation = trial.train, trial.dense.data.validation
        looks = LOOKS_PER_EPOCH * EPOCHS
        plateau = optim.Plateau(lambda model: mean_loss(model, validation), looks)
        schedule = schedule_of(trial.schedule, trial.warmup, plateau)
        path: list[tuple[float, float]] = []

        def after_step(model: nn.Module, progress: float) -> None:
            if trial.schedule == "plateau":
                plateau.look(model, progress)
            path.append((progress, schedule(progress)))

        ended = stream(
            fresh(trial.dense.model, seed=0), train, validation, trial.run.label,
            lambda run, model: show(replace(trial, run=run, path=tuple(path))), overtaken,
            after_step=after_step, epochs=EPOCHS, lr=trial.lr, batch_size=trial.batch_size, schedule=schedule,
            optimizer=OPTIMIZERS[trial.optimizer],
        )  # fmt: skip
        if ended:
            model, run = ended
            trial = replace(trial, run=run, path=tuple(path), after=made_smaller(model, validation))
            self._ended = [t for t in self._ended if (t.dense, t.run.label) != (trial.dense, run.label)] + [trial]
            show(trial)

    def test(self, settings: dict[str, Any], show: Callable[[Trial], None], overtaken: Callable[[], bool]) -> None:
        """The range test of this network, optimizer and batch size; a run that has not ended starts again."""
        trial = next(self.results(**settings))
        same = [t for t in self._ended if (t.dense, t.run.label) == (trial.dense, trial.run.label)]
        trial = replace(same[-1], ghosts=trial.ghosts) if same else trial
        show(replace(trial, doing=f"range test: one run of 100 steps, lr from {LOWEST / 10:.0e} to {HIGHEST:g} …"))
        test = lr_range_test(
            fresh(trial.dense.model, seed=0), trial.train, lowest=LOWEST / 10, highest=HIGHEST,
            batch_size=trial.batch_size, optimizer=OPTIMIZERS[trial.optimizer], cancel=overtaken,
        )  # fmt: skip
        if overtaken():
            return
        self._tests[trial.dense, trial.optimizer, trial.batch_size] = test
        show(replace(trial, test=test, doing="range test done"))
        if not same:  # the button has stopped the run
            self.train(settings, show, overtaken)

    def draw(self, trial: Trial) -> None:
        """Move the schedule, its point, the curves, the range test and the star."""
        if trial.dense is not self._shown:
            self._draw_still(trial.dense)
        self._draw_schedule(trial)
        self.curves.show(trial.run, [ghost.run for ghost in trial.ghosts])
        plots.fill_lr_range(self.range_lines, trial.test, readings(trial.test))
        self.chosen.set_xdata([trial.lr, trial.lr])
        self.untested.set_text("" if trial.test is not None else "press “range test”")
        places = [(ghost.lr, ghost.run.accuracy) for ghost in trial.ghosts]
        self.dots.set_data([x for x, _ in places], plots.logit(np.array([y for _, y in places])))
        last = [trial.run.accuracy] if trial.run.score else []
        self.star.set_data([trial.lr] * len(last), plots.logit(np.array(last)))

    def _draw_schedule(self, trial: Trial) -> None:
        """The whole schedule where it is known beforehand, else its past; the point is where the run stands."""
        f, grid = schedule_of(trial.schedule, trial.warmup), np.linspace(0, 1, 401)
        known = [(p, f(p)) for p in grid]
        drawn = list(trial.path) if trial.schedule == "plateau" and trial.path else known
        self.line.set_data(100 * np.array([p for p, _ in drawn]), [m for _, m in drawn])
        progress, multiple = trial.path[-1] if trial.path else known[0]
        self.point.set_data([100 * progress], [multiple])
        self.now.set_text(f"lr now {trial.lr * multiple:.3g}, peak {plots.lr_text(trial.lr)}")

    def _draw_still(self, dense: Dense) -> None:
        for ax in (self.schedules, self.losses, self.accuracies, self.ranges, self.rates, self.key):
            ax.clear()
        self.live.moving.clear()
        plots.schedule_axis(self.schedules)
        (self.line,) = self.schedules.plot([], [], "-", lw=2, color=plots.BLUE)
        (self.point,) = self.schedules.plot([], [], "o", ms=11, color=plots.ORANGE, mec="black", clip_on=False)
        self.now = self.schedules.text(50, 1.14, "", fontsize=9, ha="center", va="center")
        self.curves = Curves(self.losses, self.accuracies, self.key)
        self.range_lines = plots.lr_range_axis(self.ranges, LOWEST / 10, HIGHEST)
        self.chosen = self.ranges.axvline(LOWEST, color=plots.BLUE, ls="--", lw=1.5)
        self.untested = self.ranges.text(2e-5, 3.3, "", fontsize=9, ha="left", va="center")
        measured = dense.sweep("learning-rate")
        plots.lr_background(self.rates, measured)
        plots.lr_axis(self.rates, LOWEST / 1.6, HIGHEST * 1.6)
        plots.accuracy_axis(self.rates, 0.08, 0.985)
        (self.dots,) = self.rates.plot([], [], "o", ms=7, color=plots.SKY, mec="black")
        (self.star,) = self.rates.plot([], [], "*", ms=18, color=plots.ORANGE, mec="black", clip_on=False)
        titles = {
            self.schedules: "the schedule",
            self.losses: "training loss",
            self.accuracies: "accuracy",
            self.ranges: "range test; dashed: your peak",
            self.rates: "★ this run, ● earlier" + "; grey: measured" * (len(measured) > 0),
        }
        for ax, title in titles.items():
            ax.set_title(title, fontsize=10.5, loc="left")
        lines = [self.range_lines[0], self.range_lines[1], *self.range_lines[2]]
        self.live.move([self.line, self.point, self.now, *self.curves.artists])
        self.live.move([self.chosen, *lines, self.untested, self.dots, self.star])
        self.live.refresh()
        self._shown = dense

    def tell(self, trial: Trial) -> Words:
        """The trial in words."""
        cards = [accuracy_card(trial), loss_card(trial), lr_card(trial), smaller_card(trial), test_card(trial.test)]
        trained = f"{trial.dense.name}, new weights, {len(trial.train):,} {trial.dense.score.what}"
        setting = f"{trained}, {trial.run.label}, {trial.optimizer}"
        return Words(cards, _words.sentence(setting, cards) + trial.run.scored, status(trial))


def readings(test: pd.DataFrame | None) -> dict[str, float]:
    """What a range test suggests; nothing where there is none, or where it broke at once."""
    return suggested_lrs(test) if test is not None and len(test) > 2 else {}


def accuracy_card(trial: Trial) -> Card:
    """Where the run stands on validation."""
    if trial.run.score is None:
        return "accuracy", "–", "the run starts when the controls rest"
    low, high = trial.run.score.interval
    return "accuracy", f"{trial.run.score.accuracy:.2%}", f"95 %: {low:.1%}–{high:.1%} of {trial.run.score.images:,}"


def loss_card(trial: Trial) -> Card:
    """The loss, beside that of guessing."""
    guessing = f"guessing: ln {trial.classes} = {math.log(trial.classes):.2f}"
    return "training loss", f"{trial.run.moments[-1].loss:.3g}" if trial.run.moments else "–", guessing


def lr_card(trial: Trial) -> Card:
    """The learning rate of the step that comes, and how far the run is."""
    progress, multiple = trial.path[-1] if trial.path else (0, schedule_of(trial.schedule, trial.warmup)(0))
    return "learning rate now", f"{trial.lr * multiple:.3g}", f"{multiple:.1%} of the peak · {progress:.0%} done"


def smaller_card(trial: Trial) -> Card:
    """What is left of the trained network's accuracy when it is made smaller."""
    if trial.after is None:
        return "at 90 % zeros", "–", "measured when the run has ended"
    return "at 90 % zeros", f"{trial.after[0]:.1%}", f"at 3 bits: {trial.after[1]:.1%} · neither trained again"


def test_card(test: pd.DataFrame | None) -> Card:
    """What the range test suggests, and where it ended."""
    suggested = readings(test)
    if test is None or not suggested:
        return "range test", "–", "press the button"
    end = "diverged" if test.attrs["diverged"] else "ended"
    return (
        "steepest at",
        f"{suggested['steepest']:.2g}",
        f"tenth of minimum: {suggested['tenth of minimum']:.2g} · {end} at {test['lr'].iloc[-1]:.2g}",
    )


def status(trial: Trial) -> str:
    """What the run is doing, whether its loss is or was no better than that of guessing, and on what it is scored."""
    run, guessing = trial.run, math.log(trial.classes)
    words = trial.doing or run.words
    if run.moments and not run.diverged:
        last, highest = run.moments[-1].loss, max(moment.loss for moment in run.moments)
        words += f"; the loss rose to {highest:.3g}" if highest > 1.5 * guessing else ""
        words += f"; it learns nothing: guessing has {guessing:.2f}" if last > 0.98 * guessing else ""
    return words + run.scored


def learning_rate(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 07: a shipped architecture, or that of your own `model`, trained anew on `data`.

    Layers of your own that draw their weights in another way than `reset_parameters` keep the weights they have.
    """
    own, controls = start(model, data, NETWORKS)
    controls |= {
        "lr": _controls.steps("peak lr", [(plots.lr_text(lr), lr) for lr in RATES], 0.1),
        "schedule": _controls.choice("schedule", SCHEDULES, "cosine"),
        "warmup": _controls.share("warm-up", 0.0, high=0.5, step=0.05),
        "optimizer": _controls.choice("optimizer", list(OPTIMIZERS), next(iter(OPTIMIZERS))),
        "batch_size": _controls.steps("batch size", [(str(2**i), 2**i) for i in range(5, 11)], 128),
    }
    view = LearningRate(own)
    return Panel("learning rate", view, controls, job=("range test", view.test), run=view.train)
