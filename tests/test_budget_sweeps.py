"""The shipped sweeps of notebook 12: every file fits, the swaps are not worse than one setting for all, rows recur."""

import pandas as pd
import pytest

import labkit as lk
from labkit.budget import METHODS, cost_of_whole, size_bytes, spend
from labkit.budget.choices import weight_choices
from labkit.data import manifest
from labkit.measure import accuracy
from labkit.sweep import shipped_sweep, sweep_path
from labkit.topics.under_a_budget.experiment import (
    BUDGETS,
    NETWORKS,
    TRAINED,
    WAYS,
    against_one_shot,
    gains,
    ranges,
    table_from,
)


def sweep(key):
    return shipped_sweep("budgets", *key).assign(network=key[0])


SHIPPED = [key for key in NETWORKS if sweep_path("budgets", *key) in manifest()]
EPOCHS = [(key, epochs) for key in SHIPPED for epochs in sorted(set(sweep(key)["epochs"]))]


@pytest.mark.parametrize("key", SHIPPED, ids=lambda key: key[0])
def test_every_file_fits_its_budget(key):
    rows = sweep(key)
    assert (rows["size_bytes"] <= rows["budget"]).all()
    assert set(rows["epochs"]) <= {0, TRAINED[key[0]]}
    assert len(rows) == len(BUDGETS[key[0]]) * len(WAYS) * rows["epochs"].nunique() * 3


@pytest.mark.parametrize(("key", "epochs"), EPOCHS, ids=str)
def test_swaps_are_not_worse_than_one_setting_beyond_the_interval(key, epochs):
    rows = sweep(key)
    assert (gains(rows[rows["epochs"] == epochs])["high"] >= 0).all()


def test_swaps_are_within_a_tenth_of_a_point_of_the_best_of_all_networks():
    best = shipped_sweep("optimum", "lenet-300-100", "mnist").pivot(index="budget", columns="way", values="test")
    assert (100 * (best["every network"] - best["swaps"])).max() <= 0.1
    assert (best["linear program"] < best["every network"]).any()


@pytest.mark.parametrize(("key", "budget"), [(("lenet-300-100", "mnist"), 24_000), (("resnet-20", "cifar10"), 65_536)])
@pytest.mark.parametrize("way", ["uniform", "linear program"])
def test_a_row_is_measured_again(key, budget, way):
    rows = sweep(key).query("budget == @budget and way == @way and epochs == 0 and seed == 0")
    choices = weight_choices(lk.load_model(*key))
    table = table_from(choices, shipped_sweep("parts", *key))
    allocation = spend(METHODS[way], table, cost_of_whole(table, size_bytes), budget)
    small = choices.build(allocation)
    assert size_bytes(small) == rows["size_bytes"].item()
    again = accuracy(small, lk.load_data(key[1]).test)["accuracy"]
    assert again == pytest.approx(rows["test"].item(), abs=0.002)  # processors round sums differently


def test_tables_show_means_ranges_and_intervals():
    rows = [dict(network="net", budget=9, way=way, seed=seed, test=test) for way, tests in
            {"uniform": (0.5, 0.6), "swaps": (0.7, 0.9)}.items() for seed, test in enumerate(tests)]  # fmt: skip
    table = pd.DataFrame(rows)
    assert ranges(table).loc[("net", 9)].tolist() == ["55.0 (50.0–60.0)", "80.0 (70.0–90.0)"]
    files = pd.DataFrame(dict(network="net", size_bytes=[7, 9, 10], accuracy=[0.5, 0.75, 0.9]))
    both = against_one_shot(table.assign(validation=table["test"]), files).loc[("net", 9)]
    assert both.tolist() == [75, pytest.approx(80)]
    gain = gains(table).loc[("net", 9)]
    assert gain["mean"] == pytest.approx(25)
    assert gain["low"] == pytest.approx(25 - 12.706 * 5, abs=0.01)  # Student's t with one degree of freedom
