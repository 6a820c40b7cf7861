"""Second panel of notebook 08: one optimizer at one learning rate trains a network, beside every run of the sweep."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from labkit import drawing
from labkit.data import Data
from labkit.live.baseline import Baseline
from labkit.live.controls import choice, steps
from labkit.live.network import Star, open_panel
from labkit.live.panel import Panel
from labkit.live.training import WATCHED, Curves, Stop, Trained, TrainingView, means, run_card, stream, training_set
from labkit.live.view import Card
from labkit.measure import accuracy_when_smaller
from labkit.models import reinitialized
from labkit.optim import TORCHS
from labkit.topics.optimizers import plots
from labkit.topics.optimizers.experiment import BATCH, DEFAULT_LR, FEW_IMAGES, PASSES

RATES = (*(float(f"{m}e{e}") for e in range(-4, 0) for m in (1, 3)), 1.0)
SIZES = {"few images, 25 passes": (FEW_IMAGES, PASSES), "all images, 1 pass": (FEW_IMAGES * PASSES, 1)}
SMALL_SET = next(iter(SIZES))


@dataclass(frozen=True)
class Settings:
    """The values of the controls."""

    optimizer: str = choice("optimizer", list(TORCHS), "Adam", note="how gradients become steps", word="{}")
    lr: float = steps("lr", [(drawing.lr_text(lr), lr) for lr in RATES], DEFAULT_LR["Adam"], note="the highest rate")
    size: str = choice("training set", list(SIZES), SMALL_SET, note="both take the same number of steps", word="{}")
    seed: int = steps("seed", [(str(seed), seed) for seed in range(5)], 0, note="of the new weights and the batches")


class Race(TrainingView):
    """The view: accuracy against the learning rate, measured beforehand, with a star for this run; accuracy; loss."""

    name, settings_type, facts = "race", Settings, dict[str, float]()
    networks = (("lenet-300-100", "fashion-mnist"),)
    scenes = {
        "Adam's default": dict(optimizer="Adam", lr=1e-3, size=SMALL_SET, seed=0),
        "momentum at its best": dict(optimizer="momentum", lr=0.03, size=SMALL_SET, seed=0),
        "SGD, rate too low": dict(optimizer="SGD", lr=1e-3, size=SMALL_SET, seed=0),
        "RMSprop, rate too high": dict(optimizer="RMSprop", lr=0.03, size=SMALL_SET, seed=0),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        add = self.live.figure.add_axes
        self.rates, self.accuracies = add((0.065, 0.15, 0.35, 0.69)), add((0.49, 0.15, 0.225, 0.69))
        self.losses, self.key = add((0.77, 0.48, 0.22, 0.36)), add((0.745, 0.0, 0.255, 0.31))

    def label(self, dense: Baseline, settings: Settings) -> str:
        """Optimizer, learning rate, seed."""
        return f"{settings.optimizer}, lr {drawing.lr_text(settings.lr)}, seed {settings.seed}"

    def measure(self, dense: Baseline, settings: Settings) -> Iterator[Trained]:
        """Beside a run, only those on the same training set."""
        for trial in super().measure(dense, settings):
            yield replace(trial, ghosts=tuple(one for one in trial.ghosts if one.settings.size == settings.size))

    def training(self, trial: Trained, show: Callable[[Trained], None], overtaken: Stop) -> Trained | None:
        """Train the architecture from new weights, as the sweep did; at the end, compress it."""
        settings, data, train = trial.settings, trial.dense.data, images(trial)
        ended = stream(
            reinitialized(trial.dense.model, settings.seed), train, data.validation, trial.run.label,
            lambda run, model: show(replace(trial, run=run)), overtaken, optimizer=TORCHS[settings.optimizer],
            lr=settings.lr, epochs=SIZES[settings.size][1], batch_size=min(BATCH, len(train)), seed=settings.seed,
        )  # fmt: skip
        return replace(trial, run=ended[1], facts=accuracy_when_smaller(ended[0], data.validation)) if ended else None

    def still_for(self, trial: Trained) -> Any:
        """The still part changes with the network and the number of images."""
        return trial.dense, trial.settings.size

    def background(self, trial: Trained) -> None:
        """The measured sweep, which is of few images, and the axes of the curves."""
        records, few = trial.dense.sweep("optimizers"), trial.settings.size == SMALL_SET
        plots.rate_curves(self.rates, records if few else records[:0], legend=False)
        rows = measured(trial.dense) if few else []
        texts = [f"{name}, lr {drawing.lr_text(lr)}: {acc:.2%}\nmean of 3 seeds, few images" for name, lr, acc in rows]
        to = [dict(optimizer=name, lr=lr, size=SMALL_SET) if lr in RATES else {} for name, lr, _ in rows]
        self.live.offer(self.rates, [row[1:] for row in rows], texts, to)
        self.curves = Curves(self.losses, self.accuracies, self.key)
        (self.dots,) = self.rates.plot([], [], "o", ms=8, color=drawing.SKY, mec="black")
        self.star = Star(self.live, self.rates)
        if rows:
            drawing.legend_above(self.rates)
            self.rates.get_legend().set_bbox_to_anchor((0, 1.1), self.rates.transAxes)  # type: ignore[union-attr]
        title = "★ this run, ● earlier runs" + "; lines: measured" * bool(rows)
        self.rates.set_title(title, fontsize=11, loc="left")
        self.accuracies.set_ylabel(f"accuracy, {len(images(trial)):,} {trial.dense.score.what}")
        self.losses.set_title("training loss", fontsize=11, loc="left")
        self.losses.set_ylabel("")
        self.live.move([*self.curves.artists, self.dots, *self.star.artists])

    def update(self, trial: Trained) -> None:
        """Move the curves and the star."""
        self.curves.show(trial.run, [ghost.run for ghost in trial.ghosts])
        drawing.set_points(self.dots, [(ghost.settings.lr, ghost.run.accuracy) for ghost in trial.ghosts])
        self.star.place(trial.settings.lr, trial.run.score)

    def finding(self, trial: Trained) -> str:
        """The accuracy, and that of the same optimizer at its best measured rate."""
        settings, run = trial.settings, trial.run
        rows = [row for row in measured(trial.dense) if row[0] == settings.optimizer]
        if not run.score or settings.size != SMALL_SET or not rows:
            return super().finding(trial)
        _, lr, best = max(rows, key=lambda row: row[2])
        rates = [drawing.lr_text(rate) for rate in (settings.lr, lr)]
        return f"{settings.optimizer}, lr {rates[0]}: {run.reached}; best measured rate, {rates[1]}: {best:.1%}"

    def status(self, trial: Trained) -> str:
        """The state of the run, and whether its loss is no better than that of guessing."""
        stuck = f"; it learns nothing: guessing has a loss of {trial.guessing:.2f}" if trial.learns_nothing else ""
        return trial.run.words + stuck + trial.run.scored

    def cards(self, trial: Trained) -> list[Card]:
        """Accuracy, the gap to the training images, the accuracy after compression."""
        default = drawing.lr_text(DEFAULT_LR[trial.settings.optimizer])  # torch's own
        return [run_card(trial.run, f" · default lr {default}"), gap_card(trial), *smaller_cards(trial)]

    def code(self, settings: Mapping[str, Any]) -> str:
        """New weights, one run, score."""
        count, passes = SIZES[settings["size"]]
        train = training_set(self.dense().data, count)
        how = f"epochs={passes}, lr={settings['lr']}, batch_size={min(BATCH, len(train))}, seed={settings['seed']}"
        lines = [
            *self.loaded(settings),
            f"train = lk.data.take(data.train, {len(train)})",
            f"model = lk.models.reinitialized(model, {settings['seed']})",
            f'model, history = lk.fit(model, train, {how}, optimizer=lk.optim.TORCHS["{settings["optimizer"]}"])',
            'lk.accuracy(model, data.validation)["accuracy"]',
        ]
        return "\n".join(lines)


def measured(dense: Baseline) -> list[tuple[str, float, float]]:
    """Optimizer, learning rate, and the mean accuracy over the seeds; empty without a sweep."""
    return means(dense.sweep("optimizers"), "optimizer", "lr")


def images(trial: Trained) -> Any:
    """The images that a run is trained on."""
    return training_set(trial.dense.data, SIZES[trial.settings.size][0])


def gap_card(trial: Trained) -> Card:
    """How much higher the accuracy is on the training images."""
    watched = min(WATCHED, len(images(trial)))
    if not trial.run.moments:
        return "gap to training images", "–", f"accuracy on {watched} of them, minus that on validation"
    share = trial.run.moments[-1].train_accuracy
    gap = f"{100 * (share - trial.run.accuracy):+z.1f} points"
    return "gap to training images", gap, f"{share:.1%} of {watched} of them correct"


def smaller_cards(trial: Trained) -> list[Card]:
    """Accuracy when the trained network is pruned, and when it is rounded, without retraining."""
    read = {name: "–" if math.isnan(share) else f"{share:.1%}" for name, share in trial.facts.items()}
    smaller = [read.get(f"accuracy_{how}", "–") for how in ("at_0.9", "at_0.8", "3_bits", "4_bits")]
    return [
        ("at 90 % zeros", smaller[0], f"at 80 %: {smaller[1]} · one-shot"),
        ("at 3 bits", smaller[2], f"at 4 bits: {smaller[3]} · rounded"),
    ]


def race(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The second live panel of notebook 08: LeNet-300-100 on Fashion-MNIST, or your own `model`, trained anew."""
    return open_panel(Race, model, data, preset)
