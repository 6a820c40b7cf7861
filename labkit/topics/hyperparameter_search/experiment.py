"""Searches at equal budget, and how much too high the score of their choice is: the tables of notebook 05."""

import functools
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from torch import nn

from labkit import _check
from labkit._files import replace
from labkit.compress.magnitude import KeepZeros, prune
from labkit.compress.quantize import quantize
from labkit.data import Data, Split, load_data, partial, publish, take, verified
from labkit.measure import accuracy, size_bytes
from labkit.models import mlp
from labkit.search import Cancelled, Objective, Space, finished, fit_trial, row, search
from labkit.sweep import run_and_ship, shipped_sweep
from labkit.train import correct_mask, fit
from labkit.zoo import load_model

TRAINING: Space = {
    "optimizer": ["sgd", "momentum", "adamw"],
    "lr": (1e-4, 1.0, "log"),
    "batch_size": [32, 64, 128, 256],
    "width": (8, 128, "log"),
    "weight_decay": (1e-6, 1e-1, "log"),
}
TRAINING_GRID: Space = {  # 30 points, as many as the other samplers get
    "optimizer": ["sgd", "momentum", "adamw"],
    "lr": [1e-4, 1e-3, 1e-2, 1e-1, 1.0],
    "batch_size": [64],
    "width": [32, 128],
    "weight_decay": [1e-4],
}
RECIPE: Space = {
    "density": (0.01, 0.5, "log"),
    "bits": (2, 8),
    "granularity": ["tensor", "channel"],
    "percentile": (95.0, 100.0),
    "epochs": (0, 2),
    "lr": (1e-4, 1e-2, "log"),
}
RECIPE_GRID: Space = {  # 60 points
    "density": [0.02, 0.04, 0.08, 0.16, 0.32],
    "bits": [2, 3, 4],
    "granularity": ["tensor", "channel"],
    "percentile": [98.0, 100.0],
    "epochs": [2],
    "lr": [1e-3],
}
RECIPE_GOALS = {"accuracy": "maximize", "size_bytes": "minimize"}
EPOCHS = 9  # of a trial that is not stopped: Hyperband decides after epochs 1 and 3
TRAIN_IMAGES = 2_000  # to train on, per trial of hyperparameters
FINE_TUNE_IMAGES = 3_000  # to fine-tune on, per trial of a recipe
JUDGED = 200  # validation images to choose hyperparameters by
UNSEEN = 4_000  # validation images that no search chooses by

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": functools.partial(torch.optim.SGD, momentum=0.9),
    "adamw": torch.optim.AdamW,
}


