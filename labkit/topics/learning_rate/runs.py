"""Runs of the panel of notebook 07: a range test, then a training whose learning rate is recorded step by step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from labkit import drawing, optim
from labkit.live.baseline import Baseline
from labkit.live.controls import choice, share, steps
from labkit.live.training import Stop, Trained, stream, training_set
from labkit.measure import accuracy_when_smaller
from labkit.models import reinitialized
from labkit.topics.learning_rate.experiment import IMAGES, LOOKS_PER_EPOCH, TRAINING
from labkit.train import lr_range_test, mean_loss

EPOCHS = TRAINING["epochs"]
LOWEST, HIGHEST = 1e-4, 10.0
RATES = tuple(float(f"{m}e{e}") for e in range(-4, 1) for m in (1, 2, 3, 5)) + (HIGHEST,)
SGD, ADAMW = "SGD, momentum 0.9", "AdamW"
OPTIMIZERS = {SGD: TRAINING["optimizer"], ADAMW: torch.optim.AdamW}
SCHEDULES = [*optim.SCHEDULES, "plateau"]
BATCHES = tuple(2**i for i in range(5, 11))


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


def path_of(trial: Trained) -> tuple[tuple[float, float], ...]:
    """The steps that were taken, or the first one to come."""
    path: tuple[tuple[float, float], ...] = trial.facts.path
    return path or ((0.0, schedule_of(trial.settings.schedule, trial.settings.warmup)(0)),)


def tested(trial: Trained) -> tuple[Baseline, str, int]:
    """What a range test depends on."""
    return trial.dense, trial.settings.optimizer, trial.settings.batch_size


def arguments(trial: Trained) -> dict[str, Any]:
    """Of `fit`, and of its range test."""
    return dict(batch_size=trial.settings.batch_size, optimizer=OPTIMIZERS[trial.settings.optimizer])


def range_test(trial: Trained, cancel: Stop) -> pd.DataFrame:
    """The range test of the architecture with new weights."""
    model, train = reinitialized(trial.dense.model, seed=0), training_set(trial.dense.data, IMAGES)
    return lr_range_test(model, train, lowest=LOWEST / 10, highest=HIGHEST, cancel=cancel, **arguments(trial))


def run_trial(trial: Trained, show: Callable[[Trained], None], overtaken: Stop) -> Trained | None:
    """Train from new weights; at the end, make the network smaller."""
    chosen, data = trial.settings, trial.dense.data
    plateau = optim.Plateau(lambda model: mean_loss(model, data.validation), LOOKS_PER_EPOCH * EPOCHS)
    schedule = schedule_of(chosen.schedule, chosen.warmup, plateau)
    path: list[tuple[float, float]] = []

    def note(model: nn.Module, step: optim.Step) -> None:
        path.append((step.progress, schedule(step.progress)))

    ended = stream(
        reinitialized(trial.dense.model, seed=0), training_set(data, IMAGES), data.validation, trial.run.label,
        lambda run, model: show(replace(trial, run=run, facts=Facts(tuple(path)))), overtaken,
        after_step=[plateau.look, note], epochs=EPOCHS, lr=chosen.lr, schedule=schedule, **arguments(trial),
    )  # fmt: skip
    if not ended:
        return None
    smaller = accuracy_when_smaller(ended[0], data.validation, (0.9,), (3,))
    return replace(trial, run=ended[1], facts=Facts(tuple(path), smaller))
