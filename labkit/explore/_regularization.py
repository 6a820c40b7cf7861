"""Panel of notebook 06: a run on few images, its gap between training and validation, and what can be pruned of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from labkit import plots
from labkit.compress._weights import weights
from labkit.compress.magnitude import prune, sparsity_of
from labkit.data import Data
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.explore._score import Score, scores
from labkit.explore._start import Dense, Key, shipped, start
from labkit.explore._training import GHOST_COLOURS, GHOSTS, Curves, Run, stream, training_set
from labkit.measure import accuracy
from labkit.sweep import fresh
from labkit.sweep.regularization import PENALTY_NAMES, regularizers, untrained_lenet

NETWORKS = (("lenet-300-100", "mnist"), ("lenet-300-100", "fashion-mnist"))
IMAGES = (200, 500, 1_000, 2_000, 5_000, 20_000)
BATCH, STEPS = 50, 600
LOOKS = 20  # on all of validation, spread over a run: for early stopping
LAMBDAS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
USUAL = {"L1": 1e-3, "proximal L1": 0.1, "L2": 3e-3, "weight decay": 1.0}  # where the menu sets λ
SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)
KEY = 21  # letters of a recipe in the key
EDGES = np.linspace(-5, 0.5, 45)  # of the histogram, powers of ten; what is smaller is called 0


@dataclass(frozen=True)
class Recipe:
    """What is done against learning by heart, and on how many images."""

    images: int
    penalty: str
    lam: float
    smoothing: float
    augmentation: float
    dropout: float = 0.0

    @property
    def words(self) -> str:
        """What is switched on."""
        parts = [f"{self.penalty} {self.lam:g}"] if self.penalty != "none" else []
        named = {"dropout": self.dropout, "smooth": self.smoothing, "augment": self.augmentation}
        parts += [f"{name} {value:g}" for name, value in named.items() if value]
        return ", ".join(parts) or "nothing"

    @property
    def label(self) -> str:
        """The same and the number of images, cut to the width of a row in the key."""
        words = self.words if len(self.words) <= KEY else self.words[: KEY - 1] + "…"
        return f"{words} · {self.images:,}"

    def settings(self) -> dict[str, Any]:
        """What to give to `fit`, in about STEPS steps whatever the number of images."""
        batch = min(BATCH, self.images)
        epochs = max(1, round(STEPS / -(-self.images // batch)))
        chosen = regularizers(self.penalty, self.lam, self.smoothing, self.augmentation)
        return dict(epochs=epochs, batch_size=batch, seed=0) | chosen


@dataclass(frozen=True)
class Trial:
    """A recipe and its run so far; `train_accuracy` and `pruned` are measured when it has ended."""

    dense: Dense  # its architecture is trained anew, its data are used
    recipe: Recipe
    run: Run
    histogram: np.ndarray | None = None  # share of the weights, by EDGES
    zeros: float = 0.0
    looks: tuple[tuple[float, float], ...] = ()  # (progress, accuracy on all of validation)
    train_accuracy: float | None = None  # on all its training images
    pruned: tuple[Score, ...] = ()  # by SPARSITIES
    ghosts: tuple["Trial", ...] = ()


def untrained(dense: Dense, dropout: float) -> nn.Module:
    """The architecture with new weights, the same ones whatever is done to it; its dropout layers set to `dropout`."""
    model = untrained_lenet(0, 0.5) if dense.key else fresh(dense.model, seed=0)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = dropout
    return model


def histogram_of(model: nn.Module) -> np.ndarray:
    """The share of the weights whose magnitude lies between two EDGES; the smallest, and zeros, in the first bin."""
    values = torch.cat([w.flatten() for w in weights(model).values()]).abs()
    low, high = 10.0 ** EDGES[0], 10.0 ** EDGES[-1]
    counts = torch.histc(values.clamp(1.001 * low, 0.999 * high).log10(), len(EDGES) - 1, EDGES[0], EDGES[-1])
    return counts.numpy() / len(values)


class Regularization:
    """The view: train and validation accuracy, the loss, the weights, accuracy against sparsity, a key of the runs."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 5.6), own
        self._ended: list[Trial] = []
        add = self.live.figure.add_axes
        self.accuracies, self.losses = add((0.075, 0.6, 0.39, 0.35)), add((0.535, 0.6, 0.21, 0.35))
        self.weights, self.sparsities = add((0.075, 0.095, 0.26, 0.35)), add((0.42, 0.095, 0.325, 0.35))
        self.key = add((0.765, 0.3, 0.23, 0.45))
        self._draw_still()

    def results(
        self,
        images: int,
        penalty: str,
        lam: float,
        smoothing: float,
        augmentation: float = 0.0,
        dropout: float = 0.0,
        checkpoint: Key | None = None,
    ) -> Iterator[Trial]:
        """A recipe before its run; the run that it had, if it had one, is not among the ghosts."""
        dense: Dense = shipped(checkpoint) if checkpoint else self._own  # type: ignore[assignment]
        images = len(training_set(dense.data, images))
        recipe = Recipe(images, penalty, lam if penalty != "none" else 0.0, smoothing, augmentation, dropout)
        others = [t for t in self._ended if t.dense is dense and t.recipe != recipe]
        yield Trial(dense, recipe, Run(recipe.label), ghosts=tuple(others[-GHOSTS:]))

    def train(self, settings: dict[str, Any], show: Callable[[Trial], None], overtaken: Callable[[], bool]) -> None:
        """Train the architecture from new weights; at the end prune it one-shot, without training it again."""
        trial = next(self.results(**settings))
        train, validation = training_set(trial.dense.data, trial.recipe.images), trial.dense.data.validation

        def seen(run: Run, model: nn.Module) -> Trial:
            nonlocal trial
            if run.progress * LOOKS >= len(trial.looks) + 1:
                *_, score = scores(model, validation)
                trial = replace(trial, looks=(*trial.looks, (run.progress, score.accuracy)))
            return replace(trial, run=run, histogram=histogram_of(model), zeros=sparsity_of(model))

        ended = stream(
            untrained(trial.dense, trial.recipe.dropout), train, validation, trial.run.label,
            lambda run, model: show(seen(run, model)), overtaken, **trial.recipe.settings(),
        )  # fmt: skip
        if not ended:
            return
        model, run = ended
        trial = replace(seen(run, model), train_accuracy=accuracy(model, train, diverged=True)["accuracy"])
        for sparsity in SPARSITIES if not run.diverged else ():
            *_, score = scores(prune(model, sparsity), validation)
            trial = replace(trial, pruned=(*trial.pruned, score))
            if overtaken():
                return
            show(trial)
        self._ended = [t for t in self._ended if (t.dense, t.recipe) != (trial.dense, trial.recipe)] + [trial]
        show(trial)

    def draw(self, trial: Trial) -> None:
        """Move curves, histogram and the line of pruned networks."""
        self.curves.show(trial.run, [ghost.run for ghost in trial.ghosts])
        self._draw_gap(trial)
        blank = np.zeros(len(EDGES) - 1)
        shown = [trial, *trial.ghosts[::-1][:1]]
        for patch, one in zip((self.now, self.before), [*shown, None], strict=False):
            patch.set_data(blank if one is None or one.histogram is None else one.histogram)
        newest_first = [trial, *trial.ghosts[::-1]]
        for line, one in zip([self.line, *self.ghost_lines], newest_first + [None] * GHOSTS, strict=False):
            heights = [score.accuracy for score in one.pruned] if one else []
            line.set_data(range(len(heights)), plots.logit(np.array(heights)))

    def _draw_gap(self, trial: Trial) -> None:
        moments = trial.run.moments
        both = np.array([(m.train_accuracy, m.accuracy) for m in moments]).reshape(-1, 2)
        upper, lower = plots.logit(both).T
        self.gap.set_data([100 * m.progress for m in moments], upper, lower)
        best = best_look(trial)
        self.best.set_data([100 * best[0]] if best else [], plots.logit(np.array([best[1]] if best else [])))

    def _draw_still(self) -> None:
        self.curves = Curves(self.losses, self.accuracies, self.key)
        plots.gap_axis(self.accuracies)
        self.gap = self.accuracies.fill_between([], [], [], color=plots.ORANGE, alpha=0.2, lw=0)
        (self.best,) = self.accuracies.plot([], [], "v", ms=10, color=plots.YELLOW, mec="black", zorder=5)
        self.now, self.before = plots.magnitude_histogram(self.weights, EDGES)
        self.line, self.ghost_lines = plots.pruned_axis(self.sparsities, SPARSITIES, GHOST_COLOURS)
        titles = {
            self.accuracies: "the gap; ▼ the best look at validation",
            self.losses: "loss, with its penalty",
            self.weights: "the weights",
            self.sparsities: "what can be pruned of it",
            self.key: "this run, earlier ones · images",
        }
        for ax, title in titles.items():
            ax.set_title(title, fontsize=10.5, loc="left")
        self.live.move([self.gap, *self.curves.artists, self.best, self.now, self.before, *self.ghost_lines, self.line])

    def tell(self, trial: Trial) -> Words:
        """The trial in words."""
        cards = [accuracy_card(trial), gap_card(trial), pruned_card(trial), zeros_card(trial), best_card(trial)]
        trained = f"{trial.dense.name}, new weights, {trial.recipe.images:,} {trial.dense.score.what}"
        setting = f"{trained}, regularized by {trial.recipe.words}"
        words = trial.run.words
        if trial.run.ended and not trial.run.diverged and len(trial.pruned) < len(SPARSITIES):
            words += "; pruning it …"
        return Words(cards, _words.sentence(setting, cards) + trial.run.scored, words + trial.run.scored)


