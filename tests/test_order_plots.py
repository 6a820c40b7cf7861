"""Pictures of notebook 10b: compositions as dots and lines, the way of a training, intervals from low to high."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from labkit import drawing
from labkit.topics.order_matters import plots

SWEEP = pd.DataFrame(
    dict(
        bits=3,
        steps=["prune, quantize", "prune, quantize", "quantize, distil, prune", "distil", "fine-tune"],
        accuracy=[0.9, 0.8, 0.7, 0.95, 0.96],
        size_bytes=[9_000, 11_000, 8_000, 900_000, 900_000],
    )
)


def test_every_composition_is_a_dot_and_the_shown_ones_are_lines():
    ax = Figure().add_subplot()
    table = pd.concat([SWEEP, SWEEP.assign(bits=5, accuracy=0.97, size_bytes=40_000)])
    plots.order_plane(ax, table, 1_000_000, 0.98, ["prune, quantize", "quantize, distil, prune"])
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == ["other orders", "prune → quantize", "quantize → distil → prune", "dense fp32"]
    assert len(lines["other orders"].get_xdata()) == len(table[["steps", "bits"]].drop_duplicates()) == 8
    assert lines["prune → quantize"].get_xdata().tolist() == [40_000, 10_000]
    assert lines["prune → quantize"].get_ydata().tolist() == pytest.approx([0.97, 0.85])
    assert lines["quantize → distil → prune"].get_ydata().tolist() == pytest.approx([0.97, 0.7])
    assert len({(line.get_marker(), line.get_color()) for line in ax.lines}) == 4
    left, right = ax.get_xlim()
    assert left < 8_000 < 1_000_000 < right


@pytest.mark.parametrize(("end", "angle"), [((10_000, 0.9), 180), ((100_000, 0.5), -90), ((1_000_000, 0.9), 0)])
def test_an_arrow_lies_halfway_and_points_along_the_way(end, angle):
    ax = Figure().add_subplot()
    plots.order_plane(ax, SWEEP, 1_000_000, 0.98)
    lines = plots.way_lines(ax, steps=2)
    plots.fill_way(lines, [(100_000, 0.9), end, (3_000, 0.8)], [0, 0])
    way, arrow, other = lines
    assert way.get_xdata().tolist() == [100_000, end[0], 3_000]
    assert (arrow.get_visible(), other.get_visible()) == (True, False)
    start, middle, to = ax.transData.transform([(100_000, 0.9), [*arrow.get_xdata(), *arrow.get_ydata()], end])
    assert middle == pytest.approx((start + to) / 2)
    assert arrow.get_marker()[2] == pytest.approx(angle - 90)  # the triangle (3, 0, 0) points up
    plots.fill_way(lines, [(100_000, 0.9), (99_000, 0.9)], [0])
    assert not arrow.get_visible()  # it would hide the way
    plots.fill_way(lines, [(100_000, 0.9)], [])
    assert not len(way.get_xdata())
    assert not arrow.get_visible()


def test_a_composition_is_followed_from_mild_to_hard():
    table = pd.concat([SWEEP, SWEEP.assign(bits=5, accuracy=0.99)])
    means = plots.composed_means(table)
    rows = means[means["steps"] == "prune, quantize"]
    assert rows["bits"].tolist() == [5, 3]
    assert rows["accuracy"].tolist() == pytest.approx([0.99, 0.85])
    assert plots.composed_means(table[:0]).empty


def test_without_a_sweep_there_is_still_a_plane():
    ax = Figure().add_subplot()
    plots.order_plane(ax, pd.DataFrame(columns=SWEEP.columns), 1_000_000, 0.98, ["prune, quantize"])
    assert [line.get_label() for line in ax.lines] == ["dense fp32"]


def test_intervals_reach_from_low_to_high_the_largest_on_top():
    table = pd.DataFrame(dict(mean=[0.2, 1.0], low=[-0.5, 0.5], high=[0.9, 2.0]), ["c", (3, "a, b")])
    ax = Figure().add_subplot()
    drawing.effects(ax, table, "logits")
    reached = [segment[:, 0].tolist() for bars in ax.containers for segment in bars[2][0].get_segments()]
    assert reached == [pytest.approx([0.5, 2.0]), pytest.approx([-0.5, 0.9])]
    assert [bars.get_label() for bars in ax.containers] == ["the interval is on one side of 0", "it contains 0"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["3 · a, b", "c"]


def test_a_composition_in_a_line():
    assert plots.composed_caption("quantize, prune", 0.95, 3, 0.9104, 13_381) == (
        "quant → prune, 95%, 3 bit: 91.0%, 13.4 KB"
    )
    assert plots.composed_caption("distil", 0.95, 3, 0.98, 1_066_516) == "distil: 98.0%, 1.07 MB"
