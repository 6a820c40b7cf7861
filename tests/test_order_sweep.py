"""The shipped sweep of notebook 10b, and the statistics on it: scipy's t interval and a hand-made table as oracles."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from labkit.compress.compose import STEPS
from labkit.data import load_data
from labkit.measure import accuracy
from labkit.seeds import over_seeds
from labkit.sweep import shipped_sweep
from labkit.topics.order_matters.experiment import (
    ORDER_GRID,
    ORDERS,
    SEEDS,
    accuracies,
    interactions,
    order_effects,
)
from labkit.zoo import load_model

LENET = ("lenet-300-100", "mnist")


def made_up(effects, noise=0.0):
    """A sweep whose logits are 4 plus the effect of every ordered pair or single technique that a composition holds."""
    rng, rows = np.random.default_rng(0), []
    for steps in (p for n in range(4) for p in itertools.permutations(STEPS, n)):
        name = ", ".join(steps) or "fine-tune"
        parts = [*steps, *itertools.combinations(steps, 2)]
        for seed in (0, 1, 2):
            y = 4 + sum(effects.get(part, 0) for part in parts) + noise * rng.standard_normal()
            rows.append(dict(bits=3, steps=name, seed=seed, accuracy=1 / (1 + np.exp(-y))))
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 6, 7, 10, 31, 200])
def test_the_interval_is_scipys(seeds):
    figures = pd.DataFrame(np.random.default_rng(seeds).normal(3, 2, (4, seeds)))
    found = over_seeds(figures)
    for row, values in zip(found.itertuples(), figures.to_numpy(), strict=True):
        low, high = stats.t.interval(0.95, seeds - 1, loc=values.mean(), scale=stats.sem(values))
        assert (row.mean, row.low, row.high) == pytest.approx((values.mean(), low, high), rel=1e-9)


def test_what_has_no_interval_is_refused(refuses):
    few = "figures has 1 column; allowed: a column for each of at least 2 seeds"
    refuses(ValueError, few, over_seeds, pd.DataFrame([[1.0]]))
    refuses(ValueError, few.replace("1 column", "0 columns"), over_seeds, pd.DataFrame([]))
    said = "figures has no number in row 1; allowed: numbers"
    refuses(ValueError, said, over_seeds, pd.DataFrame([[1.0, 2.0], [3.0, float("nan")]]))
    for statistic in (interactions, order_effects):
        refuses(ValueError, few, statistic, made_up({}).query("seed == 0"))


def test_the_interval_of_an_accuracy_is_scipys_on_the_logits_and_stays_in_bounds():
    shares = np.array([0.951, 0.627, 0.950])
    table = pd.DataFrame(dict(bits=2, steps="prune", seed=range(3), accuracy=shares))
    ends = stats.t.interval(0.95, 2, loc=special.logit(shares).mean(), scale=stats.sem(special.logit(shares)))
    found = accuracies(table).loc[(2, "prune")]
    assert found[["low", "high"]].tolist() == pytest.approx(special.expit(ends).tolist(), abs=1e-4)
    assert found["mean"] == pytest.approx(special.expit(special.logit(shares).mean()))
    every = accuracies(shipped_sweep("order", *LENET))
    assert ((every["low"] > 0) & (every["low"] <= every["mean"])).all()
    assert ((every["high"] < 1) & (every["mean"] <= every["high"])).all()


def test_effects_that_add_up_have_no_interaction_and_no_order():
    table = made_up({"prune": -1.0, "quantize": -0.5, "distil": 0.25})
    assert np.abs(interactions(table).to_numpy()).max() < 1e-9
    assert np.abs(order_effects(table).to_numpy()).max() < 1e-9


def test_what_was_put_in_comes_out():
    table = made_up({"prune": -1.0, ("prune", "quantize"): -0.25, ("quantize", "prune"): -2.0})
    found = interactions(table)["mean"]
    assert found[3, "prune, quantize"] == pytest.approx(-0.25)
    assert found[3, "quantize, prune"] == pytest.approx(-2.0)
    assert found[3, "prune, distil"] == pytest.approx(0, abs=1e-9)
    before = order_effects(table)["mean"]
    assert before[3, "prune before quantize"] == pytest.approx(1.75)
    assert before[3, "prune before distil"] == pytest.approx(0, abs=1e-9)  # not what the other pair's order is worth
    assert before[3, "quantize before distil"] == pytest.approx(0, abs=1e-9)
    assert len(found) == 6
    assert len(before) == 3


def test_noise_widens_the_interval():
    table = interactions(made_up({}, noise=0.1))
    assert (table["high"] - table["low"] > 0.1).all()
    assert ((table["low"] < 0) & (table["high"] > 0)).sum() >= 5


def test_the_sweep_is_its_whole_grid():
    table, grid = shipped_sweep("order", *LENET), {**ORDER_GRID, "seed": SEEDS}
    keys = list(table[list(grid)].itertuples(index=False, name=None))
    assert keys == list(itertools.product(*grid.values()))
    assert len(keys) == 144
    assert set(ORDERS.values()) == {p for n in range(4) for p in itertools.permutations(STEPS, n)}


def test_of_two_orders_alone_there_is_one_difference():
    table = made_up({("prune", "quantize"): -0.25, ("quantize", "prune"): -2.0})
    found = order_effects(table[table["steps"].isin(["prune, quantize", "quantize, prune", "prune, distil"])])
    assert list(found.index) == [(3, "prune before quantize")]
    assert found["mean"].tolist() == pytest.approx([1.75])


def test_what_the_notebook_says():
    table = shipped_sweep("order", *LENET)
    order, found = order_effects(table), interactions(table)
    unsure = (order["low"] < 0) & (order["high"] > 0)
    assert order.loc[(3, "prune before quantize"), "low"] > 0.9
    assert unsure[[(5, "prune before quantize"), (2, "prune before quantize"), (3, "prune before distil")]].all()
    assert unsure.xs("quantize before distil", level=1).all()
    assert (order.loc[[(5, "prune before distil"), (2, "prune before distil")], "low"] > 0).all()
    assert found.loc[(3, "quantize, prune"), "high"] < 0 < found.loc[(3, "prune, quantize"), "low"]
    assert ((found.loc[5]["low"] < 0) & (found.loc[5]["high"] > 0)).all()
    with_teacher = found.loc[2].loc[lambda rows: rows.index.str.contains("distil")]
    assert len(with_teacher) == 4
    assert (with_teacher["high"] < 0).all()
    means = over_seeds(table.pivot(index=["bits", "steps"], columns="seed", values="accuracy"))
    triples = means[means.index.get_level_values("steps").str.count(",") == 2]
    assert triples.loc[3]["high"].max() < means.loc[(3, "prune, quantize"), "low"]
    assert triples.loc[3]["mean"].agg(["idxmax", "idxmin"]).tolist() == [
        "distil, prune, quantize",
        "quantize, prune, distil",
    ]
    hard = means.loc[2]
    assert hard.loc["distil, prune, quantize", "high"] < hard.loc["prune, distil, quantize", "low"]
    assert hard.loc["quantize", "low"] > hard.loc["prune", "high"] > hard.loc["prune, quantize", "high"]


def test_fine_tuning_only_is_near_the_dense_network():
    table = shipped_sweep("order", *LENET).query("steps == 'fine-tune'")
    dense = accuracy(load_model(*LENET), load_data("mnist").validation)["accuracy"]
    assert table["accuracy"].sub(dense).abs().max() < 0.005
