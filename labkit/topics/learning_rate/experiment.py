"""Schedules and peak learning rates at one small budget, then pruning and rounding: the tables of notebook 07."""

import functools
import math
import statistics
from typing import Any

import pandas as pd
import torch
from torch import nn

from labkit import _check, optim
from labkit.data import Data, Split, load_data, take
from labkit.measure import accuracy, accuracy_when_smaller
from labkit.models import build
from labkit.sweep import run_and_ship
from labkit.train import fit, mean_loss

LOOKS_PER_EPOCH = 4  # evaluations by "plateau"
SEEDS = (0, 1, 2)
LEARNING_RATE_GRID = {
    "schedule": ("constant", "step", "exponential", "cosine", "warm-up, cosine", "one-cycle", "plateau"),
    "lr": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
}
IMAGES = 20_000  # of training
TRAINING: dict[str, Any] = dict(
    epochs=4, batch_size=128, optimizer=functools.partial(torch.optim.SGD, momentum=0.9), progress=False
)


def learning_rate_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """A network trained from scratch with every schedule and peak, then pruned and rounded; scored on validation.

    4 epochs over 20,000 images, SGD with momentum 0.9, 3 seeds. `loss` is on validation; if the run diverged, it
    is NaN or above that of guessing. `weight_norm` is the root of the sum of the squared weights, `peak_to_rms`
    the largest magnitude over the root mean square, mean over the layers. Nothing is trained after pruning and
    rounding.
    """
    data = load_data(data_name)

    def run(schedule: str, lr: float, seed: int) -> dict[str, Any]:
        model = trained_by(schedule, lr, seed, model_name, data)
        return accuracy(model, data.validation, diverged=True) | afterwards(model, data.validation)

    return run_and_ship(run, LEARNING_RATE_GRID, SEEDS, "learning-rate", model_name, data_name)


def chosen_rates_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Each schedule at its best peak, by mean validation accuracy, trained again and scored once on test."""
    data, best = load_data(data_name), best_rates(learning_rate_sweep(model_name, data_name))

    def run(schedule: str, seed: int) -> dict[str, Any]:
        model = trained_by(schedule, best[schedule], seed, model_name, data)
        return dict(lr=best[schedule]) | accuracy(model, data.test, diverged=True) | afterwards(model, data.test)

    grid = {"schedule": LEARNING_RATE_GRID["schedule"]}
    return run_and_ship(run, grid, SEEDS, "chosen-learning-rate", model_name, data_name)


def best_rates(table: pd.DataFrame) -> dict[str, float]:
    """The peak learning rate with the highest mean accuracy over the seeds, by schedule."""
    _check.table("table", table, "schedule", "lr", "accuracy", rows=1)
    mean = table.groupby(["schedule", "lr"], sort=False)["accuracy"].mean().unstack("lr")
    return {str(schedule): float(lr) for schedule, lr in mean.idxmax(axis=1).items()}


def trained_by(schedule: str, lr: float, seed: int, model_name: str, data: Data) -> nn.Module:
    """A new network, trained with a schedule of the grid and the peak `lr`."""
    torch.manual_seed(seed)
    how: dict[str, Any] = TRAINING | dict(lr=lr, seed=seed)
    if schedule == "plateau":
        looks = LOOKS_PER_EPOCH * TRAINING["epochs"]
        plateau = optim.Plateau(lambda model: mean_loss(model, data.validation), looks)
        how |= dict(schedule=plateau, after_step=plateau.look)
    elif schedule == "warm-up, cosine":
        how |= dict(schedule=optim.with_warmup(optim.cosine))
    else:
        how |= dict(schedule=optim.SCHEDULES[schedule])
    return fit(build(model_name), take(data.train, IMAGES), **how)[0]


def afterwards(model: nn.Module, split: Split) -> dict[str, float]:
    """Loss and weight statistics of a trained network, and its accuracy when it is pruned or rounded."""
    weights = [p.detach() for p in model.parameters() if p.ndim > 1]
    peaks = [float(w.abs().max() / w.square().mean().sqrt()) for w in weights]
    norm = math.hypot(*(float(w.norm()) for w in weights))
    figures = dict(loss=mean_loss(model, split), weight_norm=norm, peak_to_rms=statistics.mean(peaks))
    guessed = accuracy(model, split, diverged=True)["accuracy"]  # of a network that diverged
    smaller = accuracy_when_smaller(model, split)
    return figures | {name: guessed if math.isnan(value) else value for name, value in smaller.items()}


def make() -> None:
    """The sweeps that ship."""
    chosen_rates_sweep("lenet-300-100", "fashion-mnist")  # also makes the sweep that it chooses from
