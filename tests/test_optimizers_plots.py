"""What is drawn of optimizers is what was measured."""

import numpy as np
import pandas as pd
import pytest

from labkit import drawing
from labkit.topics.optimizers import plots


@pytest.fixture
def ax():
    return drawing.new_figure("test")[1]


def test_rate_curves_are_means_with_a_band_over_the_seeds(ax):
    rows = [("Adam", 0.001, 0.8), ("Adam", 0.001, 0.9), ("Adam", 0.01, 0.5), ("SGD", 0.1, 0.7)]
    plots.rate_curves(ax, pd.DataFrame(rows, columns=["optimizer", "lr", "accuracy"]))
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["Adam"].get_data(), [[0.001, 0.01], np.array([0.85, 0.5])])
    assert lines["Adam"].get_linestyle() == "--"  # adaptive
    assert lines["SGD"].get_linestyle() == "-"
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.5, 0.9))


def test_rate_curves_of_nothing_are_an_empty_axis(ax):
    plots.rate_curves(ax, pd.DataFrame(columns=["method", "accuracy"]))
    assert not ax.lines
    assert ax.get_legend() is None


def test_a_map_shows_rows_as_y_and_rings_at_the_lowest_points(ax):
    losses = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]])  # lowest at the left of the first row
    plots.surface_map(ax, losses, 2.0, [(-2.0, -2.0)])
    assert ax.lines[0].get_xydata().tolist() == [[-2.0, -2.0]]
    filled = ax.collections[0]
    lowest = next(path for path in filled.get_paths() if len(path.vertices))
    assert lowest.vertices.mean(0)[1] < -1  # the darkest band lies at low y
    assert ax.get_xlim() == ax.get_ylim() == (-2.0, 2.0)


def test_dots_stand_at_the_means_with_bars_over_the_seeds(ax):
    rows = [("SGD", 0.5, 0.1), ("SGD", 0.7, 0.3), ("Adam", 0.9, 0.2)]
    table = pd.DataFrame(rows, columns=["optimizer", "accuracy", "pruned"])
    plots.optimizer_dots(ax, table, {"accuracy": "dense", "pruned": "90 %"})
    dense, pruned = ax.lines
    np.testing.assert_allclose(dense.get_xdata(), [60, 90])
    np.testing.assert_allclose(pruned.get_xdata(), [20, 20])
    assert (np.array(dense.get_ydata()) < np.array(pruned.get_ydata())).all()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["SGD", "Adam"]
    np.testing.assert_allclose(ax.collections[0].get_segments()[0][:, 0], [50, 70])


def test_every_optimizer_has_a_look_of_its_own():
    assert len(set(plots.OPTIMIZERS.values())) == len({marker for _, marker in plots.OPTIMIZERS.values()}) == 8


def test_a_walk_is_drawn_till_it_leaves_for_good_with_a_mark_every_so_many_steps(ax):
    ax.set(xlim=(-2, 2), ylim=(-2, 2))
    lines = plots.walk_lines(ax, ["Adam"])["Adam"]
    there_and_back = [[-2.0, 0], [-1, 0], [0, 0], [0, 5], [1, 1]]  # out at the top for one step
    plots.fill_walk(ax, lines, np.array([*there_and_back, [9, 1], [99, 1], [np.nan, np.nan]]), 2)
    np.testing.assert_allclose(lines[0].get_xydata(), [[-2, 0], [0, 0], [0, 2], [1, 1], [2, 1]], atol=0.02)
    np.testing.assert_allclose(lines[1].get_xydata(), [[-2, 0], [0, 0], [1, 1]])
    plots.fill_walk(ax, lines, np.array([[1.0, 1]] + 2 * [[np.nan, np.nan]]), 2)
    np.testing.assert_allclose(lines[0].get_xydata(), [[1, 1]], atol=0.02)
