"""Pictures of notebook 11: scales that read true, one colour a kind, dots where the filters reach."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from labkit.topics.other_architectures import plots

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
    drawn = plots.lost_plane(ax, {"a": TABLE, "b": TABLE}, "b")
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["a"].get_xdata() == pytest.approx([40, 8, 4])  # the dense row is beaten by 8 bits
    assert lines["a"].get_ydata() == pytest.approx(np.arcsinh([50, 2, -1]))
    assert lines["a"].get_linewidth() < lines["b"].get_linewidth()
    assert lines["a"].get_marker() != lines["b"].get_marker()
    assert lines["dense fp32"].get_xydata().tolist() == [[1, 0]]
    places, rows = drawn["a"]
    assert places == [tuple(place) for place in lines["a"].get_xydata()]
    assert [row["size_bytes"] for row in rows] == [100, 500, 1_000]


def test_every_line_lies_within_the_axes_and_no_legend_over_them(ax):
    far = pd.concat([TABLE, pd.DataFrame(dict(sparsity=[0.98], bits=[1], size_bytes=[20], accuracy=[0.3]))])
    plots.lost_plane(ax, {"a": far}, "a")
    assert ax.get_xlim()[1] > 200
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().y0 >= ax.bbox.y1


def test_ticks_say_where_they_are_and_less_lost_is_higher(ax):
    plots.lost_plane(ax, {}, "")
    for points, label in ((-1, "+1"), (0, "0"), (5, "5"), (80, "80")):
        assert read(ax.yaxis, float(plots.lost_scale(points))) == label
    bottom, top = ax.get_ylim()
    assert bottom > plots.lost_scale(80) > plots.lost_scale(0) > top


def test_bars_have_the_colour_of_their_kind_and_no_length_yet(ax):
    bars, intervals = plots.lost_bars(ax, KINDS)
    assert len(intervals.get_xdata()) == 0
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == [plots.KIND_COLOURS[k] for k in KINDS.values()]
    assert [bar.get_width() for bar in bars] == [0, 0, 0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["conv", "deep", "fc"]
    assert read(ax.xaxis, float(plots.lost_scale(20))) == "20"


def test_of_many_parts_every_second_is_named_and_kinds_need_no_key(ax):
    plots.lost_bars(ax, {f"blocks.{i}.fc1.weight": "linear" for i in range(30)})
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [f"{i}.fc1" for i in range(0, 30, 2)]
    assert ax.get_yticks().tolist() == list(range(0, 30, 2))
    assert ax.get_legend() is not None
    other = Figure().add_subplot()
    plots.lost_bars(other, {"linear": "linear", "head": "head"})
    assert other.get_legend() is None


def test_every_kind_has_a_colour_of_its_own():
    assert len(set(plots.KIND_COLOURS.values())) == len(plots.KIND_COLOURS)


def test_dots_lie_at_the_reach_of_each_filter_beside_the_widest(ax):
    weights = {"deep.weight": torch.tensor([[[-0.5, 0.1]], [[2.0, 0.0]], [[0.0, 0.0]]])}
    plots.reach_dots(ax, weights, KINDS)
    assert ax.lines[0].get_xdata().tolist() == pytest.approx([0.25, 1, 0.001])
    assert ax.lines[0].get_ydata().tolist() == [0, 0, 0]


def test_the_axis_of_reach_has_ticks_where_the_dots_are_and_its_key_outside(ax):
    plots.reach_dots(ax, {"deep.weight": torch.tensor([[0.15], [0.4], [1.0]])}, KINDS)
    ax.figure.draw_without_rendering()
    low, high = ax.get_xlim()
    shown = [t.get_text() for t, x in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True) if low <= x <= high]
    assert shown == ["20 %", "50 %", "100 %"]
    assert ax.get_legend().get_window_extent().y0 >= ax.bbox.y1


def test_names_of_a_scan_do_not_run_into_each_other():
    scan = pd.DataFrame(dict(part=[f"blocks.{i}.fc1.weight" for i in range(20)], kind="linear", lost=1.0, low=0.0,
                             high=2.0, change="x"))  # fmt: skip
    picture = plots.scan_picture({"a": scan, "b": scan.head(3)}, ["x"])
    picture.draw_without_rendering()
    for ax, shown in zip(picture.axes, [range(0, 20, 2), range(3)], strict=True):
        boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
        assert [label.get_text() for label in ax.get_xticklabels()] == [f"{i}.fc1" for i in shown]
        assert all(a.x1 <= b.x0 for a, b in zip(boxes, boxes[1:], strict=False))
