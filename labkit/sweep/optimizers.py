"""Eight optimizers, each at several learning rates, in equally many steps: the tables of notebook 08."""

import math

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.data import Split, load_data, take
from labkit.measure import accuracy
from labkit.models import build
from labkit.optim import TORCHS
from labkit.surfaces import FRAME, slice_loss
from labkit.sweep._run import kept, shipped_sweep
from labkit.train import evaluating, fit
from labkit.zoo import load_model

FEW_IMAGES, ALL_IMAGES = 2_200, 55_000  # 25 passes over the few are as many steps as one pass over all
BATCH = 100  # so there are 550 steps
DEFAULT_LR = {"SGD": 1e-3, "momentum": 1e-3, "Nesterov": 1e-3, "Adagrad": 1e-2, "RMSprop": 1e-2, "Adam": 1e-3,
              "AMSGrad": 1e-3, "AdamW": 1e-3}  # fmt: skip  # torch.optim's own
HIGH, MIDDLE, LOW = (0.01, 0.03, 0.1, 0.3, 1.0), (0.001, 0.003, 0.01, 0.03, 0.1), (1e-4, 3e-4, 0.001, 0.003, 0.01)
LRS = {"SGD": (0.001, *HIGH), "momentum": (*MIDDLE, 0.3), "Nesterov": (*MIDDLE, 0.3), "Adagrad": MIDDLE,
       "RMSprop": LOW, "Adam": LOW, "AMSGrad": LOW, "AdamW": LOW}  # fmt: skip
TUNED_ON, TESTED_ON = (0, 1, 2), (3, 4, 5, 6, 7)  # seeds: those a rate was chosen on, and fresh ones


def optimizers_sweep(data_name: str) -> pd.DataFrame:
    """LeNet-300-100 trained by every optimizer at every one of its learning rates, 3 seeds, scored on validation."""
    data = load_data(data_name)

    def run(images: int, optimizer: str, lr: float, seed: int) -> dict:
        return _trained(take(data.train, images), data.validation, optimizer, lr, seed)

    for optimizer, lrs in LRS.items():
        grid = dict(images=(FEW_IMAGES, ALL_IMAGES), optimizer=(optimizer,), lr=lrs, seed=TUNED_ON)
        kept(run, grid, "optimizers", "lenet-300-100", data_name)
    return shipped_sweep("optimizers", "lenet-300-100", data_name)


def tested_optimizers_sweep(data_name: str) -> pd.DataFrame:
    """Each optimizer at the rate that `optimizers_sweep` found best; 5 fresh seeds, on test: looked at once."""
    data, best = load_data(data_name), tuned(shipped_sweep("optimizers", "lenet-300-100", data_name))

    def run(images: int, optimizer: str, seed: int) -> dict:
        lr = best[images, optimizer]
        return dict(lr=lr) | _trained(take(data.train, images), data.test, optimizer, lr, seed)

    grid = dict(images=(FEW_IMAGES, ALL_IMAGES), optimizer=tuple(TORCHS), seed=TESTED_ON)
    return kept(run, grid, "tested-optimizers", "lenet-300-100", data_name)


SLICE_POINTS = 33  # in each of two directions
SLICE_IMAGES = 1_000


def slice_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """The loss of a checkpoint on 1,000 training images over two filter-normalised directions, one row a y."""
    model, seen = load_model(model_name, data_name), take(load_data(data_name).train, SLICE_IMAGES)
    places = torch.linspace(-FRAME, FRAME, SLICE_POINTS).tolist()

    def run(y: float) -> dict:
        return {f"x={x:g}": slice_loss(model, seen, x, y) for x in places}

    return kept(run, {"y": places}, "slice", model_name, data_name)


def tuned(table: pd.DataFrame) -> dict[tuple[int, str], float]:
    """The learning rate with the best mean accuracy over the seeds, by (images, optimizer)."""
    mean = table.groupby(["images", "optimizer", "lr"])["accuracy"].mean()
    return {(row[0], row[1]): row[2] for row in mean.groupby(["images", "optimizer"]).idxmax()}


def _trained(train: Split, held_out: Split, optimizer: str, lr: float, seed: int) -> dict[str, float]:
    """One run, measured: on the first FEW_IMAGES training images, on `held_out`, and once more when made smaller."""
    torch.manual_seed(seed)
    how = dict(epochs=ALL_IMAGES // len(train), batch_size=BATCH, seed=seed, progress=False)
    model, _ = fit(build("lenet-300-100"), train, lr=lr, optimizer=TORCHS[optimizer], **how)
    seen = take(train, FEW_IMAGES)
    row = dict(train_loss=_mean_loss(model, seen.x, seen.y), train_accuracy=accuracy(model, seen)["accuracy"])
    return row | accuracy(model, held_out) | made_smaller(model, held_out)


@torch.inference_mode()
def _mean_loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with evaluating(model):
        return float(F.cross_entropy(model(x), y))


def made_smaller(model: nn.Module, split: Split) -> dict[str, float]:
    """Accuracy one-shot at two sparsities and two widths, nothing trained; NaN for a network that diverged."""
    columns = [f"accuracy_{s}_sparse" for s in (80, 90)] + [f"accuracy_{b}_bits" for b in (4, 3)]
    if not all(p.isfinite().all() for p in model.parameters()):
        return dict.fromkeys(columns, math.nan)
    small = [prune(model, 0.8), prune(model, 0.9), quantize(model, 4), quantize(model, 3)]
    return {column: accuracy(m, split)["accuracy"] for column, m in zip(columns, small, strict=True)}
