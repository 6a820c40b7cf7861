"""Tables of parts measured alone, and four ways to spend a budget, each at equal bytes: the tables of notebook 12."""

import functools
import itertools
from typing import Any, cast

import pandas as pd

from labkit.budget import (
    METHODS,
    allocations,
    cost_of_whole,
    improve,
    loss_of,
    measure_parts,
    sample,
    size_bytes,
    spend,
)
from labkit.budget.choices import MANY, Allocation, Choices, Table, weight_choices
from labkit.budget.training import trained
from labkit.data import Split, load_data
from labkit.measure import accuracy
from labkit.seeds import over_seeds
from labkit.significance import with_range
from labkit.sweep import run_and_ship, shipped_sweep
from labkit.zoo import load_model

NETWORKS = (("lenet-300-100", "mnist"), ("lenet-5", "mnist"), ("resnet-20", "cifar10"), ("mobilenet", "cifar10"))


def table_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Every weight of a checkpoint in every setting, alone: its bytes, and the rise of the loss on train images."""
    model, data = load_model(model_name, data_name), load_data(data_name)
    choices = weight_choices(model)
    calibration = sample(data.train, images_for(choices), 0)
    dense, numbers = loss_of(model, calibration), {tuple(row.values()): s for s, row in enumerate(choices.settings)}

    def run(part: str, sparsity: float, bits: int, percentile: float) -> dict[str, Any]:
        p, s = choices.parts.index(part), numbers[sparsity, bits, percentile]
        return dict(price=choices.price(p, s), damage=loss_of(choices.alone(p, s), calibration) - dense)

    return run_and_ship(run, grid_of(choices), None, "parts", model_name, data_name)


def images_for(choices: Choices) -> int:
    """How many images of train the damage is measured on: fewer where there are many parts."""
    return 250 if len(choices.parts) >= MANY else 500


def grid_of(choices: Choices) -> dict[str, list[Any]]:
    """The parts and settings as the grid of a sweep."""
    values = {name: list(dict.fromkeys(row[name] for row in choices.settings)) for name in choices.settings[0]}
    return {"part": choices.parts} | values


def table_from(choices: Choices, rows: pd.DataFrame) -> Table:
    """The table that ships, for a network's choices."""
    shape = len(choices.parts), len(choices.settings)
    return Table(choices, rows["price"].to_numpy(float).reshape(shape), rows["damage"].to_numpy().reshape(shape))


BUDGETS = {
    "lenet-300-100": (12_000, 16_384, 24_000, 40_000),
    "lenet-5": (12_000, 16_384, 24_000, 40_000),
    "resnet-20": (32_768, 49_152, 65_536, 98_304),
    "mobilenet": (24_576, 32_768, 40_960, 49_152),
}
WAYS = (*METHODS, "swaps")
TRAINED = {"lenet-300-100": 3, "lenet-5": 2, "resnet-20": 3, "mobilenet": 3}  # epochs of the short training
TRIES = {"lenet-300-100": 300, "lenet-5": 300, "resnet-20": 120, "mobilenet": 120}  # networks that the swaps measure


def methods_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Each way to spend a budget, at equal bytes, untrained and after a short training; scored on validation and test.

    The seed draws the images of the swaps and the order of the training; in a network of few parts also the images of
    the table, which in the others is the one that ships. Nothing is chosen by the test scores: they are there to be
    compared.
    """

    def run(budget: int, way: str, epochs: int, seed: int) -> dict[str, Any]:
        data, (table, calibration, dense) = load_data(data_name), measured_table(model_name, data_name, seed)
        allocation, choices = spent(table, calibration, way, budget, TRIES[model_name]), table.choices
        small = choices.build(allocation)
        rises = dict(predicted=table.predicted(allocation), measured=loss_of(small, calibration) - dense)
        if epochs:
            ready = choices.prepare(allocation)
            small = trained(ready, data.train, size_bytes, budget, epochs=epochs, lr=1e-3, seed=seed, progress=False)
        scored = {name: accuracy(small, getattr(data, name))["accuracy"] for name in ("validation", "test")}
        return rises | dict(size_bytes=size_bytes(small)) | scored

    grid: dict[str, Any] = {"budget": BUDGETS[model_name], "way": WAYS, "epochs": (0, TRAINED[model_name])}
    return run_and_ship(run, grid, (0, 1, 2), "budgets", model_name, data_name)


@functools.cache
def measured_table(model_name: str, data_name: str, seed: int) -> tuple[Table, Split, float]:
    """The table of a checkpoint, the images that `seed` draws, and the dense network's loss on them."""
    model = load_model(model_name, data_name)
    choices = weight_choices(model)
    calibration = sample(load_data(data_name).train, images_for(choices), seed)
    if len(choices.parts) >= MANY:
        table = table_from(choices, shipped_sweep("parts", model_name, data_name))
    else:
        table = measure_parts(model, calibration, choices=choices, progress=False)
    return table, calibration, loss_of(model, calibration)


