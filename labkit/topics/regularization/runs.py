"""Runs of the panel of notebook 06: few images, regularizers, and what each run is measured for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from labkit import drawing
from labkit.compress._weights import weights
from labkit.compress.magnitude import prune, sparsity_of
from labkit.live.baseline import Baseline
from labkit.live.controls import choice, share, steps
from labkit.live.score import Score, scores
from labkit.live.training import Run, Stop, Trained, stream, training_set
from labkit.measure import accuracy
from labkit.models import reinitialized
from labkit.topics.regularization.experiment import PENALTY_NAMES, regularizers, untrained_lenet

IMAGES = (200, 500, 1_000, 2_000, 5_000, 20_000)
BATCH, STEPS = 50, 600
LOOKS = 20  # evaluations on all of validation during a run, for early stopping
LAMBDAS = [(f"{lam:g}", lam) for e in range(-5, 2) for lam in (float(f"1e{e}"), float(f"3e{e}"))][:-1]
USUAL = {"L1": 1e-3, "proximal L1": 0.1, "L2": 3e-3, "weight decay": 1.0}  # λ when this penalty is selected
SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)
EDGES = np.linspace(-5, 0.5, 45)  # of the histogram, powers of ten; smaller weights are shown at 0


@dataclass(frozen=True)
class Settings:
    """The regularizers, and the number of training images."""

    images: int = steps(
        "train images", [(f"{n:,}", n) for n in IMAGES], 1_000,
        note="the first ones of the data; the number of steps is always about 600", word="{} training images",
    )  # fmt: skip
    penalty: str = choice("penalty", ["none", *PENALTY_NAMES], "none", note="what shrinks the weights at every step")
    lam: float = steps("λ", LAMBDAS, USUAL["L1"], note="strength of the penalty; selecting a penalty sets its usual λ")
    dropout: float = share("dropout", 0.0, 0.9, 0.05, note="share of the hidden units that a training step leaves out")
    smoothing: float = share(
        "label smoothing", 0.0, 0.5, 0.05, note="share of each target that is spread over all classes"
    )
    augmentation: float = steps(
        "augmentation", [(f"{a / 4:g}", a / 4) for a in range(9)], 0.0,
        note="images are rotated, stretched and shifted at random: at 1 by up to 12 degrees, 12 % and 8 %",
    )  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What is measured during a run, besides its curves, and (`pruned`) at its end."""

    histogram: np.ndarray = field(default_factory=lambda: np.zeros(len(EDGES) - 1))  # share of the weights, by EDGES
    zeros: float = 0.0
    looks: tuple[tuple[float, float], ...] = ()  # (progress, accuracy on all of validation)
    train_accuracy: float = 0.0  # on some of its training images, at the end on all
    pruned: tuple[Score, ...] = ()  # by SPARSITIES

    @property
    def best(self) -> tuple[float, float] | None:
        """(progress, accuracy) of the first best evaluation: the network that early stopping would keep."""
        return max(self.looks, key=lambda look: look[1], default=None)

    @property
    def by(self) -> dict[float, float]:
        """Accuracy by sparsity after pruning; empty until all sparsities are measured."""
        done = len(self.pruned) == len(SPARSITIES)
        return {s: score.accuracy for s, score in zip(SPARSITIES, self.pruned, strict=True)} if done else {}


def recipe(settings: Settings) -> str:
    """The regularizers that are switched on, as text."""
    parts = [f"{settings.penalty} {settings.lam:g}"] if settings.penalty != "none" else []
    named = {"dropout": settings.dropout, "smooth": settings.smoothing, "augment": settings.augmentation}
    return ", ".join(parts + [f"{name} {value:g}" for name, value in named.items() if value]) or "no regularizer"


def budget(images: int) -> dict[str, Any]:
    """About STEPS steps whatever the number of images."""
    batch = min(BATCH, images)
    return dict(epochs=max(1, round(STEPS / -(-images // batch))), batch_size=batch, seed=0)


def untrained(dense: Baseline, dropout: float) -> nn.Module:
    """The architecture with new weights, the same for all settings; its dropout layers set to `dropout`."""
    model = untrained_lenet(0, 0.5) if dense.key else reinitialized(dense.model, seed=0)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = dropout
    return model


def histogram_of(model: nn.Module) -> np.ndarray:
    """The share of the weights whose magnitude lies between two EDGES; the smallest, and zeros, in the first bin."""
    magnitudes = torch.cat([w.flatten() for w in weights(model).values()]).abs()
    return drawing.log_counts(magnitudes, EDGES) / len(magnitudes)


def run_trial(trial: Trained, show: Callable[[Trained], None], overtaken: Stop) -> Trained | None:
    """Train the architecture from new weights; at the end prune it one-shot, without training it again."""
    chosen, facts = trial.settings, Facts()
    train, validation = training_set(trial.dense.data, chosen.images), trial.dense.data.validation

    def seen(run: Run, model: nn.Module) -> None:
        nonlocal facts
        if run.progress * LOOKS >= len(facts.looks) + 1:
            *_, score = scores(model, validation)
            facts = replace(facts, looks=(*facts.looks, (run.progress, score.accuracy)))
        weighed: dict[str, Any] = dict(histogram=histogram_of(model), zeros=sparsity_of(model))
        facts = replace(facts, train_accuracy=run.moments[-1].train_accuracy, **weighed)
        show(replace(trial, run=run, facts=facts))

    how = regularizers(chosen.penalty, chosen.lam, chosen.smoothing, chosen.augmentation)
    ended = stream(
        untrained(trial.dense, chosen.dropout), train, validation, trial.run.label, seen, overtaken,
        **budget(chosen.images), **how,
    )  # fmt: skip
    if not ended:
        return None
    model, run = ended
    facts = replace(facts, train_accuracy=accuracy(model, train, diverged=True)["accuracy"])
    for sparsity in SPARSITIES if not run.diverged else ():
        if overtaken():
            return None
        show(replace(trial, run=run, facts=facts))
        *_, score = scores(prune(model, sparsity), validation)
        facts = replace(facts, pruned=(*facts.pruned, score))
    return replace(trial, run=run, facts=facts)
