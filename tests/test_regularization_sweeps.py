"""The shipped sweeps of notebook 06: whole, reproducible, as the notebook says; and the figures drawn from them."""

import numpy as np
import pandas as pd
import pytest

from labkit import drawing, losses
from labkit.compress.magnitude import prune
from labkit.data import load_data
from labkit.measure import accuracy
from labkit.models import mlp
from labkit.sweep import shipped_sweep
from labkit.topics.regularization import plots
from labkit.topics.regularization.experiment import (
    PENALTIES,
    REGULARIZERS,
    SEEDS,
    SPARSITIES,
    chosen_strengths,
    regularized,
    regularizers,
    untrained_lenet,
)
from labkit.train import fit

LENET = ("lenet-300-100", "mnist")


def means(kind, column):
    return 100 * shipped_sweep(kind, *LENET).groupby(["method", "strength"])[column].mean()


@pytest.mark.parametrize(("kind", "methods"), [("regularization", REGULARIZERS), ("penalty", PENALTIES)])
def test_a_sweep_covers_its_methods(kind, methods):
    table = shipped_sweep(kind, *LENET)
    wanted = [(m, s, seed) for m, strengths in methods.items() for s in strengths for seed in SEEDS]
    assert sorted(table[["method", "strength", "seed"]].itertuples(index=False, name=None)) == sorted(wanted)
    assert table["accuracy"].equals(table["correct"] / table["images"])
    assert (table["images"] == 5_000).all()


@pytest.mark.parametrize(("method", "strength"), [("none", 0), ("proximal L1", 0.3)])
def test_a_run_is_what_comes_out_today(method, strength):
    data = load_data("mnist")
    model, train = regularized(data, method, strength, seed=0)
    table = shipped_sweep("regularization", *LENET).set_index(["method", "strength", "seed"])
    row = table.loc[(method, strength, 0)]
    assert accuracy(model, data.validation)["accuracy"] == pytest.approx(row["accuracy"], abs=0.01)
    assert accuracy(prune(model, 0.9), data.validation)["accuracy"] == pytest.approx(row["accuracy_at_0.9"], abs=0.03)
    assert accuracy(model, train)["accuracy"] == pytest.approx(row["train_accuracy"], abs=0.01)


def test_the_tested_strengths_are_those_that_validation_chose():
    chosen = chosen_strengths(shipped_sweep("regularization", *LENET))
    test = shipped_sweep("regularization-test", *LENET)
    assert (test["strength"] == test["method"].map(chosen)).all()
    assert (test["images"] == 10_000).all()
    assert test.groupby("method").size().eq(3).all()


def test_no_chosen_strength_is_at_an_end_of_its_grid():
    chosen = chosen_strengths(shipped_sweep("regularization", *LENET))
    tuned = {method: strengths for method, strengths in REGULARIZERS.items() if not method.startswith("none")}
    assert len(tuned) == 9
    assert [m for m, strengths in tuned.items() if not min(strengths) < chosen[m] < max(strengths)] == []


def test_the_chosen_strength_is_the_one_with_the_highest_mean():
    rows = [("a", 1, 0.5), ("a", 1, 0.7), ("a", 2, 0.9), ("a", 2, 0.2), ("b", 3, 0.1), ("b", 3, 0.1)]
    assert chosen_strengths(pd.DataFrame(rows, columns=["method", "strength", "accuracy"])) == {"a": 1, "b": 3}


def test_what_the_notebook_says_of_few_images():
    dense, at_90, at_98 = (means("regularization", c) for c in ("accuracy", "accuracy_at_0.9", "accuracy_at_0.98"))
    none = ("none", 0)
    assert dense["augmentation"].max() > dense[none] + 5
    assert dense["label smoothing"].max() > dense[none] + 2
    assert at_90["augmentation", 1] < at_90[none] - 10
    assert at_90["label smoothing"].max() < at_90[none] - 3
    assert at_98["L1", 0.001] > at_98[none] + 50
    assert abs(at_90["proximal L1", 0.3] - dense[none]) < 0.5