def spent(table: Table, calibration: Split, way: str, budget: int, tries: int) -> Allocation:
    """The allocation that one of WAYS chooses; the swaps begin with the best of the others, and measure `tries`."""
    whole = cost_of_whole(table, size_bytes)
    if way != "swaps":
        return spend(METHODS[way], table, whole, budget)
    build, joint = table.choices.build, functools.partial(loss_of, split=calibration)
    start = min(allocations(table, whole, budget).values(), key=lambda allocation: joint(build(allocation)))
    *_, (best, _) = itertools.islice(improve(table, start, whole, budget, joint), tries)
    return best


def ranges(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `methods_sweep` as a table: accuracy on test in per cent, its mean over the seeds and its range."""
    figures = 100 * rows.groupby(["network", "budget", "way"], sort=False)["test"].agg(["mean", "min", "max"])
    return figures.apply(with_range, axis=1).unstack("way", sort=False)


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Points of accuracy on test that the swaps gain over one setting for all: the mean, its 95 % interval (low, high).

    Both have the same seeds, and the interval is that of their differences.
    """
    by_seed = 100 * rows.pivot(index=["network", "budget"], columns=["way", "seed"], values="test")
    swaps, uniform = (cast(pd.DataFrame, by_seed[way]) for way in ("swaps", "uniform"))
    return over_seeds(swaps - uniform)


def against_one_shot(rows: pd.DataFrame, one_shot: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on validation in per cent: the best one-shot file within the budget, and the mean of the swaps.

    `one_shot` holds rows of the sweeps "frontier": one ranking over all weights, one bit width.
    """
    swaps = 100 * rows[rows["way"] == "swaps"].groupby(["network", "budget"], sort=False)["validation"].mean()
    fitting = [one_shot.query("network == @name and size_bytes <= @size") for name, size in swaps.index]
    return pd.DataFrame({"one ranking": [100 * found["accuracy"].max() for found in fitting], "swaps": swaps})


COARSE: dict[str, Any] = dict(sparsity=(0, 0.5, 0.8, 0.9, 0.95), bits=(8, 4, 3, 2), percentile=(100.0,))


def optimum_sweep() -> pd.DataFrame:
    """LeNet-300-100 on a coarse grid: all 20³ joint networks measured; the best at each budget, and the ways."""
    names = "lenet-300-100", "mnist"
    model, data = load_model(*names), load_data(names[1])
    choices = weight_choices(model, COARSE)
    calibration = sample(data.train, images_for(choices), 0)
    table = measure_parts(model, calibration, choices=choices, progress=False)
    build = table.choices.build

    @functools.cache
    def every() -> dict[Allocation, float]:
        settings = range(len(table.choices.settings))
        return {a: loss_of(build(a), calibration) for a in itertools.product(settings, repeat=len(table.choices.parts))}

    def run(budget: int, way: str) -> dict[str, Any]:
        if way == "every network":
            in_order = sorted(every(), key=every().__getitem__)
            best = next(a for a in in_order if size_bytes(build(a)) <= budget)
        else:
            best = spent(table, calibration, way, budget, TRIES[names[0]])
        small = build(best)
        scored = {name: accuracy(small, getattr(data, name))["accuracy"] for name in ("validation", "test")}
        return dict(loss=loss_of(small, calibration), size_bytes=size_bytes(small)) | scored

    grid = {"budget": BUDGETS[names[0]], "way": ("every network", *WAYS)}
    return run_and_ship(run, grid, None, "optimum", *names)


def make() -> None:
    """The shipped sweeps: two to three hours."""
    for key in NETWORKS:
        table_sweep(*key)
        methods_sweep(*key)
    optimum_sweep()
