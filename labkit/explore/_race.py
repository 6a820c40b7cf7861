"""Second panel of notebook 08: one optimizer at one learning rate trains a network, beside every run of the sweep."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from labkit import plots
from labkit.data import Data, Split
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.explore._start import Dense, shipped, start
from labkit.explore._training import GHOSTS, WATCHED, Curves, Run, stream, training_set
from labkit.optim import TORCHS
from labkit.sweep import DEFAULT_LR, fresh
from labkit.sweep.optimizers import BATCH, FEW_IMAGES, PASSES, made_smaller

RATES = (*(float(f"{m}e{e}") for e in range(-4, 0) for m in (1, 3)), 1.0)
SIZES = {"few images, 25 passes": (FEW_IMAGES, PASSES), "all images, 1 pass": (FEW_IMAGES * PASSES, 1)}


@dataclass(frozen=True)
class Racer:
    """A setting of the controls and its run so far; `smaller` is what the trained network keeps when made smaller."""

    dense: Dense  # its architecture is trained anew, its data are used
    optimizer: str
    lr: float
    size: str
    run: Run
    smaller: dict[str, float] | None = None
    ghosts: tuple["Racer", ...] = ()

    @property
    def train(self) -> Split:
        """The images it is trained on."""
        return training_set(self.dense.data, SIZES[self.size][0])


class Race:
    """The view: accuracy against the learning rate, measured beforehand, with a star for this run; loss; accuracy."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.9), own
        self._shown: tuple[Dense, str] | None = None
        self._ended: list[Racer] = []
        add = self.live.figure.add_axes
        self.rates, self.key = add((0.075, 0.11, 0.365, 0.83)), add((0.5, 0.01, 0.49, 0.25))
        self.losses, self.accuracies = add((0.515, 0.43, 0.185, 0.51)), add((0.785, 0.43, 0.205, 0.51))

    def results(self, optimizer: str, lr: float, size: str, seed: int) -> Iterator[Racer]:
        """A setting before its run; runs of other settings that have ended are its ghosts."""
        dense = self._own or shipped(("lenet-300-100", "fashion-mnist"))
        label = f"{optimizer}, lr {plots.lr_text(lr)}, seed {seed}"
        others = [r for r in self._ended if r.size == size and r.run.label != label]
        yield Racer(dense, optimizer, lr, size, Run(label), ghosts=tuple(others[-GHOSTS:]))

    def train(self, settings: dict[str, Any], show: Callable[[Racer], None], overtaken: Callable[[], bool]) -> None:
        """Train the architecture from new weights, as the sweep did; at the end, make it smaller."""
        racer, seed = next(self.results(**settings)), settings["seed"]
        ended = stream(
            fresh(racer.dense.model, seed), racer.train, racer.dense.data.validation, racer.run.label,
            lambda run, model: show(replace(racer, run=run)), overtaken, optimizer=TORCHS[racer.optimizer],
            lr=racer.lr, epochs=SIZES[racer.size][1],
            batch_size=min(BATCH, len(racer.train)), seed=seed,
        )  # fmt: skip
        if ended:
            model, run = ended
            racer = replace(racer, run=run, smaller=made_smaller(model, racer.dense.data.validation))
            self._ended = [r for r in self._ended if (r.size, r.run.label) != (racer.size, run.label)] + [racer]
            show(racer)

    def draw(self, racer: Racer) -> None:
        """Move the curves and the star."""
        if self._shown != (racer.dense, racer.size):
            self._draw_still(racer)
            self._shown = (racer.dense, racer.size)
        self.curves.show(racer.run, [ghost.run for ghost in racer.ghosts])
        ghosts = [(ghost.lr, ghost.run.accuracy) for ghost in racer.ghosts]
        self.dots.set_data([lr for lr, _ in ghosts], plots.logit(np.array([height for _, height in ghosts])))
        last = [racer.run.accuracy] if racer.run.score else []
        self.star.set_data([racer.lr] * len(last), plots.logit(np.array(last)))

    def _draw_still(self, racer: Racer) -> None:
        for ax in (self.rates, self.losses, self.accuracies, self.key):
            ax.clear()
        self.live.moving.clear()
        measured = racer.dense.sweep("optimizers")
        plots.rate_curves(self.rates, measured if racer.size.startswith("few") else measured[:0])
        self.curves = Curves(self.losses, self.accuracies, self.key)
        self.accuracies.set_ylabel("")
        (self.dots,) = self.rates.plot([], [], "o", ms=8, color=plots.SKY, mec="black")
        (self.star,) = self.rates.plot([], [], "*", ms=20, color=plots.ORANGE, mec="black", mew=1.3)
        self.rates.set_title("★ this run, ● earlier ones; lines: measured, few images", fontsize=10, loc="left")
        self.losses.set_title("training loss", fontsize=10, loc="left")
        self.accuracies.set_title("accuracy", fontsize=10, loc="left")
        self.live.move([*self.curves.artists, self.dots, self.star])
        self.live.refresh()

    def tell(self, racer: Racer) -> Words:
        """The run in words."""
        cards = [accuracy_card(racer), gap_card(racer), *smaller_cards(racer)]
        setting = f"{racer.dense.name}, new weights, {len(racer.train):,} {racer.dense.score.what}, {racer.run.label}"
        scored = racer.run.scored
        return Words(cards, _words.sentence(setting, cards) + scored, racer.run.words + stuck(racer) + scored)


