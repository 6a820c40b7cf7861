"""Every regularizer on few images, and pruning after a penalty on all images: the tables of notebook 06."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from labkit import _check, augment, losses, optim, sweep
from labkit.compress.magnitude import KeepZeros, prune
from labkit.data import Data, Split, load_data, take, working_on
from labkit.measure import accuracy, accuracy_when_smaller, counts
from labkit.models import mlp
from labkit.train import fit, fit_early

SEEDS = (0, 1, 2)
SPARSITIES = (0.8, 0.9, 0.95, 0.98)
FEW_IMAGES, HELD_OUT = 1_000, 200  # training images; those of them that early stopping holds out
LR = 1e-3
FEW_BUDGET: dict[str, Any] = dict(epochs=60, batch_size=50, progress=False)
PENALTY_NAMES = ("L1", "proximal L1", "L2", "weight decay")
# `strength` is: λ; the decay; a probability; ε; a multiple of `augment.affine`; the patience; the images
REGULARIZERS: dict[str, tuple[float, ...]] = {
    "none": (0,),
    "L1": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
    "proximal L1": (0.03, 0.1, 0.3),
    "L2": (1e-3, 1e-2, 3e-2),
    "weight decay": (0.3, 1, 3, 10, 30),
    "dropout": (0.25, 0.5, 0.75),
    "label smoothing": (0.1, 0.2, 0.4, 0.6, 0.8, 0.9),
    "augmentation": (0.5, 1, 1.5),
    "augmentation and L1": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
    "none, constant lr": (0,),
    "early stopping, constant lr": (3, 10, 20, 40),
    "none, more images": (2_000, 5_000),
}


def regularizers(
    penalty: str = "none", lam: float = 0.0, smoothing: float = 0.0, augmentation: float = 0.0, lr: float = LR
) -> dict[str, Any]:
    """The arguments of `fit` for these regularizers together; without weight decay, AdamW's own is switched off.

    `penalty` is one of PENALTY_NAMES, `augmentation` a multiple of `augment.affine`. Dropout is part of the network.
    """
    loss = losses.label_smoothing(smoothing) if smoothing else losses.cross_entropy
    added = {"L1": losses.with_l1, "L2": losses.with_l2}.get(penalty)
    decay = lam if penalty == "weight decay" else 0.0
    settings: dict[str, Any] = dict(
        lr=lr,
        loss=added(lam, loss) if added else loss,
        optimizer=functools.partial(torch.optim.AdamW, weight_decay=decay),
    )
    if penalty == "proximal L1":
        settings["after_step"] = losses.ProximalL1(lam)
    if augmentation:
        settings["augment"] = functools.partial(augment.affine, strength=augmentation)
    return settings


def settings_of(method: str, strength: float) -> dict[str, Any]:
    """The arguments of `fit` for one method of REGULARIZERS."""
    chosen: dict[str, dict[str, Any]] = {
        "label smoothing": dict(smoothing=strength),
        "augmentation": dict(augmentation=strength),
        "augmentation and L1": dict(penalty="L1", lam=strength, augmentation=1),
    }
    penalty: dict[str, Any] = dict(penalty=method, lam=strength) if method in PENALTY_NAMES else {}
    return regularizers(**chosen.get(method, penalty))


def untrained_lenet(seed: int, dropout: float = 0.0) -> nn.Module:
    """An untrained LeNet-300-100; its weights depend on the seed, not on the dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return mlp(784, 300, 100, 10, dropout=dropout)


def regularization_sweep(data_name: str) -> pd.DataFrame:
    """LeNet-300-100 on 1,000 images, each regularizer at each strength, equal numbers of steps; 3 seeds, validation."""
    data = load_data(data_name)

    def run(method: str, strength: float, seed: int) -> dict[str, Any]:
        model, train = regularized(data, method, strength, seed)
        return described(model, train, data.validation)

    return _method_by_method(run, REGULARIZERS, "regularization", data_name)


def _method_by_method(
    run: Callable[..., dict[str, Any]], methods: Mapping[str, tuple[float, ...]], kind: str, data_name: str
) -> pd.DataFrame:
    """A sweep in which every method has its own strengths; entered in the manifest when it is complete."""
    path = sweep.sweep_path(kind, "lenet-300-100", data_name)
    grids = [{"method": (method,), "strength": strengths} for method, strengths in methods.items()]
    # reversed, because new rows go to the top of the file
    with working_on(path) as work:
        tables = [sweep.run(run, grid, SEEDS, work) for grid in reversed(grids)]
    return pd.concat(reversed(tables), ignore_index=True)


