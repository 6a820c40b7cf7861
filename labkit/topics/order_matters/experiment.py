"""Prune, quantize and distil in every order, at equal budget: the planes and tables of notebook 10b."""

import functools
import itertools
from typing import Any, cast

import numpy as np
import pandas as pd

from labkit import _check
from labkit.compress.compose import STEPS, compose
from labkit.data import load_data, take
from labkit.measure import accuracy, size_bytes
from labkit.seeds import over_seeds
from labkit.sweep import run_and_ship
from labkit.zoo import load_model

IMAGES, EPOCHS = 10_000, 6  # the budget of each composition, small enough to train one in the panel
POINTS = {5: 0.80, 3: 0.95, 2: 0.98}  # how far to compress, from mild to hard: sparsity by bits
ORDERS: dict[str, tuple[str, ...]] = {
    ", ".join(steps) or "fine-tune": steps for length in range(4) for steps in itertools.permutations(STEPS, length)
}
ORDER_GRID = {"bits": tuple(POINTS), "steps": tuple(ORDERS)}
SEEDS = (0, 1, 2)


def order_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Fine-tuning only, and every order of one, two and three techniques; 3 seeds, scored on validation."""
    model, data = load_model(model_name, data_name), load_data(data_name)
    train = take(data.train, IMAGES)

    @functools.cache  # without "quantize" the bits make no difference, without "prune" the sparsity
    def made(steps: tuple[str, ...], bits: int, sparsity: float, seed: int) -> dict[str, Any]:
        small, _ = compose(model, train, steps, sparsity=sparsity, bits=bits, epochs=EPOCHS, seed=seed, progress=False)
        return accuracy(small, data.validation) | dict(size_bytes=size_bytes(small))

    def run(steps: str, bits: int, seed: int) -> dict[str, Any]:
        order = ORDERS[steps]
        return made(order, bits if "quantize" in order else 1, POINTS[bits] if "prune" in order else 0.0, seed)

    return run_and_ship(run, ORDER_GRID, SEEDS, "order", model_name, data_name)


def accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """The accuracy of each (bits, steps) of an order sweep over its seeds: mean, low, high, in (0, 1).

    `over_seeds` of the logits, transformed back: an interval on the accuracies themselves could end above 1.
    """
    return cast(pd.DataFrame, 1 / (1 + np.exp(-over_seeds(logits(table)))))


def logits(table: pd.DataFrame) -> pd.DataFrame:
    """log(p / (1 - p)) of the accuracies p of an order sweep: a row for each (bits, steps), a column for each seed."""
    _check.table("table", table, "bits", "steps", "seed", "accuracy", rows=1)
    p = table["accuracy"]
    y = table.assign(logit=np.log(p / (1 - p)))
    return y.pivot(index=["bits", "steps"], columns="seed", values="logit")


def interactions(table: pd.DataFrame) -> pd.DataFrame:
    """The interaction of each pair of techniques, in logits: (y_ab - y_b) - (y_a - y_0), mean, low, high.

    y_0 is fine-tuning only. 0: the effects add up. Negative: each hurts more if the other is applied, too.
    """
    y, rows = logits(table), {}
    for bits, pair in y.index:
        a, _, b = pair.partition(", ")
        if b in STEPS:  # two steps
            rows[bits, pair] = y.loc[bits, pair] - y.loc[bits, b] - y.loc[bits, a] + y.loc[bits, "fine-tune"]
    return over_seeds(pd.DataFrame(rows).T)


def order_effects(table: pd.DataFrame) -> pd.DataFrame:
    """The effect of the order of two techniques, in logits: mean, low, high.

    The mean difference of compositions that differ only by swapping the two as adjacent steps. Two groups of all
    compositions, one for each order, would differ in the order of other pairs, too.
    """
    y, rows = logits(table), {}
    for bits, (a, b) in itertools.product(y.index.unique("bits"), itertools.combinations(STEPS, 2)):
        of = y.loc[bits]
        first = [steps for steps in of.index if f"{a}, {b}" in steps]
        then = [steps.replace(f"{a}, {b}", f"{b}, {a}") for steps in first]
        swaps = [pair for pair in zip(first, then, strict=True) if pair[1] in of.index]
        if swaps:
            rows[bits, f"{a} before {b}"] = pd.DataFrame([of.loc[one] - of.loc[other] for one, other in swaps]).mean()
    return over_seeds(pd.DataFrame(rows).T)


def make() -> None:
    """The sweeps that ship."""
    order_sweep("lenet-300-100", "mnist")