def stuck(racer: Racer) -> str:
    """Whether its loss is no better than that of guessing, in words."""
    guessing = math.log(len(racer.dense.data.classes))
    learns = not racer.run.moments or racer.run.diverged or racer.run.moments[-1].loss < 0.98 * guessing
    return "" if learns else f"; it learns nothing: guessing has a loss of {guessing:.2f}"


def accuracy_card(racer: Racer) -> Card:
    """Where the run stands on validation."""
    score = racer.run.score
    if score is None:
        return "accuracy", "–", "the run starts when the controls rest"
    low, high = score.interval
    return "accuracy", f"{score.accuracy:.2%}", f"95 %: {low:.1%}–{high:.1%} · default lr {default_lr(racer.optimizer)}"


def default_lr(optimizer: str) -> str:
    """The learning rate that torch takes if it is given none."""
    return plots.lr_text(DEFAULT_LR[optimizer])


def gap_card(racer: Racer) -> Card:
    """How much better the network knows the images that it was trained on."""
    images = min(WATCHED, len(racer.train))
    if not racer.run.moments:
        return "gap to training images", "–", f"accuracy on {images} of them, minus that on validation"
    share = racer.run.moments[-1].train_accuracy
    gap = f"{100 * (share - racer.run.accuracy):+.1f} points"
    return "gap to training images", gap, f"{share:.1%} of {images} of them are right"


def smaller_cards(racer: Racer) -> list[Card]:
    """What is left of the accuracy when the trained network is pruned and when it is rounded, nothing trained again."""

    def read(column: str) -> str:
        kept = (racer.smaller or {}).get(column, math.nan)
        return "–" if math.isnan(kept) else f"{kept:.1%}"

    return [
        ("at 90 % zeros", read("accuracy_90_sparse"), f"at 80 %: {read('accuracy_80_sparse')} · one-shot"),
        ("at 3 bits", read("accuracy_3_bits"), f"at 4 bits: {read('accuracy_4_bits')} · rounded"),
    ]


def race(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The second live panel of notebook 08: LeNet-300-100 on Fashion-MNIST, or your own `model`, trained anew."""
    own, _ = start(model, data)
    controls = {
        "optimizer": _controls.choice("optimizer", list(TORCHS), "Adam"),
        "lr": _controls.steps("lr", [(plots.lr_text(lr), lr) for lr in RATES], DEFAULT_LR["Adam"]),
        "size": _controls.choice("training set", list(SIZES), next(iter(SIZES))),
        "seed": _controls.steps("seed", [(str(seed), seed) for seed in range(5)], 0),
    }
    view = Race(own)
    return Panel("race", view, controls, run=view.train)