def best_look(trial: Trial) -> tuple[float, float] | None:
    """(progress, accuracy) of the first best look at validation: where early stopping would have taken its network."""
    return max(trial.looks, key=lambda look: look[1], default=None)


def accuracy_card(trial: Trial) -> Card:
    """Where the run stands on validation."""
    if trial.run.score is None:
        return "accuracy", "–", "the run starts when the controls rest"
    low, high = trial.run.score.interval
    note = f"95 %: {low:.1%}–{high:.1%} of {trial.run.score.images:,}"
    return "accuracy", f"{trial.run.score.accuracy:.2%}", note


def gap_card(trial: Trial) -> Card:
    """Accuracy on the training images, as they are, and how far validation is below it."""
    if trial.run.score is None:
        return "training accuracy", "–", "gap: –"
    now = trial.train_accuracy if trial.train_accuracy is not None else trial.run.moments[-1].train_accuracy
    return "training accuracy", f"{now:.2%}", f"gap: {100 * (now - trial.run.score.accuracy):.1f} points"


def pruned_card(trial: Trial) -> Card:
    """What is left of the accuracy at 90 % zeros, and at 80 and 95 %."""
    by = dict(zip(SPARSITIES, trial.pruned, strict=False))
    if len(by) < len(SPARSITIES):
        return "at 90 % zeros", "–", "measured when the run has ended"
    return "at 90 % zeros", f"{by[0.9].accuracy:.2%}", f"80 %: {by[0.8].accuracy:.1%} · 95 %: {by[0.95].accuracy:.1%}"