def test_what_the_notebook_says_of_all_images():
    dense, at_90, at_95 = (means("penalty", c) for c in ("accuracy", "accuracy_at_0.9", "accuracy_at_0.95"))
    none, tuned = ("none", 0), ("none, fine-tuned", 0)
    assert at_90["L1", 3e-5] > at_90[none] + 5
    assert dense["L1", 3e-5] > dense[none] - 0.3
    assert abs(dense["L1", 3e-4] - dense["L2", 0.01]) < 0.2
    assert at_95["L1", 3e-4] > at_95["L2", 0.01] + 15
    assert at_95[tuned] > at_95["L1"].max()


def test_exact_zeros_come_from_the_proximal_step_alone():
    for kind in ("regularization", "penalty"):
        zeros = means(kind, "sparsity")
        assert zeros["proximal L1"].min() > 5
        assert zeros["L1"].max() < 0.5


def test_regularizers_are_what_fit_understands():
    data = load_data("digits")
    how = regularizers("proximal L1", 0.1, smoothing=0.1, augmentation=0.5)
    model, history = fit(mlp(64, 16, 10), data.train, epochs=1, progress=False, **how)
    assert len(history) == 1
    assert how["optimizer"].keywords == {"weight_decay": 0.0}
    x, y = data.train.x[:9], data.train.y[:9]
    assert how["loss"](model, x, y).equal(losses.label_smoothing(0.1)(model, x, y))
    assert regularizers("weight decay", 2.0)["optimizer"].keywords == {"weight_decay": 2.0}


def test_the_seed_and_not_the_dropout_decides_the_first_weights():
    first, other, again = untrained_lenet(0), untrained_lenet(1), untrained_lenet(0, dropout=0.5)
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert sum(p.numel() for p in first.parameters()) == 266_610
    assert all(a.equal(b) for a, b in pairs)
    assert not first[1].weight.equal(other[1].weight)


# the figures


def test_the_penalty_curves_lie_where_the_means_are():
    table = shipped_sweep("penalty", *LENET)
    _, ax = drawing.new_figure("x")
    plots.penalty_curves(ax, table, "accuracy_at_0.9")
    lines = {line.get_label(): line for line in ax.lines}
    for method in ("L1", "L2"):
        for label, column in (("dense", "accuracy"), ("pruned", "accuracy_at_0.9")):
            mean = table[table["method"] == method].groupby("strength")[column].mean()
            x, y = lines[f"{method}, {label}"].get_data()
            assert list(x) == sorted(PENALTIES[method])
            np.testing.assert_allclose(y, mean.to_numpy())
    level = lines["no penalty, pruned"].get_ydata()[0]
    none = table[table["method"] == "none"]["accuracy_at_0.9"].mean()
    assert level == pytest.approx(float(none))
    low, high = ax.get_ylim()
    assert all(low < y < high for line in ax.lines for y in line.get_ydata())


def test_the_plane_shows_every_setting_inside_its_axes():
    table = shipped_sweep("penalty", *LENET)
    _, ax = drawing.new_figure("x")
    plots.prunable_plane(ax, table, "accuracy_at_0.95")
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert set(lines) == set(PENALTIES)
    assert {text.get_text() for text in ax.texts} >= {f"{s:g}" for s in PENALTIES["L1"]}
    low, high = ax.get_ylim()
    assert all(low < y < high for line in lines.values() for y in line.get_ydata())


def test_the_gap_axis_is_linear_in_the_accuracy():
    _, ax = drawing.new_figure("x")
    drawing.run_accuracy_axis(ax)
    plots.gap_axis(ax)
    at = [ax.transData.transform((0, p))[1] for p in (0.5, 0.6, 0.8, 0.9)]
    assert at[1] - at[0] == pytest.approx(at[3] - at[2])
    assert at[2] - at[1] == pytest.approx(2 * (at[1] - at[0]))


def test_the_pruned_axis_has_a_place_for_every_sparsity():
    _, ax = drawing.new_figure("x")
    now, ghosts = plots.pruned_axis(ax, SPARSITIES, [drawing.SKY, drawing.GREEN])
    assert len(ghosts) == 2
    assert [t.get_text() for t in ax.get_xticklabels()] == ["80 %", "90 %", "95 %", "98 %"]
    assert now.get_color() == drawing.BLUE
