"""The shipped sweeps of notebook 08: whole, reproducible, and as the notebook says."""

import itertools

import pytest
import torch

from labkit.data import load_data, take
from labkit.measure import accuracy_when_smaller
from labkit.optim import RULES, TORCHS
from labkit.sweep import shipped_sweep
from labkit.topics.optimizers.experiment import (
    DEFAULT_LR,
    FEW_IMAGES,
    LRS,
    TESTED_ON,
    TUNED_ON,
    _trained,
    tuned,
)
from labkit.topics.optimizers.plots import OPTIMIZERS, PLAIN

NAMES = ("lenet-300-100", "fashion-mnist")


@pytest.fixture(scope="module")
def grid():
    return shipped_sweep("optimizers", *NAMES)


@pytest.fixture(scope="module")
def tested():
    return shipped_sweep("tested-optimizers", *NAMES)


def test_one_set_of_names():
    assert list(RULES) == list(TORCHS) == list(LRS) == list(DEFAULT_LR) == list(OPTIMIZERS)
    assert all(DEFAULT_LR[name] in lrs for name, lrs in LRS.items())


def test_the_sweeps_cover_their_grids(grid, tested):
    expected = {(name, lr, seed) for name, lrs in LRS.items() for lr in lrs for seed in TUNED_ON}
    found = list(grid[["optimizer", "lr", "seed"]].itertuples(index=False, name=None))
    assert len(found) == len(expected)
    assert set(found) == expected
    assert grid["accuracy"].between(grid["accuracy_low"], grid["accuracy_high"]).all()
    rows = list(tested[["optimizer", "seed"]].itertuples(index=False, name=None))
    assert sorted(rows) == sorted(itertools.product(LRS, TESTED_ON))
    assert set(grid["images"]) == {5_000}
    assert set(tested["images"]) == {10_000}
    assert not set(TUNED_ON) & set(TESTED_ON)


def test_what_is_tested_was_chosen_on_validation(grid, tested):
    best = tuned(grid)
    assert dict(zip(tested["optimizer"], tested["lr"], strict=True)) == best
    for name, lr in best.items():
        by = grid[grid["optimizer"] == name].groupby("lr")["accuracy"].mean()
        assert by[lr] == by.max()
        assert min(LRS[name]) < lr < max(LRS[name])  # a best one at the end of its grid would not be tuned


def test_a_row_is_what_is_trained_today(grid):
    data = load_data("fashion-mnist")
    row = grid.query("optimizer == 'Adam' and lr == 0.01 and seed == 1").iloc[0]
    again = _trained(take(data.train, FEW_IMAGES), data.validation, "Adam", 0.01, 1)
    # other processors and numbers of threads sum in another order, and training makes much of little
    assert abs(again["correct"] - row["correct"]) < 100
    assert again["train_accuracy"] == pytest.approx(row["train_accuracy"], abs=0.03)


def test_a_network_that_diverged_has_no_smaller_one(mlp, digits):
    with torch.no_grad():
        mlp[1].weight[0, 0] = torch.inf
    assert all(value != value for value in accuracy_when_smaller(mlp, digits.validation).values())


def test_what_the_notebook_says(grid, tested):
    mean = 100 * grid.groupby(["optimizer", "lr"])["accuracy"].mean()
    best = tuned(grid)
    assert mean["SGD", 0.001] < 40 < 65 < mean["momentum", 0.001] < 75 < 83 < mean["Adam", 0.001]
    tops = [mean[name, lr] for name, lr in best.items()]
    assert max(tops) - min(tops) < 1.4
    assert mean["Adam", best["Adam"]] - mean["Adam", 0.001] < 0.2
    on_test = 100 * tested.groupby("optimizer")[["accuracy", "accuracy_at_0.9", "accuracy_4_bits"]].mean()
    adaptive = [name for name in LRS if name not in PLAIN]
    assert on_test.loc[adaptive, "accuracy"].min() > on_test.loc[list(PLAIN), "accuracy"].max()
    assert on_test.loc[list(PLAIN), "accuracy_at_0.9"].min() > 77
    assert on_test.loc[["Adam", "AMSGrad", "AdamW"], "accuracy_at_0.9"].max() < 51
    worst = tested[tested["optimizer"].isin(PLAIN)]["accuracy_at_0.9"].min()
    assert worst > tested[~tested["optimizer"].isin(PLAIN)]["accuracy_at_0.9"].max()
    assert (on_test["accuracy"] - on_test["accuracy_4_bits"]).max() < 1
