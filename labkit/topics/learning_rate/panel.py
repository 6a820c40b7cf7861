"""Panel of notebook 07: a peak learning rate, a schedule, and the run that they give, beside earlier ones."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from labkit import drawing
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.controls import Control
from labkit.live.network import BESIDE, open_panel
from labkit.live.panel import Panel
from labkit.live.training import Curves, Stop, Trained, TrainingView, means, run_card, training_set
from labkit.live.view import Card
from labkit.topics.learning_rate import plots, runs
from labkit.topics.learning_rate.experiment import IMAGES, LOOKS_PER_EPOCH
from labkit.topics.learning_rate.runs import ADAMW, BATCHES, HIGHEST, LOWEST, SGD, Facts, Settings, path_of, schedule_of
from labkit.train import suggested_lrs

KEY_LETTERS = 40  # of a setting in the key
MEASURED: dict[str, Any] = dict(optimizer=SGD, batch_size=128)  # what the sweep does not vary
SOURCE = "measured beforehand: SGD, batch 128, 4 epochs, mean of 3 seeds"


def parts(name: str) -> dict[str, Any]:
    """The schedule and the warm-up of a name in the measured sweep."""
    return dict(schedule=name.removeprefix("warm-up, "), warmup=0.1 if name.startswith("warm-up, ") else 0.0)


class LearningRate(TrainingView):
    """The view: schedule, loss and accuracy of the run below each other; accuracy and range test by learning rate."""

    name, settings_type, size, facts = "learning rate", Settings, BESIDE, Facts()
    networks = (("lenet-300-100", "fashion-mnist"), ("lenet-300-100", "mnist"), ("lenet-5", "fashion-mnist"))
    scenes = {
        "far too small": MEASURED | dict(lr=1e-3, schedule="cosine", warmup=0.0),
        "the best measured": MEASURED | dict(lr=0.03, schedule="cosine", warmup=0.0),
        "too large": MEASURED | dict(lr=0.3, schedule="constant", warmup=0.0),
        "too large for AdamW": dict(lr=0.1, schedule="cosine", warmup=0.0, optimizer=ADAMW, batch_size=128),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self._tests: dict[Any, pd.DataFrame] = {}
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
        return words.cut(f"{drawing.lr_text(settings.lr)} {settings.schedule}{more}", KEY_LETTERS)

    def training(self, trial: Trained, show: Callable[[Trained], None], overtaken: Stop) -> Trained | None:
        """The range test, unless it is known; then the run."""
        if self.test_of(trial) is None:
            test = runs.range_test(trial, overtaken)
            if overtaken():
                return None
            self._tests[runs.tested(trial)] = test
            show(trial)
        return runs.run_trial(trial, show, overtaken)

    def test_of(self, trial: Trained) -> pd.DataFrame | None:
        """The range test of this network, optimizer and batch size, once it is done."""
        return self._tests.get(runs.tested(trial))

    def background(self, trial: Trained) -> None:
        """The axes, and the measured sweep where there is one."""
        self.curves = Curves(self.losses, self.accuracies, self.key)
        plots.schedule_axis(self.schedules)
        for ax in (self.schedules, self.losses):  # the axis of progress stands below all three
            ax.tick_params(labelbottom=False)
            ax.set_xlabel("")
        self.line, self.point, self.now = plots.schedule_marks(self.schedules)
        self._draw_rates(trial.dense)
        self.tested = plots.lr_range_axis(self.ranges, LOWEST / 10, HIGHEST)
        self.ranges.set_xlim(self.rates.get_xlim())
        self.chosen = [ax.axvline(LOWEST, color=drawing.BLUE, ls="--", lw=1.5) for ax in (self.rates, self.ranges)]
        raw, smoothed, readings = self.tested
        self.live.move([self.line, self.point, self.now, *self.curves.artists, *self.chosen, raw, smoothed, *readings])
        self.live.move([self.same, self.dots, self.star])

    def _draw_rates(self, dense: Baseline) -> None:
        """Accuracy against the peak: the means of the measured sweep, and the runs."""
        records = dense.sweep("learning-rate")
        self.same, self.dots, self.star = plots.rate_marks(self.rates, records, LOWEST / 16, HIGHEST * 1.6)
        self.measured = means(records, "schedule", "lr")
        captions = [f"{name}, peak {drawing.lr_text(lr)}: {mean:.2%}\n{SOURCE}" for name, lr, mean in self.measured]
        to = [MEASURED | dict(lr=lr) | parts(name) for name, lr, _ in self.measured]
        self.live.offer(self.rates, [row[1:] for row in self.measured], captions, to)

    def update(self, trial: Trained) -> None:
        """Move the schedule, its point, the curves, the range test and the star."""
        chosen, test = trial.settings, self.test_of(trial)
        self._draw_schedule(trial)
        self.curves.show(trial.run, [ghost.run for ghost in trial.ghosts])
        plots.fill_lr_range(self.tested, test, readings(test))
        for line in self.chosen:
            line.set_xdata([chosen.lr, chosen.lr])
        drawing.set_points(self.same, self._like(chosen))
        earlier, now = ([(t.settings.lr, t.run.accuracy) for t in of if t.run.score] for of in (trial.ghosts, [trial]))
        drawing.set_points(self.dots, earlier)
        drawing.set_points(self.star, now)
        if any([drawing.make_room(self.rates, *place) for place in earlier + now]):
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
        known = path if chosen.schedule == "plateau" and len(path) > 1 else [(p, f(p)) for p in grid]
        drawing.set_points(self.line, np.array(known) * (100, 1))
        progress, multiple = path[-1]
        drawing.set_points(self.point, [(100 * progress, multiple)])
        self.now.set_text(f"lr now {chosen.lr * multiple:.3g}, peak {drawing.lr_text(chosen.lr)}")

    def finding(self, trial: Trained) -> str:
        """The result of the run."""
        run, named = trial.run, f"peak {drawing.lr_text(trial.settings.lr)}, {trial.settings.schedule}"
        if run.diverged:
            return f"{named}: diverged at step {run.moments[-1].step:,}"
        if trial.learns_nothing:
            return f"{named}: it learns nothing"
        if not trial.facts.after:
            return f"{named}: {run.accuracy:.1%} so far" if run.score else super().finding(trial)
        return f"{named}: {run.accuracy:.1%}, and {trial.facts.after['accuracy_at_0.9']:.1%} with 90 % zeros"

    def status(self, trial: Trained) -> str:
        """The state of the run; whether its loss rose, and at its end whether it was no better than guessing."""
        run, guessing = trial.run, trial.guessing
        if not run.moments and self.test_of(trial) is None:
            return f"range test: 100 steps, the learning rate from {drawing.lr_text(LOWEST / 10)} to {HIGHEST:g} …"
        highest = run.of("loss").max(initial=0)
        rose = f"; the loss rose to {highest:.3g}" if highest > 1.5 * guessing and not run.diverged else ""
        stuck = f"; it learns nothing: guessing has {guessing:.2f}" if trial.learns_nothing else ""
        return run.words + rose + stuck + run.scored

    def cards(self, trial: Trained) -> list[Card]:
        """Accuracy, loss, the learning rate of the next step, accuracy after compression, the range test."""
        run, guessing = trial.run, f"guessing: ln {len(trial.dense.data.classes)} = {trial.guessing:.2f}"
        progress, multiple = path_of(trial)[-1]
        loss = "diverged" if run.diverged else f"{run.moments[-1].loss:.3g}" if run.moments else "–"
        done = f"{multiple:.1%} of the peak · {progress:.0%} done"
        return [
            run_card(run),
            ("training loss", loss, guessing),
            ("learning rate now", f"{trial.settings.lr * multiple:.3g}", done),
            smaller_card(trial),
            range_card(self.test_of(trial)),
        ]

    def code(self, settings: Mapping[str, Any]) -> str:
        """Train new weights with the schedule; score them."""
        name, warmup, size = settings["schedule"], settings["warmup"], settings["batch_size"]
        images = len(training_set(self.dense(settings.get("checkpoint")).data, IMAGES))
        schedule, hook = f'lk.optim.SCHEDULES["{name}"]', ""
        if name == "plateau":
            loss = "lambda model: lk.train.mean_loss(model, data.validation)"
            schedule = f"plateau = lk.optim.Plateau({loss}, {LOOKS_PER_EPOCH * runs.EPOCHS})"
            hook = ", after_step=plateau.look"
        sgd = "functools.partial(torch.optim.SGD, momentum=0.9)"
        lines = [
            *self.loaded(settings),
            "import functools",
            "import torch",
            "model = lk.models.reinitialized(model, seed=0)",
            f"train = lk.data.take(data.train, {images})",
            f"schedule = {schedule}",
            *[f"schedule = lk.optim.with_warmup(schedule, {warmup})"] * (warmup > 0),
            f"optimizer = {sgd if settings['optimizer'] == SGD else 'torch.optim.AdamW'}",
            f"how = dict(epochs={runs.EPOCHS}, lr={settings['lr']}, batch_size={size}, progress=False)",
            f"model, _ = lk.fit(model, train, schedule=schedule, optimizer=optimizer{hook}, **how)",
            'lk.accuracy(model, data.validation, diverged=True)["accuracy"]',
        ]
        return "\n".join(lines)


def readings(test: pd.DataFrame | None) -> dict[str, float]:
    """The rates that a range test suggests; empty if there is no test, or if it broke off at once."""
    return suggested_lrs(test) if test is not None and len(test) > 2 else {}


def smaller_card(trial: Trained) -> Card:
    """The accuracy of the trained network when it is pruned, and when it is rounded."""
    after = trial.facts.after or {}
    if math.isnan(after.get("accuracy_at_0.9", math.nan)):
        wait = "its weights are infinite" if trial.run.diverged else "measured when the run has ended"
        return "at 90 % zeros", "–", wait
    note = f"at 3 bits: {after['accuracy_3_bits']:.1%} · not retrained"
    return "at 90 % zeros", f"{after['accuracy_at_0.9']:.1%}", note


def range_card(test: pd.DataFrame | None) -> Card:
    """The learning rates that the range test suggests."""
    found = readings(test)
    if test is None or not found:
        return "range test", "–", "done before the first run"
    end = f"{'diverged' if test.attrs['diverged'] else 'ended'} at {test['lr'].iloc[-1]:.2g}"
    return "steepest at", f"{found['steepest']:.2g}", f"min ÷ 10: {found['tenth of minimum']:.2g} · {end}"


def learning_rate(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 07: a shipped architecture, or that of your own `model`, trained anew on `data`.

    Custom layers that do not initialize their weights in `reset_parameters` keep the weights they have.
    """
    return open_panel(LearningRate, model, data, preset)
