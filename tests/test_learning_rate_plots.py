"""Pictures of learning rates: what the lines hold is what the data says."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from labkit import drawing, optim
from labkit.topics.learning_rate import plots
from labkit.topics.learning_rate.experiment import LEARNING_RATE_GRID
from labkit.topics.learning_rate.plots import HIGHEST, SCHEDULE_LOOKS, SMALLER_LOOKS

TABLE = pd.DataFrame(
    [
        dict(schedule=s, lr=lr, seed=seed, accuracy=0.8 + lr - seed / 100, small=0.5 + lr)
        for s in ("cosine", "plateau")
        for lr in (0.01, 0.1)
        for seed in (0, 1, 2)
    ]
)


@pytest.fixture
def ax():
    figure = Figure(figsize=(6, 4), dpi=60)
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def labels(ax):
    ax.figure.canvas.draw()
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_every_schedule_of_the_grid_has_a_look_of_its_own():
    assert set(SCHEDULE_LOOKS) == set(LEARNING_RATE_GRID["schedule"])
    assert len({(colour, marker) for colour, marker, _ in SCHEDULE_LOOKS.values()}) == len(SCHEDULE_LOOKS)


@pytest.mark.parametrize(("lr", "text"), [(10.0, "10"), (0.003, "0.003"), (1e-5, "1e-5"), (2e-10, "2e-10")])
def test_a_rate_in_plain_text(lr, text):
    assert drawing.lr_text(lr) == text


def test_ticks_are_powers_of_ten_within_the_axis(ax):
    drawing.lr_axis(ax, 1e-5, 10)
    assert [drawing.lr_text(t) for t in ax.get_xticks()] == ["1e-5", "1e-4", "0.001", "0.01", "0.1", "1", "10"]


def test_schedules_are_drawn_as_they_are(ax):
    plots.schedule_curves(ax, {"cosine": optim.cosine, "step": optim.step_decay}, points=5)
    assert [list(line.get_ydata()) for line in ax.get_lines()] == [
        [optim.cosine(p) for p in (0, 0.25, 0.5, 0.75, 1)],
        [1, 1, 0.1, pytest.approx(0.01), pytest.approx(0.01)],
    ]
    assert labels(ax) == ["cosine", "step"]


def test_a_range_test_is_clipped_at_the_edge_and_can_be_emptied(ax):
    lines = plots.lr_range_axis(ax)
    loss = [2.0, 1.0, 0.5, 3.0, math.nan, math.inf]
    test = pd.DataFrame(dict(lr=np.geomspace(1e-4, 10, 6), loss=[2.0, 1.0, 0.5, 9.0, 1.0, 1.0], smoothed_loss=loss))
    plots.fill_lr_range(lines, test, {"steepest": 1e-3, "tenth of minimum": 1e-4})
    raw, smoothed, dots = lines
    assert list(raw.get_ydata()) == [2, 1, 0.5, HIGHEST, 1, 1]
    assert list(smoothed.get_ydata()) == [2, 1, 0.5, 3, HIGHEST, HIGHEST]
    assert [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots] == [(1e-3, pytest.approx(1)), (1e-4, 2)]
    plots.fill_lr_range(lines, None, {})
    assert not any(len(line.get_xdata()) for line in (raw, smoothed, *dots))


def test_curves_are_means_with_a_band_from_worst_to_best(ax):
    plots.lr_curves(ax, TABLE)
    assert labels(ax) == ["cosine", "plateau"]
    assert list(ax.get_lines()[0].get_ydata()) == pytest.approx([float(a) for a in (0.80, 0.89)])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (min(band), max(band)) == pytest.approx((0.79, 0.90))


def test_the_background_is_grey_dots_and_may_be_empty(ax):
    plots.lr_background(ax, TABLE)
    (dots,) = ax.get_lines()
    assert list(dots.get_xdata()) == [0.01, 0.1, 0.01, 0.1]
    assert list(dots.get_ydata()) == pytest.approx([float(a) for a in (0.80, 0.89, 0.80, 0.89)])
    assert (dots.get_color(), dots.get_linestyle()) == (drawing.GREY, "None")
    ax.clear()
    plots.lr_background(ax, pd.DataFrame(columns=["method"]))
    assert ax.get_xlabel() == "peak learning rate (log scale)"


def test_smaller_networks_get_a_line_a_column(ax):
    more = {name: TABLE["small"] for name in SMALLER_LOOKS if name != "accuracy"}
    plots.lr_smaller_curves(ax, TABLE.assign(**more))
    assert labels(ax) == ["dense", "80 % zeros", "90 % zeros", "4 bits", "3 bits"]
    assert list(ax.get_lines()[-1].get_ydata()) == pytest.approx([float(a) for a in (0.51, 0.6)])


def test_sequences_stop_at_the_edge(ax):
    plots.lr_sequences(ax, {"yours": [0.1, 1e-9], "meant": [0.1, 0.01]}, batches=2)
    assert [list(line.get_ydata()) for line in ax.get_lines()] == [[0.1, 1e-7], [0.1, 0.01]]
    assert list(ax.get_lines()[0].get_xdata()) == [0, 0.5]
    assert labels(ax) == ["yours", "meant"]
