"""Eight optimizers, each at several learning rates, for equal numbers of steps: the tables of notebook 08."""

from typing import Any

import pandas as pd
import torch

from labkit import _check
from labkit.data import Split, load_data, take
from labkit.measure import accuracy, accuracy_when_smaller
from labkit.models import build
from labkit.optim import TORCHS
from labkit.surfaces import HALF_WIDTH, slice_loss
from labkit.sweep import run_and_ship, shipped_sweep
from labkit.train import fit, mean_loss
from labkit.zoo import load_model

FEW_IMAGES = 2_200
BATCH, PASSES = 100, 25  # 550 steps, as many as in one pass over all 55,000 images
DEFAULT_LR = {"SGD": 1e-3, "momentum": 1e-3, "Nesterov": 1e-3, "Adagrad": 1e-2, "RMSprop": 1e-2, "Adam": 1e-3,
              "AMSGrad": 1e-3, "AdamW": 1e-3}  # fmt: skip  # torch.optim's own
HIGH, MIDDLE, LOW = (0.01, 0.03, 0.1, 0.3, 1.0), (0.001, 0.003, 0.01, 0.03, 0.1), (1e-4, 3e-4, 0.001, 0.003, 0.01)
ADAMS = (3e-5, *LOW, 0.03, 0.1)  # wide enough for the best rate before pruning and after it
LRS = {"SGD": (0.001, *HIGH), "momentum": (*MIDDLE, 0.3), "Nesterov": (*MIDDLE, 0.3), "Adagrad": (*MIDDLE, 0.3),
       "RMSprop": (*LOW, 0.03), "Adam": ADAMS, "AMSGrad": ADAMS, "AdamW": ADAMS}  # fmt: skip
TUNED_ON, TESTED_ON = (0, 1, 2), (3, 4, 5, 6, 7)  # seeds: those that rates are chosen on, and new ones


def optimizers_sweep(data_name: str) -> pd.DataFrame:
    """LeNet-300-100 trained on few images with every optimizer at each of its learning rates; 3 seeds, validation."""
    data = load_data(data_name)
    few = take(data.train, FEW_IMAGES)

    def run(optimizer: str, lr: float, seed: int) -> dict[str, Any]:
        return _trained(few, data.validation, optimizer, lr, seed)

    for optimizer, lrs in reversed(LRS.items()):  # reversed: new rows go to the top of the file
        grid = dict(optimizer=(optimizer,), lr=lrs)
        run_and_ship(run, grid, TUNED_ON, "optimizers", "lenet-300-100", data_name)
    return shipped_sweep("optimizers", "lenet-300-100", data_name)


def tested_optimizers_sweep(data_name: str) -> pd.DataFrame:
    """Each optimizer at the rate that `optimizers_sweep` found best; 5 new seeds, scored once on test."""
    data, best = load_data(data_name), tuned(shipped_sweep("optimizers", "lenet-300-100", data_name))
    few = take(data.train, FEW_IMAGES)

    def run(optimizer: str, seed: int) -> dict[str, Any]:
        return dict(lr=best[optimizer]) | _trained(few, data.test, optimizer, best[optimizer], seed)

    grid = dict(optimizer=tuple(TORCHS))
    return run_and_ship(run, grid, TESTED_ON, "tested-optimizers", "lenet-300-100", data_name)


SLICE_POINTS = 33  # in each of two directions
SLICE_IMAGES = 1_000


def slice_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """The loss of a checkpoint on 1,000 training images over two filter-normalised directions, one row per y."""
    model, seen = load_model(model_name, data_name), take(load_data(data_name).train, SLICE_IMAGES)
    places = torch.linspace(-HALF_WIDTH, HALF_WIDTH, SLICE_POINTS).tolist()

    def run(y: float) -> dict[str, Any]:
        return {f"x={x:g}": slice_loss(model, seen, x, y) for x in places}

    return run_and_ship(run, {"y": places}, None, "slice", model_name, data_name)


def tuned(table: pd.DataFrame) -> dict[str, float]:
    """The learning rate with the best mean accuracy over the seeds, by optimizer."""
    _check.table("table", table, "optimizer", "lr", "accuracy", rows=1)
    mean = table.groupby(["optimizer", "lr"])["accuracy"].mean()
    return dict(mean.groupby("optimizer").idxmax().tolist())


def _trained(train: Split, held_out: Split, optimizer: str, lr: float, seed: int) -> dict[str, float]:
    """One run, scored on its training images, on `held_out`, and on `held_out` after compression."""
    torch.manual_seed(seed)
    how: dict[str, Any] = dict(epochs=PASSES, batch_size=BATCH, seed=seed, progress=False)
    model, _ = fit(build("lenet-300-100"), train, lr=lr, optimizer=TORCHS[optimizer], **how)
    row = dict(
        train_loss=mean_loss(model, train, len(train)),
        train_accuracy=accuracy(model, train, diverged=True)["accuracy"],
    )
    return row | accuracy(model, held_out, diverged=True) | accuracy_when_smaller(model, held_out)


def make() -> None:
    """The sweeps that ship."""
    optimizers_sweep("fashion-mnist")
    tested_optimizers_sweep("fashion-mnist")
    slice_sweep("lenet-300-100", "fashion-mnist")