def parts(data: Data, images: int) -> tuple[Split, Split]:
    """Two parts of validation: the judges, its first `images`, at most a fifth; unseen images, its last four fifths."""
    x, y = data.validation.x, data.validation.y
    _check.whole("images", images, 1, len(y) // 5)
    return take(data.validation, images), Split(x[len(y) // 5 :], y[len(y) // 5 :])


def train_mlp(
    trial: optuna.Trial, train: Split, validation: Split, settings: Mapping[str, Any], **more: Any
) -> nn.Module:
    """Train an MLP with one hidden layer with the settings of a trial over TRAINING; every trial starts from seed 0."""
    how = dict(settings)
    optimizer = functools.partial(OPTIMIZERS[how.pop("optimizer")], weight_decay=how.pop("weight_decay"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = mlp(train.x[0].numel(), how.pop("width"), int(train.y.max()) + 1)
    return fit_trial(trial, model, train, validation, epochs=EPOCHS, optimizer=optimizer, **how, **more)


def training_objective(
    data: Data,
    images: int,
    cancel: Callable[[], bool] = lambda: False,
    keep: Callable[[int, np.ndarray], None] = lambda number, correct: None,
) -> Objective:
    """An objective over TRAINING: `accuracy` on the first `images` of validation, `fresh` on the unseen ones.

    `keep(number, correct)` is called for each trial: (n,) booleans, True for validation images classified correctly.
    """
    train, (validation, fresh) = take(data.train, min(TRAIN_IMAGES, len(data.train))), parts(data, images)

    def objective(trial: optuna.Trial, **settings: Any) -> dict[str, float]:
        model = train_mlp(trial, train, validation, settings, cancel=cancel)
        hits = correct_mask(model, data.validation).numpy()
        keep(trial.number, hits)
        return dict(accuracy=float(hits[:images].mean()), fresh=float(hits[-len(fresh) :].mean()))

    return objective


def recipe(
    model: nn.Module,
    train: Split,
    *,
    density: float,
    bits: int,
    granularity: str,
    percentile: float,
    epochs: int,
    lr: float,
    cancel: Callable[[], bool] = lambda: False,
) -> nn.Module:
    """Prune to `density` = 1 - sparsity, fine-tune the other weights, round them to `bits` bits. Raises Cancelled."""
    small = prune(model, 1 - density)
    how: dict[str, Any] = dict(epochs=epochs, lr=lr, after_step=KeepZeros(small), progress=False, cancel=cancel)
    small, history = fit(small, train, **how)
    if history.attrs["cancelled"]:
        raise Cancelled
    return quantize(small, bits, granularity=granularity, percentile=percentile)


def recipe_objective(
    model: nn.Module, data: Data, images: int = 1_000, cancel: Callable[[], bool] = lambda: False
) -> Objective:
    """An objective over RECIPE: `accuracy` and `fresh` as in `training_objective`, and the bytes of the file."""
    train, (validation, fresh) = take(data.train, min(FINE_TUNE_IMAGES, len(data.train))), parts(data, images)

    def objective(trial: optuna.Trial, **settings: Any) -> dict[str, float]:
        small = recipe(model, train, **settings, cancel=cancel)
        judged, others = (accuracy(small, split)["accuracy"] for split in (validation, fresh))
        return dict(accuracy=judged, size_bytes=size_bytes(small), fresh=others)

    return objective


def hyperband() -> optuna.pruners.BasePruner:
    """Hyperband (Li et al. 2018) with rungs after epochs 1, 3 and 9: a third of the trials in a bracket continue."""
    return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3)


SEEDS = (0, 1, 2, 3, 4)
SEARCH_GRID = {"sampler": ("grid", "random", "tpe"), "number": tuple(range(30))}
HYPERBAND_GRID = {"sampler": ("tpe, hyperband",), "number": tuple(range(66))}


def search_sweep(data_name: str) -> pd.DataFrame:
    """Samplers over TRAINING, 30 trials of EPOCHS epochs each; TPE with Hyperband, 66 trials; 5 seeds."""
    objective = training_objective(load_data(data_name), JUDGED)

    @functools.cache
    def study(sampler: str, seed: int) -> list[optuna.trial.FrozenTrial]:
        name, pruner = sampler.split(",")[0], hyperband() if "hyperband" in sampler else None
        trials = len((HYPERBAND_GRID if pruner else SEARCH_GRID)["number"])
        space = TRAINING_GRID if name == "grid" else TRAINING
        return finished(search(objective, space, trials=trials, sampler=name, pruner=pruner, seed=seed))

    def run(sampler: str, seed: int, number: int) -> dict[str, Any]:
        return row(study(sampler, seed)[number])

    run_and_ship(run, HYPERBAND_GRID, SEEDS, "search", "mlp", data_name)
    return run_and_ship(run, SEARCH_GRID, SEEDS, "search", "mlp", data_name)


CORRECT_FILE = "sweeps/right--mlp--fashion-mnist.npz"


def right_sweep() -> None:
    """Train the complete trials of seed 0 of `search_sweep` again; ship which validation images they get right.

    CORRECT_FILE holds for each sampler "<sampler>", (trials, n / 8) packed bits, and "<sampler> numbers", (trials,).
    """
    data, bits = load_data("fashion-mnist"), dict[str, np.ndarray]()
    table = shipped_sweep("search", "mlp", "fashion-mnist").query("seed == 0 and state == 'complete'")
    for sampler, rows in table.groupby("sampler"):
        hits: list[np.ndarray] = []
        objective = training_objective(data, JUDGED, keep=functools.partial(_note, hits))
        for number in range(len(rows)):
            settings = {name: rows[name].tolist()[number] for name in TRAINING}
            objective(optuna.trial.FixedTrial(settings), **settings)
        bits |= {f"{sampler}": np.packbits(hits, axis=1), f"{sampler} numbers": rows["number"].to_numpy()}
    with io.BytesIO() as file:
        np.savez_compressed(file, **bits)  # type: ignore[arg-type]
        replace(partial(CORRECT_FILE), [file.getvalue()])
    publish(CORRECT_FILE)


def _note(kept_hits: list[np.ndarray], number: int, hits: np.ndarray) -> None:
    kept_hits.append(hits)


def shipped_right(sampler: str) -> dict[int, np.ndarray]:
    """For each trial number of seed 0: which validation images its network gets right."""
    with np.load(io.BytesIO(verified(CORRECT_FILE)), allow_pickle=False) as bits:
        rows = np.unpackbits(bits[sampler], axis=1).astype(bool)
        return dict(zip(bits[f"{sampler} numbers"].tolist(), rows, strict=True))


RECIPE_SEEDS, GRID_SEEDS = (0, 1, 2), (0,)  # the grid is run whole: its seed makes no difference
RECIPES_GRID = {"sampler": ("random", "tpe", "nsga2"), "number": tuple(range(60))}
ONE_GRID = {"sampler": ("grid",), "number": tuple(range(60))}


def recipes_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Samplers over RECIPE for accuracy and bytes, 60 trials each; 3 seeds, and the grid once."""
    objective = recipe_objective(load_model(model_name, data_name), load_data(data_name))

    @functools.cache
    def study(sampler: str, seed: int) -> list[optuna.trial.FrozenTrial]:
        space = RECIPE_GRID if sampler == "grid" else RECIPE
        return finished(search(objective, space, trials=60, sampler=sampler, goals=RECIPE_GOALS, seed=seed))

    def run(sampler: str, seed: int, number: int) -> dict[str, Any]:
        return row(study(sampler, seed)[number])

    run_and_ship(run, ONE_GRID, GRID_SEEDS, "recipes", model_name, data_name)
    return run_and_ship(run, RECIPES_GRID, RECIPE_SEEDS, "recipes", model_name, data_name)


OPTIMISM_GRID = {
    "images": (50, 100, 200, 500, 1000),
    "trials": (1, 2, 5, 10, 20, 50, 100, 200),
    "resample": tuple(range(40)),
}


def optimism_sweep(data_name: str) -> pd.DataFrame:
    """The best of some random settings: its accuracy on the judges, and on UNSEEN other images (`fresh`); 40 draws.

    200 random settings of TRAINING are trained once; a draw chooses which of them are tried and which of the 5,000
    validation images are the judges. `best_fresh` is the highest accuracy on the unseen images.
    """
    data = load_data(data_name)

    @functools.cache
    def hits() -> np.ndarray:  # (settings, images): which images each network gets right
        rows: list[np.ndarray] = []
        objective = training_objective(data, 1_000, keep=functools.partial(_note, rows))
        search(objective, TRAINING, trials=max(OPTIMISM_GRID["trials"]), sampler="random", seed=5)
        return np.stack(rows)

    def run(images: int, trials: int, resample: int) -> dict[str, Any]:
        rng = np.random.default_rng(resample)
        tried, order = rng.permutation(len(hits()))[:trials], rng.permutation(hits().shape[1])
        judged, fresh = (hits()[np.ix_(tried, part)].mean(1) for part in (order[:images], order[-UNSEEN:]))
        best = int(judged.argmax())
        return dict(accuracy=judged[best], fresh=fresh[best], best_fresh=fresh.max())

    return run_and_ship(run, OPTIMISM_GRID, None, "optimism", "mlp", data_name)


def make() -> None:
    """The sweeps that ship."""
    search_sweep("fashion-mnist")
    right_sweep()
    optimism_sweep("fashion-mnist")
    recipes_sweep("lenet-300-100", "mnist")
