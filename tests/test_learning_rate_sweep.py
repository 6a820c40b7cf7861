"""The sweep of learning rates: its runs are fit's own, the shipped tables are whole and say what the notebook says."""

import copy
import itertools
import math

import pandas as pd
import pytest

import labkit as lk
from labkit import optim
from labkit.sweep import shipped_sweep
from labkit.topics.learning_rate import experiment as room
from labkit.topics.learning_rate.experiment import LEARNING_RATE_GRID, SEEDS, best_rates
from labkit.train import mean_loss

LENET = ("lenet-300-100", "fashion-mnist")


@pytest.fixture
def little(monkeypatch, mlp):
    """Runs of the sweep on the digits and a perceptron."""
    monkeypatch.setattr(room, "build", lambda name: mlp)
    monkeypatch.setattr(room, "IMAGES", 600)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("one-cycle", optim.one_cycle), ("warm-up, cosine", optim.with_warmup(optim.cosine)), ("step", optim.step_decay)],
)
def test_a_run_is_fits_own(little, digits, mlp, name, schedule):
    model = room.trained_by(name, 0.05, 7, "", digits)
    how = room.TRAINING | dict(lr=0.05, seed=7, schedule=schedule)
    expected, _ = lk.fit(mlp, lk.Split(digits.train.x[:600], digits.train.y[:600]), **how)
    assert all(a.equal(b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_plateau_looks_at_validation(little, digits, mlp):
    model = room.trained_by("plateau", 0.3, 7, "", digits)
    plateau = optim.Plateau(lambda model: mean_loss(model, digits.validation), 16)
    how = room.TRAINING | dict(lr=0.3, seed=7, schedule=plateau, after_step=plateau.look)
    expected, _ = lk.fit(mlp, lk.Split(digits.train.x[:600], digits.train.y[:600]), **how)
    assert all(a.equal(b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_figures_of_a_trained_network(digits, trained):
    figures = room.afterwards(trained, digits.validation)
    weights = [trained[1].weight.detach(), trained[3].weight.detach()]
    assert figures["weight_norm"] == pytest.approx(math.sqrt(sum(float(w.square().sum()) for w in weights)))
    peaks = [float(w.abs().max() / w.square().mean() ** 0.5) for w in weights]
    assert figures["peak_to_rms"] == pytest.approx(sum(peaks) / 2)
    assert figures["accuracy_at_0.9"] == lk.accuracy(lk.prune(trained, 0.9), digits.validation)["accuracy"]
    assert figures["accuracy_3_bits"] == lk.accuracy(lk.quantize(trained, 3), digits.validation)["accuracy"]
    assert figures["loss"] == mean_loss(trained, digits.validation)


def test_a_broken_network_keeps_the_accuracy_it_has(digits, trained):
    broken = copy.deepcopy(trained)
    broken[1].weight.data[0, 0] = math.nan
    figures = room.afterwards(broken, digits.validation)
    guessed = lk.accuracy(broken, digits.validation, diverged=True)["accuracy"]
    assert [value for name, value in figures.items() if name.startswith("accuracy_")] == [guessed] * 4


def test_the_best_rate_is_that_of_the_highest_mean():
    rows = [("a", 0.1, 0.5), ("a", 0.1, 0.9), ("a", 1.0, 0.8), ("a", 1.0, 0.8), ("b", 0.1, 0.3), ("b", 1.0, 0.2)]
    assert best_rates(pd.DataFrame(rows, columns=["schedule", "lr", "accuracy"])) == {"a": 1.0, "b": 0.1}


# what ships


def test_the_tables_cover_their_grids():
    table, grid = shipped_sweep("learning-rate", *LENET), {"seed": SEEDS, **LEARNING_RATE_GRID}
    assert list(table[list(grid)].itertuples(index=False, name=None)) == list(itertools.product(*grid.values()))
    assert table["accuracy"].between(table["accuracy_low"], table["accuracy_high"]).all()
    chosen, best = shipped_sweep("chosen-learning-rate", *LENET), best_rates(table)
    assert len(chosen) == len(grid["seed"]) * len(grid["schedule"])
    assert chosen["lr"].tolist() == [best[schedule] for schedule in chosen["schedule"]]
    assert (chosen["images"] == len(lk.load_data("fashion-mnist").test)).all()


def test_what_the_notebook_says():
    table = shipped_sweep("learning-rate", *LENET)
    columns = ["accuracy", "accuracy_at_0.9", "accuracy_3_bits"]
    mean = 100 * table.groupby(["schedule", "lr"])[columns].mean().unstack("lr")
    accuracy, pruned, rounded = (mean[column] for column in columns)
    assert 2 < (accuracy[0.03] - accuracy[0.003]).min() < (accuracy[0.03] - accuracy[0.003]).max() < 13
    assert (accuracy[0.3].drop("exponential") < 11).all()
    assert (accuracy[0.1] > accuracy[0.03])[lambda better: better].index.tolist() == ["exponential"]
    worst, best = (accuracy[0.1].agg(how) for how in ("min", "max"))
    assert best - worst == pytest.approx(6.7, abs=0.1)
    longer = (pruned[0.1] - pruned[0.03]).drop("exponential")
    assert (round(longer.min()), round(longer.max())) == (7, 11)
    assert pruned.loc["exponential", 0.1] < pruned.loc["exponential", 0.03]
    coarser = rounded[0.03] - rounded[0.1]
    assert (round(coarser.min()), round(coarser.max())) == (8, 22)
