"""The shipped sweeps of notebook 09 and their pictures: whole, made again in part, and as the notebook says."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from labkit.article import SUM, TANH, Variant, arrays, new_net, one_hot, predict, prune, to_torch, trained
from labkit.data import load_data, take
from labkit.measure import size_bytes
from labkit.sweep import shipped_sweep
from labkit.topics.the_article_mlp import plots
from labkit.topics.the_article_mlp.experiment import CLIPPING_GRID, CODES, FAULTS_GRID, HIDDEN, IMAGES, SEEDS, shuffled

GRIDS = {"faults": FAULTS_GRID, "clipping": CLIPPING_GRID}


def table(kind):
    return shipped_sweep(kind, "article-mlp", "mnist")


def means(kind, *by):
    return table(kind).groupby(list(by))["accuracy"].mean()


@pytest.fixture(scope="module")
def mnist():
    """(inputs, labels, held-out inputs, held-out labels) as the sweeps have them."""
    data = load_data("mnist")
    return *arrays(take(data.train, IMAGES)), *arrays(data.validation)


@pytest.mark.parametrize("kind", GRIDS)
def test_a_sweep_covers_its_grid(kind):
    rows, grid = table(kind), {**GRIDS[kind], "seed": SEEDS}
    assert list(rows[list(grid)].itertuples(index=False, name=None)) == list(itertools.product(*grid.values()))
    assert rows["accuracy"].between(0, 1).all()


@pytest.mark.parametrize(("code", "lr", "seed"), [("article", 0.01, 0), ("mended", 0.1, 3), ("softmax", 0.03, 1)])
def test_a_row_of_faults_is_made_again(mnist, code, lr, seed):
    x, labels, held, truth = mnist
    net, losses = trained(
        new_net(784, 10, 10, init=CODES[code].init, seed=seed), x, one_hot(labels, 10), lr=lr, epochs=1, seed=seed,
        variant=CODES[code],
    )  # fmt: skip
    (row,) = table("faults").query("code == @code and lr == @lr and seed == @seed").to_dict("records")
    assert len(losses) == 1_000  # the article's number of updates
    assert row["accuracy"] == pytest.approx((predict(net, held) == truth).mean(), abs=0.01)
    assert row["loss"] == pytest.approx(np.mean(losses[-100:]), rel=0.02)


def test_a_row_of_clipping_is_made_again(mnist):
    x, labels, held, truth = mnist
    net, _ = trained(
        new_net(784, HIDDEN, 10, seed=2), x, one_hot(labels, 10), lr=0.03, epochs=3, seed=2, variant=CODES["softmax"]
    )
    thin, masks = prune(net, 0.1)
    (row,) = table("clipping").query("method == 'one-shot' and threshold == 0.1 and seed == 2").to_dict("records")
    assert row["accuracy"] == pytest.approx((predict(thin, held) == truth).mean(), abs=0.01)
    assert row["sparsity"] == pytest.approx(np.mean(np.concatenate([~m.ravel() for m in masks.values()])), abs=0.002)
    assert row["size_bytes"] == pytest.approx(size_bytes(to_torch(thin)), rel=0.02)


def test_by_lot_means_as_many_weights_of_each_matrix_and_others():
    net = new_net(20, 10, 5)
    thin, masks = prune(net, 0.2)
    random, drawn = shuffled(net, masks, seed=1)
    for name, mask in masks.items():
        assert drawn[name].sum() == mask.sum()
        assert (drawn[name] != mask).any()
        np.testing.assert_array_equal(random[name], np.where(drawn[name], net[name], 0))
    assert not np.array_equal(shuffled(net, masks, seed=2)[1]["W1"], drawn["W1"])
    np.testing.assert_array_equal(thin["b1"], random["b1"])


def test_the_sum_is_the_mean_at_a_fiftieth_of_the_learning_rate(mnist):
    x, labels, _, _ = mnist
    start = {name: w.astype(np.float64) for name, w in new_net(784, 10, 10).items()}
    x, y = x[:200].astype(np.float64), one_hot(labels[:200], 10).astype(np.float64)
    ours, theirs = (
        trained(start, x, y, lr=lr, epochs=1, variant=Variant(head))[0] for head, lr in ((TANH, 0.5), (SUM, 0.01))
    )
    np.testing.assert_allclose(ours["W1"], theirs["W1"], rtol=1e-8)


def test_what_the_notebook_says():
    by = means("faults", "code", "lr")
    best = by.groupby("code").max()
    assert by["article"].max() < 0.12
    assert by["article + tanh′"].max() < 0.12
    assert best["article + small weights"] > 0.5
    assert best["softmax"] > best["mended"] + 0.2
    mended, without = (
        table("faults").query("code == @code and lr == 0.1")["accuracy"] for code in ("mended", "small weights, mean")
    )
    assert mended.min() < without.max()  # what the missing tanh′ costs is less than the seeds differ
    clipped = means("clipping", "method", "threshold")
    assert clipped["retrained", 0.1] > clipped["one-shot", 0.0] - 0.01
    assert clipped["retrained", 0.1] > clipped["random, retrained", 0.1] + 0.04


@pytest.mark.parametrize(
    ("draw", "kind", "by", "x"),
    [("fault_curves", "faults", "code", "lr"), ("clipping_curves", "clipping", "method", "threshold")],
)
def test_a_picture_shows_the_mean_over_the_seeds_and_a_band(draw, kind, by, x):
    ax, rows = Figure().add_subplot(), table(kind)
    getattr(plots, draw)(ax, rows)
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert list(lines) == list(GRIDS[kind][by])
    for name, line in lines.items():
        shares = rows[rows[by] == name].groupby(x)["accuracy"]
        np.testing.assert_allclose(line.get_xdata(), shares.mean().index)
        np.testing.assert_allclose(line.get_ydata(), shares.mean().to_numpy())
    assert len(ax.collections) == len(lines)
    assert len({(line.get_color(), line.get_marker()) for line in lines.values()}) == len(lines)


def test_the_errors_of_the_check_are_drawn_by_precision():
    ax = Figure().add_subplot()
    table = pd.DataFrame([("float64", 0.1, 1e-2), ("float64", 0.01, 1e-4), ("float32", 0.1, 1e-1)])
    plots.step_curves(ax, table.set_axis(["precision", "h", "error"], axis=1))
    assert {line.get_label(): list(line.get_ydata()) for line in ax.lines} == {
        "float64": [1e-2, 1e-4],
        "float32": [1e-1],
    }
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