def regularized(data: Data, method: str, strength: float, seed: int) -> tuple[nn.Module, Split]:
    """One run on few images: the network, and its training images."""
    how = FEW_BUDGET | settings_of(method, strength) | dict(seed=seed)
    model, train = untrained_lenet(seed, strength if method == "dropout" else 0.0), take(data.train, FEW_IMAGES)
    if method == "none, more images":
        train = take(data.train, int(strength))
        how["epochs"] = how["epochs"] * FEW_IMAGES // len(train)
    if method.endswith("constant lr"):
        how["schedule"] = optim.constant
    if not method.startswith("early stopping"):
        return fit(model, train, **how)[0], train
    held_out, rest = (Split(train.x[part], train.y[part]) for part in (slice(HELD_OUT), slice(HELD_OUT, None)))
    return fit_early(model, rest, held_out, patience=int(strength), **how)[0], rest


def described(model: nn.Module, train: Split, held_out: Split) -> dict[str, float]:
    """Accuracy on training and held-out images; sparsity; accuracy pruned one-shot, and rounded to few bits."""
    row = dict(train_accuracy=accuracy(model, train)["accuracy"], sparsity=counts(model)["sparsity"])
    return accuracy(model, held_out) | row | accuracy_when_smaller(model, held_out, SPARSITIES)


def chosen_strengths(table: pd.DataFrame) -> dict[str, float]:
    """For every method the strength whose mean validation accuracy over the seeds is highest."""
    _check.table("table", table, "method", "strength", "accuracy", rows=1)
    mean = table.groupby(["method", "strength"], sort=False)["accuracy"].mean().reset_index()
    best = mean.loc[mean.groupby("method", sort=False)["accuracy"].idxmax()]
    return dict(zip(best["method"], best["strength"], strict=True))


def regularization_test(data_name: str) -> pd.DataFrame:
    """Each method at the strength chosen on validation, trained again; test accuracy, dense and at 90 % zeros."""
    data = load_data(data_name)
    strengths = chosen_strengths(regularization_sweep(data_name))

    def run(method: str, seed: int) -> dict[str, Any]:
        model, _ = regularized(data, method, strengths[method], seed)
        pruned = accuracy(prune(model, 0.9), data.test)["accuracy"]
        return dict(strength=strengths[method]) | accuracy(model, data.test) | {"accuracy_at_0.9": pruned}

    grid = {"method": tuple(method for method in REGULARIZERS if "," not in method)}
    return sweep.run_and_ship(run, grid, SEEDS, "regularization-test", "lenet-300-100", data_name)


PENALTIES: dict[str, tuple[float, ...]] = {
    "none": (0,),
    "L1": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
    "proximal L1": (0.03, 0.1, 0.3),
    "L2": (3e-4, 1e-3, 3e-3, 1e-2),
    "weight decay": (0.3, 1),
    "none, fine-tuned": (0,),
    "L1, fine-tuned": (1e-4,),
}
EPOCHS = 3  # including the one of fine-tuning, if there is any


def penalty_sweep(data_name: str) -> pd.DataFrame:
    """LeNet-300-100 on all images for 3 epochs, by penalty and λ: accuracy after pruning; 3 seeds, validation.

    One-shot, except "…, fine-tuned": 2 epochs, then for each sparsity 1 epoch without the penalty.
    """
    data = load_data(data_name)

    def run(method: str, strength: float, seed: int) -> dict[str, Any]:
        penalty, _, then = method.partition(", ")
        how: dict[str, Any] = dict(seed=seed, progress=False)
        epochs = EPOCHS - 1 if then else EPOCHS
        model, _ = fit(untrained_lenet(seed), data.train, epochs=epochs, **how, **settings_of(penalty, strength))
        row = described(model, data.train, data.validation)
        for sparsity in SPARSITIES if then else ():
            small = prune(model, sparsity)
            small, _ = fit(small, data.train, epochs=1, after_step=KeepZeros(small), **how, **settings_of("none", 0))
            row[f"accuracy_at_{sparsity:g}"] = accuracy(small, data.validation)["accuracy"]
        return row

    return _method_by_method(run, PENALTIES, "penalty", data_name)


def make() -> None:
    """The sweeps that ship."""
    regularization_test("mnist")  # also makes the sweep that it chooses from
    penalty_sweep("mnist")
