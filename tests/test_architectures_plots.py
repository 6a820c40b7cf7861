"""Pictures of notebook 11: scales that read true, one colour a kind, dots where the filters reach."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from labkit import plots

TABLE = pd.DataFrame(
    dict(
        sparsity=[0.0, 0.0, 0.5, 0.9],
        bits=[32, 8, 4, 2],
        size_bytes=[4_000, 1_000, 500, 100],
        accuracy=[0.9, 0.91, 0.88, 0.4],
    )
)
KINDS = {"conv.weight": "convolution", "deep.weight": "depthwise", "fc.weight": "head"}


@pytest.fixture
def ax():
    return Figure().add_subplot()


def read(axis, place):
    """What a tick of an axis says, by its place."""
    labels = dict(zip(axis.get_major_locator().locs, axis.get_major_formatter().seq, strict=True))
    return labels[min(labels, key=lambda p: abs(p - place))]


def test_the_plane_shows_the_frontier_by_ratio_and_points_lost(ax):
    plots.lost_plane(ax, {"a": TABLE, "b": TABLE}, "b")
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["a"].get_xdata() == pytest.approx([40, 8, 4])  # the dense row is beaten by 8 bits
    assert lines["a"].get_ydata() == pytest.approx(np.arcsinh([50, 2, -1]))
    assert lines["a"].get_linewidth() < lines["b"].get_linewidth()
    assert lines["a"].get_marker() != lines["b"].get_marker()
    assert lines["dense fp32"].get_xydata().tolist() == [[1, 0]]


def test_ticks_say_where_they_are_and_less_lost_is_higher(ax):
    plots.lost_plane(ax, {}, "")
    for points, label in ((-1, "+1"), (0, "0"), (5, "5"), (80, "80")):
        assert read(ax.yaxis, float(plots.lost_scale(points))) == label
    bottom, top = ax.get_ylim()
    assert bottom > plots.lost_scale(80) > plots.lost_scale(0) > top


def test_bars_have_the_colour_of_their_kind_and_no_length_yet(ax):
    bars, intervals = plots.lost_bars(ax, KINDS)
    assert len(intervals.get_segments()) == 0
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == [plots.KIND_COLOURS[k] for k in KINDS.values()]
    assert [bar.get_width() for bar in bars] == [0, 0, 0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["conv", "deep", "fc"]
    assert read(ax.xaxis, float(plots.lost_scale(20))) == "20"


def test_every_kind_has_a_colour_of_its_own():
    assert len(set(plots.KIND_COLOURS.values())) == len(plots.KIND_COLOURS)


def test_dots_lie_at_the_reach_of_each_filter_beside_the_widest(ax):
    weights = {"deep.weight": torch.tensor([[[-0.5, 0.1]], [[2.0, 0.0]], [[0.0, 0.0]]])}
    plots.reach_dots(ax, weights, KINDS)
    assert ax.lines[0].get_xdata().tolist() == pytest.approx([0.25, 1, 0.001])
    assert ax.lines[0].get_ydata().tolist() == [0, 0, 0]