def zeros_card(trial: Trial) -> Card:
    """How many weights are exactly zero without pruning, and how many nearly are."""
    if trial.histogram is None:
        return "weights that are 0", "–", "exactly, without pruning"
    near = trial.histogram[EDGES[1:] <= -3 + 1e-9].sum()
    return "weights that are 0", f"{trial.zeros:.1%}", f"exactly · below 0.001: {near:.0%}"


def best_card(trial: Trial) -> Card:
    """Where early stopping would have stopped."""
    best = best_look(trial)
    if best is None:
        return "best on the way", "–", "where early stopping would stop"
    return "best on the way", f"{best[1]:.2%}", f"at {best[0]:.0%} of the steps, chosen on these images"


def follow_penalty(controls: dict[str, Any]) -> None:
    """Let λ go to where a penalty usually has it, when the penalty is chosen: their scales differ a thousandfold."""

    def place(change: dict[str, Any]) -> None:
        if change["new"] in USUAL:
            controls["lam"].value = USUAL[change["new"]]

    controls["penalty"].observe(place, "value")


def regularization(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 06: LeNet-300-100, or the architecture of your own `model`, trained anew on `data`.

    A model of your own has a control for dropout if it has `nn.Dropout` layers, and for augmentation if x are images.
    """
    own, controls = start(model, data, NETWORKS)
    offered = [n for n in IMAGES if own is None or n < len(own.data.train)] + (
        [len(own.data.train)] if own and len(own.data.train) <= IMAGES[-1] else []
    )
    controls |= {
        "images": _controls.steps("train images", [(f"{n:,}", n) for n in offered], min(1_000, offered[-1])),
        "penalty": _controls.choice("penalty", ["none", *PENALTY_NAMES], "none"),
        "lam": _controls.steps("λ", [(f"{lam:g}", lam) for lam in LAMBDAS], USUAL["L1"]),
    }
    if own is None or any(isinstance(layer, nn.Dropout) for layer in own.model.modules()):
        controls["dropout"] = _controls.share("dropout", 0.0, high=0.9, step=0.05)
    controls["smoothing"] = _controls.share("smoothing", 0.0, high=0.5, step=0.05)
    if own is None or _words.has_pictures(own.data):  # only pictures can be turned, moved and scaled
        controls["augmentation"] = _controls.steps("augmentation", [(f"{a / 4:g}", a / 4) for a in range(9)], 0.0)
    view = Regularization(own)
    panel = Panel("regularization", view, controls, run=view.train)
    follow_penalty(controls)
    return panel
