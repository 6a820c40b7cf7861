"""The record files that ship: they decode, score as papers' do, and are written again to the same byte."""

import sys

import pandas as pd
import pytest

import labkit as lk
from benchmarks import budgets, records
from benchmarks.records import GOALS, RECIPE, check, files
from labkit.compress.deep_compression import deep_compress
from labkit.data import data_dir
from labkit.frontier import published
from labkit.store import CODERS

FILES = files()
BUDGETS = sorted((data_dir() / "records").glob("resnet-20--budget-*.lk"))


def test_files_ship():
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_record_decodes_scores_and_is_written_again_alike(path):
    network, track, seed = path.stem.split("--")
    assert network in GOALS
    model = lk.load(path, into=lk.build(network))
    assert lk.encode(model, coders=CODERS) == path.read_bytes()
    assert len(lk.encode(model)) > path.stat().st_size  # context coding is what makes it this short
    assert lk.accuracy(model, lk.load_data("mnist").validation)["accuracy"] > 0.96


def test_check_tells_bytes_error_and_a_missed_goal():
    table = check()
    assert table["size_bytes"].tolist() == [path.stat().st_size for path in FILES]
    for row in table.itertuples():
        goal_bytes, goal_error = GOALS[row.network]
        assert row.met == (row.size_bytes <= goal_bytes and row.error_pct <= goal_error)
        assert row.low < row.error_pct < row.high
    for network in GOALS:
        ours = published(network, "mnist").query("method.str.startswith('labkit')")  # what the panel and card show
        shown = {(row.size_bytes, row.error_pct) for row in ours.itertuples()}
        assert shown == {(row.size_bytes, row.error_pct) for row in table.itertuples() if row.network == network}


@pytest.mark.parametrize(("met", "code"), [([True, True], 0), ([True, False], 1), ([], 1)], ids=str)
def test_the_check_fails_with_a_missed_goal(met, code, monkeypatch):
    monkeypatch.setattr(records, "check", lambda: pd.DataFrame({"met": met}))
    monkeypatch.setattr(sys, "argv", ["records", "--check"])
    with pytest.raises(SystemExit) as ended:
        records.main()
    assert int(ended.value.code) == code


def test_the_recipe_is_taken_by_today_s_deep_compression(digits):
    net = lk.models.mlp(64, 16, 10)
    small, _ = deep_compress(net, digits.train, sparsity=0.5, epochs=(0, 0), **RECIPE)
    assert lk.encode(small)


def test_budget_files_ship():
    assert {budget_of(path) for path in BUDGETS} == set(budgets.GOALS)


def budget_of(path):
    return int(path.stem.split("--")[1].removeprefix("budget-"))


@pytest.mark.parametrize("path", BUDGETS, ids=lambda path: path.stem)
def test_a_network_under_a_budget_decodes_and_scores(path):
    model = lk.load(path, into=lk.fold_batchnorm(lk.build("resnet-20")))
    assert lk.encode(model) == path.read_bytes()
    assert path.stat().st_size <= budget_of(path)
    assert lk.accuracy(model, lk.load_data("cifar10").test)["accuracy"] > 0.87
