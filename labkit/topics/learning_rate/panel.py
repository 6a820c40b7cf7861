"""Panel of notebook 07: a peak learning rate, a schedule, and the run that they give, beside earlier ones."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from labkit import drawing, optim
from labkit.data import Data
from labkit.live.baseline import Baseline
from labkit.live.controls import Control, choice, share, steps
from labkit.live.network import BESIDE, open_panel
from labkit.live.panel import Panel
from labkit.live.training import Curves, Trained, TrainingView, run_card, stream, training_set
from labkit.live.view import Card
from labkit.measure import accuracy_when_smaller
from labkit.models import reinitialized
from labkit.topics.learning_rate import plots
from labkit.topics.learning_rate.experiment import IMAGES, LOOKS_PER_EPOCH, TRAINING
from labkit.train import lr_range_test, mean_loss, suggested_lrs

EPOCHS = TRAINING["epochs"]
LOWEST, HIGHEST = 1e-4, 10.0
RATES = tuple(float(f"{m}e{e}") for e in range(-4, 1) for m in (1, 2, 3, 5)) + (HIGHEST,)
SGD, ADAMW = "SGD, momentum 0.9", "AdamW"
OPTIMIZERS = {SGD: TRAINING["optimizer"], ADAMW: torch.optim.AdamW}
SCHEDULES = [*optim.SCHEDULES, "plateau"]
KEY_LETTERS = 40  # of a setting in the key
BATCHES = tuple(2**i for i in range(5, 11))
MEASURED: dict[str, Any] = dict(optimizer=SGD, batch_size=128)  # what the sweep does not vary
SOURCE = "measured beforehand: SGD, batch 128, 4 epochs, mean of 3 seeds"


@dataclass(frozen=True)
class Settings:
    """The peak learning rate, its schedule, and the optimizer that uses it."""

    lr: float = steps("peak lr", [(drawing.lr_text(lr), lr) for lr in RATES], 0.1, note="the highest learning rate")
    schedule: str = choice("schedule", SCHEDULES, "cosine", note="how the learning rate falls", word="{} schedule")
    warmup: float = share("warm-up", 0.0, 0.5, 0.05, note="share of the training in which it rises from 0 to the peak")
    optimizer: str = choice("optimizer", list(OPTIMIZERS), SGD, note="AdamW needs about a tenth of the rate", word="{}")
    batch_size: int = steps("batch size", [(str(n), n) for n in BATCHES], 128, note="images per step")


@dataclass(frozen=True)
class Facts:
    """(progress, multiple of the peak) of every step; accuracy with 90 % zeros and with 3 bits, once it has ended."""

    path: tuple[tuple[float, float], ...] = ()
    after: dict[str, float] | None = None


def schedule_of(name: str, warmup: float, plateau: optim.Schedule = optim.constant) -> optim.Schedule:
    """The schedule of a menu entry; `plateau` replaces the one that is not a function of progress."""
    return optim.with_warmup(optim.SCHEDULES.get(name, plateau), warmup)


def parts(name: str) -> dict[str, Any]:
    """The schedule and the warm-up of a name in the measured sweep."""
    return dict(schedule=name.removeprefix("warm-up, "), warmup=0.1 if name.startswith("warm-up, ") else 0.0)


class LearningRate(TrainingView):
    """The view: schedule, loss and accuracy of the run below each other; accuracy and range test by learning rate."""

    name, settings_type, size = "learning rate", Settings, BESIDE
    networks = (("lenet-300-100", "fashion-mnist"), ("lenet-300-100", "mnist"), ("lenet-5", "fashion-mnist"))
    scenes = {
        "far too small": MEASURED | dict(lr=1e-3, schedule="cosine", warmup=0.0),
        "the best measured": MEASURED | dict(lr=0.03, schedule="cosine", warmup=0.0),
        "too large": MEASURED | dict(lr=0.3, schedule="constant", warmup=0.0),
        "too large for AdamW": dict(lr=0.1, schedule="cosine", warmup=0.0, optimizer=ADAMW, batch_size=128),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self._tests: dict[tuple[Baseline, str, int], pd.DataFrame] = {}
        add = self.live.figure.add_axes
        left, right, width = 0.08, 0.6, 0.39
        self.schedules, self.losses = add((left, 0.79, width, 0.145)), add((left, 0.475, width, 0.29))
        self.accuracies = add((left, 0.115, width, 0.29))
        self.rates, self.ranges = add((right, 0.675, width, 0.26)), add((right, 0.37, width, 0.235))
        self.key = add((right - 0.07, 0.005, width + 0.07, 0.24))

    def controls(self) -> dict[str, Control]:
        """No larger batch than there are training images."""
        made = super().controls()
        if self.own:
            n = len(training_set(self.own.data, IMAGES))
            made["batch_size"].offer([(str(b), b) for b in BATCHES if b <= n] or [(str(n), n)])
        return made

    def settled(self, dense: Baseline, settings: Settings) -> Settings:
        """No larger batch than there are training images."""
        return replace(settings, batch_size=min(settings.batch_size, len(training_set(dense.data, IMAGES))))

    def label(self, dense: Baseline, settings: Settings) -> str:
        """Peak and schedule, then the settings that are not the default, cut to the width of the key."""
        more = f", warm {settings.warmup:.0%}" if settings.warmup else ""
        more += "" if settings.optimizer == SGD else f", {settings.optimizer}"
        more += "" if settings.batch_size == 128 else f", batch {settings.batch_size}"
        text = f"{drawing.lr_text(settings.lr)} {settings.schedule}{more}"
        return text if len(text) <= KEY_LETTERS else text[: KEY_LETTERS - 1] + "…"

    def training(
        self, trial: Trained, show: Callable[[Trained], None], overtaken: Callable[[], bool]
    ) -> Trained | None:
        """The range test, unless it is known; then train from new weights, and make the network smaller."""
        chosen, data = trial.settings, trial.dense.data
        model, train = reinitialized(trial.dense.model, seed=0), training_set(data, IMAGES)
        how: dict[str, Any] = dict(batch_size=chosen.batch_size, optimizer=OPTIMIZERS[chosen.optimizer])
        key = trial.dense, chosen.optimizer, chosen.batch_size
        if key not in self._tests:
            test = lr_range_test(model, train, lowest=LOWEST / 10, highest=HIGHEST, cancel=overtaken, **how)
            if overtaken():
                return None
            self._tests[key] = test
            show(trial)
        looks = LOOKS_PER_EPOCH * EPOCHS
        plateau = optim.Plateau(lambda model: mean_loss(model, data.validation), looks)
        schedule = schedule_of(chosen.schedule, chosen.warmup, plateau)
        path: list[tuple[float, float]] = []

        def note(model: nn.Module, step: optim.Step) -> None:
            path.append((step.progress, schedule(step.progress)))

        ended = stream(
            model, train, data.validation, trial.run.label,
            lambda run, model: show(replace(trial, run=run, facts=Facts(tuple(path)))), overtaken,
            after_step=[plateau.look, note], epochs=EPOCHS, lr=chosen.lr, schedule=schedule, **how,
        )  # fmt: skip
        if not ended:
            return None
        model, run = ended
        smaller = accuracy_when_smaller(model, data.validation, (0.9,), (3,))
        return replace(trial, run=run, facts=Facts(tuple(path), smaller))

    def test_of(self, trial: Trained) -> pd.DataFrame | None:
        """The range test of this network, optimizer and batch size, once it is done."""
        return self._tests.get((trial.dense, trial.settings.optimizer, trial.settings.batch_size))

    def background(self, trial: Trained) -> None:
        """The axes, and the measured sweep where there is one."""
        self.curves = Curves(self.losses, self.accuracies, self.key)
        plots.schedule_axis(self.schedules)
        for ax in (self.schedules, self.losses):  # the axis of progress stands below all three
            ax.tick_params(labelbottom=False)
            ax.set_xlabel("")
        drawing.legend_above(self.accuracies)
        (self.line,) = self.schedules.plot([], [], "-", lw=2, color=drawing.BLUE)
        (self.point,) = self.schedules.plot([], [], "o", ms=11, color=drawing.ORANGE, mec="black", clip_on=False)
        self.now = self.schedules.text(0, 1.4, "", fontsize=11, ha="left", va="center")
        self._draw_rates(trial.dense)
        self.tested = plots.lr_range_axis(self.ranges, LOWEST / 10, HIGHEST)
        self.ranges.set_xlim(self.rates.get_xlim())
        self.chosen = [ax.axvline(LOWEST, color=drawing.BLUE, ls="--", lw=1.5) for ax in (self.rates, self.ranges)]
        raw, smoothed, readings = self.tested
        self.live.move([self.line, self.point, self.now, *self.curves.artists, *self.chosen, raw, smoothed, *readings])
        self.live.move([self.same, self.dots, self.star])

    def _draw_rates(self, dense: Baseline) -> None:
        """Accuracy against the peak: the means of the measured sweep, and the runs."""
        ax, records = self.rates, dense.sweep("learning-rate")
        plots.lr_background(ax, records)
        drawing.lr_axis(ax, LOWEST / 16, HIGHEST * 1.6, "")
        drawing.accuracy_axis(ax, 0.08, 0.91, (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98))
        ax.set_ylabel("accuracy")
        ax.tick_params(labelbottom=False)
        (self.same,) = ax.plot([], [], "-", color=drawing.BLACK, lw=1.5, label="this schedule")
        (self.dots,) = ax.plot([], [], "o", ms=7, color=drawing.SKY, mec="black", label="earlier")
        (self.star,) = ax.plot([], [], "*", ms=18, color=drawing.ORANGE, mec="black", clip_on=False)
        drawing.legend_above(ax)
        means: Any = records.groupby(["schedule", "lr"], as_index=False)["accuracy"].mean() if len(records) else records
        self.measured = [(row["schedule"], row["lr"], row["accuracy"]) for row in means.to_dict("records")]
        places = [(lr, mean) for _, lr, mean in self.measured]
        captions = [f"{name}, peak {drawing.lr_text(lr)}: {mean:.2%}\n{SOURCE}" for name, lr, mean in self.measured]
        self.live.offer(ax, places, captions, [MEASURED | dict(lr=lr) | parts(name) for name, lr, _ in self.measured])

    def update(self, trial: Trained) -> None:
        """Move the schedule, its point, the curves, the range test and the star."""
        chosen, test = trial.settings, self.test_of(trial)
        self._draw_schedule(trial)
        self.curves.show(trial.run, [ghost.run for ghost in trial.ghosts])
        plots.fill_lr_range(self.tested, test, readings(test))
        for line in self.chosen:
            line.set_xdata([chosen.lr, chosen.lr])
        self.same.set_data(*np.array(self._like(chosen)).reshape(-1, 2).T)
        runs = [(t.settings.lr, t.run.accuracy) for t in (*trial.ghosts, trial) if t.run.score]
        self.dots.set_data(*np.array(runs[: len(trial.ghosts)]).reshape(-1, 2).T)
        self.star.set_data(*np.array(runs[len(trial.ghosts) :]).reshape(-1, 2).T)
        if any([drawing.make_room(self.rates, *place) for place in runs]):
            self.live.refresh()

    def _like(self, chosen: Settings) -> list[tuple[float, float]]:
        """(peak, mean accuracy) of the measured runs that have all but the peak in common with a setting."""
        own = dict(schedule=chosen.schedule, warmup=chosen.warmup)
        same = (chosen.optimizer, chosen.batch_size) == tuple(MEASURED.values())
        return [(lr, mean) for name, lr, mean in self.measured if same and parts(name) == own]

    def _draw_schedule(self, trial: Trained) -> None:
        """The whole schedule where it is known beforehand, else its past; the point marks the current step."""
        chosen, path = trial.settings, path_of(trial)
        f, grid = schedule_of(chosen.schedule, chosen.warmup), np.linspace(0, 1, 201)
        drawn = path if chosen.schedule == "plateau" and len(path) > 1 else [(p, f(p)) for p in grid]
        self.line.set_data(100 * np.array([p for p, _ in drawn]), [m for _, m in drawn])
        progress, multiple = path[-1]
        self.point.set_data([100 * progress], [multiple])
        self.now.set_text(f"lr now {chosen.lr * multiple:.3g}, peak {drawing.lr_text(chosen.lr)}")

    def finding(self, trial: Trained) -> str:
        """The result of the run."""
        run, named = trial.run, f"peak {drawing.lr_text(trial.settings.lr)}, {trial.settings.schedule}"
        if run.diverged:
            return f"{named}: diverged at step {run.moments[-1].step:,}"
        if learns_nothing(trial):
            return f"{named}: it learns nothing"
        if not run.ended or not trial.facts.after:
            return f"{named}: {run.accuracy:.1%} so far" if run.score else super().finding(trial)
        return f"{named}: {run.accuracy:.1%}, and {trial.facts.after['accuracy_at_0.9']:.1%} with 90 % zeros"

    def status(self, trial: Trained) -> str:
        """The state of the run; whether its loss rose, and at its end whether it was no better than guessing."""
        run = trial.run
        if not run.moments and self.test_of(trial) is None:
            return f"range test: 100 steps, the learning rate from {drawing.lr_text(LOWEST / 10)} to {HIGHEST:g} …"
        text = run.words
        if run.moments and not run.diverged:
            highest = max(moment.loss for moment in run.moments)
            text += f"; the loss rose to {highest:.3g}" if highest > 1.5 * guessing(trial) else ""
            text += f"; it learns nothing: guessing has {guessing(trial):.2f}" if learns_nothing(trial) else ""
        return text + run.scored

    def cards(self, trial: Trained) -> list[Card]:
        """Accuracy, loss, the learning rate of the next step, accuracy after compression, the range test."""
        run, test, after = trial.run, self.test_of(trial), trial.facts and trial.facts.after
        progress, multiple = path_of(trial)[-1]
        loss = "diverged" if run.diverged else f"{run.moments[-1].loss:.3g}" if run.moments else "–"
        wait = "its weights are infinite" if run.diverged else "measured when the run has ended"
        done = f"{multiple:.1%} of the peak · {progress:.0%} done"
        cards = [
            run_card(run),
            ("training loss", loss, f"guessing: ln {len(trial.dense.data.classes)} = {guessing(trial):.2f}"),
            ("learning rate now", f"{trial.settings.lr * multiple:.3g}", done),
            ("at 90 % zeros", "–", wait),
            ("range test", "–", "done before the first run"),
        ]
        if after and not math.isnan(after["accuracy_at_0.9"]):
            pruned, rounded = after["accuracy_at_0.9"], after["accuracy_3_bits"]
            cards[3] = ("at 90 % zeros", f"{pruned:.1%}", f"at 3 bits: {rounded:.1%} · not retrained")
        if test is not None and (found := readings(test)):
            end = f"{'diverged' if test.attrs['diverged'] else 'ended'} at {test['lr'].iloc[-1]:.2g}"
            note = f"min ÷ 10: {found['tenth of minimum']:.2g} · {end}"
            cards[4] = ("steepest at", f"{found['steepest']:.2g}", note)
        return cards

    def code(self, settings: Mapping[str, Any]) -> str:
        """Train new weights with the schedule; score them."""
        name, warmup = settings["schedule"], settings["warmup"]
        images = len(training_set(self.dense(settings.get("checkpoint")).data, IMAGES))
        lines = [
            "import functools",
            "import torch",
            "model = lk.models.reinitialized(model, seed=0)",
            f"train = lk.data.take(data.train, {images})",
            f'schedule = lk.optim.SCHEDULES["{name}"]',
        ]
        hook = ""
        if name == "plateau":
            loss = "lambda model: lk.train.mean_loss(model, data.validation)"
            lines[-1] = f"schedule = plateau = lk.optim.Plateau({loss}, {LOOKS_PER_EPOCH * EPOCHS})"
            hook = ", after_step=plateau.look"
        if warmup:
            lines.append(f"schedule = lk.optim.with_warmup(schedule, {warmup})")
        sgd = "functools.partial(torch.optim.SGD, momentum=0.9)"
        lines += [
            f"optimizer = {sgd if settings['optimizer'] == SGD else 'torch.optim.AdamW'}",
            f"how = dict(epochs={EPOCHS}, lr={settings['lr']}, batch_size={settings['batch_size']}, progress=False)",
            f"model, _ = lk.fit(model, train, schedule=schedule, optimizer=optimizer{hook}, **how)",
            'lk.accuracy(model, data.validation, diverged=True)["accuracy"]',
        ]
        return "\n".join([*self.loaded(settings), *lines])


def guessing(trial: Trained) -> float:
    """The loss of guessing."""
    return math.log(len(trial.dense.data.classes))


def learns_nothing(trial: Trained) -> bool:
    """Whether a run has ended with a loss no better than that of guessing."""
    return trial.run.ended and trial.run.moments[-1].loss > 0.98 * guessing(trial)


def path_of(trial: Trained) -> tuple[tuple[float, float], ...]:
    """The steps that were taken, or the first one to come."""
    taken: tuple[tuple[float, float], ...] = trial.facts.path if trial.facts else ()
    return taken or ((0.0, schedule_of(trial.settings.schedule, trial.settings.warmup)(0)),)


def readings(test: pd.DataFrame | None) -> dict[str, float]:
    """The rates that a range test suggests; empty if there is no test, or if it broke off at once."""
    return suggested_lrs(test) if test is not None and len(test) > 2 else {}


def learning_rate(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 07: a shipped architecture, or that of your own `model`, trained anew on `data`.

    Custom layers that do not initialize their weights in `reset_parameters` keep the weights they have.
    """
    return open_panel(LearningRate, model, data, preset)
